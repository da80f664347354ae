"""Reads the recordings that a table names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcl.api import Audio, DataError, Header, Raw, SampleRef, Still, Table, Words
from mmcl.api import Sequence as Steps
from mmcl.media import (
    SOUNDS,
    Listing,
    Recordings,
    array_shape,
    face_crops,
    face_landmarks,
    film_header,
    folder_header,
    open_audio,
    open_film,
    open_sound,
    read_array,
    read_listing,
    read_pictures,
    read_table,
    read_words,
    retimed,
    sound_header,
    spoken_part,
    transcribe,
    words_of,
)

from . import CROP, GET, OF_FACES, FolderParams, SourceOptions
from .columns import EXPECTED, completed, table_of
from .rows import exists, is_spoken, recordings_of, words_in_cell

_TOLERANCE = 0.02  # of a rate, between files of one source


class Folder:
    """The recordings of one table. Options that are left open are filled in from it."""

    def __init__(self, params: FolderParams, root: Path | None) -> None:
        self._given, self._root = params, root
        self._recordings = Recordings(root, EXPECTED, GET)
        self._listing: Listing | None = None
        self._rows: dict[str, int] = {}
        self._params = params
        self._seen: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """What was odd in the tables that have been read, and how often."""
        return dict(self._seen)

    def samples(self) -> Sequence[SampleRef]:
        """Every row of the table, in its order."""
        return self._recordings.all(self._listed)

    def read(self, id: str, source: str) -> Raw:
        """One source of one recording. Raises DataError naming the file if it is missing, damaged or unlike the first of its column."""
        path, one = self._find(id, source)
        if isinstance(path, str):
            return words_of(path, f"recording '{id}'")
        return read_file(path, one, self._seen)

    def header(self, id: str, source: str) -> Header:
        """The head of a file; tables and transcripts, which have none, are read."""
        path, one = self._find(id, source)
        if isinstance(path, str):
            return Header()
        if one.reads == "sound" or (one.reads == "words" and is_spoken(path.name)):
            return sound_header(path) if path.suffix.lower() in SOUNDS else film_header(path, sound=True)
        if one.reads in OF_FACES:
            seconds = (folder_header(path, one.rate or 1.0) if path.is_dir() else film_header(path)).seconds
            return Header(seconds, one.rate, (one.size or CROP) if one.reads == "faces" else ())
        if one.reads == "pictures":
            if path.is_dir():
                return folder_header(path, one.rate or 1.0)
            header = film_header(path)
            if one.rate is not None and header.rate is not None:
                _same(path, header.rate, one.rate)
            return header
        if one.reads == "words":
            words = self.read(id, source)
            assert isinstance(words, Words)
            return Header(None if words.times is None else float(words.times[:, 1].max()))
        if one.reads == "table":
            table = _table(path, one, self._seen)
            return Header(len(table.values) / one.rate if one.rate else None, one.rate)
        if one.reads == "photos":
            return Header()
        shape = array_shape(path, one.key)
        if one.reads == "still":
            _require_still(path, shape, one)
            return Header(None, None, shape)
        assert one.rate is not None
        steps = shape[1:] if len(shape) > 1 else (1,)
        if not shape or not shape[0] or steps != one.shape:
            raise DataError(
                f"{path}: has the shape {list(shape)}; [steps, {', '.join(map(str, one.shape or ()))}] was expected"
            )
        return Header(shape[0] / one.rate, one.rate, steps)

    def _listed(self, root: Path) -> list[SampleRef]:
        self._listing = read_listing(table_of(self._given, root))
        self._params = completed(self._given, root)
        refs = recordings_of(self._params, self._listing, root)
        self._rows = {ref.id: row for row, ref in enumerate(refs)}
        return refs

    def _find(self, id: str, source: str) -> tuple[Path | str, SourceOptions]:
        """The file of a source, or the words of a cell that holds them, and how it is read."""
        self.samples()
        self._recordings.one(id, source)
        assert self._listing is not None
        one = (self._params.sources or {})[source]
        if one.reads == "words":
            cell = self._listing.rows[self._rows[id]][one.column or source]
            if words_in_cell(cell):
                return cell, one
        path = self._recordings.file(id, source)
        if not exists(path):
            raise DataError(f"{path}: is not there; recording '{id}' has its {source} there by the table")
        return path, one


def read_file(path: Path, one: SourceOptions, seen: Counter[str]) -> Raw:
    """One file of a source whose options are complete.

    seen  where what is odd in tables is counted

    Raises DataError naming the file if it is missing, damaged or unlike the others of its source.
    """
    if one.reads == "sound":
        return spoken_part(_sound(path), str(path)) if one.trim else _sound(path)
    if one.reads == "words" and is_spoken(path.name):
        return transcribe(_sound(path), str(path), one.model, one.language or "en", one.trim is not False)
    if one.reads == "words":
        return read_words(path)
    if one.reads == "faces":
        return face_crops(path, one.rate or 0.0, (one.size or CROP)[0], seen)
    if one.reads == "landmarks":
        return face_landmarks(path, one.rate or 0.0, seen)
    if one.reads == "pictures":
        if path.is_dir() and one.rate is None:
            raise DataError(
                f"{path}: pictures in a folder do not say how many are shown a second, and nor does their source; a film was expected"
            )
        film = open_film(path, one.size or (120, 160), one.rate or 0.0)
        if one.rate is None or _same(path, film.rate, one.rate) == film.rate:
            return film
        return retimed(film, one.rate)
    if one.reads == "photos":
        return read_pictures(path, one.size or (120, 160))
    if one.reads == "still":
        numbers = read_array(path, one.key)
        _require_still(path, numbers.shape, one)
        return Still(np.atleast_1d(numbers))
    if one.reads == "table":
        return _table(path, one, seen)
    assert one.rate is not None
    values = read_array(path, one.key)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim == 0 or len(values) == 0 or values.shape[1:] != one.shape:
        raise DataError(
            f"{path}: has the shape {list(values.shape)}; [steps, {', '.join(map(str, one.shape or ()))}] was expected"
        )
    return Steps(values, one.rate)


def _table(path: Path, one: SourceOptions, seen: Counter[str]) -> Table:
    table = read_table(path, None, seen)
    columns = one.columns or ()
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise DataError(f"{path}: lacks the column '{lacking[0]}', which other files of its source have")
    if one.rate is None and len(table.values) > 1:
        raise DataError(f"{path}: has {len(table.values)} rows; one was expected, as in other files of its source")
    rate = None if one.rate is None else _same(path, table.rate or one.rate, one.rate)
    values = table.values[:, [table.columns.index(name) for name in columns]]
    return Table(np.ascontiguousarray(values), columns, rate)


def _require_still(path: Path, shape: tuple[int, ...], one: SourceOptions) -> None:
    """Raise DataError for numbers of another shape than those of the first file."""
    if (shape or (1,)) != one.shape:
        raise DataError(
            f"{path}: has the shape {list(shape)}; {list(one.shape or ())} was expected, as in other files of its source"
        )


def _sound(path: Path) -> Audio:
    """The sound of a sound file or a film."""
    return open_audio(path) if path.suffix.lower() in SOUNDS else open_sound(path)


def _same(path: Path, rate: float, promised: float) -> float:
    """The rate of all files of a source. Raises DataError if this one has another."""
    if abs(rate / promised - 1) > _TOLERANCE:
        raise DataError(f"{path}: has {rate:.2f} steps a second; {promised:g} were expected, as in other files of its source")
    return promised
