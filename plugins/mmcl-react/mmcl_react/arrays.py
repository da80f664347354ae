"""Ragged arrays: sequences of different lengths end to end in one .npz, as `x`, `offsets` and `ids`; and the table of sequences."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError

HEADER = (
    "row",
    "id",
    "participant",
    "game",
    "n_frames",
    "frame_first",
    "frame_last",
    "mean_confidence",
    "condition",
    "framing",
    "timing",
    "gender",
    "age",
    "split",
)
"""Columns of sequences.csv."""

DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
"""What numpy raises where a file is empty, cut short, no .npz, or lacks an array."""


class Ragged:
    """Sequences by their id. Ids and lengths are read at once, values when they are first asked for.

    Raises DataError, naming the file, where it is damaged, of another shape than `step`, or has a value that is not finite.
    """

    def __init__(self, path: Path, step: tuple[int, ...], columns: tuple[str, ...] = ()) -> None:
        self.path, self.step = path, step
        self._values: NDArray[Any] | None = None
        offsets, ids = self._array("offsets"), self._array("ids")
        bad = offsets.ndim != 1 or len(offsets) != len(ids) + 1 or offsets.dtype.kind not in "iu"
        if bad or offsets[0] != 0 or (np.diff(offsets) <= 0).any() or len(set(ids)) < len(ids):
            raise DataError(f"{path}: 'offsets' and 'ids' do not fit; one rising number more than different ids was expected")
        self.spans = {str(name): (int(a), int(b)) for name, a, b in zip(ids, offsets[:-1], offsets[1:], strict=True)}
        if columns and (names := tuple(str(name) for name in self._array("names"))) != columns:
            raise DataError(f"{path}: its columns are {', '.join(names[:3])}, …; {', '.join(columns[:3])}, … were expected")

    def length(self, id: str) -> int:
        """Frames of one sequence."""
        first, last = self.spans[id]
        return last - first

    def read(self, id: str, start: int, stop: int) -> NDArray[np.float32]:
        """Frames `start` to `stop` of one sequence, [frames, *step]."""
        first = self.spans[id][0]
        return np.ascontiguousarray(self.values()[first + start : first + stop], np.float32)

    def values(self) -> NDArray[Any]:
        """All frames of all sequences."""
        if self._values is None:
            values = self._array("x")
            wanted = (max(last for _, last in self.spans.values()), *self.step)
            if values.shape != wanted or values.dtype.kind != "f":
                raise DataError(f"{self.path}: 'x' is {values.dtype} {list(values.shape)}; floats {list(wanted)} were expected")
            if not np.isfinite(values).all():
                frame = int(np.argwhere(~np.isfinite(values))[0][0])
                id = next(id for id, (first, last) in self.spans.items() if first <= frame < last)
                raise DataError(f"{self.path}: frame {frame - self.spans[id][0]} of '{id}' is NaN or infinite")
            self._values = values
        return self._values

    def _array(self, name: str) -> NDArray[Any]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                array: NDArray[Any] = file[name]
        except DAMAGE as error:
            raise DataError(
                f"{self.path}: an .npz with x, offsets and ids was expected; '{name}' cannot be read ({type(error).__name__})"
            ) from error
        return array


def save(path: Path, arrays: Sequence[NDArray[Any]], ids: Sequence[str], names: Sequence[str] = ()) -> None:
    """Write sequences, and the names of their columns, as `Ragged` reads them."""
    offsets = np.cumsum([0, *(len(array) for array in arrays)])
    named = {"names": np.array(names)} if names else {}
    np.savez_compressed(path, allow_pickle=False, x=np.concatenate(arrays), offsets=offsets, ids=np.array(ids), **named)


def save_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write sequences.csv, cells in the order of HEADER."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
