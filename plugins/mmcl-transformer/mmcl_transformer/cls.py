"""A class token before the steps, and self-attention over all."""

from __future__ import annotations

import torch
from torch import nn

from mmcl.api import Encoded, Layout, Stream

from . import ClsParams
from .layer import Layer


class ClsTransformer(nn.Module):
    """(linear →) class token and steps → + positions, LayerNorm, dropout → post-norm layers; the vector is the class token."""

    def __init__(self, params: ClsParams, layout: Layout) -> None:
        super().__init__()
        channels = layout.sizes["channel"]
        self.width = params.width or channels
        self.enter = nn.Linear(channels, self.width) if self.width != channels else nn.Identity()
        self.token = nn.Parameter(0.02 * torch.randn(self.width)) if params.cls == "learned" else None
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.ModuleList(
            Layer(self.width, params.heads, params.feedforward, params.dropout) for _ in range(params.layers)
        )
        self.positions = nn.Parameter(0.02 * torch.randn(params.longest + 1, self.width)) if params.layers else None
        self.norm = nn.LayerNorm(self.width) if params.layers else None

    def forward(self, stream: Stream) -> Encoded:
        """The class token [B, width]; the sequence is that token and all steps."""
        hidden, steps = self.enter(stream.values), stream.steps
        if self.token is not None:
            hidden = torch.cat([self.token.expand(hidden.shape[0], 1, -1).to(hidden.dtype), hidden], 1)
            steps = torch.cat([torch.ones_like(steps[:, :1]), steps], 1)
        if self.positions is not None and self.norm is not None:
            place = torch.arange(hidden.shape[1], device=hidden.device).clamp_max(len(self.positions) - 1)
            hidden = self.dropout(self.norm(hidden + self.positions[place]))
        for layer in self.layers:
            hidden = layer(hidden, steps)
        hidden = hidden * steps[..., None]
        return Encoded(vector=hidden[:, 0], sequence=hidden, steps=steps)
