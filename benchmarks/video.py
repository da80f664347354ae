"""R(2+1)D-18: training, and frozen features."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks import ceiling, parts
from benchmarks.side_by_side import Row, compare, devices
from mmcl.engine.devices import arithmetic


def work(frames: int = 8, size: int = 112) -> float:
    """Multiplications and additions of one clip's forward pass, counted layer by layer."""
    side = parts.video(1, frames, size)
    total = 0.0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += 2.0 * output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in side.plain.modules() if isinstance(m, torch.nn.Conv3d)]
    with torch.no_grad():
        side.encode_plain()
    for hook in hooks:
        hook.remove()
    return total


def training() -> Iterator[Row]:
    """Forward and backward of four clips, and the share of the convolutions' peak that it reaches."""
    flops = 3 * 4 * work()
    for device in devices():
        peaks, amount = ceiling.convolution(device)
        for precision, peak in (("float32", peaks.theirs), ("bf16", peaks.ours)):
            side = parts.video(4).to(device)
            side.ours.train()
            side.plain.train()
            ratio = compare(_backward(lambda s=side, p=precision: s.encode_ours(p)), _backward(side.encode_plain), 3, device)
            facts = {"GFLOP/s": flops / ratio.ours / 1e6, "share of the peak": flops / ratio.ours / (amount / peak)}
            yield Row(f"r2plus1d training, {precision}, {device}", ratio, facts=facts)


def _backward(encode: Callable[[], torch.Tensor]) -> Callable[[], None]:
    return lambda: encode().float().square().mean().backward()


def frozen() -> Iterator[Row]:
    """Features of two clips, as `embed` takes them."""
    for device in devices():
        for precision in ("float32", "bf16"):
            side = parts.video(2).to(device)
            side.ours.eval()
            side.plain.eval()

            def ours(side: parts.Side = side, precision: str = precision) -> torch.Tensor:
                with torch.inference_mode(), arithmetic(precision, side.stream.values.device):
                    return side.ours(side.stream)

            def theirs(side: parts.Side = side) -> torch.Tensor:
                with torch.inference_mode():
                    return side.plain[0](side.stream.values)

            apart = float((ours().float() - theirs()).abs().max() / theirs().std())
            wanted = (6.0, 8.0) if precision == "bf16" else (None, None)
            yield Row(
                f"embed-frozen-video, {precision}, {device}", compare(ours, theirs, 3, device), *wanted, {"differs": apart}
            )


WORKLOADS = {"r2plus1d": training, "embed-frozen-video": frozen}
