"""Signals that ask for an end (Ctrl-C, TERM, HUP): work that can be kept is kept first; a second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """Somebody asked for an end.

    code  with which the process ends: 128 and the signal's number (130 after Ctrl-C, 143 after TERM, 129 after HUP)
    kept  what has been kept, in words; "" where nothing was under way that could be
    """

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.code, self.kept = 128 + number, kept

    def __str__(self) -> str:
        return f"stopped; {self.kept or 'what is finished is kept'}; run the same command again to go on"


class SilentEnd(Exception):
    """This process ends without a word, for one of those that work with it says why.

    code  with which the process ends
    """

    def __init__(self, why: str, code: int = 2) -> None:
        super().__init__(why)
        self.code = code


class Witness(Exception):
    """An error that whichever of several processes raises it says; of others the first process speaks."""


class _State:
    """What has been asked for, of the whole process."""

    listening = False
    patient = 0  # how many are at work who look themselves whether an end was asked for
    asked: int | None = None  # the signal that came
    tell = True  # whether a person is told that a step is being finished
    worker = False  # whether whoever asks is the process that started this one


@contextmanager
def listening(signals: tuple[int, ...] = SIGNALS, tell: bool = True, worker: bool = False) -> Iterator[None]:
    """Signals that come meanwhile raise `Stopped`: at once, or, within `patient`, where `stop_if_asked` is called.

    tell    whether a line says so where a step is finished first
    worker  this process works for another one: nothing is told, and a second signal does not end it at once, for a pool sends one
            more to all whose neighbour has left; whoever waits for it ends it in the end

    Outside of the main thread, which alone can be told, nothing happens; nor where somebody listens already.
    """
    if _State.listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in signals}
    heeded = [number for number in signals if before[number] is not signal.SIG_IGN]  # as `nohup` has it
    _State.listening, _State.asked = True, None
    _State.tell, _State.worker = tell and not worker, worker
    try:
        for number in heeded:
            signal.signal(number, _asked)
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number] or signal.SIG_DFL)
        _State.listening, _State.asked = False, None


@contextmanager
def patient() -> Iterator[None]:
    """Whoever works within looks after every step whether an end was asked for, and keeps what there is first."""
    _State.patient += 1
    try:
        yield
    finally:
        _State.patient -= 1


def asked() -> int | None:
    """The signal that asked for an end, if one did."""
    return _State.asked


def stop_if_asked(keep: Callable[[], str]) -> None:
    """End if that was asked for: `keep` keeps what there is and says what. Raises Stopped."""
    stop_for(_State.asked, keep)


def stop_for(number: int | None, keep: Callable[[], str]) -> None:
    """End for a signal of that number, if there is one: `keep` keeps what there is and says what. Raises Stopped."""
    if number:
        raise Stopped(number, keep())


def _asked(number: int, frame: FrameType | None) -> None:
    if _State.asked is not None and _State.worker:
        return
    if _State.asked is not None:
        os._exit(128 + number)  # no word and no traceback: whoever asks twice wants nothing else
    _State.asked = number
    if not _State.patient:
        raise Stopped(number)
    if _State.tell:
        sys.stderr.write("\nfinishing this step and writing a checkpoint; once more ends at once\n")
        sys.stderr.flush()
