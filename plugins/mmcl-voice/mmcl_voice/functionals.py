"""Statistics of a voice's contours over a recording and over stretches of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mmcl.api import Audio, Raw, Timed

from . import VoiceFunctionalsParams
from .contours import Spectrum, active, listened, melody, trimmed
from .pitch import VOICED


class VoiceFunctionals:
    """What `FUNCTIONALS` and `MELODY` name, of the recording, of its parts, or of each stretch of some seconds."""

    def __init__(self, params: VoiceFunctionalsParams) -> None:
        self.params, self.spectrum = params, Spectrum(params)
        self.rate = self.spectrum.rate
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32] | Timed:
        """[channel], or [stretches, channel]. Raises DataError for sound that is empty, NaN or infinite."""
        assert isinstance(raw, Audio)
        params = self.params
        contours, activity, seconds = self.contours(raw)
        if params.over == "seconds":
            count = max(1, round(seconds / params.seconds))
            edges = [round(k * params.seconds * self.rate) for k in range(count)]
            return np.stack([self.whole(contours[s], activity[s]) for s in stretches(edges, len(contours))])
        kept = trimmed(activity) if params.trim else slice(0, len(contours))
        contours, activity = contours[kept], activity[kept]
        edges = [round(k * len(contours) / params.parts) for k in range(params.parts)]
        if params.over == "clip":
            return self.whole(contours, activity)
        parts = stretches(edges, len(contours))
        if params.over == "parts":
            return np.concatenate([self.whole(contours, activity), *(functionals(contours[s], self.rate) for s in parts)])
        times = (np.array([[s.start, s.stop] for s in parts]) + kept.start) / self.rate
        return Timed(np.stack([self.whole(contours[s], activity[s]) for s in parts]), times)

    def contours(self, sound: Audio) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
        """What `contour_names` names over time [T, contours], which steps are active [T], and seconds."""
        params = self.params
        bands, level, tones, seconds = listened(sound, self.spectrum, params, True)
        assert tones is not None
        activity = active(level, params.top_db, self.rate)
        cepstra = scipy.fft.dct(bands, axis=1, norm="ortho")[:, 1 : 1 + params.cepstra]
        pitch = melody(tones, activity)
        self._counts["recordings in which nothing is voiced"] += not (pitch[:, 1] >= VOICED).any()
        return np.concatenate([bands, cepstra, level[:, None], pitch], axis=1, dtype=np.float32), activity, seconds

    def whole(self, contours: NDArray[np.float32], activity: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Functionals of a stretch, mean and deviation over its voiced steps (all steps, where none is), and its melody."""
        voiced = contours[:, -1] >= VOICED
        spoken = contours[voiced] if voiced.any() else contours
        tune = melody_of(contours[:, -2], voiced, activity, self.rate)
        return np.concatenate(
            [functionals(contours, self.rate), spoken.mean(axis=0), spoken.std(axis=0), tune], dtype=np.float32
        )

    def counts(self) -> dict[str, int]:
        """How many recordings had no pitch so far."""
        return dict(self._counts)


def stretches(edges: list[int], steps: int) -> list[slice]:
    """From each edge to the next, one step at least, all of them inside; the last one ends where the recording does."""
    starts = [min(edge, steps - 1) for edge in edges]
    return [slice(a, max(b, a + 1)) for a, b in pairwise([*starts, steps])]


def functionals(contours: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
    """All of `FUNCTIONALS` of each contour, one functional after another [6 · contours]; a few contours at a time, for an hour has many steps."""
    few = [_functionals(contours[:, first : first + 16], rate) for first in range(0, contours.shape[1], 16)]
    return np.concatenate(few, axis=1).ravel()


def _functionals(contours: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
    """The same, [6, contours]."""
    values = contours.astype(np.float64)
    middle = (np.arange(len(values)) - (len(values) - 1) / 2) / rate
    spread = float(np.square(middle).sum())
    slope = middle @ values / spread if spread > 0 else np.zeros(values.shape[1])
    low, high = np.percentile(values, (10, 90), axis=0)
    change = np.abs(np.diff(values, axis=0)).mean(axis=0) if len(values) > 1 else np.zeros(values.shape[1])
    return np.stack([values.mean(axis=0), values.std(axis=0), slope, low, high, change]).astype(np.float32)


def melody_of(
    pitch: NDArray[np.float32], voiced: NDArray[np.bool_], activity: NDArray[np.bool_], rate: float
) -> NDArray[np.float32]:
    """All of `MELODY`; pitch counts where it is voiced, and is 0 where nothing is."""
    tones = pitch[voiced].astype(np.float64) if voiced.any() else np.zeros(1)
    following = voiced[1:] & voiced[:-1]
    change = np.abs(np.diff(pitch.astype(np.float64)))[following].mean() * rate if following.any() else 0.0
    begins = int(voiced[0]) + int((voiced[1:] & ~voiced[:-1]).sum())
    seconds = len(voiced) / rate
    length = voiced.sum() / rate / begins if begins else 0.0
    percentiles = np.percentile(tones, (5, 20, 50, 80, 95))
    rest = (change, voiced.mean(), begins / seconds, length, activity.mean(), seconds)
    return np.array([tones.mean(), tones.std(), *percentiles, *rest], np.float32)
