"""Whose features lie in a file: <split>.safetensors beside it, ids, groups, labels and facts in columns (`recordings.py`).

An older mmcl wrote <split>.json, a list of each, which is read as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..runs import read_json, write_arrays
from .recordings import Recordings
from .store import mapped


class Each(Sequence[Any]):
    """One thing that is known of each recording, looked up when it is asked for."""

    def __init__(self, count: int, of: Callable[[int], Any]) -> None:
        self._count, self._of = count, of

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self._of(row) for row in range(self._count)[place]]
        return self._of(range(self._count)[place])  # IndexError beyond the last

    def __iter__(self) -> Iterator[Any]:
        return map(self._of, range(self._count))


class Whose(Mapping[str, Sequence[Any]]):
    """Whose the features of a split are: `ids`, `groups`, `targets` and `facts`, in their order.

    rows  of these recordings alone; left out: of all
    """

    NAMES = ("ids", "groups", "targets", "facts")

    def __init__(self, samples: Recordings, rows: NDArray[np.intp] | None = None) -> None:
        self._samples = samples
        self._rows = np.arange(len(samples)) if rows is None else rows

    def __getitem__(self, name: str) -> Sequence[Any]:
        of = {
            "ids": self._samples.id,
            "groups": self._samples.group,
            "targets": self._samples.targets,
            "facts": self._samples.facts,
        }
        rows, value = self._rows, of[name]
        return Each(len(rows), lambda place: value(int(rows[place])))

    def __iter__(self) -> Iterator[str]:
        return iter(self.NAMES)

    def __len__(self) -> int:
        return len(self.NAMES)

    def within(self, rows: NDArray[np.bool_]) -> Whose:
        """Some of them."""
        return Whose(self._samples, self._rows[rows])


def write_whose(folder: Path, split: str, samples: Recordings, rows: Sequence[int]) -> None:
    """Write whose features lie beside it; the recordings `rows` of the samples, in this order."""
    mine = Recordings.of(
        SampleRef(samples.id(row), samples.group(row), {}, samples.targets(row), None, samples.facts(row)) for row in rows
    )
    write_arrays(folder / f"{split}.safetensors", mine.columns)


def has_whose(folder: Path, split: str) -> bool:
    """Whether it is written there whose features those of a split are."""
    return any((folder / f"{split}{end}").exists() for end in (".safetensors", ".json"))


def read_whose(folder: Path, split: str) -> Whose:
    """Whose the features of a split are. Raises StageError if nobody says so, or the file is damaged."""
    path, older = folder / f"{split}.safetensors", folder / f"{split}.json"
    try:
        if older.exists() and not path.exists():
            kept = read_json(older)
            lists = (kept["ids"], kept["groups"], kept["targets"], kept.get("facts") or [{}] * len(kept["ids"]))
            return Whose(
                Recordings.of(
                    SampleRef(id, group, {}, targets, None, facts) for id, group, targets, facts in zip(*lists, strict=True)
                )
            )
        if not path.exists():
            raise StageError(f"{path}: is missing; run its recipe again (`mmcl run`), which makes it anew")
        return Whose(Recordings(mapped(path), str(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{older if older.exists() and not path.exists() else path}: does not hold what it should ({error}); run its recipe again (`mmcl run`), which makes it anew"
        ) from error
