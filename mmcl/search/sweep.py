"""sweep: tries values of a recipe and keeps the best, judged on validation recordings alone.

A trial prepares, pretrains and embeds the training and validation rows, fits the head and scores it on validation rows; no test
recording is embedded or scored. Then the best values are run in full, and the test set is opened once. Writes sweep.json (what is
searched for), study.jsonl (Optuna's journal: every trial), trials/, trials.json, sweep.html, best.yaml and best/. Run again, it
goes on with what is missing.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..api.errors import DataError, MmclError, RecipeError, StageError
from ..data.prepared import load_prepared
from ..evaluate.metrics import HEADLINE, LESS_IS_BETTER, evaluate
from ..evaluate.statistics import bounds_of, summarise, values_of
from ..recipe.plan import Plan, make_plan
from ..recipe.read import parse_recipe
from ..recipe.schema import Range
from ..recipe.search import Source, SweepPlan, make_sweep, settings, steps_of
from ..runs import RunFolder, fingerprint, read_json, read_jsonl, write_json, write_text
from ..screen import Tick, hushed, progress, say
from ..seeding import address
from ..stages import Page
from .told import DONE, EARLY, FAILED, Searched, Tried

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


def sweep(
    found: SweepPlan, out: Path, jobs: int = 1, device: str = "auto", final: bool = True, page: Page | None = None
) -> Searched:
    """Run the trials that are missing, then the best values in full; gives what was found.

    out    folder of the sweep; prepared streams are kept beside it, as those of runs
    jobs   trials at a time, each in a process of its own
    final  whether the best values are run in full, which opens the test set
    page   writes the report of the best values' run

    Raises RecipeError for a metric that is not there, StageError if Optuna is missing, another search lies in `out`, or all trials failed.
    """
    _need_optuna()
    from ..engine.devices import pick_device

    metric = metric_of(found)
    where = str(pick_device(device))
    folder = RunFolder(out, out.parent / "prepared")
    with folder.held():
        _same_search(found, metric, out)
        _mend(out / "study.jsonl")
        study = open_study(out, metric)
        folder.log("sweep", trials=found.trials, jobs=jobs, mmcl=__version__)
        _prepare_once(found, out, folder.prepared)
        _search(found, study, out, jobs, where)
        tried = [_tried(one) for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
        ended = [one for one in tried if one.score is not None]
        if not ended:
            write_json(out / "trials.json", {"format": 1, "name": found.plan.name, "trials": [asdict(one) for one in tried]})
            raise StageError(f"none of {len(tried)} trials has a score; the first ended with: {_first_sentence(tried)}")
        best = min(ended, key=lambda one: ((one.score or 0.0) if _less(metric) else -(one.score or 0.0), one.number))
        tested = _final(found, best, metric, out, where, final, page)
        shares, says = _importance(study, found)
        opened = tuple(read_json(out / "sweep.json")["opened"])
        said = Searched(
            found.plan.name, metric, _less(metric), _about(found, metric), tuple(tried), best, shares, says, tested, opened
        )
        write_json(out / "trials.json", json.loads(json.dumps(said.to_json())))
        say(f"{found.plan.name}: {len(tried)} trials done")
    return said


def metric_of(found: SweepPlan) -> str:
    """The metric that is searched for. Raises RecipeError if the task has none of that name."""
    task = found.task
    if found.metric is None:
        return HEADLINE[task.type]
    width = max(1, len(task.classes))
    two = np.zeros((2, width)) if task.type != "single-label" else np.zeros(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two made-up rows most metrics are undefined; their names are asked for
        known = evaluate(task.type, task.classes, two, np.zeros((2, width)), task.extra)
    if found.metric not in known:
        problem = f"task '{task.name}' has no metric '{found.metric}'; it has {', '.join(known)}"
        raise RecipeError([found.source.document().problem(("sweep", "score", "metric"), problem)])
    return found.metric


def _less(metric: str) -> bool:
    return metric.rsplit("/", 1)[-1] in LESS_IS_BETTER


def _about(found: SweepPlan, metric: str) -> str:
    section = found.section
    many = f"{section.folds} {'fold' if section.folds == 1 else 'folds'} and {section.seeds} {'seed' if section.seeds == 1 else 'seeds'}"
    return f"{metric} of task {found.task.name} from {found.input} by {found.head} ({found.stage}) on validation recordings, mean over {many}"


def _need_optuna() -> None:
    try:
        import optuna
    except ImportError:
        raise StageError("a sweep needs Optuna: pip install 'mmcl[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # progress and failures are said here, in our words
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _same_search(found: SweepPlan, metric: str, out: Path) -> None:
    """Keep what is searched for in sweep.json, and refuse to go on with another search in the same folder."""
    section, said = found.section, found.plan.to_json()
    for name in ("pretrain", "supervise"):
        if said[name]:
            said[name].pop("checkpoint_minutes")
    said["dataset"].pop("root")
    kept = ("seed", "dataset", "modalities", "scores", "window", "projection", "pretrain", "probe", "supervise", "protocol")
    search = {
        "space": {
            key: choice.model_dump() if isinstance(choice, Range) else steps_of(choice) for key, choice in section.space.items()
        },
        "score": {"stage": found.stage, "task": found.task.name, "input": found.input, "head": found.head, "metric": metric},
        "way of searching": section.model_dump(include={"sampler", "prune", "startup", "folds", "seeds", "seed"}),
        "recipe": {name: said[name] for name in kept},
    }
    keys = {name: fingerprint(value) for name, value in search.items()}
    if (out / "sweep.json").exists():
        before = read_json(out / "sweep.json")["keys"]
        other = [name for name in keys if before.get(name) != keys[name]]
        if other:
            raise StageError(
                f"{out}: was begun with another {' and another '.join(other)}; give another --out, or delete the folder"
            )
        return
    write_json(out / "sweep.json", {"format": 1, "mmcl": __version__, "keys": keys, "opened": [], **search})


def open_study(out: Path, metric: str) -> Study:
    """The trials of a sweep's folder, as Optuna keeps them: one journal, no database."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = out / "study.jsonl"
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(
        storage=storage, study_name="sweep", direction="minimize" if _less(metric) else "maximize", load_if_exists=True
    )


def _mend(path: Path) -> None:
    """Take away a last line that was half written, and a lock that was left, when the machine stopped."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def _prepare_once(found: SweepPlan, out: Path, prepared: Path) -> None:
    """Prepare what most trials share, on all cores and in sight; only then many processes look for it."""
    from ..stages.prepare import prepare

    prepare(found.plan, RunFolder(out / "trials" / "recipe", prepared), first=found.section.folds)


def _search(found: SweepPlan, study: Study, out: Path, jobs: int, device: str) -> None:
    """Run trials until there are as many as the plan says; those that were killed first."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    again = [one.number for one in trials if one.state == TrialState.RUNNING]
    for killed in again:
        _draw(found, study, killed)
    done = sum(one.state.is_finished() for one in trials)

    def next_one() -> int | None:
        return again.pop(0) if again else _ask(found, study)

    if done >= found.trials and not again:
        return
    with progress("sweep", max(found.trials, done + len(again)), done) as tick:
        if jobs > 1:
            _search_together(found, study, out, jobs, device, next_one, tick)
            return
        while (number := next_one()) is not None:
            _run_trial(found, study, number, out, device, partial(tick, done))
            done = _report(study, number, tick)


def _search_together(
    found: SweepPlan, study: Study, out: Path, jobs: int, device: str, next_one: Callable[[], int | None], tick: Tick
) -> None:
    """Several trials at a time, each in a process; values are drawn here, so that no number is drawn twice."""
    cores = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(cores,)) as pool:
        busy: dict[Future[None], int] = {}
        try:
            while True:
                while len(busy) < jobs and (number := next_one()) is not None:
                    busy[pool.submit(_work, found.source, out, number, device)] = number
                if not busy:
                    return
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    future.result()
                    _report(study, busy.pop(future), tick)
        except BrokenProcessPool:
            raise StageError(
                "a process that ran a trial died, perhaps for want of memory; run the same command again, with fewer --jobs"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():  # the trials that they run are run again
                process.terminate()
            raise


def _ask(found: SweepPlan, study: Study) -> int | None:
    """A new trial with its values drawn, or None when there are enough. The draw depends on the trial's number and those before."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    number = sum(one.state != TrialState.WAITING for one in trials)
    if number >= found.trials:
        return None
    study.sampler = _sampler(found, number)
    if found.section.sampler == "grid" and number == len(trials):  # else the last run ended before it was taken
        study.enqueue_trial(dict(found.grid[number]))
    return study.ask(_space(found)).number


def _draw(found: SweepPlan, study: Study, number: int) -> None:
    """Draw what a killed trial lacks; what it has stays."""
    from optuna.trial import Trial

    study.sampler = _sampler(found, number)
    trial = Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
    for key, choice in _space(found).items():
        trial._suggest(key, choice)


def _sampler(found: SweepPlan, number: int) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    seed = address(found.section.seed, "sweep", number) % 2**32
    if found.section.sampler == "tpe":
        return TPESampler(n_startup_trials=found.section.startup, seed=seed, constant_liar=True)
    return RandomSampler(seed=seed)


def _space(found: SweepPlan) -> dict[str, BaseDistribution]:
    """The swept keys as Optuna has them; the values of a list, and those of a grid, stand for themselves."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, BaseDistribution] = {}
    for key, choice in found.section.space.items():
        if not isinstance(choice, Range) or found.section.sampler == "grid":
            space[key] = CategoricalDistribution(steps_of(choice))
        elif all(isinstance(value, int) for value in (choice.low, choice.high, choice.step or 1)):
            space[key] = IntDistribution(int(choice.low), int(choice.high), choice.log, int(choice.step or 1))
        else:
            space[key] = FloatDistribution(choice.low, choice.high, choice.log, choice.step)
    return space


def _begin(cores: int) -> None:
    """Set up one worker process."""
    import torch

    _need_optuna()
    torch.set_num_threads(cores)
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End when the process that draws the trials is gone: nobody else may work on a trial that is run again."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(source: Source, out: Path, number: int, device: str) -> None:
    """One trial in a process of its own, which makes the plan anew and finds the trial in the journal."""
    found = make_sweep(source)
    _run_trial(found, open_study(out, metric_of(found)), number, out, device, lambda words: None)


def _run_trial(found: SweepPlan, study: Study, number: int, out: Path, device: str, heard: Callable[[str], None]) -> None:
    """Run one trial and tell the journal how it came out. What is the user's to mend is its sentence; a bug of ours goes through."""
    import torch
    from optuna import TrialPruned
    from optuna.pruners import MedianPruner, NopPruner
    from optuna.trial import Trial, TrialState

    frozen = study.get_trials(deepcopy=False)[number]
    trial = Trial(study, frozen._trial_id)
    began = time.monotonic()
    run = RunFolder(out / "trials" / f"{number:04d}", out.parent / "prepared")
    try:
        with hushed():
            plan = found.plan_of(frozen.params)
            recipe = plan.recipe
            epochs = recipe.supervise.epochs if found.stage == "supervise" and recipe.supervise else recipe.pretrain.epochs
            study.pruner = (
                MedianPruner(found.section.startup, n_warmup_steps=math.ceil(epochs / 3))
                if found.section.prune == "median"
                else NopPruner()
            )
            mark = "supervise/models/*.json" if found.stage == "supervise" else "pretrain/finished.json"
            first = not list(run.root.glob(f"fold-*/seed-*/{mark}"))  # else a killed trial goes on beyond it
            score = _score(found, plan, run, device, _Watch(trial, frozen, metric_of(found), epochs, first, heard))
    except TrialPruned:
        state, score = TrialState.PRUNED, None
    except MmclError as error:
        trial.set_user_attr("sentence", str(error).splitlines()[0])
        state, score = TrialState.FAIL, None
    except torch.OutOfMemoryError:
        trial.set_user_attr("sentence", f"device {device} has too little memory for these values")
        state, score = TrialState.FAIL, None
    else:
        state = TrialState.COMPLETE
    trial.set_user_attr("seconds", round(time.monotonic() - began, 3))
    study.tell(number, score, state)
    for file in run.root.rglob("*.safetensors"):  # weights and features of every trial would fill the disk; the log stays
        file.unlink()
    for part in run.root.rglob("resume*"):
        shutil.rmtree(part)


class _Watch:
    """Hands a trial's validation figures to Optuna, epoch by epoch, and ends the trial where it does worse than others did.

    Only the first fold and seed are judged: the same epoch of another fold has other recordings.
    """

    def __init__(
        self, trial: Any, frozen: FrozenTrial, metric: str, epochs: int, first: bool, heard: Callable[[str], None]
    ) -> None:
        self.trial, self.metric, self.epochs, self.heard = trial, metric, epochs, heard
        self.reported = set(frozen.intermediate_values)  # a trial that was killed has told some
        self.last = 0
        self.first = first

    def loss(self, epoch: int, loss: float) -> None:
        """After an epoch of pretraining: less is better."""
        self._report(epoch, loss if _less(self.metric) else -loss)

    def metrics(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """After an epoch with labels."""
        if math.isfinite(metrics[self.metric]):
            self._report(epoch, metrics[self.metric])

    def _report(self, epoch: int, value: float) -> None:
        self.first = self.first and epoch > self.last
        self.last = epoch
        self.heard(f"trial {self.trial.number}, epoch {epoch} of {self.epochs}")
        if not self.first:
            return
        if epoch not in self.reported:
            self.trial.report(value, epoch)
        if self.trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned


def _score(found: SweepPlan, plan: Plan, run: RunFolder, device: str, watch: _Watch) -> float:
    """The validation score of a trial's plan, mean over its folds, seeds and seeds of the head."""
    from ..stages import about
    from ..stages.embed import embed
    from ..stages.prepare import prepare
    from ..stages.pretrain import pretrain
    from ..stages.probe import validation_scores
    from ..stages.supervise import validation_scores as supervised_scores
    from ..stages.units import encoder_kinds

    metric = metric_of(found)
    write_json(run.root / "plan.json", about(plan, device))
    with _alone(run.prepared):
        prepare(plan, run, workers=1, first=found.section.folds)
    pretrained = plan.recipe.pretrain.epochs > 0
    if found.stage == "supervise":
        if plan.recipe.supervise and plan.recipe.supervise.start == "pretrained" and pretrained:
            pretrain(plan, run, device)
        rows = supervised_scores(plan, run, device, watch.metrics)
    else:
        if pretrained:
            pretrain(plan, run, device, watch.loss)
        embed(plan, run, device, splits=("train", "valid"))
        rows = [row for row in validation_scores(plan, run) if row["encoder"] == encoder_kinds(plan)[0]]
    values = [(row["value"], row["fold"], row["seed"]) for row in rows if row["metric"] == metric]
    lost = [(fold, seed) for value, fold, seed in values if value is None]
    if lost or not values:
        raise DataError(f"{metric} is undefined on the validation recordings of fold {lost[0][0]}, seed {lost[0][1]}")
    write_json(run.root / "scores.json", {"format": 1, "scores": rows})
    return math.fsum(float(value) for value, _, _ in values) / len(values)


@contextmanager
def _alone(prepared: Path) -> Iterator[None]:
    """One process at a time looks for prepared streams and makes those that are missing."""
    prepared.mkdir(parents=True, exist_ok=True)
    with (prepared / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _report(study: Study, number: int, tick: Tick) -> int:
    """Say how a trial came out; how many are done now."""
    done = [_tried(one) for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
    one = next(one for one in done if one.number == number)
    if one.state == FAILED:
        say(f"trial {number} ({', '.join(settings(one.values))}) failed: {one.sentence}")
    words = one.state if one.score is None else f"{one.score:.3f}"
    scores = [each.score for each in done if each.score is not None]
    if scores:
        words += f", best {min(scores) if study.direction.name == 'MINIMIZE' else max(scores):.3f}"
    tick(len(done), f"trial {number} {words}")
    return len(done)


def _tried(one: FrozenTrial) -> Tried:
    state = {"COMPLETE": DONE, "PRUNED": EARLY}.get(one.state.name, FAILED)
    return Tried(
        one.number,
        state,
        dict(one.params),
        one.value if state == DONE else None,
        one.user_attrs.get("seconds", 0.0),
        one.user_attrs.get("sentence", ""),
    )


def _first_sentence(tried: list[Tried]) -> str:
    return next((one.sentence for one in tried if one.sentence), "ended early")


def _final(
    found: SweepPlan, best: Tried, metric: str, out: Path, device: str, wanted: bool, page: Page | None
) -> dict[str, Any] | None:
    """Write best.yaml; run it in full, if wanted, into best/; the test score, if there is one of these values."""
    from ..stages import run_all

    name = f"{found.plan.name}-best"
    text = found.recipe_of(
        best.values,
        name,
        f"{found.plan.name} with the best values of its sweep, those of trial {best.number}, chosen by\n"
        f"{_about(found, metric)}.\n  mmcl run {out / 'best.yaml'}",
    )
    path, run = out / "best.yaml", RunFolder(out / "best", out.parent / "prepared")
    if run.root.exists() and not (path.exists() and path.read_text(encoding="utf-8") == text):
        shutil.rmtree(run.root)  # of other values, which were the best then
    write_text(path, text)
    plan = make_plan(parse_recipe(text, str(path), folder=out), found.source.data)
    if wanted:
        kept = read_json(out / "sweep.json")
        if best.number not in kept["opened"]:
            write_json(out / "sweep.json", {**kept, "opened": [*kept["opened"], best.number]})
        run_all(plan, run, device=device, page=page)
    units = [(fold.number, seed) for fold in load_prepared(run).folds for seed in plan.seeds] if run.root.exists() else []
    folders = [run.stage(found.stage, fold, seed) for fold, seed in units]
    if not units or not all((folder / "finished.json").exists() for folder in folders):
        return None
    table = values_of(row for folder in folders for row in read_jsonl(folder / "scores.jsonl"))
    encoders = {"probe": ("pretrained", "random"), "supervise": ("fine-tuned", "supervised")}[found.stage]
    cells = [(found.task.name, found.input, found.head, encoder, metric) for encoder in encoders]
    values = next((table[cell] for cell in cells if cell in table), None)
    if values is None:
        return None
    score = summarise(values, bounds_of(metric))
    return {key: getattr(score, key) for key in ("mean", "low", "high", "folds", "seeds")}


def _importance(study: Study, found: SweepPlan) -> tuple[dict[str, float], str]:
    """How much of the scores' variance each key explains, and how that was found; or nothing, and why."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    whole = [one.value for one in study.get_trials(deepcopy=False) if one.value is not None and one.state.name == "COMPLETE"]
    if len(found.section.space) < 2:
        return {}, "There is one key; nothing to share out."
    if len(whole) < 2:
        return {}, f"{'No trial' if not whole else 'One trial'} has a score; how much a key matters shows from two on."
    if len(set(whole)) == 1:
        return {}, "All trials have the same score: no key matters here."
    evaluator = FanovaImportanceEvaluator(seed=address(found.section.seed, "sweep", "importance") % 2**32)
    try:
        shares = get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError) as error:
        return {}, f"Optuna could not say how much each key matters: {error}"
    few = "; with so few, only a hint" if len(whole) < 10 * len(found.section.space) else ""
    return dict(shares), f"fANOVA over {len(whole)} trials{few}. Shares of the variance of the scores; they add up to 1."
