"""Tells glibc to keep memory that is given back, for the next step asks for the same sizes again.

Left alone it returns every large block to the system at once, and the next step's first touch of each page is a fault that the
system answers with zeros: a quarter of a step's time where layers are small.
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
"""Options of glibc's mallopt (malloc.h)."""

VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
"""By which a user says so himself: then nothing is changed."""

TOP_PAD = 64 * 2**20
"""Bytes by which the heap grows at least; untouched, they cost nothing."""


SMALL = 32 * 2**20
"""Bytes of a block below which `keep_small_blocks` keeps it: the most that glibc allows."""


def keep_freed_memory() -> bool:
    """Whether glibc was told: False where another allocator is at work, or the user's environment says what to do.

    Large blocks then come from the heap, and the heap is never cut short. It may be called at any time; what was handed out before
    stays as it was.
    """
    return _told({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: TOP_PAD})


def keep_small_blocks() -> bool:
    """The same of blocks below SMALL alone, and of no more than twice that at the end of the heap: a process that reads one recording after
    the other, most of them short, gives a long one's memory back.
    """
    return _told({M_MMAP_THRESHOLD: SMALL, M_TRIM_THRESHOLD: 2 * SMALL, M_TOP_PAD: SMALL // 8})


def _told(options: dict[int, int]) -> bool:
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return all(mallopt(option, value) for option, value in options.items())
