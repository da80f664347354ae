"""Spatial-temporal graph convolutional network of Yan et al. 2018, with batch statistics over real steps alone.

Between temporal convolutions only the real steps exist, one after another: [steps of all rows, joint, channel]. So BatchNorm
is PyTorch's own on what is truly there, padding costs nothing in a graph convolution, and both are matrix products over the
last axis. Only a temporal convolution needs rows of equal length, [B, T, joint, channel] with zeros where nothing is real.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream, each_step, parts_of

from . import StgcnParams
from .graphs import graph_for, partitions


class Stgcn(nn.Module):
    """BatchNorm over joints and channels → units → mean over real steps and joints."""

    adjacency: Tensor  # [K, from, to]

    def __init__(self, params: StgcnParams, layout: Layout) -> None:
        super().__init__()
        joints, channels = layout.sizes["joint"], layout.sizes["channel"]
        graph = graph_for(params.graph, params.edges, params.centre, layout)
        subsets = partitions(graph, params.partition, params.max_hop)
        self.register_buffer("adjacency", torch.tensor(subsets, dtype=torch.get_default_dtype()), persistent=False)
        self.enter = PackedNorm(joints * channels)
        widths = (channels, *params.channels)
        self.units = nn.ModuleList(
            Unit(a, b, stride, len(subsets), joints, params, residual=i > 0)
            for i, ((a, b), stride) in enumerate(zip(pairwise(widths), params.steps, strict=True))
        )
        self.spread = params.readout == "mean+std"
        self.parts = params.parts
        read = widths[-1] * params.parts * (2 if self.spread else 1)
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the real steps, and the mean over joints of every step left by the strides."""
        packing = Packing(stream.steps)
        values = packing.pack(stream.values)
        hidden = self.enter(values.flatten(1)).view_as(values)
        for unit in self.units:
            hidden, packing = unit(hidden, packing, self.adjacency)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        joined = packing.unpack(hidden.mean(1))  # [B, T', C]
        part = parts_of(packing.steps, self.parts).to(joined.dtype)  # [B, P, T']
        vector = (part @ joined / part.sum(2, keepdim=True).clamp_min(1)).flatten(1)
        if self.spread:
            vector = torch.cat([vector, _deviation(packing.unpack(hidden), part).mean(2).flatten(1)], 1)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(joined, packing.steps, self.width, self.project), steps=packing.steps)


class Unit(nn.Module):
    """Graph convolution, then temporal convolution, plus the input. No biases: the BatchNorm after each would cancel them."""

    def __init__(
        self, inner: int, outer: int, stride: int, subsets: int, joints: int, params: StgcnParams, residual: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.importance = nn.Parameter(torch.ones(subsets, joints, joints)) if params.edge_importance else None
        self.mix = nn.Linear(subsets * inner, outer, bias=False)
        self.first = PackedNorm(outer)
        self.time = nn.Conv2d(outer, outer, (params.kernel, 1), (stride, 1), (params.kernel // 2, 0), bias=False)
        self.second = PackedNorm(outer)
        self.dropout = nn.Dropout(params.dropout)
        self.residual = residual
        self.match = (
            nn.Sequential(nn.Linear(inner, outer, bias=False), PackedNorm(outer))
            if residual and (inner != outer or stride > 1)
            else None
        )

    def forward(self, values: Tensor, packing: Packing, adjacency: Tensor) -> tuple[Tensor, Packing]:
        """The next unit's input, packed, and its packing after the stride."""
        if self.importance is not None:
            adjacency = adjacency * self.importance
        hidden = torch.relu_(self.first(self.mix(gather_neighbours(values, adjacency))))
        hidden = packing.unpack(hidden).permute(0, 3, 1, 2)  # [B, C, T, V] with channels last in memory
        hidden = self.time(hidden).permute(0, 2, 3, 1)
        packing, kept = packing.every(self.stride)
        hidden = self.dropout(self.second(packing.pack(hidden)))
        if self.residual:
            source = values if kept is None else values.index_select(0, kept)
            hidden = hidden + (source if self.match is None else self.match(source))
        return torch.relu_(hidden), packing


NARROW = 9
"""Channels up to which one product of all steps is the faster one, 3 to 15 times at 2 channels; from 16 or 32 on the copy costs more."""


def gather_neighbours(values: Tensor, adjacency: Tensor) -> Tensor:
    """What reaches every joint from each subset of its neighbours, side by side: [steps, joint, K · channel].

    Mixing channels after this is the paper's 1×1 convolution followed by the product with the graph, in the order that
    multiplies least where the width grows.
    """
    steps, joints, channels = values.shape
    rows = adjacency.permute(2, 0, 1).reshape(-1, joints).to(values.dtype)  # [to · K, from]
    if channels <= NARROW:  # as one product of all steps, which are laid side by side for it
        return torch.matmul(rows, values).reshape(steps, joints, len(adjacency) * channels)
    return torch.bmm(rows.expand(steps, -1, -1), values).view(steps, joints, len(adjacency) * channels)


class Packing:
    """Where the real steps [B, T] of a batch stand among all its steps, to take them out and to put them back."""

    def __init__(self, steps: Tensor) -> None:
        self.steps = steps
        self.dense = (
            torch.compiler.is_exporting()
        )  # a graph has no sizes that depend on values: there all steps are taken along
        self.places = None if self.dense else steps.flatten().nonzero().squeeze(1)

    def pack(self, values: Tensor) -> Tensor:
        """The real steps of [B, T, ...], one after another: [steps, ...]."""
        flat = values.reshape(self.steps.numel(), *values.shape[2:])
        return flat if self.places is None or len(self.places) == len(flat) else flat.index_select(0, self.places)

    def unpack(self, packed: Tensor) -> Tensor:
        """Rows of equal length again, [B, T, ...], with zeros where nothing is real."""
        if self.places is None:
            rows = packed.view(*self.steps.shape, *packed.shape[1:])
            return rows * self.steps.view(*self.steps.shape, *[1] * (rows.ndim - 2))
        if len(packed) < self.steps.numel():
            packed = packed.new_zeros(self.steps.numel(), *packed.shape[1:]).index_copy(0, self.places, packed)
        return packed.view(*self.steps.shape, *packed.shape[1:])

    def every(self, stride: int) -> tuple[Packing, Tensor | None]:
        """The packing of every `stride`-th step of a row, and which of this packing's steps those are (None: all)."""
        if stride == 1:
            return self, None
        place = stride * torch.arange((self.steps.shape[1] - 1) // stride + 1, device=self.steps.device)
        later = Packing(self.steps[:, place])
        real = torch.ones_like(self.steps) if self.dense else self.steps
        order = real.flatten().cumsum(0).view_as(self.steps) - 1
        return later, later.pack(order[:, place])


class PackedNorm(nn.BatchNorm1d):
    """Batch normalisation of packed steps [..., channel]; by its running statistics if there is but one value."""

    def forward(self, input: Tensor) -> Tensor:
        """The steps, normalised, in the shape they had."""
        flat = input.reshape(-1, self.num_features)
        if self.training and len(flat) < 2:  # a single value has no deviation
            flat = functional.batch_norm(flat, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            flat = super().forward(flat)
        return flat.view_as(input)


def _deviation(values: Tensor, part: Tensor) -> Tensor:
    """Standard deviation of [B, T, V, C] over the steps of each part [B, P, T]: [B, P, V, C]."""
    flat = values.flatten(2)
    count = part.sum(2, keepdim=True).clamp_min(1)
    mean = part @ flat / count
    apart = (flat - part.transpose(1, 2) @ mean) * part.sum(1)[..., None]
    return (part @ apart.square() / count + 1e-6).sqrt().view(values.shape[0], -1, *values.shape[2:])
