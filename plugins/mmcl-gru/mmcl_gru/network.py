"""Gated recurrent units on rows that are packed to their real lengths."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import GruParams


class Gru(nn.Module):
    """Layers of GRU → dropout → read-out over real steps."""

    def __init__(self, params: GruParams, layout: Layout) -> None:
        super().__init__()
        inner = layout.sizes["channel"] * layout.sizes.get("joint", 1)
        both = params.directions == "both"
        between = params.dropout if params.layers > 1 else 0.0  # PyTorch warns of dropout that has no place
        self.gru = nn.GRU(inner, params.units, params.layers, batch_first=True, dropout=between, bidirectional=both)
        self.dropout = nn.Dropout(params.dropout)
        self.last, self.parts = params.readout == "last", params.parts
        read = params.units * (2 if both else 1) * params.parts
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the states, and the states of every step."""
        steps = stream.steps
        lengths = steps.sum(1).clamp_min(1).cpu()  # padding stands at the end, so it never enters the recurrence
        packed = pack_padded_sequence(stream.values.flatten(2), lengths, batch_first=True, enforce_sorted=False)
        states, final = self.gru(packed)
        hidden, _ = pad_packed_sequence(states, batch_first=True, total_length=steps.shape[1])
        hidden = self.dropout(hidden)
        vector = self.dropout(self._last(final)) if self.last else read_out(hidden, steps, self.parts)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, steps, self.width, self.project), steps=steps)

    def _last(self, final: Tensor) -> Tensor:
        """The upper layer's state after the last real step and, of the other direction, after the first: [B, units · directions]."""
        directions = 2 if self.gru.bidirectional else 1
        return torch.cat([*final[-directions:]], 1)
