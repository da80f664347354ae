"""Predictions in columns: predictions.safetensors beside predictions.jsonl, which people read, and which it is the same as.

    ids                 a table of strings, `ids.bytes` and `ids.starts`: the recordings
    ways                a table of JSON objects: what rows of one way of predicting begin with (task, input, head, encoder, fold, seed …)
    segments            int64 [segments, 4]: of rows that follow each other their way, how many they are, how many numbers a target and a
                        prediction have; −1: a single number
    places              int32 [rows], each row's recording among the ids
    target, prediction  float64, end to end; NaN is one that is not known
    lines               the digest of predictions.jsonl as it was written

Where the lines are of another state, or nothing but they is there, as in a run of an older mmcl, they are what is read.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import StageError
from ..runs import JsonObject, digest, each_jsonl, lines_in_parts, write_arrays
from ..shapes import parsed, shape_of
from .growing import Spool
from .recordings import Arrays, Strings, check_numbers, text_of
from .store import mapped

LINES, COLUMNS = "predictions.jsonl", "predictions.safetensors"
ALONE = -1
"""In place of a count of numbers: it is a single one, and not a list of one."""

Floats = NDArray[np.float64]


class Recorded:
    """The recordings that some predictions are of, by their places."""

    def __init__(self, columns: Arrays, where: str) -> None:
        self._columns, self._where = columns, where

    def __len__(self) -> int:
        return len(self._columns["ids.starts"]) - 1

    def id(self, place: int) -> str:
        """A recording's id."""
        return text_of(self._columns, "ids", place, self._where)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """A number for each recording, the same for the same id in every file and every process.

        It is a digest of 64 bits: that any two of a million recordings share one is as likely as 3 in 10⁸.
        """
        return np.fromiter((key_of(self.id(place)) for place in range(len(self))), np.int64, len(self))


def key_of(id: str) -> int:
    """The number of a recording of this id, as `Recorded.keys` has it."""
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class Way:
    """What one head predicts of recordings, from one input, in one fold and with one seed.

    about               what its rows begin with: task, input, head, encoder, fold, seed …
    places              int32 [n], among `recorded`
    target, prediction  float64 [n], or [n, numbers] where each is a list; NaN: not known
    """

    about: JsonObject
    recorded: Recorded
    places: NDArray[np.int32]
    target: Floats
    prediction: Floats

    def __len__(self) -> int:
        return len(self.places)

    @property
    def ids(self) -> Iterator[str]:
        """Each row's recording."""
        return map(self.recorded.id, self.places.tolist())

    @property
    def keys(self) -> NDArray[np.int64]:
        """A number for each row's recording, as `Recorded` has it."""
        return self.recorded.keys[self.places]


class Growing:
    """Columns of predictions while they grow; what is held does not grow with them.

    ids  the recordings that rows name by their places; left out: those that `append` is told of
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids, self._ways = Strings(), Strings()
        for id in ids:
            self._ids.add(id)
        self._known: dict[str, int] = {}  # id → place, of `append`
        self._numbers: dict[str, int] = {}  # way → its number
        self._segments = array("q")
        self._places, self._target, self._prediction = Spool(), Spool(), Spool()

    def add(self, about: Mapping[str, Any], places: NDArray[Any], target: NDArray[Any], prediction: NDArray[Any]) -> None:
        """Rows of one way; arrays as a Way has them."""
        if not len(places):
            return
        widths = [ALONE if values.ndim == 1 else values.shape[1] for values in (target, prediction)]
        self._begin(about, len(places), *widths)
        for spool, values, kind in (
            (self._places, places, "<i4"),
            (self._target, target, "<f8"),
            (self._prediction, prediction, "<f8"),
        ):
            spool.add(np.ascontiguousarray(values, kind).reshape(-1).view("u1").data)

    def append(self, row: Mapping[str, Any]) -> None:
        """One row of predictions.jsonl. Raises TypeError or ValueError if a target or a prediction is neither a number nor some."""
        place = self._known.get(row["id"])
        if place is None:
            place = self._known[row["id"]] = len(self._known)
            self._ids.add(row["id"])
        values = {what: np.array(math.nan if row[what] is None else row[what], np.float64) for what in ("target", "prediction")}
        if any(one.ndim > 1 for one in values.values()):
            raise ValueError(f"what is predicted of '{row['id']}' is no list of numbers")
        about = {name: value for name, value in row.items() if name not in ("id", "target", "prediction")}
        self.add(about, np.array([place]), *(one[None] for one in values.values()))

    def _begin(self, about: Mapping[str, Any], count: int, target: int, prediction: int) -> None:
        text = json.dumps(about, default=str)
        if text not in self._numbers:
            self._numbers[text] = len(self._numbers)
            self._ways.add(text)
        segment = (self._numbers[text], target, prediction)
        if self._segments and (self._segments[-4], self._segments[-2], self._segments[-1]) == segment:
            self._segments[-3] += count
        else:
            self._segments.extend((segment[0], count, *segment[1:]))

    def columns(self) -> Arrays:
        """All of them. Nothing may be added after that."""
        return {
            **self._ids.arrays("ids"),
            **self._ways.arrays("ways"),
            "segments": np.array(self._segments, np.int64).reshape(-1, 4),
            "places": self._places.array("<i4"),
            "target": self._target.array("<f8"),
            "prediction": self._prediction.array("<f8"),
        }


Predict = Callable[[Iterable[Mapping[str, Any]], Mapping[str, Any], NDArray[Any], NDArray[Any], NDArray[Any]], None]
"""Adds rows of one way: as lines, what they begin with, and as columns."""


@contextmanager
def predictions_in_parts(folder: Path, ids: Iterable[str]) -> Iterator[Predict]:
    """Write predictions.jsonl and predictions.safetensors, each whole or not at all: a function that adds rows, which are then forgotten.

    ids  the recordings that rows name by their places
    """
    growing = Growing(ids)
    with lines_in_parts(folder / LINES) as lines:

        def predict(
            rows: Iterable[Mapping[str, Any]],
            about: Mapping[str, Any],
            places: NDArray[Any],
            target: NDArray[Any],
            prediction: NDArray[Any],
        ) -> None:
            lines(rows)
            growing.add(about, places, target, prediction)

        yield predict
    state = np.frombuffer(digest(folder / LINES).encode(), np.uint8)
    write_arrays(folder / COLUMNS, {**growing.columns(), "lines": state})


def read_predictions(folder: Path) -> list[Way]:
    """What a stage predicted in one fold and with one seed, mapped; rows of one way that do not follow each other are several ways.

    Raises StageError if the files are missing or damaged.
    """
    lines, path = folder / LINES, folder / COLUMNS
    if path.is_file():
        columns = mapped(path)
        state = columns.get("lines")
        if state is not None and state.dtype == np.uint8 and state.tobytes() == digest(lines).encode():
            return _ways(columns, path)
    growing = Growing()
    for row in each_jsonl(lines):
        try:
            growing.append(row)
        except (TypeError, ValueError) as error:
            raise StageError(f"{lines}: does not hold what it should ({error}); run its recipe again (`mmcl run`)") from error
    return _ways(growing.columns(), lines)


def _ways(columns: Arrays, path: Path) -> list[Way]:
    """The ways that columns hold. Raises StageError if these do not fit together."""
    try:
        return [*_segments(columns, str(path))]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StageError(f"{path}: does not hold what it should ({error}); run its recipe again (`mmcl run`)") from error


def _segments(columns: Arrays, where: str) -> Iterator[Way]:
    for name in ("ids", "ways"):
        _check_table(columns, name)
    ids, ways = (len(columns[f"{name}.starts"]) - 1 for name in ("ids", "ways"))
    check, abouts = shape_of(Path(LINES)), []
    for place in range(ways):
        about = parsed(text_of(columns, "ways", place, where))
        if not isinstance(about, dict):
            raise ValueError(f"way {place} is no object")
        if check is not None:
            check({**about, "id": "", "target": None, "prediction": None})
        abouts.append(about)
    segments, places = columns["segments"], columns["places"]
    if segments.ndim != 2 or segments.shape[1] != 4 or segments.dtype.kind != "i":
        raise ValueError(f"'segments' is {segments.dtype} {list(segments.shape)}")
    check_numbers(places, "places", 0, ids - 1)
    recorded, ends = Recorded(columns, where), dict.fromkeys(("places", "target", "prediction"), 0)
    for way, count, *widths in segments.tolist():
        if not (0 <= way < ways and 0 <= count <= len(places) and all(ALONE <= width <= 2**24 for width in widths)):
            raise ValueError(f"a segment is {[way, count, *widths]}")
        parts = {}
        for name, width in zip(ends, (ALONE, *widths), strict=True):
            whole, first = columns[name], ends[name]
            ends[name] = last = first + count * (1 if width == ALONE else width)
            if whole.ndim != 1 or last > len(whole) or (name != "places" and whole.dtype != np.float64):
                raise ValueError(f"'{name}' is {whole.dtype} {list(whole.shape)}")
            parts[name] = whole[first:last] if width == ALONE else whole[first:last].reshape(count, width)
        yield Way(abouts[way], recorded, **parts)
    if any(end != len(columns[name]) for name, end in ends.items()):
        raise ValueError("there are other rows than its segments have")


def _check_table(columns: Arrays, name: str) -> None:
    """Raise ValueError unless a table of strings is one."""
    starts, held = columns[f"{name}.starts"], columns[f"{name}.bytes"]
    check_numbers(starts, name, 0, len(held))
    if held.ndim != 1 or held.dtype != np.uint8 or not len(starts) or starts[0] != 0 or starts[-1] != len(held):
        raise ValueError(f"'{name}' is no table of strings")
    if not bool((starts[1:] >= starts[:-1]).all()):
        raise ValueError(f"'{name}' does not begin one entry where the one before it ends")


def distinct(ways: Sequence[Way]) -> int:
    """How many recordings rows are of, each counted once."""
    return len(np.unique(np.concatenate([way.keys for way in ways]))) if ways else 0
