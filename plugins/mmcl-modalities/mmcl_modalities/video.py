"""Frames as bytes: thinned to a rate, made grey, resized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Source, Timed, Video
from mmcl.media import grouped_frames, joined, nearest_frames

from . import FaceClipParams, FramesParams, skips_gaps
from .checks import require_rate

BLOCK = 64
"""Frames worked on at once, so that a long video needs no more memory than a short one."""
BLACK = "frames that show nothing of what they are of, black"


class Frames:
    """uint8 frames at the wanted size and rate. Frames that go are dropped first, so that no work is spent on them."""

    def __init__(self, params: FramesParams, source: Source) -> None:
        self.params, self.rate = params, source.rate
        self.channels, *size = (int(n) for n in source.notes["shape"])
        self.source_size = tuple(size)
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.uint8]:
        """Raises DataError if there are no frames, or they have not the type, size or rate that their source promises."""
        assert isinstance(raw, Video)
        return self.of(raw.blocks(), raw.rate, raw.present)

    def of(self, blocks: Iterable[NDArray[np.uint8]], rate: float, present: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        """The same, of a film's blocks."""
        require_rate(rate, self.rate)
        at = None if self.params.rate is None else nearest_frames(rate, self.params.rate)
        size = self.params.size or self.source_size
        groups = grouped_frames(map(self._checked, blocks), BLOCK, at)
        values = joined(resized(grey(group) if self.params.grey else group, *size) for group in groups)
        if len(values) == 0:
            raise DataError("has no frames")
        if present is not None:
            self._counts[BLACK] += int((~(present if at is None else present[at(0, len(present))])).sum())
        return values

    def _checked(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != self.channels:
            what = f"frames of type {frames.dtype} and shape {list(frames.shape)}"
            raise DataError(f"has {what}; uint8 [frames, {self.channels}, height, width] was expected")
        if frames.size == 0 and len(frames):
            raise DataError("has no frames")
        if self.params.size is None and frames.shape[2:] != self.source_size:
            there, promised = list(frames.shape[2:]), list(self.source_size)
            raise DataError(f"has frames of {there} pixels and its source promises {promised}; set size: to resize them")
        return frames

    def counts(self) -> dict[str, int]:
        """How many frames showed nothing so far."""
        return dict(self._counts)


class FaceClip:
    """Frames of a face: cut to the wanted proportions, or squeezed, then as `frames`."""

    def __init__(self, params: FaceClipParams, source: Source) -> None:
        self.cut = params.keep_proportions
        self.size = params.size
        self.rate, self.skips = params.rate, skips_gaps(params, source)
        self.frames = Frames(FramesParams(size=params.size, grey=params.grey, rate=params.rate), source)
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.uint8] | Timed:
        """uint8 [T, channel, height, width]; only the frames with a face, with their times, where the source marks gaps.

        Raises DataError as `frames` does, and if no frame that is kept has a face.
        """
        assert isinstance(raw, Video)
        blocks = raw.blocks()
        if self.cut:
            blocks = (middle(block, *self.size) if block.ndim == 4 else block for block in blocks)
        if not self.skips:
            return self.frames.of(blocks, raw.rate, raw.present)
        values = self.frames.of(blocks, raw.rate, None)
        rows = np.arange(len(values))
        if raw.present is not None:
            rows = np.flatnonzero(raw.present[nearest_frames(raw.rate, self.rate)(0, len(raw.present))])
        if len(rows) == 0:
            raise DataError(f"none of its {len(values)} frames has a face")
        self._counts["frames without a face, left out"] += len(values) - len(rows)
        kept = values if len(rows) == len(values) else values[rows]
        return Timed(kept, np.stack([rows, rows + 1], axis=1) / self.rate)

    def counts(self) -> dict[str, int]:
        """How many frames had no face so far."""
        return {**self.frames.counts(), **self._counts}


def middle(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest part of these proportions in the middle of every frame."""
    there_height, there_width = frames.shape[2:]
    kept_height = min(there_height, max(1, round(there_width * height / width)))
    kept_width = min(there_width, max(1, round(there_height * width / height)))
    top, left = (there_height - kept_height) // 2, (there_width - kept_width) // 2
    return frames[:, :, top : top + kept_height, left : left + kept_width]


def grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness after ITU-R BT.601; frames of one channel as they are."""
    if frames.shape[1] == 1:
        return frames
    red, green, blue = (frames[:, i : i + 1].astype(np.float32) for i in range(3))
    return np.asarray(np.rint(0.299 * red + 0.587 * green + 0.114 * blue), np.uint8)


def resized(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Frames at another size: means of whole blocks of pixels where they fit, else smoothed and interpolated."""
    n, channels, old_height, old_width = frames.shape
    if (old_height, old_width) == (height, width):
        return frames
    if old_height % height == 0 and old_width % width == 0:
        down, across = old_height // height, old_width // width
        sums = frames.reshape(n, channels, height, down, width, across).sum(axis=5, dtype=np.uint32).sum(axis=3)
        return np.asarray((sums + down * across // 2) // (down * across), np.uint8)
    import torch
    from torch.nn.functional import interpolate

    values = torch.from_numpy(frames.astype(np.float32))
    scaled = interpolate(values, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return np.asarray(scaled.round().clamp(0, 255).byte().numpy())
