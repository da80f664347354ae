"""What the features share: recordings as their source promises them, frames that were not seen, speeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Sequence, Table, Video


def require_promised(raw: Sequence | Table | Video, rate: float | None, shape: tuple[int, ...] | None) -> None:
    """Raise DataError for a recording that is empty, or of another rate (by more than 1 %) or shape than its source promises."""
    if raw.rate is not None and rate is not None and abs(raw.rate - rate) > 0.01 * rate:
        raise DataError(f"has {raw.rate:g} steps per second; its source promises {rate:g}")
    values = raw.frames if isinstance(raw, Video) else raw.values
    if shape is not None and values.shape[1:] != shape:
        raise DataError(f"has the shape {list(values.shape)}; its source promises [steps, {', '.join(map(str, shape))}]")
    if len(values) == 0:
        raise DataError("is empty: it has no steps")


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
