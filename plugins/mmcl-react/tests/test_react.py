"""REACT-Nao: what is listed and cut, what is read, which units count as present, what is refused, and what the converter makes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import mmcl_react
import numpy as np
import pytest
from mmcl_react import CONDITIONS, GAZE_POSE, GENDERS, UNITS, ReactParams
from mmcl_react.convert import convert, main, places, read_table
from pydantic import ValidationError

from mmcl.testing import check_dataset
from mmcl.testing.corpora import dataset_of, expect_refusal, real_data, tiny_copies

REACT = dataset_of(mmcl_react)
_, tiny = tiny_copies(REACT, 24)


def open_corpus(root, **options):
    return REACT.build(ReactParams(**options), root)


def rewrite(path: Path, **changed) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, **changed})


def edit_rows(root: Path, change) -> None:
    path = root / "sequences.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    change(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


def raw_of(root: Path, file: str, id: str) -> np.ndarray:
    with np.load(root / file) as arrays:
        k = list(arrays["ids"]).index(id)
        return arrays["x"][arrays["offsets"][k] : arrays["offsets"][k + 1]].astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"seconds": None}, {"seconds": 1.0, "hop": 0.5}, {"units": ("AU28",)}], ids=str)
def test_the_toolkits_own_checks_pass(options, tmp_path):
    check_dataset(REACT, tmp_path, ReactParams(**options))


def test_sequences_are_cut_into_pieces_of_one_person_and_the_rest_is_left(tiny):
    samples = open_corpus(tiny).samples()
    assert [s.id for s in samples[:4]] == ["PP101_g1#0", "PP101_g1#1", "PP102_g1#0", "PP102_g1#1"]
    assert len(samples) == len({s.id for s in samples}) == 24  # 104 frames are two pieces of 50
    assert all(s.group == s.id.split("_")[0] for s in samples)
    assert {s.facts["piece"] for s in samples} == {0, 1}


@pytest.mark.parametrize("source", ["landmarks", "action-units", "gaze-pose"])
def test_a_piece_holds_its_own_frames_and_no_other(tiny, source):
    data = open_corpus(tiny, seconds=2.0, hop=1.5)
    file = {"landmarks": "landmarks.npz", "action-units": "action_units.npz", "gaze-pose": "gaze_pose.npz"}[source]
    whole = raw_of(tiny, file, "PP102_g1")
    for k in range(6):
        np.testing.assert_array_equal(data.read(f"PP102_g1#{k}", source).values, whole[15 * k : 15 * k + 20])
    expect_refusal(lambda: data.read("PP102_g1#6", source), "PP102_g1#6", "is not there")


def test_whole_sequences_keep_their_name_and_length(tiny):
    data = open_corpus(tiny, seconds=None)
    assert [s.id for s in data.samples()][:2] == ["PP101_g1", "PP102_g1"]
    assert len(data.read("PP101_g1", "landmarks").values) == 104
    assert "units-next" not in REACT.info(ReactParams(seconds=None)).tasks
    assert all("units-next" not in s.targets for s in data.samples())


def test_a_unit_is_present_if_it_is_seen_in_enough_of_the_frames(tiny):
    seen = np.zeros((104 * 12, 35), np.float16)
    seen[0:25, UNITS.index("AU12_c")] = 1  # half of the first piece
    seen[0:24, UNITS.index("AU25_c")] = 1  # a frame less
    seen[50:60, UNITS.index("AU26_c")] = 1  # a fifth of the second
    seen[:, UNITS.index("AU12_r")] = 5  # an intensity is no presence
    rewrite(tiny / "action_units.npz", x=seen)
    first, second = open_corpus(tiny).samples()[:2]
    assert (first.targets["units"], first.targets["units-next"]) == ([1, 0, 0], [0, 0, 0])
    assert second.targets["units"] == [0, 0, 0]
    first, second = open_corpus(tiny, present=0.2).samples()[:2]
    assert (first.targets["units"], first.targets["units-next"]) == ([1, 1, 0], [0, 0, 1])
    assert second.targets["units"] == [0, 0, 1]
    assert "units-next" not in second.targets  # nothing as long follows it


def test_what_follows_a_piece_begins_where_it_ends_however_pieces_overlap(tiny):
    seen = np.zeros((104 * 12, 35), np.float16)
    seen[30:40, UNITS.index("AU12_c")] = 1
    rewrite(tiny / "action_units.npz", x=seen)
    samples = [s for s in open_corpus(tiny, seconds=1.0, hop=0.5).samples() if s.id.startswith("PP101_g1#")]
    following = [k for k, s in enumerate(samples) if s.targets.get("units-next") == [1, 0, 0]]
    assert following == [3, 4, 5]  # from frames 15, 20, 25: half, all, half of the next second


def test_units_are_those_asked_for_in_that_order_and_others_are_refused():
    task = REACT.info(ReactParams(units=("AU45", "AU01"))).tasks["units"]
    assert (task.type, task.classes) == ("multi-label", ("AU45", "AU01"))
    assert "action-units" in task.summary  # a label computed from a source says so
    for bad in (("AU03",), ("smile",), ()):
        with pytest.raises(ValidationError):
            ReactParams(units=bad)


def test_what_a_table_leaves_empty_is_a_missing_label(tiny):
    edit_rows(tiny, lambda rows: rows[0].update(gender="", condition="", split="", age=""))
    first = open_corpus(tiny).samples()[0]
    assert set(first.targets) == {"units", "units-next"}
    assert first.split is None
    assert "age" not in first.facts
    second = open_corpus(tiny).samples()[2]
    assert second.targets["gender"] == GENDERS.index("male")
    assert second.targets["condition"] == CONDITIONS.index("B")


def test_a_sequence_that_a_file_lacks_is_a_missing_modality(tiny):
    lacking = [s for s in open_corpus(tiny).samples() if "landmarks" not in s.sources]
    assert [s.id for s in lacking] == ["PP103_g1#0", "PP103_g1#1"]
    expect_refusal(lambda: open_corpus(tiny).read("PP103_g1#0", "landmarks"), "PP103_g1#0", "has no landmarks")
    (tiny / "action_units.npz").unlink()
    samples = open_corpus(tiny).samples()
    assert all("action-units" not in s.sources and "units" not in s.targets for s in samples)


def test_faces_units_and_pose_of_the_tiny_copy_move_together(tiny):
    data = open_corpus(tiny)
    mouths, parted, yaws, noses = [], [], [], []
    for s in data.samples():
        if "landmarks" in s.sources:
            points = data.read(s.id, "landmarks").values
            mouths.append(points[:, 66, 1] - points[:, 62, 1])
            parted.append(data.read(s.id, "action-units").values[:, UNITS.index("AU25_r")])
            noses.append(points[:, 30, 0])
            yaws.append(data.read(s.id, "gaze-pose").values[:, GAZE_POSE.index("pose_Ry")])
    assert np.corrcoef(np.concatenate(mouths), np.concatenate(parted))[0, 1] > 0.9
    assert np.corrcoef(np.concatenate(noses), np.concatenate(yaws))[0, 1] > 0.5


def test_the_same_seed_writes_the_same_arrays_and_another_seed_others(tiny, tmp_path):
    REACT.sample(tmp_path / "again", 24, 0)
    REACT.sample(tmp_path / "other", 24, 1)
    for file in ("landmarks.npz", "action_units.npz", "gaze_pose.npz"):
        first, again, other = (np.load(root / file)["x"] for root in (tiny, tmp_path / "again", tmp_path / "other"))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@pytest.mark.parametrize(
    ("file", "changed", "words"),
    [
        ("landmarks.npz", {"x": np.zeros((104 * 11, 51, 2), np.float16)}, ("51, 2", "68, 2")),
        ("landmarks.npz", {"offsets": np.arange(3)}, ("'offsets' and 'ids' do not fit",)),
        ("action_units.npz", {"names": np.array(UNITS[::-1])}, ("AU45_c", "AU01_r")),
        ("gaze_pose.npz", {"x": np.full((104 * 12, 14), np.nan, np.float32)}, ("frame 0 of 'PP101_g1' is NaN",)),
    ],
)
def test_an_array_that_is_not_what_it_should_be_is_refused_by_name(tiny, file, changed, words):
    rewrite(tiny / file, **changed)
    source = file.removesuffix(".npz").replace("_", "-")
    expect_refusal(lambda: open_corpus(tiny).read("PP101_g1#0", source), file, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[0].update(n_frames="103"), ("'PP101_g1' has 104 frames", "103")),
        (lambda rows: rows[0].update(gender="x"), ("'PP101_g1'", "female, male")),
        (lambda rows: rows[1].update(id="PP101_g1"), ("line 3", "listed twice")),
        (lambda rows: rows[2].update(split="test"), ("line 4", "train or valid")),
        (lambda rows: [row.pop("participant") for row in rows], ("lacks the column participant",)),
        (lambda rows: rows.__delitem__(slice(1, None)) or rows[0].update(n_frames="x"), ("line 2", "number of frames")),
    ],
)
def test_a_table_of_sequences_that_cannot_be_is_refused(tiny, change, words):
    edit_rows(tiny, change)
    expect_refusal(lambda: open_corpus(tiny).samples(), "sequences.csv" if "has 104" not in words[0] else ".npz", *words)


def test_pieces_longer_than_every_sequence_are_refused(tiny):
    expect_refusal(lambda: open_corpus(tiny, seconds=11.0).samples(), "no sequence is 11 s long")


def test_a_folder_without_the_files_is_refused_with_their_names_and_the_address(tmp_path):
    (tmp_path / "bare").mkdir()
    for root in (None, tmp_path / "none", tmp_path / "bare"):
        expect_refusal(lambda root=root: open_corpus(root).samples(), "sequences.csv", "github.com/yale-img/REACT")
    (tmp_path / "bare" / "sequences.csv").write_text("id\n")
    expect_refusal(lambda: open_corpus(tmp_path / "bare").samples(), "has no .npz", "landmarks.npz")


# --- the converter ----------------------------------------------------------------------------------------------------


def write_table(path: Path, frames, shift: float = 0.0, drop: str = "") -> np.ndarray:
    """A table as it was published, with few columns; its points [T, 68, 2]."""
    draw = np.random.default_rng(len(frames))
    columns = ["frame", "face", "confidence", *GAZE_POSE, *(f"{a}_{i}" for a in "xy" for i in range(68)), *UNITS]
    values = draw.uniform(1, 5, (len(frames), len(columns))).round(3)
    values[:, 0] = frames
    values[:, columns.index("x_0")] += shift
    kept = [i for i, name in enumerate(columns) if name != drop]
    lines = [",".join(["id", "game file", *(columns[i] for i in kept)])]
    lines += [",".join(["PP1", "g1", *(f"{row[i]:g}" for i in kept)]) for row in values]
    path.write_text("\n".join(lines) + "\n")
    x, y = (values[:, [columns.index(f"{a}_{i}") for i in range(68)]] for a in "xy")
    return np.stack([x, y], axis=2)


def test_the_converter_writes_what_the_dataset_reads(tmp_path):
    points = write_table(tmp_path / "facialfeatures_PP113_g1.csv", [0, 5, 5, 11])
    write_table(tmp_path / "facialfeatures_PP114_g2.csv", [0, 6, 12, 18, 24])
    (tmp_path / "people.csv").write_text("participant,gender,condition\nPP113,Female,C\n")
    told = ("facialfeatures_PP102_g3.csv", "run `python -m mmcl_react.convert CSV_FOLDER THIS_FOLDER`")
    expect_refusal(lambda: open_corpus(tmp_path / "out").samples(), *told)
    assert main([str(tmp_path), str(tmp_path / "out"), str(tmp_path / "people.csv")]) == 0
    data = open_corpus(tmp_path / "out", seconds=None)
    first, second = data.samples()
    assert (first.id, first.group, second.id) == ("PP113_g1", "PP113", "PP114_g2")
    assert first.targets["gender"] == 0
    assert set(second.targets) == {"units"}
    points = points[[0, 1, 3]]  # frame 5 stands twice
    middle = points - points.mean(axis=1, keepdims=True)
    apart = np.linalg.norm(points[:, 42:48].mean(1) - points[:, 36:42].mean(1), axis=1)
    wanted = np.stack([frame / distance for frame, distance in zip(middle, apart, strict=True)])
    np.testing.assert_allclose(data.read("PP113_g1", "landmarks").values, wanted, rtol=2e-3, atol=2e-3)
    assert data.read("PP114_g2", "gaze-pose").columns == GAZE_POSE
    assert len(data.read("PP114_g2", "action-units").values) == 5


def test_a_row_without_a_face_keeps_its_time_and_so_does_a_row_that_is_missing(tmp_path):
    """Frames 0 to 54, 18 and 24 missing, 42 lost, 36 not a number: every later row stays where the film has it."""
    path = tmp_path / "facialfeatures_PP113_g1.csv"
    frames = [0, 6, 12, 30, 36, 42, 48, 54]
    points = write_table(path, frames)
    lines = path.read_text().splitlines()
    header = lines[0].split(",")
    for row, text in ((4, "-nan(ind)"), (5, "0")):
        cells = lines[row + 1].split(",")
        cells = [text if name[:2] in ("x_", "y_") else cell for name, cell in zip(header, cells, strict=True)]
        lines[row + 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    assert convert(tmp_path, tmp_path / "out") == (1, 4)
    data = open_corpus(tmp_path / "out", seconds=None)
    (sample,) = data.samples()
    got = data.read(sample.id, "landmarks").values
    assert len(got) == 10
    scaled = []
    for frame in points:
        middle = frame - frame.mean(axis=0)
        scaled.append(middle / np.linalg.norm(frame[42:48].mean(0) - frame[36:42].mean(0)))
    by_frame = dict(zip(frames, points, strict=True))
    for frame, one in zip(frames, scaled, strict=True):
        if frame not in (36, 42):
            np.testing.assert_allclose(got[frame // 6], one, rtol=2e-3, atol=2e-3)
    between = by_frame[12] + (by_frame[30] - by_frame[12]) / 3
    between = (between - between.mean(axis=0)) / np.linalg.norm(between[42:48].mean(0) - between[36:42].mean(0))
    np.testing.assert_allclose(got[3], between, rtol=2e-3, atol=2e-3)


def test_the_converter_refuses_in_a_sentence(tmp_path, capsys):
    expect_refusal(lambda: convert(tmp_path, tmp_path / "out"), "facialfeatures_PP102_g3.csv")
    write_table(tmp_path / "facialfeatures_PP113_g1.csv", [0, 5], drop="AU12_c")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "lacks the column 'AU12_c'" in capsys.readouterr().err
    assert main([]) == 2
    (tmp_path / "file").write_text("x")
    write_table(tmp_path / "facialfeatures_PP113_g1.csv", [0, 5])
    assert main([str(tmp_path), str(tmp_path / "file" / "out")]) == 1  # nothing can be written into a file
    assert "file" in capsys.readouterr().err
    (tmp_path / "facialfeatures_PP113_g1.csv").rename(tmp_path / "facialfeatures_somebody.csv")
    expect_refusal(lambda: convert(tmp_path, tmp_path / "out"), "is misnamed")


# --- the recordings themselves ----------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    return real_data("react_nao") / "react_nao"


@pytest.mark.real
def test_the_real_sequences_are_177_of_52_people_in_44_and_8(real):
    samples = open_corpus(real, seconds=None).samples()
    assert len(samples) == 177
    sides = {s.group: s.split for s in samples}
    assert Counter(sides.values()) == {"train": 44, "valid": 8}
    assert all(len(s.sources) == 3 for s in samples)
    assert Counter(s.targets["gender"] for s in samples) == {GENDERS.index("male"): 103, GENDERS.index("female"): 74}
    people = {s.group: GENDERS[s.targets["gender"]] for s in samples}
    assert Counter(people.values()) == {"female": 26, "male": 26}
    for s in samples:  # what README says of the conditions
        assert (s.facts["framing"] == "Team") == (CONDITIONS[s.targets["condition"]] in "AC")
        assert (s.facts["timing"] == "Before") == (CONDITIONS[s.targets["condition"]] in "AB")


@pytest.mark.real
def test_the_real_pieces_are_3166_and_their_sources_are_of_one_clock(real):
    data = open_corpus(real)
    samples = data.samples()
    assert len(samples) == 3166
    for s in samples[::200]:
        points, units, pose = (data.read(s.id, source).values for source in ("landmarks", "action-units", "gaze-pose"))
        assert len(points) == len(units) == len(pose) == 50
        eyes = np.linalg.norm(points[:, 42:48].mean(1) - points[:, 36:42].mean(1), axis=1)
        np.testing.assert_allclose(eyes, 1, atol=2e-3)
        assert ((units[:, :17] >= 0) & (units[:, :17] <= 5)).all()
        assert np.isin(units[:, 17:], (0, 1)).all()
    rolls, turns = [], []
    for s in samples[::20]:  # the head's roll is in its points: both files tell of the same frames
        points = data.read(s.id, "landmarks").values
        across = points[:, 42:48].mean(1) - points[:, 36:42].mean(1)
        rolls.append(np.arctan2(across[:, 1], across[:, 0]))
        turns.append(data.read(s.id, "gaze-pose").values[:, GAZE_POSE.index("pose_Rz")])
    assert np.corrcoef(np.concatenate(rolls), np.concatenate(turns))[0, 1] > 0.9


@pytest.mark.real
def test_the_converter_makes_the_real_arrays_of_the_published_tables(real, tmp_path):
    assert convert(real / "csv_sample", tmp_path) == (2, 4)
    kept = {id: places(read_table(real / "csv_sample" / f"facialfeatures_{id}.csv")[0]) for id in ("PP113_g1", "PP127_g5")}
    for file in ("landmarks.npz", "action_units.npz", "gaze_pose.npz"):
        for id in ("PP113_g1", "PP127_g5"):
            wanted, converted = raw_of(real, file, id), raw_of(tmp_path, file, id)
            np.testing.assert_allclose(
                converted[kept[id]], wanted, atol=1e-3
            )  # the published arrays leave rows without a face out
