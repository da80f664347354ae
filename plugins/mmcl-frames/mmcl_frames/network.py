"""Image layers on real frames alone, then convolutions over time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import FrameCnnParams


class FrameCnn(nn.Module):
    """(conv stride 2 → GroupNorm → ReLU)* → pool → (temporal conv → ReLU + residual)* → read-out."""

    def __init__(self, params: FrameCnnParams, layout: Layout) -> None:
        super().__init__()
        inner = layout.sizes["channel"]
        layers: list[nn.Module] = []
        for i, width in enumerate(params.channels):
            size = 5 if i == 0 else 3
            layers += [nn.Conv2d(inner, width, size, 2, size // 2, bias=False), nn.GroupNorm(4, width), nn.ReLU()]
            inner = width
        grid = 2 if params.pool == "grid" else 1
        self.image = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        inner *= grid * grid
        self.time = nn.ModuleList(
            nn.Conv1d(inner, inner, params.kernel, padding=params.kernel // 2) for _ in range(params.layers)
        )
        self.dropout = nn.Dropout(params.dropout)
        self.spread = params.readout == "mean+std"
        self.width = inner * (2 if self.spread else 1)

    def forward(self, stream: Stream) -> Encoded:
        batch, steps = stream.steps.shape
        frames = self.image(stream.values[stream.steps])  # real frames alone: padding costs nothing
        hidden = frames.new_zeros(batch, steps, frames.shape[1])
        hidden[stream.steps] = frames
        mask = stream.steps[:, None].to(hidden.dtype)
        hidden = hidden.transpose(1, 2)
        for layer in self.time:
            hidden = (hidden + self.dropout(functional.relu(layer(hidden)))) * mask
        count = mask.sum(2).clamp_min(1)
        mean = hidden.sum(2) / count
        vector = mean
        if self.spread:
            variance = ((hidden - mean[..., None]) * mask).square().sum(2) / count
            vector = torch.cat([mean, (variance + 1e-6).sqrt()], 1)
        return Encoded(vector=vector, sequence=hidden.transpose(1, 2), steps=stream.steps)
