"""sweep: tries values of a recipe and keeps the best, judged on validation recordings alone.

A trial prepares, pretrains and embeds the training and validation rows, fits the head and scores it on validation rows; no test
recording is embedded or scored. Then the best values are run in full, and the test set is opened once. Writes sweep.json (what is
searched for), study.jsonl (Optuna's journal: every trial), trials/, trials.json, sweep.html, best.yaml and best/. Run again, it
goes on with what is missing.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..api.dataset import Task
from ..api.errors import StageError
from ..data.prepared import load_prepared
from ..engine.places import Died, Engine, Work
from ..evaluate.metrics import AMONG
from ..evaluate.statistics import Unit, bounds_of, summarise, values_of
from ..recipe.plan import Plan
from ..recipe.planner import make_plan
from ..recipe.read import parse_recipe
from ..recipe.search import Source, SweepPlan, make_sweep, settings, steps_of
from ..recipe.searches import Range
from ..runs import RunFolder, fingerprint, read_json, read_jsonl, remove_run, write_json, write_text
from ..screen import Tick, progress, say
from ..stages import Page
from ..stages.earlier import changes_of, listed
from ..stages.engines import engine_of
from ..stopping import Stopped, listening
from .metric import in_words, less_is_better, metric_of
from .results import FAILED, SweepResult, TrialResult
from .study import ask, draw, importance, journal, mend, need_optuna, open_study, results_of
from .trial import inner_of, run_trial

if TYPE_CHECKING:
    from optuna import Study


def sweep(
    search: SweepPlan,
    out: Path,
    jobs: int | None = None,
    device: str = "auto",
    final: bool = True,
    page: Page | None = None,
    engine: str = "local",
    address: str | None = None,
) -> SweepResult:
    """Run the trials that are missing, then the best values in full; gives how all of them came out.

    out    folder of the sweep; prepared streams are kept beside it, as those of runs
    jobs   trials at a time, each in a process of its own; left out: one, or on a cluster as many as fit
    final  whether the best values are run in full, which opens the test set
    page   writes the report of the best values' run
    engine, address  where trials run, as `mmcl.stages.run_all` has them

    Raises RecipeError for a metric that is not there, StageError if Optuna is missing, another search lies in `out`, or all trials failed.
    """
    need_optuna()
    from ..engine.devices import pick_device

    metric = metric_of(search)
    where = str(pick_device(device))
    there = engine_of(engine, address)
    folder = RunFolder(out, out.parent / "prepared")
    folder.claim("sweep")
    with listening(), folder.held():
        _same_search(search, metric, out)
        mend(journal(out))
        study = open_study(out, metric)
        folder.log("sweep", trials=search.trials, jobs=jobs or 1, mmcl=__version__)
        _prepare_once(search, out, folder.prepared, there, jobs)
        _run_trials(search, study, out, jobs, device if there.elsewhere else where, there)
        trials = results_of(study)
        best = _best(trials, metric)
        if best is None:
            write_json(out / "trials.json", {"format": 1, "name": search.plan.name, "trials": [asdict(one) for one in trials]})
            raise StageError(f"none of {len(trials)} trials has a score; the first ended with: {_first_sentence(trials)}")
        tested = _final(search, best, metric, out, where, final, page, engine, address)
        shares, how = importance(study, search)
        result = SweepResult(
            name=search.plan.name,
            metric=metric,
            less=less_is_better(metric),
            about=in_words(search, metric),
            trials=tuple(trials),
            best=best,
            importance=shares,
            importance_says=how,
            final=tested,
            opened=tuple(read_json(out / "sweep.json")["opened"]),
        )
        write_json(out / "trials.json", json.loads(json.dumps(result.to_json())))
        say(f"{search.plan.name}: {len(trials)} trials done")
    return result


def _best(trials: list[TrialResult], metric: str) -> TrialResult | None:
    """The trial with the best score, of equals the first; None if none has a score."""
    sign = 1 if less_is_better(metric) else -1
    scored = [(sign * one.score, one.number, one) for one in trials if one.score is not None]
    return min(scored)[2] if scored else None


def _first_sentence(trials: list[TrialResult]) -> str:
    """Why the first of the trials that say why has no score."""
    return next((one.sentence for one in trials if one.sentence), "ended early")


def _same_search(search: SweepPlan, metric: str, out: Path) -> None:
    """Keep what is searched for in sweep.json, and refuse to go on with another search in the same folder."""
    section, plan = search.section, search.plan.to_json()
    for name in ("pretrain", "supervise"):
        if plan[name]:
            plan[name].pop("checkpoint_minutes")
    if plan["pretrain"]["choose"] == "loss":
        plan["pretrain"].pop("choose")
    plan["dataset"].pop("root")
    kept = ("seed", "dataset", "modalities", "scores", "window", "projection", "pretrain", "probe", "supervise", "protocol")
    ways = ["sampler", "prune", "startup", "folds", "seeds", "seed"]
    ways += ["validation"] if section.validation != "fold" else []  # so that a search that was begun without it goes on
    sought = {
        "space": {
            key: choice.model_dump() if isinstance(choice, Range) else steps_of(choice) for key, choice in section.space.items()
        },
        "score": {
            "stage": search.stage,
            "task": search.task and search.task.name,
            "input": search.input,
            "head": search.head,
            "metric": metric,
        },
        "way of searching": section.model_dump(include=set(ways)),
        "recipe": {name: plan[name] for name in kept} | ({} if plan["limit"] is None else {"limit": plan["limit"]}),
    }
    keys = {name: fingerprint(value) for name, value in sought.items()}
    if (out / "sweep.json").exists():
        before = read_json(out / "sweep.json")
        other = [name for name in keys if before["keys"].get(name) != keys[name]]
        if other:
            words = f"{out}: was begun with another {' and another '.join(other)}"
            then = before.get("recipe")
            if "recipe" in other and isinstance(then, dict):
                words += f" ({listed(list(changes_of(then, json.loads(json.dumps(sought['recipe'])))))})"
            raise StageError(f"{words}; give another --out, or delete the folder")
        return
    write_json(out / "sweep.json", {"format": 1, "mmcl": __version__, "keys": keys, "opened": _opened_before(out), **sought})


def _opened_before(out: Path) -> list[int]:
    """The trials whose values have opened the test set, where sweep.json was lost after the search had ended before."""
    return list(read_json(out / "trials.json").get("opened", [])) if (out / "trials.json").exists() else []


def _prepare_once(search: SweepPlan, out: Path, prepared: Path, engine: Engine, jobs: int | None) -> None:
    """Prepare what most trials share, on all cores and in sight; only then many processes look for it."""
    from ..stages.chunks import prepare_together
    from ..stages.prepare import prepare

    run = RunFolder(out / "trials" / "recipe", prepared)
    if engine.elsewhere:
        prepare_together(search.plan, run, engine, jobs, strict=False)
    prepare(search.plan, run, first=search.section.folds, inner=inner_of(search))


def _run_trials(search: SweepPlan, study: Study, out: Path, jobs: int | None, device: str, engine: Engine) -> None:
    """Run trials until there are as many as the plan says; those that were killed first."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    again = [one.number for one in trials if one.state == TrialState.RUNNING]
    for killed in again:
        draw(search, study, killed)
    done = sum(one.state.is_finished() for one in trials)

    def next_one() -> int | None:
        return again.pop(0) if again else ask(search, study)

    if done >= search.trials and not again:
        return
    with progress("sweep", max(search.trials, done + len(again)), done) as tick:
        if engine.elsewhere or (jobs or 1) > 1:
            _run_together(search, study, out, jobs, device, engine, next_one, tick)
            return
        while (number := next_one()) is not None:
            run_trial(search, study, number, out, device, partial(tick, done))
            done = _report(study, number, tick)


def _run_together(
    search: SweepPlan,
    study: Study,
    out: Path,
    jobs: int | None,
    device: str,
    engine: Engine,
    next_one: Callable[[], int | None],
    tick: Tick,
) -> None:
    """Several trials at a time, each in a process; values are drawn here, so that no number is drawn twice."""

    def following() -> Work | None:
        number = next_one()
        lock = out / "trials" / f".{number}.lock" if engine.elsewhere else None
        return None if number is None else Work(f"trial {number}", _work, (search.source, out, number), lock)

    try:
        with engine.places(jobs, search.trials, device, lambda name, shown: None, out) as places:
            for task, _ in places.answers(following):
                _report(study, task.arguments[-1], tick)
    except Died as died:
        raise died.sentence("run the same command again, with fewer --jobs") from None


def _work(source: Source, out: Path, number: int, device: str) -> None:
    """One trial in a process of its own, which makes the plan anew and finds the trial in the journal."""
    from ..engine.devices import pick_device

    need_optuna()
    search = make_sweep(source)
    study = open_study(out, metric_of(search))
    if study.get_trials(deepcopy=False)[number].state.is_finished():
        return  # by a process that was lost before it could say so
    try:
        with listening((signal.SIGTERM,), worker=True):
            run_trial(search, study, number, out, str(pick_device(device)), lambda words: None)
    except Stopped as stopped:
        os._exit(stopped.code)  # nobody waits for an answer


def _report(study: Study, number: int, tick: Tick) -> int:
    """Say how a trial came out; how many are done now."""
    done = results_of(study)
    last = next(one for one in done if one.number == number)
    if last.state == FAILED:
        say(f"trial {number} ({', '.join(settings(last.values))}) failed: {last.sentence}")
    words = last.state if last.score is None else f"{last.score:.3f}"
    scores = [each.score for each in done if each.score is not None]
    if scores:
        words += f", best {min(scores) if study.direction.name == 'MINIMIZE' else max(scores):.3f}"
    tick(len(done), f"trial {number} {words}")
    return len(done)


def _final(
    search: SweepPlan,
    best: TrialResult,
    metric: str,
    out: Path,
    device: str,
    wanted: bool,
    page: Page | None,
    engine: str,
    address: str | None,
) -> dict[str, Any] | None:
    """Write best.yaml; run it in full, if wanted, into best/; the test score, if there is one of these values."""
    from ..stages import run_all

    name = f"{search.plan.name}-best"
    text = search.recipe_of(
        best.values,
        name,
        f"{search.plan.name} with the best values of its sweep, those of trial {best.number}, chosen by\n"
        f"{in_words(search, metric)}.\n  mmcl run {out / 'best.yaml'}",
    )
    path, run = out / "best.yaml", RunFolder(out / "best", out.parent / "prepared")
    if run.root.exists() and not (path.exists() and path.read_text(encoding="utf-8") == text):
        remove_run(run.root)  # of other values, which were the best then
    write_text(path, text)
    plan = make_plan(parse_recipe(text, str(path), folder=out), search.source.data)
    if wanted:
        kept = read_json(out / "sweep.json")
        if best.number not in kept["opened"]:
            write_json(out / "sweep.json", {**kept, "opened": [*kept["opened"], best.number]})
        run_all(plan, run, device=device, page=page, engine=engine, address=address)
    units = [(fold.number, seed) for fold in load_prepared(run).folds for seed in plan.seeds] if run.root.exists() else []
    folders = [run.stage("supervise" if search.stage == "supervise" else "probe", fold, seed) for fold, seed in units]
    if not units or not all((folder / "finished.json").exists() for folder in folders):
        return None
    values = (
        _searched(search, plan, metric, folders) if search.task is None else _predicted(search, search.task, metric, folders)
    )
    if values is None:
        return None
    score = summarise(values, bounds_of(metric))
    return {key: getattr(score, key) for key in ("mean", "low", "high", "folds", "seeds")}


def _predicted(search: SweepPlan, task: Task, metric: str, folders: Sequence[Path]) -> Mapping[Unit, float | None] | None:
    """The test score of every fold and seed; None where the head was not tested."""
    table = values_of(row for folder in folders for row in read_jsonl(folder / "scores.jsonl"))
    encoders = ("fine-tuned", "supervised") if search.stage == "supervise" else ("pretrained", "random")
    cells = [(task.name, search.input, search.head, encoder, metric) for encoder in encoders]
    return next((table[cell] for cell in cells if cell in table), None)


def _searched(search: SweepPlan, plan: Plan, metric: str, folders: Sequence[Path]) -> Mapping[Unit, float | None] | None:
    """Retrieval on test recordings of every fold and seed, the mean over pairs and directions; None where there is none."""
    from ..stages.units import encoder_kinds

    names, kind = search.searched(plan), encoder_kinds(plan)[0]
    units: dict[Unit, list[float]] = {}
    for row in (row for folder in folders for row in read_jsonl(folder / "retrieval.jsonl")):
        mine = row["encoder"] == kind and row["from"] in names and row["to"] in names
        if mine and row["metric"] == metric and row["among"] == min(AMONG, row["n"]):
            units.setdefault((row["fold"], row["seed"], 0), []).append(row["value"])
    return {unit: fmean(values) for unit, values in units.items()} or None
