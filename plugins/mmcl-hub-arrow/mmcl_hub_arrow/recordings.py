"""Reads the rows of a folder that `save_to_disk` wrote, one cell at a time."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmcl.api import Audio, DataError, Pictures, Raw, SampleRef, Still
from mmcl.api import Sequence as Steps
from mmcl.media import COMPRESSED_SOUNDS, FILMS, Recordings, read_audio, read_pictures, read_sound, words_of

from . import EXPECTED, GET, SIZE, HubArrowParams, LabelOptions, SourceOptions
from .columns import class_names, completed, kind_of, numbers_of, split_of
from .shards import Folder, Part, Shard, open_folder


class HubArrow:
    """The rows of one folder. Options that are left open are filled in from it."""

    def __init__(self, params: HubArrowParams, root: Path | None) -> None:
        self._given = self._params = params
        self._recordings = Recordings(root, EXPECTED, GET)
        self._folder: Folder | None = None
        self._rows: dict[str, tuple[int, int]] = {}

    def samples(self) -> Sequence[SampleRef]:
        """Every row, part after part."""
        return self._recordings.all(self._listed)

    def read(self, id: str, source: str) -> Raw:
        """One cell. Raises DataError naming file, row and column if it holds something else than its source does."""
        self.samples()
        self._recordings.one(id, source)
        assert self._folder is not None
        number, row = self._rows[id]
        one = (self._params.sources or {})[source]
        return _read(self._folder, self._folder.parts[number], row, one, one.column or source)

    def _listed(self, root: Path) -> list[SampleRef]:
        self._folder = folder = open_folder(root, self._given.parts)
        self._params = params = completed(self._given, folder)
        refs: list[SampleRef] = []
        for number, part in enumerate(folder.parts):
            first = 0
            for shard in part.shards:
                for at, ref in enumerate(_refs(folder, params, part, shard, first)):
                    if ref.id in self._rows:
                        raise DataError(
                            f"{shard.path}: row {first + at}: recording '{ref.id}' stands in a row before it; a name a row was expected"
                        )
                    self._rows[ref.id] = (number, first + at)
                    refs.append(ref)
                first += len(shard.rows)
        return refs


def _refs(folder: Folder, params: HubArrowParams, part: Part, shard: Shard, first: int) -> Iterator[SampleRef]:
    """The rows of one file as recordings; `first` is the number of its first row in its part."""
    file, features = shard.path.relative_to(folder.root).as_posix(), folder.features
    roles = {name: shard.column(name).to_pylist() for name in (params.id, params.group, params.split) if name is not None}
    there = {name: _there(shard, one, one.column or name) for name, one in (params.sources or {}).items()}
    known = {
        name: [shard.column(column).to_pylist() for column in one.columns or (one.column or name,)]
        for name, one in (params.labels or {}).items()
    }
    for at in range(len(shard.rows)):
        row = first + at
        id = f"{part.name or 'row'}-{row}" if params.id is None else str(roles[params.id][at])
        group = id if params.group is None else _word(features[params.group], roles[params.group][at])
        if not id or (params.id is not None and roles[params.id][at] is None):
            raise DataError(f"{folder.place(part, row, params.id or '')}: is empty; every recording needs a name")
        if not group:
            raise DataError(
                f"{folder.place(part, row, params.group or '')}: is empty; splits need to know who is in a recording"
            )
        sources = {name: file for name, present in there.items() if present[at]}
        if not sources:
            raise DataError(f"{shard.path}: row {row} has none of the sources {', '.join(there)}")
        targets = {}
        for name, columns in known.items():
            one = (params.labels or {})[name]
            place = folder.place(part, row, ", ".join(one.columns or (one.column or name,)))
            target = _target(one, [cells[at] for cells in columns], features[(one.columns or (one.column or name,))[0]], place)
            if target is not None:
                targets[name] = target
        split = part.split if params.split is None else split_of(folder, params.split, roles[params.split][at])
        yield SampleRef(id=id, group=group, sources=sources, targets=targets, split=split)


def _word(feature: Any, cell: Any) -> str:
    """A cell of words, of whole numbers, or of a ClassLabel, as a word; "" where it is empty."""
    if cell is None or (kind_of(feature) == "class" and cell < 0):
        return ""
    return str(feature.names[cell]) if kind_of(feature) == "class" else str(cell)


def _there(shard: Shard, one: SourceOptions, column: str) -> Sequence[bool]:
    """Which rows have a source. Sounds, pictures and numbers are not looked at, only whether there are any."""
    cells = shard.column(column)
    if one.reads == "words":
        return [bool(cell and cell.strip()) for cell in cells.to_pylist()]
    present: list[bool] = cells.is_valid().to_pylist()
    return present


def _target(one: LabelOptions, cells: list[Any], feature: Any, place: str) -> int | float | list[int] | list[float] | None:
    """A label; None where it is unknown: an empty cell, NaN, or -1 of a ClassLabel."""
    if one.type == "regression":
        numbers = [math.nan if cell is None else float(cell) for cell in cells]
        if any(math.isinf(number) for number in numbers):
            raise DataError(f"{place}: is infinite; a finite number or an empty cell was expected")
        if any(math.isnan(number) for number in numbers):
            return None
        return numbers if one.columns is not None else numbers[0]
    cell, classes, names = cells[0], one.classes or (), class_names(feature)
    if cell is None or (one.type == "single-label" and (cell == "" or (names is not None and cell == -1))):
        return None
    words = [
        names[one_cell] if names is not None and 0 <= one_cell < len(names) else str(one_cell)
        for one_cell in (cell if one.type == "multi-label" else [cell])
    ]
    for word in words:
        if word not in classes:
            raise DataError(f"{place}: '{word}' is no class; classes are {', '.join(classes)}")
    return [int(name in words) for name in classes] if one.type == "multi-label" else classes.index(words[0])


# -------------------------------------------------------------------------------------------------------------- cells


def _read(folder: Folder, part: Part, row: int, one: SourceOptions, column: str) -> Raw:
    """One cell of a source whose options are complete."""
    place, kind = folder.place(part, row, column), kind_of(folder.features[column])
    shard, at = part.at(row)
    if one.reads == "words":
        return words_of(shard.column(column)[at].as_py(), place)
    if one.reads == "pictures":
        cell = shard.column(column)[at].as_py()
        return _pictures(cell if kind == "images" else [cell], one.size or SIZE, place)
    if one.reads == "sound" and kind == "sound":
        return _sound(shard.column(column)[at].as_py(), place)
    if one.reads == "sound" and kind == "samples":
        cell = shard.column(column)[at].as_py()
        return _samples(cell["array"], cell["sampling_rate"], place)
    values = numbers_of(folder, part, row, column)
    if one.reads == "sound":
        return _samples(values, one.rate, place)
    if one.reads == "still":
        if (values.shape or (1,)) != one.shape:
            raise DataError(
                f"{place}: has the shape {list(values.shape)}; {list(one.shape or ())} was expected, as in the first row"
            )
        return Still(np.atleast_1d(values))
    assert one.rate is not None
    values = values[:, None] if values.ndim == 1 else values
    if not values.ndim or not len(values) or values.shape[1:] != one.shape:
        raise DataError(
            f"{place}: has the shape {list(values.shape)}; [steps, {', '.join(map(str, one.shape or ()))}] was expected"
        )
    return Steps(values, one.rate)


@contextmanager
def _as_file(cell: Any, place: str) -> Iterator[Path]:
    """The bytes of a cell as a file, for the readers that tell damage; their sentences name the cell in its place."""
    content = cell.get("bytes") if isinstance(cell, dict) else None
    name = cell.get("path") if isinstance(cell, dict) else cell
    if content is None:
        what = f"names a file ({name!r:.80}) and holds none of it" if name else "is empty"
        raise DataError(f"{place}: {what}; the bytes of one were expected, which save_to_disk puts in")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"cell{Path(str(name or '')).suffix.lower()[:8]}"
        path.write_bytes(content)
        try:
            yield path
        except DataError as error:
            raise DataError(str(error).replace(str(path), place)) from error


def _sound(cell: Any, place: str) -> Audio:
    with _as_file(cell, place) as path:
        return read_sound(path) if path.suffix in (*COMPRESSED_SOUNDS, *FILMS) else read_audio(path)


def _samples(values: Any, rate: Any, place: str) -> Audio:
    """Samples that stand in the cell themselves, between -1 and 1."""
    try:
        samples = np.asarray(values)
    except ValueError:  # channels of unequal lengths
        samples = np.empty(())
    if (
        samples.ndim != 1
        or samples.dtype.kind != "f"
        or not len(samples)
        or not rate
        or not float(rate).is_integer()
        or rate < 0
    ):
        raise DataError(
            f"{place}: has samples {samples.dtype} {list(samples.shape)} at {rate} Hz; one channel between -1 and 1 was expected, and its rate"
        )
    if not np.isfinite(samples).all():
        raise DataError(
            f"{place}: sample {int(np.flatnonzero(~np.isfinite(samples))[0]):,} is NaN or infinite; finite samples were expected"
        )
    return Audio(samples.astype(np.float32), int(rate))


def _pictures(cells: Sequence[Any], size: tuple[int, int], place: str) -> Pictures:
    """Pictures of one row; no two need have one size."""
    pictures = []
    for cell in cells:
        with _as_file(cell, place) as path:
            pictures.append(read_pictures(path, size).pictures)
    if not pictures:
        raise DataError(f"{place}: holds no pictures; one at least was expected")
    return Pictures(np.concatenate(pictures))
