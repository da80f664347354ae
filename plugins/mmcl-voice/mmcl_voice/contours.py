"""What a voice does over time: log-mel bands at their absolute level, loudness, activity, pitch and voicing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.fft
from librosa.core.convert import mel_frequencies
from librosa.filters import mel
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from mmcl.api import Audio
from mmcl.media import Framing, blocks_at_rate

from . import VoiceFunctionalsParams, VoiceMelParams
from .pitch import REFERENCE, VOICED, Yin

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

    def framing(self) -> Framing:
        """Cuts the windows: step k is centred on sample k · hop."""
        return Framing(self.length, self.hop, self.length // 2, 4096)

    def of(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bands of some windows and their level, in dB, [n, bands + 1]."""
        spectrum = scipy.fft.rfft(frames * self.window, self.transform, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ self.filters
        level = np.square(frames, dtype=np.float64).mean(axis=1, keepdims=True)
        return np.concatenate([in_db(power), in_db(level)], axis=1, dtype=np.float32)


def in_db(power: NDArray[np.floating]) -> NDArray[np.floating]:
    """Power in dB of full scale."""
    return np.asarray(10 * np.log10(np.maximum(power, LOWEST)))


def listened(
    sound: Audio, spectrum: Spectrum, params: VoiceMelParams | VoiceFunctionalsParams, pitch: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64] | None, float]:
    """Bands [T, bands] and level [T] in dB, frequency and voicing [T, 2] by YIN where `pitch`, and how many seconds the sound lasts.

    The sound is gone through once, a block at a time.
    """
    yin = Yin(params.sample_rate, spectrum.hop, params.pitch_low, params.pitch_high)
    framings = spectrum.framing(), yin.framing()
    heights: list[NDArray[np.float32]] = []
    tones: list[NDArray[np.float64]] = []
    samples = 0
    for block in blocks_at_rate(sound, params.sample_rate):
        samples += len(block)
        heights += map(spectrum.of, framings[0].add(block))
        tones += map(yin.of, framings[1].add(block)) if pitch else ()
    heights += map(spectrum.of, framings[0].end())
    tones += map(yin.of, framings[1].end()) if pitch else ()
    both = np.concatenate(heights)
    del heights
    return both[:, :-1], both[:, -1], np.concatenate(tones) if pitch else None, samples / params.sample_rate


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


def melody(tones: NDArray[np.float64], activity: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Frequency in Hz and voicing [T, 2] → pitch in semitones above 100 Hz and voicing in [0, 1], [T, 2].

    Where nothing is voiced the pitch lies on the line between what is voiced around it; 0 where nothing ever is. A step that is
    not active is not voiced.
    """
    frequency, voicing = tones.T
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
