"""The network of `torchaudio-conformer`."""

from __future__ import annotations

import torch
from torch import nn
from torchaudio.models import Conformer

from mmcl.api import Encoded, Stream

from . import ConformerParams


class TorchaudioConformer(nn.Module):
    """linear → Conformer on rows of equal length → mean over steps."""

    def __init__(self, params: ConformerParams, channels: int) -> None:
        super().__init__()
        self.width = params.width
        self.enter = nn.Linear(channels, params.width)
        self.conformer = Conformer(
            params.width, params.heads, params.feedforward, params.layers, params.kernel, params.dropout, use_group_norm=True
        )

    def forward(self, stream: Stream) -> Encoded:
        """The mean of the real steps, and every step."""
        hidden, lengths = self.enter(stream.values), stream.steps.sum(1)
        rows, parts = [], []
        for length in lengths.unique().tolist():
            row = (lengths == length).nonzero().squeeze(1)
            states, _ = self.conformer(hidden[row, :length], lengths[row])
            rows.append(row)
            parts.append(nn.functional.pad(states, (0, 0, 0, hidden.shape[1] - length)))
        sequence = torch.cat(parts)[torch.cat(rows).argsort()]
        return Encoded(sequence.sum(1) / lengths[:, None], sequence, stream.steps)
