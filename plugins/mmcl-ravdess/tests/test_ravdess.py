"""RAVDESS: what is listed, what is left out, what is read, what is refused."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import mmcl_ravdess
import numpy as np
import pytest
import soundfile
from mmcl_ravdess import AVERAGED_COLUMNS, EMOTIONS, FRAME_COLUMNS, RavdessParams, classes_of

from mmcl.api import DataError, DatasetSpec


def _spec() -> DatasetSpec:
    specs: list[DatasetSpec] = []
    mmcl_ravdess.register_datasets(specs.append)
    return specs[0]


def _open(root: Path | None, **options):
    return _spec().build(RavdessParams(**options), root)


@pytest.fixture(scope="module")
def _written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ravdess")
    _spec().sample(root, 48, 0)
    return root


@pytest.fixture
def tiny(_written, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(_written, tmp_path / "ravdess"))


def _refusal(call, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def _write_frames(path: Path, rows: int, rate: float = 30000 / 1001, drop: str = "") -> np.ndarray:
    """A CSV as OpenFace 2.1 writes it, blanks in the header and all; its values, in the order of FRAME_COLUMNS."""
    values = np.random.default_rng(0).normal(size=(rows, len(FRAME_COLUMNS))).round(3)
    values[1] = 0  # a frame without a face: success 0 and zeros
    names = [name for name in FRAME_COLUMNS if name != drop]
    lines = [", ".join(["frame", "face_id", "timestamp", *names])]
    for i, row in enumerate(values):
        cells = [v for name, v in zip(FRAME_COLUMNS, row, strict=True) if name != drop]
        lines.append(", ".join(str(v) for v in (i + 1, 0, round(i / rate, 3), *cells)))
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return values


def test_every_take_is_listed_once_by_the_fields_of_its_name(tiny):
    samples = _open(tiny).samples()
    assert len(samples) == 48
    assert len({s.id for s in samples}) == 48
    assert [s.id for s in samples] == sorted((s.id for s in samples), key=lambda id: (id[-2:], id))
    for s in samples:
        channel, emotion, intensity, statement, repetition, actor = s.id.split("-")
        assert (channel, s.group) == ("01", f"actor-{actor}")
        assert s.targets == {"emotion": int(emotion) - 1}
        assert s.sources["audio"] == f"Actor_{actor}/03-{s.id}.wav"
        assert s.facts == {
            "channel": "speech", "intensity": ["normal", "strong"][int(intensity) - 1], "repetition": int(repetition),
            "statement": ["kids", "dogs"][int(statement) - 1], "sex": "female" if int(actor) % 2 == 0 else "male",
        }  # fmt: skip
        assert s.split is None


def test_the_tiny_copy_has_six_actors_and_every_emotion(tiny):
    samples = _open(tiny).samples()
    assert len({s.group for s in samples}) >= 6
    assert {s.targets["emotion"] for s in samples} == set(range(8))


def test_the_same_seed_writes_the_same_files_and_another_seed_others(tiny, tmp_path):
    _spec().sample(tmp_path / "again", 48, 0)
    _spec().sample(tmp_path / "other", 48, 1)
    files = sorted(p.relative_to(tiny) for p in tiny.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert all((tiny / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)
    assert any((tiny / f).read_bytes() != (tmp_path / "other" / f).read_bytes() for f in files)


def test_emotions_can_be_told_apart_faintly_in_the_tiny_copy(tiny):
    data = _open(tiny)
    samples = [s for s in data.samples() if len(s.sources) == 2]
    faces = np.stack([data.read(s.id, "openface").values[0] for s in samples])
    loud = np.array([np.log(np.square(data.read(s.id, "audio").samples).mean()) for s in samples])
    labels, actors = np.array([s.targets["emotion"] for s in samples]), np.array([s.group for s in samples])
    hits = []
    for held_out in set(actors):  # nearest class mean, on actors not seen
        seen = actors != held_out
        means = np.stack([faces[seen & (labels == e)].mean(0) for e in range(8)])
        hits += [labels[i] == np.square(means - faces[i]).sum(1).argmin() for i in np.flatnonzero(~seen)]
    assert np.mean(hits) > 0.4  # chance is 1/8
    assert loud[labels == 4].mean() > loud[labels == 3].mean()  # angry is louder than sad


def test_song_and_other_modalities_are_left_out_of_speech(tiny):
    copied = "01-01-03-01-01-01-01"  # sound pulled out of the video: the same take once more
    shutil.copy(tiny / "Actor_01" / "02-01-03-01-01-01-01.wav", tiny / "Actor_01" / f"{copied}.wav")
    files = [f for s in _open(tiny).samples() for f in s.sources.values()]
    assert (tiny / "Actor_01" / "03-02-03-01-01-01-01.wav").is_file()
    assert not [f for f in files if f.endswith(".wav") and "/03-01-" not in f]
    assert len(_open(tiny).samples()) == 48


def test_song_alone_and_both_are_options(tiny):
    song = _open(tiny, channel="song").samples()
    assert [(s.id, s.facts["channel"]) for s in song] == [("02-03-01-01-01-01", "song")]
    assert len(_open(tiny, channel="both").samples()) == 49


def test_song_has_six_emotions_and_merging_calm_takes_one_away():
    assert classes_of(RavdessParams()) == EMOTIONS
    assert classes_of(RavdessParams(channel="song")) == ("neutral", "calm", "happy", "sad", "angry", "fearful")
    assert classes_of(RavdessParams(merge_calm=True)) == tuple(e for e in EMOTIONS if e != "calm")
    assert len(classes_of(RavdessParams(channel="song", merge_calm=True))) == 5
    info = _spec().info(RavdessParams(merge_calm=True))
    assert info.tasks["emotion"].classes == classes_of(RavdessParams(merge_calm=True))


def test_merging_calm_makes_it_neutral_and_moves_nobody_else(tiny):
    apart, merged = _open(tiny).samples(), _open(tiny, merge_calm=True).samples()
    names = classes_of(RavdessParams(merge_calm=True))
    for before, after in zip(apart, merged, strict=True):
        was = EMOTIONS[before.targets["emotion"]]
        assert names[after.targets["emotion"]] == ("neutral" if was == "calm" else was)


def test_a_take_without_a_csv_lacks_the_source_and_nothing_else(tiny):
    samples = _open(tiny).samples()
    without = [s for s in samples if "openface" not in s.sources]
    assert len(without) == 6  # every eighth of 48
    assert all("audio" in s.sources for s in samples)
    _refusal(lambda: _open(tiny).read(without[0].id, "openface"), without[0].id, "has no openface")


def test_a_take_without_a_wav_is_listed_by_its_csv(tiny):
    gone = next(s for s in _open(tiny).samples() if "openface" in s.sources)
    (tiny / gone.sources["audio"]).unlink()
    again = {s.id: s for s in _open(tiny).samples()}
    assert set(again[gone.id].sources) == {"openface"}
    assert gone.id not in {s.id for s in _open(tiny, visual="none").samples()}


def test_leaving_the_face_out_leaves_it_out_everywhere(tiny):
    assert set(_spec().info(RavdessParams(visual="none")).sources) == {"audio"}
    assert {tuple(s.sources) for s in _open(tiny, visual="none").samples()} == {("audio",)}


def test_a_voice_is_mono_at_the_rate_of_its_file(tiny):
    data = _open(tiny)
    rates, channels, lengths = Counter(), Counter(), []
    for s in data.samples():
        file = soundfile.info(tiny / s.sources["audio"])
        audio = data.read(s.id, "audio")
        assert audio.samples.shape == (file.frames,)
        assert audio.rate == file.samplerate
        rates[file.samplerate] += 1
        channels[file.channels] += 1
        lengths.append(file.duration)
    assert rates == {48000: 47, 22050: 1}
    assert channels == {1: 47, 2: 1}
    assert min(lengths) < 0.5 < 0.9 < sorted(lengths)[1]  # one clip is shorter than any window


def test_averaged_units_come_by_name_in_the_promised_order(tiny):
    data = _open(tiny)
    s = next(s for s in data.samples() if "openface" in s.sources)
    path = tiny / s.sources["openface"]
    header, row = (line.split(",") for line in path.read_text().splitlines())
    assert header[4] == " AU01_r"  # blanks as OpenFace writes them
    by_name = dict(zip((h.strip() for h in header), map(float, row), strict=True))
    order = np.random.default_rng(0).permutation(len(header))
    path.write_text(",".join(header[i] for i in order) + "\n" + ",".join(row[i] for i in order) + "\n")
    table = data.read(s.id, "openface")
    assert table.columns == AVERAGED_COLUMNS == tuple(_spec().info(RavdessParams()).sources["openface"].notes["columns"])
    assert table.rate is None
    np.testing.assert_array_equal(table.values, np.array([[by_name[n] for n in AVERAGED_COLUMNS]], np.float32))


def test_frames_come_by_name_at_the_rate_of_the_video(tiny):
    shutil.rmtree(tiny / "OpenFace")
    id = _open(tiny).samples()[0].id
    values = _write_frames(tiny / "FacialTracking_Actors_01-24" / f"01-{id}.csv", 40)
    data = _open(tiny, openface="frames")
    table = data.read(id, "openface")
    source = _spec().info(RavdessParams(openface="frames")).sources["openface"]
    assert table.rate == source.rate == 30000 / 1001
    assert table.columns == tuple(source.notes["columns"])
    np.testing.assert_array_equal(table.values, values.astype(np.float32))


def test_frames_are_openface_s_714_columns_without_frame_face_and_time():
    # Places of a standard OpenFace 2.x file, counted from 0: x_0 at 299, y_0 at 367 (gaze 8, eyes 280, pose 6 before them).
    full = ("frame", "face_id", "timestamp", *FRAME_COLUMNS)
    assert len(full) == len(set(full)) == 714
    assert (full.index("x_0"), full.index("x_67"), full.index("y_0"), full.index("y_67")) == (299, 366, 367, 434)
    assert full[-35:] == AVERAGED_COLUMNS


def test_a_csv_of_the_other_sort_is_refused_with_the_option_to_set(tiny):
    id = next(s.id for s in _open(tiny).samples() if "openface" in s.sources)
    _refusal(lambda: _open(tiny, openface="frames").read(id, "openface"), f"01-{id}.csv", "one row", "set `openface: averaged`")
    _write_frames(tiny / "OpenFace" / f"01-{id}.csv", 12)
    _refusal(lambda: _open(tiny).read(id, "openface"), f"01-{id}.csv", "12 rows", "set `openface: frames`")


def test_a_csv_without_a_promised_column_or_of_another_rate_is_refused(tiny):
    id = next(s.id for s in _open(tiny).samples() if "openface" in s.sources)
    path, data = tiny / "OpenFace" / f"01-{id}.csv", _open(tiny, openface="frames")
    _write_frames(path, 12, drop="y_17")
    _refusal(lambda: data.read(id, "openface"), str(path), "lacks 1 of the 711", "'y_17'")
    _write_frames(path, 12, rate=25)
    _refusal(lambda: data.read(id, "openface"), str(path), "25.00 frames per second", "29.97")


def test_nan_in_a_csv_is_refused_with_line_and_column(tiny):
    id = next(s.id for s in _open(tiny).samples() if "openface" in s.sources)
    path = tiny / "OpenFace" / f"01-{id}.csv"
    header, row = path.read_text().splitlines()
    cells = row.split(",")
    cells[header.split(",").index(" AU12_r")] = "nan"
    path.write_text(f"{header}\n{','.join(cells)}\n")
    _refusal(lambda: _open(tiny).read(id, "openface"), str(path), "line 2", "'AU12_r'", "'nan'")


def test_a_wav_cut_short_is_refused_and_stops_no_other(tiny):
    data = _open(tiny)
    first, second = data.samples()[:2]
    path = tiny / first.sources["audio"]
    path.write_bytes(path.read_bytes()[:-1000])
    _refusal(lambda: data.read(first.id, "audio"), str(path), "cut short")
    assert len(data.read(second.id, "audio").samples) > 0


def test_files_that_are_no_recordings_are_passed_over(tiny):
    for name in ("Actor_01/.DS_Store", "Actor_01/notes.txt", "Actor_01/01-01-03-01-01-01-01.mp4", "OpenFace/01-about.csv"):
        (tiny / name).write_text("x")
    (tiny / "Actor_faces").mkdir()
    assert (tiny / "Actor_01" / "._03-01-01-01-01-01-01.wav").is_file()
    assert len(_open(tiny).samples()) == 48


@pytest.mark.parametrize(
    "name", ["03-01-09-01-01-01-01.wav", "03-01-05-01-01-01.wav", "04-01-05-01-01-01-01.wav", "take 2.WAV"]
)
def test_a_misnamed_wav_is_refused_with_the_rule(tiny, name):
    (tiny / "Actor_01" / name).write_bytes(b"x")
    (tiny / "Actor_02" / "zz.wav").write_bytes(b"x")
    _refusal(lambda: _open(tiny).samples(), name, "and 1 more", "MM-VV-EE-II-SS-RR-AA")


def test_a_misnamed_csv_is_refused(tiny):
    (tiny / "OpenFace" / "01-01-00-01-01-01-01.csv").write_text("x\n1\n")
    _refusal(lambda: _open(tiny).samples(), "01-01-00-01-01-01-01.csv", "MM-VV-EE-II-SS-RR-AA")


def test_a_wav_in_another_actor_s_folder_is_refused(tiny):
    (tiny / "Actor_02" / "03-01-05-01-01-01-01.wav").write_bytes(b"x")
    _refusal(lambda: _open(tiny).samples(), "Actor_02", "actor 01")


def test_two_csvs_of_one_take_are_refused(tiny):
    path = sorted((tiny / "OpenFace").iterdir())[0]
    (tiny / "Tracking").mkdir()
    shutil.copy(path, tiny / "Tracking" / path.name)
    _refusal(lambda: _open(tiny).samples(), f"OpenFace/{path.name}", f"Tracking/{path.name}")


def test_actors_may_stand_in_the_folders_of_their_zips(tiny):
    ids = [s.id for s in _open(tiny, channel="both").samples()]
    speech, song = tiny / "Audio_Speech_Actors_01-24", tiny / "Audio_Song_Actors_01-24"
    speech.mkdir()
    for folder in sorted(tiny.glob("Actor_*")):
        folder.rename(speech / folder.name)
    (song / "Actor_01").mkdir(parents=True)
    (speech / "Actor_01" / "03-02-03-01-01-01-01.wav").rename(song / "Actor_01" / "03-02-03-01-01-01-01.wav")
    assert [s.id for s in _open(tiny, channel="both").samples()] == ids


def test_a_mirror_that_holds_everything_twice_is_read_once(tiny):
    shutil.copytree(tiny / "Actor_02", tiny / "audio_speech_actors_01-24" / "Actor_02")
    assert len(_open(tiny).samples()) == 48


def test_a_missing_or_empty_folder_is_refused_with_the_tree_and_the_address(tmp_path):
    for root in (None, tmp_path / "none", tmp_path):
        _refusal(
            lambda root=root: _open(root).samples(), "Actor_01/03-01-01-01-01-01-01.wav", "https://zenodo.org/records/1188976"
        )


# --- the recordings themselves -----------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("MMCL_REAL_DATA")
    if not folder or not (Path(folder) / "ravdess").is_dir():
        pytest.skip("set MMCL_REAL_DATA to a folder that holds ravdess/ to read the real recordings")
    return Path(folder) / "ravdess"


@pytest.mark.real
def test_the_real_speech_has_1440_clips_of_24_actors(real):
    samples = _open(real).samples()
    assert len(samples) == 1440
    assert Counter(s.group for s in samples) == {f"actor-{i:02d}": 60 for i in range(1, 25)}
    counts = Counter(EMOTIONS[s.targets["emotion"]] for s in samples)
    assert counts == {"neutral": 96, **dict.fromkeys(EMOTIONS[1:], 192)}
    assert all(set(s.sources) == {"audio", "openface"} for s in samples)
    assert (
        Counter(EMOTIONS.index("neutral") == s.targets["emotion"] for s in _open(real, merge_calm=True).samples())[True] == 288
    )


@pytest.mark.real
def test_the_real_clips_last_three_to_five_seconds_and_have_faces_in_range(real):
    data = _open(real)
    for s in data.samples()[::16]:
        audio = data.read(s.id, "audio")
        assert 2.9 < len(audio.samples) / audio.rate < 5.3
        assert np.abs(audio.samples).max() > 0.001
        face = data.read(s.id, "openface")
        assert face.values.shape == (1, 35)
        assert 0 <= face.values[:, :17].min() <= face.values[:, :17].max() <= 5
        assert 0 <= face.values[:, 17:].min() <= face.values[:, 17:].max() <= 1
