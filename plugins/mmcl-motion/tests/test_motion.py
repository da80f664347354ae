"""Each feature against an obvious slow computation, what it must not depend on, what counts as a gap, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from mmcl_motion import MODALITIES
from mmcl_motion.bones import KINECT_20, parents_of

from mmcl.api import DataError, Sequence, Source, Table, Video
from mmcl.testing import NotTried, check_modality, make_variants

SPECS = {spec.name: spec for spec in MODALITIES}
RATE = 30.0
EDGES = [[3, 1], [1, 0], [3, 2], [2, 4], [2, 5]]  # the hip 3 bears a spine 1 with a head 0, and 2, on which 4 and 5 hang
PARENTS = (1, 3, 3, 3, 2, 2)
BODY = {
    "shape": [6, 3],
    "axes": ["joint", "channel"],
    "edges": EDGES,
    "root": 3,
    "shoulders": [4, 5],
    "hips": [0, 5],
    "torso": [1, 3],
    "graph": "custom",
}
FILM = Source("video", "film", 15.0, {"shape": [1, 12, 16]})
FACE = Source("sequence", "face", RATE, {"shape": [68, 2]})
PLAIN = {"root": "none", "view": "none", "scale": "none"}


def body_source(**changed):
    return Source("sequence", "body", RATE, {name: value for name, value in {**BODY, **changed}.items() if value is not None})


def make(name, source, **options):
    spec = SPECS[name]
    return spec.build(spec.params(**options), source)


def lay(name, source, **options):
    spec = SPECS[name]
    return spec.layout(spec.params(**options), source)


def streams(points, source=None, **options):
    """Joints × streams × coordinates over time, by name of the stream."""
    source = source or body_source()
    modality = make("skeleton-streams", source, **options)
    values = modality.extract(Sequence(points, RATE))
    names = modality.params.streams
    return dict(zip(names, np.split(values, len(names), axis=2), strict=True))


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def body(rng):
    still = rng.normal(size=(1, 6, 3)) + np.array([0, 1, 3])
    return still + np.cumsum(rng.normal(0, 0.02, (20, 6, 3)), axis=0)


@pytest.fixture
def face(rng):
    still = rng.normal(size=(1, 68, 2)) * 0.3
    still[:, 36:42] += (-1, 0)
    still[:, 42:48] += (1, 0)
    return 100 + 40 * (still + np.cumsum(rng.normal(0, 0.01, (15, 68, 2)), axis=0))


# --------------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", SPECS)
def test_the_toolkits_own_checks_pass_with_every_choice(name):
    for params in make_variants(SPECS[name].params):
        try:
            check_modality(SPECS[name], params=params)
        except NotTried:
            assert getattr(params, "view", "") == "hips"  # the made-up body does not say where its hips are


def one_frame(raw):
    if isinstance(raw, Video):
        return Video(raw.frames[:1], raw.rate)
    return Sequence(raw.values[:1], raw.rate)


def held_still(raw):
    if isinstance(raw, Video):
        return Video(np.repeat(raw.frames[:1], 9, axis=0), raw.rate)
    return Sequence(np.repeat(raw.values[:1], 9, axis=0), raw.rate)


@pytest.mark.parametrize("change", [one_frame, held_still])
@pytest.mark.parametrize("name", SPECS)
def test_one_frame_and_a_still_recording_are_finite_and_do_not_move(name, change, body, face, rng):
    source, raw, options = {
        "skeleton-streams": (body_source(), Sequence(body, RATE), {"streams": ("joint-motion", "bone-motion")}),
        "depth-motion": (FILM, Video(rng.integers(0, 256, (9, 1, 12, 16), np.uint8), 15.0), {}),
        "landmarks-motion": (FACE, Sequence(face, RATE), {"give": "motion"}),
    }[name]
    changed = change(raw)
    values = make(name, source, **options).extract(changed)
    assert len(values) == len(changed.frames if isinstance(changed, Video) else changed.values)
    assert (values == 0).all()


@pytest.mark.parametrize("name", SPECS)
def test_recordings_that_are_not_as_promised_are_refused(name):
    source, good = {
        "skeleton-streams": (body_source(), Sequence(np.ones((5, 6, 3)), RATE)),
        "depth-motion": (FILM, Video(np.ones((5, 1, 12, 16), np.uint8), 15.0)),
        "landmarks-motion": (FACE, Sequence(np.ones((5, 68, 2)), RATE)),
    }[name]
    film = isinstance(good, Video)
    array = good.frames if film else good.values
    for values, rate, words in (
        (array[:0], good.rate, "empty"),
        (array[..., :-1], good.rate, "promises"),
        (array, good.rate * 1.1, "per second"),
    ):
        with pytest.raises(DataError, match=words):
            make(name, source).extract(Video(values, rate) if film else Sequence(values, rate))


@pytest.mark.parametrize(
    ("name", "source", "options", "words"),
    [
        ("skeleton-streams", body_source(shape=None), {}, "notes: shape"),
        ("skeleton-streams", Source("sequence", "", None, BODY), {}, "rate"),
        ("skeleton-streams", Source("sequence", "", RATE, {"shape": [6]}), {}, "joints × channels"),
        ("skeleton-streams", body_source(root=None), {}, "set root: none"),
        ("skeleton-streams", body_source(torso=None), {}, "set scale: bones"),
        ("skeleton-streams", body_source(shoulders=None), {}, "set view"),
        ("skeleton-streams", body_source(hips=None), {"view": "hips"}, "notes: hips"),
        ("skeleton-streams", body_source(shape=[6, 2]), {}, "view: none"),
        ("skeleton-streams", body_source(root=6), {}, "6 joints"),
        ("skeleton-streams", body_source(edges=None), {}, "kinect-20"),
        ("skeleton-streams", body_source(edges=EDGES[:-1]), {}, r"do not join joints \[5\]"),
        ("skeleton-streams", body_source(), {"streams": ("bone", "bone")}, "once"),
        ("depth-motion", Source("video", "", 15.0, {"shape": [2, 12, 16]}), {}, "1 or 3 channels"),
        ("depth-motion", FILM, {"size": (5, 8)}, "whole blocks"),
        ("landmarks-motion", Source("sequence", "", RATE, {"shape": [51, 2]}), {}, "68 points"),
        ("landmarks-motion", Source("table", "", RATE, {"columns": ["x_0"]}), {}, "x_1"),
    ],
)
def test_sources_and_options_that_do_not_fit_are_refused_in_a_sentence(name, source, options, words):
    with pytest.raises(ValueError, match=words):
        lay(name, source, **options)


# ------------------------------------------------------------------------------------------------------------ skeleton


def test_the_four_streams_are_joints_bones_and_their_motion(body):
    got = streams(body, **PLAIN)
    for t, joint, axis in np.ndindex(20, 6, 3):
        bone = body[t, joint, axis] - body[t, PARENTS[joint], axis]
        before = body[t - 1, joint, axis] - body[t - 1, PARENTS[joint], axis]
        moved = 0 if t == 0 else (body[t, joint, axis] - body[t - 1, joint, axis]) * RATE
        assert got["joint"][t, joint, axis] == pytest.approx(body[t, joint, axis], abs=1e-5)
        assert got["bone"][t, joint, axis] == pytest.approx(bone, abs=1e-5)
        assert got["joint-motion"][t, joint, axis] == pytest.approx(moved, abs=1e-4)
        assert got["bone-motion"][t, joint, axis] == pytest.approx(0 if t == 0 else (bone - before) * RATE, abs=1e-4)
    layout = lay("skeleton-streams", body_source())
    assert layout.shape == (6, 12)
    assert layout.notes == {"graph": "custom", "edges": EDGES}
    assert layout.rate == RATE


def test_streams_come_in_the_order_asked_for(body):
    all_four, two = streams(body), streams(body, streams=("bone-motion", "joint"))
    assert list(two) == ["bone-motion", "joint"]
    for name, values in two.items():
        np.testing.assert_array_equal(values, all_four[name])


def turned(points, angle):
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = np.moveaxis(points, 2, 0)
    return np.stack([x * cosine + z * sine, y, z * cosine - x * sine], axis=2)


@pytest.mark.parametrize("options", [{}, {"view": "hips", "scale": "bones", "root": "every-frame"}], ids=str)
def test_where_a_body_stands_faces_and_how_tall_it_is_changes_nothing(body, options):
    wanted = streams(body, **options)
    got = streams(turned(1.7 * body, 1.1) + np.array([3, -2, 5]), **options)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], atol=1e-3)


def test_without_these_normalisations_it_does(body):
    for option, moved in (("root", body + np.array([3, 0, 0])), ("view", turned(body, 1.1)), ("scale", 1.7 * body)):
        plain, other = (streams(points, **{option: "none"})["joint"] for points in (body, moved))
        assert np.abs(plain - other).max() > 0.1


def test_the_root_stays_at_the_origin_or_walks_from_it(body):
    walking = body + np.arange(20)[:, None, None] * (0.1, 0, 0)
    held = streams(walking, root="every-frame")["joint"]
    assert np.abs(held[:, 3]).max() < 1e-6
    free = streams(walking, root="first-frame")["joint"]
    assert np.abs(free[0, 3]).max() < 1e-6
    assert np.linalg.norm(free[-1, 3]) > 0.5


def test_shoulders_lie_along_x_on_average_and_the_torso_has_length_one(body):
    got = streams(body, root="none")["joint"]
    across = (got[:, 5] - got[:, 4]).mean(axis=0)
    assert across[2] == pytest.approx(0, abs=1e-4)
    assert across[0] > 0
    assert np.median(np.linalg.norm(got[:, 1] - got[:, 3], axis=1)) == pytest.approx(1, abs=1e-4)
    got = streams(body, scale="bones")
    lengths = np.linalg.norm(got["bone"], axis=2).sum(axis=1) / 5
    assert np.median(lengths) == pytest.approx(1, abs=1e-4)


def test_hips_are_recognised_by_the_names_of_joints(body):
    names = ["head", "spine", "x", "root", "left_hip", "right_hip"]
    by_name = streams(body, body_source(hips=None, joints=names), view="hips")
    given = streams(body, body_source(hips=[4, 5]), view="hips")
    np.testing.assert_array_equal(by_name["joint"], given["joint"])


@pytest.mark.parametrize("lost", [0.0, np.nan])
def test_a_joint_that_was_not_seen_lies_between_the_frames_in_which_it_was(body, lost):
    gaps = body.copy()
    gaps[5:8, 0] = lost
    gaps[:2, 4] = lost
    gaps[18:, 4] = lost
    modality = make("skeleton-streams", body_source(), **PLAIN, streams=("joint",))
    got = modality.extract(Sequence(gaps, RATE))
    for k, t in enumerate((5, 6, 7), 1):
        np.testing.assert_allclose(got[t, 0], body[4, 0] + k / 4 * (body[8, 0] - body[4, 0]), atol=1e-5)
    np.testing.assert_allclose(got[:2, 4], np.repeat(body[2:3, 4], 2, axis=0), atol=1e-5)
    np.testing.assert_allclose(got[18:, 4], np.repeat(body[17:18, 4], 2, axis=0), atol=1e-5)
    seen = np.ones((20, 6), bool)
    seen[5:8, 0] = seen[:2, 4] = seen[18:, 4] = False
    np.testing.assert_allclose(got[seen], body[seen], atol=1e-5)
    assert modality.counts() == {
        "joints of single frames that were not seen": 7,
        "joints that are not seen in a whole recording": 0,
    }


def test_a_coordinate_at_zero_is_a_place_and_no_gap(body):
    body[3, 2, 0] = 0
    got = streams(body, **PLAIN)["joint"]
    np.testing.assert_allclose(got, body, atol=1e-5)


def test_a_joint_that_is_never_seen_lies_at_the_root_and_is_counted(body):
    body[:, 0] = 0
    modality = make("skeleton-streams", body_source(), streams=("joint",), root="every-frame")
    got = modality.extract(Sequence(body, RATE))
    np.testing.assert_allclose(got[:, 0], 0, atol=1e-6)
    assert modality.counts()["joints that are not seen in a whole recording"] == 1


def test_a_root_at_zero_throughout_is_where_positions_are_counted_from(body):
    from_root = body - body[:, 3:4]
    modality = make("skeleton-streams", body_source(), streams=("joint",), **PLAIN)
    np.testing.assert_allclose(modality.extract(Sequence(from_root, RATE)), from_root, atol=1e-5)
    assert modality.counts()["joints that are not seen in a whole recording"] == 0


def test_gaps_kept_are_positions_and_nan_is_refused(body):
    body[5, 0] = 0
    assert (streams(body, gaps="keep", **PLAIN)["joint"][5, 0] == 0).all()
    body[5, 0] = np.nan
    with pytest.raises(DataError, match="frame 6, joint 0 is NaN"):
        streams(body, gaps="keep")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((4, 6, 3)), "none of its 4 frames"),
        (np.full((4, 6, 3), np.nan), "none of its 4 frames"),
        (np.ones((4, 6, 3)), "no length"),
        (
            np.where(np.arange(72).reshape(4, 6, 3) == 30, np.inf, np.arange(72).reshape(4, 6, 3)),
            "frame 2, joint 4 is infinite",
        ),
    ],
)
def test_what_is_no_body_is_refused(points, words):
    with pytest.raises(DataError, match=words):
        streams(points)


def test_shoulders_above_each_other_turn_nothing_and_are_counted(body):
    body[:, 5] = body[:, 4] + (0, 1, 0)
    modality = make("skeleton-streams", body_source(), root="none", scale="none", streams=("joint",))
    np.testing.assert_allclose(modality.extract(Sequence(body, RATE)), body, atol=1e-5)
    assert modality.counts()["recordings that do not say where the body faces"] == 1


def test_kinects_bones_are_those_of_utd_mhad():
    joints = "head neck spine hip l_shoulder l_elbow l_wrist l_hand r_shoulder r_elbow r_wrist r_hand"
    joints = [*joints.split(), *(f"{side}_{part}" for side in "lr" for part in ("hip", "knee", "ankle", "foot"))]
    named = {joints[child]: joints[parent] for child, parent in enumerate(KINECT_20)}
    assert named["head"] == named["l_shoulder"] == named["r_shoulder"] == "neck"
    assert (named["neck"], named["spine"], named["hip"]) == ("spine", "hip", "hip")
    for side in "lr":
        assert named[f"{side}_hip"] == "hip"
        for part, nearer in (
            ("elbow", "shoulder"),
            ("wrist", "elbow"),
            ("hand", "wrist"),
            ("knee", "hip"),
            ("ankle", "knee"),
            ("foot", "ankle"),
        ):
            assert named[f"{side}_{part}"] == f"{side}_{nearer}"
    assert parents_of({"graph": "kinect-20"}, 20) == KINECT_20
    assert parents_of({"edges": EDGES, "root": 3}, 6) == PARENTS


# --------------------------------------------------------------------------------------------------------------- depth


def test_motion_is_each_frame_less_the_one_before(rng):
    frames = rng.integers(0, 256, (6, 1, 12, 16), np.uint8)
    got = make("depth-motion", FILM).extract(Video(frames, 15.0))
    assert got.shape == (6, *lay("depth-motion", FILM).shape)
    for t, row, column in ((0, 3, 4), (1, 0, 0), (3, 7, 9), (5, 11, 15)):
        wanted = 0 if t == 0 else (int(frames[t, 0, row, column]) - int(frames[t - 1, 0, row, column])) / 255
        assert got[t, 0, row, column] == pytest.approx(wanted, abs=5e-4)


def test_half_precision_keeps_every_level_apart():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    source = Source("video", "", 15.0, {"shape": [1, 16, 16]})
    got = make("depth-motion", source).extract(Video(np.concatenate([0 * levels, levels]), 15.0))
    np.testing.assert_array_equal(np.rint(255 * got[1, 0].astype(np.float64)).astype(int), levels[0, 0])


def test_both_gives_the_frame_beside_its_motion_and_step_looks_further_back(rng):
    frames = rng.integers(0, 256, (6, 1, 12, 16), np.uint8)
    got = make("depth-motion", FILM, give="both", step=2).extract(Video(frames, 15.0)).astype(np.float64)
    np.testing.assert_allclose(got[:, 0], frames[:, 0] / 255, atol=5e-4)
    assert (got[:2, 1] == 0).all()
    np.testing.assert_allclose(got[2:, 1], (frames[2:, 0].astype(float) - frames[:-2, 0]) / 255, atol=1e-3)
    far = make("depth-motion", FILM, step=6).extract(Video(frames, 15.0))
    assert (far == 0).all()


def test_sizes_are_means_of_blocks_and_colour_becomes_grey(rng):
    colour = Source("video", "", 15.0, {"shape": [3, 12, 16]})
    frames = rng.integers(0, 256, (3, 3, 12, 16), np.uint8)
    got = make("depth-motion", colour, give="both", size=(6, 4)).extract(Video(frames, 15.0))
    assert got.shape == (3, 2, 6, 4)
    grey = 0.299 * frames[:, 0] + 0.587 * frames[:, 1] + 0.114 * frames[:, 2]
    assert got[1, 0, 2, 3] == pytest.approx(np.mean(grey[1, 4:6, 12:16]) / 255, abs=1e-3)


def test_centring_takes_out_where_a_body_stands(rng):
    body = rng.integers(1, 256, (4, 4, 5), np.uint8)
    pictures = []
    for top, left in ((0, 0), (3, 6), (8, 11)):
        frames = np.zeros((4, 1, 12, 16), np.uint8)
        frames[:, 0, top : top + 4, left : left + 5] = body
        pictures.append(make("depth-motion", FILM, centre=True, give="both").extract(Video(frames, 15.0)))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    rows, columns = np.nonzero(pictures[0][0, 0])
    assert (rows.mean(), columns.mean()) == (pytest.approx(6, abs=0.6), pytest.approx(8, abs=0.6))
    nothing = make("depth-motion", FILM, centre=True).extract(Video(np.zeros((4, 1, 12, 16), np.uint8), 15.0))
    assert (nothing == 0).all()


def test_frames_that_are_no_bytes_are_refused():
    with pytest.raises(DataError, match="uint8 was expected"):
        make("depth-motion", FILM).extract(Video(np.zeros((4, 1, 12, 16), np.float32), 15.0))


# ----------------------------------------------------------------------------------------------------------- landmarks


def eyes_of(points):
    return points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)


def moved_like_a_head(face, rng):
    """Each frame turned in its plane, moved and scaled by itself."""
    angle, scale, shift = rng.uniform(-0.5, 0.5, 15), rng.uniform(0.5, 2, 15), rng.uniform(-50, 50, (15, 2))
    turn = np.stack([np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([-np.sin(angle), np.cos(angle)], 1)], 2)
    return np.einsum("tij,tpj->tpi", turn, face) * scale[:, None, None] + shift[:, None]


def test_each_frame_is_aligned_by_its_own_eyes_whatever_the_head_does(face, rng):
    got = make("landmarks-motion", FACE).extract(Sequence(face, RATE))
    right, left = eyes_of(got[..., :2])
    np.testing.assert_allclose(right, np.tile([-0.5, 0], (15, 1)), atol=1e-5)
    np.testing.assert_allclose(left, np.tile([0.5, 0], (15, 1)), atol=1e-5)
    moved = make("landmarks-motion", FACE).extract(Sequence(moved_like_a_head(face, rng), RATE))
    np.testing.assert_allclose(moved, got, atol=1e-3)
    np.testing.assert_allclose(got[1:, :, 2:], np.diff(got[..., :2], axis=0) * RATE, atol=1e-4)
    assert (got[0, :, 2:] == 0).all()


def test_a_whole_recording_aligned_alike_keeps_the_heads_motion(face):
    nodding = face + 10 * np.sin(np.arange(15))[:, None, None] * (0, 1)
    got = make("landmarks-motion", FACE, align="recording", give="position").extract(Sequence(nodding, RATE))
    right, left = eyes_of(got)
    np.testing.assert_allclose(np.median(right, axis=0), (-0.5, 0), atol=0.02)
    np.testing.assert_allclose(np.median(left, axis=0), (0.5, 0), atol=0.02)
    course = got.mean(axis=1)[:, 1]
    assert np.corrcoef(course, np.sin(np.arange(15)))[0, 1] > 0.95
    again = make("landmarks-motion", FACE, align="recording", give="position").extract(Sequence(3 * nodding + 7, RATE))
    np.testing.assert_allclose(again, got, atol=1e-4)


def test_what_is_given_and_the_jaw_are_as_asked_for(face):
    both = make("landmarks-motion", FACE).extract(Sequence(face, RATE))
    for give, part in (("position", both[..., :2]), ("motion", both[..., 2:])):
        np.testing.assert_array_equal(make("landmarks-motion", FACE, give=give).extract(Sequence(face, RATE)), part)
    dropped = make("landmarks-motion", FACE, jaw="drop").extract(Sequence(face, RATE))
    np.testing.assert_array_equal(dropped, both[:, 17:])
    layout = lay("landmarks-motion", FACE, jaw="drop", give="position")
    assert (layout.shape, layout.notes, layout.rate) == ((51, 2), {"graph": "face-51"}, RATE)


def table_of(face, success=None):
    columns = [f" {axis}_{i}" for axis in "xy" for i in range(68)]
    values = face.transpose(0, 2, 1).reshape(len(face), -1)
    if success is not None:
        columns, values = [*columns, " success"], np.column_stack([values, success])
    source = Source("table", "", RATE, {"columns": [name.strip() for name in columns]})
    return source, Table(values.astype(np.float32), tuple(columns), RATE)


def test_a_table_gives_what_its_points_give(face):
    source, table = table_of(face)
    got = make("landmarks-motion", source).extract(table)
    np.testing.assert_allclose(got, make("landmarks-motion", FACE).extract(Sequence(face.astype(np.float32), RATE)), atol=1e-4)


@pytest.mark.parametrize("how", ["success", "zeros", "nan", "eyes"])
def test_a_frame_without_a_face_lies_between_its_neighbours_and_is_counted(face, how):
    success, broken = np.ones(15), face.copy()
    if how == "success":
        success[6:8], broken[6:8] = 0, 999.0 + np.arange(136).reshape(68, 2)
    elif how == "eyes":
        broken[6:8] = 3.0
    else:
        broken[6:8] = 0.0 if how == "zeros" else np.nan
    source, table = table_of(broken, success)
    modality = make("landmarks-motion", source, align="recording", give="position")
    got = modality.extract(table)
    assert modality.counts() == {"frames without a face, filled in": 2}
    np.testing.assert_allclose(got[6], got[5] + (got[8] - got[5]) / 3, atol=1e-4)
    np.testing.assert_allclose(got[7], got[5] + (got[8] - got[5]) * 2 / 3, atol=1e-4)


def test_recordings_without_any_face_or_with_infinity_are_refused(face):
    source, table = table_of(face, np.zeros(15))
    with pytest.raises(DataError, match="none of its 15 frames has a face"):
        make("landmarks-motion", source).extract(table)
    face[2, 5] = np.inf
    with pytest.raises(DataError, match="frame 3, point 5 is infinite"):
        make("landmarks-motion", FACE).extract(Sequence(face, RATE))
    with pytest.raises(DataError, match="lacks the column 'x_0'"):
        make("landmarks-motion", source).extract(Table(np.ones((3, 1), np.float32), ("success",), RATE))


# -------------------------------------------------------------------------------------------- the recordings themselves


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("MMCL_REAL_DATA")
    if not folder or not (Path(folder) / "utd-mhad").is_dir():
        pytest.skip("set MMCL_REAL_DATA to a folder that holds utd-mhad/ to read the real recordings")
    return Path(folder) / "utd-mhad"


@pytest.mark.real
def test_real_bodies_are_normalised_and_real_depth_moves_where_a_body_is(real):
    from scipy.io import loadmat

    notes = {"shape": [20, 3], "graph": "kinect-20", "root": 3, "shoulders": [4, 8], "torso": [1, 3]}
    source = Source("sequence", "", RATE, notes)
    film = Source("video", "", 15.0, {"shape": [1, 48, 64]})
    for action in range(1, 28, 5):
        points = loadmat(real / "Skeleton" / f"a{action}_s1_t1_skeleton.mat")["d_skel"].transpose(2, 0, 1)
        got = streams(points, source)
        assert np.isfinite(got["bone-motion"]).all()
        assert np.abs(got["joint"]).max() < 10  # torsos
        assert np.median(np.linalg.norm(got["bone"][:, 1:3], axis=2)) < 1.5
        frames = loadmat(real / "Depth" / f"a{action}_s1_t1_depth.mat")["d_depth"].transpose(2, 0, 1)[:, None]
        motion = np.abs(make("depth-motion", film).extract(Video(np.ascontiguousarray(frames), 15.0)).astype(np.float64))
        assert 0 < (motion > 0).mean() < 0.3


def test_a_mirrored_body_gives_the_streams_of_a_body_that_was_mirrored():
    from mmcl_motion import mirror_of

    joints = ["head", "spine", "left_hand", "right_hand"]
    assert mirror_of(joints, (4, 3), 2) == {"mirror": {"swap": [0, 1, 3, 2], "negate": [0, 3]}}
    assert mirror_of(["a", "b"], (2, 3), 1) == {}, "nobody says what is left"
    assert mirror_of(["left_hand", "spine"], (2, 3), 1) == {}, "the other side is missing"
    assert mirror_of([], (4, 3), 1) == {}


def test_single_points_of_a_face_at_exactly_zero_were_lost_and_are_filled_in(face):
    whole, lost = face, face.copy()
    lost[4:6, 30] = lost[14, 2] = 0
    lost[8] = 0
    source = Source("sequence", "", RATE, {"shape": [68, 2], "axes": ["joint", "channel"]})
    fine, mended = (make("landmarks-motion", source, jaw="keep") for _ in range(2))
    wanted, got = fine.extract(Sequence(whole, RATE)), mended.extract(Sequence(lost, RATE))
    assert np.abs(got[..., 2:]).max() <= 1.5 * np.abs(wanted[..., 2:]).max()
    assert mended.counts()["points of single frames that were lost, filled in"] == 3
    assert mended.counts()["frames without a face, filled in"] == 1
