"""The prediction head of MPUC-MER."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmcl.api import Encoded

from . import MlpParams


class Mlp(nn.Module):
    """fc → ReLU → fc; trained by the toolkit's loop."""

    def __init__(self, params: MlpParams, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, params.hidden), nn.ReLU(), nn.Dropout(params.dropout), nn.Linear(params.hidden, outputs)
        )

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        return cast(Tensor, self.layers(torch.cat([e.vector for e in encoded.values()], 1)))
