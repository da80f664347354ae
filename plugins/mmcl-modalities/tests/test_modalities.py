"""Each modality against an obvious slow computation or another library, and what each refuses."""

import math
import subprocess
import sys

import mmcl_modalities
import numpy as np
import pytest
from mmcl_modalities import KINDS, MODALITIES

from mmcl.api import Audio, DataError, Sequence, Source, Still, Table, Timed, Video, Words
from mmcl.testing.modality import builders

SPECS = {spec.name: spec for spec in MODALITIES}
make, layout_of = builders(MODALITIES)
RATE = 30.0
UNITS = ["AU01_r", "AU12_r", "AU45_r", "AU01_c", "AU28_c"]
OPENFACE = ["frame", "success", *(f"x_{i}" for i in range(68)), *(f"y_{i}" for i in range(68)), *UNITS]
BODY = {
    "shape": [6, 3],
    "axes": ["joint", "channel"],
    "graph": "custom",
    "edges": [[0, 1]],
    "centre": 1,
    "joints": list("abcdef"),
    "root": 3,
    "shoulders": [4, 5],
    "torso": [1, 3],
}


def table_source(columns, rate=RATE):
    return Source("table", "a table", rate, {"columns": list(columns)})


def openface(rng, rows, rate=RATE):
    values = rng.uniform(1, 100, (rows, len(OPENFACE))).astype(np.float32)
    values[:, OPENFACE.index("success")] = 1
    return Table(values, tuple(f" {name}" for name in OPENFACE), rate)  # OpenFace writes a blank before its names


def points_of(table):
    x, y = (table.values[:, [OPENFACE.index(f"{axis}_{i}") for i in range(68)]] for axis in "xy")
    return np.stack([x, y], axis=2).astype(np.float64)


def fail(table, rows):
    table.values[list(rows), 1:] = 0


# ------------------------------------------------------------------------------------------------------- every modality


def examples():
    """Name, options, source and a recording of it."""
    rng = np.random.default_rng(3)
    audio = Source("audio", "sound")
    sound = Audio(rng.uniform(-1, 1, 9000).astype(np.float32), 8000)
    frames, once = table_source(OPENFACE), table_source(UNITS, None)
    whole = Table(rng.uniform(0, 5, (1, 5)).astype(np.float32), tuple(UNITS))
    face = Sequence(rng.uniform(0, 9, (12, 68, 2)), RATE)
    body = Source("sequence", "body", RATE, BODY)
    motion = Sequence(rng.uniform(0, 2, (12, 6, 3)).astype(np.float32), RATE)
    film = Source("video", "film", RATE, {"shape": [3, 12, 16]})
    film_raw = Video(rng.integers(0, 256, (9, 3, 12, 16), np.uint8), RATE)
    sensor = Source("sequence", "sensor", 50.0, {"shape": [6], "axes": ["channel"]})
    sensed = Sequence(rng.normal(size=(40, 6)), 50.0)
    words = Words(("so", "it", "goes"), np.array([[0, 0.5], [0.5, 0.7], [1, 2.0]]))
    yield "log-mel", {}, audio, sound
    yield "log-mel", {"bands": 128, "sample_rate": 22050, "hop": 1 / 30, "mean": "subtract"}, audio, sound
    yield "action-units", {}, frames, openface(rng, 9)
    yield "action-units", {"units": "intensities"}, once, whole
    yield "face-landmarks", {}, frames, openface(rng, 9)
    yield "face-landmarks", {"jaw": "drop"}, Source("sequence", "face", RATE, {"shape": [68, 2]}), face
    yield "skeleton", {}, body, motion
    yield "skeleton", {"velocity": False, "turn": False, "scale": "none", "centre": "none"}, body, motion
    yield "signals", {}, sensor, sensed
    yield "signals", {"rate": 20.0}, Source("sequence", "of any rate", None, {"shape": [6]}), sensed
    yield "signals", {"columns": ("AU12_r", "x_3")}, frames, openface(rng, 9)
    yield "frames", {}, film, film_raw
    yield "face-clip", {"size": (6, 8)}, film, film_raw
    yield "log-mel", {"engine": "torch"}, audio, sound
    yield "waveform", {}, audio, sound
    yield "waveform", {"sample_rate": 8000}, audio, sound
    yield "frames", {"size": (5, 7), "grey": True, "rate": 10.0}, film, film_raw
    yield "vectors", {}, Source("still", "answers", notes={"shape": [3, 4]}), Still(rng.normal(size=(3, 4)))
    yield "hashed-words", {}, Source("words", "said"), words
    yield "hashed-words", {"dim": 5, "pieces": "trigrams"}, Source("words", "said"), Words(words.words)


@pytest.mark.parametrize(("name", "options", "source", "raw"), list(examples()))
def test_layout_is_what_extract_returns(name, options, source, raw):
    spec, layout = SPECS[name], layout_of(name, source, **options)
    kind = next(kind for kind in KINDS if kind.name == layout.kind)
    before = [np.copy(value) for value in vars(raw).values() if isinstance(value, np.ndarray)]
    stream = make(name, source, **options).extract(raw)
    values = stream.values if isinstance(stream, Timed) else stream
    assert source.type in spec.accepts
    assert layout.axes == kind.axes
    assert values.shape[1 if layout.timed else 0 :] == layout.shape
    assert values.dtype == (np.uint8 if layout.kind == "video" else np.float32)
    assert np.isfinite(values).all()
    assert isinstance(stream, Timed) == (layout.timed and layout.rate is None)
    after = [value for value in vars(raw).values() if isinstance(value, np.ndarray)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "the recording itself was changed"


def test_every_modality_stands_among_the_examples():
    assert {name for name, *_ in examples()} == set(SPECS) - {"glove"}  # which needs a file; tests/test_glove.py


def test_importing_the_plug_in_loads_nothing_heavy():
    heavy = "{'torch', 'librosa', 'scipy', 'soxr', 'sklearn'}"
    code = f"import sys, mmcl_modalities; print(*({heavy} & set(sys.modules)))"
    path = str(mmcl_modalities.__path__[0]).removesuffix("mmcl_modalities")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}"], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("name", SPECS)
def test_every_option_is_described(name):
    fields = SPECS[name].params.model_fields.items()
    assert [option for option, field in fields if not field.description] == []


@pytest.mark.parametrize(
    ("name", "source", "raw"),
    [
        ("action-units", table_source(OPENFACE), Table(np.zeros((0, len(OPENFACE)), np.float32), tuple(OPENFACE), RATE)),
        ("face-landmarks", Source("sequence", "", RATE, {"shape": [68, 2]}), Sequence(np.zeros((0, 68, 2)), RATE)),
        ("face-landmarks", table_source(OPENFACE), Table(np.zeros((0, len(OPENFACE)), np.float32), tuple(OPENFACE), RATE)),
        ("skeleton", Source("sequence", "", RATE, BODY), Sequence(np.zeros((0, 6, 3)), RATE)),
        ("signals", Source("sequence", "", RATE, {"shape": [4]}), Sequence(np.zeros((0, 4)), RATE)),
        ("frames", Source("video", "", RATE, {"shape": [1, 4, 4]}), Video(np.zeros((0, 1, 4, 4), np.uint8), RATE)),
        ("log-mel", Source("audio", ""), Audio(np.zeros(0, np.float32), 16000)),
        ("hashed-words", Source("words", ""), Words(("", "  "))),
    ],
)
def test_empty_recording_is_refused_in_a_sentence(name, source, raw):
    with pytest.raises(DataError, match=r"empty|no frames|one channel of sound"):
        make(name, source).extract(raw)


@pytest.mark.parametrize(
    ("name", "source", "shape"),
    [
        ("skeleton", Source("sequence", "", RATE, BODY), (9, 5, 3)),
        ("signals", Source("sequence", "", RATE, {"shape": [4]}), (9, 5)),
        ("face-landmarks", Source("sequence", "", RATE, {"shape": [68, 2]}), (9, 51, 2)),
    ],
)
def test_recording_of_another_shape_than_promised_is_refused(name, source, shape):
    with pytest.raises(DataError, match="promises"):
        make(name, source).extract(Sequence(np.ones(shape), RATE))


def test_recording_of_another_rate_than_promised_is_refused(rng):
    source = Source("sequence", "", 50.0, {"shape": [4]})
    make("signals", source).extract(Sequence(rng.normal(size=(9, 4)), 50.2))
    with pytest.raises(DataError, match=r"25 steps per second.*promises 50"):
        make("signals", source).extract(Sequence(rng.normal(size=(9, 4)), 25.0))


# ----------------------------------------------------------------------------------------------------------------- face


def test_action_units_of_frames_hold_the_last_good_row(rng):
    table = openface(rng, 8)
    fail(table, [0, 3, 4, 7])
    wanted = [table.values[row, -len(UNITS) :] for row in (1, 1, 2, 2, 2, 5, 6, 6)]
    np.testing.assert_array_equal(make("action-units", table_source(OPENFACE)).extract(table), wanted)


def test_action_units_of_a_recording_are_the_mean_of_good_rows(rng):
    table = openface(rng, 5, None)
    fail(table, [1, 2])
    wanted = sum(table.values[row, -len(UNITS) :].astype(float) for row in (0, 3, 4)) / 3
    source = table_source(OPENFACE, None)
    assert layout_of("action-units", source).kind == "vector"
    np.testing.assert_allclose(make("action-units", source).extract(table), wanted, rtol=1e-6)


@pytest.mark.parametrize(("units", "wanted"), [("intensities", UNITS[:3]), ("presences", UNITS[3:]), ("both", UNITS)])
def test_columns_count_by_name_wherever_they_stand_and_whatever_blanks_surround_them(rng, units, wanted):
    order = rng.permutation(len(OPENFACE))
    table = openface(rng, 4)
    moved = Table(table.values[:, order], tuple(f" {OPENFACE[i]} " for i in order), RATE)
    source = table_source([f" {name}" for name in OPENFACE])
    got = make("action-units", source, units=units).extract(moved)
    np.testing.assert_array_equal(got, table.values[:, [OPENFACE.index(name) for name in wanted]])


def test_table_without_action_units_is_refused_before_any_file_is_read():
    with pytest.raises(ValueError, match=r"no OpenFace columns AUxx_c; it has gaze, AU01_r"):
        layout_of("action-units", table_source(["gaze", "AU01_r"]), units="presences")


@pytest.mark.parametrize("name", ["action-units", "face-landmarks"])
def test_recording_in_which_no_face_is_seen_is_refused(rng, name):
    table = openface(rng, 4)
    fail(table, range(4))
    with pytest.raises(DataError, match=r"none of its 4 (rows|frames)"):
        make(name, table_source(OPENFACE)).extract(table)


@pytest.mark.parametrize(("name", "column"), [("action-units", "AU12_r"), ("face-landmarks", "y_40")])
def test_nan_is_refused_with_row_and_column_unless_the_row_is_a_failed_one(rng, name, column):
    table = openface(rng, 5)
    fail(table, [1])
    table.values[1, OPENFACE.index(column)] = np.nan
    make(name, table_source(OPENFACE)).extract(table)
    table.values[3, OPENFACE.index(column)] = np.nan
    with pytest.raises(DataError, match=f"row 4, column '{column}' is nan"):
        make(name, table_source(OPENFACE)).extract(table)


@pytest.mark.parametrize("name", ["action-units", "face-landmarks"])
def test_table_that_lacks_a_promised_column_is_refused(rng, name):
    table = openface(rng, 3)
    short = Table(table.values[:, :70], table.columns[:70], RATE)
    with pytest.raises(DataError, match="lacks the column"):
        make(name, table_source(OPENFACE)).extract(short)


def slow_face(points):
    """Every frame around the mean of its points, in median distances between the eyes."""
    distances = []
    for frame in points:
        right = sum(frame[i] for i in range(36, 42)) / 6
        left = sum(frame[i] for i in range(42, 48)) / 6
        distances.append(math.dist(left, right))
    size = sorted(distances)[len(distances) // 2]  # of an odd number of frames
    return np.array([[(point - frame.mean(axis=0)) / size for point in frame] for frame in points])


def slow_minmax(points):
    wanted = np.empty_like(points)
    for axis in range(2):
        values = [float(v) for frame in points for v in frame[:, axis]]
        wanted[..., axis] = (points[..., axis] - min(values)) / (max(values) - min(values))
    return wanted


@pytest.mark.parametrize(("normalise", "slow"), [("face", slow_face), ("clip-minmax", slow_minmax)])
@pytest.mark.parametrize("jaw", ["keep", "drop"])
def test_landmarks_are_normalised_over_all_68_points_before_the_jaw_goes(rng, normalise, slow, jaw):
    table = openface(rng, 7)
    table.values[2, OPENFACE.index("x_3")] = 500  # a point of the jaw, far out
    got = make("face-landmarks", table_source(OPENFACE), normalise=normalise, jaw=jaw).extract(table)
    np.testing.assert_allclose(got, slow(points_of(table))[:, 17 if jaw == "drop" else 0 :], rtol=1e-4, atol=1e-5)


def test_failed_frames_lie_on_the_line_between_their_good_neighbours(rng):
    table = openface(rng, 9)
    fail(table, [0, 3, 4, 8])
    whole = openface(rng, 9)
    whole.values[:] = table.values
    for row, (before, after, share) in {0: (1, 1, 0), 3: (2, 5, 1 / 3), 4: (2, 5, 2 / 3), 8: (7, 7, 0)}.items():
        whole.values[row] = table.values[before] * (1 - share) + table.values[after] * share
    modality = make("face-landmarks", table_source(OPENFACE))
    np.testing.assert_allclose(modality.extract(table), modality.extract(whole), rtol=1e-4, atol=1e-5)


def test_frames_of_zeros_count_as_failed_in_a_ready_sequence(rng):
    points = rng.uniform(1, 9, (5, 68, 2))
    lost = points.copy()
    lost[2] = 0
    points[2] = (points[1] + points[3]) / 2
    modality = make("face-landmarks", Source("sequence", "", RATE, {"shape": [68, 2]}), normalise="clip-minmax")
    np.testing.assert_allclose(modality.extract(Sequence(lost, RATE)), modality.extract(Sequence(points, RATE)), rtol=1e-5)


def test_position_and_size_of_a_face_do_not_matter_but_its_proportions_do(rng):
    points = rng.uniform(1, 9, (5, 68, 2))
    source = Source("sequence", "", RATE, {"shape": [68, 2]})
    extract = make("face-landmarks", source).extract
    plain = extract(Sequence(points, RATE))
    np.testing.assert_allclose(extract(Sequence(points * 3 + [40, -7], RATE)), plain, rtol=1e-4, atol=1e-5)
    assert np.abs(extract(Sequence(points * [1, 2], RATE)) - plain).max() > 0.1


def test_points_that_never_move_apart_are_not_divided_by_zero():
    flat = np.ones((4, 68, 2))
    source = Source("sequence", "", RATE, {"shape": [68, 2]})
    assert (make("face-landmarks", source, normalise="clip-minmax").extract(Sequence(flat, RATE)) == 0).all()
    with pytest.raises(DataError, match="both eyes"):
        make("face-landmarks", source).extract(Sequence(flat, RATE))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (table_source(OPENFACE, None), "one row a recording"),
        (table_source(UNITS), "first one missing: x_0"),
        (Source("sequence", "", RATE, {"shape": [51, 2]}), "68 points"),
        (Source("sequence", "", None, {"shape": [68, 2]}), "rate"),
    ],
)
def test_landmarks_refuse_a_source_that_has_none(source, sentence):
    with pytest.raises(ValueError, match=sentence):
        layout_of("face-landmarks", source)


# ----------------------------------------------------------------------------------------------------------------- body


def body(rng, frames=9):
    return Sequence(rng.normal(size=(frames, 6, 3)) + np.array([0, 1, 3]), RATE)


def skeleton(**options):
    return make("skeleton", Source("sequence", "", RATE, BODY), **options)


PLAIN = {"centre": "none", "turn": False, "scale": "none", "velocity": False}


def test_joints_at_exactly_zero_were_lost_and_are_filled_in_and_counted(rng):
    """Trackers write 0, 0, 0 where they lose a joint; a few such frames made the largest speed thirty times what it was."""
    walk = 1 + np.cumsum(rng.normal(0, 0.02, (30, 6, 3)), axis=0) + np.arange(6)[None, :, None]
    lost = walk.copy()
    lost[10:14, 2] = lost[0, 4] = lost[29, 5] = 0
    modality = skeleton(**PLAIN | {"velocity": True})
    fine, mended = (skeleton(**PLAIN | {"velocity": True}).extract(Sequence(v, RATE)) for v in (walk, lost))
    assert np.abs(mended[..., 3:]).max() <= 1.05 * np.abs(fine[..., 3:]).max() < 4
    modality.extract(Sequence(lost, RATE))
    assert modality.counts() == {"joints of single frames that were lost, filled in": 6}
    for frame in range(10, 14):  # on the line between the frames before and after
        wanted = lost[9, 2] + (frame - 9) / 5 * (lost[14, 2] - lost[9, 2])
        np.testing.assert_allclose(mended[frame, 2, :3], wanted, rtol=1e-5)
    np.testing.assert_allclose(mended[0, 4, :3], lost[1, 4], rtol=1e-5)
    np.testing.assert_allclose(mended[29, 5, :3], lost[28, 5], rtol=1e-5)
    rooted = walk - walk[:, 3:4]  # at 0 throughout: it was measured from there
    np.testing.assert_array_equal(skeleton(**PLAIN).extract(Sequence(rooted, RATE))[:, 3], 0)


def test_points_of_a_face_at_exactly_zero_were_lost_too(rng):
    points = 100 + 30 * rng.normal(size=(1, 68, 2)) + np.cumsum(rng.normal(0, 0.1, (12, 68, 2)), axis=0)
    lost = points.copy()
    lost[5, 20] = lost[6, 20] = 0
    lost[9] = 0
    source = Source("sequence", "", RATE, {"shape": [68, 2], "axes": ["joint", "channel"]})
    modality = make("face-landmarks", source, normalise="clip-minmax", jaw="keep")
    mended = modality.extract(Sequence(lost, RATE))
    fine = make("face-landmarks", source, normalise="clip-minmax", jaw="keep").extract(Sequence(points, RATE))
    np.testing.assert_allclose(mended, fine, atol=0.02)
    assert modality.counts() == {"frames without a face, filled in": 1, "points of single frames that were lost, filled in": 2}


def test_root_stands_at_the_origin_in_the_first_or_every_frame(rng):
    raw = body(rng)
    first = skeleton(**PLAIN | {"centre": "first-frame"}).extract(raw)
    every = skeleton(**PLAIN | {"centre": "every-frame"}).extract(raw)
    for t in range(9):
        for joint in range(6):
            np.testing.assert_allclose(first[t, joint], raw.values[t, joint] - raw.values[0, 3], atol=1e-5)
            np.testing.assert_allclose(every[t, joint], raw.values[t, joint] - raw.values[t, 3], atol=1e-5)


def test_turned_shoulders_lie_along_x_and_no_height_or_distance_changes(rng):
    raw = body(rng)
    turned = skeleton(**PLAIN | {"turn": True}).extract(raw)
    across = turned[0, 5] - turned[0, 4]
    assert across[0] > 0
    assert across[2] == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(turned[..., 1], raw.values[..., 1], rtol=1e-5)

    def distances(points):
        return [math.dist(a, b) for frame in points for a in frame for b in frame]

    np.testing.assert_allclose(distances(turned), distances(raw.values), rtol=1e-4, atol=1e-5)


def test_place_heading_and_size_of_a_body_do_not_matter(rng):
    raw = body(rng)
    angle, size = 0.8, 1.3
    c, s = math.cos(angle), math.sin(angle)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    other = Sequence(size * raw.values @ about_y.T + [2, 0.3, -1], RATE)
    np.testing.assert_allclose(skeleton().extract(other), skeleton().extract(raw), rtol=1e-4, atol=1e-3)
    assert np.abs(skeleton(turn=False).extract(other) - skeleton(turn=False).extract(raw)).max() > 0.1


def test_torso_has_length_one_in_the_median_frame(rng):
    scaled = skeleton(**PLAIN | {"scale": "torso"}).extract(body(rng))
    lengths = sorted(math.dist(frame[1], frame[3]) for frame in scaled)
    assert lengths[len(lengths) // 2] == pytest.approx(1, abs=1e-5)


def test_velocity_is_the_difference_to_the_previous_frame_per_second(rng):
    raw = body(rng)
    got = skeleton(**PLAIN | {"velocity": True}).extract(raw)
    np.testing.assert_allclose(got[..., :3], raw.values, rtol=1e-5)
    for t in range(1, 9):
        np.testing.assert_allclose(got[t, :, 3:], (raw.values[t] - raw.values[t - 1]) * RATE, rtol=1e-4, atol=1e-4)
    assert (got[0, :, 3:] == 0).all()


def test_skeleton_hands_on_the_graph_and_nothing_that_does_not_concern_it():
    assert layout_of("skeleton", Source("sequence", "", RATE, BODY)).notes == {
        "graph": "custom",
        "edges": [[0, 1]],
        "centre": 1,
    }


@pytest.mark.parametrize(("note", "remedy"), [("root", "centre: none"), ("shoulders", "turn: false"), ("torso", "scale: none")])
def test_source_that_does_not_name_a_joint_is_refused_with_the_remedy(note, remedy):
    less = Source("sequence", "", RATE, {name: value for name, value in BODY.items() if name != note})
    with pytest.raises(ValueError, match=f"its {note} .*set {remedy}"):
        layout_of("skeleton", less)
    layout_of("skeleton", less, **PLAIN)


@pytest.mark.parametrize(
    ("notes", "sentence"),
    [
        ({"root": 6}, "6 joints"),
        ({"torso": [1, 9]}, "6 joints"),
        ({"shape": [6, 2]}, "turn: false"),
        ({"shape": [18], "axes": ["channel"]}, "joints × channels"),
    ],
)
def test_skeleton_refuses_a_source_that_does_not_fit(notes, sentence):
    with pytest.raises(ValueError, match=sentence):
        layout_of("skeleton", Source("sequence", "", RATE, BODY | notes))


def test_skeleton_refuses_nan_and_bodies_without_size_or_heading(rng):
    raw = body(rng)
    raw.values[4, 2, 1] = np.nan
    with pytest.raises(DataError, match="frame 5, joint 2, channel 1 is nan"):
        skeleton().extract(raw)
    with pytest.raises(DataError, match="above each other"):
        skeleton().extract(Sequence(np.ones((3, 6, 3)), RATE))
    with pytest.raises(DataError, match="length 0"):
        skeleton(turn=False).extract(Sequence(np.ones((3, 6, 3)), RATE))


# -------------------------------------------------------------------------------------------------------------- signals


def test_signals_are_kept_as_they_are(rng):
    values = rng.normal(size=(20, 4)).astype(np.float32)
    got = make("signals", Source("sequence", "", 50.0, {"shape": [4]}), rate=50.0).extract(Sequence(values, 50.0))
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize(("rate", "wanted"), [(50.0, 20.0), (50.0, 75.0), (30000 / 1001, 30.0), (100.0, 25.0), (30.0, 29.97)])
def test_resampled_steps_stand_at_k_over_the_new_rate(rate, wanted):
    n = int(4 * rate)
    time = np.arange(n) / rate
    values = np.stack([np.sin(2 * np.pi * 1.5 * time + 0.3), 3 + 2 * time], axis=1)  # far below half of either rate
    source = Source("sequence", "", rate, {"shape": [2]})
    got = make("signals", source, rate=wanted).extract(Sequence(values, rate))
    at = np.arange(len(got)) / wanted
    assert time[-1] - 1 / wanted < at[-1] <= time[-1] + 1e-6
    inner = (at > 0.6) & (at < time[-1] - 0.6)  # the filter sees nothing beyond the ends
    np.testing.assert_allclose(got[inner, 0], np.sin(2 * np.pi * 1.5 * at + 0.3)[inner], atol=0.01)
    np.testing.assert_allclose(got[:, 1], 3 + 2 * at, atol=0.02)


def test_resampling_to_a_lower_rate_does_not_fold_high_frequencies_down():
    time = np.arange(1000) / 100
    tone = np.sin(2 * np.pi * 18 * time)[:, None]  # would show as 2 Hz at 20 steps a second
    source = Source("sequence", "", 100.0, {"shape": [1]})
    got = make("signals", source, rate=20.0).extract(Sequence(tone, 100.0))
    assert np.abs(got[20:-20]).max() < 0.05


def test_columns_of_a_table_come_in_the_order_asked_for(rng):
    table = openface(rng, 4)
    got = make("signals", table_source(OPENFACE), columns=("x_9", "AU01_r")).extract(table)
    np.testing.assert_array_equal(got, table.values[:, [OPENFACE.index("x_9"), OPENFACE.index("AU01_r")]])


def test_nan_in_a_signal_is_refused_with_its_place(rng):
    table, ready = openface(rng, 4), rng.normal(size=(5, 3))
    table.values[2, OPENFACE.index("x_9")], ready[1, 2] = np.nan, np.inf
    with pytest.raises(DataError, match="row 3, column 'x_9' is nan"):
        make("signals", table_source(OPENFACE)).extract(table)
    with pytest.raises(DataError, match="row 2, column '2' is inf"):
        make("signals", Source("sequence", "", 9.0, {"shape": [3]})).extract(Sequence(ready, 9.0))


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        (table_source(UNITS), {"columns": ("AU99_r",)}, "no column 'AU99_r'"),
        (table_source(UNITS, None), {"rate": 5.0}, "one row a frame"),
        (Source("sequence", "", None, {"shape": [3]}), {}, "set rate:"),
        (Source("sequence", "", 9.0, {"shape": [3]}), {"columns": ("a",)}, "columns are for tables"),
        (Source("sequence", "", 9.0, {"shape": [3, 2]}), {}, "channels over time"),
        (Source("sequence", "", 9.0), {}, "shape of a step"),
    ],
)
def test_signals_refuse_what_they_cannot_take(source, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        layout_of("signals", source, **options)
