"""Prepared streams on disk: one folder per modality, steps of all recordings end to end, memory-mapped.

    store.json                 layout, dtype, what was skipped and why; written last, so a folder with it is whole
    index.safetensors          row, shard, offset, length of every stream (int64)
    shard-00000.safetensors    values [steps, ...]; times [steps, 2] in seconds where steps carry their own

A window is a slice of the map: the rest of the recording is never read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ..api.errors import StageError
from ..api.kinds import Layout
from ..api.raw import Timed

SHARD_BYTES = 256 * 2**20
"""A shard is closed once it holds this much: large enough to stream, small enough to hold in memory while writing."""


@dataclass(frozen=True)
class Skipped:
    """One stream that could not be had, and the sentence that says why."""

    id: str
    where: str
    reason: str


class StoreWriter:
    """Writes one modality's streams; nothing can be opened before `close`."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder, self.layout = folder, layout
        self.part = folder.with_name(f"{folder.name}.tmp")
        if self.part.exists():
            shutil.rmtree(self.part)
        self.part.mkdir(parents=True)
        self._values: list[NDArray[Any]] = []
        self._times: list[NDArray[np.float64]] = []
        self._bytes = 0
        self._shard = 0
        self._offset = 0
        self._index: list[tuple[int, int, int, int]] = []
        self._timed: bool | None = None

    def add(self, row: int, stream: NDArray[Any] | Timed) -> None:
        """Keep the stream of recording `row`."""
        values = stream.values if isinstance(stream, Timed) else stream
        if not self.layout.timed:
            values = values[None]
        if self._timed is None:
            self._timed = isinstance(stream, Timed)
        self._index.append((row, self._shard, self._offset, len(values)))
        self._values.append(values)
        if isinstance(stream, Timed):
            self._times.append(np.asarray(stream.times, np.float64))
        self._offset += len(values)
        self._bytes += values.nbytes
        if self._bytes >= SHARD_BYTES:
            self._flush()

    def close(self, facts: Mapping[str, Any]) -> None:
        """Write what is left, and put the folder in its place."""
        self._flush()
        index = np.array(sorted(self._index), dtype=np.int64).reshape(-1, 4)
        save_file({"index": index}, str(self.part / "index.safetensors"))
        about = {"format": 1, "layout": self.layout.to_json(), "timed": bool(self._timed), **facts}
        (self.part / "store.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.part.replace(self.folder)

    def abandon(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.part, ignore_errors=True)

    def _flush(self) -> None:
        if not self._values:
            return
        tensors = {"values": np.ascontiguousarray(np.concatenate(self._values))}
        if self._timed:
            tensors["times"] = np.ascontiguousarray(np.concatenate(self._times))
        save_file(tensors, str(self.part / f"shard-{self._shard:05d}.safetensors"))
        self._values, self._times, self._bytes, self._offset = [], [], 0, 0
        self._shard += 1


class Store:
    """One modality's prepared streams, opened for reading. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        try:
            about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            index = load_file(str(folder / "index.safetensors"))["index"]
        except (OSError, ValueError, KeyError) as error:
            raise StageError(f"{folder}: is not a prepared store ({error}); delete it and run again") from error
        self.folder = folder
        self.layout = Layout.from_json(about["layout"])
        self.skipped = tuple(Skipped(**one) for one in about.get("skipped", ()))
        self.counts: dict[str, int] = about.get("counts", {})
        self.key: str = about.get("key", "")
        self._where = {int(row): (int(shard), int(offset), int(length)) for row, shard, offset, length in index}
        shards = sorted({shard for shard, _, _ in self._where.values()})
        maps = [mapped(folder / f"shard-{shard:05d}.safetensors") for shard in shards]
        self._values = [m["values"] for m in maps]
        self._times = [m["times"] for m in maps] if about["timed"] else None

    def __contains__(self, row: int) -> bool:
        return row in self._where

    def __len__(self) -> int:
        return len(self._where)

    @property
    def rows(self) -> Sequence[int]:
        """Recordings that have this modality, in order."""
        return list(self._where)

    def length(self, row: int) -> int:
        """Steps of one recording."""
        return self._where[row][2]

    def values(self, row: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Steps `start` to `stop` of one recording, [T, ...]; a view of the file."""
        shard, offset, length = self._where[row]
        stop = length if stop is None else min(stop, length)
        return self._values[shard][offset + start : offset + stop]

    def times(self, row: int) -> NDArray[np.float64] | None:
        """Start and end of every step in seconds, [T, 2], where steps carry their own times."""
        if self._times is None:
            return None
        shard, offset, length = self._where[row]
        return self._times[shard][offset : offset + length]

    def seconds(self, row: int) -> float:
        """How long one recording is in this modality; 0 without a time axis."""
        times = self.times(row)
        if times is not None:
            return float(times[:, 1].max()) if len(times) else 0.0
        return self.length(row) / self.layout.rate if self.layout.rate else 0.0


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, memory-mapped: nothing is read until it is used.

    Raises StageError if the file is cut short or no safetensors file.
    """
    kinds = {
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
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        whole = np.memmap(path, np.uint8, mode="r", offset=8 + size)
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                if last > len(whole):
                    raise ValueError("cut short")
                arrays[name] = whole[first:last].view(kinds[entry["dtype"]]).reshape(entry["shape"])
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"{path}: is not a whole safetensors file ({error}); delete its folder and run again") from error
    return arrays
