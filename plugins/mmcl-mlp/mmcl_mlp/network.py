"""Fully connected layers on a vector, or on the statistics of a stream."""

from __future__ import annotations

import torch
from torch import nn

from mmcl.api import Encoded, Layout, Stream

from . import MlpParams


class Mlp(nn.Module):
    """vector → (linear → norm → ReLU → dropout)* → linear."""

    def __init__(self, params: MlpParams, layout: Layout) -> None:
        super().__init__()
        self.width = params.width
        self.timed = layout.timed
        inner = layout.sizes["channel"] * (2 if layout.timed else 1)
        layers: list[nn.Module] = []
        for width in params.hidden:
            layers += [
                nn.Linear(inner, width),
                nn.LayerNorm(width) if params.norm == "layer" else nn.Identity(),
                nn.ReLU(),
                nn.Dropout(params.dropout),
            ]
            inner = width
        self.layers = nn.Sequential(*layers, nn.Linear(inner, params.width))

    def forward(self, stream: Stream) -> Encoded:
        values = stream.values
        if self.timed:
            mask = stream.steps[..., None].to(values.dtype)
            count = mask.sum(1).clamp_min(1)
            mean = (values * mask).sum(1) / count
            variance = ((values - mean[:, None]).square() * mask).sum(1) / count
            values = torch.cat([mean, (variance + 1e-6).sqrt()], 1)
        return Encoded(vector=self.layers(values))
