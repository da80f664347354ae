"""Processes that work beside this one: none runs code from the current folder, and none outlives whoever started it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any


@contextmanager
def worker_pool(count: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh Python processes.

    count  how many
    begin  called once in each, with `arguments`
    """
    with safe_path(), ProcessPoolExecutor(count, get_context("spawn"), _begin, (begin, *arguments)) as pool:
        yield pool


@contextmanager
def safe_path() -> Iterator[None]:
    """Processes that start meanwhile do not look for modules in the current folder.

    A worker is started as `python -c …`, which puts that folder first on the path: a numpy.py that lies there would be run.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _begin(begin: Callable[..., None], *arguments: Any) -> None:
    """Set up one worker."""
    Thread(target=_leave_with_parent, daemon=True).start()
    begin(*arguments)


def _leave_with_parent() -> None:
    """End when the process that handed out the work is gone, however it ended: nobody waits for what is done here any more."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
