"""Each modality against an obvious slow computation or another library, and what each refuses."""

import math
import subprocess
import sys
import warnings

import mmcl_modalities
import numpy as np
import pytest
from mmcl_modalities import KINDS, MODALITIES

from mmcl.api import Audio, DataError, Sequence, Source, Table, Timed, Video, Words

SPECS = {spec.name: spec for spec in MODALITIES}
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


def make(name, source, **options):
    spec = SPECS[name]
    return spec.build(spec.params(**options), source)


def lay(name, source, **options):
    spec = SPECS[name]
    return spec.layout(spec.params(**options), source)


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


@pytest.fixture
def rng():
    return np.random.default_rng(7)


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
    yield "frames", {"size": (5, 7), "grey": True, "rate": 10.0}, film, film_raw
    yield "hashed-words", {}, Source("words", "said"), words
    yield "hashed-words", {"dim": 5, "pieces": "trigrams"}, Source("words", "said"), Words(words.words)


@pytest.mark.parametrize(("name", "options", "source", "raw"), list(examples()))
def test_layout_is_what_extract_returns(name, options, source, raw):
    spec, layout = SPECS[name], lay(name, source, **options)
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


# ---------------------------------------------------------------------------------------------------------------- sound


def librosa_level(samples, rate, transform, window, hop, bands, reference, fmin=0.0, fmax=None):
    from librosa import power_to_db
    from librosa.feature import melspectrogram

    power = melspectrogram(
        y=samples, sr=rate, n_fft=transform, win_length=window, hop_length=hop, n_mels=bands, fmin=fmin, fmax=fmax
    )
    return power_to_db(power, ref=np.max if reference == "clip-max" else 1.0, top_db=80).T


@pytest.mark.parametrize("reference", ["clip-max", "absolute"])
@pytest.mark.parametrize(
    ("options", "transform", "window", "hop"),
    [
        ({}, 400, 400, 160),
        ({"bands": 40, "window": 0.04, "hop": 0.02, "fmin": 50.0, "fmax": 7000.0}, 640, 640, 320),
        ({"bands": 128, "sample_rate": 22050, "window": 2048 / 22050, "hop": 1 / 29.97}, 2048, 2048, 736),  # MPUC-MER's
        ({"sample_rate": 11025, "bands": 20}, 276, 276, 110),
        ({"sample_rate": 8000, "window": 0.040125, "bands": 20}, 321, 321, 80),  # an odd window
        ({"bands": 256}, 800, 400, 160),  # padded to twice the window, or some bands would have no frequency
    ],
)
def test_log_mel_is_librosas(rng, options, transform, window, hop, reference):
    options = {"bands": 80, "sample_rate": 16000, **options}
    rate, bands = options["sample_rate"], options["bands"]
    seconds = np.arange(int(3.517 * rate)) / rate
    loud = 0.3 * np.sin(2 * np.pi * 440 * seconds**2) * (seconds > 0.7) + rng.normal(size=len(seconds)) * 1e-4
    samples = loud.astype(np.float32)
    modality = make("log-mel", Source("audio", ""), reference=reference, **options)
    got = modality.extract(Audio(samples, rate))
    wanted = librosa_level(
        samples, rate, transform, window, hop, bands, reference, options.get("fmin", 0.0), options.get("fmax")
    )
    assert got.shape == wanted.shape == (1 + len(samples) // hop, bands)
    assert np.abs(got - wanted).max() < 1e-3
    assert lay("log-mel", Source("audio", ""), **options).rate == rate / hop


@pytest.mark.parametrize("length", [1, 100, 159, 160, 400, 401])
def test_log_mel_of_very_short_sound_is_librosas(rng, length):
    samples = rng.uniform(-1, 1, length).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa warns that the sound is shorter than its window
        wanted = librosa_level(samples, 16000, 400, 400, 160, 80, "clip-max")
    assert np.abs(make("log-mel", Source("audio", "")).extract(Audio(samples, 16000)) - wanted).max() < 1e-3


def test_log_mel_of_long_sound_does_not_depend_on_how_it_is_cut_into_blocks(rng, monkeypatch):
    from mmcl_modalities import audio

    samples = rng.uniform(-1, 1, 16000).astype(np.float32)
    whole = make("log-mel", Source("audio", "")).extract(Audio(samples, 16000))
    monkeypatch.setattr(audio, "BLOCK", 7)
    np.testing.assert_allclose(make("log-mel", Source("audio", "")).extract(Audio(samples, 16000)), whole, atol=1e-4)


def test_no_band_is_left_without_a_frequency():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # librosa warns of empty filters
        for bands in (80, 128, 256, 512):
            filters = make("log-mel", Source("audio", ""), bands=bands).filters
            assert (filters.max(axis=0) > 0).all()


def test_step_k_of_log_mel_is_centred_on_k_hops():
    samples = np.zeros(16000, np.float32)
    samples[50 * 160] = 1
    level = make("log-mel", Source("audio", "")).extract(Audio(samples, 16000))
    assert level.sum(axis=1).argmax() == 50


def test_sound_of_another_rate_is_resampled_and_keeps_its_pitch():
    def loudest_band(rate):
        tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
        level = make("log-mel", Source("audio", "")).extract(Audio(tone, rate))
        assert level.shape == (101, 80)
        return level.mean(axis=0).argmax()

    assert loudest_band(48000) == loudest_band(22050) == loudest_band(16000)


def test_subtracting_the_mean_takes_out_a_microphones_colour(rng):
    source = Source("audio", "")
    sound = rng.uniform(-0.5, 0.5, 16000).astype(np.float32)
    plain = make("log-mel", source, mean="subtract", reference="absolute").extract(Audio(sound, 16000))
    quiet = make("log-mel", source, mean="subtract", reference="absolute").extract(Audio(sound / 8, 16000))
    np.testing.assert_allclose(plain, quiet, atol=1e-3)
    np.testing.assert_allclose(plain.mean(axis=0), 0, atol=1e-4)


def test_absolute_reference_keeps_the_level_and_clip_max_does_not(rng):
    sound = rng.uniform(-0.5, 0.5, 16000).astype(np.float32)

    def difference(reference):
        modality = make("log-mel", Source("audio", ""), reference=reference)
        return float((modality.extract(Audio(sound, 16000)) - modality.extract(Audio(sound / 10, 16000))).mean())

    assert difference("absolute") == pytest.approx(20, abs=1e-2)  # a tenth of the amplitude is 20 dB less
    assert difference("clip-max") == pytest.approx(0, abs=1e-2)


def test_nan_in_sound_is_refused_with_its_place():
    samples = np.zeros(2000, np.float32)
    samples[1234] = np.nan
    with pytest.raises(DataError, match=r"sample 1,234 is nan"):
        make("log-mel", Source("audio", "")).extract(Audio(samples, 16000))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fmax": 9000.0}, "above half"),
        ({"fmin": 8000.0}, "not below fmax"),
        ({"window": 1e-5}, "two samples"),
        ({"hop": 1e-5}, "a sample"),
    ],
)
def test_log_mel_refuses_bands_and_times_that_cannot_be(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        lay("log-mel", Source("audio", ""), **options)


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
    assert lay("action-units", source).kind == "vector"
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
        lay("action-units", table_source(["gaze", "AU01_r"]), units="presences")


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
        lay("face-landmarks", source)


# ----------------------------------------------------------------------------------------------------------------- body


def body(rng, frames=9):
    return Sequence(rng.normal(size=(frames, 6, 3)) + np.array([0, 1, 3]), RATE)


def skeleton(**options):
    return make("skeleton", Source("sequence", "", RATE, BODY), **options)


PLAIN = {"centre": "none", "turn": False, "scale": "none", "velocity": False}


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
    assert lay("skeleton", Source("sequence", "", RATE, BODY)).notes == {"graph": "custom", "edges": [[0, 1]], "centre": 1}


@pytest.mark.parametrize(("note", "remedy"), [("root", "centre: none"), ("shoulders", "turn: false"), ("torso", "scale: none")])
def test_source_that_does_not_name_a_joint_is_refused_with_the_remedy(note, remedy):
    less = Source("sequence", "", RATE, {name: value for name, value in BODY.items() if name != note})
    with pytest.raises(ValueError, match=f"its {note} .*set {remedy}"):
        lay("skeleton", less)
    lay("skeleton", less, **PLAIN)


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
        lay("skeleton", Source("sequence", "", RATE, BODY | notes))


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
        lay("signals", source, **options)


# --------------------------------------------------------------------------------------------------------------- frames


def film(shape=(3, 12, 16), rate=RATE):
    return Source("video", "", rate, {"shape": list(shape)})


def test_frames_are_kept_byte_for_byte_and_scaled_to_one(rng):
    frames = rng.integers(0, 256, (5, 3, 12, 16), np.uint8)
    np.testing.assert_array_equal(make("frames", film()).extract(Video(frames, RATE)), frames)
    assert lay("frames", film()).scale * 255 == pytest.approx(1)


def test_whole_blocks_of_pixels_become_their_mean(rng):
    frames = rng.integers(0, 256, (70, 2, 12, 16), np.uint8)  # more than are worked on at once
    got = make("frames", film((2, 12, 16)), size=(4, 8)).extract(Video(frames, RATE))
    for t, c, y, x in [(0, 0, 0, 0), (3, 1, 3, 7), (69, 0, 2, 5), (64, 1, 1, 1)]:
        pixels = [int(frames[t, c, 3 * y + dy, 2 * x + dx]) for dy in range(3) for dx in range(2)]
        assert abs(int(got[t, c, y, x]) - sum(pixels) / 6) <= 0.5
    assert got.shape == (70, 2, 4, 8)


def test_other_sizes_are_smoothed_before_they_shrink_and_keep_a_gradient():
    stripes = np.zeros((1, 1, 40, 40), np.uint8)
    stripes[..., ::2] = 255
    got = make("frames", film((1, 40, 40)), size=(15, 15)).extract(Video(stripes, RATE))
    assert np.abs(got[..., 2:-2].astype(int) - 127).max() < 40  # picking pixels would leave stripes of 0 and 255
    ramp = np.broadcast_to(np.arange(0, 200, 5, dtype=np.uint8), (1, 1, 40, 40))
    got = make("frames", film((1, 40, 40)), size=(16, 16)).extract(Video(ramp, RATE))[0, 0, 8]
    wanted = [5 * ((x + 0.5) * 40 / 16 - 0.5) for x in range(16)]
    np.testing.assert_allclose(got[1:-1], wanted[1:-1], atol=1.01)


def test_grey_is_brightness_after_bt_601():
    frames = np.zeros((4, 3, 2, 2), np.uint8)
    for k, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]):
        frames[k] = np.array(colour, np.uint8)[:, None, None]
    got = make("frames", film((3, 2, 2)), grey=True).extract(Video(frames, RATE))
    assert got.shape == (4, 1, 2, 2)
    assert got[:, 0, 0, 0].tolist() == [round(0.299 * 255), round(0.587 * 255), round(0.114 * 255), 255]


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 31])
@pytest.mark.parametrize(("rate", "wanted"), [(30.0, 15.0), (30.0, 10.0), (25.0, 10.0), (30000 / 1001, 8.0), (30.0, 30.0)])
def test_thinned_frames_are_the_nearest_to_their_times(n, rate, wanted):
    frames = np.arange(n, dtype=np.uint8)[:, None, None, None]
    got = make("frames", film((1, 1, 1), rate), rate=wanted).extract(Video(frames, rate)).ravel()
    assert len(got) == sum(k / wanted <= (n - 1) / rate + 1e-6 for k in range(n + 1))
    for k, frame in enumerate(got):
        distances = [abs(i / rate - k / wanted) for i in range(n)]
        assert distances[frame] <= min(distances) + 1e-9


def test_frames_come_at_the_promised_rate_even_where_the_recording_is_slower():
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None]
    got = make("frames", film((1, 1, 1), None), rate=20.0).extract(Video(frames, 10.0)).ravel()
    assert got.tolist()[::2] == list(range(10))


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (np.zeros((4, 1, 12, 16), np.uint8), r"\[frames, 3, height, width\]"),
        (np.zeros((4, 3, 12, 16), np.float32), "float32"),
        (np.zeros((4, 3, 10, 16), np.uint8), r"promises \[12, 16\]"),
    ],
)
def test_frames_other_than_promised_are_refused(frames, sentence):
    with pytest.raises(DataError, match=sentence):
        make("frames", film()).extract(Video(frames, RATE))


def test_frames_of_any_size_are_taken_where_they_are_resized(rng):
    frames = rng.integers(0, 256, (2, 3, 24, 24), np.uint8)
    assert make("frames", film(), size=(6, 6)).extract(Video(frames, RATE)).shape == (2, 3, 6, 6)


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        (film(), {"rate": 60.0}, "above the source's 30"),
        (film((2, 4, 4)), {"grey": True}, "1 or 3 channels"),
        (film(rate=None), {}, "set rate:"),
        (film(), {"size": (0, 4)}, "at least 1"),
        (Source("video", "", RATE), {}, "shape of a step"),
    ],
)
def test_frames_refuse_what_they_cannot_take(source, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        lay("frames", source, **options)


# ---------------------------------------------------------------------------------------------------------------- words


def vectors(*words, **options):
    return make("hashed-words", Source("words", ""), **options).extract(Words(words)).values


def test_a_word_has_one_vector_whatever_its_capitals_and_punctuation():
    got = vectors("Hello", " hello,", "“HELLO!”", "help", "...", "!")
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])
    assert len({tuple(v) for v in got}) == 4  # hello, help, and marks that stand alone


def test_vectors_are_the_same_in_another_process():
    code = "import sys; sys.path[:0] = sys.argv[1:]; from mmcl_modalities.words import gaussian; print(*gaussian('a', 3))"
    path = str(mmcl_modalities.__path__[0]).removesuffix("mmcl_modalities")
    seen = set()
    for seed in ("1", "2"):
        command, settings = [sys.executable, "-c", code, path], {"PYTHONHASHSEED": seed}
        seen.add(subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout)
    assert len(seen) == 1


@pytest.mark.parametrize("pieces", ["word", "trigrams"])
def test_vectors_are_standard_normal_over_the_root_of_their_length(pieces):
    got = vectors(*(f"{a}{b}" for a in ("sun", "rain", "moon", "wind", "fog") for b in "abcdefgh"), pieces=pieces, dim=256)
    unit = got.ravel() * math.sqrt(256)
    assert unit.mean() == pytest.approx(0, abs=0.1)
    assert unit.std() == pytest.approx(1, abs=0.1)
    if pieces == "word":  # 10,240 independent values
        inside = np.abs(unit) < 1.0
        assert inside.mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.02)
        assert np.abs(np.corrcoef(got) - np.eye(len(got))).max() < 0.35


def test_trigrams_bring_inflections_together_and_leave_other_words_apart():
    running, runs, table = vectors("running", "runnings", "table", pieces="trigrams", dim=1024)
    assert running @ runs > 0.6
    assert abs(running @ table) < 0.15
    alone = vectors("running", "runnings", dim=1024)
    assert abs(alone[0] @ alone[1]) < 0.15


def test_another_seed_gives_other_vectors():
    assert abs(vectors("word", dim=1024)[0] @ vectors("word", dim=1024, seed=1)[0]) < 0.15


def test_words_keep_their_own_times_and_blank_ones_go():
    times = np.array([[0.1, 0.4], [0.4, 0.5], [0.9, 1.5]])
    got = make("hashed-words", Source("words", "")).extract(Words(("one", " ", "two"), times))
    np.testing.assert_array_equal(got.times, times[[0, 2]])
    np.testing.assert_array_equal(got.values, vectors("one", "two"))


def test_words_without_times_follow_each_other_at_the_assumed_pace():
    got = make("hashed-words", Source("words", ""), words_per_second=4.0).extract(Words(("a", "", "b", "c")))
    np.testing.assert_allclose(got.times, [[0, 0.25], [0.25, 0.5], [0.5, 0.75]])


def test_times_that_are_not_one_finite_pair_a_word_are_refused():
    modality = make("hashed-words", Source("words", ""))
    with pytest.raises(DataError, match="2 words have times of shape"):
        modality.extract(Words(("a", "b"), np.zeros((3, 2))))
    with pytest.raises(DataError, match=r"word 2 \('b'\)"):
        modality.extract(Words(("a", "b"), np.array([[0, 1], [np.nan, 2]])))
