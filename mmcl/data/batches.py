"""Batches of one epoch, in an order that depends on the address alone, prepared one step ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from ..api.dataset import SampleRef
from ..seeding import address

Result = TypeVar("Result")


def epoch_batches(rows: Sequence[int], size: int, *where: str | int) -> list[list[int]]:
    """Rows in a random order, in batches. A last batch of one row joins the batch before it: one row has no negatives."""
    order = np.random.default_rng(address(*where, "order")).permutation(len(rows))
    batches = [[rows[i] for i in order[k : k + size]] for k in range(0, len(rows), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def balanced(rows: Sequence[int], labels: Sequence[int | None], *where: str | int) -> list[int]:
    """As many rows as given, drawn with replacement so that every label comes equally often; rows without one never come."""
    known = [(row, label) for row, label in zip(rows, labels, strict=True) if label is not None]
    counts: dict[int, int] = {}
    for _, label in known:
        counts[label] = counts.get(label, 0) + 1
    chances = np.array([1 / (len(counts) * counts[label]) for _, label in known])
    drawn = np.random.default_rng(address(*where, "balance")).choice(len(known), len(rows), p=chances / chances.sum())
    return [known[i][0] for i in drawn]


def ahead(jobs: Sequence[Callable[[], Result]], depth: int = 2) -> Iterator[Result]:
    """What the jobs return, in order, each worked on by one thread while the one before it is used."""
    ready: queue.Queue[tuple[Result | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def work() -> None:
        for job in jobs:
            try:
                outcome: tuple[Result | None, BaseException | None] = (job(), None)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, and raised there
                outcome = (None, error)
            while not stop.is_set():
                try:
                    ready.put(outcome, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or outcome[1] is not None:
                return

    thread = threading.Thread(target=work, name="mmcl-ahead", daemon=True)
    thread.start()
    try:
        for _ in jobs:
            result, error = ready.get()
            if error is not None:
                raise error
            assert result is not None
            yield result
    finally:
        stop.set()
        thread.join()


@contextmanager
def at_recordings(samples: Sequence[SampleRef], rows: Iterable[int]) -> Iterator[None]:
    """Within it, an error notes of which recordings it is, for the sentence that names a plug-in's fault."""
    try:
        yield
    except Exception as error:
        ids = list(dict.fromkeys(samples[int(row)].id for row in rows))
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        error.add_note(f"at the recordings {', '.join(ids[:3])}{more}")
        raise
