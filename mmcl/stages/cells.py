"""Folds and seeds side by side: several in processes of this machine, or one here and the others wherever somebody starts them.

A cell is one fold with one seed. Cells read the same prepared streams, write folders of their own, and know nothing of each other.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ..api.errors import MmclError, StageError
from ..engine.ranks import ALONE, Ranks
from ..memory import keep_freed_memory
from ..recipe.carried import packed, unpacked
from ..recipe.plan import Plan
from ..runs import RunFolder, finished
from ..screen import Shown, hushed, progress, say, told
from ..stopping import Stopped, listening
from ..workers import one_way, worker_pool
from .faults import faults_named
from .units import (
    ALL,
    Only,
    Unit,
    embed_key,
    feature_kinds,
    pooled_key,
    pretrain_key,
    probe_key,
    supervise_key,
    units_of,
    worth_key,
)

WORDS = 400
"""Characters of a line that a process may send: with what stands around it, fewer bytes than a pipe takes at once."""
EVERY = 0.5
"""Seconds between two messages of a process about how far it is."""


def only_of(text: str, plan: Plan) -> Only:
    """What `--only fold=3,seed=1` asks for; one of the two may be left out.

    Raises StageError for anything else, and for a seed that the plan does not have.
    """
    asked = [re.fullmatch(r"\s*(fold|seed)\s*=\s*([0-9]{1,19})\s*", part, re.ASCII) for part in text.split(",")]
    values = {match[1]: int(match[2]) for match in asked if match}
    if len(values) != len(asked):
        raise StageError(f"--only '{text}' names no fold and seed; write --only fold=3,seed=1, or one of the two")
    only = Only(values.get("fold"), values.get("seed"))
    if only.seed is not None and only.seed not in plan.seeds:
        raise StageError(f"--only: the recipe has no seed {only.seed}; it has {', '.join(map(str, plan.seeds))}")
    return only


def chosen(plan: Plan, run: RunFolder, only: Only) -> list[Unit]:
    """The folds and seeds that are asked for. Raises StageError if the run has no such fold."""
    units = units_of(plan, run, only)
    if not units:
        numbers = sorted({unit.fold.number for unit in units_of(plan, run)})
        raise StageError(f"--only: there is no fold {only.fold}; this run has {', '.join(map(str, numbers))}")
    return units


def stages_left(unit: Unit) -> list[str]:
    """The stages that are not finished for a fold and seed."""
    plan, prepared, fold, seed = unit.plan, unit.prepared, unit.fold, unit.seed
    embedded = embed_key(plan, prepared, fold, seed)
    keys = {"embed": embedded, "probe": probe_key(plan, embedded)}
    if plan.recipe.pretrain.epochs > 0:
        keys["pretrain"] = pretrain_key(plan, prepared, fold, seed)
    if plan.supervised is not None:
        keys["supervise"] = supervise_key(plan, prepared, fold, seed)
    if plan.recipe.worth is not None:
        keys["worth"] = worth_key(plan, prepared, fold, seed, unit.first)
    left = [stage for stage, key in keys.items() if not finished(unit.folder(stage), key)]
    if "pooled" in feature_kinds(plan) and "embed" not in left and not unit.pooled(pooled_key(plan, prepared, fold)):
        left.append("embed")
    return left


@dataclass(frozen=True)
class Order:
    """What a process is to do, beside which fold and seed."""

    plan: bytes  # packed
    root: Path
    prepared: Path
    remote: str | None
    continued: Sequence[Mapping[str, Any]]
    last: str | None  # the stage after which it ends


def run_together(
    plan: Plan,
    run: RunFolder,
    jobs: int,
    device: str,
    continued: Sequence[Mapping[str, Any]],
    last: str | None,
    only: Only = ALL,
) -> None:
    """Every stage of every fold and seed that is not finished, each fold and seed in a process, so many of them at a time.

    device     of all; where "cuda" and several are there, each process has its own in turn
    continued  as `pretrain` has it
    last       name of the last stage to run

    Raises StageError, with the sentence of the first one that failed, when the others have left; they keep what they have.
    """
    todo = [unit for unit in units_of(plan, run, only) if stages_left(unit)]
    if len(todo) < 2:
        return
    order = Order(packed(plan), run.root, run.prepared, run.remote, continued, last)
    devices = devices_for(min(jobs, len(todo)), device, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    receiver, sender = one_way()
    threads = max(1, torch.get_num_threads() // len(devices))
    say(f"{plan.name}: {len(todo)} folds and seeds, {len(devices)} at a time, {threads} thread{'s' * (threads > 1)} each")
    with progress("folds and seeds", len(todo)) as tick, receiver, sender:
        shown = _Display(receiver, tick)
        shown.start()
        busy: dict[Future[str | None], tuple[Unit, str]] = {}
        try:
            with worker_pool(len(devices), _begin, threads, sender) as pool:
                while todo or busy:
                    while todo and devices:
                        unit, where = todo.pop(0), devices.pop(0)
                        busy[pool.submit(run_cell, order, unit.fold.number, unit.seed, where)] = unit, where
                    for future in wait(busy, return_when=FIRST_COMPLETED).done:
                        sentence = future.result()
                        unit, where = busy.pop(future)
                        if sentence is not None:
                            raise StageError(sentence)
                        devices.append(where)
                        shown.finished(str(unit))
        except BrokenProcessPool:
            raise StageError(
                f"a process that ran one of {'; '.join(str(unit) for unit, _ in busy.values())} died, perhaps for want of "
                "memory; run the same command again to go on, with fewer --jobs"
            ) from None
        finally:
            sender.send(None)
            shown.join()


def devices_for(jobs: int, device: str, gpus: int) -> list[str]:
    """A device for each of so many processes: the graphics processors in turn, where that is what runs use."""
    if gpus > 1 and device in ("auto", "cuda"):
        return [f"cuda:{k % gpus}" for k in range(jobs)]
    return [device] * jobs


class _Display(threading.Thread):
    """Shows what all processes say as one: how many folds and seeds are done, and where each of the others is."""

    def __init__(self, receiver: Connection, tick: Any) -> None:
        super().__init__(name="mmcl-display", daemon=True)
        self._receiver, self._tick = receiver, tick
        self._now: dict[str, str] = {}
        self._done = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Until None comes."""
        while (message := self._receiver.recv()) is not None:
            cell, one = message
            if one.total == 0:
                say(one.text)
                continue
            with self._lock:
                self._now[cell] = f"{cell}: {one.text.split()[0].rstrip(',')} {one.done}/{one.total}"
                self._show()

    def finished(self, cell: str) -> None:
        """One more is done."""
        with self._lock:
            self._now.pop(cell, None)
            self._done += 1
            self._show()

    def _show(self) -> None:
        self._tick(self._done, "; ".join(self._now.values()))


class _Voice:
    """What a process sends of itself: every line, and now and then how far it is."""

    sender: Connection | None = None

    def __init__(self, cell: str) -> None:
        self._cell, self._last = cell, 0.0

    def __call__(self, shown: Shown) -> None:
        now = time.monotonic()
        if shown.total and now - self._last < EVERY and shown.done < shown.total:
            return
        self._last = now
        if self.sender is not None:
            self.sender.send((self._cell, Shown(shown.text[:WORDS], shown.done, shown.total)))


def _begin(threads: int, sender: Connection) -> None:
    """Set up one worker process."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    _Voice.sender = sender


def run_cell(order: Order, fold: int, seed: int, device: str) -> str | None:
    """Every stage of one fold and seed, in a process of its own; the sentence of what is the user's to mend, if there is one."""
    plan, run, only = unpacked(order.plan), RunFolder(order.root, order.prepared, order.remote), Only(fold, seed)
    try:
        with listening((signal.SIGTERM,), worker=True), told(_Voice(str(only))):
            run_stages(plan, run, device, order.continued, order.last, only)
    except MmclError as error:
        return str(error)
    except Stopped as stopped:
        os._exit(stopped.code)  # nobody waits for an answer
    return None


def stages_of(
    plan: Plan,
    run: RunFolder,
    device: str,
    continued: Sequence[Mapping[str, Any]],
    only: Only,
    ranks: Ranks = ALONE,
) -> dict[str, Callable[[], None]]:
    """The stages from `pretrain` on of some folds and seeds, in order.

    ranks  the processes that train together: all of them train, and the first one does the rest
    """
    from .embed import embed
    from .pretrain import pretrain
    from .probe import probe
    from .supervise import supervise
    from .worth import worth

    stages: dict[str, Callable[[], None]] = {
        "pretrain": lambda: (
            pretrain(plan, run, device, continued=continued, only=only, ranks=ranks)
            if plan.recipe.pretrain.epochs > 0
            else None
        ),
        "embed": lambda: embed(plan, run, device, only=only),
        "probe": lambda: probe(plan, run, only),
        "supervise": lambda: supervise(plan, run, device, only, ranks),
        "worth": lambda: worth(plan, run, device, only),
    }

    def named(stage: Callable[[], None]) -> None:
        with faults_named(plan):
            stage()

    return {name: partial(named, stage) for name, stage in stages.items()}


TOGETHER = ("pretrain", "supervise")
"""The stages in which ranks train together; the rest is the first one's."""


def follow(plan: Plan, run: RunFolder, device: str, last: str | None, only: Only, ranks: Ranks) -> None:
    """What a rank other than the first does of a run: it trains, and nothing else. It writes no file and says nothing."""
    with hushed():
        continued: list[dict[str, Any]] = ranks.first_says(list)
        for name, stage in {"prepare": None, **stages_of(plan, run, device, continued, only, ranks)}.items():
            if stage is not None and name in TOGETHER:
                stage()
            if name == last:
                return


def run_stages(
    plan: Plan, run: RunFolder, device: str, continued: Sequence[Mapping[str, Any]], last: str | None, only: Only = ALL
) -> None:
    """The stages from `pretrain` on of some folds and seeds, without measuring what each takes."""
    for name, stage in stages_of(plan, run, device, continued, only).items():
        stage()
        if name == last:
            return


def held_units(stack: ExitStack, units: Sequence[Unit]) -> None:
    """Keep other processes out of some folds and seeds for as long as the stack lasts."""
    for unit in units:
        stack.enter_context(unit.run.held_unit(unit.fold.number, unit.seed))
