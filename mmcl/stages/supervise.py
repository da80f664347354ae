"""supervise: encoders and heads trained together with labels, end to end: baselines from scratch, or fine-tuning.

For each fold and seed, every task, input and head has a model of its own. The epoch is chosen on validation recordings; test is
opened once, when all models of the fold and seed are chosen. Writes models/TASK~INPUT~HEAD.{safetensors,json}, scores.jsonl,
predictions.jsonl and chosen.jsonl.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import __version__
from ..api.batch import Batch, Encoded, Items
from ..api.dataset import Task
from ..api.errors import StageError
from ..api.head import Showing
from ..data.batches import ahead, epoch_batches
from ..data.folds import Fold
from ..data.prepared import Prepared, load_prepared
from ..data.stack import batch
from ..data.store import Store
from ..data.windows import Span, draw, slide
from ..engine.devices import arithmetic, pick_device
from ..engine.optim import build_optimizer, rate, set_rate
from ..engine.resume import load_checkpoint, save_checkpoint
from ..evaluate.answers import decided, finite_or_none, loss_of, positive_weight, predictions_of, scores_of, shift_of, target_of
from ..evaluate.metrics import HEADLINE, LESS_IS_BETTER, evaluate
from ..model.build import build_encoders, fit_normalise
from ..model.encoder import Augmentation, Encoder
from ..model.keep import best_state, load_encoders
from ..objective.score import Embedded, score
from ..recipe.plan import Part, Plan, SupervisePlan, main_input
from ..runs import RunFolder, fingerprint, finish, finished, restart, write_json, write_jsonl
from ..screen import progress
from ..seeding import address
from .pretrain import contrast_targets, pretrain_key

WINDOWS = 64
"""Windows predicted at a time."""

Watch = Callable[[int, Mapping[str, float]], None]
"""Told the epochs that are done and every metric on validation rows; what it raises ends the training."""


@dataclass(frozen=True)
class Model:
    """What one model predicts, from what, through which head."""

    task: Task
    input: str
    modalities: tuple[str, ...]
    head: str
    part: Part

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"{self.task.name}~{self.input}~{self.head}"


def supervise(plan: Plan, run: RunFolder, device: str = "auto") -> None:
    """Train and test the models of every fold and seed that are not done yet."""
    if plan.supervised is None:
        return
    prepared = load_prepared(run)
    where = pick_device(device)
    models = _models(plan.supervised)
    for fold in prepared.folds:
        for seed in plan.seeds:
            folder, key = run.stage("supervise", fold.number, seed), supervise_key(plan, prepared, fold, seed)
            if finished(folder, key):
                continue
            began = time.monotonic()
            _train_all(plan, run, prepared, fold, seed, models, folder, key, where)
            _test(plan, run, prepared, fold, seed, models, folder, where)
            facts = {"models": len(models), "labels": [task.name for task in plan.supervised.tasks]}
            finish(folder, key, seconds=round(time.monotonic() - began, 3), **facts)
            run.log("supervise", fold=fold.number, seed=seed, seconds=round(time.monotonic() - began, 3), **facts)


def validation_scores(plan: Plan, run: RunFolder, device: str = "auto", watch: Watch | None = None) -> list[dict[str, Any]]:
    """Every metric of every model, trained as `supervise` trains it, on validation rows. No test recording is read."""
    assert plan.supervised is not None
    prepared = load_prepared(run)
    where = pick_device(device)
    models = _models(plan.supervised)
    scores: list[dict[str, Any]] = []
    for fold in prepared.folds:
        for seed in plan.seeds:
            folder, key = run.stage("supervise", fold.number, seed), supervise_key(plan, prepared, fold, seed)
            _train_all(plan, run, prepared, fold, seed, models, folder, key, where, watch)
            base = {"encoder": _kind(plan), "fold": fold.number, "seed": seed, "head_seed": 0}
            for model in models:
                about, target, output, _, _ = _answer(plan, run, prepared, fold, seed, model, folder, where, fold.valid, base)
                scores += scores_of(about, model.task, target, output)
    return scores


def _train_all(
    plan: Plan,
    run: RunFolder,
    prepared: Prepared,
    fold: Fold,
    seed: int,
    models: Sequence[Model],
    folder: Path,
    key: str,
    device: torch.device,
    watch: Watch | None = None,
) -> None:
    """Train the models of one fold and seed that are not trained yet."""
    if not _same_work(folder, key):
        restart(folder)
        write_json(folder / "work.json", {"key": key})
    for model in models:
        if not (folder / "models" / f"{model.stem}.json").exists():
            _train(plan, run, prepared, fold, seed, model, folder, key, device, watch)


def supervise_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int) -> str:
    """Fingerprint of everything that the models and their scores depend on."""
    said = plan.to_json()
    said["supervise"].pop("checkpoint_minutes")
    parts = {name: said[name] for name in ("modalities", "window", "projection", "supervise")}
    if plan.recipe.supervise and plan.recipe.supervise.start == "pretrained":
        parts["pretrained"] = pretrain_key(plan, prepared, fold, seed)
    elif plan.recipe.supervise and plan.recipe.supervise.contrast:
        parts["objective"] = said["pretrain"]["objective"], said["pretrain"]["views"], said["scores"]
    stores = {name: store.key for name, store in prepared.stores.items()}
    return fingerprint([parts, stores, prepared.key, fold.train, fold.valid, fold.test, seed, __version__])


def _same_work(folder: Path, key: str) -> bool:
    """Whether what lies in a folder was begun with this key."""
    try:
        return bool(json.loads((folder / "work.json").read_text(encoding="utf-8"))["key"] == key)
    except (OSError, ValueError, KeyError):
        return False


def _models(plan: SupervisePlan) -> list[Model]:
    return [
        Model(task, name, modalities, head, part)
        for task in plan.tasks
        for name, modalities in plan.inputs.items()
        for head, part in plan.heads.items()
    ]


def _train(
    plan: Plan,
    run: RunFolder,
    prepared: Prepared,
    fold: Fold,
    seed: int,
    model: Model,
    folder: Path,
    key: str,
    device: torch.device,
    watch: Watch | None = None,
) -> None:
    """One model, from its first weights to its best ones on disk."""
    section = plan.recipe.supervise
    assert section is not None
    stores = {name: prepared.stores[name] for name in model.modalities}
    spot = (seed, "fold", fold.number, "supervise", model.stem)
    network = _build(plan, run, prepared, fold, seed, model, spot)
    network.to(device)
    optimizer = build_optimizer(section.optimizer, network)
    targets, known = target_of(model.task, [dict(s.targets) for s in prepared.samples])
    train = _usable(stores, fold.train, known)
    valid = _usable(stores, fold.valid, known)
    if not train or not valid:
        raise StageError(
            f"supervise fold {fold.number}: no {'training' if not train else 'validation'} recording has both a label of task "
            f"'{model.task.name}' and one of {', '.join(model.modalities)}"
        )
    weight = positive_weight(model.task, targets[torch.tensor(train)])
    weight = None if weight is None else weight.to(device)
    contrast = _Contrast(plan, prepared, model, device) if section.contrast else None
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}
    metric = HEADLINE[model.task.type]

    resume = folder / "resume"
    best = best_state(network)
    counters: dict[str, Any] = {
        "key": f"{key} {model.stem}",
        "epoch": 0,
        "step": 0,
        "best_epoch": 0,
        "best": None,
        "history": [],
        "seconds": 0.0,
    }
    restored = load_checkpoint(resume, counters["key"], network, optimizer)
    if restored is not None:
        counters, best = restored
    began = saved = time.monotonic()
    spent, stopped = counters["seconds"], "epochs"
    with progress(
        f"supervise fold {fold.number}, seed {seed}, {model.input} {model.head}", section.epochs, counters["epoch"]
    ) as tick:
        for epoch in range(counters["epoch"], section.epochs):
            network.train()
            batches = epoch_batches(train, section.batch_size, *spot, "epoch", epoch)
            jobs = [
                partial(_cut, stores, rows, plan, np.random.default_rng(address(*spot, "window", epoch, k)))
                for k, rows in enumerate(batches)
            ]
            losses: list[tuple[Tensor, int]] = []
            for k, made in enumerate(ahead(jobs)):
                torch.manual_seed(address(*spot, "step", counters["step"]))  # dropout, and whatever else draws while stepping
                generator = torch.Generator().manual_seed(address(*spot, "augment", counters["step"]))
                set_rate(optimizer, rate(section.schedule, section.optimizer.lr, section.epochs, epoch + k / len(batches)))
                with arithmetic(section.precision, device):
                    encoded = network.encode(made, device, augmentations, generator)
                    output = network.head(encoded)
                loss = loss_of(network.head, model.task, output, targets[made.items.row].to(device), weight)
                if contrast is not None:
                    loss = loss + section.contrast * contrast(network, encoded, made.items)
                if not bool(torch.isfinite(loss)):
                    raise StageError(
                        f"supervise fold {fold.number}: the loss of {model.stem} became {float(loss.detach())} in epoch {epoch + 1}; "
                        "lower the learning rate, or set supervise.clip"
                    )
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                if section.clip is not None:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), section.clip)
                optimizer.step()
                counters["step"] += 1
                losses.append((loss.detach(), len(made.items.row)))
            output_valid = _predict(plan, network, stores, valid, device)
            truth = targets[torch.tensor(valid)]
            valid_loss = float(loss_of(network.head, model.task, output_valid.to(device), truth.to(device), weight))
            said = decided(network.head, output_valid)
            measured = evaluate(model.task.type, model.task.classes, truth.double().numpy(), said, model.task.extra)
            value = measured[metric][0]
            worse = value if metric in LESS_IS_BETTER else -value
            monitored = worse if section.choose == "score" and math.isfinite(worse) else valid_loss
            train_loss = math.fsum(float(v) * n for v, n in losses) / sum(n for _, n in losses)
            counters["history"].append(
                {
                    "epoch": epoch + 1,
                    "train_loss": train_loss,
                    "valid_loss": valid_loss,
                    f"valid_{metric}": finite_or_none(value),
                    "lr": optimizer.param_groups[0]["lr"],
                }
            )
            counters["epoch"] = epoch + 1
            if counters["best"] is None or monitored < counters["best"]:
                counters["best"], counters["best_epoch"] = monitored, epoch + 1
                best = best_state(network)
            counters["seconds"] = spent + time.monotonic() - began
            tick(epoch + 1, f"train {train_loss:.3f}, valid {valid_loss:.3f}, {metric} {value:.3f}")
            if watch is not None:
                watch(epoch + 1, {name: one for name, (one, _) in measured.items()})
            if section.patience is not None and epoch + 1 - counters["best_epoch"] >= section.patience:
                stopped = "patience"
                break
            if time.monotonic() - saved >= 60 * section.checkpoint_minutes and epoch + 1 < section.epochs:
                save_checkpoint(resume, network, optimizer, best, counters)
                saved = time.monotonic()
    if section.keep == "best":
        network.load_state_dict(best)
    shift = shift_of(
        section.threshold,
        model.task,
        targets[torch.tensor(valid, dtype=torch.int64)],
        lambda: decided(network.head, _predict(plan, network, stores, valid, device)),
    )
    kept = {} if isinstance(shift, float) else {"thresholds": [float(v) for v in shift]}
    _keep(folder / "models", model, network, {**counters, "stopped": stopped, "metric": metric, **kept})


class Network(nn.Module):
    """Encoders of some modalities, and a head."""

    def __init__(self, encoders: Mapping[str, Encoder], head: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.head = head

    def encode(
        self,
        made: Batch,
        device: torch.device,
        augmentations: Mapping[str, Augmentation] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Encoded]:
        """Every modality of a batch; rows that lack one have zeros and `present` False."""
        found = {}
        for name, encoder in self.encoders.items():
            encoder = cast(Encoder, encoder)
            stream = made.streams[name].to(device)
            rows, size = stream.present.nonzero().squeeze(1), len(stream.present)
            if len(rows) == 0:
                found[name] = Encoded(torch.zeros(size, encoder.width, device=device), present=stream.present)
                continue
            encoded, rows = encoder.encode(stream, (augmentations or {}).get(name), generator)
            found[name] = Encoded(
                _put(encoded.vector, rows, size),
                None if encoded.sequence is None else _put(encoded.sequence, rows, size),
                None if encoded.steps is None else _put(encoded.steps, rows, size),
                stream.present,
            )
        return found


def _put(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """Rows back at their places among `size`, zeros elsewhere."""
    if len(rows) == size:
        return values
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, rows, values)


class _Contrast:
    """The contrastive objective on the batches that labels are learned from."""

    def __init__(self, plan: Plan, prepared: Prepared, model: Model, device: torch.device) -> None:
        self.targets = contrast_targets(plan, prepared)
        self.positives = plan.positives.spec.build(plan.positives.params)
        self.loss = plan.loss.spec.build(plan.loss.params)
        if isinstance(self.loss, nn.Module):
            self.loss.to(device)
        weights = plan.weights or (1.0,) * len(plan.pairs)
        here = [(pair, weight) for pair, weight in zip(plan.pairs, weights, strict=True) if set(pair) <= set(model.modalities)]
        self.pairs, self.weights = [pair for pair, _ in here], [weight for _, weight in here]
        self.device = device

    def __call__(self, network: Network, encoded: Mapping[str, Encoded], items: Items) -> Tensor:
        embedded = {}
        for name, one in encoded.items():
            assert one.present is not None
            rows = one.present.nonzero().squeeze(1)
            here = Encoded(one.vector[rows])
            embedded[name] = Embedded(cast(Encoder, network.encoders[name]).project(here), rows)
        targets = {name: target[items.row].to(self.device) for name, target in self.targets.items()}
        who = Items(items.row.to(self.device), items.view.to(self.device), targets)
        value = score(embedded, who, self.pairs, self.positives, self.loss, self.weights).loss
        return torch.zeros((), device=self.device) if value is None else value


def _build(
    plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int, model: Model, spot: tuple[str | int, ...]
) -> Network:
    """A model with its first weights."""
    assert plan.recipe.supervise is not None
    if plan.recipe.supervise.start == "pretrained":
        encoders = load_encoders(run.stage("pretrain", fold.number, seed))
    else:
        encoders = build_encoders(plan, seed, "fold", fold.number)
        fit_normalise(encoders, prepared.stores, fold.train)
    chosen = {name: encoders[name] for name in model.modalities}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*spot, "init"))
        head = model.part.spec.build(model.part.params, model.task, {name: e.width for name, e in chosen.items()})
    return Network(chosen, cast(nn.Module, head))


def _usable(stores: Mapping[str, Store], rows: Sequence[int], known: Tensor) -> list[int]:
    """Rows that have a label and at least one of the modalities."""
    return [row for row in rows if bool(known[row]) and any(row in store for store in stores.values())]


def _cut(stores: Mapping[str, Store], rows: Sequence[int], plan: Plan, generator: np.random.Generator) -> Batch:
    """A training batch: one window of every recording, or as many as `pretrain.views` says where contrast is added."""
    window, section = plan.recipe.window, plan.recipe.supervise
    views = plan.recipe.pretrain.views if section is not None and section.contrast else 1
    rows = [row for _ in range(views) for row in rows]
    spans = [draw(stores, row, window.seconds, window.place, generator, window.share) for row in rows]
    return batch(stores, rows, spans, [k * views // len(rows) for k in range(len(rows))])


@torch.inference_mode()
def _predict(plan: Plan, network: Network, stores: Mapping[str, Store], rows: Sequence[int], device: torch.device) -> Tensor:
    """What the model says of some recordings [n, outputs]: the mean over the windows that the recipe's `window.embed` asks for."""
    assert plan.recipe.supervise is not None
    network.eval()
    window = plan.recipe.window
    cuts: list[tuple[int, int, Span]] = []
    for i, row in enumerate(rows):
        cuts += [(i, row, span) for span in slide(stores, row, window.seconds, window.embed, window.hop)]
    parts = [cuts[k : k + WINDOWS] for k in range(0, len(cuts), WINDOWS)]
    jobs = [partial(batch, stores, [row for _, row, _ in part], [span for _, _, span in part]) for part in parts]
    total: Tensor | None = None
    count = torch.zeros(len(rows))
    for part, made in zip(parts, ahead(jobs), strict=True):
        with arithmetic(plan.recipe.supervise.precision, device):
            output = network.head(network.encode(made, device))
        anything = torch.stack([stream.present for stream in made.streams.values()]).any(0)
        index = torch.tensor([i for i, _, _ in part])[anything]
        if total is None:
            total = torch.zeros(len(rows), output.shape[1])
        total.index_add_(0, index, output.float().cpu()[anything])
        count.index_add_(0, index, torch.ones(len(index)))
    assert total is not None
    return total / count.clamp_min(1)[:, None]


def _keep(folder: Path, model: Model, network: Network, facts: Mapping[str, Any]) -> None:
    """Write a model's weights, then what is known of it: the second file says that it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{model.stem}.safetensors.tmp"
    save_file({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, str(part))
    part.replace(folder / f"{model.stem}.safetensors")
    about: dict[str, Any] = {"task": model.task.name, "input": model.input, "head": model.head, "use": model.part.use}
    if isinstance(network.head, Showing):
        about["shown"] = [
            {
                "title": one.title,
                "rows": list(one.rows),
                "columns": list(one.columns),
                "values": [[None if v is None else finite_or_none(round(v, 6)) for v in row] for row in one.values],
            }
            for one in network.head.show()
        ]
    write_json(
        folder / f"{model.stem}.json", {"format": 1, **about, **{k: v for k, v in facts.items() if k not in ("key", "step")}}
    )


def encoders_trained(
    plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int
) -> Iterator[tuple[str, dict[str, Encoder]]]:
    """The encoders that labels have trained in one fold and seed, of each task's and head's input with most modalities."""
    if plan.supervised is None:
        return
    main = main_input(plan.supervised.inputs)
    folder = run.stage("supervise", fold.number, seed)
    several = len(plan.supervised.tasks) > 1
    for model in _models(plan.supervised):
        if model.input == main:
            network = load_trained(plan, run, prepared, fold, seed, model, folder)
            label = f"{_kind(plan)} {model.head}" + (f" for {model.task.name}" if several else "")
            yield label, {name: cast(Encoder, encoder) for name, encoder in network.encoders.items()}


def load_trained(plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int, model: Model, folder: Path) -> Network:
    """A model with the weights that were kept."""
    network = _build(plan, run, prepared, fold, seed, model, (seed, "fold", fold.number, "supervise", model.stem))
    network.load_state_dict(load_file(str(folder / "models" / f"{model.stem}.safetensors")))
    return network


def said_of_validation(
    plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int, device: torch.device
) -> Iterator[tuple[Model, NDArray[np.float64], NDArray[np.float64]]]:
    """Of every kept model of one fold and seed, the targets of validation recordings [n, classes] and what it says of them."""
    assert plan.supervised is not None
    folder = run.stage("supervise", fold.number, seed)
    for model in _models(plan.supervised):
        network = load_trained(plan, run, prepared, fold, seed, model, folder).to(device)
        stores = {name: prepared.stores[name] for name in model.modalities}
        targets, known = target_of(model.task, [dict(s.targets) for s in prepared.samples])
        rows = _usable(stores, fold.valid, known)
        truth = targets[torch.tensor(rows, dtype=torch.int64)].double().numpy()
        yield model, truth, decided(network.head, _predict(plan, network, stores, rows, device))


def _test(
    plan: Plan,
    run: RunFolder,
    prepared: Prepared,
    fold: Fold,
    seed: int,
    models: Sequence[Model],
    folder: Path,
    device: torch.device,
) -> None:
    """Open the test set, once, for models that are all chosen."""
    run.log("test opened", stage="supervise", fold=fold.number, seed=seed, heads=len(models))
    protocol = f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}"
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    base = {"encoder": _kind(plan), "protocol": protocol, "fold": fold.number, "seed": seed, "head_seed": 0}
    for model in models:
        about, target, output, rows, facts = _answer(plan, run, prepared, fold, seed, model, folder, device, fold.test, base)
        scores += scores_of(about, model.task, target, output)
        predictions += predictions_of(about, model.task, [prepared.samples[row].id for row in rows], target, output)
        chosen.append({**about, **{k: facts[k] for k in ("epoch", "best_epoch", "best", "stopped", "seconds")}})
    write_jsonl(folder / "scores.jsonl", scores)
    write_jsonl(folder / "predictions.jsonl", predictions)
    write_jsonl(folder / "chosen.jsonl", chosen)


def _answer(
    plan: Plan,
    run: RunFolder,
    prepared: Prepared,
    fold: Fold,
    seed: int,
    model: Model,
    folder: Path,
    device: torch.device,
    among: Sequence[int],
    base: Mapping[str, Any],
) -> tuple[dict[str, Any], Tensor, NDArray[np.float64], list[int], dict[str, Any]]:
    """What a trained model says of some recordings: about it, their targets, its outputs, which rows, what is known of it."""
    network = load_trained(plan, run, prepared, fold, seed, model, folder).to(device)
    stores = {name: prepared.stores[name] for name in model.modalities}
    targets, known = target_of(model.task, [dict(s.targets) for s in prepared.samples])
    rows = _usable(stores, among, known)
    output: NDArray[np.float64] = (
        decided(network.head, _predict(plan, network, stores, rows, device))
        if rows
        else np.zeros((0, max(1, len(model.task.classes))))
    )
    facts = json.loads((folder / "models" / f"{model.stem}.json").read_text(encoding="utf-8"))
    about = {"task": model.task.name, "input": model.input, "head": model.head, **base}
    target = targets[torch.tensor(rows, dtype=torch.int64)]
    return about, target, output - np.asarray(facts.get("thresholds", 0.0)), rows, facts


def _kind(plan: Plan) -> str:
    """What scores call these encoders."""
    assert plan.recipe.supervise is not None
    return "fine-tuned" if plan.recipe.supervise.start == "pretrained" else "supervised"
