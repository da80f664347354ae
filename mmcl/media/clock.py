"""The time of a film: that of its own time stamps, counted from where the file begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError

OFF = 0.5
"""Of a step between frames: a frame that stands further from its even place is shown at its own time."""
SPARSE = 10
"""Steps of the usual rate for each frame, on average, beyond which time stamps are taken for damaged."""
HIGHEST = 240.0
"""Frames a second that are believed of a film's time stamps."""


def beginning(film: Any) -> float:
    """Seconds at which an opened file begins: the earliest of its streams, by its head."""
    return 0.0 if film.start_time is None else film.start_time / 1_000_000


def has_times(film: Any) -> bool:
    """Whether an opened file keeps a time for each frame; AVI keeps a rate alone, and the order in which frames were packed."""
    return str(film.format.name) != "avi"


def frame_times(film: Any, stream: Any) -> NDArray[np.float64] | None:
    """Seconds at which each frame is shown, from the file's beginning on, out of its packets; nothing is decoded.

    None where a packet has no time stamp, or two have the same.
    """
    if not has_times(film):
        return None
    stamps = [packet.pts for packet in film.demux(stream) if packet.size and not getattr(packet, "is_discard", False)]
    return seconds_of(stamps, stream, beginning(film), ordered=False)


def seconds_of(stamps: Sequence[int | None], stream: Any, zero: float, ordered: bool = True) -> NDArray[np.float64] | None:
    """Time stamps in seconds from `zero` on, rising; None where one is missing, or they do not rise (`ordered`: as they are given)."""
    known = [stamp for stamp in stamps if stamp is not None]
    if not stream.time_base or len(known) < len(stamps) or len(known) < 2:
        return None
    times = np.array(known if ordered else sorted(known), np.float64) * float(stream.time_base) - zero
    return times if (np.diff(times) > 0).all() else None


def is_even(times: NDArray[np.float64], rate: float) -> bool:
    """Whether frame k is shown at k / rate, for every k."""
    return bool((np.abs(times - np.arange(len(times)) / rate) * rate <= OFF).all())


def usual_rate(times: NDArray[np.float64]) -> float:
    """Frames a second: the rate of the step that is met most often, and no less than the mean."""
    step = float(np.median(np.diff(times)))
    even = np.abs(np.diff(times) / step - 1) < 0.1
    return min(HIGHEST, max(1 / float(np.diff(times)[even].mean()), (len(times) - 1) / float(times[-1] - times[0])))


def require_dense(path: Path, times: NDArray[np.float64], rate: float) -> None:
    """Refuse time stamps so far apart that a damaged one would make a film of any length: more than SPARSE steps a frame."""
    steps = float(times[-1]) * rate
    if steps > SPARSE * len(times) + 1000:
        widest = float(np.diff(times).max(initial=times[0]))
        raise DataError(
            f"{path}: its {len(times):,} frames have time stamps that leave gaps of {widest:.0f} s; copy or cut it again"
        )


def shown_at(times: NDArray[np.float64], rate: float, first: int, last: int | None) -> NDArray[np.int64]:
    """Which frame is shown at each step from `first` to before `last` (left out: to the film's end) at a rate: the last one begun."""
    end = round((times[-1]) * rate) + 1
    steps = np.arange(first, end if last is None else min(last, end))
    return np.maximum(np.searchsorted(times, (steps + OFF / 2) / rate, side="right") - 1, 0).astype(np.int64)
