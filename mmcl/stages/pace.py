"""How long recordings take to prepare with one process that reads and with several, measured on some of them."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path

from ..api.dataset import Dataset
from ..data.recordings import Recordings
from ..recipe.plan import ModalityPlan, Plan
from ..runs import RunFolder
from ..screen import hushed
from .prepare import CHUNK, build_modality, extract_to
from .recordings import listed, open_dataset

SECONDS = 3.0
"""What measuring one way takes in one modality, about; more where so few recordings would not be shared out."""
LONGEST = 20.0
"""Beyond that nothing is measured: with recordings that take so long, every process pays."""


def paces_of(plan: Plan, run: RunFolder) -> tuple[dict[int, float], int]:
    """Seconds a recording by the number of processes that read, and how many recordings there are; no pace where there are too few to tell, or
    each takes too long to try.

    Every way prepares the same recordings in all modalities, twice and in turn, and the quicker time counts. Starting processes is part of it.
    """
    dataset = open_dataset(plan)
    samples = listed(plan, dataset)
    cores = os.cpu_count() or 1
    least = 4 * CHUNK * cores  # below that nothing is ever read by so many
    if cores == 1 or len(samples) < least:
        return {}, len(samples)
    total = dict.fromkeys((1, cores), 0.0)
    with tempfile.TemporaryDirectory(dir=run.root) as temporary, hushed():
        for modality in plan.modalities:
            seconds = partial(_seconds, plan, modality, dataset, samples, Path(temporary))
            seconds(CHUNK // 4, 1)  # what the first of them finds cold
            one = seconds(CHUNK // 2, 1) / (CHUNK // 2)
            if one * least > LONGEST:
                return {}, len(samples)
            count = min(len(samples), max(least, round(SECONDS / max(one, 1e-6))))
            turns = [[seconds(count, way) / count for way in total] for _ in range(2)]
            total = {way: total[way] + min(turn[k] for turn in turns) for k, way in enumerate(total)}
    return total, len(samples)


def _seconds(
    plan: Plan, modality: ModalityPlan, dataset: Dataset, samples: Recordings, folder: Path, count: int, workers: int
) -> float:
    """What it takes to prepare the first recordings of one modality."""
    built = {modality.name: build_modality(plan, modality)}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        began = time.perf_counter()
        extract_to(Path(place, "store"), plan, modality, dataset, built, samples, "", workers, False, range(count))
        return time.perf_counter() - began
