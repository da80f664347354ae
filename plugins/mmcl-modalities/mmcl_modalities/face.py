"""Action units and landmarks of a face, columns found by name, failed frames never used."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Sequence, Table

from . import FaceLandmarksParams

LEFT_EYE, RIGHT_EYE = slice(42, 48), slice(36, 42)
"""iBUG points of the eyes, left and right as the person has them."""


class ActionUnits:
    """The named columns: their mean over a recording, or every frame with failed ones filled from the frame before."""

    def __init__(self, columns: SequenceOf[str], one_vector: bool) -> None:
        self.columns, self.one_vector = tuple(columns), one_vector

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[units], or [T, units]."""
        assert isinstance(raw, Table)
        good = succeeded(raw)
        values = raw.values[:, indices(raw, self.columns)].astype(np.float32)
        refuse_nan(values[good], self.columns)
        if self.one_vector:
            return values[good].mean(0)
        last = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))
        last[last < 0] = int(np.flatnonzero(good)[0])  # before the first good frame: that one
        return values[last]


class FaceLandmarks:
    """68 points (or 51) a frame, normalised per recording."""

    def __init__(self, params: FaceLandmarksParams) -> None:
        self.params = params

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """[T, points, 2]."""
        if isinstance(raw, Table):
            good = succeeded(raw)
            points = np.stack(
                [raw.values[:, indices(raw, [f"{axis}_{i}" for i in range(68)])] for axis in "xy"], axis=2
            ).astype(np.float64)
        else:
            assert isinstance(raw, Sequence)
            points = np.asarray(raw.values, np.float64)
            good = np.ones(len(points), bool)
        if points.ndim != 3 or points.shape[1:] != (68, 2):
            raise DataError(f"needs 68 points of x and y a frame, has {list(points.shape[1:])}")
        refuse_nan(points[good].reshape(int(good.sum()), -1), [f"{axis}_{i}" for i in range(68) for axis in "xy"])
        points = interpolated(points, good)
        if self.params.normalise == "clip-minmax":
            low, high = points.min((0, 1)), points.max((0, 1))
            points = (points - low) / np.where(high > low, high - low, 1.0)
        else:
            eyes = np.linalg.norm(points[:, LEFT_EYE].mean(1) - points[:, RIGHT_EYE].mean(1), axis=1)
            distance = float(np.median(eyes))
            if distance <= 0:
                raise DataError("both eyes are in one place; these are no face landmarks")
            points = (points - points.mean(1, keepdims=True)) / distance
        return points[:, 17 if self.params.jaw == "drop" else 0 :].astype(np.float32)


def indices(table: Table, names: SequenceOf[str]) -> list[int]:
    """Where the named columns stand. Raises DataError if one is missing."""
    place = {name.strip(): i for i, name in enumerate(table.columns)}
    missing = [name for name in names if name not in place]
    if missing:
        raise DataError(f"has no column '{missing[0]}'; it has {', '.join(list(place)[:6])}, …")
    return [place[name] for name in names]


def succeeded(table: Table) -> NDArray[np.bool_]:
    """Frames in which OpenFace found a face. Raises DataError if there is none."""
    names = [name.strip() for name in table.columns]
    good = table.values[:, names.index("success")] > 0.5 if "success" in names else np.ones(len(table.values), bool)
    if not good.any():
        raise DataError("OpenFace found a face in none of its frames" if len(good) else "has no rows")
    return good


def refuse_nan(values: NDArray[np.floating], columns: SequenceOf[str]) -> None:
    """Raises DataError naming the first cell that is no number."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(n) for n in bad[0])
        raise DataError(f"column '{columns[column]}' holds {values[row, column]} in its row {row + 1}")


def interpolated(points: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Failed frames on the straight line between their good neighbours; at the ends, the nearest good frame."""
    if good.all():
        return points
    flat = points.reshape(len(points), -1).copy()
    time = np.arange(len(points))
    for column in range(flat.shape[1]):
        flat[~good, column] = np.interp(time[~good], time[good], flat[good, column])
    return flat.reshape(points.shape)
