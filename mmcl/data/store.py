"""Prepared streams on disk: one folder per modality, steps of all recordings end to end, memory-mapped.

    store.json                 layout, dtype, what was skipped and why, checksums of the rest; written last, so a folder with it is whole
    index.safetensors          row, shard, offset, length of every stream (int64)
    shard-00000.safetensors    values [steps, ...]; times [steps, 2] in seconds where steps carry their own

A window is a slice of the map: the rest of the recording is never read. So opening looks at a few blocks of each shard, which shows what
a crash or a bad disk leaves (pages of zeros); `Store.changed` reads every byte.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..api.errors import StageError
from ..api.kinds import Layout
from ..api.raw import Timed
from ..runs import JsonObject, digest, folder_in_place_of, open_file, read_json, write_arrays, write_json
from ..shapes import parsed
from .growing import Numbers, Spool

HEADER_BYTES = 2**20
"""A longer header of a shard is refused."""
BLOCKS, BLOCK = 64, 4096
"""Blocks of a shard, spread evenly, whose bytes are looked at when it is opened, and how long each is."""
LONGEST = 2**40
"""A larger size of an array is refused."""
CHECKED = 2**16
"""Streams whose places are looked at together when a store is opened."""
NOT_WHOLE = "is not a whole store of prepared streams"
INDEX = "index.safetensors"
"""The file of a store that says where each stream lies."""
SHARD_BYTES = 256 * 2**20
"""A shard is closed once it holds this much: large enough to stream, small enough to be fetched."""


@dataclass(frozen=True)
class Skipped:
    """One stream that could not be had, and the sentence that says why."""

    id: str
    where: str
    reason: str


@dataclass(frozen=True)
class Odd:
    """A recording that could be read, and a sentence on what is odd about it."""

    id: str
    reason: str


Arrays = dict[str, NDArray[Any]]
"""The arrays of a file, by name."""


class Elsewhere(Protocol):
    """The files of a store that do not lie in a folder of this machine, each brought here when it is asked for."""

    @property
    def folder(self) -> Path:
        """Where those that were asked for lie."""
        ...

    @property
    def size(self) -> int:
        """Bytes of all files."""
        ...

    def about(self) -> JsonObject:
        """What store.json says."""
        ...

    def arrays(self, name: str) -> Arrays:
        """The arrays of a file, memory-mapped."""
        ...

    def shards(self, count: int, check: Callable[[int, Arrays], None]) -> Sequence[Arrays]:
        """All shards; each is checked when it is first asked for."""
        ...

    def seconds(self, streams: int) -> NDArray[np.float64] | None:
        """How long each stream is, where steps carry their own times."""
        ...

    def changed(self) -> list[str]:
        """A sentence for each file that is not what was written."""
        ...


class _Abandoned(Exception):
    """A store that is not to be kept."""


def _overlap(places: NDArray[np.int64]) -> bool:
    """Whether a stream begins before the one named before it in the same shard ends; places are [streams, (shard, offset, length)]."""
    shard, offset, length = places.T
    return bool(((shard[1:] == shard[:-1]) & (offset[1:] - offset[:-1] < length[:-1])).any())


class StoreWriter:
    """Writes one modality's streams; nothing can be opened before `close`."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder, self.layout = folder, layout
        self._making = ExitStack()
        self.part = self._making.enter_context(folder_in_place_of(folder))
        self._values: list[
            tuple[NDArray[Any], Spool]
        ] = []  # steps of one type that follow each other: the first of them, and all
        self._times = Spool(self.part)
        self._bytes = 0
        self._shard = 0
        self._offset = 0
        self._index = Numbers("q")
        self._timed: bool | None = None

    def __len__(self) -> int:
        return len(self._index) // 4

    def add(self, row: int, stream: NDArray[Any] | Timed) -> None:
        """Keep the stream of recording `row`."""
        values = stream.values if isinstance(stream, Timed) else stream
        if not self.layout.timed:
            values = values[None]
        if self._timed is None:
            self._timed = isinstance(stream, Timed)
        self._index.extend((row, self._shard, self._offset, len(values)))
        if not self._values or self._values[-1][0].dtype != values.dtype:
            self._values.append((values[:0].copy(), Spool(self.part)))
        self._values[-1][1].add(_bytes_of(values))
        if isinstance(stream, Timed):
            self._times.add(_bytes_of(np.asarray(stream.times, np.float64)))
        self._offset += len(values)
        self._bytes += values.nbytes
        if self._bytes >= SHARD_BYTES:
            self._flush()

    def close(self, facts: Mapping[str, Any]) -> None:
        """Write what is left, and put the folder in its place."""
        self._flush()
        index = self._index.array().reshape(-1, 4)
        if not bool((index[1:, 0] >= index[:-1, 0]).all()):  # whoever adds them in order needs no room for all of them
            index = index[np.argsort(index[:, 0], kind="stable")]
        write_arrays(self.part / "index.safetensors", {"index": index})
        files = sorted(self.part.glob("*.safetensors"))
        checks = {
            "sha256": {path.name: digest(path) for path in files},
            "blocks": {path.name: few_blocks(path) for path in files},
        }
        about = {"format": 1, "layout": self.layout.to_json(), "timed": bool(self._timed), **facts, **checks}
        write_json(self.part / "store.json", about)
        self._making.close()

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(_Abandoned), self._making:
            raise _Abandoned

    def _flush(self) -> None:
        if not self._values:
            return
        parts = [spool.array(none.dtype).reshape(-1, *none.shape[1:]) for none, spool in self._values]
        # a shard of streams of several types has the one that holds all of them
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        tensors = {"values": values}
        if self._timed:
            tensors["times"] = self._times.array("f8").reshape(-1, 2)
        write_arrays(self.part / shard_name(self._shard), tensors)
        self._values, self._times, self._bytes, self._offset = [], Spool(self.part), 0, 0
        self._shard += 1


def _bytes_of(values: NDArray[Any]) -> memoryview:
    """The bytes of an array, end to end; of one that lies so no copy is made."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


class Store:
    """One modality's prepared streams, opened for reading. Safe to use from several threads.

    elsewhere  where its files are had from, if they do not lie in a folder: shards are looked at when they are first read then
    """

    def __init__(self, folder: Path, elsewhere: Elsewhere | None = None) -> None:
        self.folder, self._elsewhere = folder, elsewhere
        try:
            about = read_json(folder / "store.json") if elsewhere is None else elsewhere.about()
            index = (mapped(folder / INDEX) if elsewhere is None else elsewhere.arrays(INDEX))["index"]
            if index.dtype != np.int64 or index.ndim != 2 or index.shape[1] != 4:
                raise ValueError(f"its index is {index.dtype} {list(index.shape)}, and not int64 [streams, 4]")
            self.layout = Layout.from_json(about["layout"])
            if sorted(self.layout.sizes) != sorted(set(self.layout.axes) - {"time"}):
                raise ValueError(
                    f"its layout has the axes {', '.join(self.layout.axes)} and sizes of {', '.join(self.layout.sizes)}"
                )
            self._sha256: dict[str, str] = about.get("sha256", {})
            self.skipped = tuple(Skipped(**one) for one in about.get("skipped", ()))
            self.odd = tuple(Odd(**one) for one in about.get("odd", ()))
            self.counts: dict[str, int] = dict(about.get("counts", {}))
            self.key = str(about.get("key", ""))
            self._rows = np.ascontiguousarray(index[:, 0])
            self._places = index[:, 1:]
            self._dense = len(index) == 0 or (self._rows[0] == 0 and self._rows[-1] == len(index) - 1)
            shards = np.unique(index[:, 1]).tolist()
            if shards != list(range(len(shards))):
                raise ValueError(f"its index names the shards {shards[:3]} …, and not 0 to {len(shards) - 1}")
            self._timed = bool(about["timed"])
            self._blocks: dict[str, str] = about.get("blocks", {})
            self._check_order()
            if elsewhere is None:
                self._shards: Sequence[Arrays] = [mapped(folder / shard_name(shard)) for shard in shards]
                self._check()
                for name in self._blocks:
                    self._check_blocks(name)
            else:
                self._shards = elsewhere.shards(len(shards), self._check_shard)
            self._seconds = elsewhere.seconds(len(index)) if elsewhere is not None and self._timed else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StageError) as error:
            if elsewhere is not None:
                whole = isinstance(error, StageError)  # a sentence already
                raise (
                    error
                    if whole
                    else StageError(f"{elsewhere}: {NOT_WHOLE} ({error}); remove it there and upload the run again")
                ) from error
            raise StageError(f"{folder}: {NOT_WHOLE} ({error}); run the recipe again, which prepares them anew") from error

    def changed(self) -> list[str]:
        """A sentence for each file that is not, to the byte, what was written; every byte is read.

        Raises StageError if an older mmcl wrote the store, which kept no checksums.
        """
        if self._elsewhere is not None:
            return self._elsewhere.changed()
        if not self._sha256:
            raise StageError(
                f"{self.folder}: an older mmcl prepared these streams and kept no checksums; delete the folder and run again to have some"
            )
        names = {path.name for path in self.folder.glob("*.safetensors")} | set(self._sha256)
        return [
            f"{self.folder / name} is not what was written; delete {self.folder} and run again"
            for name in sorted(names)
            if not (self.folder / Path(name).name).is_file() or digest(self.folder / Path(name).name) != self._sha256.get(name)
        ]

    def _check(self) -> None:
        """Raise ValueError unless every stream lies within its shard, with values of the layout's shape."""
        sizes = np.array([self._steps(arrays) for arrays in self._shards], np.int64)
        for first in range(0, len(self._rows), CHECKED):
            self._check_within(self._rows[first : first + CHECKED], self._places[first : first + CHECKED], sizes)

    def _check_order(self) -> None:
        """Raise ValueError unless the index names each recording once, in order, and each step is of one stream."""
        if not len(self._rows):
            return
        if bool((self._rows[1:] == self._rows[:-1]).any()):
            raise ValueError("its index names a recording twice")
        if self._rows[0] < 0 or bool((self._rows[1:] < self._rows[:-1]).any()):
            raise ValueError("its index does not name recordings in their order")
        if _overlap(self._places) and _overlap(self._places[np.lexsort((self._places[:, 1], self._places[:, 0]))]):
            # a few bytes would stand for as many as one likes
            raise ValueError("two of its streams share steps")

    def _check_shard(self, shard: int, arrays: Arrays) -> None:
        """Raise ValueError or KeyError unless a shard is what was written, and its streams lie within it."""
        mine = self._places[:, 0] == shard
        sizes = np.full(shard + 1, self._steps(arrays), np.int64)
        self._check_within(self._rows[mine], self._places[mine], sizes)
        self._check_blocks(shard_name(shard))

    def _steps(self, arrays: Arrays) -> int:
        """The steps of a shard. Raises ValueError if their shape is not that of the layout."""
        values = arrays["values"]
        if values.ndim == 0 or tuple(values.shape[1:]) != self.layout.shape:
            raise ValueError(f"a shard's values have the shape {list(values.shape)}, and the layout is {self.layout}")
        if self._timed and (times := arrays["times"]).shape != (len(values), 2):
            raise ValueError(f"a shard's times have the shape {list(times.shape)} for {len(values)} steps")
        return len(values)

    def _check_within(self, rows: NDArray[np.int64], places: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Raise ValueError unless streams lie within shards of so many steps."""
        shard, offset, length = places.T
        beyond = (offset < 0) | (length < 0) | (offset > sizes[shard] - length)
        if bool(beyond.any()):
            raise ValueError(f"the stream of recording {rows[int(beyond.argmax())]} reaches beyond its shard")

    def _check_blocks(self, name: str) -> None:
        """Raise ValueError if a few blocks of a file are not what was written."""
        known = self._blocks.get(name)
        if known is not None and (Path(name).name != name or few_blocks(self.folder / name) != known):
            raise ValueError(f"{name} is not what was written: a disk or a copy changed it")

    def _place(self, row: int) -> tuple[int, int, int]:
        """Shard, first step and length of a recording's stream. Raises KeyError if there is none."""
        shard, offset, length = self._places[self._at(row)].tolist()
        return shard, offset, length

    def _at(self, row: int) -> int:
        """Which of the streams is that of a recording. Raises KeyError if there is none."""
        at = row if self._dense else int(np.searchsorted(self._rows, row))
        if not (0 <= at < len(self._rows) and self._rows[at] == row):
            raise KeyError(row)
        return at

    def __contains__(self, row: int) -> bool:
        if self._dense:
            return 0 <= row < len(self._rows)
        at = int(np.searchsorted(self._rows, row))
        return at < len(self._rows) and bool(self._rows[at] == row)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def timed(self) -> bool:
        """Whether steps carry their own times."""
        return self._timed

    @property
    def has_checksums(self) -> bool:
        """Whether it says what its files were written as."""
        return bool(self._sha256)

    @property
    def size_elsewhere(self) -> int:
        """Bytes of its files that do not lie in a folder of this machine; 0 where all do."""
        return 0 if self._elsewhere is None else self._elsewhere.size

    @property
    def rows(self) -> NDArray[np.int64]:
        """Recordings that have this modality, in order."""
        return self._rows

    @property
    def shards(self) -> NDArray[np.int64]:
        """The shard in which each of them lies."""
        return self._places[:, 0]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each of them."""
        return self._places[:, 2]

    def length(self, row: int) -> int:
        """Steps of one recording."""
        return self._place(row)[2]

    def values(self, row: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Steps `start` to `stop` of one recording, [T, ...]; a view of the file."""
        shard, offset, length = self._place(row)
        stop = length if stop is None else min(stop, length)
        return self._shards[shard]["values"][offset + start : offset + stop]

    def times(self, row: int) -> NDArray[np.float64] | None:
        """Start and end of every step in seconds, [T, 2], where steps carry their own times."""
        if not self._timed:
            return None
        shard, offset, length = self._place(row)
        return self._shards[shard]["times"][offset : offset + length]

    def seconds(self, row: int) -> float:
        """How long one recording is in this modality; 0 without a time axis."""
        if self._seconds is not None:
            return float(self._seconds[self._at(row)])
        times = self.times(row)
        if times is not None:
            return float(times[:, 1].max()) if len(times) else 0.0
        return self.length(row) / self.layout.rate if self.layout.rate else 0.0

    def durations(self) -> NDArray[np.float64]:
        """How long each of `rows` is in this modality, in seconds; 0 without a time axis."""
        if self._seconds is not None:
            return self._seconds
        if self._timed:
            return np.array([self.seconds(row) for row in self._rows.tolist()], np.float64)
        return self.lengths / self.layout.rate if self.layout.rate else np.zeros(len(self._rows))


def extremes(stores: Sequence[Store], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shortest and the longest that each of so many recordings is in some modalities, in seconds; infinity and 0 where it has none."""
    least, most = np.full(count, np.inf), np.zeros(count)
    for store in stores:
        seconds = store.durations()
        least[store.rows] = np.minimum(least[store.rows], seconds)
        most[store.rows] = np.maximum(most[store.rows], seconds)
    return least, most


def shard_of(stores: Sequence[Store], rows: Sequence[int]) -> NDArray[np.int64] | None:
    """In which shard each recording lies, of the modality that has the most; one that it lacks lies where the one before it does.

    None where no modality has a recording.
    """
    store = max((store for store in stores if len(store)), key=lambda store: int(store.shards.max()), default=None)
    if store is None:
        return None
    at = np.searchsorted(store.rows, np.asarray(rows, np.int64), side="right") - 1
    return store.shards[np.maximum(at, 0)].astype(np.int64)


class Streams:
    """One modality's streams in memory, read as those of a Store are.

    streams  of the first recordings, in their order; None where one lacks it
    """

    def __init__(self, layout: Layout, streams: Sequence[NDArray[Any] | Timed | None] = ()) -> None:
        self.layout = layout
        self._streams: dict[int, NDArray[Any] | Timed] = {}
        for row, stream in enumerate(streams):
            if stream is not None:
                self.add(row, stream)

    def add(self, row: int, stream: NDArray[Any] | Timed) -> None:
        """Keep the stream of recording `row`."""
        self._streams[row] = stream if isinstance(stream, Timed) or self.layout.timed else np.asarray(stream)[None]

    def __contains__(self, row: int) -> bool:
        return row in self._streams

    def _whole(self, row: int) -> NDArray[Any]:
        stream = self._streams[row]
        return np.asarray(stream.values if isinstance(stream, Timed) else stream)

    def length(self, row: int) -> int:
        """Steps of one recording."""
        return len(self._whole(row))

    def values(self, row: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Steps `start` to `stop` of one recording, [T, ...]."""
        return self._whole(row)[start:stop]

    def times(self, row: int) -> NDArray[np.float64] | None:
        """Start and end of every step in seconds, [T, 2], where steps carry their own times."""
        stream = self._streams[row]
        return np.asarray(stream.times, np.float64) if isinstance(stream, Timed) else None

    def seconds(self, row: int) -> float:
        """How long one recording is in this modality; 0 without a time axis."""
        times = self.times(row)
        if times is not None:
            return float(times[:, 1].max()) if len(times) else 0.0
        return self.length(row) / self.layout.rate if self.layout.rate else 0.0


def shard_name(shard: int) -> str:
    """The file of one shard."""
    return f"shard-{shard:05d}.safetensors"


def few_blocks(path: Path) -> str:
    """A digest of a file's size and of BLOCKS of its blocks, the first and the last among them: quick, whatever the size.

    Raises OSError and StageError as `open_file` does.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        hashed = hashlib.sha256(str(size).encode())
        for start in sorted({int(at) for at in np.linspace(0, max(0, size - BLOCK), BLOCKS)}):
            file.seek(start)
            hashed.update(file.read(BLOCK))
    return hashed.hexdigest()


_KINDS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def mapped(path: Path) -> Arrays:
    """The arrays of a safetensors file, memory-mapped: nothing is read until it is used.

    Raises StageError if the file is cut short or no safetensors file: sizes and offsets are held against the file before anything is mapped.
    """
    try:
        with open_file(path) as file:
            return mapped_file(file, path)
    except OSError as error:
        raise StageError(f"{path}: is not a whole safetensors file ({error})") from error


def mapped_file(file: BufferedReader, path: Path) -> Arrays:
    """The same of a file that is open, at its beginning. The map holds the open file for as long as one of the arrays is used."""
    try:
        there = os.fstat(file.fileno()).st_size
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= min(there - 8, HEADER_BYTES):
            raise ValueError(f"its header would have {size:,} bytes" if there > 8 else "cut short")
        entries = parsed(file.read(size).decode())
        if not isinstance(entries, dict):
            raise ValueError("its header is no object")
        places = {name: _place(entry, there - 8 - size) for name, entry in entries.items() if name != "__metadata__"}
        whole = np.memmap(file, np.uint8, mode="r", offset=8 + size) if there > 8 + size else np.zeros(0, np.uint8)
        return {name: whole[first:last].view(kind).reshape(shape) for name, (first, last, kind, shape) in places.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StageError(f"{path}: is not a whole safetensors file ({error})") from error


def _place(entry: Any, there: int) -> tuple[int, int, str, tuple[int, ...]]:
    """First and last byte of an array, its type and shape. Raises ValueError, KeyError or TypeError where they don't agree.

    there  bytes behind the header
    """
    (first, last), kind, shape = entry["data_offsets"], _KINDS[entry["dtype"]], entry["shape"]
    if not isinstance(shape, list) or len(shape) > 32 or any(type(n) is not int or not 0 <= n <= LONGEST for n in shape):
        raise ValueError(f"an array's shape is {str(shape)[:80]}")
    if type(first) is not int or type(last) is not int or not 0 <= first <= last <= there:
        raise ValueError("cut short")
    if math.prod(shape) * np.dtype(kind).itemsize != last - first:
        raise ValueError(f"an array of the shape {shape} would not have {last - first:,} bytes")
    return first, last, kind, tuple(shape)
