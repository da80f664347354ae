"""Log-mel spectrograms: librosa's values, whatever the length, the rate and the level of the sound, and what they refuse."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from mmcl_modalities import MODALITIES

from mmcl.api import Audio, DataError, Source
from mmcl.testing.modality import builders

make, layout_of = builders(MODALITIES)


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
    assert layout_of("log-mel", Source("audio", ""), **options).rate == rate / hop


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
        layout_of("log-mel", Source("audio", ""), **options)
