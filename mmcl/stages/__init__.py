"""The stages of a run, in order. Each reads files and writes files; none hands anything to the next in memory."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..api.errors import MmclError, PluginError
from ..engine.surroundings import determinism, git_of, hardware
from ..plugins import fault_of, plugins
from ..recipe.plan import Plan
from ..runs import RunFolder, write_json, write_text
from ..screen import say
from ..stopping import listening

if TYPE_CHECKING:
    from .earlier import Earlier

ORDER = ("prepare", "pretrain", "embed", "probe", "supervise", "worth")

WORTH_SAYING = 0.2
"""Seconds below which a stage had nothing to do."""

PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
    "scipy",
    "scikit-learn",
    "librosa",
    "safetensors",
    "pydantic",
)
"""Packages on whose versions results may depend."""

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
) -> Path:
    """Every stage that is not finished yet, then the page; the path of the page.

    workers     processes that prepare streams; left out: this one alone, or one a core where that saves time
    strict      end at the first stream that cannot be read
    device      "auto", "cpu" or "cuda"
    stop_after  name of the last stage to run; no page is written then
    page        writes the report, once all stages are finished
    overwrite   replace finished work of another plan or of other recordings, and remove what the plan no longer names
    more        go on with pretraining, for more epochs than it was finished with, from its last epoch

    Raises StageError, before anything is written, where finished work would be replaced and `overwrite` is False; Stopped, after Ctrl-C,
    TERM or HUP, when what can be kept is kept.
    """
    from ..engine.devices import pick_device
    from ..engine.memory import keep_freed_memory
    from ..engine.resources import Meter
    from .earlier import Earlier, check_plan, earlier, going_on, remove_stale
    from .embed import embed
    from .mending import mend_log, seal
    from .pretrain import pretrain
    from .probe import probe
    from .supervise import supervise
    from .worth import worth

    keep_freed_memory()
    where = device if stop_after == "prepare" else str(pick_device(device))
    begun = run.root.exists()
    run.claim()
    with listening(), run.held():
        mend_log(run)
        before = Earlier() if overwrite else earlier(run)
        continued = check_plan(run, before, plan, more)
        for sentence in going_on(plan, continued) if more else ():
            say(f"{plan.name}: {sentence}")
        if plan.halves:
            say(f"{plan.name}: {' and '.join(plan.halves)} in bf16, losses in float32")
        facts = {"continued": continued, "going_on": going_on(plan, continued)} if continued else {}
        if not before.lost:
            _state(plan, run, where, facts)
        stages: dict[str, Callable[[], None]] = {
            "prepare": lambda: _prepare(plan, run, workers, strict, begun, before, partial(_state, plan, run, where, facts)),
            "pretrain": lambda: pretrain(plan, run, device, continued=continued) if plan.recipe.pretrain.epochs > 0 else None,
            "embed": lambda: embed(plan, run, device),
            "probe": lambda: probe(plan, run),
            "supervise": lambda: supervise(plan, run, device),
            "worth": lambda: worth(plan, run, device),
            "report": lambda: page(plan, run) if page is not None else None,
        }
        for name, stage in stages.items():
            meter = Meter()
            with _faults_named(plan):
                stage()
            took = meter.read()
            if took["seconds"] >= WORTH_SAYING:
                run.log("took", stage=name, **took)
            if name == "prepare" and overwrite:
                remove_stale(run)
            if name == stop_after:
                break
        seal(run)
        say(f"{plan.name}: done")
    return run.root / "report.html"


def _state(plan: Plan, run: RunFolder, device: str, facts: dict[str, Any]) -> None:
    """Write what was asked for and what was resolved."""
    write_text(run.root / "recipe.yaml", plan.text)
    if plan.fold_of is not None:  # so that the folder alone is enough to run it again
        rows = "".join(f"{name},{fold}\n" for name, fold in plan.fold_of.items())
        write_text(run.root / "folds.csv", f"{plan.fold_key},fold\n{rows}")
    write_json(run.root / "plan.json", {**about(plan, device), **facts})
    run.log("run", command=sys.argv[1:], mmcl=__version__, **facts)


@contextmanager
def _faults_named(plan: Plan) -> Iterator[None]:
    """Within it, what a stranger's plug-in raises is a PluginError that names it."""
    try:
        yield
    except PluginError as error:
        notes = "; ".join(getattr(error, "__notes__", ()))
        if not notes:
            raise
        raise PluginError(f"{error}; {notes}") from error
    except (MmclError, MemoryError):
        raise
    except Exception as error:
        fault = fault_of(error, plan.parts)
        if fault is None:
            raise
        raise fault from error


def _prepare(
    plan: Plan, run: RunFolder, workers: int | None, strict: bool, begun: bool, before: Earlier, state: Callable[[], None]
) -> None:
    """`prepare`; without data there is no run, so that nothing is left behind in a folder that was not there before.

    state  writes plan.json, where that waits for work to be looked at whose own was lost
    """
    from .earlier import check_keys, check_recordings
    from .prepare import prepare

    try:
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
    versions = {"python": platform.python_version(), "mmcl": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "format": 1,
        "mmcl": __version__,
        "versions": versions,
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        "device": device,
        "git": git_of(plan.folder),
        "hardware": hardware(device),
        "determinism": determinism(),
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
