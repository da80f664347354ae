"""Points that were not tracked: where all of a point's coordinates are exactly 0, its place is taken from the frames around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_lost(points: NDArray[np.float64], lost: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Lost points [T, point] on the line between where they were before and after, at the ends where they were last [T, point, axis].

    A point that is lost throughout stays as it is: nothing says where it was, and a root that everything is measured from is at 0.
    """
    filled = points.copy()
    steps = np.arange(len(points))
    for point in np.flatnonzero(lost.any(axis=0) & ~lost.all(axis=0)):
        rows = np.flatnonzero(~lost[:, point])
        for axis in range(points.shape[2]):
            filled[:, point, axis] = np.interp(steps, rows, points[rows, point, axis])
    return filled


def at_zero(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points lie at exactly 0 in every coordinate, [T, point]: what trackers write of those that they lost."""
    return np.asarray((points == 0).all(axis=2))
