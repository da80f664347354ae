"""One linear convolution over time, and its means over equal parts of the real steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmcl.api import Encoded, Layout, Stream, each_step, parts_of, read_out

from . import Linear1dParams


class Linear1d(nn.Module):
    """Convolution → means over parts (less the mean over all) → mean and deviation over all behind them."""

    def __init__(self, params: Linear1dParams, layout: Layout) -> None:
        super().__init__()
        inner = layout.sizes["channel"] * layout.sizes.get("joint", 1)
        self.parts, self.centre, self.level = params.parts, params.centre, params.level
        constant = not params.centre or params.level > 0  # a bias that is taken out again would never learn
        self.combine = nn.Conv1d(inner, params.channels, params.kernel, padding=params.kernel // 2, bias=constant)
        self.width = params.channels * (params.parts + (2 if params.level else 0))

    def forward(self, stream: Stream) -> Encoded:
        """The vector: parts one after another, then means, then deviations; and every step."""
        real = stream.steps[..., None]
        values = stream.values.flatten(2).masked_fill(~real, 0)
        hidden = self.combine(values.transpose(1, 2)).transpose(1, 2)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        hidden = hidden.masked_fill(~real, 0)
        vector = self._read(hidden, stream.steps)
        return Encoded(vector=vector, sequence=each_step(hidden, stream.steps, self.width), steps=stream.steps)

    def _read(self, hidden: Tensor, steps: Tensor) -> Tensor:
        vector = read_out(hidden, steps, self.parts)
        if not self.centre and not self.level:
            return vector
        whole = read_out(hidden, steps, deviation=True)  # [B, mean · deviation]
        mean = whole[:, : hidden.shape[2]]
        if self.centre:
            filled = parts_of(steps, self.parts).any(2)  # a part without a real step stays zero
            vector = (vector.unflatten(1, (self.parts, -1)) - mean[:, None] * filled[..., None]).flatten(1)
        return torch.cat([vector, self.level * math.sqrt(self.parts) * whole], 1) if self.level else vector
