"""Temporal convolutional network of Bai et al. 2018."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import TcnParams
from .packed import Residual, Rows
from .processor import narrowed, on_processor


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
        hidden = self._packed(stream) if on_processor(stream.values) else self._convolved(stream)
        vector = self._read(hidden, stream.steps)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, stream.steps, self.width, self.project), steps=stream.steps)

    def _convolved(self, stream: Stream) -> Tensor:
        """All levels by the library's convolutions, [B, T, channel]."""
        hidden = stream.values.transpose(1, 2)
        for level in self.levels:
            hidden = level(hidden, stream.steps[:, None])
        return hidden.transpose(1, 2)

    def _packed(self, stream: Stream) -> Tensor:
        """The same, with the rows of the batch one after the other."""
        levels = cast("list[Level]", list(self.levels))
        rows = Rows(stream.steps, max(max(level.pad) for level in levels))
        hidden = rows.pack(narrowed(stream.values))
        for level in levels:
            hidden = level(hidden, rows)
        return rows.of(hidden)[:, : rows.length]

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
        self.dilation = dilation
        reach = (params.kernel - 1) * dilation
        self.pad = (reach, 0) if params.causal else (reach // 2, reach // 2)
        self.first = weight_norm(nn.Conv1d(inner, outer, params.kernel, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(outer, outer, params.kernel, dilation=dilation))
        self.match = nn.Conv1d(inner, outer, 1) if inner != outer else nn.Identity()
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, values: Tensor, where: Tensor | Rows) -> Tensor:
        """The next level's input, zero wherever no step is real: of [B, channel, T] and a mask [B, 1, T], or of packed rows [n, channel]."""
        if isinstance(where, Rows):
            return self._packed(values, where)
        hidden = self.dropout(functional.relu(self.first(functional.pad(values, self.pad))))
        hidden = hidden * where.to(hidden.dtype)  # of the same type: a mask in float32 would turn bf16 into float32
        hidden = self.dropout(functional.relu(self.second(functional.pad(hidden, self.pad))))
        hidden = functional.relu(hidden + self.match(values))
        return hidden * where.to(hidden.dtype)

    def _packed(self, values: Tensor, rows: Rows) -> Tensor:
        """The same of packed rows; draws the same channels to drop."""
        first, second = (self._taps(one, values.dtype) for one in (self.first, self.second))
        noises = None
        if self.training and self.dropout.p:
            ones = [values.new_ones(rows.batch, len(bias), 1) for _, bias in (first, second)]
            noises = tuple(self.dropout(one).transpose(1, 2) for one in ones)
        match: tuple[Tensor | None, Tensor | None] = (None, None)
        if isinstance(self.match, nn.Conv1d):
            (weight,), bias = self._taps(self.match, values.dtype)
            match = (weight, bias)
        return cast("Tensor", Residual.apply(rows, self.dilation, self.pad[0], noises, values, *first, *second, *match))

    @staticmethod
    def _taps(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weights [tap, inner, outer] and bias of a convolution."""
        weight, bias = cast("Tensor", layer.weight), cast("Tensor", layer.bias)
        return weight.permute(2, 1, 0).to(dtype).contiguous(), bias.to(dtype)
