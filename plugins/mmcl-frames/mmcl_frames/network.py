"""Image layers on real frames alone, then convolutions over time."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

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
        vector = read_out(hidden, stream.steps, self.parts, self.spread)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, stream.steps, self.width, self.project), steps=stream.steps)
