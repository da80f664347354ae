"""Computational sequences (.csd, HDF5): chosen by the name of their root group, opened once a process, aligned by the SDK or not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError

USUAL = {
    "labels": (re.compile(r"label", re.I), ("all labels", "opinion segment labels")),
    "glove": (re.compile(r"glove|word ?vectors", re.I), ("glove vectors",)),
    "words": (re.compile(r"^words([ _]with[ _]sp)?$|timestampedwords$", re.I), ("words",)),
    "covarep": (re.compile(r"covarep", re.I), ("covarep",)),
    "facet": (re.compile(r"facet", re.I), ("facet 4.2",)),
    "openface": (re.compile(r"openface[_ ]?2", re.I), ("openface 2",)),
}
"""Source → its name in any of its spellings, and the names that are meant where there are several."""

_ALIGNED = re.compile(r"(.+)\[(\d+)\]")
"""The SDK's name of a segment after alignment: the video, and the row of what was aligned to."""

Rows = tuple[NDArray[Any], NDArray[np.float64]]
"""Features and intervals, in seconds, of one video."""


class Sequences:
    """The sequences below one folder that a dataset's sources read."""

    def __init__(self, root: Path, asked: Mapping[str, str]) -> None:
        """Finds the file of each source. asked: source → name of its sequence, where the recipe says one.

        Raises DataError if a file is damaged, a sequence that is asked for is missing, or several could be meant.
        """
        named: dict[str, Path] = {}
        for path in sorted(root.rglob("*.csd")):
            if (name := _root_name(path)) in named:
                raise DataError(f"{path}: holds '{name}', as {named[name]} does; keep one of them below {root}")
            named[name] = path
        self.files: dict[str, Path] = {}
        self.names: dict[str, str] = {}  # source → its sequence
        for source in dict.fromkeys((*USUAL, *asked)):
            name = (
                asked[source] if source in asked else self._usual(source, [n for n in named if n not in asked.values()], root)
            )
            if name is None:
                continue
            if name not in named:
                raise DataError(f"{root}: has no computational sequence '{name}'; it has {', '.join(sorted(named)) or 'none'}")
            self.files[source], self.names[source] = named[name], name
        self.unread = sorted(set(named) - set(self.names.values()))
        self._open: tuple[int, dict[str, tuple[Any, dict[str, list[tuple[int, str]]]]]] = (0, {})

    def _usual(self, source: str, names: list[str], root: Path) -> str | None:
        """The sequence that a source means where the recipe does not say; None where there is none."""
        pattern, meant = USUAL[source]
        fitting = sorted(name for name in names if pattern.search(name))
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        chosen = [name for name in fitting if re.sub("[_ ]+", " ", name).strip().lower() in meant]
        if len(chosen) != 1:
            raise DataError(
                f"{root}: has {' and '.join(fitting)}; say which is read, as in dataset.sequences: "
                f"{{{source}: {{name: {fitting[0]}}}}}, or keep one of them"
            )
        return chosen[0]

    def videos(self, source: str) -> Mapping[str, list[tuple[int, str]]]:
        """Video → its entries in the file: the row that the SDK aligned it to, and the entry's name; one of row −1 where it did not."""
        return self._group(source)[1]

    def read(self, source: str, video: str) -> tuple[Rows, list[int]]:
        """All rows of a video, and the number of each: the SDK's where it aligned them, else counted.

        Raises DataError if the video is missing, or has not as many intervals as rows.
        """
        with _damage(self.files[source]):
            return self._read(source, video)

    def _read(self, source: str, video: str) -> tuple[Rows, list[int]]:
        group, videos = self._group(source)
        if video not in videos:
            raise DataError(f"{self.files[source]}: has no video '{video}'")
        parts, numbers = [], []
        for row, name in videos[video]:
            features, intervals = _whole(group[name]["features"]), np.asarray(_whole(group[name]["intervals"]), np.float64)
            if features.ndim != 2 or intervals.shape[1:] != (2,):
                raise DataError(
                    f"{self.files[source]}: video '{name}' has features of the shape {list(features.shape)} and intervals of {list(intervals.shape)}; "
                    "[rows, columns] and [rows, 2] were expected"
                )
            if len(features) != len(intervals):
                raise DataError(f"{self.files[source]}: video '{name}' has {len(features)} rows and {len(intervals)} intervals")
            parts.append((features, intervals))
            numbers += list(range(len(features))) if row < 0 else [row] * len(features)
        features, intervals = (np.concatenate(column) for column in zip(*parts, strict=True))
        return (features, intervals), numbers

    def column_names(self, source: str) -> list[str]:
        """Names of a sequence's columns, where the file says them; none elsewhere."""
        import h5py

        with _damage(self.files[source]), h5py.File(self.files[source], "r") as file:
            dimensions = file[next(iter(file))].get("metadata", {}).get("dimension names")
            if dimensions is None:
                return []
            try:
                return [str(name).strip() for name in json.loads(np.asarray(dimensions).ravel()[0])]
            except (ValueError, TypeError, IndexError):
                return []

    def _group(self, source: str) -> tuple[Any, dict[str, list[tuple[int, str]]]]:
        """The group `data` of a sequence, and which of its entries are of which video. Opened once in each process."""
        import h5py

        if self._open[0] != os.getpid():
            self._open = (os.getpid(), {})
        opened = self._open[1]
        if source not in opened:
            with _damage(self.files[source]):
                file = h5py.File(self.files[source], "r")
                group = file[next(iter(file))]["data"]
                names = list(group)
            videos: dict[str, list[tuple[int, str]]] = {}
            for name in names:
                aligned = _ALIGNED.fullmatch(name)
                entry = (-1, name) if aligned is None else (int(aligned[2]), name)
                videos.setdefault(name if aligned is None else aligned[1], []).append(entry)
            opened[source] = (group, {video: sorted(entries) for video, entries in videos.items()})
        return opened[source]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": (0, {})}


def in_time(
    values: NDArray[np.float32], intervals: NDArray[np.float64], span: tuple[float, float], rate: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A row for each step of a span at a rate, and which of them have no row of their own: those lie on the line between others.

    Rows that are as many a second as promised, without a hole, stay as they are.

    intervals  seconds in which each row stands, in rising order
    span       start and end of what is wanted, in seconds
    """
    middle = intervals.mean(1)
    between = np.diff(middle)
    step = float(np.median(between)) if len(between) else 1 / rate
    hole = max(float(between.max(initial=0.0)), middle[0] - span[0], span[1] - middle[-1])
    if step <= 0 or (abs(step * rate - 1) < 0.01 and hole < 1.5 * step):
        return values, np.zeros(len(values), bool)
    wanted = span[0] + (np.arange(max(1, round((span[1] - span[0]) * rate))) + 0.5) / rate
    after = np.clip(np.searchsorted(middle, wanted), 1, max(1, len(middle) - 1))
    after = np.minimum(after, len(middle) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - middle[before] <= middle[after] - wanted, before, after)
    lost = np.abs(middle[nearest] - wanted) > 0.501 * step
    filled = values[nearest]
    for column in range(values.shape[1]) if lost.any() else ():
        filled[lost, column] = np.interp(wanted[lost], middle, values[:, column])
    return filled, lost


def _root_name(path: Path) -> str:
    import h5py

    with _damage(path), h5py.File(path, "r") as file:
        names = list(file)
        if len(names) != 1 or not isinstance(file[names[0]], h5py.Group) or "data" not in file[names[0]]:
            raise DataError(f"{path}: is no computational sequence: one group with 'data' in it was expected")
        return str(names[0])


def _whole(data: Any) -> NDArray[Any]:
    """All values of a data set. Raises ValueError if it says that it has far more than its file could hold."""
    if not hasattr(data, "shape") or data.size * data.dtype.itemsize > max(2**20, 1000 * data.file.id.get_filesize()):
        raise ValueError("an array that is larger than its file")
    return np.asarray(data)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever HDF5 and h5py stumble over in a damaged file, as one sentence."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError, StopIteration) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{path}: cannot be read as HDF5, so it is damaged or cut short ({first}); copy it again") from error
