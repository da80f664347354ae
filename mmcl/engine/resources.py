"""What a stretch of work took: time, processor time, memory, and energy where the machine lets it be read."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of Intel and AMD processors; often for root alone, and never in most virtual machines."""


class Meter:
    """Measures from when it is made until `read`."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.powercap = powercap
        self.began, self.cpu = time.monotonic(), _cpu()
        self.energy = _counters(powercap)

    def read(self) -> dict[str, Any]:
        """Seconds, seconds of all cores together, highest memory of the process so far in MB, that of the GPU, and joules.

        joules is what the whole processor used, whoever used it; None where it cannot be read.
        """
        return {
            "seconds": round(time.monotonic() - self.began, 3),
            "cpu_seconds": round(_cpu() - self.cpu, 3),
            "memory_mb": round(peak_mb(), 1),
            "gpu_memory_mb": _gpu(),
            "joules": self._joules(),
        }

    def _joules(self) -> float | None:
        now = _counters(self.powercap)
        used = 0
        for name, (before, _) in self.energy.items():
            if name not in now:
                return None
            after, most = now[name]
            used += after - before if after >= before else after + most - before  # the counter begins again at its end
        return round(used / 1e6, 3) if self.energy else None


def _cpu() -> float:
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each)


def peak_mb() -> float:
    """The highest memory of this process, or of one of its children, so far, in MB."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return max(_own_peak_mb(scale), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / scale)


def _own_peak_mb(scale: int) -> float:
    """Where Linux tells it, of this program alone: `ru_maxrss` is taken over from whatever started it (a notebook of 8 GB, say)."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _gpu() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return round(float(torch.cuda.max_memory_allocated()) / 2**20, 1)


def _counters(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → (microjoules so far, where the counter begins again), of whole processor packages."""
    counters = {}
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:
            try:
                counters[zone.name] = int((zone / "energy_uj").read_text()), int((zone / "max_energy_range_uj").read_text())
            except (OSError, ValueError):
                return {}
    return counters
