"""Log-mel spectrograms, equal to librosa's melspectrogram and power_to_db."""

from __future__ import annotations

import numpy as np
from librosa.filters import mel
from numpy.typing import NDArray
from scipy.signal import get_window

from mmcl.api import Audio, DataError, Raw

from . import LogMelParams, hop_samples


class LogMel:
    """Short-time power → mel bands → dB. The transform is numpy's: librosa's own takes longer to import than a corpus takes to read."""

    def __init__(self, params: LogMelParams) -> None:
        self.params = params
        self.hop = hop_samples(params)
        self.length = max(2, round(params.window * params.sample_rate))
        self.filters = mel(
            sr=params.sample_rate, n_fft=self.length, n_mels=params.bands, fmin=params.fmin, fmax=params.fmax
        ).astype(np.float32)
        self.window = get_window("hann", self.length).astype(np.float32)

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, bands] in dB."""
        assert isinstance(raw, Audio)
        samples = np.asarray(raw.samples, np.float32)
        if len(samples) == 0:
            raise DataError("the recording has no samples")
        if raw.rate != self.params.sample_rate:
            import soxr

            samples = soxr.resample(samples, raw.rate, self.params.sample_rate)
        padded = np.pad(samples, self.length // 2)  # step k is centred on sample k · hop
        frames = (
            np.lib.stride_tricks.sliding_window_view(padded, self.length)[:: self.hop] if len(padded) >= self.length else None
        )
        if frames is None:
            raise DataError(f"the recording is shorter than one window of {self.params.window:g} s")
        power = np.abs(np.fft.rfft(frames * self.window, axis=1)).astype(np.float32) ** 2
        bands = power @ self.filters.T
        level = 10 * np.log10(np.maximum(bands, 1e-10))
        if self.params.reference == "clip-max":
            level = level - 10 * np.log10(max(float(bands.max()), 1e-10))
        level = np.maximum(level, level.max() - self.params.top_db)
        if self.params.mean == "subtract":
            level = level - level.mean(0)
        return level.astype(np.float32)
