"""The hierarchical co-occurrence network of Li et al. 2018, up to its class layers.

Every recording is brought to one length before anything else, so nothing behind that has padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream, resampled

from . import CooccurrenceParams


class Cooccurrence(nn.Module):
    """Positions and motion, each through its own layers, joined along channels → two more layers → read-out."""

    def __init__(self, params: CooccurrenceParams, layout: Layout) -> None:
        super().__init__()
        self.count, self.flatten = params.resample, params.readout == "flatten"
        joints, channels = layout.sizes.get("joint", layout.sizes["channel"]), layout.sizes["channel"]
        channels = channels if "joint" in layout.axes else 1
        self.streams = nn.ModuleList(PointsThenJoints(joints, channels, params) for _ in range(2 if params.motion else 1))
        widths = (params.channels[1] * len(self.streams), *params.channels[2:])
        self.fifth = nn.Conv2d(*widths[:2], 3, padding=1)
        self.sixth = nn.Conv2d(*widths[1:], 3, padding=1) if len(widths) == 3 else None
        self.norms = nn.ModuleList(_norm(params, width) for width in widths[1:])
        self.dropout = nn.Dropout(params.dropout)
        left, features = params.resample // params.least, params.points[1] // params.least
        read = widths[-1] * features * (left if self.flatten else 1)
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector, and the steps that are left after all halvings."""
        values = resampled(stream.values, stream.steps, self.count)
        values = values.view(*values.shape[:3], -1)  # sensors are joints of one channel
        inputs = [values, motion(values)][: len(self.streams)]
        hidden = torch.cat([part(one) for part, one in zip(self.streams, inputs, strict=True)], 1)
        layers = [self.fifth] if self.sixth is None else [self.fifth, self.sixth]
        for layer, norm in zip(layers, self.norms, strict=True):
            hidden = functional.max_pool2d(self.dropout(functional.relu(norm(layer(hidden)))), 2)
        sequence = hidden.transpose(1, 2).flatten(2)  # [B, T / least, channel · feature]
        vector = sequence.flatten(1) if self.flatten else sequence.mean(1)
        if self.project is not None:
            vector = self.project(vector)
        steps = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
        return Encoded(vector=vector, sequence=sequence, steps=steps)


class PointsThenJoints(nn.Module):
    """One stream: two convolutions on each joint alone, then two in which joints are channels."""

    def __init__(self, joints: int, channels: int, params: CooccurrenceParams) -> None:
        super().__init__()
        point, features = params.points
        self.first = nn.Conv2d(channels, point, 1)
        self.second = nn.Conv2d(point, features, (3, 1), padding=(1, 0))
        self.third = nn.Conv2d(joints, params.channels[0], 3, padding=1)
        self.fourth = nn.Conv2d(params.channels[0], params.channels[1], 3, padding=1)
        self.dropout = nn.Dropout(params.dropout)
        self.norms = nn.ModuleList(_norm(params, width) for width in (point, features, *params.channels[:2]))
        self.bend = functional.relu if params.norm == "batch" else nn.Identity()  # Li et al. have none after these three

    def forward(self, values: Tensor) -> Tensor:
        """[B, T, joint, channel] → [B, channel, T / 4, feature / 4]."""
        points = functional.relu(self.norms[0](self.first(values.permute(0, 3, 1, 2))))
        points = self.bend(self.norms[1](self.second(points)))  # [B, feature, T, joint]
        hidden = functional.max_pool2d(self.bend(self.norms[2](self.third(_joints_first(points)))), 2)
        return functional.max_pool2d(self.dropout(self.bend(self.norms[3](self.fourth(hidden)))), 2)


def _joints_first(points: Tensor) -> Tensor:
    """[B, feature, T, joint] → [B, joint, T, feature].

    The layers on both sides keep their channels innermost in memory, so values, and gradients on their way back, are laid anew here, once:
    left as they lie, every operation behind walks through them across their rows (a step in bf16 takes 1.7 times as long).
    """
    if points.requires_grad:
        points.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return points.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)


def _norm(params: CooccurrenceParams, width: int) -> nn.Module:
    """What follows a convolution of this width."""
    return nn.BatchNorm2d(width) if params.norm == "batch" else nn.Identity()


def motion(values: Tensor) -> Tensor:
    """What changes from step to step [B, T, …]: T − 1 differences, brought back to T steps by linear interpolation."""
    steps = torch.ones(values.shape[0], values.shape[1] - 1, dtype=torch.bool, device=values.device)
    return resampled(values.diff(dim=1), steps, values.shape[1])
