"""What a residual network along time is built of: norms and read-outs that see real steps alone, and image layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Layout, parts_of, read_out

from . import Resnet1dParams

LARGEST = 8
"""The most groups of channels that norm: group normalises apart where nothing is kept apart."""

FLOOR = 1e-3
"""Added to variances: a thing of a few channels may hardly vary, and dividing by almost nothing would blow up rounding noise."""


class Norm(nn.Module):
    """Normalisation of [B, C, T] over real steps: of the batch by channel, or of each recording or step by group of channels.

    Things that are kept apart are a group each.
    """

    def __init__(self, width: int, things: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.groups = things if things > 1 or kind == "layer" else math.gcd(width, LARGEST)
        self.batch = BatchNorm(width) if kind == "batch" else None
        if self.batch is None:
            self.weight = nn.Parameter(torch.ones(width))
            self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor, steps: Tensor | None) -> Tensor:
        """The values, normalised; what stands where a step is not real means nothing. None: all are real."""
        if self.batch is not None:
            packed = values.transpose(1, 2)
            if torch.compiler.is_exporting():  # a graph has no sizes that depend on values
                return self.batch(packed.flatten(0, 1)).view(packed.shape).transpose(1, 2)
            if steps is None:
                return self.batch(packed.flatten(0, 1)).view_as(packed).transpose(1, 2)
            normed = self.batch(packed[steps])
            return normed.new_zeros(packed.shape).index_put((steps,), normed).transpose(1, 2)
        if values.dtype.itemsize < 4:
            values = values.float()  # sums over time need more digits than bf16 has
        grouped = values.unflatten(1, (self.groups, -1))  # [B, G, C / G, T]
        if self.kind == "layer":
            variance, mean = torch.var_mean(grouped, 2, correction=0, keepdim=True)
        elif steps is None:
            return functional.group_norm(values, self.groups, self.weight, self.bias, FLOOR)
        else:
            real = steps[:, None, None].to(values.dtype)
            count = (real.sum(3, keepdim=True) * grouped.shape[2]).clamp_min(1)
            mean = (grouped * real).sum((2, 3), keepdim=True) / count
            variance = ((grouped - mean) * real).square().sum((2, 3), keepdim=True) / count
        scale = (variance + FLOOR).rsqrt() * self.weight.view(self.groups, -1, 1)
        return torch.addcmul(self.bias.view(self.groups, -1, 1) - mean * scale, grouped, scale).flatten(1, 2)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [n, C]; by its running statistics if there is but one value."""

    def forward(self, input: Tensor) -> Tensor:
        """The values, normalised."""
        if self.training and len(input) < 2:  # a single value has no deviation
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class Frames(nn.Module):
    """(conv stride 2 → norm → ReLU)* on each real frame alone → the means of a grid of parts: [B, T, part, channel]."""

    def __init__(self, params: Resnet1dParams, layout: Layout) -> None:
        super().__init__()
        inner = layout.sizes["channel"]
        sizes = [layout.sizes["height"], layout.sizes["width"]]
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(params.stem):
            kernel = 5 if i == 0 else 3
            self.layers.append(nn.Conv2d(inner, width, kernel, 2, kernel // 2, bias=False))
            self.norms.append(Norm(width, 1, params.norm))
            inner = width
            sizes = [math.ceil(size / 2) for size in sizes]
        down, across = (stretches(size, params.grid) for size in sizes)
        self.register_buffer("down", down, persistent=False)  # [grid, height]
        self.register_buffer("across", across, persistent=False)  # [grid, width]

    def forward(self, values: Tensor, steps: Tensor) -> Tensor:
        """What the parts of each real frame hold; zeros for the others."""
        hidden = values[steps]  # real frames alone: padding costs nothing
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = layer(hidden)
            hidden = functional.relu(norm(hidden.flatten(2), None).view_as(hidden))  # a frame's pixels are all real
        parts = torch.einsum("nchw,gh,kw->ngkc", hidden, self.down.to(hidden.dtype), self.across.to(hidden.dtype)).flatten(1, 2)
        return parts.new_zeros(*steps.shape, *parts.shape[1:]).index_put((steps,), parts)


def stretches(size: int, count: int) -> Tensor:
    """The means of `count` stretches of equal length, as a matrix [count, size]; they overlap where it does not come out even."""
    matrix = torch.zeros(count, size)
    for i in range(count):
        first, end = i * size // count, -(-(i + 1) * size // count)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


class ReadOut(nn.Module):
    """Real steps [B, T, C] as one vector, for each of equally long parts of a row."""

    def __init__(self, channels: int, params: Resnet1dParams) -> None:
        super().__init__()
        self.kind, self.parts = params.readout, params.parts
        self.width = channels * params.parts * (2 if self.kind == "mean+max" else 1)
        self.score = nn.Linear(channels, 1, bias=False) if self.kind == "attention" else None

    def forward(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """[B, width]; a part without a real step gives zeros."""
        if self.kind == "last":
            last = (steps.sum(1) - 1).clamp_min(0)
            return hidden[torch.arange(hidden.shape[0], device=steps.device), last]
        if self.kind == "mean":
            return read_out(hidden, steps, self.parts)
        part = parts_of(steps, self.parts)  # [B, P, T]
        if self.score is not None:
            scores = self.score(hidden).to(hidden.dtype).transpose(1, 2)  # [B, 1, T]
            weights = scores.masked_fill(~part, torch.finfo(hidden.dtype).min).softmax(2) * part
            return (weights @ hidden).flatten(1)
        largest = hidden[:, None].masked_fill(~part[..., None], 0).amax(2)  # [B, P, C]; behind a ReLU nothing is below 0
        return torch.cat([read_out(hidden, steps, self.parts), largest.flatten(1)], 1)
