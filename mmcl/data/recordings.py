"""Recordings in columns, which are read where they lie: a million of them cost what their bytes take.

    id                      a table of strings: `id.bytes`, UTF-8 end to end, and `id.starts` [n + 1], where each begins
    group, split            `group.names`, a table of strings, and `group` [n], each recording's place in it; -1: it has none
    sources, targets        tables of the names of sources and of tasks
    source.NAME             a table of strings and `source.NAME.there` [n]
    target.NAME             `.kind` [n], `.starts` [n + 1], and `.numbers`, float64 end to end
    facts                   a table of strings, each a JSON object; empty: none

A recording becomes an object when somebody asks for it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import SampleRef
from ..api.errors import DataError, StageError
from ..runs import Listing
from ..shapes import parsed
from .growing import Numbers, Spool

Arrays = dict[str, NDArray[Any]]

NONE, INT, FLOAT, INTS, FLOATS = range(5)
"""What a target is: missing, a number, or a list of numbers, of which NaN is one that is not known."""
WHOLE = 2**53
"""A whole number beyond it cannot be kept."""


class Rows(Sequence[int], Listing):
    """Rows of a fold in an array; to whoever reads them, a tuple of numbers."""

    __slots__ = ("array",)

    def __init__(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        self.array: NDArray[np.integer[Any]] = np.asarray(rows, np.int32)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> int | Rows:
        return Rows(self.array[place]) if isinstance(place, slice) else int(self.array[place])

    def __iter__(self) -> Iterator[int]:
        for first in range(0, len(self.array), 2**14):
            yield from self.array[first : first + 2**14].tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=np.int64 if dtype is None else dtype)

    def __add__(self, other: Sequence[int]) -> Rows:
        return Rows(np.concatenate([self.array, np.asarray(other, np.int32)]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and bool(np.array_equal(self.array, np.asarray(other, np.int64)))

    def __hash__(self) -> int:
        return hash(self.array.tobytes())

    def __repr__(self) -> str:
        return f"Rows({self.array[:6].tolist()}{'…' if len(self) > 6 else ''})"

    def tolist(self) -> list[int]:
        """Plain numbers, for JSON."""
        rows: list[int] = self.array.tolist()
        return rows


class Strings:
    """A table of strings while it grows: `NAME.bytes`, UTF-8 end to end, and `NAME.starts`, where each begins."""

    def __init__(self) -> None:
        self.bytes, self.starts = Spool(), Numbers("q")
        self.starts.append(0)

    def add(self, text: str) -> None:
        """Add one."""
        self.bytes.add(text.encode("utf-8", "surrogatepass"))  # a name of a file may be any bytes
        self.starts.append(len(self.bytes))

    def arrays(self, name: str) -> Arrays:
        """Its columns. Nothing may be added after that."""
        return {f"{name}.bytes": self.bytes.array(), f"{name}.starts": self.starts.array()}


class _Names:
    """Texts of which few differ, while they grow."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.places = Numbers("i")

    def add(self, text: str | None) -> None:
        self.places.append(-1 if text is None else self.names.setdefault(text, len(self.names)))

    def arrays(self, name: str) -> Arrays:
        table = Strings()
        for text in self.names:
            table.add(text)
        return {name: self.places.array(), **table.arrays(f"{name}.names")}


class _Sources:
    """Where one source lies, while it grows."""

    def __init__(self, before: int) -> None:
        self.table, self.there = Strings(), Numbers("B")
        self.there.fill(0, before)
        self.table.starts.fill(0, before)

    def add(self, where: str | None) -> None:
        self.there.append(where is not None)
        self.table.add(where or "")

    def arrays(self, name: str) -> Arrays:
        return {f"{name}.there": self.there.array(), **self.table.arrays(name)}


class _Targets:
    """One task's labels, while they grow."""

    def __init__(self, task: str, before: int) -> None:
        self.task = task
        self.kinds, self.starts, self.numbers = Numbers("B"), Numbers("q"), Numbers("d")
        self.kinds.fill(NONE, before)
        self.starts.fill(0, before + 1)

    def add(self, value: Any, id: str) -> None:
        kind, numbers = NONE, []
        if isinstance(value, list | tuple):
            numbers = [math.nan if one is None else one for one in value]
            kind = INTS if all(one is None or isinstance(one, Integral) for one in value) else FLOATS
        elif value is not None:
            numbers, kind = [value], INT if isinstance(value, Integral) else FLOAT
        try:
            self.numbers.extend([float(one) for one in numbers])
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"recording '{id}': its label of '{self.task}' is {value!r:.80}; numbers were expected") from None
        if kind in (INT, INTS) and any(abs(one) > WHOLE for one in numbers if one == one):
            raise DataError(f"recording '{id}': its label of '{self.task}' is {value!r:.80}; whole numbers go up to 2^53")
        self.kinds.append(kind)
        self.starts.append(len(self.numbers))

    def arrays(self, name: str) -> Arrays:
        return {
            f"{name}.kind": self.kinds.array(),
            f"{name}.starts": self.starts.array(),
            f"{name}.numbers": self.numbers.array(),
        }


def columns_of(samples: Iterable[SampleRef]) -> Arrays:
    """The columns of recordings, which are gone through once. Raises DataError for a label that is no number."""
    ids, groups, splits, facts = Strings(), _Names(), _Names(), Strings()
    sources: dict[str, _Sources] = {}
    targets: dict[str, _Targets] = {}
    for row, sample in enumerate(samples):
        ids.add(sample.id)
        groups.add(sample.group or "")
        splits.add(sample.split)
        facts.add(json.dumps(dict(sample.facts), default=str) if sample.facts else "")
        for name in sample.sources:
            if name not in sources:
                sources[name] = _Sources(row)
        for name, where in sources.items():
            where.add(sample.sources.get(name))
        for name in sample.targets:
            if name not in targets:
                targets[name] = _Targets(name, row)
        for name, values in targets.items():
            values.add(sample.targets.get(name), sample.id)
    names = {"sources": Strings(), "targets": Strings()}
    for kind, known in (("sources", sources), ("targets", targets)):
        for name in known:
            names[kind].add(name)
    columns = {**names["sources"].arrays("sources"), **names["targets"].arrays("targets")}
    columns |= {**ids.arrays("id"), **groups.arrays("group"), **splits.arrays("split"), **facts.arrays("facts")}
    for name, where in sources.items():
        columns |= where.arrays(f"source.{name}")
    for name, values in targets.items():
        columns |= values.arrays(f"target.{name}")
    return columns


def check_numbers(values: NDArray[Any], name: str, least: int, most: int) -> None:
    """Raise ValueError unless an array is a row of whole numbers within bounds."""
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"'{name}' is {values.dtype} {list(values.shape)}")
    if len(values) and not least <= int(values.min()) <= int(values.max()) <= most:
        raise ValueError(f"'{name}' reaches from {int(values.min())} to {int(values.max())}, beyond {least} to {most}")


def text_of(columns: Arrays, name: str, place: int, where: str) -> str:
    """An entry of a table of strings. Raises StageError, which begins with `where`, if it is no text."""
    starts = columns[f"{name}.starts"]
    held: bytes = columns[f"{name}.bytes"][starts[place] : starts[place + 1]].tobytes()
    try:
        return str(held, "utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise StageError(f"{where}: '{name}' of recording {place} is no text ({error})") from error


class Recordings(Sequence[SampleRef]):
    """Recordings out of columns, each of which becomes an object when it is asked for.

    columns  as `columns_of` gives them
    where    what an error names

    Raises ValueError or KeyError if the columns do not fit together.
    """

    def __init__(self, columns: Arrays, where: str = "recordings") -> None:
        self.columns, self.where = columns, where
        self._count = len(columns["id.starts"]) - 1
        self.sources, self._targets = self._names("sources"), self._names("targets")
        self._table("id")
        self._table("facts")
        for name in ("group", "split"):
            names = self._table(f"{name}.names", None)
            check_numbers(self._column(name), name, -1 if name == "split" else 0, names - 1)
        for name in self.sources:
            self._table(f"source.{name}")
            self._column(f"source.{name}.there")
        for name in self._targets:
            self._table(f"target.{name}", numbers=".numbers")
            check_numbers(self._column(f"target.{name}.kind"), name, NONE, FLOATS)

    @classmethod
    def of(cls, samples: Iterable[SampleRef]) -> Recordings:
        """The same recordings in columns in memory."""
        return samples if isinstance(samples, cls) else cls(columns_of(samples))

    def _column(self, name: str) -> NDArray[Any]:
        column = self.columns[name]
        if column.shape != (self._count,):
            raise ValueError(f"'{name}' has the shape {list(column.shape)}, where there are {self._count} recordings")
        return column

    def _table(self, name: str, count: int | None = -1, numbers: str = ".bytes") -> int:
        """How many entries a table has: as many as there are recordings, unless `count` is None. Raises ValueError if it is none."""
        starts, held = self.columns[f"{name}.starts"], self.columns[f"{name}{numbers}"]
        entries = len(starts) - 1
        if entries < 0 or (count is not None and entries != self._count):
            raise ValueError(f"'{name}' has {entries} entries, where there are {self._count} recordings")
        check_numbers(starts, name, 0, len(held))
        if held.ndim != 1 or held.dtype != (np.uint8 if numbers == ".bytes" else np.float64):
            raise ValueError(f"'{name}{numbers}' is {held.dtype} {list(held.shape)}")
        if starts[0] != 0 or starts[-1] != len(held) or not bool((starts[1:] >= starts[:-1]).all()):
            raise ValueError(f"'{name}' does not begin one entry where the one before it ends")
        return entries

    def _text(self, name: str, place: int) -> str:
        return text_of(self.columns, name, place, self.where)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> SampleRef: ...
    @overload
    def __getitem__(self, place: slice) -> list[SampleRef]: ...
    def __getitem__(self, place: int | slice) -> SampleRef | list[SampleRef]:
        if isinstance(place, slice):
            return [self[row] for row in range(self._count)[place]]
        row = range(self._count)[place]  # IndexError beyond the last
        sources = {name: where for name in self.sources if (where := self.source(name, row)) is not None}
        return SampleRef(self.id(row), self.group(row), sources, self.targets(row), self.split(row), self.facts(row))

    def __iter__(self) -> Iterator[SampleRef]:
        return (self[row] for row in range(self._count))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recordings):
            return NotImplemented
        return self.columns.keys() == other.columns.keys() and all(
            np.array_equal(one, other.columns[name], equal_nan=one.dtype.kind == "f") for name, one in self.columns.items()
        )

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that is compared by what it holds

    def id(self, row: int) -> str:
        """A recording's id."""
        return self._text("id", row)

    def _names(self, name: str) -> tuple[str, ...]:
        return tuple(self._text(name, place) for place in range(self._table(name, None)))

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The names of all groups."""
        return self._names("group.names")

    def group(self, row: int) -> str:
        """A recording's group."""
        return self.groups[int(self.columns["group"][row])]

    def twice(self) -> str | None:
        """An id that two recordings have; None where there is none."""
        hashes = np.fromiter((hash(self.id(row)) for row in range(self._count)), np.int64, self._count)
        hashes.sort()
        alike = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not alike:
            return None
        suspects = Counter(id for id in map(self.id, range(self._count)) if hash(id) in alike)
        return next((id for id, count in suspects.items() if count > 1), None)

    def codes(self, rows: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
        """The place of each recording's group among `groups`."""
        codes: NDArray[np.int32] = self.columns["group"][np.asarray(rows, np.int64)]
        return codes

    def split_codes(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        """The place of each recording's official split among those that there are; −1: it has none."""
        codes: NDArray[np.int32] = self.columns["split"][rows]
        return codes

    def split(self, row: int) -> str | None:
        """A recording's official split."""
        place = int(self.columns["split"][row])
        return None if place < 0 else self._text("split.names", place)

    def source(self, name: str, row: int) -> str | None:
        """Where a source of a recording lies; None where it has none."""
        there = self.columns.get(f"source.{name}.there")
        return self._text(f"source.{name}", row) if there is not None and there[row] else None

    def having(self, source: str) -> NDArray[np.intp]:
        """The rows of the recordings that have a source."""
        there = self.columns.get(f"source.{source}.there")
        return np.zeros(0, np.intp) if there is None else np.flatnonzero(there)

    def facts(self, row: int) -> Mapping[str, Any]:
        """What else is known of a recording."""
        text = self._text("facts", row)
        try:
            facts = parsed(text) if text else {}
        except ValueError as error:
            raise StageError(f"{self.where}: the facts of recording {row} cannot be read as JSON ({error})") from error
        if not isinstance(facts, dict):
            raise StageError(f"{self.where}: the facts of recording {row} are no object")
        return facts

    def targets(self, row: int) -> dict[str, Any]:
        """A recording's labels, by task."""
        return {name: value for name in self._targets if (value := self.target(name, row)) is not None}

    def target(self, task: str, row: int) -> int | float | list[int] | list[float] | None:
        """A recording's label of a task; None where it has none."""
        if task not in self._targets:
            return None
        kind = int(self.columns[f"target.{task}.kind"][row])
        starts = self.columns[f"target.{task}.starts"]
        numbers = self.columns[f"target.{task}.numbers"][starts[row] : starts[row + 1]].tolist()
        if kind in (INT, FLOAT) and len(numbers) != 1:
            raise StageError(f"{self.where}: the label '{task}' of recording {row} is {len(numbers)} numbers, and not one")
        if kind == NONE:
            return None
        number = int if kind in (INT, INTS) else float
        known: list[Any] = [None if math.isnan(one) else number(one) for one in numbers]
        return known[0] if kind in (INT, FLOAT) else known
