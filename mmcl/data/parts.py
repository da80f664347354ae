"""Parts of a store: each holds the streams of some recordings that follow each other, is written by a process of its own, and is whole
or not there. Put together they are the store that one process would have written, to the byte, whoever wrote which part.

    audio-KEY.parts/000000000-000000125/    a store of the recordings 0 to 124 (`store.py`), which says so in store.json
    audio-KEY.parts/.000000000-000000125.lock
    .audio-KEY.lock                         shared by whoever writes a part, held alone by whoever puts the parts together
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..api.errors import PluginError, StageError
from ..api.raw import Timed
from ..runs import locked, read_json
from .store import Store, StoreWriter

PARTS = ".parts"
"""How the name of the folder ends that holds parts."""
_NAME = re.compile(r"(\d{9,})-(\d{9,})")


@dataclass(frozen=True)
class Part:
    """The streams of the recordings `rows`."""

    rows: range
    store: Store


def parts_folder(store: Path) -> Path:
    """Where the parts of a store lie until it is put together: beside it."""
    return store.with_name(f"{store.name}{PARTS}")


def part_folder(store: Path, rows: range) -> Path:
    """The folder of the part that holds some recordings which follow each other; their numbers are its name."""
    return parts_folder(store) / f"{rows.start:09d}-{rows.stop:09d}"


@contextmanager
def part_lock(part: Path) -> Iterator[bool]:
    """Keep a second process from writing a part; whether none does."""
    with locked(part.with_name(f".{part.name}.lock"), wait=False) as mine:
        yield mine


def share_of(number: int, count: int, recordings: int) -> range:
    """The recordings of one of so many shares, counted from 1: they follow each other, and shares differ by one at most."""
    return range((number - 1) * recordings // count, number * recordings // count)


def parts_of(store: Path, key: str, say: Callable[[str], None]) -> list[Part]:
    """The parts of a store that are whole and of this fingerprint, in order; of two that share recordings, the one that begins earlier.

    say  told of each that is neither
    """
    named = [(match, folder) for folder in parts_folder(store).glob("*-*") if (match := _NAME.fullmatch(folder.name))]
    ranges = {folder: range(int(match[1]), int(match[2])) for match, folder in named}
    parts: list[Part] = []
    for folder, rows in sorted(ranges.items(), key=lambda one: (one[1].start, -one[1].stop)):
        if rows and (not parts or rows.start >= parts[-1].rows.stop):
            try:
                part = Part(rows, Store(folder))
                inside = part.store.rows
                if part.store.key != key or (len(inside) and not (inside[0] in rows and inside[-1] in rows)):
                    raise StageError(f"{folder}: holds other streams than its name says")
            except StageError as error:
                say(f"prepare: {error}; they are prepared anew")
                continue
            parts.append(part)
    return parts


def gaps(parts: Iterable[Part], recordings: int) -> list[range]:
    """The recordings that no part holds, those that follow each other together."""
    missing, at = [], 0
    for part in parts:
        missing.append(range(at, part.rows.start))
        at = part.rows.stop
    return [rows for rows in (*missing, range(at, recordings)) if rows]


def merge(store: Path, parts: Sequence[Part], facts: Mapping[str, Any]) -> None:
    """Put a store together of its parts, in their order, and take them away.

    facts  what else its store.json says, beside what was skipped, what is odd and what was counted, which the parts know

    Raises PluginError, as one process would, if no stream could be had and that is a plug-in's own fault.
    """
    writer = StoreWriter(store, parts[0].store.layout)
    try:
        for part in parts:
            _add_all(writer, part.store)
        about = [read_json(part.store.folder / "store.json") for part in parts]
        if not len(writer) and (fault := next((one["fault"] for one in about if one.get("fault")), None)):
            raise PluginError(str(fault))
        counts: dict[str, int] = {}
        for part in parts:
            for name, count in part.store.counts.items():
                counts[name] = counts.get(name, 0) + count
        told = {
            "skipped": [asdict(one) for part in parts for one in part.store.skipped],
            "odd": [asdict(one) for part in parts for one in part.store.odd],
        }
        writer.close({**facts, **told, "counts": counts})
    except BaseException:
        writer.abandon()
        raise
    shutil.rmtree(parts_folder(store))


def _add_all(writer: StoreWriter, part: Store) -> None:
    """Every stream of a part, as it was added there."""
    for row in part.rows.tolist():
        values, times = part.values(row), part.times(row)
        one = values if writer.layout.timed else values[0]
        writer.add(row, one if times is None else Timed(one, times))
