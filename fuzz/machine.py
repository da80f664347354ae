"""Runs one fuzzer: counts its cases, and keeps the smallest one for each way of ending in anything but mmcl's own errors."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from mmcl.api.errors import MmclError

from .draws import Draw

MEMORY, SECONDS, WAITED = 2**30, 10, 120
"""What a case may take: bytes beyond what was taken before, seconds of the processor's time, and seconds on the clock, for what waits for ever."""
TOGETHER = 250
"""Cases that one copy of this process tries, where they are tried in a copy."""
ROOT = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class Fuzzer:
    """Something that reads, and cases for it.

    cases  what they are drawn from
    call   one case, start to end; whatever it raises that is no MmclError is a failure
    apart  in a copy of this process, as recordings are read: libraries in C may take that with them, and so may time and memory that
           come to their end; it is counted as refused
    """

    cases: Draw
    call: Callable[[Any], Any]
    apart: bool = False


@dataclass
class Outcome:
    """What came of some cases."""

    cases: int = 0
    refused: int = 0  # ended in an error of ours
    failed: int = 0
    slowest: float = 0.0
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)  # where and what → how often, the smallest case

    def add(self, other: Outcome) -> None:
        """Count what came of other cases too."""
        self.cases, self.refused, self.failed = (
            self.cases + other.cases,
            self.refused + other.refused,
            self.failed + other.failed,
        )
        self.slowest = max(self.slowest, other.slowest)
        for where, (count, case) in other.failures.items():
            before, smallest = self.failures.get(where, (0, case))
            self.failures[where] = (before + count, min(smallest, case, key=len))


class TooSlow(BaseException):
    """A case took more than SECONDS of the processor's time, or WAITED on the clock."""


def fuzz(fuzzer: Fuzzer, cases: int, start: int = 0, seconds: float = 1e9) -> Outcome:
    """Try the cases from that number on, or as many as the seconds allow."""
    outcome, until = Outcome(), time.monotonic() + seconds
    with limited():
        while outcome.cases < cases and time.monotonic() < until:
            number = start + outcome.cases
            if fuzzer.apart:
                _in_a_copy(fuzzer, range(number, min(start + cases, number + TOGETHER)), outcome)
            else:
                attempt(fuzzer, case_of(fuzzer, number), outcome)
    return outcome


def case_of(fuzzer: Fuzzer, number: int) -> Any:
    """The case of that number."""
    return fuzzer.cases(Random(number))


def attempt(fuzzer: Fuzzer, case: Any, outcome: Outcome) -> None:
    """One case."""
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fuzzer.call(case)
    except MmclError:
        outcome.refused += 1
    except (Exception, TooSlow) as error:  # noqa: BLE001 - this is what is looked for
        if fuzzer.apart and isinstance(error, MemoryError | TooSlow):
            outcome.refused += 1
        else:
            outcome.failed += 1
            where, text = _where(error), repr(case)
            count, smallest = outcome.failures.get(where, (0, text))
            outcome.failures[where] = (count + 1, min(smallest, text, key=len))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome.cases += 1
        outcome.slowest = max(outcome.slowest, time.process_time() - began)


def _in_a_copy(fuzzer: Fuzzer, numbers: range, outcome: Outcome) -> None:
    """Cases in a copy of this process, up to the first that takes it down or does not come back, which is counted as refused."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        faulthandler.disable()  # an end by a signal is counted, not told
        for number in numbers:
            one = Outcome()
            with suppress(TooSlow):  # one that came just after its case
                attempt(fuzzer, case_of(fuzzer, number), one)
            os.write(writing, json.dumps(vars(one)).encode() + b"\n")
        os._exit(0)
    os.close(writing)
    before, text = outcome.cases, b""
    while select.select([reading], [], [], 2 * SECONDS)[0] and (more := os.read(reading, 2**16)):
        text += more
        *lines, text = text.split(b"\n")
        for line in lines:
            outcome.add(Outcome(**json.loads(line)))
    os.close(reading)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if outcome.cases - before < len(numbers):
        outcome.add(Outcome(cases=1, refused=1))


def _where(error: BaseException) -> str:
    """The kind of an error, and the last line of ours on the way there."""
    ours = [
        one
        for one in traceback.extract_tb(error.__traceback__)
        if one.filename.startswith(ROOT) and "/fuzz/" not in one.filename
    ]
    last = (ours or traceback.extract_tb(error.__traceback__))[-1]
    return f"{type(error).__name__} in {last.filename.removeprefix(ROOT)}:{last.lineno}"


@contextmanager
def limited() -> Iterator[None]:
    """Within it, MEMORY more can be had, and a case that takes more than SECONDS, or WAITED, ends in TooSlow."""

    def late(*_: Any) -> None:
        raise TooSlow(f"more than {SECONDS} s, or {WAITED} s on the clock")

    before = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    handlers = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
