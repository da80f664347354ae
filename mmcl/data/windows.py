"""Windows in seconds, whatever the modalities' rates: where training looks, the same time of every modality; where features are
taken, each modality's own from its first second to its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .store import Store, extremes


@dataclass(frozen=True)
class Span:
    """From `start`, `seconds` long; None: the whole recording."""

    start: float
    seconds: float | None


WHOLE = Span(0.0, None)


def window_steps(rate: float, seconds: float) -> int:
    """How many steps a window has of a stream of so many a second that is long enough."""
    return max(1, round(seconds * rate))


def common_seconds(stores: Mapping[str, Store], row: int) -> float:
    """How long a recording is in all of its modalities: the shortest of those with a rate, else the longest transcript.

    Modalities without time have no say. Words have one only where nothing else does: silence at an end is no end.
    """
    present = [store for store in stores.values() if store.layout.timed and row in store]
    fixed = [store.seconds(row) for store in present if store.layout.rate]
    return min(fixed) if fixed else max((store.seconds(row) for store in present), default=0.0)


def whole_seconds(stores: Mapping[str, Store], row: int) -> float:
    """How long a recording goes on in any of its modalities."""
    return max((store.seconds(row) for store in stores.values() if store.layout.timed and row in store), default=0.0)


UNEVEN = 0.1
"""Share of the longest by which the modalities of a recording may differ in length before the data card counts it."""


def uneven(stores: Mapping[str, Store], count: int) -> NDArray[np.intp]:
    """Of so many recordings those whose modalities differ in length by more than a tenth; words have no say, for silence is no end."""
    least, most = extremes([store for store in stores.values() if store.layout.rate], count)
    return np.flatnonzero(least < (1 - UNEVEN) * most)


def differ(lengths: Sequence[float]) -> bool:
    """Whether lengths in seconds differ by more than UNEVEN of the longest."""
    return bool(lengths) and min(lengths) < (1 - UNEVEN) * max(lengths)


def draw(
    stores: Mapping[str, Store],
    row: int,
    seconds: float | None,
    place: str,
    generator: np.random.Generator,
    share: float | None = None,
    part: float = 1.0,
) -> Span:
    """Where a training window is cut. Every start from the first to the last that fits is equally likely.

    With `share` instead of `seconds`, its length is drawn too: evenly between that share and all of the recording. Below 1, `part` of that is cut.
    """
    if share is not None:
        seconds = common_seconds(stores, row) * generator.uniform(share, 1.0) or None
    if part < 1:
        seconds = part * (common_seconds(stores, row) if seconds is None else seconds) or None
    if seconds is None:
        return WHOLE
    room = max(0.0, common_seconds(stores, row) - seconds)
    start = {"random": generator.uniform(0.0, room), "start": 0.0, "centre": room / 2}[place]
    return Span(start, seconds)


def slide(stores: Mapping[str, Store], row: int, seconds: float | None, how: str, hop: float | None) -> list[Span]:
    """The windows from which a recording's frozen features are taken, over all that any of these modalities has of it.

    sliding: from the first to the last that fits, evenly spaced by at most `hop` (default: half a window), both ends covered.
    """
    if seconds is None or how == "whole":
        return [WHOLE]
    room = whole_seconds(stores, row) - seconds
    if how == "start" or room <= 0:
        return [Span(0.0, seconds)]
    steps = int(np.ceil(room / (hop or seconds / 2) - 1e-9))
    return [Span(float(start), seconds) for start in np.linspace(0.0, room, steps + 1)]


def cut(store: Store, row: int, span: Span) -> NDArray[Any] | None:
    """The steps of one modality inside a span, [T, ...]; None where the recording lacks it or nothing happens in the span.

    Where a stream ends inside, its last steps, as many as the span is long.
    """
    if row not in store:
        return None
    layout = store.layout
    if span.seconds is None or not layout.timed:
        return store.values(row)
    times = store.times(row)
    if times is not None:
        middle = times.mean(axis=1)
        inside = np.flatnonzero((middle >= span.start) & (middle < span.start + span.seconds))
        return store.values(row)[inside] if len(inside) else None
    if layout.rate is None:
        return store.values(row)
    if span.start >= store.seconds(row):
        return None
    length, wanted = store.length(row), window_steps(layout.rate, span.seconds)
    first = min(round(span.start * layout.rate), max(0, length - wanted))
    return store.values(row, first, first + wanted)


class Late:
    """A store whose streams begin so many seconds late: what came before is not there. One step is always left."""

    def __init__(self, store: Store, seconds: float) -> None:
        self.store, self.late, self.layout = store, seconds, store.layout

    def __contains__(self, row: int) -> bool:
        return row in self.store

    def _first(self, row: int) -> int:
        if not self.layout.timed:
            return 0
        times = self.store.times(row)
        if times is not None:
            return min(int((times.mean(axis=1) < self.late).sum()), len(times) - 1)
        return min(round(self.late * (self.layout.rate or 0.0)), self.store.length(row) - 1)

    def length(self, row: int) -> int:
        """Steps that are left of one recording."""
        return self.store.length(row) - self._first(row)

    def values(self, row: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Of the steps that are left, `start` to `stop`."""
        first = self._first(row)
        return self.store.values(row, first + start, None if stop is None else first + stop)

    def times(self, row: int) -> NDArray[np.float64] | None:
        """Start and end of the steps that are left, from where the stream now begins."""
        times = self.store.times(row)
        return None if times is None else np.maximum(times[self._first(row) :] - self.late, 0.0)

    def seconds(self, row: int) -> float:
        """How long the rest is."""
        times = self.times(row)
        if times is not None:
            return float(times[:, 1].max())
        return self.length(row) / self.layout.rate if self.layout.rate else 0.0
