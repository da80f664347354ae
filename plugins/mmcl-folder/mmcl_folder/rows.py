"""Rows of the table as recordings."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Any

from mmcl.api import DataError, SampleRef
from mmcl.media import COMPRESSED_SOUNDS, FILMS, SOUNDS, SPLIT_WORDS, TRANSCRIPTS, Listing, to_number

from . import FolderParams, LabelOptions, SourceOptions

LARGEST = 1e12
"""Of the numbers that can be learned: their squares are summed in 32 bits."""


def near(word: str, known: Iterable[str]) -> str:
    """The part of a sentence that offers the nearest word, if any is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def inside(root: Path, path: str, outside: bool, place: str) -> Path:
    """A path below the root. Raises DataError, beginning with `place`, if it is absolute or leads out and may not."""
    posix = path.replace("\\", "/")
    leads_out = Path(posix).is_absolute() or PureWindowsPath(path).drive or ".." in Path(posix).parts
    if leads_out and not outside:
        raise DataError(
            f"{place}: '{path}' leads outside {root}; write it relative to that folder, or allow it with dataset.outside: true"
        )
    return root / posix


def exists(path: Path) -> bool:
    """Whether a file or a folder is there; False for a text that can be no path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def split_of(listing: Listing, row: int, column: str | None) -> str | None:
    """The split of a row, None where its cell is empty. Raises DataError for another word, with the one that is meant."""
    word = listing.rows[row][column] if column else ""
    if not word or word in ("train", "valid", "test"):
        return word or None
    meant = SPLIT_WORDS.get(word.lower())
    offer = f"write '{meant}'" if meant else "splits are train, valid and test"
    raise DataError(f"{listing.place(row)}: '{word}' in column '{column}' is no split; {offer}")


def recordings_of(params: FolderParams, listing: Listing, root: Path) -> list[SampleRef]:
    """Every row as a recording, in the table's order; the options are complete.

    Raises DataError, naming the line, for an id that is there twice, a row without group or without any source, a cell that is no class or
    no number, and a path that leads outside.
    """
    sources, labels = params.sources or {}, params.labels or {}
    names = _ids(params, listing)
    refs: list[SampleRef] = []
    lines: dict[str, str] = {}
    for row, cells in enumerate(listing.rows):
        place, id = listing.place(row), names[row]
        if id in lines:
            raise DataError(
                f"{place}: recording '{id}' stands on line {lines[id].rpartition(':')[2]} already; a row a recording was expected"
            )
        lines[id] = place
        group = cells[params.group] if params.group else id
        if not group:
            raise DataError(f"{place}: recording '{id}' has no {params.group}; splits need one (column '{params.group}')")
        paths = {
            name: where
            for name, one in sources.items()
            if (where := _where(name, one, cells, root, params.outside, place)) is not None
        }
        if not paths:
            raise DataError(f"{place}: recording '{id}' has none of the sources {', '.join(sources)}")
        refs.append(
            SampleRef(
                id=id,
                group=group,
                sources=paths,
                targets={
                    name: target for name, one in labels.items() if (target := _target(name, one, cells, place)) is not None
                },
                split=split_of(listing, row, params.split),
                facts=_facts(params, cells),
            )
        )
    return refs


def words_in_cell(text: str) -> bool:
    """Whether a cell of a column of words holds them itself, rather than the path of a transcript or of what they are spoken in."""
    return Path(text.strip()).suffix.lower() not in TRANSCRIPTS and not is_spoken(text)


def is_spoken(path: str) -> bool:
    """Whether a path is that of a sound or a film, by its ending."""
    return Path(path.strip()).suffix.lower() in (*SOUNDS, *COMPRESSED_SOUNDS, *FILMS)


def _ids(params: FolderParams, listing: Listing) -> list[str]:
    """The names of the recordings: a column, or the stems of their files where these differ, or numbers of lines."""
    if params.id is not None:
        for row, cells in enumerate(listing.rows):
            if not cells[params.id]:
                raise DataError(f"{listing.place(row)}: the column '{params.id}' is empty; every recording needs a name")
        return listing.column(params.id)
    for name, one in (params.sources or {}).items():
        cells = listing.column(one.column or name)
        if one.reads != "words" and all(cells):
            for stems in ([Path(cell).stem for cell in cells], cells):
                if len(set(stems)) == len(stems):
                    return stems
    return [f"line-{line}" for line in listing.lines]


def _where(name: str, one: SourceOptions, cells: Any, root: Path, outside: bool, place: str) -> str | None:
    """The file of a source; of words in the cell, the column and a digest of them, so that a change is noticed."""
    column = one.column or name
    cell: str = cells[column]
    if not cell:
        return None
    if one.reads == "words" and words_in_cell(cell):
        return f"{column}: {hashlib.sha256(cell.encode()).hexdigest()[:16]}"
    inside(root, cell, outside, f"{place}, column '{column}'")
    return cell.replace("\\", "/")


def _target(name: str, one: LabelOptions, cells: Any, place: str) -> int | float | list[int] | list[float] | None:
    """A label; None where it is unknown."""
    if one.columns is not None:
        texts = [cells[column] for column in one.columns]
        if not all(texts):
            return None
        numbers = [_number(text, column, place) for text, column in zip(texts, one.columns, strict=True)]
        if one.type == "regression":
            return numbers
        if any(number not in (0, 1) for number in numbers):
            raise DataError(f"{place}: the columns of '{name}' hold 0 or 1, not {', '.join(texts)}")
        return [int(number) for number in numbers]
    column = one.column or name
    cell: str = cells[column]
    if not cell:
        return None
    if one.type == "regression":
        return _number(cell, column, place)
    classes = one.classes or ()
    parts = [part.strip() for part in cell.split(one.separator or ";")] if one.type == "multi-label" else [cell]
    for part in (part for part in parts if part):
        if part not in classes:
            raise DataError(
                f"{place}: '{part}' is no class of '{column}'{near(part, classes)}; classes are {', '.join(classes)}"
            )
    return [int(one_class in parts) for one_class in classes] if one.type == "multi-label" else classes.index(cell)


def _number(text: str, column: str, place: str) -> float:
    number = to_number(text)
    if number is None:
        raise DataError(f"{place}: '{text}' in column '{column}' is no number; a number or an empty cell was expected")
    if abs(number) > LARGEST:
        raise DataError(
            f"{place}: {number:g} in column '{column}' is beyond ±{LARGEST:g}; what is learned needs smaller numbers"
        )
    return number


def _facts(params: FolderParams, cells: Any) -> dict[str, str | int | float]:
    """The columns that are nothing else, for reports."""
    used = {params.id, params.group, params.split}
    used |= {one.column or name for name, one in (params.sources or {}).items()}
    used |= {column for name, one in (params.labels or {}).items() for column in (one.columns or (one.column or name,))}
    return {name: cell for name, cell in cells.items() if name not in used and cell}
