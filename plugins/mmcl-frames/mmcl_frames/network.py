"""Image layers on real frames alone, then convolutions over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import GROUPS, FrameCnnParams


class FrameCnn(nn.Module):
    """(conv stride 2 → GroupNorm → ReLU)* → pool → (temporal conv → ReLU + residual)* → read-out."""

    def __init__(self, params: FrameCnnParams, layout: Layout) -> None:
        super().__init__()
        inner = layout.sizes["channel"]
        layers: list[nn.Module] = []
        for i, width in enumerate(params.channels):
            size = 5 if i == 0 else 3
            layers += [nn.Conv2d(inner, width, size, 2, size // 2, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU()]
            inner = width
        grid = 2 if params.pool == "grid" else 1
        self.image = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        inner *= grid * grid
        self.time = nn.ModuleList(
            nn.Conv1d(inner, inner, params.kernel, padding=params.kernel // 2) for _ in range(params.layers)
        )
        self.dropout = nn.Dropout(params.dropout)
        self.spread = params.readout == "mean+std"
        self.parts = params.parts
        read = inner * params.parts * (2 if self.spread else 1)
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the real frames, and every frame."""
        frames = self.image(stream.values[stream.steps])  # real frames alone: padding costs nothing
        hidden = frames.new_zeros(*stream.steps.shape, frames.shape[1])
        hidden[stream.steps] = frames
        hidden = hidden.transpose(1, 2)
        for layer in self.time:
            hidden = (hidden + self.dropout(functional.relu(layer(hidden)))) * stream.steps[:, None]
        hidden = hidden.transpose(1, 2)
        vector = self._read(hidden, stream.steps)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=self._each(hidden, stream.steps), steps=stream.steps)

    def _read(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """What is read out of all real frames of a row."""
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        part = _parts(steps, self.parts).to(hidden.dtype)  # [B, P, T]
        count = part.sum(2, keepdim=True).clamp_min(1)
        mean = part @ hidden / count  # [B, P, C]
        if not self.spread:
            return mean.flatten(1)
        apart = (hidden - part.transpose(1, 2) @ mean) * steps[..., None]
        variance = part @ apart.square() / count
        return torch.cat([mean.flatten(1), (variance + 1e-6).sqrt().flatten(1)], 1)

    def _each(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """Every frame, read out as if it stood alone: its deviation is zero."""
        channels = hidden.shape[2]
        if self.project is None:
            return functional.pad(hidden, (0, self.width - channels))
        return functional.linear(hidden, self.project.weight[:, :channels], self.project.bias) * steps[..., None]


def _parts(steps: Tensor, parts: int) -> Tensor:
    """Which real frames [B, T] each of equally long parts of a row holds: 0/1 [B, part, T]."""
    place = (steps.cumsum(1) - 1) * parts // steps.sum(1, keepdim=True).clamp_min(1)
    return (place[:, None] == torch.arange(parts, device=steps.device)[:, None]) & steps[:, None]
