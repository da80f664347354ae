"""Fully connected layers on a vector, or on the statistics of a stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import MlpParams


class Mlp(nn.Module):
    """vector → (linear → norm → ReLU → dropout)* → linear; with skip, the vector itself beside what comes out [B, input + width]."""

    def __init__(self, params: MlpParams, layout: Layout) -> None:
        super().__init__()
        self.timed = layout.timed
        self.skip = params.skip
        inner = layout.sizes["channel"] * (2 if layout.timed else 1)
        self.width = params.width + (inner if params.skip else 0)
        layers: list[nn.Module] = []
        for width in params.hidden:
            layers.append(nn.Linear(inner, width, bias=params.norm != "batch"))  # BatchNorm would cancel the bias
            if params.norm == "layer":
                layers.append(nn.LayerNorm(width))
            elif params.norm == "batch":
                layers.append(RowNorm(width))
            layers += [nn.ReLU(), nn.Dropout(params.dropout)]
            inner = width
        self.layers = nn.Sequential(*layers, nn.Linear(inner, params.width))

    def forward(self, stream: Stream) -> Encoded:
        """The vector; no sequence, even of a stream over time."""
        values = stream.values
        if self.timed:
            if values.dtype.itemsize < 4:
                values = values.float()  # sums over time need more digits than bf16 has
            real = stream.steps[..., None]
            count = real.sum(1).clamp_min(1)
            mean = (values * real).sum(1) / count
            variance = ((values - mean[:, None]) * real).square().sum(1) / count
            values = torch.cat([mean, (variance + 1e-6).sqrt()], 1)
        output = self.layers(values)
        return Encoded(vector=torch.cat([values.to(output.dtype), output], 1) if self.skip else output)


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that falls back on its running statistics for a batch of one row, which has none of its own."""

    def forward(self, input: Tensor) -> Tensor:
        """The rows [B, channel], normalised."""
        if self.training and len(input) < 2:
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
