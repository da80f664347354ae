"""Learned weights over the hidden layers of a frozen model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import layer_norm

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import LayerMixParams


class LayerMix(nn.Module):
    """A softmax over the layers weighs them → a linear layer on each step → the mean over the real steps."""

    def __init__(self, params: LayerMixParams, layout: Layout) -> None:
        super().__init__()
        self.normalise, self.width = params.normalise, params.width
        self.weights = nn.Parameter(torch.zeros(layout.sizes["layer"]))  # before the softmax: all alike
        self.project = nn.Linear(layout.sizes["channel"], params.width)

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width], and every step."""
        values = stream.values.masked_fill(~stream.steps[..., None, None], 0)  # [B, T, layer, channel]
        if self.normalise:
            values = layer_norm(values, values.shape[-1:])
        mixed = torch.einsum("l,btlc->btc", self.weights.softmax(0), values)
        hidden = self.project(mixed)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        hidden = hidden.masked_fill(~stream.steps[..., None], 0)
        return Encoded(
            vector=read_out(hidden, stream.steps), sequence=each_step(hidden, stream.steps, self.width), steps=stream.steps
        )
