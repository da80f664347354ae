"""recordings.safetensors: the recordings of a run (`recordings.py`), and rows of each side of its folds, `fold.NUMBER.SIDE`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..api.errors import StageError
from ..runs import write_arrays
from .folds import Fold
from .recordings import Arrays, Recordings, Rows, check_numbers
from .store import mapped

SIDES = ("train", "valid", "test", "held")


def sides_of(folds: Iterable[Fold]) -> Arrays:
    """The columns of folds."""
    return {
        f"fold.{fold.number}.{side}": np.asarray(getattr(fold, side), np.int32)
        for fold in folds
        for side in SIDES
        if side != "held" or fold.held
    }


def write_recordings(path: Path, samples: Recordings, folds: Iterable[Fold]) -> None:
    """Write recordings.safetensors, whole or not at all; equal recordings and folds give equal bytes."""
    write_arrays(path, {**samples.columns, **sides_of(folds)})


def read_recordings(path: Path) -> tuple[Recordings, dict[int, Fold]]:
    """The recordings of recordings.safetensors, and its folds by their numbers, mapped.

    Raises StageError if the file is missing, damaged, or its columns do not fit together.
    """
    if not path.exists():
        raise StageError(f"{path}: is missing; run its recipe again (`mmcl run`), which makes it anew")
    columns = mapped(path)
    try:
        samples = Recordings({name: one for name, one in columns.items() if not name.startswith("fold.")}, str(path))
        sides: dict[int, dict[str, Rows]] = {}
        for name, rows in columns.items():
            if name.startswith("fold."):
                _, number, side = name.split(".")
                check_numbers(rows, name, 0, len(samples) - 1)
                if side not in SIDES:
                    raise ValueError(f"'{name}' is no side of a fold")
                sides.setdefault(int(number), {})[side] = Rows(rows)
        folds = {number: Fold(number, **parts) for number, parts in sides.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{path}: does not hold what it should ({error}); run its recipe again (`mmcl run`), which makes it anew"
        ) from error
    return samples, folds
