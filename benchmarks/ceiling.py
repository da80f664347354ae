"""What this machine multiplies at most, in float32 and in bf16: no network can gain more from bf16 than their ratio."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.side_by_side import Ratio, Row, compare, devices

SIDE = 2048


def product(device: str) -> tuple[Ratio, float]:
    """bf16 over float32 for one matrix product, and its multiplications and additions."""
    one, other = (torch.randn(SIDE, SIDE, device=device) for _ in range(2))
    low = one.bfloat16(), other.bfloat16()
    return compare(lambda: low[0] @ low[1], lambda: one @ other, 5, device), 2.0 * SIDE**3


def convolution(device: str) -> tuple[Ratio, float]:
    """bf16 over float32 for one convolution of R(2+1)D's first stage, forward and backward, channels last."""
    frames, side, inner, outer = 16, 56, 64, 144
    sides = []
    for kind in (torch.float32, torch.bfloat16):
        values = torch.randn(frames, inner, side, side, device=device, dtype=kind).to(memory_format=torch.channels_last)
        weight = torch.randn(outer, inner, 3, 3, device=device, dtype=kind).to(memory_format=torch.channels_last)
        sides.append((values.requires_grad_(), weight.requires_grad_()))

    def step(values: torch.Tensor, weight: torch.Tensor) -> None:
        output = functional.conv2d(values, weight, padding=1)
        torch.autograd.grad(output, (values, weight), output.detach())

    ratio = compare(lambda: step(*sides[1]), lambda: step(*sides[0]), 5, device)
    return ratio, 3 * 2.0 * frames * side**2 * inner * outer * 9


def ceiling() -> Iterator[Row]:
    """bf16 against float32."""
    for device in devices():
        for name, (ratio, work) in (("matrix product", product(device)), ("convolution", convolution(device))):
            speed = {"bf16 GFLOP/s": work / ratio.ours / 1e6, "float32 GFLOP/s": work / ratio.theirs / 1e6}
            yield Row(f"ceiling, {name}, {device}", ratio, facts=speed)


WORKLOADS = {"ceiling": ceiling}
