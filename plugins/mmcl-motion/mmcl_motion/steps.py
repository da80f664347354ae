"""What the features share: recordings as their source promises them, frames that were not seen, speeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Sequence, Table, Video


def require_promised(raw: Sequence | Table, rate: float | None, shape: tuple[int, ...] | None) -> None:
    """Raise DataError for a recording that is empty, or of another rate (by more than 1 %) or shape than its source promises."""
    require_rate(raw, rate)
    if shape is not None:
        require_shape(raw.values, shape)
    if len(raw.values) == 0:
        raise DataError("is empty: it has no steps")


def require_rate(raw: Sequence | Table | Video, rate: float | None) -> None:
    """Raise DataError for a recording of another rate, by more than 1 %."""
    if raw.rate is not None and rate is not None and abs(raw.rate - rate) > 0.01 * rate:
        raise DataError(f"has {raw.rate:g} steps per second; its source promises {rate:g}")


def require_shape(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise DataError for steps of another shape."""
    if values.shape[1:] != shape:
        raise DataError(f"has the shape {list(values.shape)}; its source promises [steps, {', '.join(map(str, shape))}]")


def between(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each step that is not known on the line between its known neighbours, at the ends as the nearest one [T, ...]."""
    rows = np.flatnonzero(known)
    if len(rows) == len(values):
        return values
    flat = values.reshape(len(values), -1)
    steps = np.arange(len(values))
    filled = np.stack([np.interp(steps, rows, column[rows]) for column in flat.T], axis=1)
    return filled.reshape(values.shape)


def speed(values: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """How far each value came since the step before, per second; 0 in the first step."""
    moved = np.zeros_like(values)
    moved[1:] = (values[1:] - values[:-1]) * rate
    return moved
