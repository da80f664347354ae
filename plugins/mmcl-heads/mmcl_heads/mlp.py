"""The prediction head of MPUC-MER."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcl.api import Encoded, Task

from . import MlpParams, outputs


class Mlp(nn.Module):
    """fc → ReLU → fc on the modalities' vectors, one after the other (MPUC-MER, §III-C); trained by the toolkit's loop."""

    def __init__(self, params: MlpParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.hidden = nn.Linear(sum(widths.values()), params.hidden)
        self.dropout = nn.Dropout(params.dropout)
        self.output = nn.Linear(params.hidden, outputs(task))

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits or values."""
        vectors = torch.cat([encoded[name].vector for name in self.names], 1)
        output: Tensor = self.output(self.dropout(self.hidden(vectors).relu()))
        return output
