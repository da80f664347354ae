"""The network of `mean-pool`."""

from __future__ import annotations

from torch import nn

from mmcl.api import Encoded, Stream


class MeanPool(nn.Module):
    """Mean over real steps → linear."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.width = width
        self.layer = nn.Linear(channels, width)

    def forward(self, stream: Stream) -> Encoded:
        real = stream.steps[..., None]  # padded steps are False here: they count neither above nor below
        mean = (stream.values * real).sum(1) / real.sum(1)
        return Encoded(vector=self.layer(mean))
