"""A residual network over time and bands. Hidden values are [B, channel, T, band] and zero wherever a step is not real."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import GROUPS, Resnet2dParams


class Resnet2d(nn.Module):
    """conv → stages of blocks → mean over bands → read-out over real steps."""

    def __init__(self, params: Resnet2dParams, layout: Layout) -> None:
        super().__init__()
        first, last = params.channels[0], params.channels[-1]
        self.stem, self.norm = nn.Conv2d(1, first, 3, padding=1, bias=False), Norm(first, params)
        stride = (2 if params.time == "halve" else 1, 2)
        blocks = [Block(first, first, (1, 1), params) for _ in range(params.blocks)]
        for inner, outer in pairwise(params.channels):
            blocks.append(Block(inner, outer, stride, params))
            blocks += [Block(outer, outer, (1, 1), params) for _ in range(params.blocks - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.deviation, self.parts = params.readout == "mean+std", params.parts
        read = last * params.parts * (2 if self.deviation else 1)
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the real steps, and every step left by the strides."""
        steps = stream.steps
        hidden = functional.relu(self.norm(self.stem(stream.values[:, None]), steps)) * steps[:, None, :, None]
        for block in self.blocks:
            hidden, steps = block(hidden, steps)
        hidden = hidden.mean(3).transpose(1, 2)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        vector = read_out(hidden, steps, self.parts, deviation=self.deviation)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, steps, self.width, self.project), steps=steps)


class Block(nn.Module):
    """conv → norm → ReLU → dropout → conv → norm, plus the input, → ReLU."""

    def __init__(self, inner: int, outer: int, stride: tuple[int, int], params: Resnet2dParams) -> None:
        super().__init__()
        self.stride = stride[0]
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(Norm(outer, params) for _ in range(2))
        self.dropout = nn.Dropout2d(params.dropout)
        self.match: nn.Conv2d | None = None
        if inner != outer or stride != (1, 1):
            self.match = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.norms.append(Norm(outer, params))

    def forward(self, values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The next block's input, and which of its steps [B, T'] are real: a row's every `stride`-th one."""
        hidden = self.first(values)
        if self.stride > 1:
            steps = steps[:, self.stride * torch.arange(hidden.shape[2], device=steps.device)]
        real = steps[:, None, :, None]
        hidden = self.dropout(functional.relu(self.norms[0](hidden, steps))) * real
        hidden = self.norms[1](self.second(hidden), steps)
        source = values if self.match is None else self.norms[2](self.match(values), steps)
        return functional.relu(hidden + source) * real, steps


class Norm(nn.Module):
    """Normalisation of [B, C, T, F] over real steps: by channel over the batch, or of each step alone by groups of channels."""

    def __init__(self, width: int, params: Resnet2dParams) -> None:
        super().__init__()
        self.norm: nn.BatchNorm1d | nn.GroupNorm = (
            nn.BatchNorm1d(width) if params.norm == "batch" else nn.GroupNorm(GROUPS, width, eps=1e-3)
        )

    def forward(self, values: Tensor, steps: Tensor) -> Tensor:
        """The values, normalised; what stands where a step is not real means nothing."""
        lying = values.transpose(1, 2)  # [B, T, C, F]
        if isinstance(self.norm, nn.GroupNorm):
            each: Tensor = self.norm(lying.flatten(0, 1)).view_as(lying)
            return each.transpose(1, 2)
        real = lying[steps] if self.training else values
        if not self.training or real.shape[0] * real.shape[2] < 2:  # a single value has no deviation
            norm = self.norm
            return functional.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        real = self.norm(real)  # [n, C, F]
        return real.new_zeros(lying.shape).index_put((steps,), real).transpose(1, 2)
