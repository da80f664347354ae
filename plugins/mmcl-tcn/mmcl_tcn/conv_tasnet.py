"""The separation network's block of Conv-TasNet as a backbone, as MPUC-MER's code uses it, blind to padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import ConvTasnetParams


class ConvTasnet(nn.Module):
    """gLN → 1×1 conv → dropout → (block, dilations 1, 2, 4, …, over and over, each added to its input) → mean → PReLU → linear."""

    def __init__(self, params: ConvTasnetParams, layout: Layout) -> None:
        super().__init__()
        channels = layout.sizes["channel"]
        self.norm = GlobalNorm(channels)
        self.enter = nn.Conv1d(channels, params.bottleneck, 1)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.ModuleList(
            Block(params.bottleneck, params.hidden, params.kernel, 2**i)
            for _ in range(params.repeats)
            for i in range(params.blocks)
        )
        self.activation = nn.PReLU()
        self.project = nn.Linear(params.bottleneck, params.width)
        self.width = params.width

    def forward(self, stream: Stream) -> Encoded:
        """The vector [B, width], and the last block's output at every step."""
        real = mask_of(stream)
        hidden = self.dropout(self.enter(self.norm(stream.values.transpose(1, 2), real)))
        for block in self.blocks:
            hidden = hidden + self.dropout(block(hidden, real))
        if real is not None:
            hidden = hidden * real
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        mean = hidden.mean(2) if real is None else hidden.sum(2) / real.sum(2).clamp_min(1)
        return Encoded(vector=self.project(self.activation(mean)), sequence=hidden.transpose(1, 2), steps=stream.steps)


def mask_of(stream: Stream) -> Tensor | None:
    """1 where a step is real, [B, 1, T]; None where all are, as far as that can be told without waiting for a graphics processor."""
    if stream.steps.device.type == "cpu" and not torch.compiler.is_exporting() and bool(stream.steps.all()):
        return None
    return stream.steps[:, None].to(stream.values.dtype)


class Block(nn.Module):
    """1×1 conv → PReLU → gLN → depthwise dilated conv → PReLU → gLN → 1×1 conv; as many steps as came in."""

    def __init__(self, bottleneck: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.widen = nn.Conv1d(bottleneck, hidden, 1)
        self.first, self.second = nn.PReLU(), nn.PReLU()
        self.norm, self.last_norm = GlobalNorm(hidden), GlobalNorm(hidden)
        self.along = nn.Conv1d(hidden, hidden, kernel, padding=(kernel - 1) // 2 * dilation, dilation=dilation, groups=hidden)
        self.narrow = nn.Conv1d(hidden, bottleneck, 1)

    def forward(self, hidden: Tensor, real: Tensor | None) -> Tensor:
        """The next hidden steps [B, C, T]; `real` [B, 1, T] is 1 where a step is real, None where all are."""
        hidden = self.norm(self.first(self.widen(hidden)), real)
        if real is not None:
            hidden = hidden * real
        return self.narrow(self.last_norm(self.second(self.along(hidden)), real))


class GlobalNorm(nn.Module):
    """Global layer norm: mean and (biased) variance of each row over its channels and real steps together; ε 1e-8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor, real: Tensor | None) -> Tensor:
        """The normalised [B, C, T]; what stands in padded steps means nothing."""
        if real is None:  # the same formula, in one pass of PyTorch's own
            return functional.group_norm(values, 1, self.gain, self.bias, 1e-8)
        exact = values.float() if values.dtype.itemsize < 4 else values
        count = (real.sum((1, 2), keepdim=True) * values.shape[1]).clamp_min(1)
        mean = (exact * real).sum((1, 2), keepdim=True) / count
        apart = (exact - mean) * real
        variance = apart.square().sum((1, 2), keepdim=True) / count
        scaled = (apart * (variance + 1e-8).rsqrt()).to(values.dtype)
        return scaled * self.gain[:, None] + self.bias[:, None]
