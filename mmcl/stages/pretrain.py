"""pretrain: learn the encoders by contrasting every pair of modalities. No labels unless the positives ask for them.

For each fold and seed: reads the stores of training and validation rows. Writes encoders.safetensors, encoders.json,
history.jsonl, resume/ meanwhile and last/, from which more epochs can go on. Killed at any moment, it goes on from the last
checkpoint to bit-identical weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..api.batch import Batch, Items
from ..api.errors import StageError
from ..api.loss import Scored
from ..data.batches import balanced, epoch_batches
from ..data.folds import Fold
from ..data.prepared import Prepared
from ..engine.devices import arithmetic, pick_device
from ..engine.means import Mean
from ..engine.optim import build_optimizer, rate, set_rate
from ..engine.progress import Progress
from ..engine.resume import drop_checkpoint, has_checkpoint
from ..evaluate import health
from ..evaluate.retrieval import both_ways
from ..model.augment import Augmentation
from ..model.build import fresh_encoders, fresh_joint, given
from ..model.contrast import build_contrast
from ..model.encoder import Encoder, parameters_of
from ..model.keep import save_encoders
from ..model.windows import WindowMean, draw_batches, spans_drawn
from ..objective.score import Embedded, Objective
from ..recipe.plan import JOINT, Plan
from ..runs import RunFolder, finish, finished, restart, write_jsonl
from ..screen import progress, say
from ..seeding import address
from ..stopping import patient, stop_if_asked
from .lost import LOST, buffers_of, keep_lost, put_back
from .units import Unit, pretrain_key, units_of

Watch = Callable[[int, float], None]
"""Told the epochs that are done and their validation loss; what it raises ends the training."""


def pretrain(
    plan: Plan,
    run: RunFolder,
    device: str = "auto",
    watch: Watch | None = None,
    continued: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Train the encoders of every fold and seed that are not trained yet.

    continued  epochs and patience of each plan whose finished training this one goes on with
    """
    units = units_of(plan, run)
    where = pick_device(device)
    for unit in units:
        folder, key = unit.folder("pretrain"), pretrain_key(plan, unit.prepared, unit.fold, unit.seed)
        if finished(folder, key):
            continue
        before = [pretrain_key(plan, unit.prepared, unit.fold, unit.seed, one) for one in reversed(continued)]
        if not has_checkpoint(folder / "resume") and not (before and has_checkpoint(folder / "last")):
            if (folder / "finished.json").exists():
                say(
                    f"pretrain {unit}: was finished with other settings or data; its encoders are thrown away, and training starts anew"
                )
            restart(folder)
        with patient():
            _train(unit, key, where, watch, before)
        stop_if_asked(lambda: f"pretrain {unit} is finished")  # noqa: B023 - called at once


def _train(unit: Unit, key: str, device: torch.device, watch: Watch | None, before: Sequence[str]) -> None:
    """One fold and seed, from its first weights to the kept ones on disk.

    before  fingerprints of trainings with fewer epochs that this one may go on from, the latest first
    """
    plan, section, resume = unit.plan, unit.plan.recipe.pretrain, unit.folder("pretrain") / "resume"
    learner = learner_of(unit, device)
    model = learner.model
    optimizer = build_optimizer(section.optimizer, model)
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}
    state = Progress(key=key, best_name="best_loss")
    if state.restore(resume, model, optimizer) or any(
        state.go_on(folder, one, model, optimizer) for one in before for folder in (resume, resume.with_name("last"))
    ):
        say(f"pretrain {unit}: goes on after epoch {state.epoch}")
    tracker = _tracker(unit)
    warned: set[str] = set()
    stopped = "epochs"
    with progress(f"pretrain {unit}", section.epochs, state.epoch) as tick:
        for epoch in range(state.epoch, section.epochs):
            began = time.monotonic()
            model.train()
            train, done = _Means.from_json(state.within.get("means", {})), int(state.within.get("batches", 0))
            recordings = rows_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch)
            rows = epoch_batches(recordings, section.batch_size, *unit.address, "epoch", epoch)
            windows = draw_batches(plan, unit.prepared.stores, rows, section.views, *unit.address, "window", epoch, first=done)
            batches = _Awaited(windows)
            for k, batch in enumerate(batches, done):
                generator = state.seed_step(*unit.address)
                set_rate(optimizer, rate(section.schedule, section.optimizer.lr, section.epochs, epoch + k / len(rows)))
                before_step = buffers_of(model) if section.skip else {}
                encoded = learner.forward(batch, augmentations, generator)
                objective = learner.objective(encoded, batch.items)
                if objective.loss is not None and not bool(torch.isfinite(objective.loss)):
                    _lost(unit, model, objective, batch, state, (epoch, k), train)
                    put_back(model, before_step)
                    state.step += 1
                    continue
                if objective.loss is not None:
                    optimizer.zero_grad(set_to_none=True)
                    torch.autograd.backward(objective.loss)
                    if section.clip is not None:
                        torch.nn.utils.clip_grad_norm_(model.parameters(), section.clip)
                    optimizer.step()
                state.step += 1
                train.add(objective, len(batch.items.row))
                within = partial(train.within, k + 1)
                state.stop_if_asked(resume, model, optimizer, f"pretrain {unit}", within)
            _stop_if_nothing_was_contrasted(train, unit, epoch)
            valid = _validate(unit, learner)
            row = _history_row(epoch, train, valid, optimizer.param_groups[0]["lr"], time.monotonic() - began, batches.waited)
            state.finish_epoch(row, monitored=_monitored(row, unit), model=model, skipped=train.skipped)
            for warning in _new_warnings(state.history, section.batch_size * section.views, warned):
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
            state.stop_if_asked(resume, model, optimizer, f"pretrain {unit}", dict)
    if tracker is not None:
        tracker.close()
    state.save(resume.with_name("last"), model, optimizer)
    if section.keep == "best":
        model.load_state_dict(state.weights)
    _keep(unit, key, model, state, stopped, device)


def _keep(unit: Unit, key: str, model: nn.ModuleDict, state: Progress, stopped: str, device: torch.device) -> None:
    """Write the encoders, their history and what is known of them; of the checkpoints the one of the last epoch stays."""
    plan, section, folder = unit.plan, unit.plan.recipe.pretrain, unit.folder("pretrain")
    encoders = {name: module for name, module in model.items() if name != "loss"}
    save_encoders(folder, encoders, encoders_json(unit, state))
    write_jsonl(folder / "history.jsonl", state.history)
    facts = {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        **_best(unit, state),
        "stopped": stopped,
        "seconds": round(state.seconds, 3),
        "parameters": parameters_of(encoders),
        "skipped_pairs": state.skipped,
        "labels": plan.labels,
        "warnings": health.warnings(state.history, section.batch_size * section.views),
        **({"continued": state.continued} if state.continued else {}),
    }
    finish(folder, key, **facts)
    drop_checkpoint(folder / "resume")
    drop_checkpoint(folder / "last", before_only=True)
    unit.run.log("pretrain", fold=unit.fold.number, seed=unit.seed, device=str(device), **facts)


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


def rows_of_epoch(plan: Plan, prepared: Prepared, fold: Fold, *where: str | int) -> Sequence[int]:
    """The recordings of one epoch: those of training, unless the recipe asks for more or for equal classes."""
    section = plan.recipe.pretrain
    beside = {"valid": fold.choosing, "test": fold.test}
    rows = [*fold.train, *(row for split in section.transductive for row in beside[split])]
    if section.balance is None:
        return rows
    labels = [cast("int | None", prepared.samples[row].targets.get(section.balance)) for row in rows]
    return balanced(rows, labels, *where)


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


class Learner(Protocol):
    """What is trained, and what it minimises."""

    model: nn.ModuleDict

    def forward(self, batch: Batch, augmentations: Mapping[str, Augmentation], generator: torch.Generator | None) -> Any:
        """What the networks make of a batch, for `objective`."""

    def objective(self, encoded: Any, items: Items) -> Objective:
        """What is minimised."""


def learner_of(unit: Unit, device: torch.device) -> Learner:
    """What a unit's plan pretrains, with weights that have learned nothing yet."""
    return _Pairs(unit, device) if unit.plan.pretext is None else _Pretext(unit, device)


def replayed(
    unit: Unit, weights: Mapping[str, Tensor], batch: Batch, step: int, device: torch.device
) -> tuple[dict[str, Embedded], Objective]:
    """The embeddings by modality (none of a pretext) and the objective of one batch, with the weights and the draws of a step. Nothing learns."""
    learner = learner_of(unit, device)
    learner.model.load_state_dict(dict(weights))
    learner.model.train()
    generator = Progress(key="", step=step).seed_step(*unit.address)
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in unit.plan.modalities}
    encoded = learner.forward(batch, augmentations, generator)
    objective = learner.objective(encoded, batch.items)
    return ({} if unit.plan.pretext else {name: Embedded(one.z.detach(), one.rows) for name, one in encoded.items()}), objective


class _Pairs:
    """An encoder for each modality, learned by contrasting every pair of them. A loss with weights of its own learns too."""

    def __init__(self, unit: Unit, device: torch.device) -> None:
        plan, prepared = unit.plan, unit.prepared
        self.plan, self.device = plan, device
        self.encoders = fresh_encoders(plan, prepared.stores, unit.fold.train, *unit.address)
        widths = {name: encoder.embedding for name, encoder in self.encoders.items()}
        self.contrast = build_contrast(plan, prepared.samples, widths=widths)
        self.model = nn.ModuleDict(self.encoders)
        if (learned := self.contrast.module) is not None:
            self.model["loss"] = learned  # a modality cannot be named so: the plan's check of names keeps it free
        self.model.to(device)

    def forward(
        self, batch: Batch, augmentations: Mapping[str, Augmentation], generator: torch.Generator | None
    ) -> dict[str, Embedded]:
        """Every modality, encoded once."""
        embedded = {}
        section = self.plan.recipe.pretrain
        with arithmetic(section.precision, self.device):
            for name in self.plan.contrasted:
                stream = batch.streams[name].to(self.device)
                if int(stream.present.sum()) == 0:
                    nothing = torch.zeros(0, self.encoders[name].embedding, device=self.device)
                    embedded[name] = Embedded(z=nothing, rows=torch.zeros(0, dtype=torch.int64, device=self.device))
                    continue
                ready, rows = self.encoders[name].ready(stream, augmentations.get(name), generator)
                embedded[name] = Embedded(z=self.encoders[name].embed(ready, section.micro_batch), rows=rows)
        return embedded

    def objective(self, encoded: Mapping[str, Embedded], items: Items) -> Objective:
        """Every pair, scored."""
        objective = self.contrast(encoded, items, self.device)
        if not torch.is_grad_enabled():  # while validating: how the embeddings lie costs a decomposition
            looks = {name: health.describe(one.z) for name, one in encoded.items()}
            objective.embeddings = {name: look for name, look in looks.items() if look}
        return objective


class _Pretext:
    """One network of all modalities, learned by a task of its own."""

    def __init__(self, unit: Unit, device: torch.device) -> None:
        plan, prepared = unit.plan, unit.prepared
        self.plan, self.device = plan, device
        self.joint = fresh_joint(plan, prepared.stores, unit.fold.train, *unit.address)
        self.model = nn.ModuleDict({JOINT: self.joint})
        self.model.to(device)

    def forward(self, batch: Batch, augmentations: Mapping[str, Augmentation], generator: torch.Generator | None) -> Scored:
        """All modalities together; a pretext scores itself what it makes of them."""
        with arithmetic(self.plan.recipe.pretrain.precision, self.device):
            return self.joint.learn(batch, self.device, augmentations, generator)

    def objective(self, encoded: Scored, items: Items) -> Objective:
        """The pretext's loss, under its name where pairs would stand."""
        return Objective(
            loss=encoded.loss, pairs={given(self.plan.pretext).use: {"loss": encoded.loss.detach(), **encoded.metrics}}
        )


@torch.no_grad()
def _validate(unit: Unit, learner: Learner) -> _Means:
    """The objective on validation rows, in eval mode, on the same batches and windows after every epoch."""
    plan, section = unit.plan, unit.plan.recipe.pretrain
    learner.model.eval()
    valid = _Means()
    gallery = _Gallery(plan, unit.fold.choosing, cast("_Pairs", learner).encoders) if section.choose == "retrieval" else None
    rows = epoch_batches(unit.fold.choosing, section.batch_size, *unit.address, "valid")
    for batch in draw_batches(plan, unit.prepared.stores, rows, section.views, *unit.address, "valid window"):
        encoded = learner.forward(batch, {}, None)
        valid.add(learner.objective(encoded, batch.items), len(batch.items.row))
        if gallery is not None:
            gallery.add(encoded, batch.items)
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
                f"pretrain {unit}: the loss on validation recordings became {value} in epoch {row['epoch']}; lower pretrain.optimizer.lr, set "
                "pretrain.clip, or use precision: float32"
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


def _lost(
    unit: Unit, model: nn.Module, objective: Objective, batch: Batch, state: Progress, where: tuple[int, int], train: _Means
) -> None:
    """Keep the first batch whose loss is no number, and count it; stop, naming it, before it spoils the weights, once there are more than `skip`.

    where  epoch and batch of it, counted from 0
    """
    (epoch, k), plan, loss = where, unit.plan, float(cast(Tensor, objective.loss).detach())
    bad = [name for name, values in objective.pairs.items() if not bool(torch.isfinite(values["loss"]))]
    before = state.skipped.get(LOST, 0) + train.skipped.get(LOST, 0)
    if not before:
        rng = np.random.default_rng(address(*unit.address, "window", epoch, k))
        spans = spans_drawn(plan, unit.prepared.stores, [int(row) for row in batch.items.row], rng)
        keep_lost(unit, model, batch, spans, loss, bad, epoch, state.step)
    ids = ", ".join(unit.prepared.samples[int(row)].id for row in batch.items.row[:4])
    what = f"the loss became {loss} in epoch {epoch + 1}, step {k + 1} (pairs {', '.join(bad)}; recordings {ids}, …)"
    train.skipped[LOST] = train.skipped.get(LOST, 0) + 1
    if before < plan.recipe.pretrain.skip:
        say(
            f"pretrain {unit}: {what}; this batch is left out, {before + 1} of at most {plan.recipe.pretrain.skip} (pretrain.skip)"
        )
        return
    more = f", after {before} that were left out (pretrain.skip)" if before else ""
    raise StageError(
        f"pretrain: {what}{more}; `mmcl replay {unit.run.root}` shows where the numbers end. Lower pretrain.optimizer.lr, set pretrain.clip, use "
        "precision: float32, or leave such batches out with pretrain.skip"
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
