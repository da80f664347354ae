"""Tables of numbers in CSV files, read whole or refused."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from ..api.errors import DataError
from ..api.raw import Table
from .files import require_file

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def read_table(path: Path, rate: float | None = None) -> Table:
    """A comma-separated table with one line of column names, such as an OpenFace CSV, as float32.

    Column names lose the blanks around them. Without `rate` (rows per second), the rate is measured from the column
    `timestamp`, in seconds, if there is one and the table has two rows or more; else it stays None.

    Raises DataError if the file is missing or not text, has no rows, names a column twice, has a line of another length, or
    has a cell that is not a finite number (line and column are named).
    """
    require_file(path, "a CSV file with a header")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns = tuple(name.strip() for name in next(csv.reader(file), []))
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
        exact = np.loadtxt(rows, delimiter=",", ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        raise DataError(f"{path}: {_first_fault(path, columns)}") from error
    if exact.shape[1] != len(columns) or not (np.abs(exact) <= _FLOAT32_MAX).all():
        raise DataError(f"{path}: {_first_fault(path, columns)}")
    if rate is None and "timestamp" in columns and len(exact) > 1:
        times = exact[:, columns.index("timestamp")]
        if not (np.diff(times) > 0).all():
            row = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 2
            raise DataError(f"{path}: column 'timestamp' does not rise at row {row}; seconds in rising order were expected")
        rate = float((len(times) - 1) / (times[-1] - times[0]))
    return Table(exact.astype(np.float32), columns, rate)


def _first_fault(path: Path, columns: tuple[str, ...]) -> str:
    """Line and column of the first cell that is no finite number: slow, and only run where there is one."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if len(row) != len(columns):
                return f"line {reader.line_num} has {len(row)} cells and the header {len(columns)}; as many were expected"
            for name, cell in zip(columns, row, strict=True):
                if not _fits(cell):
                    return f"line {reader.line_num}, column '{name}': a finite number was expected, not {cell.strip()!r}"
    return "cannot be read as a table of numbers"


def _fits(cell: str) -> bool:
    """Whether a cell holds a number that float32 can hold."""
    return is_number(cell) and "_" not in cell and math.isfinite(float(cell)) and abs(float(cell)) <= _FLOAT32_MAX


def is_number(text: str) -> bool:
    """Whether a text is a number, of those that `float` reads: nan and inf are."""
    try:
        float(text)
    except ValueError:
        return False
    return True
