"""What a person sees while work goes on: one moving line with an ETA on a terminal, plain lines when piped. To stderr."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

Tick = Callable[[int, str], None]
"""Call with how many steps are done now, and a few words to show beside the bar."""


@dataclass(frozen=True)
class Shown:
    """What would stand on the screen: a line, or how far some work has come."""

    text: str  # the line, or the title of the work
    done: int = 0
    total: int = 0  # 0: a line


Listener = Callable[[Shown], None]
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def launched() -> tuple[int, int]:
    """For one of several to speak: this process's number among those that `torchrun` started, and how many there are: 0 and 1 where it was started alone."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if all(word.isascii() and word.isdigit() for word in (rank, size)) and int(size) > 1:
        return int(rank), int(size)
    return 0, 1


@contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Lines and bars from within go to somebody who shows them in a way of his own."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def hushed() -> AbstractContextManager[None]:
    """No lines and no bars from within: whoever does the same work many times speaks for all of them."""
    return told(lambda shown: None)


def plain(text: str) -> str:
    """Text without what a terminal would obey or turn round: names in somebody's run or data may hold such signs. Line feeds and tabs stay."""
    return _CONTROL.sub("\ufffd", text)


def say(text: str) -> None:
    """One line to a person."""
    if (listener := _LISTENER.get()) is not None:
        listener(Shown(text))
        return
    print(plain(text), file=sys.stderr, flush=True)  # noqa: T201 - this is where the toolkit speaks


def part_of(tick: Tick, before: int) -> Tick:
    """The same display for one part of the work, whose steps come after `before` others."""
    return lambda done, text: tick(before + done, text)


@contextmanager
def progress(title: str, total: int, start: int = 0, every: float = 15.0) -> Iterator[Tick]:
    """Show how far some work has come. Piped, a line appears at most once in `every` seconds, and at the end."""
    if (listener := _LISTENER.get()) is not None:

        def tick_told(steps: int, text: str = "") -> None:
            listener(Shown(title, steps, total))

        yield tick_told
        return
    if sys.stderr.isatty():
        with _bar(title, total, start) as tick:
            yield tick
        return
    began = shown = time.monotonic()
    words = ""
    done = start

    def tick_plain(steps: int, text: str = "") -> None:
        nonlocal shown, words, done
        done, words = steps, text
        now = time.monotonic()
        if now - shown >= every:
            shown = now
            rate = (steps - start) / max(now - began, 1e-9)
            left = (total - steps) / rate if rate else float("inf")
            say(f"{title}: {steps}/{total}{f', {text}' if text else ''}, {_clock(left)} left")

    yield tick_plain
    say(f"{title}: {done}/{total}{f', {words}' if words else ''}, took {_clock(time.monotonic() - began)}")


@contextmanager
def _bar(title: str, total: int, start: int) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=start, words="")

        def tick(steps: int, text: str = "") -> None:
            bar.update(task, completed=steps, words=text)

        yield tick


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
