"""The prepared streams of a run as tar files of WebDataset's layout, for programs that stream them: a sample is files of one stem.

DIR/train-000000.tar …         of each side of a fold, in an order of their own, so that whoever reads them one after the other
                               meets people and classes mixed
NNNNNNNN.NAME.npy              a modality's stream, [T, …]; NNNNNNNN.NAME.times.npy: start and end of its steps, where they carry their own
NNNNNNNN.json                  id, group, labels (class names beside their numbers), facts
DIR/about.json                 layouts, tasks with their classes, how many samples each file holds
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..data.prepared import Prepared, load_prepared
from ..runs import RunFolder, folder_in_place_of, read_json, write_json
from ..screen import progress
from ..seeding import address
from .shared import empty_place

TAR_BYTES = 2**28
"""A tar is closed once it holds this much."""
SIDES = ("train", "valid", "test")


def write_tars(root: Path, folder: Path, fold: int | None) -> list[str]:
    """Write every side of a fold, the first unless another is named; what was written, in words.

    Raises StageError if the run is not prepared, has no such fold, or the folder holds something.
    """
    run = RunFolder(root)
    prepared, tasks = load_prepared(run), read_json(root / "prepare.json")["tasks"]
    numbers = [one.number for one in prepared.folds]
    if fold is not None and fold not in numbers:
        raise StageError(f"{root}: has no fold {fold}; it has {', '.join(map(str, numbers))}")
    chosen = prepared.folds[0 if fold is None else numbers.index(fold)]
    empty_place(folder)
    sides = {side: list(getattr(chosen, side)) for side in SIDES}
    with folder_in_place_of(folder) as part, progress("export", sum(map(len, sides.values()))) as tick:
        held: dict[str, int] = {}
        done = 0
        for side, rows in sides.items():
            order = np.random.default_rng(address(0, "tars", side)).permutation(len(rows))
            for name, count in _side(part, side, prepared, [rows[place] for place in order], tasks):
                held[name] = count
                done += count
                tick(done, side)
        layouts = {name: store.layout.to_json() for name, store in prepared.stores.items()}
        about = {"format": 1, "mmcl": __version__, "fold": chosen.number, "layouts": layouts, "tasks": tasks, "files": held}
        write_json(part / "about.json", about)
    of_each = ", ".join(f"{len(rows):,} {side}" for side, rows in sides.items())
    return [
        f"{folder}: fold {chosen.number}, {of_each} recordings in {len(held)} tar files",
        "  about.json names layouts, classes and how many recordings each file holds",
    ]


def _side(folder: Path, side: str, prepared: Prepared, rows: Sequence[int], tasks: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Write one side's files; yields the name of each and how many recordings it holds."""
    done, number = 0, 0
    while done < len(rows):
        path = folder / f"{side}-{number:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            first = done
            while done < len(rows) and tar.offset < TAR_BYTES:
                for name, content in _files(prepared, rows[done], tasks):
                    entry = tarfile.TarInfo(f"{rows[done]:08d}.{name}")
                    entry.size = len(content)  # everything else of it is fixed, so that equal streams give equal files
                    tar.addfile(entry, io.BytesIO(content))
                done += 1
        yield path.name, done - first
        number += 1


def _files(prepared: Prepared, row: int, tasks: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """What a sample consists of: name, after its stem, and content."""
    for name, store in prepared.stores.items():
        if row not in store:
            continue
        values = store.values(row)
        yield f"{name}.npy", _npy(values if store.layout.timed else values[0])
        if (times := store.times(row)) is not None:
            yield f"{name}.times.npy", _npy(times)
    yield "json", json.dumps(_about(prepared.samples[row], tasks), ensure_ascii=False).encode()


def _npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.getvalue()


def _about(sample: SampleRef, tasks: dict[str, Any]) -> dict[str, Any]:
    """Id, group, labels and facts; of a label that is a class its name too."""
    names = {
        name: tasks[name]["classes"][value]
        for name, value in sample.targets.items()
        if tasks.get(name, {}).get("type") == "single-label" and isinstance(value, int)
    }
    return {
        "id": sample.id,
        "group": sample.group,
        "targets": dict(sample.targets),
        "classes": names,
        "facts": dict(sample.facts),
    }
