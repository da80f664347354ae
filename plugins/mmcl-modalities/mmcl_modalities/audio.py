"""The waveform itself; log-mel spectrograms, equal to librosa's melspectrogram and power_to_db."""

from __future__ import annotations

import numpy as np
import scipy.fft
from librosa.core.convert import mel_frequencies
from librosa.filters import mel
from numpy.typing import NDArray

from mmcl.api import Audio, Raw
from mmcl.media import Framing, at_rate, blocks_at_rate, joined

from . import LogMelParams, WaveformParams, hop_samples

FLOOR = 1e-10
"""Power below which nothing is told apart: −100 dB, librosa's own."""

BLOCK = 4096
"""Steps transformed at once, so that an hour of sound needs little more memory than a minute."""


CACHED = 64
"""Of these, steps whose spectra are in the processor's cache at once."""


class LogMel:
    """Short-time power → mel bands → dB, with silence before the beginning and after the end.

    The transform is as long as the window; where that would leave a band without a frequency of its own (128 bands and a window
    of 25 ms, say), the windowed sound is padded with zeros to twice that, or as often as needed.
    """

    def __init__(self, params: LogMelParams) -> None:
        self.params = params
        self.hop = hop_samples(params)
        self.length = self.transform = round(params.window * params.sample_rate)
        fmax = params.sample_rate / 2 if params.fmax is None else params.fmax
        edges = mel_frequencies(params.bands + 2, fmin=params.fmin, fmax=fmax)
        while params.sample_rate / self.transform >= (edges[2:] - edges[:-2]).min():
            self.transform *= 2
        filters = mel(sr=params.sample_rate, n_fft=self.transform, n_mels=params.bands, fmin=params.fmin, fmax=fmax)
        self.filters = np.ascontiguousarray(filters.T, np.float32)  # [frequencies, bands]
        # Periodic: its repeated last point left out. In float64, for beside a loud tone float32 errs by 2e-3 dB at −80 dB.
        self.window = np.hanning(self.length + 1)[:-1]

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """Step k is the spectrum around sample k · hop. Raises DataError for sound that is empty, NaN or infinite."""
        assert isinstance(raw, Audio)
        level = self._mel_power(raw)
        loudest = max(float(level.max()), FLOOR)
        np.maximum(level, FLOOR, out=level)
        np.log10(level, out=level)
        if self.params.reference == "clip-max":
            level -= np.log10(loudest, dtype=np.float32)
        level *= 10
        np.maximum(level, level.max() - self.params.top_db, out=level)
        if self.params.mean == "subtract":
            level -= level.mean(axis=0)
        return level

    def _mel_power(self, sound: Audio) -> NDArray[np.float32]:
        """Power per step and band, [T, bands]."""
        before = self.transform // 2 - (self.transform - self.length) // 2  # half a window, rounded as librosa rounds it
        frames = Framing(self.length, self.hop, before, BLOCK).over(blocks_at_rate(sound, self.params.sample_rate))
        return joined(map(self._mel_power_of, frames))

    def _mel_power_of(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Power of some frames [n, length] per band, [n, bands]."""
        energy = np.empty((len(frames), self.transform // 2 + 1), np.float32)
        for start in range(0, len(frames), CACHED):
            some = slice(start, start + CACHED)
            spectrum = scipy.fft.rfft(frames[some] * self.window, self.transform, axis=1)
            energy[some] = np.square(spectrum.real) + np.square(spectrum.imag)
        return np.matmul(energy, self.filters)


class Waveform:
    """Samples of one channel."""

    def __init__(self, params: WaveformParams) -> None:
        self.params = params

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, 1]. Raises DataError for sound that is empty, NaN or infinite."""
        assert isinstance(raw, Audio)
        return at_rate(raw, self.params.sample_rate)[:, None]
