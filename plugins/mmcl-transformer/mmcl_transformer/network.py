"""Transformer encoder with positions along time, a padding mask and a masked mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmcl.api import Encoded, Layout, Stream

from . import TransformerParams


class Transformer(nn.Module):
    """(linear →) + positions → encoder layers → mean over real steps."""

    def __init__(self, params: TransformerParams, layout: Layout) -> None:
        super().__init__()
        channels = layout.sizes["channel"]
        self.width = params.width or channels
        self.enter = nn.Linear(channels, self.width) if self.width != channels else nn.Identity()
        self.dropout = nn.Dropout(params.dropout)
        layer = nn.TransformerEncoderLayer(
            self.width,
            params.heads,
            params.feedforward,
            params.dropout,
            params.activation,
            batch_first=True,
            norm_first=params.norm == "pre",
        )
        last = nn.LayerNorm(self.width) if params.norm == "pre" else None
        self.encoder = nn.TransformerEncoder(layer, params.layers, last, enable_nested_tensor=False)
        for (
            copy
        ) in self.encoder.layers:  # TransformerEncoder copies one layer: without this all would start with the same weights
            for module in copy.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()
                elif isinstance(module, nn.MultiheadAttention):
                    module._reset_parameters()

    def forward(self, stream: Stream) -> Encoded:
        hidden = self.enter(stream.values)
        hidden = self.dropout(hidden + positions(hidden.shape[1], self.width, hidden.device).to(hidden.dtype))
        hidden = self.encoder(hidden, src_key_padding_mask=~stream.steps)
        mask = stream.steps[..., None].to(hidden.dtype)
        hidden = hidden.masked_fill(~stream.steps[..., None], 0.0)
        vector = hidden.sum(1) / mask.sum(1).clamp_min(1)
        return Encoded(vector=vector, sequence=hidden, steps=stream.steps)


def positions(steps: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal positions [steps, width] (Vaswani et al. 2017, §3.5): sine in even places, cosine in odd ones."""
    time = torch.arange(steps, dtype=torch.float32, device=device)[:, None]
    even = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    angle = time * torch.exp(-math.log(10_000.0) * even / width)
    table = torch.zeros(steps, width, device=device)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle[:, : width // 2].cos()
    return table
