"""What every modality refuses: values that are no numbers, and recordings that are not what their source promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Table

_RATE_TOLERANCE = 0.01  # of the promised rate: 50 ms over a recording of 5 s
_LARGEST = float(np.finfo(np.float32).max)


def require_finite(values: NDArray[Any], place: Callable[[tuple[int, ...]], str]) -> NDArray[np.float32]:
    """The values as float32. Raises DataError if one is NaN, infinite or too large; `place` names an index in words."""
    good = np.abs(values) <= _LARGEST  # also False for NaN
    if not good.all():
        first = tuple(int(i) for i in np.argwhere(~good)[0])
        raise DataError(f"{place(first)} is {values[first]}; a finite number was expected")
    return np.asarray(values, np.float32)


def require_rate(rate: float | None, promised: float | None) -> None:
    """Raise DataError if a recording's rate is not the one that its source promises for all."""
    if rate is not None and promised is not None and abs(rate - promised) > _RATE_TOLERANCE * promised:
        raise DataError(f"has {rate:g} steps per second; its source promises {promised:g}")


def require_steps(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise DataError if a recording has no steps, or steps of another shape than its source promises."""
    if values.ndim == 0 or values.shape[1:] != shape:
        raise DataError(f"has the shape {list(values.shape)}; its source promises [steps, {', '.join(map(str, shape))}]")
    if len(values) == 0:
        raise DataError("is empty: it has no steps")


def pick(table: Table, names: Sequence[str]) -> NDArray[np.float32]:
    """The columns with these names, in this order, [rows, names]; blanks around a table's names do not count.

    Raises DataError if the table has no rows or lacks a column.
    """
    if len(table.values) == 0:
        raise DataError("is empty: the table has no rows")
    where = {name.strip(): i for i, name in enumerate(table.columns)}
    lacking = [name for name in names if name not in where]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(f"lacks the column '{lacking[0]}'{more} that its source promises")
    return np.asarray(table.values[:, [where[name] for name in names]])
