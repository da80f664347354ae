"""pretrain: learn the encoders by contrasting every pair of modalities. No labels unless the positives ask for them.

For each fold and seed: reads the stores of training and validation rows. Writes encoders.safetensors, encoders.json,
history.jsonl, and resume/ meanwhile. Killed at any moment, it goes on from the last checkpoint to bit-identical weights.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..api.batch import Batch, Items, Stream
from ..api.errors import StageError
from ..data.batches import ahead, balanced, epoch_batches
from ..data.folds import Fold
from ..data.prepared import Prepared, load_prepared
from ..data.stack import batch
from ..data.store import Store
from ..data.windows import draw
from ..engine.devices import arithmetic, pick_device
from ..engine.optim import build_optimizer, rate, set_rate
from ..engine.resume import load_checkpoint, save_checkpoint
from ..evaluate import health
from ..model.build import build_encoders, build_joint_of, fit_joint, fit_normalise, given
from ..model.encoder import Augmentation, Encoder, parameters_of
from ..model.joint import Joint
from ..model.keep import best_state, save_encoders
from ..objective.score import Embedded, Objective, score
from ..recipe.plan import JOINT, Plan
from ..runs import RunFolder, fingerprint, finish, finished, restart, write_jsonl
from ..screen import progress, say
from ..seeding import address

Watch = Callable[[int, float], None]
"""Told the epochs that are done and their validation loss; what it raises ends the training."""


def pretrain(plan: Plan, run: RunFolder, device: str = "auto", watch: Watch | None = None) -> None:
    """Train the encoders of every fold and seed that are not trained yet."""
    prepared = load_prepared(run)
    where = pick_device(device)
    for fold in prepared.folds:
        for seed in plan.seeds:
            folder, key = run.stage("pretrain", fold.number, seed), pretrain_key(plan, prepared, fold, seed)
            if finished(folder, key):
                continue
            if not (folder / "resume" / "state.json").exists() and not (folder / "resume.old").exists():
                restart(folder)
            _train(plan, run, prepared, fold, seed, folder, key, where, watch)


def pretrain_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int) -> str:
    """Fingerprint of everything that the weights depend on."""
    said = plan.to_json()
    said["pretrain"].pop("checkpoint_minutes")
    if said["pretrain"]["micro_batch"] is None:
        said["pretrain"].pop("micro_batch")
    parts = {name: said[name] for name in ("modalities", "window", "projection", "pretrain")}
    stores = {name: store.key for name, store in prepared.stores.items()}
    return fingerprint([parts, stores, fold.train, fold.valid, seed, __version__])


def _train(
    plan: Plan,
    run: RunFolder,
    prepared: Prepared,
    fold: Fold,
    seed: int,
    folder: Path,
    key: str,
    device: torch.device,
    watch: Watch | None = None,
) -> None:
    section, stores = plan.recipe.pretrain, prepared.stores
    spot = (seed, "fold", fold.number)
    if plan.pretext is not None:
        joint = build_joint_of(plan, *spot)
        fit_joint(joint, stores, fold.train)
        model = nn.ModuleDict({JOINT: joint})
        objective_of: _Objective = partial(_pretext_objective, joint, plan, device)
    else:
        encoders = build_encoders(plan, *spot)
        fit_normalise(encoders, stores, fold.train)
        loss = plan.loss.spec.build(plan.loss.params)
        model = nn.ModuleDict(encoders)
        if isinstance(loss, nn.Module):
            model["loss"] = loss  # a modality cannot be named so: the plan's check of names keeps it free
        positives, targets = plan.positives.spec.build(plan.positives.params), contrast_targets(plan, prepared)
        objective_of = partial(_pair_objective, plan, encoders, positives, loss, device, targets)
    model.to(device)
    optimizer = build_optimizer(section.optimizer, model)
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}

    best: dict[str, Tensor] = best_state(model)
    counters: dict[str, Any] = {
        "key": key,
        "epoch": 0,
        "step": 0,
        "best_epoch": 0,
        "best_loss": None,
        "history": [],
        "skipped": {},
        "seconds": 0.0,
    }
    restored = load_checkpoint(folder / "resume", key, model, optimizer)
    if restored is not None:
        counters, best = restored
        say(f"pretrain fold {fold.number}, seed {seed}: goes on after epoch {counters['epoch']}")
    tracker = _tracker(plan, run, fold.number, seed)
    began = saved = time.monotonic()
    spent = counters["seconds"]
    stopped = "epochs"
    warned: set[str] = set()
    with progress(f"pretrain fold {fold.number}, seed {seed}", section.epochs, counters["epoch"]) as tick:
        for epoch in range(counters["epoch"], section.epochs):
            started = time.monotonic()
            model.train()
            batches = epoch_batches(_rows_of(plan, prepared, fold, *spot, epoch), section.batch_size, *spot, "epoch", epoch)
            jobs = [
                partial(_cut, stores, rows, plan, np.random.default_rng(address(*spot, "window", epoch, k)))
                for k, rows in enumerate(batches)
            ]
            heard = _Means()
            waited = 0.0
            asked = time.monotonic()
            for k, made in enumerate(ahead(jobs)):
                waited += time.monotonic() - asked
                torch.manual_seed(address(*spot, "step", counters["step"]))  # dropout, and whatever else draws while stepping
                generator = torch.Generator().manual_seed(address(*spot, "augment", counters["step"]))
                set_rate(optimizer, rate(section.schedule, section.optimizer.lr, section.epochs, epoch + k / len(batches)))
                objective = objective_of(made, augmentations, generator)
                counters["step"] += 1
                if objective.loss is not None:
                    _stop_if_lost(objective, made, prepared, epoch, k)
                    optimizer.zero_grad(set_to_none=True)
                    torch.autograd.backward(objective.loss)
                    if section.clip is not None:
                        torch.nn.utils.clip_grad_norm_(model.parameters(), section.clip)
                    optimizer.step()
                heard.add(objective, len(made.items.row))
                asked = time.monotonic()
            for pair in heard.skipped:
                counters["skipped"][pair] = counters["skipped"].get(pair, 0) + heard.skipped[pair]
            if heard.loss is None:
                raise StageError(
                    f"pretrain fold {fold.number}: no batch of epoch {epoch + 1} had two recordings with two modalities in common, so there "
                    "is nothing to contrast; check the counts of missing modalities in prepare.json"
                )
            valid = _validate(plan, objective_of, model, stores, fold, section.batch_size, spot)
            row = {
                "epoch": epoch + 1,
                "train_loss": heard.loss,
                "valid_loss": valid.loss,
                "lr": optimizer.param_groups[0]["lr"],
                "seconds": round(time.monotonic() - started, 3),
                "waited": round(waited, 3),
                "pairs": {
                    name: {**values, **{f"valid_{k}": v for k, v in valid.pairs.get(name, {}).items()}}
                    for name, values in heard.pairs.items()
                },
                "skipped_pairs": dict(heard.skipped),
                "embeddings": valid.embeddings,
            }
            counters["history"].append(row)
            counters["epoch"] = epoch + 1
            for sentence in health.warnings(counters["history"], section.batch_size * section.views):
                if sentence.split("(")[0] not in warned:  # once, not every epoch with other figures
                    warned.add(sentence.split("(")[0])
                    say(f"pretrain fold {fold.number}, seed {seed}, epoch {epoch + 1}: {sentence}")
            if tracker is not None:
                _track(tracker, row)
            monitored = valid.loss if valid.loss is not None else heard.loss
            if counters["best_loss"] is None or monitored < counters["best_loss"]:
                counters["best_loss"], counters["best_epoch"] = monitored, epoch + 1
                best = best_state(model)
            tick(
                epoch + 1,
                f"train {heard.loss:.3f}, valid {'–' if valid.loss is None else f'{valid.loss:.3f}'} (best {counters['best_loss']:.3f})",
            )
            counters["seconds"] = spent + time.monotonic() - began
            if watch is not None and valid.loss is not None:
                watch(epoch + 1, valid.loss)
            if section.patience is not None and epoch + 1 - counters["best_epoch"] >= section.patience:
                stopped = "patience"
                break
            if time.monotonic() - saved >= 60 * section.checkpoint_minutes and epoch + 1 < section.epochs:
                save_checkpoint(folder / "resume", model, optimizer, best, counters)
                saved = time.monotonic()
    if tracker is not None:
        tracker.close()
    if section.keep == "best":
        model.load_state_dict(best)
    kept = {name: module for name, module in model.items() if name != "loss"}
    save_encoders(folder, kept, encoders_json(plan, fold.number, seed, counters))
    write_jsonl(folder / "history.jsonl", counters["history"])
    facts = {
        "epochs": counters["epoch"],
        "best_epoch": counters["best_epoch"],
        "best_loss": counters["best_loss"],
        "stopped": stopped,
        "seconds": round(counters["seconds"], 3),
        "parameters": parameters_of(kept),
        "skipped_pairs": counters["skipped"],
        "labels": plan.labels,
        "warnings": health.warnings(counters["history"], section.batch_size * section.views),
    }
    finish(folder, key, **facts)
    shutil.rmtree(folder / "resume", ignore_errors=True)
    run.log("pretrain", fold=fold.number, seed=seed, device=str(device), **facts)


def _rows_of(plan: Plan, prepared: Prepared, fold: Fold, *where: str | int) -> Sequence[int]:
    """The recordings of one epoch: those of training, unless the recipe asks for more or for equal classes."""
    section = plan.recipe.pretrain
    rows = [*fold.train, *(row for split in section.transductive for row in getattr(fold, split))]
    if section.balance is None:
        return rows
    labels = [cast("int | None", prepared.samples[row].targets.get(section.balance)) for row in rows]
    return balanced(rows, labels, *where)


def encoders_json(plan: Plan, fold: int, seed: int, counters: Mapping[str, Any]) -> dict[str, Any]:
    """What encoders.json says: all that is needed to use the encoders without the recipe."""
    said = plan.to_json()
    return {
        "mmcl": __version__,
        "name": plan.name,
        "fold": fold,
        "seed": seed,
        "epoch": counters["best_epoch" if plan.recipe.pretrain.keep == "best" else "epoch"],
        "modalities": said["modalities"],
        "projection": said["projection"],
        "window": said["window"],
        "pretext": said["pretrain"]["pretext"],
    }


def _cut(stores: Mapping[str, Store], rows: Sequence[int], plan: Plan, generator: np.random.Generator) -> Batch:
    """A training batch: windows of every recording, each the same seconds in every modality; first all first views."""
    window, views = plan.recipe.window, plan.recipe.pretrain.views
    rows = [row for _ in range(views) for row in rows]
    spans = [draw(stores, row, window.seconds, window.place, generator, window.share) for row in rows]
    return batch(stores, rows, spans, [k * views // len(rows) for k in range(len(rows))])


class _Objective(Protocol):
    """What is minimised on a batch."""

    def __call__(
        self, made: Batch, augmentations: Mapping[str, Augmentation], generator: torch.Generator | None
    ) -> Objective: ...


def _pretext_objective(
    joint: Joint,
    plan: Plan,
    device: torch.device,
    made: Batch,
    augmentations: Mapping[str, Augmentation],
    generator: torch.Generator | None,
) -> Objective:
    """The pretext's loss, under its name where pairs would stand."""
    with arithmetic(plan.recipe.pretrain.precision, device):
        scored = joint.learn(made, device, augmentations, generator)
    name = given(plan.pretext).use
    return Objective(scored.loss, {name: {"loss": scored.loss.detach(), **scored.metrics}})


def _pair_objective(
    plan: Plan,
    encoders: Mapping[str, Encoder],
    positives: Any,
    loss: Any,
    device: torch.device,
    targets: Mapping[str, Tensor],
    made: Batch,
    augmentations: Mapping[str, Augmentation],
    generator: torch.Generator | None,
) -> Objective:
    """Encode every modality once, then score every pair."""
    embedded = {}
    with arithmetic(plan.recipe.pretrain.precision, device):
        for name in dict.fromkeys(
            name for pair in plan.pairs for name in pair
        ):  # no set: its order changes from process to process
            stream: Stream = made.streams[name].to(device)
            if int(stream.present.sum()) == 0:
                embedded[name] = Embedded(
                    torch.zeros(0, plan.recipe.projection.width, device=device),
                    torch.zeros(0, dtype=torch.int64, device=device),
                )
                continue
            kept, rows = encoders[name].ready(stream, augmentations.get(name), generator)
            embedded[name] = Embedded(encoders[name].embed(kept, plan.recipe.pretrain.micro_batch), rows)
    row = made.items.row
    items = Items(row.to(device), made.items.view.to(device), {name: t[row].to(device) for name, t in targets.items()})
    objective = score(embedded, items, plan.pairs, positives, loss, plan.weights)
    if not torch.is_grad_enabled():  # while validating: how the embeddings lie costs a decomposition
        objective.embeddings = {name: said for name, one in embedded.items() if (said := health.describe(one.z))}
    return objective


@torch.no_grad()
def _validate(
    plan: Plan,
    objective_of: _Objective,
    model: nn.Module,
    stores: Mapping[str, Store],
    fold: Fold,
    size: int,
    spot: tuple[str | int, ...],
) -> _Means:
    """The objective on validation rows, in eval mode, on the same batches and windows after every epoch."""
    model.eval()
    heard = _Means()
    batches = epoch_batches(fold.valid, size, *spot, "valid")
    jobs = [
        partial(_cut, stores, rows, plan, np.random.default_rng(address(*spot, "valid window", k)))
        for k, rows in enumerate(batches)
    ]
    for made in ahead(jobs):
        heard.add(objective_of(made, {}, None), len(made.items.row))
    return heard


class _Means:
    """Means over batches, each weighing as many recordings as it has. Kept as tensors until asked: no wait inside a step."""

    def __init__(self) -> None:
        self._loss: list[tuple[Tensor, int]] = []
        self._pairs: dict[str, dict[str, list[tuple[Tensor, int]]]] = {}
        self._embeddings: dict[str, dict[str, list[tuple[Tensor, int]]]] = {}
        self.skipped: dict[str, int] = {}

    def add(self, objective: Objective, rows: int) -> None:
        if objective.loss is not None:
            self._loss.append((objective.loss.detach(), rows))
        for pair, values in objective.pairs.items():
            for name, value in values.items():
                self._pairs.setdefault(pair, {}).setdefault(name, []).append((value, rows))
        for modality, values in objective.embeddings.items():
            for name, value in values.items():
                self._embeddings.setdefault(modality, {}).setdefault(name, []).append((value, rows))
        for pair in objective.skipped:
            self.skipped[pair] = self.skipped.get(pair, 0) + 1

    @property
    def loss(self) -> float | None:
        return _weighted(self._loss) if self._loss else None

    @property
    def pairs(self) -> dict[str, dict[str, float]]:
        return {pair: {name: _weighted(each) for name, each in values.items()} for pair, values in self._pairs.items()}

    @property
    def embeddings(self) -> dict[str, dict[str, float]]:
        return {one: {name: _weighted(each) for name, each in values.items()} for one, values in self._embeddings.items()}


def _weighted(values: Sequence[tuple[Tensor, int]]) -> float:
    whole = sum(rows for _, rows in values)
    return math.fsum(float(value) * rows for value, rows in values) / whole


def _stop_if_lost(objective: Objective, made: Batch, prepared: Prepared, epoch: int, step: int) -> None:
    """Stop on a loss that is no number, naming the batch, before it spoils the weights."""
    assert objective.loss is not None
    if not bool(torch.isfinite(objective.loss)):
        ids = ", ".join(prepared.samples[int(row)].id for row in made.items.row[:4])
        bad = ", ".join(name for name, values in objective.pairs.items() if not bool(torch.isfinite(values["loss"])))
        raise StageError(
            f"pretrain: the loss became {objective.loss.item()} in epoch {epoch + 1}, step {step + 1} (pairs {bad}; recordings {ids}, …); "
            "lower pretrain.optimizer.lr, set pretrain.clip, or use precision: float32"
        )


def contrast_targets(plan: Plan, prepared: Prepared) -> dict[str, Tensor]:
    """Targets by row, only those that the positives ask for; a missing one is −1 (classes) or NaN (values)."""
    found = {}
    for name in plan.needs:
        values = [sample.targets.get(name) for sample in prepared.samples]
        if plan.info.tasks[name].type == "single-label":
            found[name] = torch.tensor([-1 if v is None else int(v) for v in values])  # type: ignore[arg-type]  # a single label is a number
        else:
            width = max(1, len(plan.info.tasks[name].classes))
            rows = [[math.nan] * width if v is None else list(v) if isinstance(v, list | tuple) else [v] for v in values]
            found[name] = torch.tensor(rows, dtype=torch.float32)
    return found


def _tracker(plan: Plan, run: RunFolder, fold: int, seed: int) -> Any:
    if "tensorboard" not in plan.recipe.track:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.root / "tensorboard" / f"fold-{fold:02d}-seed-{seed}"))


def _track(tracker: Any, row: Mapping[str, Any]) -> None:
    for name in ("train_loss", "valid_loss", "lr"):
        if row[name] is not None:
            tracker.add_scalar(name, row[name], row["epoch"])
    for pair, values in row["pairs"].items():
        for name, value in values.items():
            tracker.add_scalar(f"{pair}/{name}", value, row["epoch"])


Job = Callable[[], Batch]
