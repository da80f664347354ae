"""The stages of a run, in order. Each reads files and writes files; none hands anything to the next in memory."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..api.errors import MmclError, StageError
from ..engine.surroundings import determinism, git_of, hardware
from ..plugins import plugins
from ..recipe.plan import Plan
from ..runs import RunFolder, write_json, write_text
from ..screen import launched, say
from ..stopping import listening
from .engines import engine_of, versions

if TYPE_CHECKING:
    from ..engine.places import Engine
    from .earlier import Earlier

ORDER = ("prepare", "pretrain", "embed", "probe", "supervise", "worth")

WORTH_SAYING = 0.2
"""Seconds below which a stage had nothing to do."""

Page = Callable[[Plan, RunFolder], None]
"""Writes the page of a run whose stages are finished."""


def run_all(
    plan: Plan,
    run: RunFolder,
    workers: int | None = None,
    strict: bool = False,
    device: str = "auto",
    stop_after: str | None = None,
    page: Page | None = None,
    overwrite: bool = False,
    more: bool = False,
    jobs: int | None = None,
    only: str | None = None,
    engine: str = "local",
    address: str | None = None,
) -> Path:
    """Every stage that is not finished yet, then the page; the path of the page.

    workers     processes that prepare streams; left out: this one alone, or one a core where that saves time
    strict      end at the first stream that cannot be read
    device      "auto", "cpu" or "cuda"
    stop_after  name of the last stage to run; no page is written then
    page        writes the report, once all stages are finished
    overwrite   replace finished work of another plan or other recordings, remove what the plan no longer names, begin anew where no checkpoint is whole
    more        go on with pretraining, for more epochs than it was finished with, from its last epoch
    jobs        folds and seeds at a time, each in a process of its own, which share this one's threads; left out: one, or on a cluster as many as fit
    only        "fold=3,seed=1", or one of the two: the others are left to other processes, which may be at work in the same folder meanwhile;
                whoever finishes last writes the page, and the path is that of the folder until then
    engine      "local", or "ray": the nodes of a Ray cluster, whose head is at `address` (HOST:PORT; left out: the one of this machine)

    Raises StageError, before anything is written, where finished work would be replaced without `overwrite`; Stopped, after a signal, when all is kept.
    """
    from ..engine.devices import pick_device
    from ..engine.ranks import device_of, joined
    from ..memory import keep_freed_memory
    from .cells import chosen, follow, held_units, only_of, run_together, stages_of
    from .chunks import prepare_together
    from .earlier import remove_damaged, remove_stale
    from .mending import seal
    from .units import ALL

    keep_freed_memory()
    where = device if stop_after == "prepare" else str(pick_device(device))
    part = ALL if only is None else only_of(only, plan)
    there = _engine(engine, address, jobs)
    parts = partial(prepare_together, plan, run, there, jobs, strict) if there.elsewhere else None
    with listening(tell=launched()[0] == 0), ExitStack() as held:
        ranks = held.enter_context(joined(device_of(pick_device("cpu" if stop_after == "prepare" else device))))
        if not ranks.first:
            follow(plan, run, device, stop_after, part, ranks)
            return run.root / "report.html"
        begun = run.root.exists()
        run.claim()
        if part == ALL:
            held.enter_context(run.held())
            continued = _begin(plan, run, workers, strict, where, overwrite, more, begun, parts=parts)
            if overwrite:
                remove_stale(run)
        else:
            with run.turn(partial(say, f"{run.root}: another mmcl process is beginning its part of this run; waiting for it")):
                alone = held.enter_context(run.shared())
                continued = _begin(plan, run, workers, strict, where, overwrite, more, True, alone, parts)
            held_units(held, chosen(plan, run, part))
        if overwrite:
            remove_damaged(chosen(plan, run, part))
        ranks.first_says(lambda: continued)
        last = "prepare"
        if (there.elsewhere or (jobs or 1) > 1) and stop_after != last:
            run_together(plan, run, jobs, device, continued, stop_after, part, there)
        for name, stage in stages_of(plan, run, device, continued, part, ranks).items():
            if last == stop_after:
                break
            _measured(run, name, stage)
            last = name
        if part != ALL:
            return _end(plan, run, str(part), page) if last != stop_after else run.root
        if last != stop_after:
            _measured(run, "report", lambda: page(plan, run) if page is not None else None)
        seal(run)
        say(f"{plan.name}: done")
    return run.root / "report.html"


def _engine(name: str, address: str | None, jobs: int | None) -> Engine:
    """Where folds and seeds run. Raises StageError where torchrun has started this process to train beside others."""
    there = engine_of(name, address)
    if launched()[1] > 1 and (there.elsewhere or (jobs or 1) > 1):
        raise StageError(
            f"{'--engine ray' if there.elsewhere else '--jobs'} trains folds and seeds side by side, and torchrun each of them in "
            "several processes; leave one of the two out"
        )
    return there


def _end(plan: Plan, run: RunFolder, part: str, page: Page | None) -> Path:
    """End a part of a run: whoever ends last writes the page. Its path, or until then the folder's."""
    from .cells import stages_left
    from .mending import seal
    from .units import units_of

    with run.turn(partial(say, f"{run.root}: another mmcl process is ending its part of this run; waiting for it")):
        left = [unit for unit in units_of(plan, run) if stages_left(unit)]
        if left:
            say(f"{plan.name}: {part} done; {len(left)} folds and seeds of this run are not")
            return run.root
        _measured(run, "report", lambda: page(plan, run) if page is not None else None)
        seal(run)
        say(f"{plan.name}: {part} done, and with it all folds and seeds")
    return run.root / "report.html"


def _begin(
    plan: Plan,
    run: RunFolder,
    workers: int | None,
    strict: bool,
    device: str,
    overwrite: bool,
    more: bool,
    begun: bool,
    alone: bool = True,
    parts: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """Say in the folder what is run, and prepare it; the epochs that pretraining goes on from.

    begun  whether the folder was there before
    alone  whether no other process is at work in it: if one is, it has written what is to be said
    parts  has parts of the streams made elsewhere, before they are put together here
    """
    from .earlier import Earlier, check_beside, check_plan, earlier, going_on
    from .faults import faults_named
    from .mending import mend_log

    if alone:
        mend_log(run)
    before = Earlier() if overwrite else earlier(run)
    continued = check_plan(run, before, plan, more)
    for sentence in going_on(plan, continued) if more else ():
        say(f"{plan.name}: {sentence}")
    for sentence in plan.outdated:
        say(f"{plan.name}: {sentence}")
    if plan.halves:
        say(f"{plan.name}: {' and '.join(plan.halves)} in bf16, losses in float32")
    if plan.recipe.pretrain.compile:
        say(
            f"{plan.name}: networks of {', '.join(plan.recipe.pretrain.compile)} are translated by torch.compile, which takes a minute or so"
        )
    facts = {"continued": continued, "going_on": going_on(plan, continued)} if continued else {}
    state = partial(_state, plan, run, device, facts)
    if not alone:
        check_beside(run, plan)
        run.log("run", command=sys.argv[1:], mmcl=__version__, **facts)
    elif not before.lost:
        state()
    with faults_named(plan):
        _measured(run, "prepare", lambda: _prepare(plan, run, workers, strict, begun, before, state, parts))
    return continued


def _measured(run: RunFolder, name: str, stage: Callable[[], None]) -> None:
    """Run a stage, and log what it took."""
    from ..engine.resources import Meter

    meter = Meter()
    stage()
    took = meter.read()
    if took["seconds"] >= WORTH_SAYING:
        run.log("took", stage=name, **took)


def _state(plan: Plan, run: RunFolder, device: str, facts: dict[str, Any]) -> None:
    """Write what was asked for and what was resolved."""
    write_text(run.root / "recipe.yaml", plan.text)
    if plan.fold_of is not None:  # so that the folder alone is enough to run it again
        rows = "".join(f"{name},{fold}\n" for name, fold in plan.fold_of.items())
        write_text(run.root / "folds.csv", f"{plan.fold_key},fold\n{rows}")
    write_json(run.root / "plan.json", {**about(plan, device), **facts})
    run.log("run", command=sys.argv[1:], mmcl=__version__, **facts)


def _prepare(
    plan: Plan,
    run: RunFolder,
    workers: int | None,
    strict: bool,
    begun: bool,
    before: Earlier,
    state: Callable[[], None],
    parts: Callable[[], None] | None,
) -> None:
    """`prepare`; without data there is no run, so that nothing is left behind in a folder that was not there before.

    state  writes plan.json, where that waits for work to be looked at whose own was lost
    """
    from .earlier import check_keys, check_recordings
    from .prepare import prepare

    try:
        if parts is not None:
            parts()
        prepare(plan, run, workers, strict, guard=partial(check_recordings, run, before))
    except MmclError:
        if not begun:
            shutil.rmtree(run.root, ignore_errors=True)
        raise
    if before.lost:
        try:
            check_keys(plan, run, before)
        except MmclError:
            (run.root / "folds.json").unlink()  # or the next run would take these recordings for those of the work
            raise
        state()


def about(plan: Plan, device: str) -> dict[str, Any]:
    """What plan.json says: the plan with every default, and where it ran."""
    return {
        "format": 1,
        "mmcl": __version__,
        "versions": versions(),
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        "device": device,
        "git": git_of(plan.folder),
        "hardware": hardware(device),
        "determinism": {**determinism(), **({"processes": launched()[1]} if launched()[1] > 1 else {})},
        "uses_labels": plan.uses_labels(),
        "protocol": f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}",
        "published": published_on(plan.to_json()["dataset"]["use"]),
        "plan": plan.to_json(),
    }


def published_on(dataset: str) -> list[dict[str, Any]]:
    """Every table that a paper has published on a dataset, for the report, which loads no plug-in; those without a benchmark are left out."""
    matching = []
    for _, offer in plugins().all("published"):
        tables = [asdict(table) for table in offer.spec.tables if table.benchmark and table.benchmark.dataset == dataset]
        if tables:
            matching.append({"name": offer.name, "paper": offer.spec.paper, "tables": tables})
    return matching
