"""Numbers that hold for a whole recording."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, NoParams, Raw, Source, Still

from . import sizes


class Vectors:
    """The numbers as they are, in one row."""

    def __init__(self, params: NoParams, source: Source) -> None:
        self.shape = sizes(source, "vectors")

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """float32 [channel]. Raises DataError if they are not as many as their source promises, or not finite."""
        assert isinstance(raw, Still)
        values = np.asarray(raw.values)
        if values.shape != self.shape or not math.prod(self.shape):
            raise DataError(f"has the shape {list(values.shape)}; its source promises {list(self.shape)}")
        if values.dtype.kind not in "fiub":
            raise DataError(f"holds values of type {values.dtype}; numbers were expected")
        row = values.astype(np.float32).ravel()
        if not np.isfinite(row).all():
            raise DataError(f"value {int(np.flatnonzero(~np.isfinite(row))[0])} is no finite number of 32 bits")
        return row
