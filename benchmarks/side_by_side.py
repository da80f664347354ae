"""Times two ways of doing one thing, in turn, so that a ratio holds while the machine's speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """How many times faster `ours` is than `theirs`: median and spread over rounds; medians in milliseconds."""

    median: float
    low: float
    high: float
    ours: float
    theirs: float

    def __str__(self) -> str:
        return (
            f"{self.median:5.2f}x  ({self.low:.2f} to {self.high:.2f})   ours {self.ours:9.2f} ms   plain {self.theirs:9.2f} ms"
        )


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 15) -> Ratio:
    """Run both in turn, after one warm-up of each."""
    ours(), theirs()
    pairs = []
    for _ in range(rounds):
        pairs.append((_seconds(ours), _seconds(theirs)))
    ratios = sorted(b / a for a, b in pairs)
    return Ratio(
        statistics.median(ratios),
        ratios[len(ratios) // 10],
        ratios[-1 - len(ratios) // 10],
        1e3 * statistics.median(a for a, _ in pairs),
        1e3 * statistics.median(b for _, b in pairs),
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
