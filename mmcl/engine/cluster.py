"""Tasks on the machines of a Ray cluster, by the very functions that run on one machine.

Ray starts one small process for every task that runs at a time ("a desk") and tells which nodes are lost. A desk runs no task itself: it starts
a fresh Python process as `--jobs` does, which sees neither the current folder's code nor Ray's threads and signals. What passes through Ray are a
task's arguments, what it says of itself, and what it returns, a few kB; files are written into the run folder, which all nodes share.
"""

from __future__ import annotations

import os
import pickle
import secrets
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..api.errors import MmclError, StageError
from ..runs import PART, locked, read_text, write_text
from ..screen import Shown, say
from ..stopping import Stopped, asked
from ..workers import LEAVING, one_way, worker_pool
from .places import Died, Ear, Hear, Installation, Places, Work, set_up

TRIES = 3
"""Processes that a task is given, one after the other, before it is taken to be the task that ends them."""
HEARING = 0.5
"""Seconds in which a desk waits for news before it answers that there is none."""
SEEING = 10.0
"""Seconds in which a file must be seen by every node: a file system of a network is told late."""
KNOCKING = 10.0
"""Seconds in which the head of a cluster takes a connection."""
IMPATIENT = 30.0
"""Seconds without a single free processor after which a person is told."""
STORE = 80 * 2**20
"""Bytes of the object store of a cluster that is started here: nothing large goes through it."""


class Ray:
    """A cluster that is there, or one of this machine alone.

    address       HOST:PORT of it; None: the one of this machine (or RAY_ADDRESS), or a new one
    installation  what must be the same on every machine; a function of a module
    """

    elsewhere = True

    def __init__(self, address: str | None, installation: Callable[[], Installation]) -> None:
        self._address, self._installation = address, installation

    @contextmanager
    def places(self, jobs: int | None, most: int, device: str, hear: Hear, folder: Path) -> Iterator[Places]:
        """As Engine has it; raises StageError where a node has something else installed, or does not see the folder."""
        with connected(self._address) as ray, _mark(folder) as mark:
            share = share_out(_nodes(ray), jobs, most, _asked_threads(), device in ("auto", "cuda"))
            setup = _Setup(share.threads, str(Path.cwd()), mark, _variables(), pickle.dumps(self._installation))
            office = _Office(ray, share, setup, device, hear, self._installation())
            try:
                yield office
            finally:
                office.close()


@dataclass(frozen=True)
class Share:
    """How a cluster is shared out: so many tasks at a time, each with so many threads and so much of a graphics processor."""

    count: int
    threads: int
    gpu: float


def share_out(nodes: Sequence[Mapping[str, float]], jobs: int | None, most: int, threads: int | None, wants_gpu: bool) -> Share:
    """How many tasks run at a time, and what each has.

    nodes    of each its CPU and, where there are any, its GPU
    jobs     as many as were asked for; None: as many as fit
    threads  of each; None: one where no number of jobs is given, or as many as there are for so many jobs

    Raises StageError where not a single one fits.
    """
    cores = [int(node.get("CPU", 0)) for node in nodes]
    if sum(cores) == 0:
        raise StageError("the Ray cluster has no processor for tasks: none of its nodes was started with --num-cpus above 0")

    def fitting(each: int) -> int:
        return sum(one // each for one in cores)

    count = min(most, jobs or most)
    each = threads or (1 if jobs is None else max([k for k in range(1, max(cores) + 1) if fitting(k) >= count], default=1))
    if fitting(each) == 0:
        raise StageError(
            f"OMP_NUM_THREADS asks for {each} threads a task, and no node of the Ray cluster has more than {max(cores)} processors"
        )
    count = min(count, fitting(each))
    gpus = sum(node.get("GPU", 0) for node in nodes) if wants_gpu else 0
    return Share(count, each, int(min(1.0, gpus / count) * 1000) / 1000)


def _asked_threads() -> int | None:
    """OMP_NUM_THREADS, where a user has set it."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) else None


def _variables() -> dict[str, str]:
    """Variables that mmcl itself reads."""
    return {name: value for name, value in os.environ.items() if name.startswith("MMCL_")}


def need_ray() -> ModuleType:
    """Ray, which sends no statistics of use. Raises StageError, with how to get it, if it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise StageError("--engine ray needs Ray: pip install 'mmcl[ray]'") from None
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster for as long as this lasts. Raises StageError where there is none at that address."""
    ray = need_ray()
    if ray.is_initialized():
        raise StageError("this process is connected to a Ray cluster already; call ray.shutdown() before mmcl")
    if address is not None and "://" in address:
        raise StageError(f"--address {address}: give HOST:PORT of the cluster's head, and start mmcl on one of its nodes")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _quiet():
            _join(ray, address)
            with suppress(ValueError):  # another thread than the main one
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Ray has put its own in place
            yield ray
    finally:
        ray.shutdown()
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _join(ray: Any, address: str | None) -> None:
    """Connect to the cluster that was named, to the one that is there, or to a new one of this machine."""
    from ray.job_config import JobConfig

    class Job(JobConfig):
        """Without the folder that the command was started in, and the script's: Ray would put both first on every worker's path."""

        def _runtime_env_has_working_dir(self) -> bool:
            return True

    options = {"log_to_driver": False, "logging_level": "ERROR", "job_config": Job(), "namespace": "mmcl"}
    where = address or os.environ.get("RAY_ADDRESS")
    try:
        _knock(where or "")
        ray.init(address=address or "auto", **options)
    except (OSError, RuntimeError, ValueError) as error:
        if where:
            raise StageError(
                f"no Ray cluster could be reached at {where} ({_last_line(error)}); "
                "start one with `ray start --head`, and mmcl on one of its nodes"
            ) from None
        ray.init(address="local", include_dashboard=False, object_store_memory=STORE, **options)


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at a HOST:PORT: Ray would ask again for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isascii() and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCKING).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray's own log of a lost node, pages of it, is not printed to stdout: which task is tried again is said in a sentence."""
    from ray._private import worker

    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *args, **named: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _mark(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file in a folder, and what stands in it, by which other machines show that they see the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    word = secrets.token_hex(8)
    path = folder.resolve() / f".seen.{word}{PART}"
    write_text(path, word)
    try:
        yield path, word
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Setup:
    """What every desk begins with."""

    threads: int
    current: str  # the current folder: relative paths of a recipe start there
    mark: tuple[Path, str]
    variables: Mapping[str, str]
    installation: (
        bytes  # the function that tells it; packed, as tasks are, so that a desk itself loads nothing of what they need
    )


def run_task(setup: _Setup, packed: bytes, device: str) -> Any:
    """A task, in a process of its own on a node. One that was given up and lives on out of sight is waited for."""
    os.chdir(setup.current)
    task: Work = pickle.loads(packed)  # noqa: S301 - what the command of this user has packed, as processes of one program always talk
    if task.lock is None:
        return task.call(*task.arguments, device)
    with locked(task.lock, wait=False) as mine:
        if mine:
            return task.call(*task.arguments, device)
    with locked(task.lock):
        return task.call(*task.arguments, device)


def installed(setup: _Setup) -> dict[str, str]:
    """What is installed on a node."""
    return dict(pickle.loads(setup.installation)())  # noqa: S301 - as above


class Desk:
    """Runs in a process of Ray on a node: starts a process for tasks, hands it one at a time, and answers what has happened."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._news: deque[tuple[str, Shown]] = deque()
        self._future: Future[Any] | None = None

    def open(self, setup: _Setup) -> tuple[str, str | None, dict[str, str]]:
        """Begin; the node's id, a sentence where it cannot take part, and what is installed here."""
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        self._setup = setup
        path, word = setup.mark
        until = time.monotonic() + SEEING
        while not _reads(path, word):
            if time.monotonic() > until:
                return node, f"does not see the folder {path.parent}; put it where every node of the cluster sees it", {}
            time.sleep(0.2)
        if not Path(setup.current).is_dir():
            return node, f"has no folder {setup.current}; start mmcl in a folder that every node of the cluster sees", {}
        os.environ["OMP_NUM_THREADS"] = str(setup.threads)
        os.environ.update(setup.variables)
        receiver, sender = one_way()
        self._stack.enter_context(receiver)
        self._stack.enter_context(sender)
        ear = Ear(receiver, lambda name, shown: self._news.append((name, shown)))
        ear.start()
        self._stack.callback(ear.join, HEARING)
        self._stack.callback(sender.send, None)  # when the process that sends has ended
        self._pool = self._stack.enter_context(worker_pool(1, set_up, setup.threads, sender))
        return node, None, self._pool.submit(installed, setup).result()

    def begin(self, task: bytes, device: str) -> None:
        """Hand the process a packed task."""
        self._future = None  # that of the last task says nothing of this one
        with suppress(BrokenProcessPool):
            self._future = self._pool.submit(run_task, self._setup, task, device)

    def hear(self) -> tuple[list[tuple[str, Shown]], tuple[str, Any] | None]:
        """What was said since the last time, and, if the task has ended: "value" and what it gave, "raised" and its error, or "died"."""
        outcome: tuple[str, Any] | None = None
        try:
            outcome = ("died", None) if self._future is None else ("value", self._future.result(HEARING))
        except TimeoutError:
            pass
        except BrokenProcessPool:
            outcome = "died", None
        except MmclError as error:
            outcome = "raised", error
        except Exception as error:  # noqa: BLE001 - a bug of ours or of a plug-in goes to whoever handed the task out
            error.add_note(f"on node {os.uname().nodename}")
            outcome = "raised", error
        return [self._news.popleft() for _ in range(len(self._news))], outcome

    def leave(self) -> None:
        """End the process: it is told to keep what it has, and has LEAVING seconds."""
        with suppress(KeyboardInterrupt):
            self._stack.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def _reads(path: Path, word: str) -> bool:
    try:
        return read_text(path, 100) == word
    except (MmclError, OSError):
        return False


@dataclass(eq=False)
class _Place:
    """One desk, as its office sees it."""

    actor: Any
    ref: Any  # the answer that is waited for; None while it has nothing to do
    node: str = "a node"
    open: bool = False
    task: Work | None = None


class _Office:
    """All desks of a cluster: gives each a task when it is free, and a task to another one when a desk is lost."""

    def __init__(self, ray: Any, share: Share, setup: _Setup, device: str, hear: Hear, ours: Installation) -> None:
        self._ray, self._setup, self._device, self._hear, self._ours = ray, setup, device, hear, ours
        self.count, self.threads = share.count, share.threads
        self._desk = ray.remote(
            num_cpus=share.threads,
            num_gpus=share.gpu,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Desk)
        self._places: list[_Place] = []
        self._tries: Counter[str] = Counter()
        self._unopened = 0  # desks that were lost before they were open, one after the other
        for _ in range(self.count):
            self._new()

    def _new(self) -> None:
        actor = self._desk.remote()
        self._places.append(_Place(actor, actor.open.remote(self._setup)))

    def answers(self, following: Callable[[], Work | None]) -> Iterator[tuple[Work, Any]]:
        """As Places has it."""
        again: deque[Work] = deque()
        while True:
            self._hand_out(again, following)
            busy = any(place.task for place in self._places)
            if not busy and not again and (self._idle() or not self._more(again, following)):
                return
            for place in self._ready():
                task = place.task
                try:
                    outcome = self._take(place)
                except self._ray.exceptions.RayError as error:
                    self._lost(place, again, error)
                    continue
                if outcome is None:
                    continue
                assert task is not None
                what, value = outcome
                if what == "died":
                    self._lost(place, again, None)
                elif what == "raised":
                    raise value
                else:
                    yield task, value

    def _idle(self) -> list[_Place]:
        return [place for place in self._places if place.open and place.task is None]

    def _more(self, again: deque[Work], following: Callable[[], Work | None]) -> bool:
        """Whether there is a task, which is then kept until the first desk is open."""
        task = following()
        if task is not None:
            again.append(task)
        return task is not None

    def _hand_out(self, again: deque[Work], following: Callable[[], Work | None]) -> None:
        for place in self._idle():
            task = again.popleft() if again else following()
            if task is None:
                return
            place.task = task
            place.actor.begin.remote(pickle.dumps(task), self._device)
            place.ref = place.actor.hear.remote()

    def _ready(self) -> list[_Place]:
        """Desks of which an answer has come."""
        waiting = {place.ref: place for place in self._places if place.ref is not None}
        began = time.monotonic()
        while True:
            try:
                ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=HEARING)
            except KeyboardInterrupt:
                if number := asked():  # Ray makes a plain one of every signal that raises
                    raise Stopped(number) from None
                raise
            if ready:
                return [waiting[ref] for ref in ready]
            if time.monotonic() - began > IMPATIENT and not any(place.open for place in self._places):
                say(f"the Ray cluster has no {self.threads} free processors on any node; waiting for them")
                began = time.monotonic()

    def _take(self, place: _Place) -> tuple[str, Any] | None:
        """Deal with a desk's answer; how its task has ended, if it has. Raises RayError if the desk is lost."""
        value = self._ray.get(place.ref)
        place.ref = None
        if not place.open:
            node, sentence, theirs = value
            place.node = self._name_of(node)
            if sentence is not None:
                raise StageError(f"node {place.node} {sentence}")
            if difference := difference_between(self._ours, theirs):
                raise StageError(f"node {place.node} {difference}; results could differ: install the same on every node")
            place.open, self._unopened = True, 0
            return None
        news, outcome = value
        for name, shown in news:
            self._hear(name, shown)
        if outcome is None:
            place.ref = place.actor.hear.remote()
            return None
        if outcome[0] != "died":
            place.task = None
        return outcome[0], outcome[1]

    def _name_of(self, node: str) -> str:
        names = {one["NodeID"]: f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})" for one in self._ray.nodes()}
        return names.get(node, node[:8])

    def _lost(self, place: _Place, again: deque[Work], error: Exception | None) -> None:
        """A desk is gone, with its node or alone: another one takes its place, and its task is tried again."""
        self._places.remove(place)
        self._end(place)
        if place.task is None:
            self._unopened += 1
            if self._unopened >= TRIES:
                raise StageError(f"no process of mmcl could begin on the Ray cluster: {_last_line(error)}")
        else:
            self._tries[place.task.name] += 1
            if self._tries[place.task.name] >= TRIES:
                raise Died([place.task.name], f"node {place.node}")
            say(f"{place.task.name}: the process that ran it on node {place.node} is gone; it is tried again")
            again.append(place.task)
        self._new()

    def _end(self, place: _Place) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(place.actor)

    def close(self) -> None:
        """Every desk's process is told to keep what it has; then all desks are gone."""
        ray = self._ray
        leaving = [place.actor.leave.remote() for place in self._places if place.open]
        if leaving:
            with suppress(ray.exceptions.RayError):
                ray.wait(leaving, num_returns=len(leaving), timeout=2 * LEAVING)
        for place in self._places:
            self._end(place)


def difference_between(ours: Installation, theirs: Installation) -> str | None:
    """In words, the first thing that a node has otherwise than this machine; None if there is none."""
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        here, there = ours.get(name), theirs.get(name)
        if here != there:
            return (
                f"has {name} {there}, and this machine {here}"
                if here and there
                else (
                    f"has {name} {there}, which this machine has not"
                    if there
                    else f"has no {name}, and this machine has {here}"
                )
            )
    return None


def _last_line(error: BaseException | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
