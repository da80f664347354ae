"""RAVDESS: what is listed, what is left out, what is read, what is refused."""

from __future__ import annotations

import shutil
import struct
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import mmcl_ravdess
import numpy as np
import pytest
import soundfile
from mmcl_ravdess import AVERAGED_COLUMNS, EMOTIONS, FRAME_COLUMNS, RavdessParams, classes_of
from pydantic import ValidationError

from mmcl.testing import check_dataset
from mmcl.testing.corpora import dataset_of, expect_refusal, expect_seeded, real_data, tiny_copies, write_pictures

RAVDESS = dataset_of(mmcl_ravdess)
_, tiny = tiny_copies(RAVDESS, 48)


def open_corpus(root: Path | None, **options):
    return RAVDESS.build(RavdessParams(**options), root)


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
    samples = open_corpus(tiny).samples()
    assert len(samples) == 48
    assert len({s.id for s in samples}) == 48
    assert [s.id for s in samples] == sorted((s.id for s in samples), key=lambda id: (id[-2:], id))
    for s in samples:
        channel, emotion, intensity, statement, repetition, actor = s.id.split("-")
        assert (channel, s.group) == ("01", f"actor-{actor}")
        assert s.targets == {"emotion": int(emotion) - 1}
        assert s.sources["audio"] == f"Actor_{actor}/03-{s.id}.wav"
        assert s.facts == {
            "channel": "speech",
            "intensity": ["normal", "strong"][int(intensity) - 1],
            "repetition": int(repetition),
            "statement": ["kids", "dogs"][int(statement) - 1],
            "sex": "female" if int(actor) % 2 == 0 else "male",
        }
        assert s.split is None


def test_the_tiny_copy_has_six_actors_and_every_emotion(tiny):
    samples = open_corpus(tiny).samples()
    assert len({s.group for s in samples}) >= 6
    assert {s.targets["emotion"] for s in samples} == set(range(8))


def test_the_same_seed_writes_the_same_files_and_another_seed_others(tiny, tmp_path):
    expect_seeded(RAVDESS, tiny, 48, tmp_path)


def test_emotions_can_be_told_apart_faintly_in_the_tiny_copy(tiny):
    data = open_corpus(tiny)
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
    files = [f for s in open_corpus(tiny).samples() for f in s.sources.values()]
    assert (tiny / "Actor_01" / "03-02-03-01-01-01-01.wav").is_file()
    assert not [f for f in files if f.endswith(".wav") and "/03-01-" not in f]
    assert len(open_corpus(tiny).samples()) == 48


def test_song_alone_and_both_are_options(tiny):
    song = open_corpus(tiny, channel="song").samples()
    assert [(s.id, s.facts["channel"]) for s in song] == [("02-03-01-01-01-01", "song")]
    assert len(open_corpus(tiny, channel="both").samples()) == 49


def test_song_has_six_emotions_and_merging_calm_takes_one_away():
    assert classes_of(RavdessParams()) == EMOTIONS
    assert classes_of(RavdessParams(channel="song")) == ("neutral", "calm", "happy", "sad", "angry", "fearful")
    assert classes_of(RavdessParams(merge_calm=True)) == tuple(e for e in EMOTIONS if e != "calm")
    assert len(classes_of(RavdessParams(channel="song", merge_calm=True))) == 5
    info = RAVDESS.info(RavdessParams(merge_calm=True))
    assert info.tasks["emotion"].classes == classes_of(RavdessParams(merge_calm=True))


def test_merging_calm_makes_it_neutral_and_moves_nobody_else(tiny):
    apart, merged = open_corpus(tiny).samples(), open_corpus(tiny, merge_calm=True).samples()
    names = classes_of(RavdessParams(merge_calm=True))
    for before, after in zip(apart, merged, strict=True):
        was = EMOTIONS[before.targets["emotion"]]
        assert names[after.targets["emotion"]] == ("neutral" if was == "calm" else was)


def test_a_take_without_a_csv_lacks_the_source_and_nothing_else(tiny):
    samples = open_corpus(tiny).samples()
    without = [s for s in samples if "openface" not in s.sources]
    assert len(without) == 6  # every eighth of 48
    assert all("audio" in s.sources for s in samples)
    expect_refusal(lambda: open_corpus(tiny).read(without[0].id, "openface"), without[0].id, "has no openface")


def test_a_take_without_a_wav_is_listed_by_its_csv(tiny):
    gone = next(s for s in open_corpus(tiny).samples() if "openface" in s.sources)
    (tiny / gone.sources["audio"]).unlink()
    again = {s.id: s for s in open_corpus(tiny).samples()}
    assert set(again[gone.id].sources) == {"openface"}
    assert gone.id not in {s.id for s in open_corpus(tiny, visual="none").samples()}


def test_leaving_the_face_out_leaves_it_out_everywhere(tiny):
    assert set(RAVDESS.info(RavdessParams(visual="none")).sources) == {"audio"}
    assert {tuple(s.sources) for s in open_corpus(tiny, visual="none").samples()} == {("audio",)}


def test_a_voice_is_mono_at_the_rate_of_its_file(tiny):
    data = open_corpus(tiny)
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
    data = open_corpus(tiny)
    s = next(s for s in data.samples() if "openface" in s.sources)
    path = tiny / s.sources["openface"]
    header, row = (line.split(",") for line in path.read_text().splitlines())
    assert header[4] == " AU01_r"  # blanks as OpenFace writes them
    by_name = dict(zip((h.strip() for h in header), map(float, row), strict=True))
    order = np.random.default_rng(0).permutation(len(header))
    path.write_text(",".join(header[i] for i in order) + "\n" + ",".join(row[i] for i in order) + "\n")
    table = data.read(s.id, "openface")
    assert table.columns == AVERAGED_COLUMNS == tuple(RAVDESS.info(RavdessParams()).sources["openface"].notes["columns"])
    assert table.rate is None
    np.testing.assert_array_equal(table.values, np.array([[by_name[n] for n in AVERAGED_COLUMNS]], np.float32))


def test_frames_come_by_name_at_the_rate_of_the_video(tiny):
    shutil.rmtree(tiny / "OpenFace")
    id = open_corpus(tiny).samples()[0].id
    values = _write_frames(tiny / "FacialTracking_Actors_01-24" / f"01-{id}.csv", 40)
    data = open_corpus(tiny, openface="frames")
    table = data.read(id, "openface")
    source = RAVDESS.info(RavdessParams(openface="frames")).sources["openface"]
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
    id = next(s.id for s in open_corpus(tiny).samples() if "openface" in s.sources)
    expect_refusal(
        lambda: open_corpus(tiny, openface="frames").read(id, "openface"), f"01-{id}.csv", "one row", "set `openface: averaged`"
    )
    assert len(open_corpus(tiny, openface="averaged").read(id, "openface").values) == 1
    _write_frames(tiny / "OpenFace" / f"01-{id}.csv", 12)
    expect_refusal(lambda: open_corpus(tiny).read(id, "openface"), f"01-{id}.csv", "12 rows", "set `openface: frames`")
    assert len(open_corpus(tiny, openface="frames").read(id, "openface").values) == 12


@pytest.mark.parametrize(("wanted", "count"), [("AU", 35), ("x_", 68)], ids=["-aus", "-2Dfp"])
def test_a_csv_with_the_columns_of_one_option_of_openface_is_read(tiny, wanted, count):
    id = next(s.id for s in open_corpus(tiny).samples() if "openface" in s.sources)
    path, data = tiny / "OpenFace" / f"01-{id}.csv", open_corpus(tiny, openface="frames")
    _write_frames(path, 12)
    whole = data.read(id, "openface")
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    names = [name.strip() for name in header]
    kept = [i for i, name in enumerate(names) if name in ("frame", "timestamp", "success") or name.startswith(wanted)]
    path.write_text("\n".join(",".join(row[i] for i in kept) for row in (header, *rows)) + "\n")
    table = open_corpus(tiny, openface="frames").read(id, "openface")
    assert table.columns == tuple(name for name in whole.columns if name == "success" or name.startswith(wanted))
    assert len(table.columns) == count + 1
    np.testing.assert_array_equal(table.values, whole.values[:, [whole.columns.index(name) for name in table.columns]])


def test_a_csv_without_any_promised_column_or_of_another_rate_is_refused(tiny):
    id = next(s.id for s in open_corpus(tiny).samples() if "openface" in s.sources)
    path, data = tiny / "OpenFace" / f"01-{id}.csv", open_corpus(tiny, openface="frames")
    path.write_text("frame,timestamp,confidence,success\n" + "".join(f"{i + 1},{i / 30:.3f},1,1\n" for i in range(12)))
    expect_refusal(lambda: data.read(id, "openface"), str(path), "none of the 711 columns", "'AU45_c'")
    _write_frames(path, 12, rate=25)
    expect_refusal(lambda: data.read(id, "openface"), str(path), "25.00 frames per second", "29.97")


def test_nan_in_a_csv_is_refused_with_line_and_column(tiny):
    id = next(s.id for s in open_corpus(tiny).samples() if "openface" in s.sources)
    path = tiny / "OpenFace" / f"01-{id}.csv"
    header, row = path.read_text().splitlines()
    cells = row.split(",")
    cells[header.split(",").index(" AU12_r")] = "nan"
    path.write_text(f"{header}\n{','.join(cells)}\n")
    expect_refusal(lambda: open_corpus(tiny).read(id, "openface"), str(path), "line 2", "'AU12_r'", "'nan'")


def test_a_wav_cut_short_is_refused_and_stops_no_other(tiny):
    data = open_corpus(tiny)
    first, second = data.samples()[:2]
    path = tiny / first.sources["audio"]
    path.write_bytes(path.read_bytes()[:-1000])
    expect_refusal(lambda: data.read(first.id, "audio"), str(path), "cut short")
    assert len(data.read(second.id, "audio").samples) > 0


def test_files_that_are_no_recordings_are_passed_over(tiny):
    for name in ("Actor_01/.DS_Store", "Actor_01/notes.txt", "Actor_01/01-01-03-01-01-01-01.mp4", "OpenFace/01-about.csv"):
        (tiny / name).write_text("x")
    (tiny / "Actor_faces").mkdir()
    assert (tiny / "Actor_01" / "._03-01-01-01-01-01-01.wav").is_file()
    assert len(open_corpus(tiny).samples()) == 48


@pytest.mark.parametrize(
    "name", ["03-01-09-01-01-01-01.wav", "03-01-05-01-01-01.wav", "04-01-05-01-01-01-01.wav", "take 2.WAV"]
)
def test_a_misnamed_wav_is_refused_with_the_rule(tiny, name):
    (tiny / "Actor_01" / name).write_bytes(b"x")
    (tiny / "Actor_02" / "zz.wav").write_bytes(b"x")
    expect_refusal(lambda: open_corpus(tiny).samples(), name, "and 1 more", "MM-VV-EE-II-SS-RR-AA")


def test_a_misnamed_csv_is_refused(tiny):
    (tiny / "OpenFace" / "01-01-00-01-01-01-01.csv").write_text("x\n1\n")
    expect_refusal(lambda: open_corpus(tiny).samples(), "01-01-00-01-01-01-01.csv", "MM-VV-EE-II-SS-RR-AA")


def test_a_wav_in_another_actor_s_folder_is_refused(tiny):
    (tiny / "Actor_02" / "03-01-05-01-01-01-01.wav").write_bytes(b"x")
    expect_refusal(lambda: open_corpus(tiny).samples(), "Actor_02", "actor 01")


def test_two_csvs_of_one_take_are_refused(tiny):
    path = sorted((tiny / "OpenFace").iterdir())[0]
    (tiny / "Tracking").mkdir()
    shutil.copy(path, tiny / "Tracking" / path.name)
    expect_refusal(lambda: open_corpus(tiny).samples(), f"OpenFace/{path.name}", f"Tracking/{path.name}")


def test_actors_may_stand_in_the_folders_of_their_zips(tiny):
    ids = [s.id for s in open_corpus(tiny, channel="both").samples()]
    speech, song = tiny / "Audio_Speech_Actors_01-24", tiny / "Audio_Song_Actors_01-24"
    speech.mkdir()
    for folder in sorted(tiny.glob("Actor_*")):
        folder.rename(speech / folder.name)
    (song / "Actor_01").mkdir(parents=True)
    (speech / "Actor_01" / "03-02-03-01-01-01-01.wav").rename(song / "Actor_01" / "03-02-03-01-01-01-01.wav")
    assert [s.id for s in open_corpus(tiny, channel="both").samples()] == ids


def test_a_mirror_that_holds_everything_twice_is_read_once(tiny):
    shutil.copytree(tiny / "Actor_02", tiny / "audio_speech_actors_01-24" / "Actor_02")
    assert len(open_corpus(tiny).samples()) == 48


def test_a_missing_or_empty_folder_is_refused_with_the_tree_and_the_address(tmp_path):
    for root in (None, tmp_path / "none", tmp_path):
        expect_refusal(
            lambda root=root: open_corpus(root).samples(),
            "Actor_01/03-01-01-01-01-01-01.wav",
            "https://zenodo.org/records/1188976",
        )


# --- films, copies and folders -------------------------------------------------------------------------------------------


def _pictures(folder: Path, levels: list[int]) -> None:
    """A film as a folder of pictures, each of one grey level."""
    write_pictures(folder, (np.full((36, 64, 3), level) for level in levels), "frame_{}.png", first=1)


def _mp4(path: Path, levels: list[int], rate: float = 30000 / 1001, wave: np.ndarray | None = None) -> None:
    """An mp4 of grey frames and, with a wave [channels, n] at 48 kHz, sound."""
    av = pytest.importorskip("av", reason="PyAV is not installed, so no mp4 can be written here")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=Fraction(rate).limit_denominator(1001))
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        layout = "stereo" if wave is not None and len(wave) == 2 else "mono"
        voice = film.add_stream("aac", rate=48000, layout=layout) if wave is not None else None
        for level in levels:
            film.mux(video.encode(av.VideoFrame.from_ndarray(np.full((36, 64, 3), level, np.uint8), format="rgb24")))
        film.mux(video.encode(None))
        if voice is not None:
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave, np.float32), format="fltp", layout=layout)
            sound.rate = 48000
            film.mux(voice.encode(sound))
            film.mux(voice.encode(None))


def test_films_are_left_alone_unless_asked_for(tiny):
    assert set(RAVDESS.info(RavdessParams()).sources) == {"audio", "openface"}
    assert not [s for s in open_corpus(tiny).samples() if "video" in s.sources]
    assert len(open_corpus(tiny, video="auto").samples()) == 49  # one take has a film and nothing else


def test_the_dataset_keeps_the_contract_with_films_too(tmp_path):
    check_dataset(RAVDESS, tmp_path / "speech", RavdessParams(video="auto", video_size=(18, 32)))
    check_dataset(RAVDESS, tmp_path / "song", RavdessParams(channel="song", openface="frames"))


def test_files_01_02_and_03_of_a_take_are_one_recording(tiny):
    plain, filmed = open_corpus(tiny).samples(), open_corpus(tiny, video="auto").samples()
    id = next(s.id for s in plain)
    both = next(s for s in filmed if s.id.endswith("-03") and "video" in s.sources)
    copies = sorted(p.name[:2] for p in tiny.rglob(f"0[123]-{both.id}*") if p.suffix in (".wav", ".mp4", ""))
    assert copies == ["01", "02", "03"]
    assert [s.id for s in filmed].count(both.id) == 1
    assert Path(both.sources["video"]).name.startswith("01-")
    assert {s.id for s in plain} < {s.id for s in filmed}
    assert id in {s.id for s in filmed}
    with pytest.raises(ValidationError, match="merge"):
        RavdessParams(copies="separate")


def test_a_folder_of_pictures_is_read_in_the_order_of_its_numbers(tiny):
    id, levels = "01-05-02-02-02-24", [10 * k for k in range(1, 13)]  # frame_10 comes after frame_9, not after frame_1
    _pictures(tiny / "faces" / f"02-{id}", levels)
    video = open_corpus(tiny, video="auto", video_size=(18, 32)).read(id, "video")
    assert video.rate == 30000 / 1001
    assert video.frames.dtype == np.uint8
    np.testing.assert_array_equal(video.frames, np.broadcast_to(np.array(levels)[:, None, None, None], (12, 3, 18, 32)))


def test_a_picture_shrinks_to_the_means_of_its_blocks(tiny):
    id = "01-05-02-02-02-24"
    pixels = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    write_pictures(tiny / f"01-{id}", [pixels], "{}.png", first=1)
    frames = open_corpus(tiny, video="auto", video_size=(9, 16)).read(id, "video").frames
    slow = np.array([[pixels[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean((0, 1)) for x in range(16)] for y in range(9)])
    assert np.abs(frames[0].transpose(1, 2, 0) - slow).max() <= 1


def test_a_picture_that_is_missing_or_broken_is_refused(tiny):
    id = "01-05-02-02-02-24"
    folder, data = tiny / f"01-{id}", open_corpus(tiny, video="auto")
    _pictures(folder, [10, 20, 30])
    data.samples()
    (folder / "frame_2.png").write_bytes((folder / "frame_2.png").read_bytes()[:40])
    expect_refusal(lambda: data.read(id, "video"), "frame_2.png", "cannot be decoded")
    (folder / "frame_2.png").unlink()
    expect_refusal(lambda: data.read(id, "video"), str(folder), "picture 2 is missing")


def test_an_mp4_without_pyav_is_refused_with_what_to_install(tiny, monkeypatch):
    id = "01-05-02-02-02-24"
    (tiny / f"02-{id}.mp4").write_bytes(b"film")
    monkeypatch.setitem(sys.modules, "av", None)
    expect_refusal(lambda: open_corpus(tiny, video="auto").read(id, "video"), f"02-{id}.mp4", "pip install 'mmcl[video]'")


def test_an_mp4_is_read_at_its_rate_frame_by_frame(tiny):
    id, levels = "01-05-02-02-02-24", [40, 80, 120, 160, 200] * 6
    _mp4(tiny / "Video_Speech_Actor_24" / "Actor_24" / f"01-{id}.mp4", levels)
    video = open_corpus(tiny, video="auto", video_size=(18, 32)).read(id, "video")
    assert (video.frames.shape, video.rate) == ((30, 3, 18, 32), 30000 / 1001)
    assert np.abs(video.frames.mean((1, 2, 3)) - levels).max() < 8  # lossy
    _mp4(tiny / "Video_Speech_Actor_24" / "Actor_24" / f"01-{id}.mp4", levels, rate=25)
    expect_refusal(lambda: open_corpus(tiny, video="auto").read(id, "video"), "25.00 frames per second", "29.97")


def test_the_sound_of_an_mp4_stands_in_for_a_missing_wav(tiny):
    id = "01-05-02-02-02-24"
    t = np.arange(48000) / 48000
    left, right = 0.5 * np.sin(2 * np.pi * 440 * t), 0.1 * np.sin(2 * np.pi * 440 * t)
    _mp4(tiny / "Actor_24" / f"01-{id}.mp4", [100] * 30, wave=np.stack([left, right]))
    data = open_corpus(tiny, video="auto")
    audio = data.read(id, "audio")
    assert (audio.rate, audio.samples.dtype) == (48000, np.float32)
    assert abs(len(audio.samples) - 48000) < 2048  # AAC works in blocks of 1,024
    spectrum = np.abs(np.fft.rfft(audio.samples[8000:40000]))
    assert abs(spectrum.argmax() * 48000 / 32000 - 440) < 2
    assert audio.samples[8000:40000].std() == pytest.approx(0.3 / np.sqrt(2), rel=0.05)  # the mean of the two channels
    assert not [s for s in open_corpus(tiny).samples() if s.id == id], "only with `video: auto`"
    with_wav = next(s for s in data.samples() if s.id == "01-04-01-01-01-01")
    assert with_wav.sources["audio"].endswith(".wav"), "a wav goes before the film's sound"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.7, 0.95, 0.999])
def test_an_mp4_cut_short_is_refused(tiny, share):
    id = "01-05-02-02-02-24"
    path = tiny / "Actor_24" / f"01-{id}.mp4"
    _mp4(path, list(range(20, 200, 4)), wave=np.random.default_rng(0).normal(0, 0.1, (1, 72000)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    data = open_corpus(tiny, video="auto")
    expect_refusal(lambda: data.read(id, "video"), path.name)
    expect_refusal(lambda: data.read(id, "audio"), path.name)


def test_an_mp4_that_is_shorter_than_its_boxes_is_refused_without_pyav_too(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tiny / "01-01-05-02-02-02-24.mp4"
    path.write_bytes(struct.pack(">I4s8x", 16, b"ftyp") + struct.pack(">I4sQ", 1, b"mdat", 516) + bytes(400))
    expect_refusal(
        lambda: open_corpus(tiny, video="auto").read("01-05-02-02-02-24", "video"), path.name, "cut short: 100 bytes"
    )
    path.write_bytes(path.read_bytes() + bytes(100))
    expect_refusal(
        lambda: open_corpus(tiny, video="auto").read("01-05-02-02-02-24", "video"), path.name, "pip install 'mmcl[video]'"
    )


def test_a_film_without_sound_gives_no_voice(tiny):
    id = "01-05-02-02-02-24"
    _mp4(tiny / "Actor_24" / f"02-{id}.mp4", [100] * 30)
    sample = next(s for s in open_corpus(tiny, video="auto").samples() if s.id == id)
    assert set(sample.sources) == {"video"}


def test_files_are_known_by_name_in_whatever_folder(tiny):
    ids = [s.id for s in open_corpus(tiny).samples()]
    for path in sorted(tiny.glob("Actor_*/03-01-*.wav")):  # one folder per class, as MPUC-MER's code has it
        folder = tiny / "by_class" / path.name[6:8]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    assert [s.id for s in open_corpus(tiny).samples()] == ids


def test_of_two_wavs_of_a_take_the_nearest_counts_and_equally_near_ones_are_refused(tiny):
    first = open_corpus(tiny).samples()[0]
    here = tiny / first.sources["audio"]
    (tiny / "copy" / "Actor_01").mkdir(parents=True)
    shutil.copy(here, tiny / "copy" / "Actor_01" / here.name)
    assert open_corpus(tiny).samples()[0].sources["audio"] == first.sources["audio"]
    (tiny / "twin").mkdir()
    shutil.copy(here, tiny / "twin" / here.name)
    expect_refusal(lambda: open_corpus(tiny).samples(), str(here), f"twin/{here.name}", "leave one")


def test_a_link_that_leads_back_up_does_no_harm(tiny):
    (tiny / "again").symlink_to(tiny, target_is_directory=True)
    assert len(open_corpus(tiny).samples()) == 48


def test_both_ways_of_counting_calm_as_neutral_are_one(tiny):
    old, new = open_corpus(tiny, merge_calm=True), open_corpus(tiny, classes="calm-is-neutral")
    assert [s.targets for s in old.samples()] == [s.targets for s in new.samples()]
    assert classes_of(new.params) == ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def test_defects_are_counted_by_take(tiny):
    defects = open_corpus(tiny, channel="both").defects()
    heads = {p.stem[3:]: soundfile.info(p) for p in tiny.rglob("03-*.wav")}
    assert defects.stereo == tuple(id for id, head in heads.items() if head.channels == 2)
    assert defects.other_rate == {id: h.samplerate for id, h in heads.items() if h.samplerate != 48000} != {}
    assert defects.without["audio"] == ()
    assert len(defects.without["openface"]) == 6
    assert defects.absent_actors == tuple(f"{i:02d}" for i in range(7, 25))
    lines = (tiny / "OpenFace" / "01-02-03-01-01-01-01.csv").read_text().splitlines()
    success = lines[0].split(",").index(" success")
    failed = sum(float(line.split(",")[success]) == 0 for line in lines[1:])
    assert defects.failed_rows == {"02-03-01-01-01-01": failed}
    assert failed > 0


def test_actor_18_is_not_missed_in_song(tiny):
    absent = open_corpus(tiny, channel="song", openface="frames").defects().absent_actors
    assert "17" in absent
    assert "18" not in absent


def test_the_song_of_the_tiny_copy_has_90_frames_and_some_without_a_face(tiny):
    table = open_corpus(tiny, channel="song", openface="frames").read("02-03-01-01-01-01", "openface")
    assert table.values.shape == (90, 711)
    lost = table.values[:, table.columns.index("success")] == 0
    assert 0 < lost.sum() < 90
    assert not table.values[lost].any()


# --- the recordings themselves -----------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    return real_data("ravdess") / "ravdess"


@pytest.mark.real
def test_the_real_speech_has_1440_clips_of_24_actors(real):
    samples = open_corpus(real).samples()
    assert len(samples) == 1440
    assert Counter(s.group for s in samples) == {f"actor-{i:02d}": 60 for i in range(1, 25)}
    counts = Counter(EMOTIONS[s.targets["emotion"]] for s in samples)
    assert counts == {"neutral": 96, **dict.fromkeys(EMOTIONS[1:], 192)}
    assert all(set(s.sources) == {"audio", "openface"} for s in samples)
    assert (
        Counter(EMOTIONS.index("neutral") == s.targets["emotion"] for s in open_corpus(real, merge_calm=True).samples())[True]
        == 288
    )


@pytest.mark.real
def test_the_real_clips_last_three_to_five_seconds_and_have_faces_in_range(real):
    data = open_corpus(real)
    for s in data.samples()[::16]:
        audio = data.read(s.id, "audio")
        assert 2.9 < len(audio.samples) / audio.rate < 5.3
        assert np.abs(audio.samples).max() > 0.001
        face = data.read(s.id, "openface")
        assert face.values.shape == (1, 35)
        assert 0 <= face.values[:, :17].min() <= face.values[:, :17].max() <= 5
        assert 0 <= face.values[:, 17:].min() <= face.values[:, 17:].max() <= 1


def test_the_name_that_the_publisher_spells_out_is_read_so(tmp_path):
    """Zenodo's example: 02-01-06-01-02-01-12 is video-only, speech, fearful, normal, 'dogs', first repetition, the 12th actor, a woman."""
    folder = tmp_path / "Video_Speech_Actor_12" / "Actor_12"
    folder.mkdir(parents=True)
    (folder / "02-01-06-01-02-01-12.mp4").write_bytes(b"film")
    (sample,) = RAVDESS.build(RavdessParams(video="auto"), tmp_path).samples()
    assert EMOTIONS[sample.targets["emotion"]] == "fearful"
    assert sample.facts == {"channel": "speech", "intensity": "normal", "statement": "dogs", "repetition": 1, "sex": "female"}
    assert set(sample.sources) == {"video"}
    assert "12" in sample.group
