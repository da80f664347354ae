"""Temporal convolutional network of Bai et al. 2018."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from mmcl.api import Encoded, Layout, Stream

from . import TcnParams


class Tcn(nn.Module):
    """Levels of two dilated convolutions, then a read-out over real steps."""

    def __init__(self, params: TcnParams, layout: Layout) -> None:
        super().__init__()
        widths = (layout.sizes["channel"], *params.channels)
        self.levels = nn.ModuleList(Level(a, b, 2**i, params) for i, (a, b) in enumerate(pairwise(widths)))
        self.readout = params.readout
        self.width = widths[-1] * (2 if params.readout == "mean+std" else 1)

    def forward(self, stream: Stream) -> Encoded:
        mask = stream.steps[:, None].to(stream.values.dtype)  # [B, 1, T]
        hidden = stream.values.transpose(1, 2)
        for level in self.levels:
            hidden = level(hidden, mask)
        return Encoded(vector=self._read(hidden, mask), sequence=hidden.transpose(1, 2), steps=stream.steps)

    def _read(self, hidden: Tensor, mask: Tensor) -> Tensor:
        count = mask.sum(2).clamp_min(1)
        if self.readout == "last":
            last = count.long()[..., None].expand(-1, hidden.shape[1], 1) - 1
            return hidden.gather(2, last).squeeze(2)
        mean = hidden.sum(2) / count
        if self.readout == "mean":
            return mean
        variance = ((hidden - mean[..., None]) * mask).square().sum(2) / count
        return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


class Level(nn.Module):
    """conv → ReLU → dropout, twice, plus the input. Padded steps stay zero, so that a convolution never reads what a bias left there."""

    def __init__(self, inner: int, outer: int, dilation: int, params: TcnParams) -> None:
        super().__init__()
        reach = (params.kernel - 1) * dilation
        self.pad = (reach, 0) if params.causal else (reach // 2, reach - reach // 2)
        self.first = weight_norm(nn.Conv1d(inner, outer, params.kernel, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(outer, outer, params.kernel, dilation=dilation))
        self.match = nn.Conv1d(inner, outer, 1) if inner != outer else nn.Identity()
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        hidden = self.dropout(functional.relu(self.first(functional.pad(values, self.pad)))) * mask
        hidden = self.dropout(functional.relu(self.second(functional.pad(hidden, self.pad))))
        return functional.relu(hidden + self.match(values)) * mask
