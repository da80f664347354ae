"""What a plug-in may not change of the process that it works in: seeds, flags, environment, warnings, the folder, threads."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SEED = 20_240_229
"""Of torch while a plug-in works: whoever seeds it anew is seen."""


def changes_of(work: Callable[[], object], package: str) -> list[str]:
    """What `work` changes of its process, each in a few words; all but threads is put back.

    package  the plug-in's: what the libraries that it imports set for themselves is theirs
    """
    import numpy as np
    import torch

    torch.manual_seed(_SEED)
    before, folder, filters = _flags(), Path.cwd(), list(warnings.filters)
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global generator is what is looked at
    random.seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    threads, errors = set(threading.enumerate()), np.geterr()
    with _watched(package) as noted:
        try:
            work()
        finally:
            after, left = _flags(), Path.cwd()
            started = [one.name for one in threading.enumerate() if one not in threads and _is_of(one, package)]
            torch.set_default_dtype(before["torch's default dtype"])
            torch.set_flush_denormal(before["torch's denormal numbers as zeros"])
            torch.set_grad_enabled(before["torch's gradient switch"])
            os.chdir(folder)
            warnings.filters[:] = filters  # type: ignore[index]  # a list, which typeshed calls a sequence
    changes = [f"{name} ({before[name]} → {after[name]})" for name in before if before[name] != after[name]]
    if states[0] != random.getstate():
        changes.append("the generator of `random`, which every other plug-in draws from too")
    if not _same_state(states[1], np.random.get_state()):  # noqa: NPY002
        changes.append("NumPy's global generator; draw from np.random.default_rng(seed)")
    random.setstate(kept[0])
    np.random.set_state(kept[1])  # noqa: NPY002
    if np.geterr() != errors:
        changes.append("np.seterr")
        np.seterr(**errors)
    if left != folder:
        changes.append("the current folder")
    return [*changes, *dict.fromkeys(noted), *(f"a thread that goes on ({name})" for name in started)]


def _is_of(thread: threading.Thread, package: str) -> bool:
    target = getattr(thread, "_target", None)
    return str(getattr(target, "__module__", type(thread).__module__)).partition(".")[0] == package


def _same_state(one: Any, other: Any) -> bool:
    return all(bool((a == b).all()) if hasattr(a, "all") else a == b for a, b in zip(one, other, strict=True))


def _flags() -> dict[str, Any]:
    """The switches of torch and of logging that every other plug-in works under too."""
    import torch

    return {
        "torch's seed": torch.initial_seed(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
        "torch's gradient switch": torch.is_grad_enabled(),
        "torch's anomaly detection": torch.is_anomaly_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn.enabled": torch.backends.cudnn.enabled,
        "torch's denormal numbers as zeros": float(torch.tensor([1e-310], dtype=torch.float64).mul(1.0)) == 0,
        "the collector of garbage": gc.isenabled(),
        "how warnings are shown": warnings.showwarning,
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
        "the patience of sockets": socket.getdefaulttimeout(),
        "the level of the root logger": logging.getLogger().level,
        "the limit of recursion": sys.getrecursionlimit(),
    }


@contextmanager
def _watched(package: str) -> Iterator[list[str]]:
    """Notes what code of `package` sets of the environment and of warnings."""
    noted: list[str] = []
    kind: Any = type(os.environ)
    simple, filtering = warnings.simplefilter, warnings.filterwarnings
    plain, delete, reset = kind.__setitem__, kind.__delitem__, warnings.resetwarnings

    def sets(self: Any, name: str, value: str) -> None:
        if _caller() == package:
            noted.append(f"the environment variable {name}")
        plain(self, name, value)

    def deletes(self: Any, name: str) -> None:
        if _caller() == package:
            noted.append(f"the environment variable {name}")
        delete(self, name)

    def noting(function: Any, called: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if _caller() == package and warnings.filters is filters:
                noted.append(f"{called}, which hides everyone's warnings")
            return function(*arguments, **named)

        return call

    values, filters = dict(os.environ), warnings.filters  # inside catch_warnings, another list
    kind.__setitem__, kind.__delitem__ = sets, deletes
    warnings.resetwarnings = noting(reset, "warnings.resetwarnings")
    warnings.simplefilter = noting(simple, "warnings.simplefilter")
    warnings.filterwarnings = noting(filtering, "warnings.filterwarnings")
    try:
        yield noted
    finally:
        warnings.simplefilter, warnings.filterwarnings, warnings.resetwarnings = simple, filtering, reset
        kind.__setitem__, kind.__delitem__ = plain, delete
        for name in noted:
            variable = name.removeprefix("the environment variable ")
            if variable != name:
                os.environ.pop(variable, None)
                if variable in values:
                    os.environ[variable] = values[variable]


def _caller() -> str:
    """The package of the code that called, past Python's own."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "os",
        "_collections_abc",
        "collections",
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
