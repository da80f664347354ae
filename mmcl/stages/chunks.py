"""Preparing on a cluster: each task makes a part of one store (`mmcl/data/parts.py`) and returns nothing but how it went.

`prepare` puts the parts together afterwards and makes itself what is missing, as it does where other processes have made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..api.dataset import Dataset
from ..api.errors import MmclError, StageError
from ..data.parts import gaps, parts_folder, parts_of
from ..data.prepared import refuse_linked
from ..data.recordings import Recordings
from ..engine.places import Engine, Places, Work, hand_out
from ..recipe.carried import packed, unpacked
from ..recipe.plan import ModalityPlan, Plan
from ..runs import RunFolder
from ..screen import hushed, say
from .faults import faults_named
from .parts import write_part
from .prepare import CHUNK, is_whole, store_of
from .recordings import listed, open_dataset

CHUNKS = 256
"""Most tasks of one modality: each has to list all recordings once a process, and all parts are looked at when one begins."""


def prepare_together(plan: Plan, run: RunFolder, engine: Engine, jobs: int | None, strict: bool) -> None:
    """Make the parts that are missing of every modality's store, on an engine's places; nothing where there is little to do.

    Raises StageError, with its sentence, for what ends a task, and where a node sees other files than this machine.
    """
    if run.remote is not None:  # then nothing is prepared
        return
    samples = listed(plan, open_dataset(plan))
    todo: list[tuple[ModalityPlan, Path, str, range]] = []
    for modality in plan.modalities:
        folder, key = store_of(plan, run, modality, samples)
        refuse_linked(folder)
        if not is_whole(folder, hushed=True):
            todo += [(modality, folder, key, rows) for rows in chunks_of(folder, key, len(samples))]
    if len(todo) <= len(plan.modalities):
        return
    plan_bytes = packed(plan)

    def works(places: Places) -> Iterator[Work]:
        say(f"prepare: {len(todo)} chunks of recordings, {places.count} at a time")
        for modality, folder, key, rows in todo:
            arguments = (plan_bytes, run.root, run.prepared, modality.name, key, rows, places.threads, strict)
            lock = parts_folder(folder) / f".{rows.start:09d}-{rows.stop:09d}.task"
            yield Work(f"{modality.name}, recordings {rows.start} to {rows.stop - 1}", prepare_chunk, arguments, lock)

    hand_out(engine, "prepare, in chunks", len(todo), works, jobs, "cpu", run.prepared, "run the same command again to go on")


def chunks_of(folder: Path, key: str, recordings: int) -> Iterator[range]:
    """The recordings that no part of a store holds, some at a time: the same ones for every cluster, so that what a killed run has made counts."""
    size = max(CHUNK, -(-recordings // CHUNKS))
    for rows in gaps(parts_of(folder, key, say), recordings):
        yield from (range(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


def prepare_chunk(
    plan: bytes, root: Path, prepared: Path, modality: str, key: str, rows: range, workers: int, strict: bool, device: str
) -> str | None:
    """Prepare one modality of recordings that follow each other; the sentence of what is the user's to mend, if there is one."""
    try:
        with hushed():
            whole, dataset, samples, places = _listing(plan, root, prepared)
            folder, here = places[modality]
            if here != key:
                raise StageError(
                    f"a node of the cluster sees other recordings of '{whole.dataset.use}' in {whole.root} than this machine, or files "
                    "of another time; put them where every node sees the same ones"
                )
            with faults_named(whole):
                part = next(one for one in whole.modalities if one.name == modality)
                write_part(whole, part, folder, key, rows, samples, dataset, workers, strict)
    except MmclError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)
def _listing(plan: bytes, root: Path, prepared: Path) -> tuple[Plan, Dataset, Recordings, dict[str, tuple[Path, str]]]:
    """What every chunk of a plan needs, once a process."""
    whole, run = unpacked(plan), RunFolder(root, prepared)
    with faults_named(whole):
        dataset = open_dataset(whole)
        samples = listed(whole, dataset)
        return whole, dataset, samples, {one.name: store_of(whole, run, one, samples) for one in whole.modalities}
