"""Folds and seeds side by side: several in processes of this machine or of a cluster, or one here and the others wherever somebody starts them.

A cell is one fold with one seed. Cells read the same prepared streams, write folders of their own, and know nothing of each other.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..api.errors import MmclError, StageError
from ..engine.places import LOCAL, Engine, Places, Work, hand_out, voice
from ..engine.ranks import ALONE, Ranks
from ..recipe.carried import packed, unpacked
from ..recipe.plan import Plan
from ..runs import RunFolder, finished
from ..screen import hushed, say, told
from ..stopping import Stopped, listening
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
    jobs: int | None,
    device: str,
    continued: Sequence[Mapping[str, Any]],
    last: str | None,
    only: Only = ALL,
    engine: Engine = LOCAL,
) -> None:
    """Every stage of every fold and seed that is not finished, each fold and seed in a process, so many of them at a time.

    device     of all; where "cuda" and several are there, each process has its own in turn
    continued  as `pretrain` has it
    last       name of the last stage to run
    engine     where the processes are

    Raises StageError, with the sentence of the first one that failed, when the others have left; they keep what they have.
    """
    todo = [unit for unit in units_of(plan, run, only) if stages_left(unit)]
    if len(todo) < (1 if engine.elsewhere else 2):
        return
    order = Order(packed(plan), run.root, run.prepared, run.remote, continued, last)

    def works(places: Places) -> Iterator[Work]:
        threads = f"{places.threads} thread{'s' * (places.threads > 1)} each"
        say(f"{plan.name}: {len(todo)} folds and seeds, {places.count} at a time, {threads}")
        for unit in todo:
            fold, seed = unit.fold.number, unit.seed
            lock = run.stage(".cell", fold, seed) if engine.elsewhere else None
            yield Work(str(unit), run_cell, (order, fold, seed), lock)

    advice = "run the same command again to go on, with fewer --jobs"
    hand_out(engine, "folds and seeds", len(todo), works, jobs, device, run.root, advice)


def run_cell(order: Order, fold: int, seed: int, device: str) -> str | None:
    """Every stage of one fold and seed, in a process of its own; the sentence of what is the user's to mend, if there is one."""
    plan, run, only = unpacked(order.plan), RunFolder(order.root, order.prepared, order.remote), Only(fold, seed)
    try:
        with listening((signal.SIGTERM,), worker=True), told(voice(str(only))):
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
