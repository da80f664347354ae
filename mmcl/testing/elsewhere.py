"""What a plug-in gives in another process, under another hash seed: sets, `hash()` and the order of a folder differ there."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .checks import Check, NotTried, expect
from .general import package_of

SEED = "4093"
"""Of Python's hashes in the other process."""


Facts = Callable[[Any, Any, "Path | None"], dict[str, Any]]
"""Plug-in, options, and the folder of a tiny copy → what is compared."""


def elsewhere_checks(facts: Facts, spec: Any, subject: str, params: Any, root: Any = None) -> Iterator[Check]:
    """Compared with another process, where the package registers it and its options are the defaults.

    facts  what is compared; in the other process those that the table has for its kind
    root   a function that gives the folder of a tiny copy; None: there is none
    """
    if params == spec.params():
        yield (
            "another process gives the same",
            lambda: _compare(facts, spec, subject, params, root() if root is not None else None),
        )


def _compare(facts: Facts, spec: Any, subject: str, params: Any, root: Path | None) -> None:
    there = _there(package_of(spec), type(spec).__name__, spec.name, root)
    if there is None:
        return  # it is registered by nothing that another process could import
    here = facts(spec, params, root)
    for name, value in here.items():
        expect(
            _alike(there.get(name), value),
            f"{subject}: {name} differs in another process, whose strings have other hashes; sort what comes out of a set, a folder or a glob, "
            "and never use hash()",
        )


def _alike(one: Any, other: Any) -> bool:
    """Equal; numbers to the fourth digit, as sums over several threads come in another order."""
    if not isinstance(one, list) or not isinstance(other, list):
        return bool(one == other)
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3) for a, b in zip(one, other, strict=True)
    )


def _there(package: str, kind: str, name: str, root: Path | None) -> dict[str, Any] | None:
    """What another process finds; None where it finds no such plug-in."""
    code = "import sys; from mmcl.testing.answering import print_facts; print_facts(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, package, kind, name, str(root or "")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": SEED, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise NotTried(f"{package} could not be asked in another process: {words[0]}")
    answer: dict[str, Any] | None = json.loads(lines[-1])
    return answer
