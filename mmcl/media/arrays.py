"""Ready arrays over time: .npy, .npz, .mat and .safetensors, read whole or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from .files import require_file
from .matlab import read_mat

ARRAYS = (".npy", ".npz", ".mat", ".safetensors")
"""Endings of the files that `read_array` reads."""


RATE_NAMES = ("rate", "fps", "hz", "fs", "sampling_rate", "sample_rate")
"""Names, in any case, under which files that hold several arrays keep how many steps a second there are."""


def array_rate(path: Path) -> float | None:
    """Steps a second as the file itself says it: one number above 0 under one of RATE_NAMES, beside the array. None where it says none.

    Raises DataError if the file is missing or damaged.
    """
    _require_ending(path)
    if path.suffix.lower() == ".npy":
        return None
    for name in _names(path):
        if name.lower() in RATE_NAMES and (value := read_array(path, name)).size == 1 and value.item() > 0:
            return float(value.item())
    return None


def read_array(path: Path, key: str | None = None) -> NDArray[Any]:
    """The array of a file, in its own shape and type. Nothing that a file may hold is ever run.

    key  its name in a file that may hold several; left out: the only one, a rate beside it not counted

    Raises DataError if the file is missing, damaged or cut short, if `key` names no array of it, or is left out where there are several,
    or if the array is not of finite real numbers.
    """
    _require_ending(path)
    kind = path.suffix.lower()
    key = array_key(path, key)
    if kind == ".mat":
        return read_mat(path, key)
    try:
        if kind == ".npy":
            values = np.load(path, allow_pickle=False)
        elif kind == ".npz":
            with np.load(path, allow_pickle=False) as file:
                values = file[key]
        else:
            from safetensors.numpy import load_file

            values = load_file(path)[key]
        if not isinstance(values, np.ndarray):  # numpy gives what another kind of file, or a part without its head, holds
            raise TypeError
    # Damaged files end in whatever comes first: BadZipFile, zlib.error, EOFError, SafetensorError, ValueError …
    except Exception as error:
        raise _damaged(path, error) from error
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: is no array of real numbers (numpy type {values.dtype})")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = ", ".join(str(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError(f"{path}: is NaN or infinite at [{place}]; finite numbers were expected")
    return np.asarray(values)


def array_shape(path: Path, key: str | None = None) -> tuple[int, ...]:
    """The shape of the array of a file, from its head where the format has one. Raises DataError as `read_array` does."""
    _require_ending(path)
    key = array_key(path, key)
    try:
        if path.suffix.lower() == ".npy":
            return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
        if path.suffix.lower() == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                return tuple(file.get_slice(key).get_shape())
        if path.suffix.lower() == ".mat":
            from scipy.io import whosmat

            return next(tuple(shape) for name, shape, _ in whosmat(path, appendmat=False) if name == key)
    except Exception as error:
        raise _damaged(path, error) from error
    return tuple(read_array(path, key).shape)


def array_key(path: Path, key: str | None = None) -> str:
    """The name of the array that is meant; an empty text for .npy, which has none. Raises DataError as `read_array` does."""
    require_file(path, "an array over time")
    kind = path.suffix.lower()
    if kind == ".npy":
        return ""
    names = _names(path)
    if key is None and len(others := [name for name in names if name.lower() not in RATE_NAMES]) == 1:
        return others[0]
    if key is None and len(names) == 1:
        return names[0]
    if key is None or key not in names:
        if not names:
            raise DataError(f"{path}: holds no array")
        wrong = "holds several arrays" if key is None else f"has no array '{key}'"
        raise DataError(f"{path}: {wrong}; name one of {', '.join(names)}")
    return key


def _names(path: Path) -> list[str]:
    """Of the arrays in a file that may hold several."""
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return [str(name) for name in file.files]
        if kind == ".mat":
            from scipy.io import whosmat

            return [str(name) for name, _, _ in whosmat(path, appendmat=False)]
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            return list(map(str, file.keys()))
    except Exception as error:
        raise _damaged(path, error) from error


def _require_ending(path: Path) -> None:
    if path.suffix.lower() not in ARRAYS:
        raise DataError(f"{path}: an array ends in {', '.join(ARRAYS)}")


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: an array ({path.suffix}) was expected, and it is damaged or cut short ({type(error).__name__})")
