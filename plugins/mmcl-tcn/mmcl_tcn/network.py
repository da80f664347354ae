"""Temporal convolutional network of Bai et al. 2018."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import TcnParams


class Tcn(nn.Module):
    """Levels of two dilated convolutions, then a read-out over real steps."""

    def __init__(self, params: TcnParams, layout: Layout) -> None:
        super().__init__()
        widths = (layout.sizes["channel"], *params.channels)
        self.levels = nn.ModuleList(Level(a, b, 2**i, params) for i, (a, b) in enumerate(pairwise(widths)))
        self.readout = params.readout
        self.parts = params.parts
        read = widths[-1] * params.parts * (2 if params.readout == "mean+std" else 1)
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the real steps, and every step."""
        mask = stream.steps[:, None].to(stream.values.dtype)  # [B, 1, T]
        hidden = stream.values.transpose(1, 2)
        for level in self.levels:
            hidden = level(hidden, mask)
        hidden = hidden.transpose(1, 2)
        vector = self._read(hidden, stream.steps)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, stream.steps, self.width, self.project), steps=stream.steps)

    def _read(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """What is read out of all real steps of a row."""
        if self.readout == "last":
            last = (steps * torch.arange(steps.shape[1], device=steps.device)).argmax(1)
            return hidden[torch.arange(hidden.shape[0], device=steps.device), last]
        return read_out(hidden, steps, self.parts, deviation=self.readout == "mean+std")


class Level(nn.Module):
    """conv → ReLU → dropout, twice, plus the input; [B, channel, T].

    Padded steps stay zero, so that a convolution never reads what a bias left there.
    """

    def __init__(self, inner: int, outer: int, dilation: int, params: TcnParams) -> None:
        super().__init__()
        reach = (params.kernel - 1) * dilation
        self.pad = (reach, 0) if params.causal else (reach // 2, reach // 2)
        self.first = weight_norm(nn.Conv1d(inner, outer, params.kernel, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(outer, outer, params.kernel, dilation=dilation))
        self.match = nn.Conv1d(inner, outer, 1) if inner != outer else nn.Identity()
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """The next level's input, zero wherever `mask` [B, 1, T] is."""
        hidden = self.dropout(functional.relu(self.first(functional.pad(values, self.pad)))) * mask
        hidden = self.dropout(functional.relu(self.second(functional.pad(hidden, self.pad))))
        return functional.relu(hidden + self.match(values)) * mask
