"""What a voice does over time: log-mel bands at their absolute level, loudness, activity, pitch and voicing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.fft
from librosa.core.convert import mel_frequencies
from librosa.filters import mel
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from . import VoiceFunctionalsParams, VoiceMelParams
from .pitch import REFERENCE, VOICED, yin

LOWEST = 1e-10
"""Power below which nothing is told apart: −100 dB."""

GAP = 0.2
"""Seconds: a pause shorter than this belongs to what is said around it."""


class Spectrum:
    """Log-mel bands in dB of full scale and the level of each step, from one pass over the windows, `rate` of them a second."""

    def __init__(self, params: VoiceMelParams | VoiceFunctionalsParams) -> None:
        rate = params.sample_rate
        self.hop, self.length = round(params.hop * rate), round(params.window * rate)
        self.rate = rate / self.hop
        self.transform = self.length
        top = rate / 2 if params.fmax is None else params.fmax
        edges = mel_frequencies(params.bands + 2, fmin=params.fmin, fmax=top)
        while rate / self.transform >= (edges[2:] - edges[:-2]).min():  # every band has a frequency of its own
            self.transform *= 2
        filters = mel(sr=rate, n_fft=self.transform, n_mels=params.bands, fmin=params.fmin, fmax=top)
        self.filters = np.ascontiguousarray(filters.T, np.float32)
        self.window = np.hanning(self.length + 1)[:-1]

    def steps(self, samples: NDArray[np.float32]) -> int:
        """Step k is centred on sample k · hop."""
        return 1 + len(samples) // self.hop

    def __call__(self, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Bands [T, bands] and level [T], both in dB."""
        steps, half = self.steps(samples), self.length // 2
        padded = np.zeros((steps - 1) * self.hop + self.length, np.float32)
        kept = samples[: len(padded) - half]
        padded[half : half + len(kept)] = kept
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.length)[:: self.hop]
        bands, level = np.empty((steps, self.filters.shape[1]), np.float32), np.empty(steps, np.float32)
        for first in range(0, steps, 4096):  # an hour of sound needs little more memory than a minute
            block = slice(first, first + 4096)
            spectrum = scipy.fft.rfft(frames[block] * self.window, self.transform, axis=1)
            power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ self.filters
            bands[block] = 10 * np.log10(np.maximum(power, LOWEST))
            level[block] = 10 * np.log10(np.maximum(np.square(frames[block], dtype=np.float64).mean(axis=1), LOWEST))
        return bands, level


def active(level: NDArray[np.float32], top_db: float, rate: float) -> NDArray[np.bool_]:
    """Steps less than `top_db` below the loudest one, and short pauses between them.

    In silence every step is as loud as the loudest, and counts.
    """
    loud: NDArray[np.bool_] = level >= level.max() - top_db
    for last, following in pairwise(np.flatnonzero(loud)):
        if 1 < following - last <= GAP * rate:
            loud[last:following] = True
    return loud


def trimmed(activity: NDArray[np.bool_]) -> slice:
    """From the first active step to the last."""
    places = np.flatnonzero(activity)
    return slice(int(places[0]), int(places[-1]) + 1)


def melody(
    samples: NDArray[np.float32], rate: int, hop: int, low: float, high: float, activity: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Pitch in semitones above 100 Hz and voicing in [0, 1], [T, 2].

    Where nothing is voiced the pitch lies on the line between what is voiced around it; 0 where nothing ever is. A step that is
    not active is not voiced.
    """
    frequency, voicing = yin(samples, rate, hop, low, high)
    voicing = np.where(activity, voicing, 0.0)
    places = np.flatnonzero(voicing >= VOICED)
    if len(places) == 0:
        return np.stack([np.zeros(len(voicing)), voicing], axis=1).astype(np.float32)
    voiced = median_filter(12 * np.log2(frequency[places] / REFERENCE), size=5, mode="nearest")  # takes single octave slips out
    pitch = np.interp(np.arange(len(voicing)), places, voiced)
    return np.stack([pitch, voicing], axis=1).astype(np.float32)


def changes(values: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
    """How fast each channel rises, per second: the slope of a line through five steps (two on either side), [T, channel]."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    n = len(values)
    slope = (padded[3 : 3 + n] - padded[1 : 1 + n] + 2 * (padded[4 : 4 + n] - padded[:n])) / 10
    return np.asarray(slope * rate, np.float32)
