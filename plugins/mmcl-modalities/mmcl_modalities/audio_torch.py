"""The torch twin of `log-mel`: many recordings at once, on any device, with torchaudio's filters."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from mmcl.api import Audio, Raw
from mmcl.media import at_rate

from . import LogMelParams
from .audio import FLOOR, LogMel


class TorchLogMel:
    """The values of LogMel, to a thousandth of a dB, from torch.stft and torchaudio's mel filters, in float64."""

    def __init__(self, params: LogMelParams, device: str = "cpu") -> None:
        from torchaudio.functional import melscale_fbanks

        self.params, self.device = params, torch.device(device)
        self.twin = LogMel(params)  # resampling, and the length of the transform
        fmax = params.sample_rate / 2 if params.fmax is None else params.fmax
        self.filters = melscale_fbanks(
            self.twin.transform // 2 + 1, params.fmin, fmax, params.bands, params.sample_rate, norm="slaney", mel_scale="slaney"
        ).to(self.device, torch.float64)
        self.window = torch.from_numpy(self.twin.window).to(self.device)

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """One recording, [T, bands]."""
        assert isinstance(raw, Audio)
        return self.batch([raw])[0]

    def batch(self, recordings: list[Audio]) -> list[NDArray[np.float32]]:
        """Several at once: each [T, bands], whatever the others are."""
        samples = [torch.from_numpy(at_rate(one, self.params.sample_rate)) for one in recordings]
        steps = [1 + len(one) // self.twin.hop for one in samples]
        half = self.twin.transform // 2
        longest = max((count - 1) * self.twin.hop for count in steps) + self.twin.transform
        rows = torch.stack([pad(one, (half, max(0, longest - half - len(one))))[:longest] for one in samples])
        power = self._power(rows.to(self.device, torch.float64))
        return [self._in_db(row[:count]).float().cpu().numpy() for row, count in zip(power, steps, strict=True)]

    def _power(self, rows: Tensor) -> Tensor:
        """Power per step and band [B, T, bands]."""
        spectrum = torch.stft(
            rows, self.twin.transform, self.twin.hop, self.twin.length, self.window, center=False, return_complex=True
        )
        return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) @ self.filters

    def _in_db(self, power: Tensor) -> Tensor:
        loudest = power.max().clamp_min(FLOOR)
        level = 10 * power.clamp_min(FLOOR).log10()
        if self.params.reference == "clip-max":
            level = level - 10 * loudest.log10()
        level = level.clamp_min(float(level.max()) - self.params.top_db)
        return level - level.mean(0) if self.params.mean == "subtract" else level
