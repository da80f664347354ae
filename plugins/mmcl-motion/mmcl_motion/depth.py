"""Differences of depth or grey frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Source, Video
from mmcl.media import joined

from . import DepthMotionParams
from .steps import require_rate, require_shape

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Brightness of red, green and blue (ITU-R BT.601)."""


class DepthMotion:
    """What changed since `step` frames before, in full scales from −1 to 1; half precision, since levels are 1/255 apart."""

    def __init__(self, params: DepthMotionParams, source: Source) -> None:
        self.params, self.rate = params, source.rate
        self.shape = tuple(int(n) for n in source.notes["shape"])

    def extract(self, raw: Raw) -> NDArray[np.float16]:
        """[T, 1 or 2, height, width]. Raises DataError for frames of another type, size or rate than the source promises."""
        assert isinstance(raw, Video)
        require_rate(raw, self.rate)
        move = shift(map(self._brightness, raw.blocks())) if self.params.centre else None
        parts, before = [], np.zeros((0, *(self.params.size or self.shape[1:])), np.float32)
        for block in raw.blocks():
            frames = self._brightness(block)
            still = blocks(frames if move is None else moved(frames, *move), self.params.size or self.shape[1:])
            known = np.concatenate([before, still])
            motion = np.zeros_like(still)
            first = self.params.step - len(before)  # of this block that has a frame so many steps before it
            motion[first:] = still[first:] - known[: max(0, len(still) - first)]
            before = known[-self.params.step :]
            given = [motion] if self.params.give == "motion" else [still, motion]
            parts.append(np.stack(given, axis=1).astype(np.float16))
        values: NDArray[np.float16] = joined(parts)
        if len(values) == 0:
            raise DataError("is empty: it has no steps")
        return values

    def _brightness(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """Depth, or grey, of the frames that the source promises, [n, height, width]."""
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise DataError(f"has frames of type {frames.dtype} and shape {list(frames.shape)}; uint8 was expected")
        require_shape(frames, self.shape)
        return frames[:, 0] if self.shape[0] == 1 else np.einsum("tchw,c->thw", frames, GREY)


def blocks(frames: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Means of whole blocks of pixels, from 0 to 1 [T, height, width]."""
    steps, height, width = frames.shape
    cut = frames.reshape(steps, size[0], height // size[0], size[1], width // size[1])
    return np.asarray(cut.mean(axis=(2, 4), dtype=np.float32) / 255, np.float32)


def shift(parts: Iterable[NDArray[Any]]) -> tuple[int, int] | None:
    """By how many whole pixels, down and across, the mean place of what is not 0 in all frames lies off the middle; None where nothing is."""
    seen: NDArray[np.int64] | int = 0
    for frames in parts:
        seen = seen + (frames > 0).sum(axis=0)
    if isinstance(seen, int) or not seen.any():
        return None
    height, width = seen.shape
    # Halves go up, whatever the whole part: `round` would send them to even numbers, and a body elsewhere another way.
    down = int(np.floor((seen.sum(axis=1) * np.arange(height)).sum() / seen.sum() + 0.5)) - height // 2
    across = int(np.floor((seen.sum(axis=0) * np.arange(width)).sum() / seen.sum() + 0.5)) - width // 2
    return down, across


def moved(frames: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """Frames without so many pixels of their beginning; what comes in at the other end is 0."""
    height, width = frames.shape[1:]
    shown = np.zeros_like(frames)
    rows, columns = slice(max(0, -down), min(height, height - down)), slice(max(0, -across), min(width, width - across))
    from_rows, from_columns = slice(max(0, down), height + min(0, down)), slice(max(0, across), width + min(0, across))
    shown[:, rows, columns] = frames[:, from_rows, from_columns]
    return shown
