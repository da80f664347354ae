"""What a plug-in imports before anything of it is built, measured in a fresh process."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint

from ..api.hooks import PROJECT
from ..plugins import load
from .table import checks_of

HEAVY = ("torch", "torchvision", "torchaudio", "librosa", "scipy", "sklearn")
"""What a plug-in's package must not import before `build`: every command imports every plug-in."""


@functools.cache
def heavy_imports(package: str, path: str) -> dict[str, list[str]] | str:
    """In a fresh process: what a plug-in imports, at which moment before `build`; or why it does not load."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from mmcl.testing.imports import print_heavy_imports; print_heavy_imports(sys.argv[1])",
            package,
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    imported: dict[str, list[str]] | str = json.loads(done.stdout.splitlines()[-1])
    return imported


def print_heavy_imports(package: str) -> None:
    """Print what `heavy_imports` reads, as JSON: runs in its fresh process."""
    imported: dict[str, list[str]] = {}
    known = {name for name in HEAVY if name in sys.modules}

    def note(moment: str) -> None:
        imported[moment] = [name for name in HEAVY if name in sys.modules and name not in known]
        known.update(imported[moment])

    try:
        importlib.import_module(package)
    except Exception as error:  # noqa: BLE001 - a stranger's import may raise anything; it becomes the message
        sys.stdout.write(json.dumps(f"{type(error).__name__}: {error}") + "\n")
        return
    note(f"importing '{package}'")
    (loaded,) = load([EntryPoint(package, package, PROJECT)]).loaded
    note("calling its hooks")
    for offer in loaded.offers:
        if (ask := checks_of(offer.spec).ask) is not None:
            note(ask(offer.spec))
    sys.stdout.write(json.dumps(imported) + "\n")
