"""What a run took place in, for plan.json: the recipe's git commit, the machine, and what makes sums come out the same."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

GIT_SECONDS = 20.0
"""A git that has not answered by then is left alone."""

THEIRS = re.compile(r"(?:local|worktree)\tfilter\.")
"""Settings of a work tree whose programs `git status` would run on changed files. A user's own (git-lfs) are trusted."""

VARIABLES = ("OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")
"""Variables of the environment on which the order of sums depends."""


def git_of(folder: Path | None) -> dict[str, Any] | None:
    """Commit of the work tree that a folder is in, and whether anything in it is not committed; None where there is no such thing.

    A work tree may have come from anywhere, with settings of its own in .git: git is asked in such a way that it runs no program they name.

    commit       None in a work tree without any commit
    uncommitted  None where only running such a program (a filter) could tell
    """
    if folder is None or _git(folder, "rev-parse", "--is-inside-work-tree") != "true":
        return None
    settings = _git(folder, "config", "--show-scope", "--list")
    safe = settings is not None and not any(THEIRS.match(line) for line in settings.splitlines())
    changes = _git(folder, "status", "--porcelain", "--ignore-submodules=all") if safe else None
    return {"commit": _git(folder, "rev-parse", "--verify", "HEAD"), "uncommitted": None if changes is None else bool(changes)}


def hardware(device: str) -> dict[str, Any]:
    """Logical cores, memory in GB (10⁹ bytes; None where the system does not say) and, where it is used, the graphics processor."""
    gpu = None
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():  # asked for, and looked for by the first stage that needs it
            gpu = torch.cuda.get_device_name(torch.device(device))
    return {"cores": os.cpu_count(), "memory_gb": _memory(), "gpu": gpu}


def determinism() -> dict[str, Any]:
    """Threads and switches of torch, and VARIABLES; None for one that is not set."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        **{name: os.environ.get(name) for name in VARIABLES},
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None if it is not there, or knows nothing."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None
