"""Tables that list recordings: CSV as programs and spreadsheets write it, JSON lines, Parquet; read whole or refused."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.errors import DataError
from ..text import not_text, read_text
from .files import require_file

IDS = ("id", "name", "recording", "sample", "clip", "utterance_id", "file_id")
"""Columns that name a recording."""

PEOPLE = ("group", "speaker", "subject", "actor", "person", "participant", "patient", "user", "speaker_id", "subject_id")
"""Columns that say who is in a recording."""

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev", "development", "devel"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
"""Words that people use for a split → ours."""

LISTINGS = (".csv", ".tsv", ".jsonl", ".parquet")
"""Endings of the tables that `read_listing` reads."""


@dataclass(frozen=True)
class Listing:
    """A table as text: a row a recording, each cell without the blanks around it, an empty text where nothing is known.

    lines  the line of the file on which each row stands, for messages; of a Parquet file the row's number
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]

    def place(self, row: int) -> str:
        """File and line of a row (counted from 0), as messages begin: study/recordings.csv:7."""
        return f"{self.path}:{self.lines[row]}"

    def column(self, name: str) -> list[str]:
        """The cells of a column, from the first row to the last."""
        return [row[name] for row in self.rows]


def read_listing(path: Path) -> Listing:
    """The table in a file: .csv, .tsv or .txt with a line of column names, .jsonl with an object a line, or .parquet.

    CSV may be UTF-8 with or without a byte order mark, or UTF-16 with one; cells are parted by commas, semicolons or tabs, whichever the
    header has most of (a first line `sep=;` says it too); lines end in any way; empty lines are passed over.

    Raises DataError, naming file and line, if the file is missing, empty or no text, if a column has no name or is named twice, if a row has
    more or fewer cells than the header, or if Parquet is to be read and pyarrow is not installed.
    """
    require_file(path, "a table with a row a recording")
    if path.suffix.lower() == ".parquet":
        cells, lines = _parquet(path)
    elif path.suffix.lower() == ".jsonl":
        cells, lines = _json_lines(path)
    else:
        cells, lines = _delimited(path)
    columns = tuple(dict.fromkeys(name for row in cells for name in row))
    if not cells:
        raise DataError(f"{path}: has no rows; a row a recording was expected")
    rows = tuple({name: row.get(name, "") for name in columns} for row in cells)
    return Listing(path, columns, rows, tuple(lines))


def decode(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one. Raises DataError for any other."""
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 or UTF-16 text (byte {error.start}); save it again as UTF-8, which spreadsheets call 'CSV UTF-8'"
        ) from error
    if "\0" in text:
        raise DataError(f"{path}: is not text; UTF-8 was expected")
    return text


def to_number(text: str) -> float | None:
    """The number that a cell holds, with a decimal point or a decimal comma; None where it is no finite number."""
    plain = text.replace(",", ".") if re.fullmatch(r"[-+]?\d*,\d+", text) else text
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", plain):
        return None
    number = float(plain)
    return number if abs(number) < float("inf") else None


def _delimited(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    text = decode(path)
    skipped = 0
    if match := re.match(r"sep=(.)\n", text):  # what Excel reads and writes
        delimiter, text, skipped = match[1], text[match.end() :], 1
    elif path.suffix.lower() == ".tsv":
        delimiter = "\t"
    else:
        header = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
        delimiter = max(",;\t", key=header.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True
    )  # a quote that is not closed would swallow rows
    names: list[str] = []
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        for row in _filled(reader):
            line = reader.line_num + skipped
            if not names:
                names = _header(path, row)
                continue
            while len(row) > len(names) and not row[-1]:  # spreadsheets write empty columns behind the last
                row.pop()
            if len(row) != len(names):
                raise DataError(f"{path}:{line}: has {len(row)} cells and the header {len(names)}; as many were expected")
            rows.append(dict(zip(names, row, strict=True)))
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num + skipped}: cannot be read as CSV ({error})") from error
    return rows, lines


def _filled(reader: Any) -> Iterator[list[str]]:
    """The rows that hold anything, blanks around cells taken away."""
    for row in reader:
        cells = [" ".join(cell.splitlines()).strip() for cell in row]  # a line break within a cell is a blank
        if any(cells):
            yield cells


def _header(path: Path, row: list[str]) -> list[str]:
    while row and not row[-1]:
        row.pop()
    for i, name in enumerate(row, 1):
        if not name:
            raise DataError(f"{path}: column {i} has no name in the header; every column needs one")
        if row.count(name) > 1:
            raise DataError(f"{path}: column '{name}' is named twice in the header; every name must stand once")
    return row


def _json_lines(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    for line, text in enumerate(decode(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{line}: is no JSON ({error})") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}:{line}: an object such as {{"id": "a"}} was expected, not {text.strip()[:40]!r}')
        try:
            row = {str(name).strip(): _cell(value) for name, value in values.items()}
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}:{line}: holds lists within lists, or a number too long to be written; plain values were expected"
            ) from error
        if not_text("".join((*row, *row.values()))) is not None:
            raise DataError(
                f"{path}:{line}: has half of a character in it (a lone surrogate); write the whole character, or leave it out"
            )
        rows.append(row)
        lines.append(line)
    return rows, lines


def _parquet(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    try:
        from pyarrow import lib, parquet
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow, which is not installed: pip install pyarrow (or save it as CSV)"
        ) from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (lib.ArrowException, OSError) as error:
        raise DataError(f"{path}: a Parquet file was expected, and it cannot be read ({type(error).__name__})") from error
    return [{str(name).strip(): _cell(value) for name, value in row.items()} for row in rows], list(range(1, len(rows) + 1))


def _cell(value: Any) -> str:
    """A value of JSON or Parquet as a CSV has it; the items of a list are parted by semicolons."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ";".join(_cell(item) for item in value)
    return str(value).strip()
