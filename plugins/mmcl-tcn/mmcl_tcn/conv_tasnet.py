"""The separation network's block of Conv-TasNet as a backbone, as MPUC-MER's code uses it, blind to padding."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Layout, Stream

from . import ConvTasnetParams
from .along import Along, Prelu, spread
from .processor import narrowed, on_processor


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
        first = on_processor(stream.values)  # then steps go before channels
        real = mask_of(stream, first)
        values = stream.values if first else stream.values.transpose(1, 2)
        if first:
            values = narrowed(values)
        hidden = self._drop(linear(self.enter, self.norm(values, real, first), first), first)
        for block in self.blocks:
            hidden = hidden + self._drop(block(hidden, real, first), first)
        if real is not None:
            hidden = hidden * real.to(hidden.dtype)
        if hidden.dtype.itemsize < 4:
            hidden = hidden.float()  # sums over time need more digits than bf16 has
        time = 1 if first else 2
        mean = hidden.mean(time) if real is None else hidden.sum(time) / real.sum(time).clamp_min(1)
        sequence = hidden if first else hidden.transpose(1, 2)
        return Encoded(vector=self.project(self.activation(mean)), sequence=sequence, steps=stream.steps)

    def _drop(self, values: Tensor, first: bool) -> Tensor:
        """Dropout, which draws the same elements whichever axis is first."""
        if not first or not self.training or not self.dropout.p:
            return self.dropout(values)
        return values * self.dropout(values.new_ones(values.transpose(1, 2).shape)).transpose(1, 2).contiguous()


def mask_of(stream: Stream, first: bool) -> Tensor | None:
    """1 where a step is real, [B, T, 1] with steps first, else [B, 1, T]; None where all are, as far as that can be told without waiting for a
    graphics processor."""
    if stream.steps.device.type == "cpu" and not torch.compiler.is_exporting() and bool(stream.steps.all()):
        return None
    return (stream.steps[..., None] if first else stream.steps[:, None]).to(stream.values.dtype)


def linear(layer: nn.Conv1d, values: Tensor, first: bool) -> Tensor:
    """A convolution that sees one step."""
    out: Tensor = functional.linear(values, layer.weight[:, :, 0], layer.bias) if first else layer(values)
    return out


class Block(nn.Module):
    """1×1 conv → PReLU → gLN → depthwise dilated conv → PReLU → gLN → 1×1 conv; as many steps as came in."""

    def __init__(self, bottleneck: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.widen = nn.Conv1d(bottleneck, hidden, 1)
        self.first, self.second = nn.PReLU(), nn.PReLU()
        self.norm, self.last_norm = GlobalNorm(hidden), GlobalNorm(hidden)
        self.along = nn.Conv1d(hidden, hidden, kernel, padding=(kernel - 1) // 2 * dilation, dilation=dilation, groups=hidden)
        self.narrow = nn.Conv1d(hidden, bottleneck, 1)

    def forward(self, hidden: Tensor, real: Tensor | None, first: bool = False) -> Tensor:
        """The next hidden steps: [B, C, T] and a mask [B, 1, T], or with steps first [B, T, C] and [B, T, 1]; the mask is 1 where a step is real,
        None where all are."""
        hidden = self.norm(self._bent(self.first, linear(self.widen, hidden, first), first), real, first)
        if real is not None:
            hidden = hidden * real.to(hidden.dtype)  # of the same type: a mask in float32 would turn bf16 into float32
        hidden = self._bent(self.second, self._along(hidden) if first else self.along(hidden), first)
        return linear(self.narrow, self.last_norm(hidden, real, first), first)

    def _along(self, hidden: Tensor) -> Tensor:
        weight, bias = self.along.weight[:, 0].t().to(hidden.dtype), cast("Tensor", self.along.bias).to(hidden.dtype)
        return cast("Tensor", Along.apply(hidden, weight, bias, self.dilation))

    @staticmethod
    def _bent(layer: nn.PReLU, values: Tensor, first: bool) -> Tensor:
        return cast("Tensor", Prelu.apply(values, layer.weight)) if first else layer(values)


class GlobalNorm(nn.Module):
    """Global layer norm: mean and (biased) variance of each row over its channels and real steps together; ε 1e-8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor, real: Tensor | None, first: bool = False) -> Tensor:
        """The normalised [B, C, T], with steps first [B, T, C]; what stands in padded steps means nothing."""
        gain, bias = (self.gain, self.bias) if first else (self.gain[:, None], self.bias[:, None])
        if real is None and not first:  # the same formula, in one pass of PyTorch's own
            return functional.group_norm(values, 1, self.gain, self.bias, 1e-8)
        if real is None:
            scaled = functional.group_norm(values, 1, eps=1e-8)
            steps = values.shape[1]
            return torch.addcmul(spread(bias.to(scaled.dtype), steps), scaled, spread(gain.to(scaled.dtype), steps))
        exact = values.float() if values.dtype.itemsize < 4 else values
        count = (real.sum((1, 2), keepdim=True) * len(self.gain)).clamp_min(1)
        mean = (exact * real).sum((1, 2), keepdim=True) / count
        apart = (exact - mean) * real
        variance = apart.square().sum((1, 2), keepdim=True) / count
        scaled = (apart * (variance + 1e-8).rsqrt()).to(values.dtype)
        return scaled * gain.to(scaled.dtype) + bias.to(scaled.dtype)
