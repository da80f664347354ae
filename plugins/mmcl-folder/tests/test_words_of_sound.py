"""Words out of sound: what actors are known to say, silence, and models that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from mmcl_folder import FolderParams, _info, _read_file
from mmcl_folder.columns import completed
from mmcl_folder.recordings import Folder

from mmcl.api import Audio, DataError
from mmcl.media import read_audio, require_model, speech, transcribe, write_audio

REAL = Path(os.environ.get("MMCL_REAL_DATA", "")) / "ravdess"
needed = pytest.mark.skipif(
    speech.importlib.util.find_spec("faster_whisper") is None or speech.importlib.util.find_spec(speech.PACKAGE) is None,
    reason="words out of sound need pip install 'mmcl[words]'",
)
SENTENCES = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}


def test_a_column_of_sounds_is_no_column_of_words_unless_the_recipe_says_so(tmp_path):
    _study(tmp_path, np.zeros(16_000))
    assert (completed(FolderParams(), tmp_path).sources or {})["sound"].reads == "sound"


def test_options_that_came_later_change_no_fingerprint_while_they_are_left_out(tmp_path):
    _study(tmp_path, np.zeros(16_000))
    stated = completed(FolderParams(), tmp_path).stated()["sources"]["sound"]
    assert sorted(stated) == ["column", "columns", "key", "rate", "reads", "shape", "size"]
    spoken = FolderParams.model_validate({"sources": {"sound": {"reads": "words", "trim": False}}}).stated()["sources"]["sound"]
    assert spoken["trim"] is False


@needed
def test_silence_gives_no_words(tmp_path):
    _study(tmp_path, np.zeros(3 * 16_000))
    folder = Folder(FolderParams.model_validate({"sources": {"said": {"column": "sound", "reads": "words"}}}), tmp_path)
    assert folder.header("a", "said").seconds == 3.0
    with pytest.raises(DataError, match=r"a\.wav: no words were recognised"):
        folder.read("a", "said")


def test_a_missing_library_and_a_folder_without_a_model_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    _study(tmp_path, np.zeros(16_000))
    params = {"sources": {"said": {"column": "sound", "reads": "words", "model": str(tmp_path)}}}
    if speech.importlib.util.find_spec("faster_whisper") is not None:
        with pytest.raises(DataError, match=r"holds no model\.bin"):
            completed(FolderParams.model_validate(params), tmp_path)
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"not installed: pip install 'mmcl\[words\]'"):
        require_model(None)


@needed
def test_a_package_with_another_model_is_refused(monkeypatch):
    monkeypatch.setitem(speech.TINY, "config.json", "0" * 64)
    speech._folder.cache_clear()
    with pytest.raises(DataError, match="SHA-256"):
        require_model(None)
    speech._folder.cache_clear()


@needed
@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="reads RAVDESS in the folder MMCL_REAL_DATA")
def test_actors_are_understood_and_words_stand_where_they_are_spoken():
    right = total = 0
    for actor in ("01", "02"):
        for path in sorted((REAL / f"Actor_{actor}").glob("03-01-01-01-*.wav")):
            sound = read_audio(path)
            words = transcribe(sound, str(path))
            expected = SENTENCES[path.stem.split("-")[4]].split()
            got = [word.strip(".,!?").lower() for word in words.words]
            right += sum(word in got for word in expected)
            total += len(expected)
            assert words.times is not None
            assert (np.diff(words.times[:, 0]) >= 0).all()
            # a pause put before a clip moves its words by its length
            late = Audio(np.concatenate([np.zeros(2 * sound.rate, np.float32), sound.samples]), sound.rate)
            moved = transcribe(late, str(path))
            assert moved.times is not None
            assert moved.times[-1, 1] - words.times[-1, 1] == pytest.approx(
                2, abs=0.5
            )  # the recogniser's times are coarse, and differ between processors
    assert total == 8 * 6
    assert right >= 0.8 * total


def _study(root: Path, samples) -> None:
    write_audio(root / "a.wav", samples, 16_000)
    write_audio(root / "b.wav", samples, 16_000)
    (root / "recordings.csv").write_text("id,sound\na,a.wav\nb,b.wav\n")


TRIMMED = FolderParams.model_validate({"sources": {"sound": {"trim": True}}})


@needed
@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="reads RAVDESS in the folder MMCL_REAL_DATA")
def test_silence_before_and_after_the_voice_is_cut_however_long_it_is(tmp_path):
    sound = read_audio(REAL / "Actor_01" / "03-01-05-02-01-01-01.wav")
    write_audio(tmp_path / "a.wav", sound.samples, sound.rate)
    quiet = [np.zeros(round(seconds * sound.rate), np.float32) for seconds in (3, 5)]
    write_audio(tmp_path / "b.wav", np.concatenate([quiet[0], sound.samples, quiet[1]]), sound.rate)
    write_audio(tmp_path / "c.wav", np.zeros(2 * sound.rate), sound.rate)
    (tmp_path / "recordings.csv").write_text("id,sound\na,a.wav\nb,b.wav\nc,c.wav\n")
    folder = Folder(TRIMMED, tmp_path)
    one, two = (folder.read(id, "sound") for id in "ab")
    assert 0.5 < len(one.samples) / one.rate < 0.8 * len(sound.samples) / sound.rate
    assert len(two.samples) / two.rate == pytest.approx(len(one.samples) / one.rate, abs=0.2)
    loudest = np.abs(sound.samples).argmax()
    assert sound.samples[loudest] == pytest.approx(one.samples[np.abs(one.samples).argmax()], abs=1e-4)
    with pytest.raises(DataError, match=r"c\.wav: no voice is in its 2\.00 s of sound"):
        folder.read("c", "sound")
    source = _info(completed(TRIMMED, tmp_path)).sources["sound"]  # a new file of a finished run is cut alike
    assert np.array_equal(_read_file(tmp_path / "b.wav", source).samples, two.samples)


@needed
def test_a_sound_is_not_cut_beside_a_source_of_the_same_time(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    (tmp_path / "a.csv").write_text("timestamp,x\n0,1\n0.5,2\n")
    (tmp_path / "recordings.csv").write_text("id,sound,hand,text\na,a.wav,a.csv,we sat down\n")
    both = {"sound": {"trim": True}, "hand": {}, "text": {"reads": "words"}}
    with pytest.raises(DataError, match="sources.sound.trim: without its silence .* other times than 'hand'"):
        completed(FolderParams.model_validate({"sources": both}), tmp_path)
    del both["hand"]
    assert completed(FolderParams.model_validate({"sources": both}), tmp_path).sources["sound"].trim
    whole = {"sound": {}, "hand": {}, "text": {"reads": "words"}}  # the other way that it says
    assert list(completed(FolderParams.model_validate({"sources": whole}), tmp_path).sources) == ["sound", "hand", "text"]


def test_voices_without_the_library_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    _study(tmp_path, np.zeros(16_000))
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"not installed: pip install 'mmcl\[words\]'"):
        completed(TRIMMED, tmp_path)
