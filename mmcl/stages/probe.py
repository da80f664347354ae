"""probe: what the frozen features are worth. Heads are fitted on train, chosen on valid; test is opened once, at the end.

For each fold and seed: reads the features that `embed` wrote. Writes scores.jsonl, predictions.jsonl and retrieval.jsonl.
"""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .. import __version__
from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Deciding, Head, Labelled, OwnLoss, SelfFitting
from ..data.batches import epoch_batches
from ..engine.optim import build_optimizer
from ..evaluate.metrics import evaluate, thresholds
from ..evaluate.retrieval import retrieval
from ..recipe.plan import Part, Plan
from ..runs import RunFolder, fingerprint, finish, finished, restart, write_jsonl
from ..screen import Tick, part_of, progress
from ..seeding import address
from .embed import Features, embed_key, encoder_kinds, read_features
from .prepare import load_prepared

AMONG = 32
"""Recordings among which the right one is searched, beside the search among all: R@k depends on how many there are."""


@dataclass
class Fitted:
    """A head that has been fitted and waits for the test set."""

    task: Task
    input: str
    modalities: tuple[str, ...]
    name: str
    encoder: str
    head_seed: int
    head: Head
    scale: Scale
    shift: NDArray[np.float64] | float = 0.0  # taken from outputs: thresholds found on validation rows


@dataclass
class Scale:
    """Mean and deviation of each modality's features, from training rows that have it."""

    mean: dict[str, Tensor]
    deviation: dict[str, Tensor]

    def encoded(self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], rows: Tensor) -> dict[str, Encoded]:
        """Standardised features of some rows; a missing modality is zeros, which is the training mean."""
        found = {}
        for name, vector in vectors.items():
            here = present[name][rows]
            values = (vector[rows] - self.mean[name]) / self.deviation[name]
            found[name] = Encoded(vector=values * here[:, None].to(values.dtype), present=here)
        return found


def probe(plan: Plan, run: RunFolder) -> None:
    """Fit and test every head of every fold and seed that is not done yet."""
    prepared = load_prepared(run)
    units = [(fold, seed) for fold in prepared.folds for seed in plan.seeds]
    keys = {(fold.number, seed): probe_key(plan, embed_key(plan, prepared, fold, seed)) for fold, seed in units}
    todo = [(f.number, seed) for f, seed in units if not finished(run.stage("probe", f.number, seed), keys[f.number, seed])]
    if not todo:
        return
    each = len(plan.tasks) * len(plan.inputs) * len(plan.heads) * len(encoder_kinds(plan)) * len(plan.recipe.probe.seeds)
    with progress("probe", each * len(todo)) as tick:
        for done, (fold, seed) in enumerate(todo):
            began = time.monotonic()
            folder = run.stage("probe", fold, seed)
            restart(folder)
            facts = _probe_unit(plan, run, fold, seed, folder, part_of(tick, done * each))
            finish(folder, keys[fold, seed], seconds=round(time.monotonic() - began, 3), **facts)
            run.log("probe", fold=fold, seed=seed, seconds=round(time.monotonic() - began, 3), **facts)


def probe_key(plan: Plan, embedded: str) -> str:
    """Fingerprint of everything that the scores depend on."""
    said = plan.to_json()
    return fingerprint([embedded, said["probe"], said["report"], __version__])


def _fit_unit(
    plan: Plan, features: Path, fold: int, seed: int, tick: Tick
) -> tuple[list[Fitted], list[dict[str, Any]], dict[str, Any]]:
    """Every head of one fold and seed, what is known of each, and the output that knows the training targets only, by task."""
    done = 0
    fitted: list[Fitted] = []
    chosen: list[dict[str, Any]] = []
    majority: dict[str, Any] = {}
    for kind in encoder_kinds(plan):
        train, who_train = read_features(features, kind, "train")
        valid, who_valid = read_features(features, kind, "valid")
        scale = scale_of(plan, train)
        for task in plan.tasks:
            target, known = target_of(task, who_train["targets"])
            target_valid, known_valid = target_of(task, who_valid["targets"])
            majority[task.name] = _constant(task, target[known])
            for name, modalities in plan.inputs.items():
                rows, rows_valid = known & any_present(train, modalities), known_valid & any_present(valid, modalities)
                for head_name, part in plan.heads.items():
                    for head_seed in plan.recipe.probe.seeds:
                        where = (seed, "fold", fold, "head", head_name, kind, task.name, name, head_seed)
                        here = Labelled(encoded_of(plan, scale, train, modalities, rows), target[rows])
                        there = Labelled(encoded_of(plan, scale, valid, modalities, rows_valid), target_valid[rows_valid])
                        head, facts = fit_head(part, task, here, there, plan.recipe.probe.training, where)
                        shift = shift_of(
                            plan.recipe.probe.threshold, task, there.target, partial(output_of, head, there.encoded)
                        )
                        fitted.append(Fitted(task, name, modalities, head_name, kind, head_seed, head, scale, shift))
                        chosen.append(
                            {
                                "task": task.name,
                                "input": name,
                                "head": head_name,
                                "encoder": kind,
                                "head_seed": head_seed,
                                **facts,
                                **({} if isinstance(shift, float) else {"thresholds": [float(v) for v in shift]}),
                            }
                        )
                        done += 1
                        tick(done, f"{kind} {name} {head_name}")
    return fitted, chosen, majority


def _answers(
    plan: Plan, fitted: Sequence[Fitted], features: Mapping[str, Features], who: Mapping[str, Any], base: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Task, list[str], Tensor, NDArray[np.float64]]]:
    """What each head says of some recordings: about it, its task, whose ids, their targets, its outputs."""
    for one in fitted:
        target, known = target_of(one.task, who["targets"])
        rows = known & any_present(features, one.modalities)
        output = output_of(one.head, encoded_of(plan, one.scale, features, one.modalities, rows)) - one.shift
        about = {
            "task": one.task.name,
            "input": one.input,
            "head": one.name,
            "encoder": one.encoder,
            **base,
            "head_seed": one.head_seed,
        }
        yield about, one.task, [id for id, here in zip(who["ids"], rows.tolist(), strict=True) if here], target[rows], output


def validation_scores(plan: Plan, run: RunFolder) -> list[dict[str, Any]]:
    """Every metric of every head, fitted as `probe` fits it, on the validation rows that chose it. No test file is opened."""
    scores: list[dict[str, Any]] = []
    for fold in load_prepared(run).folds:
        for seed in plan.seeds:
            features = run.stage("embed", fold.number, seed)
            fitted, _, _ = _fit_unit(plan, features, fold.number, seed, lambda done, text: None)
            for kind in encoder_kinds(plan):
                valid, who = read_features(features, kind, "valid")
                mine = [one for one in fitted if one.encoder == kind]
                for about, task, _, target, output in _answers(plan, mine, valid, who, {"fold": fold.number, "seed": seed}):
                    scores += scores_of(about, task, target, output)
    return scores


def _probe_unit(plan: Plan, run: RunFolder, fold: int, seed: int, folder: Path, tick: Tick) -> dict[str, Any]:
    """One fold and seed: fit everything, then open the test set."""
    features = run.stage("embed", fold, seed)
    fitted, chosen, majority = _fit_unit(plan, features, fold, seed, tick)
    # Everything is chosen. From here on the test set is open, and nothing is fitted any more.
    run.log("test opened", fold=fold, seed=seed, heads=len(fitted))
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    protocol = f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}"
    base = {"protocol": protocol, "fold": fold, "seed": seed}
    for kind in encoder_kinds(plan):
        test, who = read_features(features, kind, "test")
        mine = [one for one in fitted if one.encoder == kind]
        for about, task, ids, target, output in _answers(plan, mine, test, who, base):
            scores += scores_of(about, task, target, output)
            predictions += predictions_of(about, task, ids, target, output)
        found += _retrieval(test, {"encoder": kind, "fold": fold, "seed": seed})
        if kind == encoder_kinds(plan)[0] and "majority" in plan.recipe.report.against:
            for task in plan.tasks:
                target, known = target_of(task, who["targets"])
                about = {"task": task.name, "input": "none", "head": "majority", "encoder": "none", **base, "head_seed": 0}
                scores += scores_of(about, task, target[known], np.repeat(majority[task.name][None], int(known.sum()), 0))
    write_jsonl(folder / "scores.jsonl", scores)
    write_jsonl(folder / "predictions.jsonl", predictions)
    write_jsonl(folder / "retrieval.jsonl", found)
    write_jsonl(folder / "chosen.jsonl", chosen)
    return {"heads": len(fitted)}


def fit_head(
    part: Part, task: Task, train: Labelled, valid: Labelled, training: Any, where: tuple[str | int, ...]
) -> tuple[Head, dict[str, Any]]:
    """A head fitted on `train` and chosen on `valid`: by its own solver if it has one, else by the loop below."""
    widths = {name: encoded.vector.shape[1] for name, encoded in train.encoded.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init"))
        head: Head = part.spec.build(part.params, task, widths)
        if isinstance(head, SelfFitting):
            return head, {
                name: _plain(value)
                for name, value in head.fit(train, valid, torch.Generator().manual_seed(address(*where, "fit"))).items()
            }
        return head, _train_head(cast(nn.Module, head), task, train, valid, training, where)


def _train_head(
    head: nn.Module, task: Task, train: Labelled, valid: Labelled, training: Any, where: tuple[str | int, ...]
) -> dict[str, Any]:
    """Minibatch training with early stopping on the validation loss; the best weights are kept."""
    optimizer = build_optimizer(training.optimizer, head)
    weight = positive_weight(task, train.target)
    best, best_loss, best_epoch, epoch = copy.deepcopy(head.state_dict()), math.inf, 0, 0
    for epoch in range(1, training.epochs + 1):
        head.train()
        for k, rows in enumerate(epoch_batches(range(len(train.target)), training.batch_size, *where, epoch)):
            torch.manual_seed(address(*where, "step", epoch, k))
            index = torch.tensor(rows)
            loss = loss_of(head, task, head(_rows(train.encoded, index)), train.target[index], weight)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        head.eval()
        with torch.no_grad():
            now = float(loss_of(head, task, head(valid.encoded), valid.target, weight))
        if now < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(head.state_dict()), now, epoch
        if epoch - best_epoch >= training.patience:
            break
    head.load_state_dict(best)
    head.eval()
    return {"epochs": epoch, "best_epoch": best_epoch, "valid_loss": _plain(best_loss)}


def loss_of(head: Head | nn.Module, task: Task, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """The head's own loss if it has one, else the one of the task's type."""
    return head.loss(output, target) if isinstance(head, OwnLoss) else task_loss(task, output, target, weight)


def task_loss(task: Task, output: Tensor, target: Tensor, positive_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy, BCE with weighted positives, or mean squared error, by type of task; unknown labels (NaN) count nothing."""
    if task.type == "single-label":
        return functional.cross_entropy(output.float(), target)
    known = ~target.isnan()
    if task.type == "multi-label":
        each = functional.binary_cross_entropy_with_logits(
            output.float(), target.nan_to_num(), reduction="none", pos_weight=positive_weight
        )
    else:
        each = (output.float() - target.nan_to_num()).square()
    return (each * known).sum() / known.sum().clamp_min(1)


def positive_weight(task: Task, target: Tensor) -> Tensor | None:
    """Negatives per positive of each class, from training rows (MPUC-MER's code gives such weights)."""
    if task.type != "multi-label":
        return None
    known = ~target.isnan()
    positive = (target.nan_to_num() * known).sum(0)
    return (known.sum(0) - positive) / positive.clamp_min(1)


def _rows(encoded: Mapping[str, Encoded], index: Tensor) -> dict[str, Encoded]:
    return {
        name: Encoded(vector=e.vector[index], present=None if e.present is None else e.present[index])
        for name, e in encoded.items()
    }


def _vectors(plan: Plan, features: Mapping[str, Features], modalities: Sequence[str]) -> dict[str, Tensor]:
    projection = plan.recipe.probe.features == "projection"
    return {name: features[name].projection if projection else features[name].vector for name in modalities}


def scale_of(plan: Plan, train: Mapping[str, Features]) -> Scale:
    """Mean and deviation over the training rows that have a modality."""
    return fitted_scale({name: vector[train[name].present] for name, vector in _vectors(plan, train, list(train)).items()})


def fitted_scale(vectors: Mapping[str, Tensor]) -> Scale:
    """Mean and deviation of each set of vectors [n, width]; a constant feature stays as it is."""
    mean, deviation = {}, {}
    for name, vector in vectors.items():
        here = vector.double() if len(vector) else torch.zeros(1, vector.shape[1], dtype=torch.float64)
        mean[name] = here.mean(0).float()
        spread = here.std(0, correction=0).float()
        deviation[name] = torch.where(spread > 1e-6 * (1 + mean[name].abs()), spread, torch.ones_like(spread))
    return Scale(mean, deviation)


def encoded_of(
    plan: Plan, scale: Scale, features: Mapping[str, Features], modalities: Sequence[str], rows: Tensor
) -> dict[str, Encoded]:
    """Standardised features of some rows, as heads take them."""
    return scale.encoded(_vectors(plan, features, modalities), {name: features[name].present for name in modalities}, rows)


def any_present(features: Mapping[str, Features], modalities: Sequence[str]) -> Tensor:
    """Rows with at least one of the modalities; the others cannot be predicted from them and are not counted."""
    return torch.stack([features[name].present for name in modalities]).any(0)


def target_of(task: Task, targets: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """A task's targets of all rows, and which rows have one."""
    values = [t.get(task.name) for t in targets]
    known = torch.tensor([v is not None for v in values])
    if task.type == "single-label":
        return torch.tensor([0 if v is None else int(v) for v in values]), known
    width = max(1, len(task.classes))
    rows = [[math.nan] * width if v is None else list(v) if isinstance(v, list | tuple) else [v] for v in values]
    return torch.tensor(rows, dtype=torch.float32), known


def _constant(task: Task, target: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The output that knows the training targets only: the most frequent class, or the mean."""
    if task.type == "single-label":
        counts = Counter(target.tolist())
        best = min(counts, key=lambda c: (-counts[c], c)) if counts else 0
        return cast("np.ndarray[Any, np.dtype[np.float64]]", np.eye(len(task.classes))[best])
    mean = target.double().nanmean(0).numpy()
    return np.where(mean > 0.5, 1.0, -1.0) if task.type == "multi-label" else np.asarray(mean)


@torch.inference_mode()
def output_of(head: Head, encoded: Mapping[str, Encoded]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What a fitted head says, without gradient."""
    return decided(head, head(encoded))


def decided(head: Head | nn.Module, output: Tensor) -> NDArray[np.float64]:
    """What a head gave, as metrics read it: in its own way of deciding, if it has one."""
    value = head.decide(output) if isinstance(head, Deciding) else output
    return cast("NDArray[np.float64]", value.detach().cpu().double().numpy())


def shift_of(how: str, task: Task, target: Tensor, output: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64] | float:
    """What is taken from outputs before they are read: thresholds of a multi-label task, from validation rows alone."""
    if how != "valid" or task.type != "multi-label" or not len(target):
        return 0.0
    return thresholds(target.double().numpy(), output())


def scores_of(about: Mapping[str, Any], task: Task, target: Tensor, output: Any) -> list[dict[str, Any]]:
    """Every metric of one output [n, outputs], as rows of scores.jsonl."""
    measured = evaluate(task.type, task.classes, target.double().numpy(), output, task.extra)
    return [{**about, "metric": metric, "value": _plain(value), "n": n} for metric, (value, n) in measured.items()]


def predictions_of(
    about: Mapping[str, Any], task: Task, ids: Sequence[str], target: Tensor, output: Any
) -> list[dict[str, Any]]:
    """What was said of each recording, as rows of predictions.jsonl."""
    rows = []
    for id, truth, values in zip(ids, target.tolist(), output.tolist(), strict=True):
        if task.type == "single-label":
            said: Any = int(np.argmax(values))
        elif task.type == "multi-label":
            said = [int(v > 0) for v in values]
        else:
            said = [round(v, 6) for v in values]
        if isinstance(truth, list):
            truth = [_plain(v) for v in truth]
        rows.append({**about, "id": id, "target": truth, "prediction": said})
    return rows


def _retrieval(test: Mapping[str, Features], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Retrieval between every two modalities, both directions, among all test recordings and among AMONG of them."""
    rows = []
    names = list(test)
    for a in names:
        for b in names:
            both = test[a].present & test[b].present
            if a == b or int(both.sum()) < 2:
                continue
            query, gallery = test[a].projection[both], test[b].projection[both]
            for among in (AMONG, None):
                if among is not None and int(both.sum()) < among:
                    continue
                for metric, (value, chance) in retrieval(query, gallery, among).items():
                    rows.append(
                        {
                            **about,
                            "from": a,
                            "to": b,
                            "metric": metric,
                            "value": value,
                            "chance": chance,
                            "n": int(both.sum()),
                            "among": among or int(both.sum()),
                        }
                    )
    return rows


def _plain(value: float) -> float | None:
    """A number as JSON has it: null where it is undefined."""
    return float(value) if math.isfinite(value) else None
