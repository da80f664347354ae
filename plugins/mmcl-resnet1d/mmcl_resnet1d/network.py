"""Residual network along time: grouped convolutions first, then all together, over real steps alone.

Hidden values are [B, thing · channel, T] and zero wherever a step is not real, so that no convolution reads what a bias left there.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream, each_step, resampled

from . import Resnet1dParams, things_of
from .layers import Frames, Norm, ReadOut


class Resnet1d(nn.Module):
    """(resample →) (frames → parts of the picture →) stages apart → stages together → read-out."""

    def __init__(self, params: Resnet1dParams, layout: Layout) -> None:
        super().__init__()
        self.resample = params.resample
        self.frames = Frames(params, layout) if "height" in layout.axes else None
        things, inner = things_of(params, layout)
        widths = (things * inner, *(things * own for own in params.apart), *params.channels)
        blocks: list[nn.Module] = []
        for i, ((before, after), stride) in enumerate(zip(pairwise(widths), params.steps, strict=True)):
            groups = things if i < len(params.apart) else 1
            blocks.append(Block(before, after, stride, groups, params))
            blocks += [Block(after, after, 1, groups, params) for _ in range(params.blocks - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.read = ReadOut(widths[-1], params)
        self.width = params.width or self.read.width
        self.project = nn.Linear(self.read.width, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the real steps, and every step left by the strides."""
        values, steps = stream.values, stream.steps
        if self.resample is not None:
            values = resampled(values, steps, self.resample)
            steps = steps.new_ones(values.shape[0], self.resample)
        if self.frames is not None:
            values = self.frames(values, steps)
        hidden = values.flatten(2).transpose(1, 2).masked_fill(~steps[:, None], 0)
        for block in self.blocks:
            hidden, steps = block(hidden, steps)
        hidden = hidden.transpose(1, 2)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        vector = self.read(hidden, steps)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, steps, self.width, self.project), steps=steps)


class Block(nn.Module):
    """conv → norm → ReLU → dropout → conv → norm, plus the input, → ReLU. No biases: the norm after each would cancel them."""

    def __init__(self, inner: int, outer: int, stride: int, groups: int, params: Resnet1dParams) -> None:
        super().__init__()
        self.stride = stride
        around = params.kernel // 2
        self.first = nn.Conv1d(inner, outer, params.kernel, stride, around, groups=groups, bias=False)
        self.second = nn.Conv1d(outer, outer, params.kernel, 1, around, groups=groups, bias=False)
        self.norms = nn.ModuleList(Norm(outer, groups, params.norm) for _ in range(2))
        self.dropout = nn.Dropout1d(params.dropout)
        self.match: nn.Conv1d | None = None
        if inner != outer or stride > 1:
            self.match = nn.Conv1d(inner, outer, 1, stride, groups=groups, bias=False)
            self.norms.append(Norm(outer, groups, params.norm))

    def forward(self, values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The next block's input, and which of its steps [B, T'] are real: a row's every `stride`-th one."""
        hidden = self.first(values)
        if self.stride > 1:
            steps = steps[:, self.stride * torch.arange(hidden.shape[2], device=steps.device)]
        real = steps[:, None]
        hidden = self.norms[0](hidden, steps)
        hidden = self.dropout(functional.relu(hidden)) * real
        hidden = self.norms[1](self.second(hidden), steps)
        source = values if self.match is None else self.norms[2](self.match(values), steps)
        return functional.relu(hidden + source) * real, steps
