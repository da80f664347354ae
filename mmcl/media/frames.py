"""Frames of films, a block at a time: films that are decoded while they are used, frames at another rate, equally many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..api.raw import Video
from .files import require_room
from .sound import joined

BLOCK_BYTES = 4 * 2**20
"""Of frames that a long film gives at once; one frame at least."""

At = Callable[[int, int], NDArray[np.intp]]
"""(step, n) → which frames of a film of n are wanted at this step and those after it, rising. Those of a longer film begin with the ones that
are below n − 1."""


class LongFilm(Video):
    """A film that is decoded whenever it is used, a block of frames in memory at a time; `frames` are all of them at once.

    decode  gives one frame [channel, height, width] after the other, from the first on, every time that it is called
    shape   of a frame
    count   about how many there are
    """

    def __init__(
        self,
        path: Path,
        decode: Callable[[], Iterator[NDArray[np.uint8]]],
        rate: float,
        shape: tuple[int, int, int],
        count: int,
        present: NDArray[np.bool_] | None = None,
    ) -> None:
        vars(self).update(rate=rate, present=present, shape=shape, count=count, _path=path, _decode=decode)

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """See `Video`."""
        most = max(1, BLOCK_BYTES // int(np.prod(vars(self)["shape"])))
        waiting: list[NDArray[np.uint8]] = []
        for frame in vars(self)["_decode"]():
            waiting.append(frame)
            if len(waiting) == most:
                yield np.ascontiguousarray(np.stack(waiting))
                waiting = []
        if waiting:
            yield np.ascontiguousarray(np.stack(waiting))

    def __getattr__(self, name: str) -> NDArray[np.uint8]:
        if name != "frames":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        own = vars(self)
        require_room(own["_path"], own["count"] / own["rate"], own["count"] * int(np.prod(own["shape"])), "pictures")
        frames = own[name] = joined(self.blocks())
        return frames

    def __repr__(self) -> str:
        return f"LongFilm({vars(self)['_path']}, rate={self.rate})"

    def __reduce__(self) -> tuple[type[Video], tuple[NDArray[np.uint8], float, NDArray[np.bool_] | None]]:
        return Video, (self.frames, self.rate, self.present)  # another process gets frames, not a file


def retimed(film: Video, rate: float) -> Video:
    """The same frames, at another rate than the film's own."""
    if not isinstance(film, LongFilm):
        return Video(film.frames, rate, film.present)
    own = vars(film)
    return LongFilm(own["_path"], own["_decode"], rate, own["shape"], own["count"], film.present)


def nearest_frames(rate: float, wanted: float) -> At:
    """For `grouped_frames`: the frame nearest to each time k / wanted, up to that of the last frame of a film of `rate` frames a second."""

    def at(step: int, n: int) -> NDArray[np.intp]:
        steps = int((n - 1) * wanted / rate + 1e-6) + 1  # 1e-6: what rounding made 2.9999999 is 3
        return np.minimum(np.asarray(np.arange(step, steps) * rate / wanted + 0.5, np.intp), n - 1)

    return at


def grouped_frames(blocks: Iterable[NDArray[np.uint8]], count: int, at: At | None = None) -> Iterator[NDArray[np.uint8]]:
    """Frames out of blocks [n, channel, height, width], `count` at a time however the film is cut into blocks; at the end fewer.

    at  which of them, as `nearest_frames` says; left out: all
    """
    waiting: NDArray[np.uint8] | None = None
    for part in blocks if at is None else _picked(blocks, at, count):
        block = part
        if waiting is not None:
            lacking = count - len(waiting)
            waiting, block = np.concatenate([waiting, block[:lacking]]), block[lacking:]
            if len(waiting) < count:
                continue
            yield waiting
        whole = len(block) - len(block) % count
        for start in range(0, whole, count):
            yield block[start : start + count]
        waiting = block[whole:].copy() if whole < len(block) else None
    if waiting is not None:
        yield waiting


def _picked(blocks: Iterable[NDArray[np.uint8]], at: At, count: int) -> Iterator[NDArray[np.uint8]]:
    """The frames that are wanted, at most `count` at a time. Which are the last ones is known at the end: one frame waits for it."""
    step, seen = 0, 0
    last: NDArray[np.uint8] | None = None
    for part in blocks:
        if not len(part):
            continue
        block, first = (part, seen) if last is None else (np.concatenate([last, part]), seen - 1)
        seen += len(part)
        wanted = at(step, seen)
        wanted = wanted[wanted < seen - 1]
        for start in range(0, len(wanted), count):
            yield block[wanted[start : start + count] - first]
        step += len(wanted)
        last = block[-1:].copy()
    if last is not None:
        left = len(at(step, seen))
        for start in range(0, left, count):
            yield np.repeat(last, min(count, left - start), axis=0)
