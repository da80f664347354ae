"""Action units and landmarks of a face, columns found by name, failed frames never used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Sequence, Source, Table

from . import FaceLandmarksParams
from .checks import pick, require_finite, require_rate, require_steps
from .gaps import at_zero, fill_lost

NO_FACE = "frames without a face, filled in"
LEFT_EYE, RIGHT_EYE = slice(42, 48), slice(36, 42)
"""iBUG points of the eyes, left and right as the person has them."""


class ActionUnits:
    """The named columns: their mean over a recording, or every frame with failed ones filled from the frame before."""

    def __init__(self, columns: SequenceOf[str], source: Source) -> None:
        self.columns, self.rate = list(columns), source.rate
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """One row a frame, or one vector. Raises DataError if no row has a face, or a value of one that has is NaN."""
        assert isinstance(raw, Table)
        good = succeeded(raw)
        rows = np.flatnonzero(good)
        values = require_finite(pick(raw, self.columns)[rows], lambda i: cell(rows[i[0]], self.columns[i[1]]))
        if self.rate is None:
            return np.asarray(values.mean(axis=0, dtype=np.float64), np.float32)
        require_rate(raw.rate, self.rate)
        self._counts[NO_FACE] += int((~good).sum())
        last = np.cumsum(good) - 1  # which good row was the last so far
        return np.asarray(values[np.maximum(last, 0)])  # before the first good frame: that one

    def counts(self) -> dict[str, int]:
        """How many frames had no face so far."""
        return dict(self._counts)


class FaceLandmarks:
    """68 points (or 51) a frame, normalised per recording.

    A frame has failed if `success` is 0, or if all of its points lie at 0, as OpenFace writes where it finds no face. A single point at
    exactly 0 was lost.
    """

    def __init__(self, params: FaceLandmarksParams, source: Source) -> None:
        self.params, self.rate = params, source.rate
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """Failed frames are interpolated. Raises DataError if no frame has a face, a value is NaN, or both eyes coincide."""
        assert isinstance(raw, Table | Sequence)
        require_rate(raw.rate, self.rate)
        if isinstance(raw, Table):
            good = succeeded(raw)
            columns = pick(raw, [f"{axis}_{i}" for axis in "xy" for i in range(68)])
            points = columns.reshape(-1, 2, 68).transpose(0, 2, 1)
        else:
            require_steps(raw.values, (68, 2))
            good, points = np.ones(len(raw.values), bool), raw.values
        rows = np.flatnonzero(good & (points != 0).any(axis=(1, 2)))
        if len(rows) == 0:
            raise DataError(f"none of its {len(points)} frames has a face")
        finite = require_finite(points[rows], lambda i: cell(rows[i[0]], f"{'xy'[i[2]]}_{i[1]}"))
        lost = at_zero(finite)
        self._counts[NO_FACE] += len(points) - len(rows)
        self._counts["points of single frames that were lost, filled in"] += int(lost[:, ~lost.all(axis=0)].sum())
        filled = interpolated(fill_lost(finite.astype(np.float64), lost), rows, len(points))
        if self.params.normalise == "clip-minmax":
            low, high = filled.min(axis=(0, 1)), filled.max(axis=(0, 1))
            filled = (filled - low) / np.where(high > low, high - low, 1.0)
        else:
            eyes = filled[:, LEFT_EYE].mean(axis=1) - filled[:, RIGHT_EYE].mean(axis=1)
            distance = float(np.median(np.linalg.norm(eyes, axis=1)))
            if distance == 0:
                raise DataError("both eyes are in one place; these are no face landmarks")
            filled = (filled - filled.mean(axis=1, keepdims=True)) / distance
        return np.asarray(filled[:, 17 if self.params.jaw == "drop" else 0 :], np.float32)

    def counts(self) -> dict[str, int]:
        """How many frames had no face so far, and how many points were lost."""
        return dict(self._counts)


def succeeded(table: Table) -> NDArray[np.bool_]:
    """Rows in which OpenFace found a face; all of them where the table does not say. Raises DataError if there is none."""
    if "success" not in {name.strip() for name in table.columns}:
        return np.ones(len(table.values), bool)
    success = require_finite(pick(table, ["success"])[:, 0], lambda i: cell(i[0], "success"))
    good: NDArray[np.bool_] = success > 0.5
    if not good.any():
        raise DataError(f"OpenFace found a face in none of its {len(good)} rows (success is 0)")
    return good


def cell(row: int, column: str) -> str:
    """A cell of a table, in words; rows are counted from 1."""
    return f"row {row + 1}, column '{column}'"


def interpolated(points: NDArray[np.float64], rows: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """All n frames, the given ones at their rows, the others on the line between neighbours; at the ends, the nearest one."""
    if len(rows) == n:
        return points
    at = np.interp(np.arange(n), rows, np.arange(len(rows)))  # where among the given ones each frame stands, such as 2.5
    below = at.astype(np.intp)
    above = np.minimum(below + 1, len(rows) - 1)
    share = (at - below)[:, None, None]
    return np.asarray(points[below] * (1 - share) + points[above] * share)
