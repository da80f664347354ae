"""FACEGOOD: what is listed and cut, that voice and face are of the same seconds, how the official split lies, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mmcl_facegood
import numpy as np
import pytest
from mmcl_facegood import BLENDSHAPES, MOVING, FacegoodParams

from mmcl.testing import check_dataset
from mmcl.testing.corpora import dataset_of, expect_refusal, real_data, tiny_copies

FACEGOOD = dataset_of(mmcl_facegood)
_, tiny = tiny_copies(FACEGOOD, 30)


def open_corpus(root, **options):
    return FACEGOOD.build(FacegoodParams(**options), root)


def rewrite(path: Path, **changed) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, **changed})


@pytest.mark.parametrize(
    "options", [{}, {"seconds": None}, {"seconds": 0.5, "hop": 0.2}, {"blendshapes": "all"}, {"valid": "ends"}], ids=str
)
def test_the_toolkits_own_checks_pass(options, tmp_path):
    check_dataset(FACEGOOD, tmp_path, FacegoodParams(**options))


def test_takes_are_cut_into_pieces_and_the_rest_is_left(tiny):
    samples = open_corpus(tiny).samples()
    assert [s.id for s in samples] == [f"2_0{take}#{k}" for take in (1, 2, 3) for k in range(10)]  # 10.4 s each
    assert all(s.targets == {} for s in samples)
    assert [s.facts["second"] for s in samples[:3]] == [0, 1, 2]
    overlapping = open_corpus(tiny, hop=0.25).samples()
    assert len(overlapping) == 3 * 38  # beginnings 0, 0.25 … 9.25; one at 9.5 would need every frame to the last
    expect_refusal(lambda: open_corpus(tiny, seconds=11.0).samples(), "no take is 11 s long")


def test_a_piece_of_the_voice_is_its_seconds_of_the_take(tiny):
    data = open_corpus(tiny, hop=0.5)
    with np.load(tiny / "voice_pcm16k.npz") as file:
        take = file["x"][file["offsets"][1] : file["offsets"][2]]
    for k in (0, 3, 18):
        read = data.read(f"2_02#{k}", "voice")
        np.testing.assert_array_equal(read.samples, (take[8000 * k : 8000 * k + 16000] / 32768).astype(np.float32))
        assert read.rate == 16000


def test_a_piece_of_the_face_begins_where_the_takes_own_clock_says(tmp_path):
    """Frames hold the second at which they were seen, by a clock of 29.8 a second: over a minute that is 12 frames."""
    seconds, rate = 60.0, 29.8
    count = int(seconds * rate)
    (tmp_path / "takes.csv").write_text(f"id,duration_s,n_face,face_fps\nt,{seconds},{count},{rate}\n")
    frames = np.zeros((count, 116), np.float16)
    frames[:, BLENDSHAPES.index("tooth_d_d")] = np.arange(count) / rate / 100
    np.savez(tmp_path / "face_blendshapes.npz", x=frames, offsets=[0, count], ids=["t"], names=BLENDSHAPES)
    data = open_corpus(tmp_path)
    for k in range(0, 59, 7):
        read = data.read(f"t#{k}", "face")
        assert read.values.shape == (30, 25)
        assert 100 * read.values[0, MOVING.index("tooth_d_d")] == pytest.approx(k, abs=0.5 / rate + 0.02)  # float16


def test_blendshapes_are_taken_by_name(tiny):
    moving, every = (
        open_corpus(tiny).read("2_01#0", "face").values,
        open_corpus(tiny, blendshapes="all").read("2_01#0", "face").values,
    )
    assert (moving.shape, every.shape) == ((30, 25), (30, 116))
    for k, name in enumerate(MOVING):
        np.testing.assert_array_equal(moving[:, k], every[:, BLENDSHAPES.index(name)])
    assert FACEGOOD.info(FacegoodParams()).sources["face"].notes["channels"] == list(MOVING)
    assert len(set(BLENDSHAPES)) == 116


def test_the_official_split_keeps_takes_apart(tiny):
    splits = {(s.group, s.split) for s in open_corpus(tiny).samples()}
    assert splits == {("2_01", "train"), ("2_02", "valid"), ("2_03", "test")}


def test_ends_of_takes_are_groups_of_their_own_with_a_gap_before_them(tiny):
    samples = open_corpus(tiny, valid="ends").samples()
    assert Counter((s.group, s.split) for s in samples) == {
        ("2_01", "train"): 7,  # border at 8.32 s: pieces 0 to 6 end a second before it, and piece 7 and 8 lie in the gap
        ("2_01-end", "valid"): 1,
        ("2_02", "train"): 7,
        ("2_02-end", "valid"): 1,
        ("2_03", "test"): 10,
    }
    for take in ("2_01", "2_02"):
        last = max(s.facts["second"] for s in samples if s.group == take)
        first = min(s.facts["second"] for s in samples if s.group == f"{take}-end")
        assert first - (last + 1.0) >= 1.0
    assert FACEGOOD.info(FacegoodParams(valid="ends")).group == "stretch of a take"


def test_voice_and_face_of_the_tiny_copy_move_together(tiny):
    data = open_corpus(tiny)
    loud, mouth = [], []
    for s in data.samples():
        voice = data.read(s.id, "voice").samples[:15990].reshape(30, 533)
        loud.append(np.sqrt(np.square(voice).mean(axis=1)))
        mouth.append(data.read(s.id, "face").values[:, MOVING.index("mouth_stretch_c")])
    assert np.corrcoef(np.concatenate(loud), np.concatenate(mouth))[0, 1] > 0.7


def test_the_same_seed_writes_the_same_arrays_and_another_seed_others(tiny, tmp_path):
    FACEGOOD.sample(tmp_path / "again", 30, 0)
    FACEGOOD.sample(tmp_path / "other", 30, 1)
    for file in ("voice_pcm16k.npz", "face_blendshapes.npz"):
        first, again, other = (np.load(root / file)["x"] for root in (tiny, tmp_path / "again", tmp_path / "other"))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_a_source_without_its_file_is_a_missing_modality(tiny):
    (tiny / "voice_pcm16k.npz").unlink()
    assert all(list(s.sources) == ["face"] for s in open_corpus(tiny).samples())
    (tiny / "face_blendshapes.npz").unlink()
    expect_refusal(lambda: open_corpus(tiny).samples(), "voice_pcm16k.npz", "face_blendshapes.npz")


@pytest.mark.parametrize(
    ("file", "changed", "words"),
    [
        ("voice_pcm16k.npz", {"x": np.zeros(9, np.float32)}, ("float32 [9]", "int16 [steps]")),
        ("voice_pcm16k.npz", {"ids": np.array(["a", "b", "c"])}, ("has no take '2_01'", "a, b, c")),
        ("face_blendshapes.npz", {"names": np.array(BLENDSHAPES[::-1])}, ("116", "in their order")),
        ("face_blendshapes.npz", {"x": np.full((936, 116), np.nan, np.float16)}, ("step 0 is NaN",)),
        ("face_blendshapes.npz", {"x": np.zeros((936, 25), np.float16)}, ("936, 25", "steps, 116")),
    ],
)
def test_an_array_that_is_not_what_it_should_be_is_refused_by_name(tiny, file, changed, words):
    rewrite(tiny / file, **changed)
    expect_refusal(lambda: open_corpus(tiny).read("2_01#0", "voice" if "voice" in file else "face"), file, *words)


def test_a_take_that_is_shorter_than_the_table_says_is_refused(tiny):
    table = (tiny / "takes.csv").read_text()
    (tiny / "takes.csv").write_text(table.replace("2_03,10.4,520,312", "2_03,20.4,520,612"))
    expect_refusal(lambda: open_corpus(tiny).read("2_03#15", "face"), "face_blendshapes.npz", "2_03#15", "takes.csv says more")


@pytest.mark.parametrize(
    "text",
    ["id,duration_s\na,3\n", "id,duration_s,n_face,face_fps\na,x,3,30\n", "", "id,duration_s,n_face,face_fps\na,3,75,25\n"],
)
def test_a_table_of_takes_that_cannot_be_is_refused(tiny, text):
    (tiny / "takes.csv").write_text(text)
    expect_refusal(lambda: open_corpus(tiny).samples(), "takes.csv", "expected")


def test_a_missing_folder_is_refused_with_its_files_and_the_address(tmp_path):
    for root in (None, tmp_path / "none", tmp_path):
        expect_refusal(lambda root=root: open_corpus(root).samples(), "takes.csv", "github.com/FACEGOOD")


# --- the recordings themselves ----------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    return real_data("facegood") / "facegood"


@pytest.mark.real
def test_the_real_takes_are_three_of_two_minutes(real):
    assert Counter(s.split for s in open_corpus(real).samples()) == {"train": 109, "valid": 111, "test": 111}
    assert Counter(s.split for s in open_corpus(real, valid="ends").samples()) == {"train": 174, "valid": 42, "test": 111}


@pytest.mark.real
def test_the_real_faces_move_in_25_columns_and_with_the_voice(real):
    data = open_corpus(real, seconds=None, blendshapes="all")
    faces = []
    for s in data.samples():
        face = data.read(s.id, "face").values
        faces.append(face)
        assert ((face >= 0) & (face <= 1)).all()
        voice = data.read(s.id, "voice")
        frames = len(face)
        samples = voice.samples[: len(voice.samples) // frames * frames].reshape(frames, -1)
        loud = np.log(np.sqrt(np.square(samples).mean(axis=1)) + 1e-3)
        mouth = face.sum(axis=1)
        along = [np.corrcoef(loud[30 + lag : frames - 30 + lag], mouth[30 : frames - 30])[0, 1] for lag in range(-15, 16, 5)]
        assert along[3] == max(along)  # in step, not before or after it
        assert along[3] > 0.4
    assert {name for name, moves in zip(BLENDSHAPES, np.concatenate(faces).std(axis=0), strict=True) if moves > 1e-3} == set(
        MOVING
    )
