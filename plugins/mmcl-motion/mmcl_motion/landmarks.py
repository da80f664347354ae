"""Points of a face aligned by its eyes, and how they move."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Sequence, Source, Table

from . import LandmarksMotionParams
from .steps import between, require_promised, speed

LEFT_EYE, RIGHT_EYE = slice(42, 48), slice(36, 42)
"""iBUG points of the eyes, left and right as the person has them."""


class LandmarksMotion:
    """A frame was not seen if `success` is 0, all of its points lie at 0, a value is NaN, or both eyes lie in one place."""

    def __init__(self, params: LandmarksMotionParams, source: Source) -> None:
        assert source.rate is not None
        self.params, self.rate = params, source.rate
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, point, 2 or 4]. Raises DataError if no frame has a face, or a value is infinite."""
        assert isinstance(raw, Sequence | Table)
        require_promised(raw, self.rate, (68, 2) if isinstance(raw, Sequence) else None)
        points, good = points_of(raw)
        if np.isinf(points).any():
            frame, point = np.argwhere(np.isinf(points))[0][:2]
            raise DataError(f"frame {frame + 1}, point {point} is infinite; a finite number was expected")
        across = points[:, LEFT_EYE].mean(axis=1) - points[:, RIGHT_EYE].mean(axis=1)
        good &= np.linalg.norm(across, axis=1) > 1e-9  # False for NaN too; no eyes in a frame of zeros
        good &= ~np.isnan(points).any(axis=(1, 2))
        if not good.any():
            raise DataError(f"none of its {len(points)} frames has a face")
        self._counts["frames without a face, filled in"] += int((~good).sum())
        lost = (points == 0).all(axis=2) & good[:, None]  # a single point at exactly 0 was lost, in a frame that has a face
        if lost.any():
            self._counts["points of single frames that were lost, filled in"] += int(lost.sum())
        points = between(np.where(good[:, None, None], points, 0.0), good)
        for point in np.flatnonzero(lost.any(axis=0) & ~(lost | ~good[:, None]).all(axis=0)):
            points[:, point] = between(points[:, point], good & ~lost[:, point])
        position = aligned(points, self.params.align == "recording")[:, 17 if self.params.jaw == "drop" else 0 :]
        motion = speed(position, self.rate)
        given = {"both": [position, motion], "position": [position], "motion": [motion]}[self.params.give]
        return np.concatenate(given, axis=2).astype(np.float32)

    def counts(self) -> dict[str, int]:
        """How many frames had no face so far."""
        return dict(self._counts)


def points_of(raw: Sequence | Table) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Points [T, 68, 2] and which frames OpenFace calls successful; all of them where nothing says so."""
    if isinstance(raw, Sequence):
        return raw.values.astype(np.float64), np.ones(len(raw.values), bool)
    where = {name.strip(): i for i, name in enumerate(raw.columns)}
    names = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    if lacking := [name for name in names if name not in where]:
        raise DataError(f"lacks the column '{lacking[0]}' that its source promises")
    points = raw.values[:, [where[name] for name in names]].reshape(-1, 2, 68).transpose(0, 2, 1).astype(np.float64)
    success = raw.values[:, where["success"]] > 0.5 if "success" in where else np.ones(len(points), bool)
    return points, success


def aligned(points: NDArray[np.float64], alike: bool) -> NDArray[np.float64]:
    """Turned, moved and scaled so that the eyes' centres lie at (∓½, 0); `alike`: every frame as the median eyes ask."""
    left, right = points[:, LEFT_EYE].mean(axis=1), points[:, RIGHT_EYE].mean(axis=1)
    if alike:
        left, right = (np.broadcast_to(np.median(eye, axis=0), eye.shape) for eye in (left, right))
    across = left - right
    distance = np.maximum(np.linalg.norm(across, axis=1), 1e-9)[:, None]
    cosine, sine = (across / distance).T[:, :, None]
    x, y = np.moveaxis(points - ((left + right) / 2)[:, None], 2, 0)
    return np.asarray(np.stack([x * cosine + y * sine, y * cosine - x * sine], axis=2) / distance[:, None])
