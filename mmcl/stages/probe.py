"""probe: what the frozen features are worth. Heads are fitted on train, chosen on valid; test is opened once, at the end.

For each fold and seed: reads the features that `embed` wrote. Writes scores.jsonl, predictions.jsonl and retrieval.jsonl.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..api.batch import Encoded
from ..api.dataset import Task
from ..api.head import Head, Labelled, SelfFitting
from ..data.batches import epoch_batches
from ..data.prepared import load_prepared
from ..engine.optim import build_optimizer
from ..evaluate.answers import (
    constant_output,
    finite_or_none,
    loss_of,
    output_of,
    positive_weight,
    predictions_of,
    scores_of,
    shift_of,
    target_of,
)
from ..evaluate.retrieval import retrieval
from ..model.frozen import Features
from ..recipe.plan import Part, Plan
from ..runs import RunFolder, fingerprint, finish, finished, restart, write_jsonl
from ..screen import Tick, part_of, progress
from ..seeding import address
from .embed import embed_key, encoder_kinds, read_features

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
            majority[task.name] = constant_output(task, target[known])
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
                name: finite_or_none(value)
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
    return {"epochs": epoch, "best_epoch": best_epoch, "valid_loss": finite_or_none(best_loss)}


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
