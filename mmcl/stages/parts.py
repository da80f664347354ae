"""Preparing by several processes, on one machine or on many that share a file system: each makes parts of the stores (`mmcl/data/parts.py`).

`write_part` makes one part; `prepare_shard` makes those of one share, and whoever is the last puts the stores together. `prepare` puts
together what parts there are, and makes itself what is missing, so that a process that died costs its own share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..api.dataset import Dataset
from ..api.errors import StageError
from ..data.parts import gaps, merge, part_folder, part_lock, parts_folder, parts_of, share_of
from ..data.prepared import refuse_linked
from ..data.recordings import Recordings
from ..recipe.plan import ModalityPlan, Plan
from ..runs import RunFolder, locked, tidy
from ..screen import say
from .faults import faults_named
from .prepare import build_modality, extract_to, is_whole, store_of, turn
from .recordings import listed, open_dataset


def write_part(
    plan: Plan,
    modality: ModalityPlan,
    store: Path,
    key: str,
    rows: range,
    samples: Recordings,
    dataset: Dataset,
    workers: int | None = None,
    strict: bool = False,
) -> str:
    """Prepare one modality of recordings that follow each other as a part of a store, unless that is there; the part's name.

    store    the folder of the store, and `key` its fingerprint, as `store_of` gives them
    rows     which of `samples`, all recordings of the plan
    workers  processes that read; left out: as many as pay

    Raises StageError if another process is writing this part.
    """
    part = part_folder(store, rows)
    with part_lock(part) as mine:
        if not mine:
            raise StageError(f"{part}: another mmcl process is writing these streams; wait for it, or take another share")
        if not any(one.rows == rows for one in parts_of(store, key, say)):
            tidy(part.parent, part.name)
            extract_to(
                part,
                plan,
                modality,
                dataset,
                {modality.name: build_modality(plan, modality)},
                samples,
                key,
                workers,
                strict,
                rows,
            )
    return part.name


def merge_parts(modality: str, store: Path, key: str, recordings: int, wait: bool = True) -> list[range]:
    """Put a store together, if its parts hold all recordings; the recordings that are missing.

    wait  for processes that write parts of it; without, nothing is done while there is one
    """
    with locked(store.with_name(f".{store.name}.lock"), wait) as mine:
        if not mine or is_whole(store, hushed=True):
            return []
        parts = parts_of(store, key, say)
        if not (missing := gaps(parts, recordings)):
            say(f"prepare {modality}: {len(parts)} parts are put together")
            tidy(store.parent, store.name)
            merge(store, parts, {"key": key, "mmcl": __version__})
        return missing


def prepare_shard(
    plan: Plan, run: RunFolder, number: int, count: int, workers: int | None = None, strict: bool = False
) -> Sequence[Path]:
    """Prepare one of so many shares of the recordings, counted from 1, in all modalities; the folders of the streams.

    The stores are put together by whoever ends last, if all shares are there by then.

    Raises StageError if another process is writing this share.
    """
    with faults_named(plan):
        dataset = open_dataset(plan)
        samples = listed(plan, dataset)
        if count > len(samples):
            raise StageError(
                f"{count} shards are asked for, of {len(samples)} recordings; give at most as many shards as recordings"
            )
        rows, places = share_of(number, count, len(samples)), {m.name: store_of(plan, run, m, samples) for m in plan.modalities}
        written = []
        for modality in plan.modalities:
            store, key = places[modality.name]
            refuse_linked(store)
            if parts_folder(store).is_symlink():
                raise StageError(f"{parts_folder(store)}: is a link, which prepared streams may not be; move them here")
            with turn(modality.name, store, shared=True):
                there = is_whole(store)
                if not there:
                    write_part(plan, modality, store, key, rows, samples, dataset, workers, strict)
            if not there:
                merge_parts(modality.name, store, key, len(samples), wait=False)
            written.append(store if is_whole(store, hushed=True) else part_folder(store, rows))
    return written
