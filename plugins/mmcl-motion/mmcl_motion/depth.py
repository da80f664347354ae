"""Differences of depth or grey frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Source, Video

from . import DepthMotionParams
from .steps import require_promised

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
        if raw.frames.dtype != np.uint8 or raw.frames.ndim != 4:
            raise DataError(f"has frames of type {raw.frames.dtype} and shape {list(raw.frames.shape)}; uint8 was expected")
        require_promised(raw, self.rate, self.shape)
        frames = raw.frames[:, 0] if self.shape[0] == 1 else np.einsum("tchw,c->thw", raw.frames, GREY)
        if self.params.centre:
            frames = centred(frames)
        still = blocks(frames, self.params.size or self.shape[1:])
        motion = np.zeros_like(still)
        motion[self.params.step :] = still[self.params.step :] - still[: -self.params.step]
        given = [motion] if self.params.give == "motion" else [still, motion]
        return np.stack(given, axis=1).astype(np.float16)


def blocks(frames: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Means of whole blocks of pixels, from 0 to 1 [T, height, width]."""
    steps, height, width = frames.shape
    cut = frames.reshape(steps, size[0], height // size[0], size[1], width // size[1])
    return np.asarray(cut.mean(axis=(2, 4), dtype=np.float32) / 255, np.float32)


def centred(frames: NDArray[Any]) -> NDArray[Any]:
    """Every frame moved by the same whole pixels, so that the mean place of what is not 0 is the middle; what comes in is 0."""
    height, width = frames.shape[1:]
    seen = (frames > 0).sum(axis=0)
    if not seen.any():
        return frames
    # Halves go up, whatever the whole part: `round` would send them to even numbers, and a body elsewhere another way.
    down = int(np.floor((seen.sum(axis=1) * np.arange(height)).sum() / seen.sum() + 0.5)) - height // 2
    across = int(np.floor((seen.sum(axis=0) * np.arange(width)).sum() / seen.sum() + 0.5)) - width // 2
    moved = np.zeros_like(frames)
    rows, columns = slice(max(0, -down), min(height, height - down)), slice(max(0, -across), min(width, width - across))
    from_rows, from_columns = slice(max(0, down), height + min(0, down)), slice(max(0, across), width + min(0, across))
    moved[:, rows, columns] = frames[:, from_rows, from_columns]
    return moved
