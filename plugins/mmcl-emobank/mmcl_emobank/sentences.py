"""Reads EmoBank's table: a row a sentence."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmcl.api import DataError, Raw, SampleRef, Words
from mmcl.media import Recordings, read_text

from . import COLUMNS, GET, SPLITS, VALUES, EmoBankParams

TABLE = "emobank.csv"
EXPECTED = f"{TABLE} with the columns {', '.join(COLUMNS)}"

_PLACE = re.compile(r"(?:_\d+){1,2}$")
"""What of an id says where in its document a sentence stands: its first and last character, or, of headlines, its number."""


class EmoBank:
    """The sentences of the table in one folder, in its order."""

    def __init__(self, params: EmoBankParams, root: Path | None) -> None:
        self.params = params
        self._recordings = Recordings(root, EXPECTED, GET, "sentence", holds=(TABLE,))
        self._texts: dict[str, str] = {}

    def samples(self) -> Sequence[SampleRef]:
        """Every row. Raises DataError naming the line of a row that cannot be read."""
        return self._recordings.all(self._listing)

    def read(self, id: str, source: str) -> Raw:
        """The words of a sentence."""
        self.samples()
        self._recordings.one(id, source)
        return Words(tuple(self._texts[id].split()))

    def _listing(self, root: Path) -> Iterator[SampleRef]:
        by_document = self.params.group == "document"
        for where, cells in read_rows(root / TABLE):
            name, split = cells["id"].strip(), cells["split"].strip()
            if not name or name in self._texts:
                raise DataError(
                    f"{where}, column 'id': {name!r} {'stands there already' if name else 'is empty'}; a name a row was expected"
                )
            if split not in SPLITS:
                raise DataError(f"{where}, column 'split': {split!r} is none of {', '.join(SPLITS)}")
            rated = {value: _rating(where, column, cells[column]) for value, column in VALUES.items()}
            self._texts[name] = cells["text"]
            yield SampleRef(
                id=name,
                group=document_of(name) if by_document else name,
                sources={"text": TABLE} if cells["text"].split() else {},
                targets={
                    "vad": list(rated.values()),
                    "va": [rated["valence"], rated["arousal"]],
                    "valence-level": math.floor(2 * rated["valence"] + 2.5),
                },
                split=None if by_document else SPLITS[split],
                facts={"document": document_of(name), "split": split, "words": len(cells["text"].split())},
            )


def document_of(id: str) -> str:
    """The text that a sentence is from: `110CYL068` of `110CYL068_1036_1079`. All headlines of SemEval are one."""
    return _PLACE.sub("", id) or id


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Where each row stands, and its cells by the name of their column. Raises DataError where the file is no such table."""
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 (byte {error.start:,}); {EXPECTED} was expected") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read; {EXPECTED} was expected") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if lacking := [name for name in COLUMNS if name not in header]:
            raise DataError(f"{path}: lacks the column '{lacking[0]}'; {EXPECTED} was expected")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}: line {reader.line_num}"
            if len(cells) != len(header):
                raise DataError(f"{where} has {len(cells)} cells and the header {len(header)}; as many were expected")
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num} is no line of a CSV file ({error}), as if the file were cut short"
        ) from error


def _rating(where: str, column: str, text: str) -> float:
    """A rating, its scale of 1 to 5 brought to −1 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 5:
        raise DataError(f"{where}, column '{column}': {text!r} is no rating; a number from 1 to 5 was expected")
    return (value - 3) / 2
