"""Processes that work beside this one: none runs code from the current folder, and none outlives whoever started it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, parent_process
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as ready
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from threading import Lock, Thread
from types import ModuleType
from typing import Any

LEAVING = 60.0
"""Seconds in which processes that are asked to leave may finish their step and write a checkpoint."""


def end_workers(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to keep what they have and leave, end those that do not, and see all of them gone.

    They are not joined: of two threads that wait for one process, as a pool's own does too, the one that comes second is told that it
    is still there, until the first one has noted that it is not.
    """
    for process in processes:
        process.terminate()
    until, left = time.monotonic() + LEAVING, {process.sentinel for process in processes}
    while left and (gone := ready(left, max(0.0, until - time.monotonic()))):
        left -= set(gone)
    for process in processes:
        if process.sentinel in left:
            process.kill()
    until = time.monotonic() + LEAVING  # where SIGCHLD is ignored, as whoever starts a command can have it, nobody is ever told
    while any(process.is_alive() for process in processes) and time.monotonic() < until:
        time.sleep(0.005)


def one_way() -> tuple[Connection, Connection]:
    """Two ends of a pipe: one to receive from, one that workers can be given to send to."""
    receiver, sender = _Fresh().Pipe(duplex=False)
    return receiver, sender


@contextmanager
def worker_pool(count: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh Python processes, all of which are gone afterwards; after an error they are told, and keep what they have.

    count  how many
    begin  called once in each, with `arguments`
    """
    others = set(active_children())
    with safe_path(), ProcessPoolExecutor(count, _Fresh(), _begin, (begin, *arguments)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_workers([process for process in active_children() if process not in others])
            raise


class _Process(SpawnProcess):
    """A fresh Python that does not run the caller's script again: what works there lies in modules of mmcl and of plug-ins alone."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _starting, _no_script(), _undisturbed():
            return SpawnProcess._Popen(process_obj)


class _Fresh(SpawnContext):
    """Starts such processes."""

    Process = _Process


class _CopiedProcess(ForkServerProcess):
    """A copy of a process that does nothing but being copied; it does not run the caller's script either."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _starting, _no_script(), _undisturbed():
            return ForkServerProcess._Popen(process_obj)


class _Copying(ForkServerContext):
    """Starts such processes."""

    Process = _CopiedProcess


def fork_context(preload: Sequence[str]) -> ForkServerContext:
    """Starts processes as copies of one that has imported these modules and does nothing else; it begins with the first of them."""
    context = _Copying()
    context.set_forkserver_preload(list(preload))
    return context


_starting = Lock()
"""Held while a process starts: the main module is one for all threads."""


@contextmanager
def _no_script() -> Iterator[None]:
    """Processes that start meanwhile see an empty main module.

    A spawned process imports the script of the one that started it, so that a script without `if __name__ == "__main__"` would begin
    its own work again in every worker.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Processes that start meanwhile never see a terminal's Ctrl-C or its end: whoever started them is told, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    leave_with_parent()
    begin(*arguments)


def leave_with_parent() -> None:
    """From now on, this process ends when the one that started it is gone."""
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End when the process that handed out the work is gone, however it ended: nobody waits for what is done here any more."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
