"""Pitch and voicing of a waveform by YIN (de Cheveigné and Kawahara 2002), or by librosa's pYIN."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mmcl.media import Framing

REFERENCE = 100.0
"""Hz that count as 0 semitones."""

TROUGH = 0.15
"""A lag whose normalised difference is a minimum below this is taken for the period: the paper's absolute threshold is 0.1."""

VOICED = 0.7
"""Voicing from which a step counts as voiced."""


class Yin:
    """Pitch and voicing of windows that are two periods of `low` long, each around a sample k · hop."""

    def __init__(self, rate: int, hop: int, low: float, high: float) -> None:
        self._rate, self._hop = rate, hop
        self._longest, self._shortest = int(np.ceil(rate / low)), max(2, int(rate / high))

    def framing(self) -> Framing:
        """Cuts the windows."""
        return Framing(2 * self._longest, self._hop, self._longest, 1024)

    def of(self, frames: NDArray[np.float32]) -> NDArray[np.float64]:
        """Frequency in Hz and voicing (1: a repeating wave, 0: none) of some windows, [n, 2].

        Voicing is one less the normalised difference at the period that was chosen.
        """
        difference = _normalised(_difference(frames.astype(np.float64), self._longest))
        return np.stack(_period(difference, self._shortest, self._rate), axis=1)


def yin(
    samples: NDArray[np.float32], rate: int, hop: int, low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequency in Hz and voicing around each sample k · hop, [T] each."""
    one = Yin(rate, hop, low, high)
    frequency, voicing = np.concatenate([one.of(frames) for frames in one.framing().over([samples])]).T
    return frequency, voicing


def _difference(frames: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Squared difference of each frame's first half to what stands 0 … half steps later (Eq. 6), [T, half + 1]."""
    size = scipy.fft.next_fast_len(frames.shape[1] + half, real=True)
    head = scipy.fft.rfft(frames[:, :half], size)
    whole = scipy.fft.rfft(frames, size)
    product = scipy.fft.irfft(whole * np.conj(head), size)[:, : half + 1]
    squares = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    energy = squares[:, half : 2 * half + 1] - squares[:, : half + 1]
    return np.asarray(np.maximum(energy[:, :1] + energy - 2 * product, 0.0))


def _normalised(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference by its mean over all shorter lags (Eq. 8); 1 where there is nothing to differ."""
    lags = np.arange(1, difference.shape[1])
    total = np.cumsum(difference[:, 1:], axis=1)
    ratio = np.ones_like(difference)
    np.divide(difference[:, 1:] * lags, total, out=ratio[:, 1:], where=total > 1e-12 * len(lags))
    return ratio


def _period(ratio: NDArray[np.float64], shortest: int, rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first trough that is deep enough, else the deepest place, between steps by a parabola."""
    inner = ratio[:, shortest:-1]
    trough = (inner < TROUGH) & (inner <= ratio[:, shortest - 1 : -2]) & (inner <= ratio[:, shortest + 1 :])
    lag = shortest + np.where(trough.any(axis=1), trough.argmax(axis=1), inner.argmin(axis=1))
    rows = np.arange(len(ratio))
    before, here, after = ratio[rows, lag - 1], ratio[rows, lag], ratio[rows, lag + 1]
    bend = before - 2 * here + after
    shift = np.where(bend > 1e-12, np.clip((before - after) / (2 * np.where(bend > 1e-12, bend, 1.0)), -0.5, 0.5), 0.0)
    return rate / (lag + shift), np.clip(1 - here, 0.0, 1.0)


def pyin(
    samples: NDArray[np.float32], rate: int, hop: int, low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same by librosa's pYIN, which follows the pitch over time; a hundred times slower. Unvoiced steps have the pitch NaN."""
    import librosa

    length = int(2 ** np.ceil(np.log2(4 * rate / low)))
    frequency, _, voicing = librosa.pyin(
        samples, fmin=low, fmax=high, sr=rate, frame_length=length, hop_length=hop, fill_na=None
    )
    return np.asarray(frequency, np.float64), np.asarray(voicing, np.float64)
