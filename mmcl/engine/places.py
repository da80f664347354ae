"""Where tasks run side by side: an interface of two methods, and the processes of this machine behind it.

A task is a function of a module with its arguments: a fold and seed, a trial of a sweep, some recordings to prepare. Whoever hands tasks out does not know
where they run; `cluster.py` has the other engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from ..api.errors import StageError
from ..memory import keep_freed_memory
from ..screen import Listener, Shown, Tick, progress, say
from ..workers import one_way, worker_pool

WORDS = 400
"""Characters of a line that a process may send: with what stands around it, fewer bytes than a pipe takes at once."""
EVERY = 0.5
"""Seconds between two messages of a process about how far it is."""

Hear = Callable[[str, Shown], None]
"""Told what a task says of itself: the task's name, and the line, or how far it is."""


@dataclass(frozen=True)
class Work:
    """Some work that a process beside this one does.

    name  for people: "fold 3, seed 17"
    call  a function of a module, called with `arguments` and the device that it is to use
    lock  held by whoever works on it, where a process that was given up can live on out of sight; it must lie in the shared folder
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    lock: Path | None = None


class Died(Exception):
    """The process that ran one of these tasks died.

    tasks  names
    where  on which node; "" on this machine
    """

    def __init__(self, tasks: list[str], where: str = "") -> None:
        super().__init__(tasks, where)
        self.tasks, self.where = tasks, where

    def sentence(self, advice: str) -> StageError:
        """What a person is told; `advice` is what helps on this machine."""
        if self.where:
            return StageError(
                f"{self.tasks[0]}: each process that ran it died, the last one on {self.where}, perhaps for want of memory"
            )
        return StageError(f"a process that ran one of {'; '.join(self.tasks)} died, perhaps for want of memory; {advice}")


Installation = Mapping[str, str]
"""What is installed on a machine and can change results: its name, and its version with a hash of its code."""


class Places(Protocol):
    """Processes that wait for tasks."""

    count: int
    """How many tasks run at a time."""
    threads: int
    """Threads of each."""

    def answers(self, following: Callable[[], Work | None]) -> Iterator[tuple[Work, Any]]:
        """Each task and what it gave, in the order in which they end.

        following  asked for one task more whenever a process has nothing to do; None: there is none now, and no more unless an
                   answer brings some

        Raises what a task raises, and Died.
        """
        ...


class Engine(Protocol):
    """Where tasks run."""

    elsewhere: bool
    """Whether it may be on other machines."""

    def places(self, jobs: int | None, most: int, device: str, hear: Hear, folder: Path) -> AbstractContextManager[Places]:
        """Processes for tasks. Left with an error they are told to keep what they have; all are gone afterwards.

        jobs    how many; None: as many as the engine sees fit
        most    tasks that there can be
        device  what tasks are told to use; several graphics processors are given out in turn
        folder  where tasks write: every machine must see it
        """
        ...


class _Voice:
    """What a process sends of itself: every line, and now and then how far it is."""

    sender: Connection | None = None

    def __init__(self, name: str) -> None:
        self._name, self._last = name, 0.0

    def __call__(self, shown: Shown) -> None:
        now = time.monotonic()
        if shown.total and now - self._last < EVERY and shown.done < shown.total:
            return
        self._last = now
        if self.sender is not None:
            self.sender.send((self._name, Shown(shown.text[:WORDS], shown.done, shown.total)))


def voice(name: str) -> Listener:
    """Within a task: what takes its lines and bars to whoever handed it out."""
    return _Voice(name)


def set_up(threads: int, sender: Connection) -> None:
    """Begin one process for tasks."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(threads)
    _Voice.sender = sender


class Ear(threading.Thread):
    """Takes what processes of this machine send, until None comes."""

    def __init__(self, receiver: Connection, hear: Hear) -> None:
        super().__init__(name="mmcl-ear", daemon=True)
        self._receiver, self._hear = receiver, hear

    def run(self) -> None:
        """Until None comes."""
        while (message := self._receiver.recv()) is not None:
            self._hear(*message)


class Display:
    """Shows what all tasks say as one: how many are done, and where each of the others is."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._now: dict[str, str] = {}
        self._done = 0
        self._lock = threading.Lock()

    def hear(self, name: str, one: Shown) -> None:
        """A task has come further."""
        if one.total == 0:
            say(one.text)
            return
        with self._lock:
            self._now[name] = f"{name}: {one.text.split()[0].rstrip(',')} {one.done}/{one.total}"
            self._show()

    def finished(self, name: str) -> None:
        """One more is done."""
        with self._lock:
            self._now.pop(name, None)
            self._done += 1
            self._show()

    def _show(self) -> None:
        self._tick(self._done, "; ".join(self._now.values()))


class Local:
    """Processes of this machine, which share this one's threads."""

    elsewhere = False

    @contextmanager
    def places(self, jobs: int | None, most: int, device: str, hear: Hear, folder: Path) -> Iterator[Places]:
        """As Engine has it."""
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = devices_for(min(jobs or 1, most), device, gpus)
        threads = max(1, torch.get_num_threads() // len(devices))
        receiver, sender = one_way()
        with receiver, sender:
            ear = Ear(receiver, hear)
            ear.start()
            try:
                with worker_pool(len(devices), set_up, threads, sender) as pool:
                    yield _Pool(pool, devices, threads)
            finally:
                sender.send(None)
                ear.join()


class _Pool:
    """Processes of this machine, each with its device."""

    def __init__(self, pool: Any, devices: list[str], threads: int) -> None:
        self._pool, self._free = pool, devices
        self.count, self.threads = len(devices), threads

    def answers(self, following: Callable[[], Work | None]) -> Iterator[tuple[Work, Any]]:
        """As Places has it."""
        busy: dict[Future[Any], tuple[Work, str]] = {}
        while True:
            while self._free and (task := following()) is not None:
                device = self._free.pop(0)
                busy[self._pool.submit(task.call, *task.arguments, device)] = task, device
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                try:
                    value = future.result()
                except BrokenProcessPool:
                    raise Died([task.name for task, _ in busy.values()]) from None
                task, device = busy.pop(future)
                self._free.append(device)
                yield task, value


def hand_out(
    engine: Engine,
    title: str,
    most: int,
    works: Callable[[Places], Iterator[Work]],
    jobs: int | None,
    device: str,
    folder: Path,
    advice: str,
) -> None:
    """Run tasks that answer with nothing, or with the sentence of what is the user's to mend, and show how many are done.

    title, most    of the progress; how many tasks there are
    works          the tasks, made one at a time when a process has nothing to do
    jobs … folder  as Engine has them
    advice         what helps where a process of this machine dies

    Raises StageError with the first sentence, and where a process dies.
    """
    with progress(title, most) as tick:
        display = Display(tick)
        try:
            with engine.places(jobs, most, device, display.hear, folder) as places:
                left = works(places)
                for work, sentence in places.answers(lambda: next(left, None)):
                    if sentence is not None:
                        raise StageError(sentence)
                    display.finished(work.name)
        except Died as died:
            raise died.sentence(advice) from None


def devices_for(jobs: int, device: str, gpus: int) -> list[str]:
    """A device for each of so many processes: the graphics processors in turn, where that is what runs use."""
    if gpus > 1 and device in ("auto", "cuda"):
        return [f"cuda:{k % gpus}" for k in range(jobs)]
    return [device] * jobs


LOCAL = Local()
