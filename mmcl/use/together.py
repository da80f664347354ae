"""Embedding many recordings side by side: some at a time, in processes of this machine or of a cluster.

Each task calls the function that embeds them one after the other, on recordings that would stand in the same chunks there. It writes what it
has into a folder beside the file that is asked for, and returns nothing but how it went.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..api.errors import MmclError, StageError
from ..engine.places import Engine, Places, Work, hand_out
from ..model.frozen import Features
from ..runs import fingerprint, read_arrays, read_json, write_arrays, write_json
from ..screen import hushed, say
from .embedding import Embedded, Windows, embed_items, joined
from .files import Item, Refused
from .opened import Opened
from .reading import CHUNK

CHUNKS = 256
"""Most tasks: each begins with what a run has learned, once a process."""


@dataclass(frozen=True)
class Order:
    """What every task is asked.

    root     the run folder
    data     folder under which its datasets lie now; None: where the run found them
    unit     fold and seed
    windows  as `embed_items` has them
    learned  stamp of what the run has learned, as this machine sees it
    """

    root: Path
    data: Path | None
    unit: tuple[int, int]
    windows: Windows | None
    learned: str


def embed_together(
    run: Opened,
    items: Sequence[Item],
    unit: tuple[int, int],
    device: str,
    windows: Windows | None,
    engine: Engine,
    jobs: int | None,
    beside: Path,
) -> tuple[Embedded | None, list[Refused]]:
    """The features of some recordings by one fold and seed, to the bit those of `embed_items` with as many threads; None if none could be read.

    engine  where tasks run
    jobs    how many at a time; None: as many as the engine sees fit
    beside  a folder that every machine sees, in which the parts lie meanwhile

    Raises StageError, with its sentence, for what ends a task, where a task ends each process that tries it, and where a machine sees
    other files than this one.
    """
    order = Order(run.run.root, run.data, unit, windows, _learned(run, unit))
    size = max(CHUNK, -(-len(items) // CHUNKS // CHUNK) * CHUNK)
    chunks = [range(k, min(k + size, len(items))) for k in range(0, len(items), size)]
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mmcl-embed-", dir=beside) as folder:
        into = Path(folder).absolute()

        def works(places: Places) -> Iterator[Work]:
            say(f"embed: {len(chunks)} chunks of recordings, {places.count} at a time")
            for rows in chunks:
                some = tuple(items[rows.start : rows.stop])
                arguments = (order, some, _stamp(run, some), _part(into, rows))
                lock = into / f"{rows.start:09d}.task" if engine.elsewhere else None
                yield Work(f"recordings {rows.start + 1} to {rows.stop}", embed_chunk, arguments, lock)

        advice = "run the same command again, with fewer --jobs"
        hand_out(engine, "embed, in chunks", len(chunks), works, jobs, device, into, advice)
        parts, refused = [], []
        for rows in chunks:
            part, without = _read(_part(into, rows), unit)
            refused += without
            if part is not None:
                parts.append(part)
    return joined(parts) if parts else None, refused


def embed_chunk(order: Order, items: Sequence[Item], stamp: str, into: Path, device: str) -> str | None:
    """Embed recordings that follow each other, and write what comes of it; the sentence of what is the user's to mend, if there is one.

    stamp  of the recordings' files, as the machine that asks sees them
    into   the file to write, without its ending
    """
    try:
        with hushed():
            run = _opened(order.root, order.data)
            if _learned(run, order.unit) != order.learned:
                raise StageError(
                    f"a node of the cluster sees another {order.root} than this machine; put the run where every node sees the same one"
                )
            if _stamp(run, items) != stamp:
                raise StageError(
                    f"a node of the cluster sees other files of '{items[0].id}' to '{items[-1].id}' than this machine, or files of another "
                    "time; put them where every node sees the same ones"
                )
            parts, refused = embed_items(run, items, lambda item: [order.unit], device, order.windows)
            _write(into, parts.get(order.unit), refused)
    except MmclError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)
def _opened(root: Path, data: Path | None) -> Opened:
    """The run, once a process."""
    return Opened(root, data)


def _learned(run: Opened, unit: tuple[int, int]) -> str:
    """A stamp of what a fold and seed has learned."""
    folders = [run.run.stage(stage, *unit) for stage in ("pretrain", "probe")]
    files = sorted(file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.suffix == ".safetensors")
    return fingerprint([_status(file) for file in files])


def _stamp(run: Opened, items: Sequence[Item]) -> str:
    """A stamp of recordings and of their files: names, sizes, times of change."""
    stamps: list[Any] = []
    for item in items:
        root = run.plan.root if item.own else Path()
        files = {source: [name, None if root is None else _status(root / name)] for source, name in item.files.items()}
        stamps.append([item.id, files, dict(item.texts)])
    return fingerprint(stamps)


def _status(path: Path) -> list[int] | None:
    """Size and time of change of a file; None where it is none, as the name of a recording within a larger file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _part(folder: Path, rows: range) -> Path:
    return folder / f"{rows.start:09d}"


def _write(into: Path, embedded: Embedded | None, refused: Sequence[Refused]) -> None:
    """One task's features, and beside them whose they are; the latter last."""
    if embedded is not None:
        write_arrays(into.with_suffix(".safetensors"), embedded.arrays())
    about = {
        "modalities": [] if embedded is None else list(embedded.features),
        "ids": [] if embedded is None else embedded.ids,
        "items": [] if embedded is None else [{**asdict(item), "remarks": list(item.remarks)} for item in embedded.items],
        "refused": [asdict(one) for one in refused],
    }
    write_json(into.with_suffix(".json"), about)


def _read(into: Path, unit: tuple[int, int]) -> tuple[Embedded | None, list[Refused]]:
    """What a task has written."""
    about = read_json(into.with_suffix(".json"))
    refused = [Refused(**one) for one in about["refused"]]
    if not about["modalities"]:
        return None, refused
    arrays: dict[str, Any] = read_arrays(into.with_suffix(".safetensors"))
    features = {
        name: Features(**{part: torch.from_numpy(arrays[f"{name}/{part}"]) for part in ("vector", "projection", "present")})
        for name in about["modalities"]
    }
    items = [Item(**{**one, "remarks": tuple(one["remarks"])}) for one in about["items"]]
    spans = torch.stack([torch.from_numpy(arrays[end]) for end in ("start", "end")], 1).numpy() if "start" in arrays else None
    return Embedded(about["ids"], items, features, *unit, spans), refused
