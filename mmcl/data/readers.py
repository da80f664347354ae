"""Processes that read recordings, one at a time and within limits: whatever a recording does to its reader, it is named and the others go on.

A file can make a decoder crash, hang or fill the memory, which nothing catches in the process that it happens in. So recordings are
read in processes beside this one. They are copies of one that has mmcl and its plug-ins loaded and does nothing else, so that a new one
begins in a fraction of a second, whatever this one has open: threads, a graphics processor.

This is no sandbox. A reader is of the same user and may do what this process may, and what it answers is pickled, as between all processes of
one program; bytes of a user's file travel as arrays and are never unpickled.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..api.errors import MmclError, StageError
from ..memory import keep_small_blocks
from ..workers import fork_context, leave_with_parent, safe_path

SECONDS = 600.0
"""What reading one recording may take, unless a recipe says otherwise: `reading.seconds`."""
SHARE = 0.75
"""Share of the machine's memory that recordings may take together while they are read, unless a recipe says how much each: `reading.memory`."""
AHEAD = 8
"""Recordings that are handed out for each reader before the first of them is taken, so that results never pile up in memory."""
WAITING = 2**28
"""Bytes of results that wait to be taken above which nothing more is handed out than the next one needs."""
QUEUED = 2
"""Recordings that a reader holds: the one that it reads, and the next."""
SHORT, QUEUED_SHORT = 0.1, 6
"""Seconds below which a recording is read quickly; of those a reader holds more, for on a busy machine nobody hands on the next one at once."""
PIPE = 2**20
"""Bytes that a reader may answer before anybody listens (Linux; as many as its system allows): the stream of a short recording."""
MEMORY = 75
"""Exit code of a reader that its limit of memory has stopped."""

Work = Callable[[Any], Any]
Counts = Callable[[], Mapping[str, int]]


@dataclass(frozen=True)
class Limits:
    """What reading one recording may take.

    memory   bytes that its process may hold beside what it held when it began
    alone    the same for a recording that is tried again while no other is read
    seconds  by the clock on the wall
    """

    memory: int
    alone: int
    seconds: float


@dataclass(frozen=True)
class Lost:
    """Stands for a recording that its reader did not survive, or that had to be given up; `reason` says how, after the name of a file."""

    reason: str
    late: bool = False


def limits(gigabytes: float | None, seconds: float, count: int) -> Limits:
    """The limits of `count` readers.

    gigabytes  of 10⁹ bytes for each; None: three quarters of the machine's memory, divided among those that read at the same time
    """
    if gigabytes is not None:
        return Limits(int(gigabytes * 1e9), int(gigabytes * 1e9), seconds)
    together = int(SHARE * _machine())
    return Limits(together // count, together, seconds)


@dataclass(eq=False)
class _Reader:
    """One process, and the recordings that it was given and has not answered."""

    process: BaseProcess
    jobs: Connection
    answers: Connection
    serial: int
    memory: int
    given: deque[tuple[int, Any]] = field(default_factory=deque)
    since: float = 0.0  # when it began to read the first of them
    begun: bool = False  # whether it is set up
    answered: bool = False  # whether it has read any recording before
    took: float = SHORT  # seconds, by its latest answer

    @property
    def full(self) -> bool:
        """Whether it holds as many recordings as it may."""
        return len(self.given) >= (QUEUED_SHORT if self.took < SHORT else QUEUED)


class Readers:
    """Up to `count` processes that read recordings; used in a `with` statement, after which they are gone.

    begin    called in each process with `arguments`; gives what reads one recording and what says what was counted so far
    preload  modules that are imported, with all that they import, before the first process is copied; the first use in a process decides

    counts   for each process what it has counted, as of its latest answer
    """

    def __init__(
        self,
        count: int,
        begin: Callable[..., tuple[Work, Counts]],
        arguments: Sequence[Any],
        limits: Limits,
        preload: Sequence[str] = (__name__,),
    ) -> None:
        self.counts: dict[int, dict[str, int]] = {}
        self._count, self._begin, self._arguments, self._limits = count, begin, tuple(arguments), limits
        self._preload = list(preload)
        self._readers: list[_Reader] = []
        self._started = 0
        self._todo: deque[tuple[int, Any]] = deque()
        self._again: deque[tuple[int, Any]] = deque()
        self._alone: _Reader | None = None
        self._answers: dict[int, Any] = {}
        self._sizes: dict[int, int] = {}  # bytes of each

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in list(self._readers):
            self._end(reader)

    def read(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """What each job gives, in order; `Lost` for one that its reader did not survive.

        A recording whose reader dies is tried once more, in a fresh one and alone, in case others were to blame.

        Raises what `begin` raises, and errors of mmcl that the work raises.
        """
        coming, taken = enumerate(jobs), 0
        for number in range(len(jobs)):
            while number not in self._answers:
                horizon = number + (AHEAD * self._count if sum(self._sizes.values()) < WAITING else 1)
                self._todo.extend(islice(coming, max(0, horizon - taken)))
                taken = max(taken, horizon)
                self._hand_out(horizon)
                self._take()
            self._sizes.pop(number, None)
            yield self._answers.pop(number)

    def _hand_out(self, horizon: int) -> None:
        """Give recordings before number `horizon` to readers that can take one more."""
        if self._alone is not None:
            return
        if self._again:
            if not any(reader.given for reader in self._readers):
                self._alone = self._start(self._limits.alone)
                self._give(self._alone, self._again.popleft())
            return
        while self._todo and self._todo[0][0] < horizon:
            free = min(self._readers, key=lambda one: len(one.given), default=None)
            if (free is None or free.given) and len(self._readers) < self._count:
                free = self._start(self._limits.memory)
            if free is None or free.full:
                return
            self._give(free, self._todo.popleft())

    def _give(self, reader: _Reader, job: tuple[int, Any]) -> None:
        if not reader.given:
            reader.since = time.monotonic()
        reader.given.append(job)
        with suppress(OSError):  # dead already, which is seen where answers are taken
            reader.jobs.send(job)

    def _take(self) -> None:
        """Wait for an answer, an end or a limit of time, and deal with all that there are."""
        busy = [reader for reader in self._readers if reader.given]
        ends = [reader.since + self._limits.seconds for reader in busy if reader.begun]
        ready = wait([one for reader in busy for one in (reader.answers, reader.process.sentinel)], self._left(ends))
        for reader in busy:
            if reader.answers in ready or reader.process.sentinel in ready:
                try:
                    answer = _received(reader.answers) if reader.answers.poll() else None
                except (EOFError, OSError):
                    answer = None
                if answer is None:
                    self._died(reader)
                else:
                    self._answered(reader, *answer)
            elif reader.begun and time.monotonic() >= reader.since + self._limits.seconds:
                self._late(reader)

    def _left(self, ends: list[float]) -> float | None:
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _answered(self, reader: _Reader, answer: tuple[str, Any, dict[str, int]], size: int) -> None:
        what, value, counts = answer
        if what == "raised":
            raise value
        now = time.monotonic()
        reader.took, reader.since = now - reader.since, now
        if what == "begun":
            reader.begun = True
            return
        self.counts[reader.serial] = counts
        number, _ = reader.given.popleft()
        self._answers[number], self._sizes[number] = value, size
        reader.answered = True
        if reader is self._alone:
            self._end(reader)

    def _died(self, reader: _Reader) -> None:
        """A process has ended over the first recording that it was given; the rest is given to others."""
        reader.process.join(1)
        reader.process.kill()  # where it has only closed its end
        reader.process.join()
        if not reader.begun:
            raise StageError(f"a process that reads recordings ended before it began: {self._why(reader)}")
        how = self._how(reader)
        job = reader.given.popleft()
        if reader is self._alone or (not reader.answered and reader.memory == self._limits.alone and self._count == 1):
            self._answers[job[0]] = Lost(how)
        else:
            self._again.append(job)
        self._end(reader)

    def _late(self, reader: _Reader) -> None:
        number, _ = reader.given.popleft()
        self._answers[number] = Lost(f"took longer than {self._limits.seconds:g} seconds (reading.seconds)", late=True)
        self._end(reader)

    def _how(self, reader: _Reader) -> str:
        code = reader.process.exitcode or 0
        if code == MEMORY:
            return f"needs more than {reader.memory / 1e9:.3g} GB of memory (reading.memory)"
        return f"ended the process that read it ({_ended_by(code)})"

    def _why(self, reader: _Reader) -> str:
        """What ended a process that has read nothing yet, and what to do where it lacked memory; it had no limit of its own by then."""
        code = reader.process.exitcode or 0
        if code not in (MEMORY, -signal.SIGKILL):
            return _ended_by(code)
        what = "there is too little memory for it" if code == MEMORY else _ended_by(code)
        return f"{what}; with fewer --workers each has more memory" if self._count > 1 else what

    def _start(self, memory: int) -> _Reader:
        context = fork_context(self._preload)
        their_jobs, jobs = context.Pipe(duplex=False)
        answers, their_answers = context.Pipe(duplex=False)
        _widen(answers)
        environment = dict(os.environ)
        arguments = (their_jobs, their_answers, environment, self._limits.seconds, memory, self._begin, self._arguments)
        with safe_path():
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
        their_jobs.close()
        their_answers.close()
        self._started += 1
        reader = _Reader(process, jobs, answers, self._started, memory)
        self._readers.append(reader)
        return reader

    def _end(self, reader: _Reader) -> None:
        """Stop a process, if it has not ended, and give what it still holds to others."""
        self._todo.extendleft(reversed(reader.given))
        reader.given.clear()
        self._readers.remove(reader)
        if reader is self._alone:
            self._alone = None
        reader.jobs.close()
        reader.answers.close()
        reader.process.kill()
        reader.process.join()
        reader.process.close()


def _ended_by(code: int) -> str:
    """How a process ended, by its exit code; below 0 it is that of a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as a system does that runs out of memory" if -code == signal.SIGKILL else name


def _serve(
    jobs: Connection,
    answers: Connection,
    environment: dict[str, str],
    seconds: float,
    memory: int,
    begin: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    """What a reader does: get ready, then read what comes until nobody is there any more."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    leave_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    try:
        try:
            work, counts = begin(*arguments)
        except MmclError as error:
            return _send(answers, ("raised", _carried(error), {}))
        _send(answers, ("begun", None, {}))
        keep_small_blocks()
        _limit(memory)
        while True:
            _, job = jobs.recv()
            # for a decoder that holds on to the interpreter after whoever waited for it is gone
            signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 10)
            try:
                answer = ("value", work(job))
            except MmclError as error:
                answer = ("raised", _carried(error))
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(answers, (*answer, dict(counts())))
    except MemoryError:
        os._exit(MEMORY)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _carried(error: MmclError) -> MmclError:
    """The error itself if it can be sent, else one with its words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was dumped on this line
    except Exception:  # noqa: BLE001 - an error's own way of being copied may fail by anything
        return StageError(str(error))
    return error


def _send(pipe: Connection, answer: Any) -> None:
    """Send a value; its arrays go as they lie in memory, after how many they are."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(answer, 5, buffer_callback=arrays.append)
    pipe.send_bytes(len(arrays).to_bytes(8, "little") + head)
    for array in arrays:
        pipe.send_bytes(array.raw())


def _received(pipe: Connection) -> tuple[Any, int]:
    """What `_send` sent, and the bytes of its arrays."""
    first = pipe.recv_bytes()
    arrays = [pipe.recv_bytes() for _ in range(int.from_bytes(first[:8], "little"))]
    answer = pickle.loads(memoryview(first)[8:], buffers=arrays)  # noqa: S301 - what `_send` of our own reader has dumped, as processes of one program always talk
    return answer, sum(map(len, arrays))


def _widen(pipe: Connection) -> None:
    """Let a pipe hold PIPE bytes, where the system has such pipes and allows it; it holds 64 KiB otherwise."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE)


def _limit(memory: int) -> None:
    """Let this process hold so many bytes more than now. What it maps from files and libraries does not count (Linux; elsewhere there is no limit)."""
    if sys.platform != "linux":
        return
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:")), None)
    if held is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = held + memory
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _machine() -> int:
    """Bytes of memory that this machine, or the group of processes that we are in, has."""
    sizes = []
    with suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            sizes.append(int(Path(name).read_text(encoding="ascii")))
    return min((size for size in sizes if size > 0), default=8 * 2**30)
