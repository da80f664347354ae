"""UniVA's encoder of a sequence, read out by additive attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcl.api import Encoded, Layout, Stream

from . import UnivaParams
from .layer import Layer


class UnivaEncoder(nn.Module):
    """Linear → dropout → + learned positions → layers → additive attention."""

    def __init__(self, params: UnivaParams, layout: Layout) -> None:
        super().__init__()
        self.width = params.width
        self.enter = nn.Linear(layout.sizes["channel"], params.width)
        self.dropout = nn.Dropout(params.dropout)
        self.positions = nn.Parameter(0.02 * torch.randn(params.longest, params.width)) if params.layers else None
        self.layers = nn.ModuleList(
            Layer(params.width, params.heads, params.feedforward, params.dropout, eps=1e-12) for _ in range(params.layers)
        )
        self.read = AdditiveAttention(params.width)

    def forward(self, stream: Stream) -> Encoded:
        """The attended vector [B, width], and every step."""
        hidden = self.dropout(self.enter(stream.values))
        if self.positions is not None:
            place = torch.arange(hidden.shape[1], device=hidden.device).clamp_max(len(self.positions) - 1)
            hidden = hidden + self.positions[place]
        for layer in self.layers:
            hidden = layer(hidden, stream.steps)
        hidden = hidden * stream.steps[..., None]
        return Encoded(vector=self.read(hidden, stream.steps), sequence=hidden, steps=stream.steps)


class AdditiveAttention(nn.Module):
    """Weights softmax over real steps of w·tanh(P x_t + q); the authors' learned query times a matrix is the bias q."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project, self.weigh = nn.Linear(width, width), nn.Linear(width, 1, bias=False)

    def forward(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """[B, T, width] → [B, width]."""
        energy = self.weigh(self.project(hidden).tanh()).squeeze(-1)
        if energy.dtype.itemsize < 4:
            energy = energy.float()
        weight = energy.masked_fill(~steps, torch.finfo(energy.dtype).min).softmax(1) * steps
        return (weight[..., None] * hidden).sum(1)
