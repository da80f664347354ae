"""Retrieval between two modalities, in both directions, among all and among 32: against blocks of float64 and scipy's chances."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.side_by_side import compare
from mmcl.evaluate.retrieval import both_ways

AMONG = 32


def embeddings(n: int, d: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(n, d, generator=generator)
    return one, one + 2 * torch.randn(n, d, generator=generator)


def plain(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    """Each direction by itself: similarities block by block, ranks, and the chance of each query to be first among 32."""
    from scipy.stats import hypergeom

    firsts = []
    for query, gallery in ((one, other), (other, one)):
        query, gallery = normalize(query.double(), dim=-1), normalize(gallery.double(), dim=-1)
        better = []
        for k in range(0, len(query), 1024):
            similarity = query[k : k + 1024] @ gallery.T
            own = similarity.gather(1, torch.arange(k, k + len(similarity))[:, None])
            better.append((similarity > own).sum(1))
        ranks = torch.cat(better).numpy()
        np.median(1 + ranks)
        firsts.append(float(hypergeom.cdf(0, len(ranks) - 1, ranks, AMONG - 1).mean()))
    return firsts


def ours(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    """What `probe` asks of every pair of modalities."""
    firsts = []
    for places in both_ways(one, other):
        places.retrieval()
        firsts.append(places.retrieval(AMONG)["R@1"][0])
    return firsts


def print_added_memory(n: int) -> None:
    """Megabytes that one search adds, and its CPU seconds."""
    one, other = embeddings(n)
    ours(one[:100], other[:100])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux)
    before, began = _status("VmRSS"), time.process_time()
    ours(one, other)
    print(f"{_status('VmHWM') - before:.0f} MB added, {time.process_time() - began:.1f} s of CPU time")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    """Print the ratio at 5,000 recordings, random and all alike, and what 20,000 and 100,000 take."""
    one, other = embeddings(5000)
    assert np.allclose(ours(one, other), plain(one, other), atol=1e-9), "the two do not compute the same"
    print(f"retrieval N=5000             {compare(lambda: ours(one, other), lambda: plain(one, other), 3)}")
    alike = torch.ones_like(one)
    print(f"retrieval N=5000, all alike  {compare(lambda: ours(one, alike), lambda: plain(one, alike), 3)}")
    for n in (20_000, 100_000):
        code = f"from benchmarks.retrieval import *; print_added_memory({n})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(f"retrieval N={n}: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
