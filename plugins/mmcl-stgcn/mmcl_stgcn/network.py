"""Spatial-temporal graph convolutional network of Yan et al. 2018, with batch statistics over real steps alone."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import StgcnParams
from .graphs import graph_for, partitions


class Stgcn(nn.Module):
    """BatchNorm over joints and channels → units → mean over real steps and joints."""

    adjacency: Tensor

    def __init__(self, params: StgcnParams, layout: Layout) -> None:
        super().__init__()
        joints, channels = layout.sizes["joint"], layout.sizes["channel"]
        graph = graph_for(params.graph, params.edges, params.centre, layout)
        self.register_buffer("adjacency", torch.tensor(partitions(graph, params.partition, params.max_hop)), persistent=False)
        subsets = len(self.adjacency)
        self.enter = MaskedBatchNorm(joints * channels)
        widths = (channels, *params.channels)
        self.units = nn.ModuleList(
            Unit(a, b, subsets, joints, stride, residual=i > 0, params=params)
            for i, (a, b, stride) in enumerate(zip(widths[:-1], widths[1:], params.steps, strict=True))
        )
        self.spread = params.readout == "mean+std"
        self.width = widths[-1] * (2 if self.spread else 1)

    def forward(self, stream: Stream) -> Encoded:
        batch, steps, joints, channels = stream.values.shape
        mask = stream.steps
        joined = stream.values.permute(0, 2, 3, 1).reshape(batch, joints * channels, steps, 1)
        hidden = self.enter(joined, mask).view(batch, joints, channels, steps).permute(0, 2, 3, 1)  # [B, C, T, V]
        for unit in self.units:
            hidden, mask = unit(hidden, mask, self.adjacency)
        real = mask[:, None].to(hidden.dtype)
        count = real.sum(2).clamp_min(1)
        vector = hidden.mean(3).sum(2) / count
        if self.spread:
            mean = hidden.sum(2, keepdim=True) / count[..., None, None]
            variance = ((hidden - mean) * real[..., None]).square().sum(2) / count[..., None]
            vector = torch.cat([vector, (variance + 1e-6).sqrt().mean(2)], 1)
        return Encoded(vector=vector, sequence=hidden.mean(3).transpose(1, 2), steps=mask)


class Unit(nn.Module):
    """Graph convolution, then temporal convolution, plus the input. Padded steps are zeros between any two layers."""

    def __init__(
        self, inner: int, outer: int, subsets: int, joints: int, stride: int, residual: bool, params: StgcnParams
    ) -> None:
        super().__init__()
        self.stride, self.subsets = stride, subsets
        self.spread = nn.Conv2d(inner, outer * subsets, 1)
        self.importance = nn.Parameter(torch.ones(subsets, joints, joints)) if params.edge_importance else None
        self.first = MaskedBatchNorm(outer)
        self.time = nn.Conv2d(outer, outer, (params.kernel, 1), (stride, 1), (params.kernel // 2, 0))
        self.second = MaskedBatchNorm(outer)
        self.dropout = nn.Dropout(params.dropout)
        self.residual = residual
        self.match = nn.Conv2d(inner, outer, 1, (stride, 1)) if residual and (inner != outer or stride > 1) else None
        self.match_norm = MaskedBatchNorm(outer) if self.match is not None else None

    def forward(self, values: Tensor, mask: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        weighted = adjacency if self.importance is None else adjacency * self.importance
        batch, _, steps, joints = values.shape
        subsets = self.spread(values).view(batch, self.subsets, -1, steps, joints)
        hidden = torch.einsum("bkctv,kvw->bctw", subsets, weighted.to(subsets.dtype))
        hidden = functional.relu(self.first(hidden, mask))
        hidden = self.time(hidden)
        left = mask[:, :: self.stride]
        hidden = self.dropout(self.second(hidden, left))
        if self.residual:
            hidden = hidden + (
                values if self.match is None else cast(MaskedBatchNorm, self.match_norm)(self.match(values), left)
            )
        return functional.relu(hidden), left


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [B, C, T, V] whose statistics come from real steps alone; padded steps come out as zeros.

    With nothing padded it is the usual one; otherwise sums over masked values, since gathering the real steps would move the
    whole tensor in memory twice.
    """

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        momentum = 0.1 if self.momentum is None else self.momentum
        if bool(mask.all()):
            return functional.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
            )
        real = _spread(mask, values)
        mean, variance = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        if self.training:
            count = mask.sum() * values.shape[3]
            wide = (values * real).float()  # sums over a whole batch need more digits than bf16 has
            mean = wide.sum((0, 2, 3)) / count
            variance = ((wide - mean[:, None, None]) * real).square().sum((0, 2, 3)) / count
            with torch.no_grad():
                cast(Tensor, self.running_mean).lerp_(mean, momentum)
                cast(Tensor, self.running_var).lerp_(variance * count / (count - 1).clamp_min(1), momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None].to(values.dtype), values, scale[:, None, None].to(values.dtype)) * real


def _spread(mask: Tensor, values: Tensor) -> Tensor:
    return mask[:, None, :, None].to(values.dtype)
