"""supervise: encoders and heads trained together with labels, end to end: baselines from scratch, or fine-tuning.

For each fold and seed, every task, input and head has a model of its own. The epoch is chosen on validation recordings; test is
opened once, when all models of the fold and seed are chosen. Writes models/TASK~INPUT~HEAD.{safetensors,json}, scores.jsonl,
predictions.{jsonl,safetensors} and chosen.jsonl.
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
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..api.batch import Batch, Items
from ..api.dataset import Task
from ..api.errors import StageError
from ..api.head import Showing
from ..data.batches import at_recordings
from ..data.folds import Fold
from ..data.predictions import predictions_in_parts
from ..data.prepared import Prepared
from ..data.store import Store
from ..engine.devices import pick_device
from ..engine.means import Mean
from ..engine.optim import build_optimizer, rate, set_rate
from ..engine.progress import Progress
from ..engine.ranks import ALONE, Gathered, Ranks, device_of
from ..engine.resume import checkpoint_key, drop_checkpoint
from ..evaluate.answers import (
    decided,
    finite_or_none,
    loss_of,
    mixed,
    positive_weight,
    predicted,
    predictions_of,
    scores_of,
    shift_of,
    target_of,
)
from ..evaluate.calibration import temperature
from ..evaluate.metrics import HEADLINE, LESS_IS_BETTER, evaluate, metric_names
from ..model.augment import Augmentation
from ..model.build import encoders_of
from ..model.contrast import Contrast, build_contrast
from ..model.encoder import Encoder
from ..model.kept_network import mean_output, network_json, save_network
from ..model.network import OUTPUT, Network, Share, build_network, outputs_of
from ..model.windows import Views, draw_batches, items_of, windows_of
from ..objective.score import Embedded
from ..recipe.plan import Part, Plan, SupervisePlan, main_input
from ..recipe.schema import Supervise
from ..runs import RunFolder, finish, finished, read_json, read_tensors, restart, write_json, write_jsonl
from ..screen import progress, say
from ..stopping import asked, patient, stop_for
from .composed import batches_of_labels
from .lost import remedies
from .mending import drop_spoilt
from .units import ALL, Only, Unit, supervise_key, units_of

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


def supervise(plan: Plan, run: RunFolder, device: str = "auto", only: Only = ALL, ranks: Ranks = ALONE) -> None:
    """Train and test the models of every fold and seed that are not done yet.

    only   which folds and seeds
    ranks  the processes that train together, each of which calls this; the first one tests
    """
    if plan.supervised is None:
        return
    units = units_of(plan, run, only)
    where = device_of(pick_device(device))
    models = _models(plan.supervised)
    for unit in units:
        folder, key = unit.folder("supervise"), supervise_key(plan, unit.prepared, unit.fold, unit.seed)
        if ranks.first_says(partial(_is_done, folder, key)):
            continue
        began = time.monotonic()
        _train_all(unit, models, key, where, ranks=ranks)
        if not ranks.first:
            continue
        drop_checkpoint(folder / "resume")  # of a model that was finished when the process was killed
        _test(unit, models, where)
        facts: dict[str, Any] = {"models": len(models), "labels": [task.name for task in plan.supervised.tasks]}
        finish(folder, key, seconds=round(time.monotonic() - began, 3), **facts)
        run.log("supervise", fold=unit.fold.number, seed=unit.seed, seconds=round(time.monotonic() - began, 3), **facts)


def validation_scores(plan: Plan, run: RunFolder, device: str = "auto", watch: Watch | None = None) -> list[dict[str, Any]]:
    """Every metric of every model, trained as `supervise` trains it, on validation rows. No test recording is read."""
    assert plan.supervised is not None
    units = units_of(plan, run)
    where = pick_device(device)
    models = _models(plan.supervised)
    scores: list[dict[str, Any]] = []
    for unit in units:
        _train_all(unit, models, supervise_key(plan, unit.prepared, unit.fold, unit.seed), where, watch)
        for model in models:
            answers = _answers(unit, model, unit.fold.valid, where)
            scores += scores_of(_about(unit, model), model.task, answers.target, answers.output)
    return scores


def _models(plan: SupervisePlan) -> list[Model]:
    """Every model that is trained for one fold and seed."""
    return [
        Model(task=task, input=name, modalities=modalities, head=head, part=part)
        for task in plan.tasks
        for name, modalities in plan.inputs.items()
        for head, part in plan.heads.items()
    ]


def _train_all(
    unit: Unit, models: Sequence[Model], key: str, device: torch.device, watch: Watch | None = None, ranks: Ranks = ALONE
) -> None:
    """Train the models of one fold and seed that are not trained yet."""
    if (asked_for := _section(unit.plan).metric) is not None:
        for task in dict.fromkeys(model.task.name for model in models):
            known = metric_names(next(model.task for model in models if model.task.name == task))
            if asked_for not in known:
                raise StageError(f"supervise.metric: task '{task}' has no metric '{asked_for}'; it has {', '.join(known)}")
    left = ranks.first_says(partial(_left, unit, models, key))
    for model in models:
        if model.stem in left:
            with patient():
                _train(unit, model, key, device, watch, ranks)
            stop_for(ranks.asked(), lambda: f"supervise {unit}, {model.stem} is finished")  # noqa: B023 - called at once


def check_checkpoint(unit: Unit) -> None:
    """Raise StageError if there are checkpoints of a model that is being trained, and none of them can be gone on with."""
    assert unit.plan.supervised is not None
    key, resume = supervise_key(unit.plan, unit.prepared, unit.fold, unit.seed), unit.folder("supervise") / "resume"
    for model in _models(unit.plan.supervised):
        if checkpoint_key(resume) == f"{key} {model.stem}":
            network = _build(unit, model)
            Progress(f"{key} {model.stem}").restore(resume, network, build_optimizer(_section(unit.plan).optimizer, network))


def _left(unit: Unit, models: Sequence[Model], key: str) -> list[str]:
    """The models that are not trained yet; what was begun with other settings or data is thrown away."""
    folder = unit.folder("supervise")
    if not _same_work(folder, key):
        if (folder / "work.json").exists():
            say(
                f"supervise {unit}: was begun with other settings or data; its models are thrown away, and training starts anew"
            )
        restart(folder)
        write_json(folder / "work.json", {"key": key})
    return [model.stem for model in models if not (folder / "models" / f"{model.stem}.json").exists()]


def _is_done(folder: Path, key: str) -> bool:
    """Whether every model is trained and tested; if not, those that were spoilt are taken away."""
    if finished(folder, key):
        drop_checkpoint(folder / "resume")
        return True
    drop_spoilt(folder)
    return False


def _same_work(folder: Path, key: str) -> bool:
    """Whether what lies in a folder was begun with this key."""
    try:
        return bool(read_json(folder / "work.json").get("key") == key)
    except StageError:
        return False


@dataclass
class _Lessons:
    """The training of one model: what `_train` and its epochs share."""

    unit: Unit
    model: Model
    network: Network
    optimizer: torch.optim.Optimizer
    labels: _Labels
    contrast: Contrast | None
    state: Progress
    device: torch.device
    ranks: Ranks

    @property
    def resume(self) -> Path:
        """Where its checkpoints lie."""
        return self.unit.folder("supervise") / "resume"

    def __str__(self) -> str:
        return f"supervise {self.unit}, {self.model.input} {self.model.head}"

    def stop_for(self, number: int, within: Callable[[], dict[str, Any]]) -> None:
        """If a signal asked for an end, write a checkpoint and raise Stopped."""
        self.state.stop_for(number, self.resume, self.network, self.optimizer, str(self), within)


def _train(unit: Unit, model: Model, key: str, device: torch.device, watch: Watch | None, ranks: Ranks = ALONE) -> None:
    """One model, from its first weights to its best ones on disk."""
    section, resume = _section(unit.plan), unit.folder("supervise") / "resume"
    network = _build(unit, model).to(device)
    optimizer = build_optimizer(section.optimizer, network)
    labels = _labels_of(unit, model, device)
    metric = section.metric or HEADLINE[model.task.type]
    state = Progress(key=f"{key} {model.stem}", writes=ranks.first)
    state.restore(resume, network, optimizer)
    ranks.as_first(network, weights=True)
    lessons = _Lessons(unit, model, network, optimizer, labels, _contrast_of(unit, model, device), state, device, ranks)
    stopped = "epochs"
    with progress(str(lessons), section.epochs, state.epoch) as tick:
        for epoch in range(state.epoch, section.epochs):
            train = _epoch(lessons, epoch)
            valid_loss, metrics = _validate(unit, model, network, labels, device)
            row = {
                "epoch": epoch + 1,
                "train_loss": train.value,
                "valid_loss": valid_loss,
                f"valid_{metric}": finite_or_none(metrics[metric]),
                "lr": optimizer.param_groups[0]["lr"],
            }
            monitored = ranks.first_number(_monitored(section.choose, metric, metrics[metric], valid_loss))
            state.finish_epoch(row, monitored=monitored, model=network)
            tick(state.epoch, f"train {train.value:.3f}, valid {valid_loss:.3f}, {metric} {metrics[metric]:.3f}")
            if watch is not None:
                watch(state.epoch, metrics)
            if state.patience_is_over(section.patience):
                stopped = "patience"
                break
            if state.due(section.checkpoint_minutes) and state.epoch < section.epochs:
                state.save(resume, network, optimizer)
            lessons.stop_for(ranks.asked(), dict)
    if section.keep == "best":
        network.load_state_dict(state.weights)
    if ranks.first:
        _keep(unit, model, network, state, stopped, _reading(unit, model, network, labels, device))
        drop_checkpoint(resume)


def _epoch(lessons: _Lessons, epoch: int) -> Mean:
    """Every step of an epoch that is not done yet; the mean loss over all of its batches."""
    unit, model, network, ranks, state = lessons.unit, lessons.model, lessons.network, lessons.ranks, lessons.state
    plan, section, where, stores = unit.plan, _section(unit.plan), _address(unit, model), _stores(unit, model)
    augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}
    network.train()
    train, done = Mean.from_json(state.within.get("loss", ())), int(state.within.get("batches", 0))
    rows = batches_of_labels(plan, unit.prepared, lessons.labels.train, section.batch_size, *where, epoch=epoch)
    batches = draw_batches(plan, stores, rows, _views(plan), *where, "window", epoch, first=done, share=ranks.share)
    for k, batch in enumerate(batches, done):
        items = items_of(rows[k], _views(plan))
        generator = state.seed_step(*where, *ranks.where)
        set_rate(lessons.optimizer, rate(section.schedule, section.optimizer.lr, section.epochs, epoch + k / len(rows)))
        with at_recordings(unit.prepared.samples, items.row):
            gathered = _gathered(lessons, batch, len(items.row), augmentations, generator)
        if ranks.size > 1:
            state.seed_objective(*where)
        loss = _loss(lessons, gathered, items)
        lost, signal = ranks.agree(int(not bool(torch.isfinite(loss))), asked() or 0)
        if lost:
            _stop_if_lost(loss, unit, model, epoch)
        lessons.optimizer.zero_grad(set_to_none=True)
        ranks.backward(loss, gathered, network)
        if section.clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), section.clip)
        lessons.optimizer.step()
        ranks.as_first(network)
        state.step += 1
        train.add(loss, len(items.row))
        lessons.stop_for(signal, partial(_within, k + 1, train))
    return train


def _gathered(
    lessons: _Lessons,
    batch: Batch,
    n: int,
    augmentations: Mapping[str, Augmentation],
    generator: torch.Generator,
) -> Gathered:
    """What the networks of all ranks make of a batch of n rows: outputs, and what is contrasted beside them."""
    section, contrasted = _section(lessons.unit.plan), lessons.model.modalities if lessons.contrast is not None else ()
    share = Share(lessons.ranks, n, section.sync_batchnorm, section.precision)
    return lessons.ranks.gather(
        outputs_of(lessons.network, batch, share, lessons.device, augmentations, generator, contrasted), n
    )


def _loss(lessons: _Lessons, gathered: Gathered, items: Items) -> Tensor:
    """The loss of labels and, where the recipe adds it, that of the contrast."""
    network, model, section, device = lessons.network, lessons.model, _section(lessons.unit.plan), lessons.device
    output, target = gathered.whole[OUTPUT], lessons.labels.targets[items.row].to(device)
    loss = loss_of(network.head, model.task, output, target, lessons.labels.weight)
    if lessons.contrast is None:
        return loss
    embedded = {name: Embedded(gathered.whole[name], gathered.rows[name]) for name in model.modalities}
    beside = _contrast_loss(lessons.contrast, embedded, items, device)
    return mixed(loss, beside, section.contrast, section.mix, network.head, output)


def _within(batches: int, train: Mean) -> dict[str, Any]:
    """What a checkpoint keeps of an epoch of which so many batches are done."""
    return {"batches": batches, "loss": train.to_json()}


@dataclass(frozen=True)
class _Labels:
    """A task's targets, and the recordings from which a model learns and on which its epoch is chosen."""

    targets: Tensor  # of every recording
    train: list[int]
    valid: list[int]
    weight: Tensor | None  # of positives, by class, from the training rows


def _labels_of(unit: Unit, model: Model, device: torch.device) -> _Labels:
    """The labels that a model learns. Raises StageError if nobody has one and something to predict it from."""
    targets, train = _labelled(unit, model, unit.fold.train)
    _, valid = _labelled(unit, model, unit.fold.choosing)
    if not train or not valid:
        raise StageError(
            f"supervise fold {unit.fold.number}: no {'training' if not train else 'validation'} recording has both a label of task "
            f"'{model.task.name}' and one of {', '.join(model.modalities)}"
        )
    weight = positive_weight(model.task, targets[torch.tensor(train)])
    return _Labels(targets=targets, train=train, valid=valid, weight=None if weight is None else weight.to(device))


def _labelled(unit: Unit, model: Model, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The targets of every recording, and those of `rows` that have one and at least one of the modalities."""
    targets, known = target_of(model.task, [dict(sample.targets) for sample in unit.prepared.samples])
    stores = _stores(unit, model)
    return targets, [row for row in rows if bool(known[row]) and any(row in store for store in stores.values())]


def _views(plan: Plan) -> Views:
    """Windows of every recording in a training batch: one, or those that `pretrain.views` says where contrast is added."""
    return plan.recipe.pretrain.shares if _section(plan).contrast else 1


def _contrast_of(unit: Unit, model: Model, device: torch.device) -> Contrast | None:
    """The contrast of the model's modalities, where the recipe adds it to the loss of the labels."""
    if not _section(unit.plan).contrast:
        return None
    contrast = build_contrast(unit.plan, unit.prepared.samples, model.modalities)
    if isinstance(contrast.loss, nn.Module):
        contrast.loss.to(device)
    return contrast


def _contrast_loss(contrast: Contrast, embedded: Mapping[str, Embedded], items: Items, device: torch.device) -> Tensor:
    """The contrastive objective on the batches that labels are learned from; 0 where no pair has two recordings in common."""
    loss = contrast(embedded, items, device).loss
    return torch.zeros((), device=device) if loss is None else loss


def _stop_if_lost(loss: Tensor, unit: Unit, model: Model, epoch: int) -> None:
    """Stop on a loss that is no number, before it spoils the weights."""
    if not bool(torch.isfinite(loss)):
        raise StageError(
            f"supervise fold {unit.fold.number}: the loss of {model.stem} became {float(loss.detach())} in epoch {epoch + 1}; "
            f"{remedies(_section(unit.plan), 'supervise')}"
        )


def _validate(
    unit: Unit, model: Model, network: Network, labels: _Labels, device: torch.device
) -> tuple[float, dict[str, float]]:
    """The loss and every metric on validation recordings, in eval mode."""
    output = predict(unit.plan, network, _stores(unit, model), labels.valid, device)
    target = labels.targets[torch.tensor(labels.valid)]
    loss = float(loss_of(network.head, model.task, output.to(device), target.to(device), labels.weight))
    decisions = decided(network.head, output)
    measured = evaluate(model.task.type, model.task.classes, target.double().numpy(), decisions, model.task.extra)
    return loss, {name: value for name, (value, _) in measured.items()}


def _monitored(choose: str, metric: str, value: float, valid_loss: float) -> float:
    """What the best epoch has least of: the loss, or a metric that is asked for and defined, turned round where more is better."""
    if choose != "score" or not math.isfinite(value):
        return valid_loss
    return value if metric in LESS_IS_BETTER else -value


@dataclass(frozen=True)
class _Reading:
    """How a model's outputs are read, from validation recordings alone."""

    shift: NDArray[np.float64] | float  # what is taken from them: thresholds
    temperature: float | None  # what they are divided by to be probabilities


def _reading(unit: Unit, model: Model, network: Network, labels: _Labels, device: torch.device) -> _Reading:
    """Thresholds, where the recipe asks for them, and a temperature."""
    target, output = labels.targets[torch.tensor(labels.valid)], _outputs(unit, model, network, labels.valid, device)
    return _Reading(
        shift=shift_of(_section(unit.plan).threshold, model.task, target, lambda: output),
        temperature=temperature(model.task, target.double().numpy(), output),
    )


def _keep(unit: Unit, model: Model, network: Network, state: Progress, stopped: str, reading: _Reading) -> None:
    """Write a model's weights, then what is known of it: the second file says that it is done."""
    folder = unit.folder("supervise") / "models"
    facts: dict[str, Any] = {
        "format": 1,
        "task": model.task.name,
        "input": model.input,
        "head": model.head,
        "use": model.part.use,
    }
    if isinstance(network.head, Showing):
        facts["shown"] = _shown(network.head)
    facts |= {
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "best": state.best,
        "history": state.history,
        "seconds": state.seconds,
        "stopped": stopped,
        "metric": _section(unit.plan).metric or HEADLINE[model.task.type],
    }
    config, where = unit.plan.to_json(), {"mmcl": __version__, "fold": unit.fold.number, "seed": unit.seed}
    about = network_json(config, model.task, model.modalities, model.part, _kind(unit.plan), reading.temperature, **where)
    save_network(folder, model.stem, network, facts, reading.shift, about)


def _shown(head: Showing) -> list[dict[str, Any]]:
    """The tables that a head shows."""
    return [
        {
            "title": one.title,
            "rows": list(one.rows),
            "columns": list(one.columns),
            "values": [[None if v is None else finite_or_none(round(v, 6)) for v in row] for row in one.values],
        }
        for one in head.show()
    ]


def _build(unit: Unit, model: Model) -> Network:
    """A model with its first weights."""
    plan, kind = unit.plan, "pretrained" if _section(unit.plan).start == "pretrained" else "random"
    encoders = encoders_of(plan, kind, unit.folder("pretrain"), unit.prepared.stores, unit.fold.train, *unit.address)
    chosen = {name: encoders[name] for name in model.modalities}
    return build_network(chosen, model.part, model.task, *_address(unit, model))


def _load(unit: Unit, model: Model) -> Network:
    """A model with the weights that were kept."""
    network = _build(unit, model)
    network.load_state_dict(read_tensors(unit.folder("supervise") / "models" / f"{model.stem}.safetensors"))
    return network


def encoders_trained(unit: Unit) -> Iterator[tuple[str, dict[str, Encoder]]]:
    """The encoders that labels have trained in one fold and seed, of each task's and head's input with most modalities."""
    plan = unit.plan
    if plan.supervised is None:
        return
    main = main_input(plan.supervised.inputs)
    several = len(plan.supervised.tasks) > 1
    for model in _models(plan.supervised):
        if model.input == main:
            network = _load(unit, model)
            label = f"{_kind(plan)} {model.head}" + (f" for {model.task.name}" if several else "")
            yield label, {name: cast(Encoder, encoder) for name, encoder in network.encoders.items()}


def validation_outputs(
    plan: Plan, run: RunFolder, prepared: Prepared, fold: Fold, seed: int, device: torch.device
) -> Iterator[tuple[Model, NDArray[np.float64], NDArray[np.float64]]]:
    """Of every kept model of one fold and seed, the targets of validation recordings [n, classes] and its outputs for them."""
    assert plan.supervised is not None
    unit = Unit(plan=plan, run=run, prepared=prepared, fold=fold, seed=seed)
    for model in _models(plan.supervised):
        targets, rows = _labelled(unit, model, fold.valid)
        truth = targets[torch.tensor(rows, dtype=torch.int64)].double().numpy()
        yield model, truth, _outputs(unit, model, _load(unit, model).to(device), rows, device)


def predict(plan: Plan, network: Network, stores: Mapping[str, Store], rows: Sequence[int], device: torch.device) -> Tensor:
    """Outputs of a network for some recordings [n, outputs]: the mean over the windows in which there is any modality."""
    windows = windows_of(plan, stores, rows, by_length=False)
    output = mean_output(network, windows, len(rows), _section(plan).precision, device)
    assert output is not None, "no recording is asked about"
    return output


def _outputs(unit: Unit, model: Model, network: Network, rows: Sequence[int], device: torch.device) -> NDArray[np.float64]:
    """A model's outputs for some recordings [n, outputs], as metrics read them."""
    if not rows:
        return np.zeros((0, max(1, len(model.task.classes))))
    return decided(network.head, predict(unit.plan, network, _stores(unit, model), rows, device))


@dataclass(frozen=True)
class _Answers:
    """A kept model's answers for some recordings."""

    rows: Sequence[int]  # which recordings
    ids: list[str]
    target: Tensor
    output: NDArray[np.float64]  # [n, outputs], less the model's thresholds
    facts: Mapping[str, Any]  # what is known of the model


def _answers(unit: Unit, model: Model, among: Sequence[int], device: torch.device) -> _Answers:
    """What a kept model says of those recordings that have a label and something to predict it from."""
    targets, rows = _labelled(unit, model, among)
    output = _outputs(unit, model, _load(unit, model).to(device), rows, device)
    facts = read_json(unit.folder("supervise") / "models" / f"{model.stem}.json")
    return _Answers(
        rows=rows,
        ids=[unit.prepared.samples.id(row) for row in rows],
        target=targets[torch.tensor(rows, dtype=torch.int64)],
        output=output - np.asarray(facts.get("thresholds", 0.0)),
        facts=facts,
    )


def _about(unit: Unit, model: Model, **more: str) -> dict[str, Any]:
    """What a model's rows in files of scores begin with."""
    names = {"task": model.task.name, "input": model.input, "head": model.head, "encoder": _kind(unit.plan)}
    return {**names, **more, "fold": unit.fold.number, "seed": unit.seed, "head_seed": 0}


def _test(unit: Unit, models: Sequence[Model], device: torch.device) -> None:
    """Open the test set, once, for models that are all chosen."""
    plan, fold, folder = unit.plan, unit.fold, unit.folder("supervise")
    choices = {model.stem: supervise_key(plan, unit.prepared, fold, unit.seed, (model.input, model.head)) for model in models}
    unit.run.log("test opened", stage="supervise", fold=fold.number, seed=unit.seed, heads=len(models), choices=choices)
    protocol = f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}"
    scores: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    place = {row: place for place, row in enumerate(fold.test)}
    with predictions_in_parts(folder, map(unit.prepared.samples.id, fold.test)) as predict:
        for model in models:
            answers = _answers(unit, model, fold.test, device)
            about = _about(unit, model, protocol=protocol)
            scores += scores_of(about, model.task, answers.target, answers.output)
            lines = predictions_of(about, model.task, answers.ids, answers.target, answers.output)
            places = np.array([place[row] for row in answers.rows], np.int32)
            predict(lines, about, places, answers.target.numpy(), predicted(model.task, answers.output))
            chosen.append({**about, **{k: answers.facts[k] for k in ("epoch", "best_epoch", "best", "stopped", "seconds")}})
    write_jsonl(folder / "scores.jsonl", scores)
    write_jsonl(folder / "chosen.jsonl", chosen)


def _address(unit: Unit, model: Model) -> tuple[str | int, ...]:
    """What the address of every draw for a model begins with."""
    return (*unit.address, "supervise", model.stem)


def _stores(unit: Unit, model: Model) -> dict[str, Store]:
    """The prepared streams that a model sees."""
    return {name: unit.prepared.stores[name] for name in model.modalities}


def _section(plan: Plan) -> Supervise:
    """The recipe's section, where there is sure to be one."""
    assert plan.recipe.supervise is not None
    return plan.recipe.supervise


def _kind(plan: Plan) -> str:
    """What scores call these encoders."""
    return "fine-tuned" if _section(plan).start == "pretrained" else "supervised"
