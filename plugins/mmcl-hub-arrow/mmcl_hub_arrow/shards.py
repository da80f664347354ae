"""The Arrow files of a folder that `save_to_disk` wrote, opened and seen to be whole; no cell is decoded."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError
from mmcl.media import SPLIT_WORDS, require_folder

from . import EXPECTED, GET

PARTS, STATE = "dataset_dict.json", "state.json"
INSTALL = "pip install 'mmcl[hub-data]'"
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The last bytes of an Arrow stream; without them a file that was cut between two batches would read as a shorter one."""


@dataclass(frozen=True)
class Shard:
    """One Arrow file, mapped into memory: rows are read when they are asked for."""

    path: Path
    rows: Any  # datasets.Dataset

    def column(self, name: str) -> Any:
        """A column as it lies in the file, a pyarrow.ChunkedArray: sound and pictures are bytes."""
        return self.rows.data.column(name)

    def numbers(self, name: str, row: int) -> NDArray[Any]:
        """A cell of numbers in the type that they have in the file. Raises ValueError for lists of unequal lengths."""
        # not through the library's own formats: these start a progress display, whose lock a worker leaves behind
        cell = self.column(name)[row]
        cell = getattr(cell, "value", cell)  # Array2D and the like wrap a list
        values = getattr(cell, "values", None)
        return np.asarray(cell.as_py()) if values is None else np.array(_stacked(values))


def _stacked(values: Any) -> NDArray[Any]:
    """Nested lists of one length at each depth as one array."""
    from pyarrow import compute, types

    if not (types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type)):
        numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return numbers
    lengths = set(compute.list_value_length(values).to_pylist())
    if len(lengths) > 1 or None in lengths:
        raise ValueError("lists of one length were expected")
    inner = _stacked(values.flatten())
    return inner.reshape(len(values), lengths.pop() if lengths else 0, *inner.shape[1:])


@dataclass(frozen=True)
class Part:
    """One dataset: a part of a DatasetDict, or all there is.

    name   of the part; "" where there is one dataset without parts
    split  that it stands for; None where it stands for none
    """

    name: str
    split: str | None
    shards: tuple[Shard, ...]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(shard.rows) for shard in self.shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, row: int) -> tuple[Shard, int]:
        """The shard of a row, and its row there."""
        n = bisect_right(self._ends, row)
        return self.shards[n], row - (self._ends[n - 1] if n else 0)


@dataclass(frozen=True)
class Folder:
    """All parts that are read, whose columns are the same."""

    root: Path
    parts: tuple[Part, ...]

    @cached_property
    def features(self) -> Mapping[str, Any]:
        """Column → what it holds, as the library `datasets` has it."""
        features: Mapping[str, Any] = self.parts[0].shards[0].rows.features
        return features

    def cells(self, column: str) -> Iterator[Any]:
        """Every cell of a column, in order, as plain Python."""
        for part in self.parts:
            for shard in part.shards:
                yield from shard.column(column).to_pylist()

    def place(self, part: Part, row: int, column: str) -> str:
        """Where a cell stands, for messages."""
        return f"{part.at(row)[0].path}: row {row}{f' of {part.name!r}' if part.name else ''}, column '{column}'"


def open_folder(root: Path | None, parts: Mapping[str, str] | None) -> Folder:
    """The folder. Raises DataError if it, or a part that is asked for, is missing, of another format, damaged or empty."""
    root = require_folder(root, EXPECTED, GET)
    chosen: dict[str, str | None]
    if (root / PARTS).is_file():
        chosen = _chosen(root, parts)
        folders = {name: root / name for name in chosen}
    elif (root / STATE).is_file():
        if parts is not None:
            raise DataError(
                f"{root}: has no parts, and dataset.parts names {', '.join(parts)}; leave it out, or name a column by split"
            )
        chosen, folders = {"": None}, {"": root}
    else:
        raise DataError(f"{root}: has neither {PARTS} nor {STATE}{_instead(root)}; expected: {EXPECTED}. {GET}")
    opened = tuple(Part(name, chosen[name], tuple(_shards(folder))) for name, folder in folders.items())
    folder = Folder(root, opened)
    for part in opened:
        for shard in part.shards:
            if (other := _unlike(folder.features, shard.rows.features)) is not None:
                raise DataError(
                    f"{shard.path}: its column '{other}' is not as in {opened[0].shards[0].path}; one type was expected"
                )
    if not any(len(part) for part in opened):
        raise DataError(f"{root}: holds no rows; recordings were expected")
    return folder


def _unlike(features: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """A column that two files do not share."""
    return next((name for name in (*features, *others) if features.get(name) != others.get(name)), None)


def _instead(root: Path) -> str:
    """What a folder of another format is, as far as its files tell."""
    names = [path.name for path in root.iterdir()]
    if any(name.endswith(".arrow") for name in names):
        return ", though Arrow files, as the cache of the library has them"
    for ending, word in ((".parquet", "Parquet"), (".jsonl", "JSON lines"), (".tar", "tar"), (".csv", "CSV")):
        if any(name.endswith(ending) for name in names):
            return f", though {word} files"
    return ""


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not the JSON that save_to_disk writes; copy the folder again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: is not the JSON that save_to_disk writes; copy the folder again")
    return value


def _names(path: Path, values: Any) -> list[str]:
    """Names of what lies in a folder. Raises DataError if they are none, or lead out of it."""
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: names no data; copy the folder again")
    for one in values:
        if not isinstance(one, str) or one in ("", ".", "..") or set(one) & {"/", "\\", "\0"}:
            raise DataError(
                f"{path}: names {one!r:.80}, which is no name of a file or a folder beside it; copy the folder again"
            )
    return values


def _chosen(root: Path, parts: Mapping[str, str] | None) -> dict[str, str | None]:
    """Part → its split, in the folder's order. A single part that nobody chose is no split: protocols cut it."""
    names = _names(root / PARTS, _json(root / PARTS).get("splits"))
    if parts is None:
        if len(names) == 1:
            return {names[0]: None}
        if unknown := [name for name in names if name.lower() not in SPLIT_WORDS]:
            raise DataError(
                f"{root}: its part '{unknown[0]}' is no split by its name; name what is read, such as dataset.parts: {{{names[0]}: train}} (parts: {', '.join(names)})"
            )
        return {name: SPLIT_WORDS[name.lower()] for name in names}
    if not parts or (lacking := [name for name in parts if name not in names]):
        which = f"has no part '{lacking[0]}'" if parts else "is read without any part"
        raise DataError(f"{root}: {which} (dataset.parts); it has {', '.join(names)}")
    return {name: parts[name] for name in names if name in parts}


def _shards(folder: Path) -> Iterator[Shard]:
    """The files of one dataset, in order."""
    if not (folder / STATE).is_file():
        raise DataError(f"{folder}: has no {STATE}; copy the folder again")
    listed = _json(folder / STATE).get("_data_files")
    if not isinstance(listed, list):
        raise DataError(f"{folder / STATE}: names no data; copy the folder again")
    names = [one.get("filename") if isinstance(one, dict) else None for one in listed]
    for name in _names(folder / STATE, names):
        yield Shard(folder / name, _mapped(folder / name))


def _mapped(path: Path) -> Any:
    """One Arrow file as a datasets.Dataset. Nothing but this file is read."""
    if not path.is_file():
        raise DataError(f"{path}: is not there; an Arrow file was expected, as {STATE} beside it names it")
    try:
        from datasets import Dataset as Rows
    except ImportError as error:
        raise DataError(f"{path}: reading it needs the library datasets, which is not installed: {INSTALL}") from error
    from pyarrow import ArrowException

    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(END)))
        end = file.read()
    if end != END:
        raise DataError(f"{path}: {'is empty' if not size else 'is cut short, or no stream of Arrow'}; copy it again")
    try:
        return Rows.from_file(str(path))
    except (ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: an Arrow file of the library datasets was expected, and it cannot be read; copy it again"
        ) from error
