"""Arrays of MATLAB files, read whole or refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from .files import require_file

HDF5_INSIDE = b"MATLAB 7.3 MAT-file"
"""How the text at the head of a file of version 7.3 begins, which is HDF5 behind it."""


MOST = 1100
"""Compression makes nothing smaller than by this factor: a file that promises more is none."""
_BYTES = {"int8": 1, "uint8": 1, "logical": 1, "int16": 2, "uint16": 2, "char": 2, "int32": 4, "uint32": 4, "single": 4}


def _needed(path: Path, key: str) -> int:
    """Bytes that an array takes in memory, as the file's head says; 0 where that cannot be read."""
    from scipy.io import whosmat

    try:
        entries = whosmat(path, appendmat=False)
    except Exception:  # noqa: BLE001 - a damaged file, in whatever way
        return 0
    return next((math.prod(shape) * _BYTES.get(kind, 8) for name, shape, kind in entries if name == key), 0)


def read_mat(path: Path, key: str) -> NDArray[Any]:
    """The array called `key` in a MATLAB file (version 4 to 7.2), in the file's own shape and type.

    Raises DataError if the file is missing, damaged or of version 7.3, has no such array (those it has are named), or the
    array is not of finite real numbers.
    """
    from scipy.io import loadmat, whosmat

    require_file(path, f"a MATLAB file with the array '{key}'")
    with path.open("rb") as file:
        if file.read(len(HDF5_INSIDE)) == HDF5_INSIDE:
            raise DataError(f"{path}: is a MATLAB 7.3 file; save it again with -v7 to have '{key}' read")
    try:
        arrays = loadmat(path, variable_names=[key], appendmat=False)
        names = [name for name, _, _ in whosmat(path, appendmat=False)] if key not in arrays else []
    # In a damaged file scipy stumbles over whatever comes first: zlib.error, TypeError, MemoryError, its own MatReadError …
    except Exception as error:
        if isinstance(error, MemoryError) and (needed := _needed(path, key)) > path.stat().st_size * MOST:
            raise DataError(
                f"{path}: its array '{key}' would take {needed / 1e9:.1f} GB, which a file of {path.stat().st_size:,} bytes does not hold"
            ) from error
        if isinstance(error, MemoryError) and needed:  # the file is as it should be: memory is what lacks
            raise
        cause = type(error).__name__
        raise DataError(
            f"{path}: a MATLAB file with the array '{key}' was expected, and it is damaged or cut short ({cause})"
        ) from error
    if key not in arrays:
        raise DataError(f"{path}: has no array '{key}'; it has {', '.join(names) or 'no array at all, as if cut short'}")
    array = np.asarray(arrays[key])
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: '{key}' is not an array of real numbers (numpy type {array.dtype})")
    if not np.isfinite(array).all():
        place = ", ".join(str(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{path}: '{key}' is NaN or infinite at [{place}]; finite numbers were expected")
    return array
