"""The trials of a sweep as Optuna keeps them: their journal, how values are drawn, and how much each key mattered."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..api.errors import StageError
from ..recipe.search import SweepPlan, steps_of
from ..recipe.searches import Range
from ..runs import distrust, open_file
from ..seeding import address
from .metric import less_is_better
from .results import DONE, EARLY, FAILED, TrialResult

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


def need_optuna() -> None:
    """Make Optuna quiet. Raises StageError, with how to get it, if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise StageError("a sweep needs Optuna: pip install 'mmcl[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # progress and failures are said here, in our words
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


JOURNAL_BYTES = 2**26
"""A larger journal is refused: a trial takes about a kilobyte."""


def journal(out: Path) -> Path:
    """Where a sweep's trials are kept."""
    return out / "study.jsonl"


def open_study(out: Path, metric: str) -> Study:
    """The trials of a sweep's folder, as Optuna keeps them: one journal, no database. Raises StageError if that is damaged."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with distrust(journal(out)):
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal(out)))),
            study_name="sweep",
            direction="minimize" if less_is_better(metric) else "maximize",
            load_if_exists=True,
        )


def mend(path: Path) -> None:
    """Take away a last line that was half written, and a lock that was left, when the machine stopped.

    Raises StageError for a journal that is larger than any sweep's: Optuna would hold all of it.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > JOURNAL_BYTES:
            raise StageError(
                f"{path}: has {size:,} bytes, where at most {JOURNAL_BYTES:,} are expected; delete the folder, or give another --out"
            )
        text = file.read()
    if not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def results_of(study: Study) -> list[TrialResult]:
    """Every trial that is finished, in order. Raises StageError if the journal contradicts itself."""
    with distrust(Path(study.study_name)):  # the study knows no folder
        return [_result(trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _result(trial: FrozenTrial) -> TrialResult:
    state = {"COMPLETE": DONE, "PRUNED": EARLY}.get(trial.state.name, FAILED)
    return TrialResult(
        number=trial.number,
        state=state,
        values=dict(trial.params),
        score=trial.value if state == DONE else None,
        seconds=trial.user_attrs.get("seconds", 0.0),
        sentence=trial.user_attrs.get("sentence", ""),
    )


def ask(search: SweepPlan, study: Study) -> int | None:
    """A new trial with its values drawn, or None when there are enough. The draw depends on the trial's number and those before."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    number = sum(one.state != TrialState.WAITING for one in trials)
    if number >= search.trials:
        return None
    study.sampler = _sampler(search, number)
    if search.section.sampler == "grid" and number == len(trials):  # else the last run ended before it was taken
        study.enqueue_trial(dict(search.grid[number]))
    return study.ask(_space(search)).number


def draw(search: SweepPlan, study: Study, number: int) -> None:
    """Draw what a killed trial lacks; what it has stays."""
    from optuna.trial import Trial

    study.sampler = _sampler(search, number)
    trial = Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
    for key, choice in _space(search).items():
        trial._suggest(key, choice)


def _sampler(search: SweepPlan, number: int) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    seed = address(search.section.seed, "sweep", number) % 2**32
    if search.section.sampler == "tpe":
        return TPESampler(n_startup_trials=search.section.startup, seed=seed, constant_liar=True)
    return RandomSampler(seed=seed)


def _space(search: SweepPlan) -> dict[str, BaseDistribution]:
    """The swept keys as Optuna has them; the values of a list, and those of a grid, stand for themselves."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, BaseDistribution] = {}
    for key, choice in search.section.space.items():
        if not isinstance(choice, Range) or search.section.sampler == "grid":
            space[key] = CategoricalDistribution(steps_of(choice))
        elif all(isinstance(value, int) for value in (choice.low, choice.high, choice.step or 1)):
            space[key] = IntDistribution(int(choice.low), int(choice.high), choice.log, int(choice.step or 1))
        else:
            space[key] = FloatDistribution(choice.low, choice.high, choice.log, choice.step)
    return space


def importance(study: Study, search: SweepPlan) -> tuple[dict[str, float], str]:
    """How much of the scores' variance each key explains, and how that was computed; or nothing, and why."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    scores = [one.value for one in study.get_trials(deepcopy=False) if one.value is not None and one.state.name == "COMPLETE"]
    if len(search.section.space) < 2:
        return {}, "There is one key; nothing to share out."
    if len(scores) < 2:
        return {}, f"{'No trial' if not scores else 'One trial'} has a score; how much a key matters shows from two on."
    if len(set(scores)) == 1:
        return {}, "All trials have the same score: no key matters here."
    evaluator = FanovaImportanceEvaluator(seed=address(search.section.seed, "sweep", "importance") % 2**32)
    try:
        shares = get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError) as error:
        return {}, f"Optuna could not say how much each key matters: {error}"
    few = "; with so few, only a hint" if len(scores) < 10 * len(search.section.space) else ""
    return dict(shares), f"fANOVA over {len(scores)} trials{few}. Shares of the variance of the scores; they add up to 1."
