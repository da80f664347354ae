"""Skeletons that do not depend on where a person stands, faces or how tall they are; plain signals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Sequence, Source, Table

from . import SignalsParams, SkeletonParams
from .face import indices, refuse_nan


class Skeleton:
    """Centred, turned, scaled, with speeds; y (the second coordinate) is taken as vertical."""

    def __init__(self, params: SkeletonParams, source: Source) -> None:
        self.params, self.notes, self.rate = params, dict(source.notes), float(source.rate or 1.0)

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, joints, channels]."""
        assert isinstance(raw, Sequence)
        points = np.asarray(raw.values, np.float64)
        if len(points) == 0:
            raise DataError("has no frames")
        if self.params.centre != "none":
            root = int(self.notes["root"])
            points = points - (
                points[:1, root : root + 1] if self.params.centre == "first-frame" else points[:, root : root + 1]
            )
        if self.params.turn:
            left, right = self.notes["shoulders"]
            across = points[0, right] - points[0, left]
            angle = np.arctan2(across[2], across[0])
            cosine, sine = np.cos(angle), np.sin(angle)
            points = np.stack(
                [
                    points[..., 0] * cosine + points[..., 2] * sine,
                    points[..., 1],
                    points[..., 2] * cosine - points[..., 0] * sine,
                ],
                axis=-1,
            )
        if self.params.scale == "torso":
            top, bottom = self.notes["torso"]
            length = float(np.median(np.linalg.norm(points[:, top] - points[:, bottom], axis=1)))
            if not length > 0:
                raise DataError(f"the torso (joints {top} and {bottom}) has length {length:g}; the skeleton was not tracked")
            points = points / length
        if self.params.velocity:
            speed = np.zeros_like(points)
            speed[1:] = (points[1:] - points[:-1]) * self.rate
            points = np.concatenate([points, speed], axis=2)
        return points.astype(np.float32)


class Signals:
    """Channels as they are, at another rate if asked."""

    def __init__(self, params: SignalsParams, source: Source) -> None:
        self.params = params

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, channels]."""
        assert isinstance(raw, Table | Sequence)
        values = np.asarray(raw.values, np.float32)
        if isinstance(raw, Table):
            columns = list(self.params.columns) if self.params.columns is not None else list(raw.columns)
            values = values[:, indices(raw, columns)]
            refuse_nan(values, columns)
        if len(values) == 0:
            raise DataError("has no rows")
        rate = raw.rate
        if self.params.rate is None or rate is None or rate == self.params.rate:
            return values
        return resampled(values, rate, self.params.rate)


def resampled(values: NDArray[np.float32], rate: float, wanted: float) -> NDArray[np.float32]:
    """Linear interpolation at the new steps; when slowing down, of a running mean as long as a new step (else it would alias)."""
    span = int(round(rate / wanted))
    smooth = values.astype(np.float64)
    if span > 1:
        total = np.cumsum(np.concatenate([np.zeros((1, values.shape[1])), smooth]), axis=0)
        first = np.clip(np.arange(len(values)) - span // 2, 0, None)
        last = np.clip(np.arange(len(values)) - span // 2 + span, None, len(values))
        smooth = (total[last] - total[first]) / (last - first)[:, None]
    count = max(1, round(len(values) / rate * wanted))
    at = np.arange(count) / wanted * rate
    return np.stack([np.interp(at, np.arange(len(values)), smooth[:, c]) for c in range(values.shape[1])], axis=1).astype(
        np.float32
    )
