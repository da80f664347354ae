"""pretrain: learn the encoders by contrasting every pair of modalities. No labels unless the positives ask for them.

For each fold and seed: reads the stores of training and validation rows. Writes encoders.safetensors, encoders.json,
history.jsonl, resume/ meanwhile and last/, from which more epochs can go on. Killed at any moment, it goes on from the last
checkpoint to bit-identical weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..api.batch import Batch, Items
from ..api.errors import StageError
from ..data.batches import at_recordings, epoch_batches
from ..engine.devices import pick_device
from ..engine.means import Mean
from ..engine.optim import build_optimizer, clip_gradient, rate, set_rate
from ..engine.progress import Progress
from ..engine.ranks import ALONE, Ranks, device_of
from ..engine.resume import drop_checkpoint, has_checkpoint
from ..evaluate import health
from ..evaluate.retrieval import both_ways
from ..model.augment import Augmentation
from ..model.encoder import Encoder, parameters_of
from ..model.keep import save_weights
from ..model.windows import WindowMean, draw_batches, items_of, parts_of, spans_drawn
from ..objective.score import Embedded, Objective
from ..recipe.plan import Plan
from ..runs import RunFolder, finish, finished, read_json, restart, write_jsonl
from ..screen import progress, say
from ..seeding import address
from ..stopping import asked, patient, stop_for
from .composed import batches_of_epoch
from .learners import BESIDE, Learner, Pairs, learner_of, look_again, seen_by, whole_weights
from .lost import LOST, buffers_of, keep_lost, put_back, remedies
from .units import ALL, Only, Unit, pretrain_key, units_of

Watch = Callable[[int, float], None]
"""Told the epochs that are done and their validation loss; what it raises ends the training."""


def pretrain(
    plan: Plan,
    run: RunFolder,
    device: str = "auto",
    watch: Watch | None = None,
    continued: Sequence[Mapping[str, Any]] = (),
    only: Only = ALL,
    ranks: Ranks = ALONE,
) -> None:
    """Train the encoders of every fold and seed that are not trained yet.

    continued  epochs and patience of each plan whose finished training this one goes on with
    only       which folds and seeds
    ranks      the processes that train together, each of which calls this
    """
    units = units_of(plan, run, only)
    where = device_of(pick_device(device))
    for unit in units:
        key = pretrain_key(plan, unit.prepared, unit.fold, unit.seed)
        before = [pretrain_key(plan, unit.prepared, unit.fold, unit.seed, one) for one in reversed(continued)]
        if ranks.first_says(partial(_is_ready, unit, key, bool(before))):
            continue
        if plan.recipe.pretrain.shard:
            _refuse_shards(plan, ranks)
        with patient():
            _train(unit, key, where, watch, before, ranks)
        stop_for(ranks.asked(), lambda: f"pretrain {unit} is finished")  # noqa: B023 - called at once


def _refuse_shards(plan: Plan, ranks: Ranks) -> None:
    """Raise StageError where weights cannot be sharded."""
    looks = plan.sampler is not None and plan.sampler.spec.looks(plan.sampler.params)
    if ranks.size == 1:
        raise StageError(
            "pretrain.shard divides weights among processes, and here is one; start several with torchrun --nproc-per-node N -m mmcl run, or "
            "set pretrain.shard: false"
        )
    beside = {
        "pretrain.pretext": plan.pretext is not None,
        "pretrain.objective.momentum": plan.recipe.pretrain.objective.momentum is not None,
        "a sampler that looks at embeddings": looks,
    }
    if taken := [name for name, there in beside.items() if there]:
        raise StageError(f"pretrain.shard does not go together with {' and '.join(taken)}; leave that out, or pretrain.shard")
    if plan.supervised is not None:
        raise StageError(
            "pretrain.shard does not go together with supervise, which holds all weights in every process; leave supervise out, or until "
            "pretraining is finished"
        )


def check_checkpoint(unit: Unit) -> None:
    """Raise StageError if there are checkpoints of this very training, and none of them can be gone on with."""
    learner = learner_of(unit, torch.device("cpu"))
    state = Progress(key=pretrain_key(unit.plan, unit.prepared, unit.fold, unit.seed), best_name="best_loss")
    optimizer = build_optimizer(unit.plan.recipe.pretrain.optimizer, learner.model)
    state.restore(unit.folder("pretrain") / "resume", learner.model, optimizer)


def _is_ready(unit: Unit, key: str, going_on: bool) -> bool:
    """Whether a fold and seed is trained; if not, its folder is made ready for training it.

    going_on  whether it may go on from the end of a training with fewer epochs
    """
    folder = unit.folder("pretrain")
    if finished(folder, key):
        drop_leftovers(folder)
        return True
    same = _same_training(folder, key)
    if not has_checkpoint(folder / "resume") and not ((going_on or same) and has_checkpoint(folder / "last")):
        if (folder / "finished.json").exists() and not same:
            say(
                f"pretrain {unit}: was finished with other settings or data; its encoders are thrown away, and training starts anew"
            )
        restart(folder)
    return False


@dataclass
class _Training:
    """One training under way: what `_train` and its epochs share."""

    unit: Unit
    ranks: Ranks
    learner: Learner
    optimizer: torch.optim.Optimizer
    state: Progress

    @property
    def resume(self) -> Path:
        """Where its checkpoints lie."""
        return self.unit.folder("pretrain") / "resume"

    def stop_for(self, number: int, within: Callable[[], dict[str, Any]]) -> None:
        """If a signal asked for an end, write a checkpoint and raise Stopped."""
        self.state.stop_for(number, self.resume, self.learner.model, self.optimizer, f"pretrain {self.unit}", within)


def _train(
    unit: Unit, key: str, device: torch.device, watch: Watch | None, before: Sequence[str], ranks: Ranks = ALONE
) -> None:
    """One fold and seed, from its first weights to the kept ones on disk.

    before  fingerprints of trainings with fewer epochs that this one may go on from, the latest first
    """
    section, resume = unit.plan.recipe.pretrain, unit.folder("pretrain") / "resume"
    learner = learner_of(unit, device, ranks)
    model = learner.model
    optimizer = build_optimizer(section.optimizer, model)
    state = Progress(key=key, best_name="best_loss", writes=ranks.first, sharded=ranks if section.shard else None)
    again = False
    if (
        state.restore(resume, model, optimizer)
        or (again := _whole_again(state, resume.with_name("last"), model, optimizer))
        or any(state.go_on(folder, one, model, optimizer) for one in before for folder in (resume, resume.with_name("last")))
    ):
        say(f"pretrain {unit}: goes on after epoch {state.epoch}")
    ranks.as_first(model, weights=True)
    training = _Training(unit, ranks, learner, optimizer, state)
    tracker = _tracker(unit) if ranks.first else None
    warned: set[str] = set()
    stopped = "epochs"
    if over := again and state.patience_is_over(section.patience):
        stopped = "patience"
    with progress(f"pretrain {unit}", section.epochs, state.epoch) as tick:
        for epoch in () if over else range(state.epoch, section.epochs):
            began = time.monotonic()
            train, waited = _epoch(training, epoch)
            _stop_if_nothing_was_contrasted(train, unit, epoch)
            valid = _validate(unit, learner)
            row = _history_row(epoch, train, valid, optimizer.param_groups[0]["lr"], time.monotonic() - began, waited)
            monitored = ranks.first_number(_monitored(row, unit))
            state.finish_epoch(row, monitored=monitored, model=model, skipped=train.skipped)
            for warning in _new_warnings(state.history, section.batch_size * len(section.shares), warned):
                say(f"pretrain {unit}, epoch {state.epoch}: {warning}")
            _track(tracker, row)
            tick(state.epoch, _words(row, state))
            if watch is not None and valid.loss is not None:
                watch(state.epoch, valid.loss)
            if state.patience_is_over(section.patience):
                stopped = "patience"
                break
            if state.due(section.checkpoint_minutes) and state.epoch < section.epochs:
                state.save(resume, model, optimizer)
            training.stop_for(ranks.asked(), dict)
    if tracker is not None:
        tracker.close()
    state.save(resume.with_name("last"), model, optimizer)
    if section.keep == "best":
        model.load_state_dict(state.weights)
    weights = {name: whole_weights(module, ranks) for name, module in model.items() if name not in BESIDE}
    if ranks.first:
        _keep(unit, key, model, weights, state, stopped, device)


def _epoch(training: _Training, epoch: int) -> tuple[_Means, float]:
    """Every step of an epoch that is not done yet; means over all of its batches, and seconds that were waited for them."""
    unit, ranks, learner = training.unit, training.ranks, training.learner
    optimizer, state, model = training.optimizer, training.state, training.learner.model
    plan, section = unit.plan, unit.plan.recipe.pretrain
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}
    train, done = _Means.from_json(state.within.get("means", {})), int(state.within.get("batches", 0))
    if not done:  # else a checkpoint within the epoch holds what was seen when it began
        look_again(learner, unit, epoch)
    model.train()
    seen = seen_by(learner)
    rows = batches_of_epoch(
        plan, unit.prepared, unit.fold, *unit.address, epoch=epoch, seen=None if seen is None else seen.held()
    )
    batches = _Awaited(
        draw_batches(
            plan, unit.prepared.stores, rows, section.shares, *unit.address, "window", epoch, first=done, share=ranks.share
        )
    )
    for k, batch in enumerate(batches, done):
        items = items_of(rows[k], section.shares)
        generator = state.seed_step(*unit.address, *ranks.where)
        set_rate(optimizer, rate(section.schedule, section.optimizer.lr, section.epochs, epoch + k / len(rows)))
        before_step = buffers_of(model) if section.skip else {}
        with at_recordings(unit.prepared.samples, items.row):
            encoded = learner.forward(batch, len(items.row), augmentations, generator)
            if ranks.size > 1:
                state.seed_objective(*unit.address)
            objective = learner.objective(encoded, items)
        lost, signal = ranks.agree(int(objective.loss is not None and not bool(torch.isfinite(objective.loss))), asked() or 0)
        if lost:
            _lost(training, objective, items, (epoch, k), train)
            put_back(model, before_step)
            state.step += 1
            continue
        if objective.loss is not None:
            optimizer.zero_grad(set_to_none=True)
            learner.backward(objective)
            if section.clip is not None:
                clip_gradient(model, section.clip, ranks)
            optimizer.step()
            learner.stepped(encoded, items)
        ranks.as_first(model)
        state.step += 1
        train.add(objective, len(items.row))
        training.stop_for(signal, partial(train.within, k + 1))
    return train, batches.waited


def _keep(
    unit: Unit,
    key: str,
    model: nn.ModuleDict,
    weights: Mapping[str, Mapping[str, Tensor]],
    state: Progress,
    stopped: str,
    device: torch.device,
) -> None:
    """Write the encoders, their history and what is known of them; of the checkpoints the one of the last epoch stays."""
    plan, section, folder = unit.plan, unit.plan.recipe.pretrain, unit.folder("pretrain")
    encoders = {name: module for name, module in model.items() if name not in BESIDE}
    save_weights(folder, weights, encoders_json(unit, state))
    write_jsonl(folder / "history.jsonl", state.history)
    facts: dict[str, Any] = {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        **_best(unit, state),
        "stopped": stopped,
        "seconds": round(state.seconds, 3),
        "parameters": parameters_of(encoders),
        "skipped_pairs": state.skipped,
        "labels": plan.labels,
        "warnings": health.warnings(state.history, section.batch_size * len(section.shares)),
        **({"continued": state.continued} if state.continued else {}),
    }
    finish(folder, key, **facts)
    drop_leftovers(folder)
    unit.run.log("pretrain", fold=unit.fold.number, seed=unit.seed, device=str(device), **facts)


def drop_leftovers(folder: Path) -> None:
    """Take away what a finished training no longer needs: its checkpoints but for that of the last epoch."""
    drop_checkpoint(folder / "resume")
    drop_checkpoint(folder / "last", before_only=True)


def _same_training(folder: Path, key: str) -> bool:
    """Whether what lies in a folder was trained with this key: then its last checkpoint has all that it wrote."""
    try:
        return bool(read_json(folder / "last" / "state.json").get("key") == key)
    except StageError:
        return False


def _whole_again(state: Progress, last: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Go on from the checkpoint of this very training's last epoch, where some of what it wrote was lost; whether that was possible."""
    if not _same_training(last.parent, state.key):
        return False
    try:
        return state.restore(last, model, optimizer)
    except StageError as error:
        say(f"{error} Training starts anew.")
        return False


def encoders_json(unit: Unit, state: Progress) -> dict[str, Any]:
    """What encoders.json says: all that is needed to use the encoders without the recipe."""
    config = unit.plan.to_json()
    return {
        "mmcl": __version__,
        "name": unit.plan.name,
        "fold": unit.fold.number,
        "seed": unit.seed,
        "epoch": state.best_epoch if unit.plan.recipe.pretrain.keep == "best" else state.epoch,
        "modalities": config["modalities"],
        "projection": config["projection"],
        "window": config["window"],
        "pretext": config["pretrain"]["pretext"],
    }


class _Awaited:
    """Batches as they come, and how many seconds were waited for them."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self.waited = batches, 0.0

    def __iter__(self) -> Iterator[Batch]:
        asked = time.monotonic()
        for batch in self._batches:
            self.waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()


def replayed(
    unit: Unit, weights: Mapping[str, Tensor], batch: Batch, items: Items, step: int, device: torch.device, ranks: Ranks
) -> tuple[dict[str, Embedded], Objective]:
    """The embeddings by modality (none of a pretext) and the objective of one batch, with the weights and the draws of a step. Nothing learns.

    batch  this rank's share
    items  who stands in the rows of the whole batch
    """
    learner = learner_of(unit, device, ranks)
    if unit.plan.recipe.pretrain.shard and ranks.size > 1:
        from ..engine.shards import fill  # late: it takes seconds to import

        fill(learner.model, weights)
    else:
        try:
            learner.model.load_state_dict(dict(weights))
        except RuntimeError as error:  # torch's word for names and shapes that are others
            raise StageError(
                f"{unit.folder('pretrain') / 'lost.safetensors'}: holds other weights than this run's networks have; it is of another run, "
                "or was changed"
            ) from error
    learner.model.train()
    state = Progress(key="", step=step)
    generator = state.seed_step(*unit.address, *ranks.where)
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in unit.plan.modalities}
    encoded = learner.forward(batch, len(items.row), augmentations, generator)
    if ranks.size > 1:
        state.seed_objective(*unit.address)
    objective = learner.objective(encoded, items)
    return ({} if unit.plan.pretext else {name: Embedded(one.z.detach(), one.rows) for name, one in encoded.items()}), objective


@torch.no_grad()
def _validate(unit: Unit, learner: Learner) -> _Means:
    """The objective on validation rows, in eval mode, on the same batches and windows after every epoch."""
    plan, section = unit.plan, unit.plan.recipe.pretrain
    learner.model.eval()
    valid = _Means()
    gallery = _Gallery(plan, unit.fold.choosing, cast("Pairs", learner).encoders) if section.choose == "retrieval" else None
    rows = epoch_batches(unit.fold.choosing, section.batch_size, *unit.address, "valid")
    batches = draw_batches(
        plan, unit.prepared.stores, rows, section.shares, *unit.address, "valid window", share=learner.ranks.share
    )
    for recordings, batch in zip(rows, batches, strict=True):
        items = items_of(recordings, section.shares)
        with at_recordings(unit.prepared.samples, items.row):
            encoded = learner.forward(batch, len(items.row), {}, None)
            valid.add(learner.objective(encoded, items), len(items.row))
        if gallery is not None:
            gallery.add(encoded, items)
    valid.retrieval = gallery.reciprocal_rank() if gallery is not None else None
    return valid


class _Gallery:
    """The embeddings of some recordings by modality, over all batches, each the mean of its windows."""

    def __init__(self, plan: Plan, rows: Sequence[int], encoders: Mapping[str, Encoder]) -> None:
        self._pairs = plan.linked
        self._place = {row: i for i, row in enumerate(rows)}
        self._means = {
            name: WindowMean(len(rows), encoders[name].embedding) for name in sorted({n for pair in self._pairs for n in pair})
        }

    def add(self, encoded: Mapping[str, Embedded], items: Items) -> None:
        """The embeddings of a batch."""
        for name, means in self._means.items():
            index = [self._place[row] for row in items.row[encoded[name].rows.cpu()].tolist()]
            means.add(torch.tensor(index, dtype=torch.int64), torch.nn.functional.normalize(encoded[name].z.float(), dim=-1))

    def reciprocal_rank(self) -> float | None:
        """The mean over pairs and both directions; None where no pair has two recordings in common."""
        ranks = []
        for left, right in self._pairs:
            here = self._means[left].present & self._means[right].present
            one, other = self._means[left].value[here], self._means[right].value[here]
            if len(one) > 1:
                ranks += [places.reciprocal_rank for places in both_ways(one, other)]
        return math.fsum(ranks) / len(ranks) if ranks else None


class _Means:
    """Means over batches of all that an objective says."""

    def __init__(self) -> None:
        self._loss = Mean()
        self._pairs: dict[str, dict[str, Mean]] = {}
        self._embeddings: dict[str, dict[str, Mean]] = {}
        self.skipped: dict[str, int] = {}
        self.retrieval: float | None = None  # of validation rows, where epochs are chosen by it

    def within(self, batches: int) -> dict[str, Any]:
        """What a checkpoint keeps of an epoch of which so many batches are done."""
        tables = {
            what: {name: {figure: mean.to_json() for figure, mean in means.items()} for name, means in table.items()}
            for what, table in (("pairs", self._pairs), ("embeddings", self._embeddings))
        }
        return {"batches": batches, "means": {"loss": self._loss.to_json(), "skipped": self.skipped, **tables}}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> _Means:
        """The means that a checkpoint has kept; {}: none yet."""
        means = cls()
        means._loss = Mean.from_json(kept.get("loss", ()))
        means.skipped = dict(kept.get("skipped", {}))
        for what, table in (("pairs", means._pairs), ("embeddings", means._embeddings)):
            for name, figures in kept.get(what, {}).items():
                table[name] = {figure: Mean.from_json(values) for figure, values in figures.items()}
        return means

    def add(self, objective: Objective, rows: int) -> None:
        if objective.loss is not None:
            self._loss.add(objective.loss, rows)
        for means, figures in ((self._pairs, objective.pairs), (self._embeddings, objective.embeddings)):
            for name, values in figures.items():
                for figure, value in values.items():
                    means.setdefault(name, {}).setdefault(figure, Mean()).add(value, rows)
        for pair in objective.skipped:
            self.skipped[pair] = self.skipped.get(pair, 0) + 1

    @property
    def loss(self) -> float | None:
        return self._loss.value

    @property
    def pairs(self) -> dict[str, dict[str, float | None]]:
        return {pair: {name: mean.value for name, mean in means.items()} for pair, means in self._pairs.items()}

    @property
    def embeddings(self) -> dict[str, dict[str, float | None]]:
        return {one: {name: mean.value for name, mean in means.items()} for one, means in self._embeddings.items()}


def _history_row(epoch: int, train: _Means, valid: _Means, lr: float, seconds: float, waited: float) -> dict[str, Any]:
    """What history.jsonl says of an epoch, counted from 1."""
    on_valid = valid.pairs
    return {
        "epoch": epoch + 1,
        "train_loss": train.loss,
        "valid_loss": valid.loss,
        **({} if valid.retrieval is None else {"valid_retrieval": valid.retrieval}),
        "lr": lr,
        "seconds": round(seconds, 3),
        "waited": round(waited, 3),
        "pairs": {
            pair: {**figures, **{f"valid_{name}": value for name, value in on_valid.get(pair, {}).items()}}
            for pair, figures in train.pairs.items()
        },
        "skipped_pairs": dict(train.skipped),
        "embeddings": valid.embeddings,
    }


def _monitored(row: Mapping[str, Any], unit: Unit) -> float:
    """What the best epoch has least of: the validation loss (the training loss where no validation batch had a pair), or minus the retrieval.

    Raises StageError if retrieval is asked for and no two validation recordings have a pair of modalities in common.
    """
    if unit.plan.recipe.pretrain.choose == "loss":
        value = float(row["train_loss"] if row["valid_loss"] is None else row["valid_loss"])
        if not math.isfinite(value):
            raise StageError(
                f"pretrain {unit}: the loss on validation recordings became {value} in epoch {row['epoch']}; "
                f"{remedies(unit.plan.recipe.pretrain, 'pretrain')}"
            )
        return value
    if "valid_retrieval" not in row:
        raise StageError(
            f"pretrain fold {unit.fold.number}: no two validation recordings have two contrasted modalities in common, so that nothing "
            "can be retrieved among them; set pretrain.choose: loss"
        )
    return -float(row["valid_retrieval"])


def _best(unit: Unit, state: Progress) -> dict[str, float | None]:
    """What the best epoch had, by its name."""
    if unit.plan.recipe.pretrain.choose == "loss":
        return {"best_loss": state.best}
    return {"best_retrieval": None if state.best is None else -state.best}


def _new_warnings(history: Sequence[Mapping[str, Any]], candidates: int, warned: set[str]) -> list[str]:
    """What looks wrong now, a sentence each: once, not every epoch with other figures. `warned` takes the beginnings in."""
    fresh = []
    for sentence in health.warnings(history, candidates):
        beginning = sentence.split("(")[0]
        if beginning not in warned:
            warned.add(beginning)
            fresh.append(sentence)
    return fresh


def _words(row: Mapping[str, Any], state: Progress) -> str:
    """An epoch, for the screen."""
    valid = "–" if row["valid_loss"] is None else f"{row['valid_loss']:.3f}"
    if "valid_retrieval" in row:
        return f"train {row['train_loss']:.3f}, valid {valid}, retrieval {row['valid_retrieval']:.3f} (best {-(state.best or 0.0):.3f})"
    return f"train {row['train_loss']:.3f}, valid {valid} (best {state.best:.3f})"


def _lost(training: _Training, objective: Objective, items: Items, where: tuple[int, int], train: _Means) -> None:
    """Keep the first batch whose loss is no number, and count it; stop, naming it, before it spoils the weights, once there are more than `skip`.

    where  epoch and batch of it, counted from 0
    """
    (epoch, k), unit, state, plan = where, training.unit, training.state, training.unit.plan
    loss = math.nan if objective.loss is None else float(objective.loss.detach())
    bad = [name for name, values in objective.pairs.items() if not bool(torch.isfinite(values["loss"]))]
    before = state.skipped.get(LOST, 0) + train.skipped.get(LOST, 0)
    weights = {} if before else whole_weights(training.learner.model, training.ranks)
    if not before and training.ranks.first:
        rng = np.random.default_rng(address(*unit.address, "window", epoch, k))
        parts = parts_of(plan.recipe.pretrain.shares, items.view.tolist())
        spans = spans_drawn(plan, unit.prepared.stores, [int(row) for row in items.row], rng, parts)
        keep_lost(unit, weights, items, spans, loss, bad, epoch, state.step, training.ranks.size)
    ids = ", ".join(unit.prepared.samples[int(row)].id for row in items.row[:4])
    what = f"the loss became {loss} in epoch {epoch + 1}, step {k + 1} (pairs {', '.join(bad)}; recordings {ids}, …)"
    train.skipped[LOST] = train.skipped.get(LOST, 0) + 1
    if before < plan.recipe.pretrain.skip:
        say(
            f"pretrain {unit}: {what}; this batch is left out, {before + 1} of at most {plan.recipe.pretrain.skip} (pretrain.skip)"
        )
        return
    more = f", after {before} that were left out (pretrain.skip)" if before else ""
    raise StageError(
        f"pretrain: {what}{more}; `mmcl replay {unit.run.root}` shows where the numbers end; "
        f"{remedies(plan.recipe.pretrain, 'pretrain')}; or leave so many such batches out: pretrain.skip"
    )


def _stop_if_nothing_was_contrasted(train: _Means, unit: Unit, epoch: int) -> None:
    """Stop where no batch had anything to learn from."""
    if train.loss is None:
        raise StageError(
            f"pretrain fold {unit.fold.number}: no batch of epoch {epoch + 1} had two recordings with two modalities in common, so there "
            "is nothing to contrast; check the counts of missing modalities in prepare.json"
        )


def _tracker(unit: Unit) -> Any:
    """TensorBoard's writer, or None where the recipe asks for none."""
    if "tensorboard" not in unit.plan.recipe.track:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(unit.run.root / "tensorboard" / f"fold-{unit.fold.number:02d}-seed-{unit.seed}"))


def _track(tracker: Any, row: Mapping[str, Any]) -> None:
    """Show an epoch in TensorBoard too, if asked."""
    if tracker is None:
        return
    for name in ("train_loss", "valid_loss", "valid_retrieval", "lr"):
        if row.get(name) is not None:
            tracker.add_scalar(name, row[name], row["epoch"])
    for pair, values in row["pairs"].items():
        for name, value in values.items():
            tracker.add_scalar(f"{pair}/{name}", value, row["epoch"])
