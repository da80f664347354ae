"""What a plug-in imports before anything of it is built, measured in a fresh process."""

from __future__ import annotations

import functools
import importlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import EntryPoint
from pathlib import Path

from ..api.hooks import PROJECT
from ..plugins import load
from .table import checks_of

HEAVY = ("torch", "torchvision", "torchaudio", "librosa", "scipy", "sklearn")
"""What a plug-in's package must not import before `build`: every command imports every plug-in."""


SECONDS = 2.0
"""Of the processor, that an import of nothing heavy may take."""


@functools.cache
def heavy_imports(package: str, path: str) -> dict[str, list[str]] | str:
    """In a fresh process: what a plug-in imports and does, at which moment before `build`; or why it does not load."""
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
    clock = time.perf_counter()

    def note(moment: str) -> None:
        nonlocal clock
        seconds, clock = time.perf_counter() - clock, time.perf_counter()
        new = [name for name in HEAVY if name in sys.modules and name not in known]
        imported[moment] = [f"imports {', '.join(new)} ({seconds:.1f} s)"] if new else []
        known.update(name for name in HEAVY if name in sys.modules)

    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed), _noted_effects() as effects:
            importlib.import_module(package)
    except Exception as error:  # noqa: BLE001 - a stranger's import may raise anything; it becomes the message
        sys.stdout.write(json.dumps(f"{type(error).__name__}: {error}") + "\n")
        return
    note(f"importing '{package}'")
    if printed.getvalue().strip():
        effects.append(f"prints {printed.getvalue().strip().splitlines()[0][:60]!r}")
    imported[f"importing '{package}'"] += effects
    (loaded,) = load([EntryPoint(package, package, PROJECT)]).loaded
    note("calling its hooks")
    for offer in loaded.offers:
        if (ask := checks_of(offer.spec).ask) is not None:
            try:
                note(ask(offer.spec))
            except ValueError:
                continue  # an option without a default, of which another check speaks
    sys.stdout.write(json.dumps(imported) + "\n")


@contextmanager
def _noted_effects() -> Iterator[list[str]]:
    """What an import does beside importing: sleeps (which are skipped), threads, processes, and what it changes for everyone else."""
    import random
    import socket

    problems: list[str] = []
    environment, folder, filters = dict(os.environ), Path.cwd(), list(warnings.filters)
    threads, state, path = set(threading.enumerate()), random.getstate(), list(sys.path)
    sleep, connect = time.sleep, socket.socket.connect

    def asleep(seconds: float) -> None:
        problems.append(f"sleeps for {seconds:g} s")

    def connecting(*_: object) -> None:
        problems.append("opens a connection")
        raise OSError("no connection while a plug-in is imported")

    time.sleep, socket.socket.connect = asleep, connecting  # type: ignore[method-assign,assignment]  # put back below
    began = time.process_time()
    try:
        yield problems
    finally:
        time.sleep, socket.socket.connect = sleep, connect  # type: ignore[method-assign]  # as they were
    heavy = any(name in sys.modules for name in HEAVY)
    if (seconds := time.process_time() - began) > SECONDS and not heavy:
        problems.append(f"takes {seconds:.1f} s")
    problems += [f"starts the thread {one.name!r}" for one in threading.enumerate() if one not in threads]
    changed = sorted(name for name in {*environment, *os.environ} if environment.get(name) != os.environ.get(name))
    if not heavy:  # libraries set variables and filters of their own
        problems += [f"changes the environment variable {name}" for name in changed]
        problems += ["changes the filters of warnings"] if list(warnings.filters) != filters else []
    problems += ["changes the current folder"] if Path.cwd() != folder else []
    problems += ["draws from, or seeds, the generator of `random`"] if random.getstate() != state else []
    problems += ["changes sys.path"] if sys.path != path else []
