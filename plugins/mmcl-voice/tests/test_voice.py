"""voice-mel and voice-functionals against librosa, against sounds whose pitch and level are known, and against slow computations."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from mmcl_voice import FUNCTIONALS, MELODY, MODALITIES, contour_names

from mmcl.api import Audio, DataError, Source, Timed
from mmcl.testing import check_modality, make_variants

SPECS = {spec.name: spec for spec in MODALITIES}
SOUND = Source("audio", "a voice")
RATE = 16_000


def make(name, **options):
    spec = SPECS[name]
    return spec.build(spec.params(**options), SOUND)


def lay(name, **options):
    spec = SPECS[name]
    return spec.layout(spec.params(**options), SOUND)


def buzz(frequency, seconds=1.0, level=0.1, rate=RATE):
    """Ten harmonics of a frequency (a number, or one a sample)."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, round(seconds * rate))) / rate
    return (level * sum(np.sin(k * phase) / k for k in range(1, 11))).astype(np.float32)


def quiet(seconds, rate=RATE, seed=0):
    return np.random.default_rng(seed).normal(0, 1e-5, round(seconds * rate)).astype(np.float32)


def spoken():
    """0.5 s of quiet, 0.6 s of a voice, 0.1 s of quiet, 0.4 s of a voice, 0.5 s of quiet, 0.3 s of a voice, 0.7 s of quiet."""
    parts = [quiet(0.5), buzz(150, 0.6), quiet(0.1), buzz(180, 0.4), quiet(0.5), buzz(120, 0.3), quiet(0.7)]
    return np.concatenate(parts)


def values_of(stream):
    return stream.values if isinstance(stream, Timed) else stream


# ----------------------------------------------------------------------------------------------------------- both features


@pytest.mark.parametrize("name", SPECS)
def test_the_toolkits_own_checks_pass_with_every_choice(name):
    for params in make_variants(SPECS[name].params):
        check_modality(SPECS[name], params=params)


CHOICES = [
    ("voice-mel", {}),
    ("voice-mel", {"silence": "trim", "extras": ("pitch", "voicing", "level", "activity"), "deltas": 2}),
    ("voice-mel", {"silence": "drop", "clock": "own"}),
    ("voice-functionals", {}),
    ("voice-functionals", {"over": "clip", "cepstra": 0, "trim": False}),
    ("voice-functionals", {"over": "parts-over-time", "parts": 7}),
    ("voice-functionals", {"over": "seconds", "seconds": 0.3}),
]
ODD = {
    "silence": np.zeros(8000, np.float32),
    "constant": np.full(8000, 0.25, np.float32),
    "one sample": np.array([0.5], np.float32),
    "shorter than a step": buzz(200, 0.005),
    "a click": np.eye(1, 8000, 4000, dtype=np.float32)[0],
    "clipped": np.sign(buzz(200)).astype(np.float32),
    "noise": np.random.default_rng(0).uniform(-1, 1, 8000).astype(np.float32),
}


@pytest.mark.parametrize(("name", "options"), CHOICES, ids=str)
@pytest.mark.parametrize("sound", ODD)
def test_odd_sounds_give_finite_values_of_the_promised_shape(name, options, sound):
    layout = lay(name, **options)
    stream = make(name, **options).extract(Audio(ODD[sound], RATE))
    values = values_of(stream)
    assert values.dtype == np.float32
    assert values.shape[1 if layout.timed else 0 :] == layout.shape
    assert np.isfinite(values).all()
    assert isinstance(stream, Timed) == (layout.timed and layout.rate is None)
    if layout.timed:
        assert len(values) >= 1


@pytest.mark.parametrize("name", SPECS)
def test_sound_that_is_empty_of_two_channels_or_not_finite_is_refused(name):
    for samples in (np.zeros(0, np.float32), np.zeros((9, 2), np.float32), np.array([0, np.nan], np.float32)):
        with pytest.raises(DataError, match="expected"):
            make(name).extract(Audio(samples, RATE))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fmax": 9000.0}, "half the sample rate"),
        ({"fmin": 7000.0, "fmax": 6000.0}, "not below fmax"),
        ({"pitch_low": 500.0, "pitch_high": 400.0}, "must be below"),
        ({"sample_rate": 2000}, "quarter of the sample rate"),
        ({"sample_rate": 3000, "pitch_high": 700.0, "window": 0.002}, "fewer than eight samples"),
    ],
)
def test_options_that_contradict_each_other_are_refused_in_a_sentence(name, options, words):
    with pytest.raises(ValueError, match=words):
        lay(name, **options)


@pytest.mark.parametrize("name", SPECS)
def test_another_sample_rate_of_the_same_sound_changes_little(name):
    options = {"fmax": 4000.0}
    one = make(name, **options).extract(Audio(buzz(150, 2.0, rate=16_000), 16_000))
    other = make(name, **options).extract(Audio(buzz(150, 2.0, rate=44_100), 44_100))
    close = np.abs(one[..., 20:-20, :40] - other[..., 20:-20, :40]) if name == "voice-mel" else np.abs(one - other)[:40]
    assert np.median(close) < 0.2  # dB


# ------------------------------------------------------------------------------------------------------------------- bands


@pytest.mark.parametrize(
    "options",
    [{}, {"bands": 40, "fmin": 0.0, "window": 0.04, "hop": 0.02}, {"sample_rate": 8000, "fmax": 3800.0, "bands": 24}],
    ids=str,
)
def test_bands_are_librosas_at_their_absolute_level(options):
    from librosa import power_to_db
    from librosa.feature import melspectrogram

    full = {"bands": 64, "sample_rate": RATE, "fmin": 50.0, "window": 0.025, "hop": 0.01, **options}
    rate, length, hop = (
        full["sample_rate"],
        round(full["window"] * full["sample_rate"]),
        round(full["hop"] * full["sample_rate"]),
    )
    draw = np.random.default_rng(1)
    samples = (0.2 * np.sin(np.arange(2 * rate) ** 1.5 / 900) + draw.normal(0, 1e-3, 2 * rate)).astype(np.float32)
    got = make("voice-mel", **options).extract(Audio(samples, rate))
    filters = {"n_mels": full["bands"], "fmin": full["fmin"], "fmax": full.get("fmax")}
    power = melspectrogram(y=samples, sr=rate, n_fft=length, win_length=length, hop_length=hop, **filters)
    wanted = power_to_db(power, ref=1.0, top_db=None).T
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-2
    assert lay("voice-mel", **options).rate == rate / hop


def test_every_band_has_a_frequency_of_its_own_and_librosa_warns_of_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modality = make("voice-mel", bands=256)
    assert (modality.spectrum.filters > 0).any(axis=0).all()


def test_a_voice_twice_as_loud_is_6_db_louder_in_every_band_and_nothing_else():
    soft, loud = (
        make("voice-mel", extras=("level", "activity", "pitch", "voicing")).extract(Audio(buzz(150, level=a), RATE))
        for a in (0.05, 0.1)
    )
    strong = soft[:, :64] > -70
    assert np.abs((loud - soft)[:, :64][strong] - 20 * np.log10(2)).max() < 0.01
    np.testing.assert_allclose(loud[:, 64] - soft[:, 64], 20 * np.log10(2), atol=1e-3)
    np.testing.assert_allclose(loud[:, 65:], soft[:, 65:], atol=1e-3)


def test_the_floor_raises_what_is_softer_and_leaves_the_rest():
    free, floored = (
        make("voice-mel", floor=floor, extras=("level",)).extract(Audio(spoken(), RATE)) for floor in (-100.0, -60.0)
    )
    np.testing.assert_array_equal(floored, np.maximum(free, -60))


def test_changes_are_slopes_per_second_and_changes_of_changes_follow():
    rising = (buzz(150, 2.0) * 10 ** (np.arange(2 * RATE) / RATE)).astype(np.float32) / 100  # 20 dB a second
    values = make("voice-mel", extras=("level",), deltas=2).extract(Audio(rising, RATE))
    assert values.shape[1] == 3 * 65
    np.testing.assert_allclose(values[20:-20, 65 + 64], 20, atol=0.6)
    assert np.abs(values[20:-20, 2 * 65 + 64]).mean() < 20


# ----------------------------------------------------------------------------------------------------------------- silence


def test_trimming_leaves_out_the_ends_and_keeps_each_steps_time():
    whole = make("voice-mel").extract(Audio(spoken(), RATE))
    stream = make("voice-mel", silence="trim").extract(Audio(spoken(), RATE))
    assert isinstance(stream, Timed)
    middles = stream.times.mean(axis=1)
    assert middles[0] == pytest.approx(0.5, abs=0.03)  # a window that overlaps the voice is loud enough
    assert middles[-1] == pytest.approx(2.4, abs=0.03)
    np.testing.assert_allclose(np.diff(middles), 0.01)
    for step, middle in list(zip(stream.values, middles, strict=True))[::17]:
        np.testing.assert_array_equal(step, whole[round(middle * 100)])


def test_dropping_leaves_out_long_pauses_and_keeps_short_ones():
    stream = make("voice-mel", silence="drop").extract(Audio(spoken(), RATE))
    middles = stream.times.mean(axis=1)
    gaps = np.flatnonzero(np.diff(middles) > 0.011)
    assert len(gaps) == 1  # the pause of 0.5 s; that of 0.1 s stays
    assert middles[gaps[0]] == pytest.approx(1.6, abs=0.03)
    assert middles[gaps[0] + 1] == pytest.approx(2.1, abs=0.03)
    assert (stream.times[:, 0] >= 0).all()


def test_a_clock_of_its_own_gives_the_same_steps_at_a_fixed_rate():
    timed = make("voice-mel", silence="trim").extract(Audio(spoken(), RATE))
    own = make("voice-mel", silence="trim", clock="own").extract(Audio(spoken(), RATE))
    np.testing.assert_array_equal(own, timed.values)
    assert lay("voice-mel", silence="trim", clock="own").rate == 100
    assert lay("voice-mel", silence="trim").rate is None
    assert lay("voice-mel").rate == 100


def test_what_is_left_out_is_counted():
    modality = make("voice-mel", silence="trim")
    stream = modality.extract(Audio(spoken(), RATE))
    counts = modality.counts()
    assert counts["steps of sound"] - counts["steps left out as silence"] == len(stream.values)
    assert counts["steps of sound"] == 311


def test_activity_is_as_asked_for():
    soft = np.concatenate([buzz(150, 0.5, 0.1), buzz(150, 0.5, 0.1 * 10 ** (-35 / 20))])  # 35 dB softer
    for top_db, share in ((30.0, 0.5), (40.0, 1.0)):
        values = make("voice-mel", extras=("activity",), top_db=top_db).extract(Audio(soft, RATE))
        assert values[:, -1].mean() == pytest.approx(share, abs=0.03)


# ------------------------------------------------------------------------------------------------------------------- pitch


@pytest.mark.parametrize("frequency", [70, 99.3, 150, 233, 410, 590])
def test_the_pitch_of_a_buzz_is_its_frequency(frequency):
    values = make("voice-mel", extras=("pitch", "voicing")).extract(Audio(buzz(frequency, 1.0), RATE))[10:-10]
    assert np.abs(values[:, -2] - 12 * np.log2(frequency / 100)).max() < 0.1
    assert values[:, -1].min() > 0.9


def test_a_glide_is_followed_and_agrees_with_librosa():
    import librosa
    from mmcl_voice.pitch import yin

    glide = np.geomspace(100, 300, 2 * RATE)
    samples = buzz(glide, 2.0)
    frequency, voicing = yin(samples, RATE, 160, 60, 600)
    theirs = librosa.yin(samples, fmin=60, fmax=600, sr=RATE, frame_length=1024, hop_length=160)
    true = glide[np.minimum(np.arange(len(frequency)) * 160, len(glide) - 1)]
    inside = slice(10, -10)
    assert np.abs(12 * np.log2(frequency / true))[inside].max() < 0.2
    assert np.abs(12 * np.log2(frequency[inside] / theirs[: len(frequency)][inside])).max() < 0.3
    assert voicing[inside].min() > 0.9


def test_yin_is_the_papers_equations():
    """Equations 6 and 8, by loops."""
    from mmcl_voice.pitch import _difference, _normalised

    half = 40
    frame = np.random.default_rng(0).normal(size=2 * half)
    wanted = [sum((frame[j] - frame[j + lag]) ** 2 for j in range(half)) for lag in range(half + 1)]
    got = _difference(frame[None], half)
    np.testing.assert_allclose(got[0], wanted, atol=1e-9)
    ratios = [1.0] + [wanted[lag] / (sum(wanted[1 : lag + 1]) / lag) for lag in range(1, half + 1)]
    np.testing.assert_allclose(_normalised(got)[0], ratios)


def test_noise_and_silence_are_not_voiced_and_pitch_between_voices_lies_between():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    for samples in (noise, np.zeros(RATE, np.float32)):
        values = make("voice-mel", extras=("pitch", "voicing")).extract(Audio(samples, RATE))
        assert np.median(values[:, -1]) < 0.5
    assert (values[:, -2] == 0).all()  # of silence
    two = np.concatenate([buzz(100, 0.5), quiet(0.5), buzz(200, 0.5)])
    pitch, voicing = make("voice-mel", extras=("pitch", "voicing")).extract(Audio(two, RATE)).T[-2:]
    assert (voicing[55:95] == 0).all()
    assert pitch[75] == pytest.approx(6, abs=0.5)  # half an octave, half way


# -------------------------------------------------------------------------------------------------------------- functionals


def names_of(options):
    params = SPECS["voice-functionals"].params(**options)
    contours = contour_names(params)
    whole = [f"{contour}-{f}" for f in FUNCTIONALS for contour in contours]
    whole += [f"{contour}-voiced-{f}" for f in ("mean", "deviation") for contour in contours] + list(MELODY)
    parts = [f"{contour}-{f}-{k}" for k in range(params.parts) for f in FUNCTIONALS for contour in contours]
    return [*whole, *parts] if params.over == "parts" else whole


def extracted(samples, **options):
    vector = values_of(make("voice-functionals", **options).extract(Audio(samples, RATE)))
    return dict(zip(names_of(options), vector.T, strict=True))


def test_functionals_are_those_of_a_slow_computation():
    from scipy.stats import linregress

    contours = np.random.default_rng(0).normal(size=(37, 3)).astype(np.float32)
    from mmcl_voice.functionals import functionals

    got = functionals(contours, 100.0).reshape(len(FUNCTIONALS), 3)
    for k in range(3):
        column = contours[:, k].astype(float)
        ordered = np.sort(column)

        def percentile(share, ordered=ordered):
            place = share * (len(ordered) - 1)
            below = int(place)
            return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])

        wanted = {
            "mean": sum(column) / 37,
            "deviation": (sum((v - sum(column) / 37) ** 2 for v in column) / 37) ** 0.5,
            "slope": linregress(np.arange(37) / 100, column).slope,
            "low": percentile(0.1),
            "high": percentile(0.9),
            "change": sum(abs(column[i + 1] - column[i]) for i in range(36)) / 36,
        }
        np.testing.assert_allclose(got[:, k], [wanted[f] for f in FUNCTIONALS], rtol=1e-4)


def test_the_melody_of_a_known_voice():
    tune = np.concatenate([quiet(0.5), buzz(100, 0.6), quiet(0.4), buzz(200, 0.6), quiet(0.5)])
    got = extracted(tune)
    assert got["seconds"] == pytest.approx(1.6, abs=0.05)  # the ends are left out
    assert got["pitch-5"] == pytest.approx(0, abs=0.3)
    assert got["pitch-95"] == pytest.approx(12, abs=0.3)
    assert got["pitch-mean"] == pytest.approx(6, abs=0.5)
    assert got["voiced-share"] == pytest.approx(1.2 / 1.6, abs=0.05)
    assert got["voiced-stretches"] == pytest.approx(2 / 1.6, abs=0.1)
    assert got["voiced-length"] == pytest.approx(0.6, abs=0.05)
    assert got["active-share"] == pytest.approx(1.2 / 1.6, abs=0.06)
    assert got["pitch-change"] < 1
    kept = extracted(tune, trim=False)
    assert kept["seconds"] == pytest.approx(2.6, abs=0.02)


def test_nothing_voiced_has_a_melody_of_zeros():
    got = extracted(np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32) * 0, over="clip")
    assert all(got[name] == 0 for name in MELODY if name.startswith(("pitch", "voiced")))
    modality = make("voice-functionals")
    for samples in (np.zeros(RATE, np.float32), buzz(150)):
        modality.extract(Audio(samples, RATE))
    assert modality.counts() == {"recordings in which nothing is voiced": 1}


def test_parts_follow_each_other_and_the_whole_comes_first():
    stairs = np.concatenate([buzz(150, 0.5, 0.1 / 2**k) for k in range(4)])  # 6 dB softer each
    got = extracted(stairs)
    levels = [got[f"level-mean-{k}"] for k in range(4)]
    np.testing.assert_allclose(np.diff(levels), -20 * np.log10(2), atol=0.5)
    assert got["level-mean"] == pytest.approx(np.mean(levels), abs=0.2)
    assert got["level-slope"] == pytest.approx(-12, abs=1.5)  # 6 dB every half second
    timed = make("voice-functionals", over="parts-over-time").extract(Audio(stairs, RATE))
    np.testing.assert_allclose(timed.times, [[k / 2, (k + 1) / 2] for k in range(4)], atol=0.02)
    contours = len(contour_names(SPECS["voice-functionals"].params()))
    vector = make("voice-functionals").extract(Audio(stairs, RATE))
    parts = vector[-4 * 6 * contours :].reshape(4, -1)
    np.testing.assert_array_equal(timed.values[:, : 6 * contours], parts)


def test_times_of_parts_count_from_the_beginning_of_the_recording():
    late = np.concatenate([quiet(1.0), buzz(150, 0.8)])
    timed = make("voice-functionals", over="parts-over-time", parts=2).extract(Audio(late, RATE))
    np.testing.assert_allclose(timed.times, [[1.0, 1.4], [1.4, 1.8]], atol=0.03)


def test_each_step_of_seconds_describes_its_own_seconds():
    samples = buzz(150, 3.0)
    options = {"over": "seconds", "seconds": 0.5}
    before = make("voice-functionals", **options).extract(Audio(samples, RATE))
    other = samples.copy()
    other[round(1.1 * RATE) : round(1.4 * RATE)] *= 0.5
    after = make("voice-functionals", **options).extract(Audio(other, RATE))
    assert before.shape == after.shape == (6, lay("voice-functionals", **options).sizes["channel"])
    changed = np.flatnonzero((np.abs(before - after) > 1e-4).any(axis=1))
    assert list(changed) == [2]
    assert lay("voice-functionals", **options).rate == 2


def test_only_the_level_of_a_voice_twice_as_loud_differs():
    voice = buzz(150) + np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)  # no band at the floor
    soft, loud = (extracted(samples) for samples in (voice, 2 * voice))
    assert loud["level-mean"] - soft["level-mean"] == pytest.approx(20 * np.log10(2), abs=0.01)
    assert loud["band-10-mean"] - soft["band-10-mean"] == pytest.approx(20 * np.log10(2), abs=0.05)
    for name in (*MELODY, "cepstrum-1-mean", "level-deviation", "level-slope"):
        assert loud[name] == pytest.approx(soft[name], abs=0.02), name


# ---------------------------------------------------------------------------------------------------- the recordings themselves


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("MMCL_REAL_DATA")
    if not folder or not (Path(folder) / "ravdess").is_dir():
        pytest.skip("set MMCL_REAL_DATA to a folder that holds ravdess/ to read the real recordings")
    return Path(folder) / "ravdess"


@pytest.mark.real
def test_real_voices_are_trimmed_and_women_speak_higher_than_men(real):
    import soundfile

    modality, mel = make("voice-functionals", over="clip"), make("voice-mel", silence="trim")
    pitch, begins, lost = {0: [], 1: []}, [], []
    for actor in range(1, 25):
        for file in sorted((real / f"Actor_{actor:02d}").glob("03-01-0[15]-*.wav"))[::6]:
            samples, rate = soundfile.read(file, dtype="float32")
            named = dict(zip(names_of({"over": "clip"}), modality.extract(Audio(samples, rate)), strict=True))
            pitch[actor % 2].append(named["pitch-50"])
            times = mel.extract(Audio(samples, rate)).times
            begins.append(times[0, 0])
            lost.append(len(samples) / rate - (times[-1, 1] - times[0, 0]))
    assert 0.4 < np.median(begins) < 1.2
    assert 1.0 < np.median(lost) < 2.4  # half a second to a second of silence stands at either end
    assert np.median(pitch[0]) - np.median(pitch[1]) > 3  # actors of even number are women
    assert 60 < 100 * 2 ** (np.median(pitch[1]) / 12) < 200
