"""Conv-TasNet's convolution of each channel along time, and its PReLU, on a processor: steps before channels, so that 1×1 convolutions are
matrix products on what lies in memory already, and a tap is one product and sum of whole steps.

PyTorch's own gradients of both take most of a training step in bf16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .processor import total


class Along(torch.autograd.Function):
    """Each channel by weights of its own: Σ over taps of `weight[tap] · values[t + (tap − centre) · dilation]`, zero beyond both ends, plus the bias."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        """[B, T, channel] of values [B, T, channel], weight [tap, channel] and bias [channel]."""
        ctx.save_for_backward(values, weight)
        ctx.dilation = dilation
        taps = _taps(weight, values.shape[1], dilation)
        centre = len(weight) // 2
        wide = spread(weight, values.shape[1])
        out = torch.addcmul(spread(bias, values.shape[1]), values, wide[centre])
        for number, here, there in taps:
            if number != centre:
                out[:, here].addcmul_(values[:, there], wide[number, here])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, behind: Tensor) -> tuple[Any, ...]:
        """Of the values, the weight and the bias."""
        values, weight = ctx.saved_tensors
        centre = len(weight) // 2
        wide = spread(weight, values.shape[1])
        of_values = behind * wide[centre]
        of_weight = torch.zeros_like(weight)
        for number, here, there in _taps(weight, values.shape[1], ctx.dilation):
            if number != centre:
                of_values[:, there].addcmul_(behind[:, here], wide[number, here])
            of_weight[number] = total(behind[:, here] * values[:, there], (0, 1))
        return of_values, of_weight, total(behind, (0, 1)), None


class Prelu(torch.autograd.Function):
    """x where it is above 0, else slope · x, for one slope of all channels."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Tensor) -> Tensor:
        """As long as the values; slope [1]."""
        ctx.save_for_backward(values, slope)
        return functional.leaky_relu(values, float(slope))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, behind: Tensor) -> tuple[Any, ...]:
        """Of the values and the slope."""
        values, slope = ctx.saved_tensors
        of_values = torch.ops.aten.leaky_relu_backward(behind, values, float(slope), False)
        of_slope = total(behind * values.clamp_max(0), (0, 1, 2))
        return of_values, of_slope.to(slope.dtype).view_as(slope)


def spread(channels: Tensor, steps: int) -> Tensor:
    """Numbers of channels [..., channel], written out for every step [..., T, channel]: what is read in a row is multiplied at full speed."""
    return channels[..., None, :].expand(*channels.shape[:-1], steps, channels.shape[-1]).contiguous()


def _taps(weight: Tensor, steps: int, dilation: int) -> list[tuple[int, slice, slice]]:
    """(tap, the steps that it changes, those that it reads) of each tap that reads any."""
    taps = []
    for number in range(len(weight)):
        shift = (number - len(weight) // 2) * dilation
        if abs(shift) < steps:
            taps.append((number, slice(max(0, -shift), steps - max(0, shift)), slice(max(0, shift), steps - max(0, -shift))))
    return taps
