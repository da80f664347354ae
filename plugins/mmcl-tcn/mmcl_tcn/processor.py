"""What both networks share of their ways on a processor: when these are taken, in which type, and sums that need more digits than bf16 has."""

from __future__ import annotations

import torch
from torch import Tensor


def on_processor(values: Tensor) -> bool:
    """Whether our own ways are taken: on a processor, and where no graph is made, which would not know our gradients and has no sizes of values."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def narrowed(values: Tensor) -> Tensor:
    """In the type that autocast computes in, if it is on."""
    return values.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else values


def total(values: Tensor, axes: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """The sum over some axes, `scale` times; added up in float32 where the values are narrower."""
    wide = torch.promote_types(values.dtype, torch.float32)
    return values.sum(axes, dtype=wide).mul_(scale).to(values.dtype)
