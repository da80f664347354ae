"""Times two ways of doing one thing, in turn, so that a ratio holds while the machine's speed drifts."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times faster `ours` is than `theirs`: median over rounds, and from the lowest to the highest tenth."""

    median: float
    low: float
    high: float
    wall: float  # the same of the time on the clock
    ours: float  # milliseconds, medians
    theirs: float
    rounds: int

    def __str__(self) -> str:
        return (
            f"{self.median:6.2f}x ({self.low:.2f} to {self.high:.2f}; wall {self.wall:.2f})   "
            f"ours {self.ours:10.2f} ms   plain {self.theirs:10.2f} ms"
        )


@dataclass(frozen=True)
class Row:
    """A line of the table.

    floor, aim  what the ratio is to reach, where the project has set itself anything
    facts       whatever else was measured, by name
    """

    name: str
    ratio: Ratio | None = None
    floor: float | None = None
    aim: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        facts = "; ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.facts.items()
        )
        wanted = "" if self.floor is None else f"   floor {self.floor:g}, aim {self.aim:g}"
        return f"{self.name:44} {self.ratio or ''}{wanted}   {facts}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare(ours: Work, theirs: Work, rounds: int = 9, device: str = "cpu", least: float = 0.02) -> Ratio:
    """Run both in turn, after one warm-up of each.

    CPU time is compared on a processor, time on the clock on a graphics processor, which works beside it.

    least  seconds that one measurement takes at least: short work is repeated within it
    """
    ours(), theirs()
    times = max(1, round(least / max(_timed(ours, 1, device)[0], 1e-6)))
    measured = []
    for turn in range(rounds):  # who comes first changes, so that neither always meets the caches of the other
        if turn % 2:
            b, a = _timed(theirs, times, device), _timed(ours, times, device)
        else:
            a, b = _timed(ours, times, device), _timed(theirs, times, device)
        measured.append((a, b))
    return gather(measured, device)


def gather(measured: Sequence[tuple[tuple[float, float], tuple[float, float]]], device: str) -> Ratio:
    """The ratio of rounds, each the seconds of CPU time and of the clock of ours and of theirs."""
    of = 0 if device == "cpu" else 1
    ratios = sorted(b[of] / a[of] for a, b in measured)
    return Ratio(
        median=statistics.median(ratios),
        low=ratios[len(ratios) // 10],
        high=ratios[-1 - len(ratios) // 10],
        wall=statistics.median(b[1] / a[1] for a, b in measured),
        ours=1e3 * statistics.median(a[of] for a, _ in measured),
        theirs=1e3 * statistics.median(b[of] for _, b in measured),
        rounds=len(measured),
    )


def _timed(work: Work, times: int, device: str) -> tuple[float, float]:
    """Seconds of CPU time, children's included, and of the clock, that one of `times` takes."""
    if device != "cpu":
        torch.cuda.synchronize()
    cpu, wall = cpu_seconds(), time.perf_counter()
    for _ in range(times):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return (cpu_seconds() - cpu) / times, (time.perf_counter() - wall) / times


def cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def devices() -> Iterator[str]:
    """The processor, and a graphics processor where one is found."""
    yield "cpu"
    if torch.cuda.is_available():
        yield "cuda"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": _bf16(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _bf16() -> str:
    flags = _cpuinfo().get("flags", "").split()
    return next((flag for flag in ("amx_bf16", "avx512_bf16", "avx_ne_convert") if flag in flags), "none")
