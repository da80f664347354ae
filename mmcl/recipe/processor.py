"""What this machine's processor multiplies in bf16. Imports no torch: a plan is made without it."""

from __future__ import annotations

from pathlib import Path

FAST = ("amx_bf16", "avx512_bf16")
"""Instructions that multiply in bf16 faster than in float32, as the kernel calls them, the faster ones first."""

CPUINFO = Path("/proc/cpuinfo")


def bf16_instructions() -> str | None:
    """The fastest of FAST that the processor has; None where it has neither, or the system does not say (it is not Linux)."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), [])
    return next((name for name in FAST if name in flags), None)
