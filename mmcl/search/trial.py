"""One trial of a sweep: prepared, pretrained and embedded on training and validation rows, scored on validation rows."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..api.errors import DataError, MmclError
from ..data.folds import HELD, Inner
from ..memory import keep_freed_memory
from ..recipe.plan import Plan
from ..recipe.search import SweepPlan
from ..runs import RunFolder, write_json
from ..screen import hushed
from .metric import less_is_better, metric_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial


def run_trial(search: SweepPlan, study: Study, number: int, out: Path, device: str, show: Callable[[str], None]) -> None:
    """Run one trial and tell the journal how it came out. What is the user's to mend is its sentence; a bug of ours goes through.

    show  told after every epoch how far the trial has come, in words
    """
    import torch
    from optuna import TrialPruned
    from optuna.pruners import MedianPruner, NopPruner
    from optuna.trial import Trial, TrialState

    keep_freed_memory()
    frozen = study.get_trials(deepcopy=False)[number]
    trial = Trial(study, frozen._trial_id)
    began = time.monotonic()
    run = RunFolder(out / "trials" / f"{number:04d}", out.parent / "prepared")
    try:
        with hushed():
            plan = search.plan_of(frozen.params)
            recipe = plan.recipe
            epochs = recipe.supervise.epochs if search.stage == "supervise" and recipe.supervise else recipe.pretrain.epochs
            study.pruner = (
                MedianPruner(search.section.startup, n_warmup_steps=math.ceil(epochs / 3))
                if search.section.prune == "median"
                else NopPruner()
            )
            mark = "supervise/models/*.json" if search.stage == "supervise" else "pretrain/finished.json"
            first = not list(run.root.glob(f"fold-*/seed-*/{mark}"))  # else a killed trial goes on beyond it
            score = validation_score(search, plan, run, device, Watch(trial, frozen, metric_of(search), epochs, first, show))
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


class Watch:
    """Hands a trial's validation figures to Optuna, epoch by epoch, and ends the trial where it does worse than others did.

    Only the first fold and seed are judged: the same epoch of another fold has other recordings.
    """

    def __init__(
        self, trial: Trial, frozen: FrozenTrial, metric: str, epochs: int, first: bool, show: Callable[[str], None]
    ) -> None:
        self.trial, self.metric, self.epochs, self.show = trial, metric, epochs, show
        self.reported = set(frozen.intermediate_values)  # a trial that was killed has told some
        self.last = 0
        self.first = first

    def loss(self, epoch: int, loss: float) -> None:
        """After an epoch of pretraining: less is better."""
        self._report(epoch, loss if less_is_better(self.metric) else -loss)

    def metrics(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """After an epoch with labels."""
        if math.isfinite(metrics[self.metric]):
            self._report(epoch, metrics[self.metric])

    def _report(self, epoch: int, value: float) -> None:
        self.first = self.first and epoch > self.last
        self.last = epoch
        self.show(f"trial {self.trial.number}, epoch {epoch} of {self.epochs}")
        if not self.first:
            return
        if epoch not in self.reported:
            self.trial.report(value, epoch)
        if self.trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned


def validation_score(search: SweepPlan, plan: Plan, run: RunFolder, device: str, watch: Watch) -> float:
    """The score of a trial's plan on validation rows, mean over its folds, seeds and seeds of the head.

    Raises DataError where the metric is undefined on the validation rows of any of them.
    """
    from ..stages import about
    from ..stages.embed import embed
    from ..stages.prepare import prepare
    from ..stages.pretrain import pretrain
    from ..stages.probe import validation_retrieval, validation_scores
    from ..stages.supervise import validation_scores as supervised_scores
    from ..stages.units import encoder_kinds

    metric = metric_of(search)
    write_json(run.root / "plan.json", about(plan, device))
    prepare(plan, run, workers=1, first=search.section.folds, inner=inner_of(search))
    pretrained = plan.recipe.pretrain.epochs > 0
    if search.stage == "supervise":
        if plan.recipe.supervise and plan.recipe.supervise.start == "pretrained" and pretrained:
            pretrain(plan, run, device)
        rows = supervised_scores(plan, run, device, watch.metrics)
    else:
        if pretrained:
            pretrain(plan, run, device, watch.loss)
        embed(plan, run, device, splits=("train", "held", "valid") if search.holds else ("train", "valid"))
        rows = validation_scores(plan, run) if search.task else validation_retrieval(plan, run, search.searched(plan))
        rows = [row for row in rows if row["encoder"] == encoder_kinds(plan)[0]]
    values = [(row["value"], row["fold"], row["seed"]) for row in rows if row["metric"] == metric]
    undefined = [(fold, seed) for value, fold, seed in values if value is None]
    if undefined or not values:
        raise DataError(f"{metric} is undefined on the validation recordings of fold {undefined[0][0]}, seed {undefined[0][1]}")
    write_json(run.root / "scores.json", {"format": 1, "scores": rows})
    return math.fsum(float(value) for value, _, _ in values) / len(values)


def inner_of(search: SweepPlan) -> Inner | None:
    """How the training and validation rows of a fold are dealt for every trial; None: they stay as the protocol has them."""
    asked = search.section.validation
    if asked == "fold":
        return None
    share = getattr(search.plan.recipe.protocol, "valid", HELD)
    return Inner(
        parts=asked if isinstance(asked, int) else None,
        hold=(share if isinstance(share, float) else HELD) if search.holds else None,
    )
