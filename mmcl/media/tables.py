"""Tables of numbers in CSV files, read whole or refused."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Table
from ..text import is_number, read_text
from .faces import every_frame, one_face
from .files import require_file

GAPS = "cells that are no numbers, in rows without a face"
_OWN_TIME = ("frame", "face_id", "timestamp")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def read_table(path: Path, rate: float | None = None, seen: Counter[str] | None = None) -> Table:
    """A table with one line of column names, such as an OpenFace CSV, as float32; cells are parted by commas, in a .tsv by tabs.

    Column names lose the blanks around them. Without `rate` (rows per second), the rate is measured from the column
    `timestamp`, in seconds, if there is one and the table has two rows or more; else it stays None.

    Tables of OpenFace: in a row whose `success` is 0 a cell that is no number is a gap, and becomes 0; of several faces in a frame one
    is read; a frame whose row was left out has a row without a face, so that row k stands at its own time (see `faces`).

    seen  counts what was mended, for a dataset's `counts`

    Raises DataError if the file is missing or not text, has no rows, names a column twice, has a line of another length, or
    has a cell that is not a finite number (line and column are named).
    """
    seen = Counter() if seen is None else seen
    require_file(path, "a CSV file with a header")
    try:
        with io.StringIO(read_text(path, seen), newline="") as file:
            columns = tuple(name.strip() for name in next(csv.reader(file, delimiter=_delimiter(path)), []))
            rows = [line for line in file if line.strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: a CSV file in UTF-8 was expected, and it is not text") from error
    if not columns:
        raise DataError(f"{path}: a CSV file with a header was expected, and it is empty")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{path}: column '{twice}' is named twice in the header; every name must stand once")
    if not rows:
        raise DataError(f"{path}: has a header of {len(columns)} columns and no rows; at least one was expected")
    try:
        exact = np.loadtxt(rows, delimiter=_delimiter(path), ndmin=2, comments=None, quotechar='"')
    except ValueError:
        exact = _with_gaps(path, columns, seen)
    if exact.shape[1] != len(columns) or not (np.abs(exact) <= _FLOAT32_MAX).all():
        exact = _with_gaps(path, columns, seen)
    exact = one_face(exact, columns, seen)
    exact, columns = every_frame(exact, columns, seen)
    if rate is None and "timestamp" in columns and len(exact) > 1:
        times = exact[:, columns.index("timestamp")]
        if not (np.diff(times) > 0).all():
            row = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 2
            raise DataError(f"{path}: column 'timestamp' does not rise at row {row}; seconds in rising order were expected")
        rate = float((len(times) - 1) / (times[-1] - times[0]))
    return Table(exact.astype(np.float32), columns, rate)


def _with_gaps(path: Path, columns: tuple[str, ...], seen: Counter[str]) -> NDArray[np.float64]:
    """The rows one by one, which is slow: in a row whose `success` is 0, a cell that is no finite number becomes 0.

    Raises DataError with the line and column of the first cell elsewhere that is none, or of a line of another length.
    """
    rows: list[list[float]] = []
    success = columns.index("success") if "success" in columns else None
    with io.StringIO(read_text(path), newline="") as file:
        reader = csv.reader(file, delimiter=_delimiter(path))
        next(reader)
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            where = f"{path}: line {reader.line_num}"
            if len(row) != len(columns):
                raise DataError(f"{where} has {len(row)} cells and the header {len(columns)}; as many were expected")
            failed = success is not None and is_number(row[success]) and float(row[success]) == 0
            values = []
            for name, cell in zip(columns, row, strict=True):
                if _fits(cell):
                    values.append(float(cell))
                elif failed and name not in _OWN_TIME:
                    values.append(0.0)
                    seen[GAPS] += 1
                else:
                    raise DataError(f"{where}, column '{name}': a finite number was expected, not {cell.strip()!r}")
            rows.append(values)
    return np.array(rows, np.float64).reshape(len(rows), len(columns))


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _fits(cell: str) -> bool:
    """Whether a cell holds a number that float32 can hold."""
    return is_number(cell) and "_" not in cell and math.isfinite(float(cell)) and abs(float(cell)) <= _FLOAT32_MAX
