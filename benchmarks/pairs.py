"""The loss of every ordered pair of modalities, forward and backward, against what a good engineer writes in an afternoon."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.side_by_side import Row, compare, devices
from mmcl.api import Items, PairLoss, Positives
from mmcl.objective.score import Embedded, score
from mmcl.plugins import plugins


def embeddings(n: int, m: int, d: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, d, generator=generator, requires_grad=True) for _ in range(m)]


def plain(z: list[torch.Tensor]) -> torch.Tensor:
    """Every ordered pair by itself: normalise, multiply, cross-entropy."""
    target = torch.arange(len(z[0]), device=z[0].device)
    terms = []
    for i, j in itertools.permutations(range(len(z)), 2):
        left, right = functional.normalize(z[i], dim=-1), functional.normalize(z[j], dim=-1)
        terms.append(functional.cross_entropy(left @ right.T / 0.07, target))
    return torch.stack(terms).mean()


@functools.cache
def built() -> tuple[Positives, PairLoss]:
    """The default loss and rule for positives, built once, as a run builds them."""
    offers = plugins()
    loss, positives = offers.get("loss", "info-nce").spec, offers.get("positives", "same-sample").spec
    return positives.build(positives.params()), loss.build(loss.params())


def ours(z: list[torch.Tensor]) -> torch.Tensor:
    """The toolkit's objective with its default loss."""
    rows = torch.arange(len(z[0]), device=z[0].device)
    embedded = {str(i): Embedded(one, rows) for i, one in enumerate(z)}
    pairs = list(itertools.combinations(embedded, 2))
    items = Items(rows, torch.zeros_like(rows))
    objective = score(embedded, items, pairs, *built()).loss
    assert objective is not None
    return objective


def step(function: object, z: list[torch.Tensor]) -> None:
    for one in z:
        one.grad = None
    torch.autograd.backward(function(z))  # type: ignore[operator]  # one of the two above


def added_memory(which: str, n: int, m: int, d: int) -> float:
    """Megabytes that one forward and backward adds, in a process of its own."""
    code = f"from benchmarks.pairs import *; print_added_memory({which!r}, {n}, {m}, {d})"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def print_added_memory(which: str, n: int, m: int, d: int) -> None:
    z = embeddings(n, m, d)
    step({"ours": ours, "plain": plain}[which], [one[:8].detach().requires_grad_() for one in z])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, the parent's included (Linux)
    before = peak_memory()
    step({"ours": ours, "plain": plain}[which], z)
    print(peak_memory() - before)


def peak_memory() -> float:
    """The most memory held since the peak was last forgotten, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def pairs() -> Iterator[Row]:
    """Times of small and large batches, and memory of a very large one."""
    for n, m, floor, aim in ((32, 2, None, None), (32, 4, 2.0, 4.0), (256, 4, None, None), (1024, 4, 1.8, 2.5)):
        for device in devices():
            z = [one.detach().to(device).requires_grad_() for one in embeddings(n, m, 128)]
            difference = abs(ours(z).item() - plain(z).item())
            assert difference < 1e-4, "the two do not compute the same"
            ratio = compare(lambda z=z: step(ours, z), lambda z=z: step(plain, z), 9 if n > 256 else 25, device)
            yield Row(f"pairs, N={n} M={m}, {device}", ratio, floor, aim)
    a, b = added_memory("ours", 8192, 4, 512), added_memory("plain", 8192, 4, 512)
    z = embeddings(8192, 4, 512)
    ratio = compare(lambda: step(ours, z), lambda: step(plain, z), 3)
    yield Row(
        "pairs, N=8192 M=4, cpu", ratio, 2.0, 3.0, {"memory MB": a, "plain's memory MB": b, "share of plain's memory": a / b}
    )


WORKLOADS = {"pairs": pairs}
