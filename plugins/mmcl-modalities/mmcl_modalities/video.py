"""Frames as bytes: resized by area means, thinned to a rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Video

from . import FramesParams


class Frames:
    """uint8 frames at the wanted size and rate."""

    def __init__(self, params: FramesParams) -> None:
        self.params = params

    def extract(self, raw: Raw) -> NDArray[np.uint8]:
        """[T, channel, height, width]."""
        assert isinstance(raw, Video)
        frames = raw.frames
        if len(frames) == 0:
            raise DataError("has no frames")
        if self.params.rate is not None and raw.rate > self.params.rate:
            count = max(1, round(len(frames) / raw.rate * self.params.rate))
            frames = frames[np.minimum(np.round(np.arange(count) / self.params.rate * raw.rate).astype(int), len(frames) - 1)]
        if self.params.grey and frames.shape[1] == 3:
            grey = frames.astype(np.float32) * np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]  # ITU-R BT.601
            frames = np.round(grey.sum(1, keepdims=True)).astype(np.uint8)
        if self.params.size is not None and frames.shape[2:] != self.params.size:
            frames = resized(frames, *self.params.size)
        return np.ascontiguousarray(frames)


def resized(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Frames at another size, every new pixel the mean of the area it covers."""
    old_height, old_width = frames.shape[2:]
    if old_height % height == 0 and old_width % width == 0:
        blocks = frames.reshape(*frames.shape[:2], height, old_height // height, width, old_width // width)
        return np.round(blocks.mean((3, 5), dtype=np.float32)).astype(np.uint8)
    import torch
    from torch.nn.functional import interpolate

    scaled = interpolate(
        torch.from_numpy(frames).float(), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return scaled.round().clamp(0, 255).byte().numpy()
