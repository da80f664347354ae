"""Runs one fuzzer: counts its cases, and keeps the smallest one for each way of ending in anything but mmcl's own errors."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from mmcl.api.errors import MmclError

MEMORY, SECONDS = 2**30, 10
"""What a case may take: bytes beyond what was taken before, and seconds."""
ROUND = 500
"""Cases that hypothesis draws at a time."""
ROOT = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class Fuzzer:
    """Something that reads, and cases for it.

    cases  what hypothesis draws
    call   one case, start to end; whatever it raises that is no MmclError is a failure
    apart  each case in a process of its own, as recordings are read: libraries in C may take that with them, and it is counted as refused
    """

    cases: SearchStrategy[Any]
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


class TooSlow(BaseException):
    """A case took more than SECONDS."""


def fuzz(fuzzer: Fuzzer, cases: int, start: int = 0, seconds: float = 1e9) -> Outcome:
    """Try so many cases, or as many as the seconds allow."""
    outcome, began, number = Outcome(), time.monotonic(), start
    with limited():
        while outcome.cases < cases and time.monotonic() - began < seconds:
            before = outcome.cases
            _round(fuzzer, min(ROUND, cases - outcome.cases), number, outcome, began + seconds)
            if outcome.cases == before:
                break
            number += 1
    return outcome


def _round(fuzzer: Fuzzer, cases: int, number: int, outcome: Outcome, end: float) -> None:
    def one(case: Any) -> None:
        if time.monotonic() < end:
            attempt(fuzzer, case, outcome)

    settled = settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    seed(number)(settled(given(fuzzer.cases)(one)))()


def attempt(fuzzer: Fuzzer, case: Any, outcome: Outcome) -> None:
    """One case."""
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (_in_a_child if fuzzer.apart else _here)(fuzzer.call, case)
    except MmclError:
        outcome.refused += 1
    except (Exception, TooSlow) as error:  # noqa: BLE001 - this is what is looked for
        outcome.failed += 1
        where, text = _where(error), repr(case)
        count, smallest = outcome.failures.get(where, (0, text))
        outcome.failures[where] = (count + 1, min(smallest, text, key=len))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome.cases += 1
        outcome.slowest = max(outcome.slowest, time.monotonic() - began)


def _here(call: Callable[[Any], Any], case: Any) -> None:
    call(case)


def _in_a_child(call: Callable[[Any], Any], case: Any) -> None:
    """A case in a copy of this process. Raises what it raised: MmclError for one of ours or an end by a signal, ApartError else."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # an end by a signal is counted, not told
        text, code = "", 0
        try:
            call(case)
        except MmclError:
            code = 2
        except MemoryError:
            code = 3
        except BaseException as error:  # noqa: BLE001 - it is handed on as text
            text, code = _where(error), 1
        os.write(writing, text.encode("utf-8", "replace")[:4000])
        os._exit(code)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as file:
            text = file.read().decode()
        _, status = os.waitpid(child, 0)
    except TooSlow:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise MmclError("too slow") from None
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) in (2, 3):
        raise MmclError("refused, or its process ended")
    if os.WEXITSTATUS(status):
        raise ApartError(text)


class ApartError(Exception):
    """What a case raised in its own process."""


def _where(error: BaseException) -> str:
    """The kind of an error, and the last line of ours on the way there."""
    if isinstance(error, ApartError):
        return str(error)
    ours = [
        one
        for one in traceback.extract_tb(error.__traceback__)
        if one.filename.startswith(ROOT) and "/fuzz/" not in one.filename
    ]
    last = (ours or traceback.extract_tb(error.__traceback__))[-1]
    return f"{type(error).__name__} in {last.filename.removeprefix(ROOT)}:{last.lineno}"


@contextmanager
def limited() -> Iterator[None]:
    """Within it, MEMORY more can be had, and a case that takes more than SECONDS ends in TooSlow."""

    def late(*_: Any) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)
