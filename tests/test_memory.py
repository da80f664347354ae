"""Memory that is given back stays with the process, where glibc is the allocator and nobody has said otherwise."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from mmcl import memory

FAULTS = """
import resource, sys
from mmcl.memory import keep_freed_memory
import numpy as np
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def round():
    for _ in range(5):
        np.ones(10_000_000, np.float32)  # 40 MB: above the largest threshold that glibc moves to by itself
round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")


@glibc
def test_kept_memory_is_used_again_without_faults(monkeypatch):
    for name in memory.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["leave"] >= 50  # of 200 MB; huge pages make them few
    assert 5 * faults["keep"] < faults["leave"]


@pytest.mark.parametrize("name", memory.VARIABLES)
def test_what_the_user_says_of_memory_stands(monkeypatch, name):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("the user's word was overridden"))
    monkeypatch.setenv(name, "1")
    assert not memory.keep_freed_memory()


def test_without_glibc_nothing_is_done(monkeypatch):
    for name in memory.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not memory.keep_freed_memory()
