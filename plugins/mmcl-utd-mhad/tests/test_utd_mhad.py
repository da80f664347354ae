"""UTD-MHAD: what is listed, how its three sources are read, what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import mmcl_utd_mhad
import numpy as np
import pytest
from mmcl_utd_mhad import ACTIONS, JOINTS, UtdMhadParams
from scipy.io import loadmat, savemat

from mmcl.testing.corpora import dataset_of, expect_refusal, real_data, tiny_copies

UTD_MHAD = dataset_of(mmcl_utd_mhad)
_, tiny = tiny_copies(UTD_MHAD, 32)


def open_corpus(root: Path | None, **options):
    return UTD_MHAD.build(UtdMhadParams(**options), root)


def test_every_sample_is_listed_by_its_name_and_split_across_subjects(tiny):
    samples = open_corpus(tiny).samples()
    assert len(samples) == len({s.id for s in samples}) == 32
    for s in samples:
        action, subject, trial = (int(field[1:]) for field in s.id.split("_"))
        assert s.targets == {"action": action - 1}
        assert s.group == f"subject-{subject}"
        assert s.split == ("test" if subject % 2 == 0 else "train")
        assert s.facts == {"trial": trial}
        for source, file in s.sources.items():
            assert file == f"{source.capitalize()}/{s.id}_{source}.mat"
    assert len({s.group for s in samples}) == 8
    assert {s.split for s in samples} == set(UTD_MHAD.info(UtdMhadParams()).official) == {"train", "test"}


def test_samples_are_ordered_by_number_and_not_by_letter(tmp_path):
    for name in ("a10_s1_t1", "a2_s1_t1", "a2_s1_t2"):
        (tmp_path / "Skeleton").mkdir(exist_ok=True)
        savemat(tmp_path / "Skeleton" / f"{name}_skeleton.mat", {"d_skel": np.ones((20, 3, 4))})
    assert [s.id for s in open_corpus(tmp_path).samples()] == ["a2_s1_t1", "a2_s1_t2", "a10_s1_t1"]


def test_every_action_of_the_tiny_copy_is_on_both_sides_of_the_split(tiny):
    sides = {
        split: {s.targets["action"] for s in open_corpus(tiny).samples() if s.split == split} for split in ("train", "test")
    }
    assert sides["train"] == sides["test"]
    assert len(sides["train"]) == 4


def test_the_same_seed_writes_the_same_arrays_and_another_seed_others(tiny, tmp_path):
    UTD_MHAD.sample(tmp_path / "again", 32, 0)
    UTD_MHAD.sample(tmp_path / "other", 32, 1)
    data, again, other = open_corpus(tiny), open_corpus(tmp_path / "again"), open_corpus(tmp_path / "other")
    s = data.samples()[0]
    for source in s.sources:
        attribute = "frames" if source == "depth" else "values"
        first, second, third = (getattr(d.read(s.id, source), attribute) for d in (data, again, other))
        np.testing.assert_array_equal(first, second)
        assert first.shape != third.shape or (first != third).any()


def test_actions_can_be_told_apart_faintly_in_the_tiny_copy(tiny):
    data = open_corpus(tiny)
    samples = [s for s in data.samples() if "inertial" in s.sources]
    for source in ("skeleton", "inertial"):
        values = [data.read(s.id, source).values for s in samples]
        x = np.stack([v.reshape(len(v), -1).std(0) for v in values])
        y, train = np.array([s.targets["action"] for s in samples]), np.array([s.split == "train" for s in samples])
        means = np.stack([x[train & (y == a)].mean(0) for a in range(4)])
        right = [y[i] == np.square(means - x[i]).sum(1).argmin() for i in np.flatnonzero(~train)]
        assert np.mean(right) > 0.5, source  # chance is 1/4


def test_a_sample_lacks_the_source_whose_file_it_lacks(tiny):
    kinds = Counter(tuple(s.sources) for s in open_corpus(tiny).samples())
    assert kinds == {("skeleton", "inertial", "depth"): 30, ("skeleton", "depth"): 1, ("skeleton", "inertial"): 1}
    lacking = next(s for s in open_corpus(tiny).samples() if "depth" not in s.sources)
    expect_refusal(lambda: open_corpus(tiny).read(lacking.id, "depth"), lacking.id, "has no depth")
    shutil.rmtree(tiny / "Skeleton")
    assert len(open_corpus(tiny).samples()) == 32
    assert not any("skeleton" in s.sources for s in open_corpus(tiny).samples())


def test_joints_come_with_time_first_and_nothing_else_moved(tiny):
    data = open_corpus(tiny)
    s = data.samples()[0]
    file, read = loadmat(tiny / s.sources["skeleton"])["d_skel"], data.read(s.id, "skeleton")
    assert file.shape[:2] == (20, 3)
    assert read.values.dtype == np.float32
    assert read.values.shape == (file.shape[2], 20, 3)
    for step, joint, axis in ((0, 0, 0), (3, 11, 2), (7, 19, 1)):
        assert read.values[step, joint, axis] == np.float32(file[joint, axis, step])
    assert read.rate == UTD_MHAD.info(UtdMhadParams()).sources["skeleton"].rate == 30


def test_the_sensor_comes_as_it_is_by_its_nominal_clock(tiny):
    data = open_corpus(tiny, clock="nominal")
    s = next(s for s in data.samples() if "inertial" in s.sources)
    read = data.read(s.id, "inertial")
    np.testing.assert_array_equal(read.values, loadmat(tiny / s.sources["inertial"])["d_iner"].astype(np.float32))
    assert read.values.shape[1] == 6
    assert read.rate == UTD_MHAD.info(UtdMhadParams()).sources["inertial"].rate == 50


def test_on_the_common_clock_the_sensor_lasts_as_long_as_the_skeleton_and_keeps_its_course(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "stretched")
    s = next(s for s in open_corpus(tiny).samples() if {"inertial", "skeleton"} <= set(s.sources))
    straight = np.linspace([0, 1, 2, 3, 4, 5], [10, 21, 32, 43, 54, 65], 137)  # a line stays the same line, however often read
    savemat(tmp_path / "stretched" / s.sources["inertial"], {"d_iner": straight})
    data = open_corpus(tmp_path / "stretched")
    skeleton, inertial = data.read(s.id, "skeleton"), data.read(s.id, "inertial")
    steps = len(inertial.values)
    assert steps / inertial.rate == pytest.approx(len(skeleton.values) / skeleton.rate, abs=0.5 / inertial.rate)
    assert steps != 137
    np.testing.assert_allclose(inertial.values, np.linspace(straight[0], straight[-1], steps), rtol=1e-5)


def _published(path: Path, steps: int) -> np.ndarray:
    frames = np.random.default_rng(0).integers(0, 4200, (240, 320, steps)).astype(np.uint16)
    savemat(path, {"d_depth": frames})
    return frames


def test_published_depth_is_handed_out_in_levels_of_16(tiny):
    s = open_corpus(tiny).samples()[0]
    frames = _published(tiny / s.sources["depth"], 3)
    read = open_corpus(tiny, depth="original").read(s.id, "depth")
    assert read.frames.shape == (3, 1, 240, 320)
    assert read.frames.dtype == np.uint8
    assert read.rate == 30
    for step, row, column in ((0, 0, 0), (1, 17, 300), (2, 239, 319)):
        assert read.frames[step, 0, row, column] == min(int(frames[row, column, step]) // 16, 255)
    far = frames.transpose(2, 0, 1)[:, None] >= 4096
    assert far.any()
    assert (read.frames[far] == 255).all()  # clipped, not wrapped around


def test_published_depth_is_reduced_by_means_of_5_by_5_of_every_second_frame(tiny):
    s = open_corpus(tiny).samples()[0]
    frames = _published(tiny / s.sources["depth"], 5)
    read = open_corpus(tiny).read(s.id, "depth")
    assert (read.frames.shape, read.rate) == ((3, 1, 48, 64), 15)
    for step, row, column in ((0, 0, 0), (1, 20, 33), (2, 47, 63)):
        pixels = [int(frames[5 * row + i, 5 * column + j, 2 * step]) for i in range(5) for j in range(5)]
        assert read.frames[step, 0, row, column] == sum(pixels) // 25 // 16


def test_reduced_depth_is_taken_as_it_is_and_never_passed_off_as_original(tiny):
    s = open_corpus(tiny).samples()[0]
    path = tiny / s.sources["depth"]
    frames = np.random.default_rng(0).integers(0, 256, (48, 64, 7)).astype(np.uint8)
    savemat(path, {"d_depth": frames})
    read = open_corpus(tiny).read(s.id, "depth")
    assert read.frames.shape == (7, 1, 48, 64)
    assert all((read.frames[t, 0] == frames[:, :, t]).all() for t in range(7))
    expect_refusal(lambda: open_corpus(tiny, depth="original").read(s.id, "depth"), str(path), "set `depth: reduced`")


def test_what_is_read_has_the_shape_that_was_promised(tiny):
    for depth in ("reduced", "original"):
        sources, data = UTD_MHAD.info(UtdMhadParams(depth=depth)).sources, open_corpus(tiny, depth=depth)
        s = next(s for s in data.samples() if len(s.sources) == 3)
        for name, source in sources.items():
            raw = data.read(s.id, name)
            values = raw.frames if name == "depth" else raw.values
            assert type(raw).__name__.lower() == source.type
            assert list(values.shape[1:]) == source.notes["shape"]
            assert raw.rate == source.rate


def test_the_notes_of_the_skeleton_name_the_joints_they_mean():
    notes = UTD_MHAD.info(UtdMhadParams()).sources["skeleton"].notes
    assert (notes["root"], notes["shoulders"], notes["torso"]) == (3, [4, 8], [1, 3])
    assert [JOINTS[i] for i in (3, 4, 8, 1)] == ["hip_center", "left_shoulder", "right_shoulder", "shoulder_center"]
    assert len(JOINTS) == len(set(JOINTS)) == 20


@pytest.mark.parametrize(
    ("folder", "key", "array"),
    [
        ("Skeleton", "d_skel", np.ones((21, 3, 9))),
        ("Skeleton", "d_skel", np.ones((20, 3))),
        ("Skeleton", "d_skel", np.ones((20, 3, 0))),
        ("Inertial", "d_iner", np.ones((9, 5))),
        ("Depth", "d_depth", np.ones((240, 320, 3))),
        ("Depth", "d_depth", np.ones((48, 60, 3), np.uint8)),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused_with_both_shapes(tiny, folder, key, array):
    source = folder.lower()
    s = next(s for s in open_corpus(tiny).samples() if len(s.sources) == 3)
    savemat(tiny / s.sources[source], {key: array})
    expect_refusal(
        lambda: open_corpus(tiny).read(s.id, source), s.sources[source], key, str(list(array.shape))[1:-1], "expected"
    )


def test_a_mat_cut_short_without_its_key_or_with_nan_is_refused(tiny):
    s = next(s for s in open_corpus(tiny).samples() if len(s.sources) == 3)
    for source in s.sources:
        path = tiny / s.sources[source]
        path.write_bytes(path.read_bytes()[:-200])
        expect_refusal(lambda source=source: open_corpus(tiny).read(s.id, source), str(path), "cut short")
    savemat(tiny / s.sources["inertial"], {"d_skel": np.ones((5, 6))})
    expect_refusal(lambda: open_corpus(tiny).read(s.id, "inertial"), s.sources["inertial"], "'d_iner'", "it has d_skel")
    savemat(tiny / s.sources["inertial"], {"d_iner": np.full((5, 6), np.nan)})
    expect_refusal(lambda: open_corpus(tiny).read(s.id, "inertial"), s.sources["inertial"], "NaN")


@pytest.mark.parametrize("name", ["a28_s1_t1_skeleton", "a1_s9_t1_skeleton", "a1_s1_t5_skeleton", "a1_s1_t1_depth", "copy"])
def test_a_misnamed_file_is_refused_with_the_rule(tiny, name):
    (tiny / "Skeleton" / f"{name}.mat").write_bytes(b"x")
    expect_refusal(lambda: open_corpus(tiny).samples(), f"{name}.mat", "aA_sS_tT_skeleton.mat")


def test_files_that_are_no_samples_are_passed_over(tiny):
    for name in ("Skeleton/.DS_Store", "Skeleton/._a1_s1_t1_skeleton.mat", "Depth/readme.txt"):
        (tiny / name).write_text("x")
    assert len(open_corpus(tiny).samples()) == 32


def test_a_missing_or_empty_folder_is_refused_with_the_tree_and_the_address(tmp_path):
    (tmp_path / "bare" / "Depth").mkdir(parents=True)
    for root in (None, tmp_path / "none", tmp_path, tmp_path / "bare"):
        expect_refusal(
            lambda root=root: open_corpus(root).samples(), "Skeleton/a1_s1_t1_skeleton.mat", "https://personal.utdallas.edu"
        )


# --- the recordings themselves -----------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    return real_data("utd-mhad") / "utd-mhad"


@pytest.mark.real
def test_the_real_samples_are_861_in_431_and_430(real):
    samples = open_corpus(real).samples()
    assert len(samples) == 861
    assert Counter(s.split for s in samples) == {"train": 431, "test": 430}
    assert len({s.group for s in samples}) == 8
    assert {s.targets["action"] for s in samples} == set(range(len(ACTIONS))) == set(range(27))
    assert all(len(s.sources) == 3 for s in samples)


@pytest.mark.real
def test_the_real_lengths_are_those_known_and_depth_has_every_second_frame(real):
    data = open_corpus(real, clock="nominal")
    frames, steps, ratios = [], [], []
    for s in data.samples():
        skeleton, inertial = data.read(s.id, "skeleton"), data.read(s.id, "inertial")
        assert skeleton.values.shape[1:] == (20, 3)
        assert inertial.values.shape[1:] == (6,)
        frames.append(len(skeleton.values))
        steps.append(len(inertial.values))
        ratios.append((steps[-1] / inertial.rate) / (frames[-1] / skeleton.rate))
    assert (min(frames), max(frames)) == (41, 125)
    assert (min(steps), max(steps)) == (107, 326)
    assert (round(min(ratios), 1), round(float(np.median(ratios)), 1), round(max(ratios), 1)) == (1.4, 1.6, 2.7)  # README.md
    for s, length in list(zip(data.samples(), frames, strict=True))[::20]:
        assert data.read(s.id, "depth").frames.shape == ((length + 1) // 2, 1, 48, 64)


@pytest.mark.real
def test_the_real_bodies_stand_upright_and_the_sensor_feels_gravity(real):
    data = open_corpus(real)
    for s in data.samples()[::40]:
        joints = data.read(s.id, "skeleton").values.mean(0)
        assert joints[JOINTS.index("head"), 1] > joints[JOINTS.index("hip_center"), 1] > joints[JOINTS.index("left_foot"), 1]
        still = np.linalg.norm(data.read(s.id, "inertial").values[:, :3], axis=1)
        assert 0.7 < np.median(still) < 1.8  # in g
