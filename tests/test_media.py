"""Files are read whole or refused with one sentence that names the file, the place and what was expected."""

from __future__ import annotations

import errno
import gc
import pickle
import struct
import weakref
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import savemat

from mmcl.api import Audio, DataError, SampleRef
from mmcl.media import (
    Framing,
    Recordings,
    at_rate,
    blocks_at_rate,
    cached_folder,
    count_defects,
    defect,
    film,
    film_length,
    is_number,
    lit_wall,
    nodding_oval,
    open_audio,
    read_array,
    read_audio,
    read_film,
    read_mat,
    read_sound,
    read_table,
    require_folder,
    sound_header,
    walk_folders,
    write_audio,
)


def _wav(path: Path, samples: np.ndarray, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def _noise(n: int, channels: int | None = None) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, n if channels is None else (n, channels))


def _refusal(call, *words: str) -> str:
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


# --- audio ---------------------------------------------------------------------------------------------------------


def test_a_wav_keeps_its_samples_and_its_rate(tmp_path):
    counts = np.array([0, 1, -32768, 32767, 16384], np.int16)
    audio = read_audio(_wav(tmp_path / "a.wav", counts, 22050))
    assert audio.rate == 22050
    assert audio.samples.dtype == np.float32
    assert audio.samples.tolist() == [int(c) / 32768 for c in counts]


@pytest.mark.parametrize("channels", [1, 3])
def test_sound_that_is_decoded_a_block_at_a_time_is_the_same(tmp_path, monkeypatch, channels):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (1000, channels)), 8000)
    whole = read_audio(path).samples
    monkeypatch.setattr("mmcl.media.sound.BLOCK", 96)  # no divisor of what there is
    assert np.array_equal(read_audio(path).samples, whole)
    spoilt = np.zeros((1000, channels), np.float32)
    spoilt[517, -1] = np.nan
    soundfile.write(tmp_path / "b.wav", spoilt, 8000, subtype="FLOAT")
    with pytest.raises(DataError, match="sample 517 is NaN or infinite"):
        read_audio(tmp_path / "b.wav")


def test_a_long_sound_stays_in_its_file_and_is_the_same(tmp_path, monkeypatch):
    wave = np.random.default_rng(0).uniform(-1, 1, (5000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 44100)
    whole = read_audio(tmp_path / "a.wav")
    resampled = at_rate(whole, 16_000)
    monkeypatch.setattr("mmcl.media.sound.BLOCK", 700)
    assert type(open_audio(tmp_path / "a.wav")) is Audio  # it is short
    monkeypatch.setattr("mmcl.media.sound.LONG", 4000)
    long = open_audio(tmp_path / "a.wav")
    assert max(map(len, long.blocks())) == 700
    assert np.array_equal(np.concatenate(list(blocks_at_rate(long, 16_000))), resampled)
    assert np.array_equal(at_rate(long, 16_000, longest=0.05), resampled[:800])
    assert "samples" not in vars(long)  # nothing of that has read it whole
    for one in (long, pickle.loads(pickle.dumps(long))):
        assert np.array_equal(one.samples, whole.samples)
        assert one.rate == 44100


def test_damage_in_a_long_sound_is_told_when_it_is_come_to(tmp_path, monkeypatch):
    monkeypatch.setattr("mmcl.media.sound.LONG", 400)
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-1, 1, 50_000), 8000)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"b\.flac: .*(cut short|cannot be decoded)"):
        at_rate(open_audio(tmp_path / "b.flac"), 8000)
    spoilt = np.zeros(1000, np.float32)
    spoilt[517] = np.inf
    soundfile.write(tmp_path / "c.wav", spoilt, 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"c\.wav: sample 517 is NaN or infinite"):
        at_rate(open_audio(tmp_path / "c.wav"), 8000)


@pytest.mark.parametrize(("length", "hop", "before"), [(9, 4, 4), (4, 9, 2), (8, 8, 0), (6, 1, 6)])
@pytest.mark.parametrize("samples", [0, 1, 3, 64, 101])
def test_frames_are_the_same_however_sound_is_cut_into_blocks(length, hop, before, samples):
    sound = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    padded = np.concatenate([np.zeros(before), sound, np.zeros(length + hop)])
    expected = [padded[k * hop : k * hop + length] for k in range(1 + samples // hop)]
    for cuts in ([], [1], [2, 2, 50], range(samples)):
        given = list(Framing(length, hop, before, 5).over(np.split(sound, list(cuts))))
        assert [len(frames) for frames in given[:-1]] == [5] * (len(given) - 1)
        assert np.array_equal(np.concatenate(given), np.array(expected, np.float32))


def test_sound_beyond_all_bounds_is_refused_and_whole_numbers_are_taken():
    with pytest.raises(DataError, match=r"a sample is 1e\+30; sound between -1 and 1 was expected"):
        at_rate(Audio(np.array([0, 1e30], np.float32), 8000), 8000)
    at_rate(Audio(np.array([0, 2.0**31], np.float32), 8000), 8000)


def test_stereo_is_mixed_to_the_mean_of_its_channels(tmp_path):
    wave = _noise(500, 2)
    audio = read_audio(_wav(tmp_path / "a.wav", wave, subtype="FLOAT"))
    left, right = wave.astype(np.float32).T
    assert audio.samples.shape == (500,)
    np.testing.assert_allclose(audio.samples, [(a + b) / 2 for a, b in zip(left, right, strict=True)], atol=1e-7)


def test_stereo_is_refused_where_mixing_was_not_asked_for(tmp_path):
    path = _wav(tmp_path / "a.wav", _noise(50, 2))
    _refusal(lambda: read_audio(path, mono=False), str(path), "2 channels")
    assert read_audio(_wav(tmp_path / "b.wav", _noise(50)), mono=False).samples.shape == (50,)


@pytest.mark.parametrize("lost", [1, 2, 999, 15_999])
def test_a_wav_cut_anywhere_in_its_sound_is_refused(tmp_path, lost):
    path = _wav(tmp_path / "a.wav", _noise(8000))
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    _refusal(lambda: read_audio(path), str(path), "cut short", "16,000 bytes", f"{16_000 - lost:,}")
    path.write_bytes(whole)
    assert len(read_audio(path).samples) == 8000


def test_a_cut_is_seen_behind_other_chunks_of_odd_length(tmp_path):
    whole = _wav(tmp_path / "a.wav", _noise(100)).read_bytes()
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    path = tmp_path / "b.wav"
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8 + len(extra)) + whole[8:36] + extra + whole[36:])
    assert len(read_audio(path).samples) == 100
    path.write_bytes(path.read_bytes()[:-10])
    _refusal(lambda: read_audio(path), "cut short", "200 bytes", "190")


def test_a_long_wav_whose_length_stands_apart_is_held_to_it(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(300), 8000, format="RF64", subtype="PCM_16")
    assert path.read_bytes()[:4] == b"RF64"
    assert len(read_audio(path).samples) == 300
    path.write_bytes(path.read_bytes()[:-100])
    _refusal(lambda: read_audio(path), "cut short", "600 bytes", "500")


def test_a_wav_written_into_a_pipe_has_no_length_to_be_held_to(tmp_path):
    path = _wav(tmp_path / "a.wav", _noise(100))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(read_audio(path).samples) == 100


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB, 2_000_000_000], ids=hex)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_whose_header_was_never_finished_is_read_to_its_end(tmp_path, length, channels):
    """As sox, ffmpeg, servers of speech and recorders that were stopped leave them."""
    wave = _noise(100, channels)
    path = _wav(tmp_path / "a.wav", wave)
    wanted = read_audio(path).samples
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", min(0xFFFFFFFF, length + 36) if length else 0)
    data[40:44] = struct.pack("<I", length)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_audio(path).samples, wanted)
    assert sound_header(path).seconds == len(wanted) / 8000
    path.write_bytes(data[:-1])
    for read in (read_audio, sound_header):
        _refusal(lambda read=read: read(path), str(path), "never finished", f"{200 * channels - 1:,} bytes")


def test_a_wav_without_sound_is_no_unfinished_one(tmp_path):
    path = _wav(tmp_path / "a.wav", _noise(0))
    _refusal(lambda: read_audio(path), "holds no samples")
    extra = b"LIST" + struct.pack("<I", 4) + b"abcd"
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8 + len(extra)) + whole[8:] + extra)
    _refusal(lambda: read_audio(path), "holds no samples")


@pytest.mark.parametrize("kept", [1, 11, 12, 30, 44])
def test_a_wav_cut_in_its_header_or_before_its_sound_is_refused(tmp_path, kept):
    path = _wav(tmp_path / "a.wav", _noise(100))
    path.write_bytes(path.read_bytes()[:kept])
    _refusal(lambda: read_audio(path), str(path))


def test_a_flac_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, _noise(40_000), 8000)
    assert len(read_audio(path).samples) == 40_000
    path.write_bytes(path.read_bytes()[:-20_000])
    _refusal(lambda: read_audio(path), str(path))


def test_what_is_no_sound_is_refused(tmp_path):
    empty, text, silent = tmp_path / "empty.wav", tmp_path / "text.wav", _wav(tmp_path / "silent.wav", np.zeros(0))
    empty.touch()
    text.write_text("not a wav at all\n" * 20)
    _refusal(lambda: read_audio(empty), str(empty), "is empty", "sound file was expected")
    _refusal(lambda: read_audio(text), str(text), "sound file was expected")
    _refusal(lambda: read_audio(silent), str(silent), "no samples")
    _refusal(lambda: read_audio(tmp_path / "none.wav"), "is not there", "sound file was expected")
    _refusal(lambda: read_audio(tmp_path), "is not a file")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_with_its_place(tmp_path, bad):
    wave = _noise(100, 2)
    wave[71, 1] = bad
    path = _wav(tmp_path / "a.wav", wave, subtype="FLOAT")
    _refusal(lambda: read_audio(path), str(path), "sample 71")


# --- tables --------------------------------------------------------------------------------------------------------


def _csv(path: Path, text: str) -> Path:
    path.write_text(text, newline="")
    return path


def test_a_table_keeps_its_numbers_and_strips_its_names(tmp_path):
    table = read_table(_csv(tmp_path / "a.csv", "frame, AU01_r ,\tAU02_r\r\n1, 0.5, -2e-1\r\n2,1,  3\r\n"))
    assert table.columns == ("frame", "AU01_r", "AU02_r")
    assert table.values.dtype == np.float32
    assert table.values.tolist() == np.array([[1, 0.5, -0.2], [2, 1, 3]], np.float32).tolist()
    assert table.rate is None


def test_the_rate_comes_from_the_timestamps_over_the_whole_table(tmp_path):
    times = [round(i * 1001 / 30000, 3) for i in range(90)]
    path = _csv(tmp_path / "a.csv", "timestamp,x\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times)))
    assert read_table(path).rate == pytest.approx(30000 / 1001, rel=2e-4)
    assert read_table(path, rate=25.0).rate == 25.0


def test_one_row_has_no_rate_whatever_its_timestamp(tmp_path):
    assert read_table(_csv(tmp_path / "a.csv", "timestamp,x\n0.0,1\n")).rate is None


def test_blank_lines_and_a_byte_order_mark_are_no_data(tmp_path):
    table = read_table(_csv(tmp_path / "a.csv", "\ufeffx,y\n1,2\n\n3,4\n   \n"))
    assert (table.columns, table.values.tolist()) == (("x", "y"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-inf", "", " ", "x", "1e39", "1_0", "#", "0.5.1"])
def test_a_cell_that_is_no_number_is_refused_with_its_line_and_column(tmp_path, cell):
    path = _csv(tmp_path / "a.csv", f"x, y,z\n1,2,3\n\n4,{cell},6\n7,8,9\n")
    _refusal(lambda: read_table(path), str(path), "line 4", "'y'", repr(cell.strip()))


@pytest.mark.parametrize("line", ["4", "4,5,6", "4,5,"])
def test_a_line_of_another_length_is_refused_with_its_number(tmp_path, line):
    path = _csv(tmp_path / "a.csv", f"x,y\n1,2\n{line}\n")
    _refusal(lambda: read_table(path), str(path), "line 3", f"{line.count(',') + 1} cells")


def test_lines_that_agree_with_each_other_but_not_with_the_header_are_refused(tmp_path):
    path = _csv(tmp_path / "a.csv", "x,y\n1,2,3\n4,5,6\n")
    _refusal(lambda: read_table(path), "line 2", "3 cells", "header 2")


def test_a_table_without_header_rows_or_text_is_refused(tmp_path):
    empty, header = _csv(tmp_path / "empty.csv", ""), _csv(tmp_path / "header.csv", "x,y\n")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(128, 256)) * 4)
    _refusal(lambda: read_table(empty), str(empty), "is empty")
    _refusal(lambda: read_table(header), str(header), "no rows")
    _refusal(lambda: read_table(binary), str(binary), "not text")
    _refusal(lambda: read_table(tmp_path / "none.csv"), "is not there")
    _refusal(lambda: read_table(_csv(tmp_path / "twice.csv", "x, x\n1,2\n")), "'x' is named twice")


def _openface(path, rows, columns="frame,face_id,timestamp,confidence,success,pose_Tx,AU01_r"):
    """A table as OpenFace writes it, 30 frames a second; AU01_r is the time of its row."""
    names = columns.split(",")
    whole = [
        {
            "frame": f + 1,
            "face_id": 0,
            "timestamp": f"{f / 30:.3f}",
            "confidence": 0.98,
            "success": 1,
            "pose_Tx": 0,
            "AU01_r": f / 30,
            **more,
        }
        for f, more in rows
    ]
    return _csv(path, ", ".join(names) + "\n" + "".join(", ".join(str(row[name]) for name in names) + "\n" for row in whole))


@pytest.mark.parametrize("cell", ["-nan(ind)", "nan", "", "inf", "1.#QNAN"])
def test_a_cell_of_a_row_without_a_face_may_be_no_number(tmp_path, cell):
    rows = [(f, {"success": 0, "confidence": cell, "AU01_r": cell} if f in (3, 4) else {}) for f in range(9)]
    seen = Counter()
    table = read_table(_openface(tmp_path / "a.csv", rows), seen=seen)
    assert table.values[:, 6].tolist() == [np.float32(0 if f in (3, 4) else f / 30) for f in range(9)]
    assert seen == {"cells that are no numbers, in rows without a face": 4}
    rows[5] = (5, {"AU01_r": cell})
    path = _openface(tmp_path / "b.csv", rows)
    _refusal(lambda: read_table(path), "line 7", "'AU01_r'", repr(cell))


@pytest.mark.parametrize("columns", ["frame,timestamp,success,AU01_r", "timestamp,success,AU01_r", "frame,timestamp,AU01_r"])
def test_a_row_stands_at_its_own_time_where_others_were_left_out(tmp_path, columns):
    """A tool that drops frames without a face must not move the later ones forward."""
    left_out = (4, 5, 6, 20, 21)
    seen = Counter()
    path = _openface(tmp_path / "a.csv", [(f, {}) for f in range(40) if f not in left_out], columns)
    table = read_table(path, seen=seen)
    assert table.rate == pytest.approx(30, rel=1e-3)
    assert len(table.values) == 40
    assert seen == {"frames without a row, filled in": 5}
    unit = table.values[:, columns.split(",").index("AU01_r")]
    for frame in range(40):
        if frame not in left_out or "success" not in columns:
            assert unit[frame] == pytest.approx(frame / 30, abs=1e-3)
    if "success" in columns:
        success = table.values[:, columns.split(",").index("success")]
        assert np.flatnonzero(success == 0).tolist() == list(left_out)


def test_rows_that_begin_late_by_number_and_time_do_so(tmp_path):
    table = read_table(_openface(tmp_path / "a.csv", [(f, {}) for f in range(6, 30)]))
    assert table.values[6:, 6].tolist() == [np.float32(f / 30) for f in range(6, 30)]
    assert (table.values[:6, 4] == 0).all()
    assert table.values[:, 0].tolist() == list(range(1, 31))


def test_times_that_are_no_even_steps_leave_rows_as_they_are(tmp_path):
    times = [0, 0.5, 0.6, 1.3, 1.45, 3.0]
    path = _csv(tmp_path / "a.csv", "timestamp,x\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times)))
    assert read_table(path).values.shape == (6, 2)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"confidence": 0.9}, {"confidence": 0.95}, 1),
        ({"pose_Tx": 200}, {"pose_Tx": -3}, 1),
        ({}, {}, 0),
        ({}, {"success": 0}, 0),
    ],
    ids=["surer", "nearer to the axis", "of the smaller number", "not seen"],
)
def test_of_two_faces_one_person_is_read_throughout_and_counted(tmp_path, first, second, chosen):
    rows = [
        (f, {"face_id": who, "AU01_r": who, **(first, second)[who]})
        for f in range(20)
        for who in (0, 1)
        if (f, who) != (7, chosen)
    ]
    seen = Counter()
    table = read_table(_openface(tmp_path / "a.csv", rows), seen=seen)
    assert len(table.values) == 20
    assert [f for f in range(20) if table.values[f, 4] == 0] == [7]  # the other one stays alone, and is not taken for the first
    assert set(table.values[np.arange(20) != 7, 6].tolist()) == {chosen}
    assert seen["frames with several faces, of which one is read"] == 19
    assert seen["frames with another face alone"] == 1


def test_timestamps_that_do_not_rise_are_refused(tmp_path):
    path = _csv(tmp_path / "a.csv", "timestamp,x\n0,1\n0.1,1\n0.1,1\n")  # no column says which face
    _refusal(lambda: read_table(path), str(path), "'timestamp'", "row 3")
    assert read_table(path, rate=10.0).values.shape == (3, 2)


# --- MATLAB files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_an_array_comes_back_as_it_was_saved(tmp_path, compressed):
    array = np.random.default_rng(0).integers(0, 4000, (5, 4, 3)).astype(np.uint16)
    savemat(tmp_path / "a.mat", {"other": np.ones(3), "d": array}, do_compression=compressed)
    back = read_mat(tmp_path / "a.mat", "d")
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, array)


def test_a_missing_array_is_refused_with_the_names_of_those_there(tmp_path):
    savemat(tmp_path / "a.mat", {"d_skel": np.ones(3), "notes": np.ones(2)})
    _refusal(lambda: read_mat(tmp_path / "a.mat", "d_iner"), "a.mat", "'d_iner'", "d_skel", "notes")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_mat_cut_anywhere_is_refused(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, {"d": np.random.default_rng(0).normal(size=(20, 3, 5))}, do_compression=compressed)
    whole = path.read_bytes()
    for kept in [0, 1, 100, 127, 128, 130, 136, 180, 200, *range(300, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:kept])
        _refusal(lambda: read_mat(path, "d"), str(path), "'d'")


def test_what_is_no_array_of_finite_numbers_is_refused(tmp_path):
    values = np.ones((4, 3))
    values[2, 1] = np.nan
    savemat(tmp_path / "nan.mat", {"d": values})
    savemat(tmp_path / "words.mat", {"d": "words"})
    _refusal(lambda: read_mat(tmp_path / "nan.mat", "d"), "nan.mat", "'d'", "[2, 1]")
    _refusal(lambda: read_mat(tmp_path / "words.mat", "d"), "words.mat", "'d'", "real numbers")
    _refusal(lambda: read_mat(tmp_path / "none.mat", "d"), "none.mat", "is not there")


def test_a_mat_of_version_7_3_is_refused_with_the_way_out(tmp_path):
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
    (tmp_path / "a.mat").write_bytes(header.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(500))
    _refusal(lambda: read_mat(tmp_path / "a.mat", "d"), "a.mat", "7.3", "-v7")


# --- folders -------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused_with_what_belongs_there_and_how_to_get_it(tmp_path):
    for path in (None, tmp_path / "none"):
        text = _refusal(lambda path=path: require_folder(path, "Actor_01/…", "Download it."), "Actor_01/…", "Download it.")
        assert path is None or str(path) in text


def test_a_folder_that_holds_none_of_what_is_expected_is_refused(tmp_path):
    (tmp_path / "Skeleton").mkdir()
    assert require_folder(tmp_path, "…", "Get it.", holds=("Depth", "Skel*")) == tmp_path
    _refusal(lambda: require_folder(tmp_path, "Depth/…", "Get it.", holds=("Depth",)), str(tmp_path), "Depth/…", "Get it.")


# --- parts of films ------------------------------------------------------------------------------------------------


def _film(path: Path, codec: str = "libx264", frames: int = 160, left_out: tuple[int, ...] = ()) -> Path:
    """A film whose frames all differ, with B-frames and a keyframe every 40 frames at most."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as film:
        video = film.add_stream(codec, rate=25, options={"sc_threshold": "0"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.gop_size, video.codec_context.max_b_frames = 40, 3
        for i in range(frames):
            if i not in left_out:
                picture = np.full((32, 48, 3), 40 + i, np.uint8)
                picture[:, i % 48] = 255
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = i
                film.mux(video.encode(frame))
        film.mux(video.encode())
    return path


@pytest.fixture
def decoded(monkeypatch):
    """The frames that have been decoded, in a list that grows."""
    stamps = []
    real = film._decoded

    def counting(*given):
        for frame in real(*given):
            stamps.append(frame.pts)
            yield frame

    monkeypatch.setattr(film, "_decoded", counting)
    return stamps


PARTS = [(a / 25, (a + n) / 25) for a in (0, 1, 38, 39, 40, 41, 79, 97, 120, 158) for n in (1, 2, 45) if a + n <= 160]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mp4", "mpeg4"), ("a.avi", "mpeg4")])
def test_a_part_of_a_film_is_what_is_cut_from_the_whole_and_little_else_is_decoded(tmp_path, decoded, name, codec):
    path = _film(tmp_path / name, codec)
    whole = read_film(path, (16, 24), 0.0)
    assert len(whole.frames) == 160
    assert len({frame.tobytes() for frame in whole.frames}) == 160
    import av.video.frame

    with av.open(str(path)) as film:
        kinds = [av.video.frame.PictureType(frame.pict_type).name for frame in film.decode(video=0)]
    assert "B" in kinds
    for start, end in PARTS:
        decoded.clear()
        got = read_film(path, (16, 24), 0.0, start, end)
        assert got.rate == 25
        np.testing.assert_array_equal(got.frames, whole.frames[round(start * 25) : round(end * 25)])
        assert len(decoded) <= round((end - start) * 25) + 2 * 40 + 8  # a part, the way from its keyframe, and a look for it
    np.testing.assert_array_equal(read_film(path, (16, 24), 0.0, 5.0).frames, whole.frames[125:])
    np.testing.assert_array_equal(read_film(path, (16, 24), 0.0, end=1.0).frames, whole.frames[:25])
    np.testing.assert_array_equal(read_film(path, (16, 24), 0.0, 2.0, 2.0).frames, whole.frames[50:51])  # one at least


@pytest.mark.parametrize(
    ("name", "codec", "left_out"),
    [("a.mkv", "libx264", ()), ("a.mpg", "mpeg2video", ()), ("a.mp4", "libx264", (50, 51, 52)), ("h.avi", "libx264", ())],
    ids=["does not count its frames", "begins at another time", "frames left out", "times out of order"],
)
def test_where_times_do_not_tell_the_frames_numbers_they_are_counted(tmp_path, name, codec, left_out):
    path = _film(tmp_path / name, codec, left_out=left_out)
    whole = read_film(path, (16, 24), 0.0)
    for start, end in PARTS:
        first, last = round(start * whole.rate), max(round(start * whole.rate) + 1, round(end * whole.rate))
        if last <= len(whole.frames):
            np.testing.assert_array_equal(read_film(path, (16, 24), 0.0, start, end).frames, whole.frames[first:last])


def _timed_film(path: Path, times, sound_from: float | None = None) -> Path:
    """A film whose frames are shown at these seconds, each as grey as its time; with a click in its sound after a second."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=30, options={"qscale": "1", "g": "1"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 600)
        voice = None if sound_from is None else film.add_stream("pcm_s16le", rate=8000, layout="mono")
        for second in times:
            frame = av.VideoFrame.from_ndarray(
                np.full((32, 32, 3), min(255, round(20 + second * 55)), np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = round(second * 600), Fraction(1, 600)
            film.mux(video.encode(frame))
        film.mux(video.encode())
        if voice is not None:
            samples = np.zeros((1, 16000), np.int16)
            samples[0, 8000] = 20000
            wave = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            wave.rate, wave.time_base, wave.pts = 8000, Fraction(1, 8000), round(sound_from * 8000)
            film.mux(voice.encode(wave))
            film.mux(voice.encode())
    return path


SLOWER = [*(i / 30 for i in range(60)), *(2 + i / 10 for i in range(20))]  # a recorder that fell from 30 frames a second to 10


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_picture_stands_at_its_own_second_where_a_film_has_no_even_rate(tmp_path, name):
    path = _timed_film(tmp_path / name, SLOWER)
    whole = read_film(path, (8, 8), 0.0)
    assert whole.rate == pytest.approx(30, rel=1e-2)

    def seconds(frames):
        return (frames.mean(axis=(1, 2, 3)) - 20) / 55

    def wanted(at):
        return SLOWER[max(i for i, second in enumerate(SLOWER) if second <= at + 0.01)]

    at = np.arange(len(whole.frames)) / whole.rate
    assert at[-1] == pytest.approx(3.9, abs=0.04)
    np.testing.assert_allclose(seconds(whole.frames), [wanted(second) for second in at], atol=0.08)
    np.testing.assert_allclose(
        seconds(np.stack(list(film.film_frames(path, 5.0)))), [wanted(k / 5) for k in range(20)], atol=0.08
    )
    for start, end in ((0.0, 1.0), (1.0, 1.5), (1.8, 2.6), (3.0, 3.5)):
        part = read_film(path, (8, 8), 0.0, start, end)
        np.testing.assert_array_equal(part.frames, whole.frames[round(start * whole.rate) : round(end * whole.rate)])


@pytest.mark.parametrize(("pictures_from", "sound_from"), [(0.0, 0.5), (0.4, 0.0)])
def test_pictures_and_sound_have_one_time_where_one_begins_later(tmp_path, pictures_from, sound_from):
    path = _timed_film(tmp_path / "a.mkv", [pictures_from + i / 30 for i in range(60)], sound_from)
    whole, sound = read_film(path, (8, 8), 0.0), read_sound(path)
    assert np.argmax(np.abs(sound.samples)) / sound.rate == pytest.approx(1 + sound_from, abs=0.002)
    for second in (0.6, 1.0, 1.5):
        grey = whole.frames[round(second * whole.rate)].mean()
        assert (grey - 20) / 55 == pytest.approx(second, abs=0.06)
        part = read_film(path, (8, 8), 0.0, second, second + 0.2)
        assert (part.frames[0].mean() - 20) / 55 == pytest.approx(second, abs=0.06)


@pytest.mark.parametrize("late", [0.0, 1.5])
def test_the_head_of_a_film_says_the_length_that_is_read(tmp_path, late):
    path = _timed_film(tmp_path / "a.mp4", [late + i / 30 for i in range(60)], 0.0)
    whole = read_film(path, (8, 8), 0.0)
    assert film_length(path) == pytest.approx(len(whole.frames) / whole.rate, abs=0.1)
    assert film_length(path) == pytest.approx(late + 2, abs=0.1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_damaged_time_stamp_makes_no_film_of_any_length(tmp_path, name):
    path = _timed_film(tmp_path / name, [*(i / 30 for i in range(60)), 900.0])
    for read in (lambda: read_film(path, (8, 8), 0.0), lambda: read_film(path, (8, 8), 0.0, 1.0, 2.0)):
        _refusal(read, str(path), "its 61 frames have time stamps that leave gaps of 898 s")


def test_a_part_after_the_end_is_refused_and_a_tenth_of_it_is_forgiven(tmp_path):
    path = _film(tmp_path / "a.mp4")
    assert len(read_film(path, (16, 24), 0.0, 4.4, 6.5).frames) == 50
    for start, end, part in (
        (4.4, 7.0, "4.40 s to 7.00 s"),
        (6.4, 6.5, "6.40 s to 6.50 s"),
        (90.0, None, "90.00 s to its end"),
    ):
        _refusal(lambda s=start, e=end: read_film(path, (16, 24), 0.0, s, e), str(path), "ends after 6.40 s", part)
    for name, codec in (("b.mp4", "libx264"), ("b.avi", "mpeg4")):
        cut = _film(tmp_path / name, codec)
        cut.write_bytes(cut.read_bytes()[:-500])
        _refusal(lambda path=cut: read_film(path, (16, 24), 0.0, 0.0, 1.0), str(cut), "cut short: 500 bytes")


def test_a_part_of_a_folder_of_pictures_opens_those_alone(tmp_path):
    from PIL import Image

    for i in range(3, 43):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "41.png").write_bytes(b"no picture")
    got = read_film(tmp_path, (2, 2), 10.0, 1.0, 2.0)
    assert got.frames[:, 0, 0, 0].tolist() == list(range(13, 23))
    _refusal(lambda: read_film(tmp_path, (2, 2), 10.0, 3.5, 4.0), "41.png", "cannot be decoded")
    _refusal(lambda: read_film(tmp_path, (2, 2), 10.0, 4.5, 5.0), str(tmp_path), "ends after 4.00 s")
    (tmp_path / "20.png").unlink()
    _refusal(lambda: read_film(tmp_path, (2, 2), 10.0, 0.0, 0.5), "picture 20 is missing")


# --- a corpus ------------------------------------------------------------------------------------------------------


class Corpus:
    """A dataset as authors write it: files of a folder, listed once."""

    def __init__(self, root: Path | None) -> None:
        self.recordings = Recordings(root, "*.wav", "Ask for it.", "utterance", holds=("*.wav",))
        self.listings = 0

    def samples(self):
        return self.recordings.all(self._listing)

    def _listing(self, root: Path):
        self.listings += 1
        for path in sorted(root.glob("*.wav")):
            yield SampleRef(path.stem, "one", {"audio": path.name}, {})


def test_recordings_are_listed_once_and_known_by_their_ids(tmp_path):
    for name in ("b", "a"):
        _wav(tmp_path / f"{name}.wav", _noise(10))
    corpus = Corpus(tmp_path)
    assert [sample.id for sample in corpus.samples()] == ["a", "b"]
    assert corpus.samples() is corpus.samples()
    assert corpus.listings == 1
    assert corpus.recordings.one("b", "audio") is corpus.samples()[1]
    assert corpus.recordings.file("b", "audio") == tmp_path / "b.wav"
    assert corpus.recordings.folder() == tmp_path
    assert [sample.id for sample in pickle.loads(pickle.dumps(corpus)).samples()] == ["a", "b"]


def test_a_recording_or_a_source_that_is_not_there_is_refused_by_name(tmp_path):
    _wav(tmp_path / "a.wav", _noise(10))
    corpus = Corpus(tmp_path)
    corpus.samples()
    _refusal(lambda: corpus.recordings.file("c", "audio"), f"{tmp_path}: utterance 'c' is not there")
    _refusal(lambda: corpus.recordings.one("a", "video", " (it is damaged)"), "utterance 'a' has no video (it is damaged)")
    _refusal(lambda: Corpus(None).samples(), "no data folder was given", "*.wav", "Ask for it.")
    (tmp_path / "empty").mkdir()
    _refusal(lambda: Corpus(tmp_path / "empty").samples(), "has none of *.wav")


def test_a_dataset_that_is_let_go_is_gone_with_the_files_it_holds_open(tmp_path):
    _wav(tmp_path / "a.wav", _noise(10))
    corpus = Corpus(tmp_path)
    corpus.samples()
    gc.disable()
    try:
        gone = weakref.ref(corpus)
        del corpus
        assert gone() is None
    finally:
        gc.enable()


def test_folders_are_walked_once_in_order_and_hidden_names_passed_over(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a/x/3.txt", "a/._3.txt", ".git/4.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    walked = [(folder.relative_to(tmp_path).as_posix(), files) for folder, _, files in walk_folders(tmp_path)]
    assert walked == [(".", []), ("a", []), ("a/x", ["3.txt"]), ("b", ["1.txt", "2.txt"])]
    visited = []
    for folder, folders, _ in walk_folders(tmp_path):
        visited.append(folder.name)
        if folder.name == "a":
            folders.clear()
    assert visited == [tmp_path.name, "a", "b"]


@dataclass(frozen=True)
class Defects:
    no_film: list[str] = defect("turns without a film")
    broken: dict[str, str] = defect("broken clips", dict)


def test_defects_are_counted_by_their_names_and_each_copy_has_its_own():
    one, other = Defects(), Defects(broken={"a": "cut", "b": "cut"})
    one.no_film.append("a")
    assert count_defects(one) == {"turns without a film": 1, "broken clips": 0}
    assert count_defects(other) == {"turns without a film": 0, "broken clips": 2}
    assert count_defects(other, leave_out=("broken",)) == {"turns without a film": 0}


@pytest.mark.parametrize(("text", "yes"), [("1", True), ("-2.5e3", True), ("nan", True), ("", False), ("1.2.3", False)])
def test_a_number_is_what_float_reads(text, yes):
    assert is_number(text) is yes


# --- a dataset's own sample ----------------------------------------------------------------------------------------


def test_a_sound_that_is_written_is_read_again_and_cut_at_full_scale(tmp_path):
    wave = np.array([0.0, 0.5, -1.0, 2.0, -3.0])
    write_audio(tmp_path / "deep" / "a.wav", wave, 22050)
    audio = read_audio(tmp_path / "deep" / "a.wav")
    assert audio.rate == 22050
    np.testing.assert_allclose(audio.samples, [0, 0.5, -1, 32767 / 32768, -1], atol=1 / 32768)
    assert soundfile.info(tmp_path / "deep" / "a.wav").subtype == "PCM_16"


def test_an_oval_nods_about_its_place():
    frames = nodding_oval(20, 10.0, 12, 0.5, 32, skin=(200, 100, 50), wall=(1, 2, 3))
    assert frames.shape == (20, 36, 64, 3)
    assert frames.dtype == np.uint8
    for t, frame in enumerate(frames):
        bright = np.argwhere(frame[..., 0] == 200)
        wanted = 12 + 2 * np.sin(np.pi * t / 10)
        assert abs(bright[:, 0].mean() - wanted) < 0.6
        assert abs(bright[:, 1].mean() - 32) < 0.6
        assert {tuple(colour) for colour in frame.reshape(-1, 3).tolist()} == {(200, 100, 50), (1, 2, 3)}


def test_a_wall_is_lit_where_and_while_it_is_asked_for():
    frames = lit_wall(4, 2, 6, [(1, 3, slice(0, 3), 200), (2, 4, slice(5, 6), 90)])
    wanted = np.full((4, 2, 6), 40)
    wanted[1:3, :, :3] = 200
    wanted[2:4, :, 5] = 90
    for channel in range(3):
        np.testing.assert_array_equal(frames[..., channel], wanted)


# ------------------------------------------------------------------------------------------------ the cache, and pointers


def test_cache_that_cannot_be_written_is_one_sentence_that_says_what_to_set(tmp_path, monkeypatch):
    """Root may write anywhere, so a file stands where the folder would have to be made."""
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="cannot be written .*: name one that can be written in MMCL_CACHE"):
        cached_folder("a", lambda folder: None)
    monkeypatch.delenv("MMCL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"file/\.cache/mmcl: the cache cannot be written .*MMCL_CACHE"):
        cached_folder("a", lambda folder: None)


def test_cached_folder_is_written_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path))
    calls = []

    def write(folder: Path) -> None:
        calls.append(folder)
        (folder / "a").write_text("1")
        if len(calls) == 1:
            raise DataError("half way")

    with pytest.raises(DataError, match="half way"):
        cached_folder("a", write)
    assert not list(tmp_path.iterdir())
    assert cached_folder("a", write) == cached_folder("a", write) == tmp_path / "a"
    assert len(calls) == 2


def test_full_disk_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path))

    def write(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="the disk is full .*MMCL_CACHE"):
        cached_folder("a", write)


@pytest.mark.parametrize("read", [read_audio, read_table, read_array, lambda path: read_film(path, (8, 8), 25.0)])
def test_pointer_of_git_lfs_is_called_one(tmp_path, read):
    path = tmp_path / "a.npy"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(DataError, match="is a pointer of Git LFS.*git lfs pull"):
        read(path)


CODECS = ("GSM610", "G721_32", "IMA_ADPCM", "MS_ADPCM", "ULAW", "ALAW", "PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("samples", [161, 8000, 8001])
def test_an_intact_wav_of_any_codec_is_read_whole(codec, samples, tmp_path):
    """Codecs that cannot be jumped about in are read in blocks here, as they were meant to be."""
    wave = 0.3 * np.sin(np.arange(samples) / 9)
    soundfile.write(tmp_path / "a.wav", wave, 8000, format="WAV", subtype=codec)
    blocks = []
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        while len(block := file.read(50, dtype="float32")):
            blocks.append(block)
    read = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read.samples, np.concatenate(blocks))
    assert len(read.samples) >= samples
    assert np.abs(read.samples[:samples] - wave).max() < 0.3  # it is that sound
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-60])
    with pytest.raises(DataError, match="cut short|cannot be decoded|no samples"):
        read_audio(tmp_path / "a.wav")
