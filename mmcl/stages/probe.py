"""probe: what the frozen features are worth. Heads are fitted on train, chosen on valid; test is opened once, at the end.

For each fold and seed: reads the features that `embed` wrote. Writes scores.jsonl, predictions.jsonl and retrieval.jsonl.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..api.dataset import Task
from ..api.head import Head, Labelled
from ..evaluate.answers import constant_output, output_of, predictions_of, scores_of, shift_of, target_of
from ..evaluate.retrieval import retrieval
from ..model.frozen import Features
from ..model.heads import fit_head
from ..model.scale import Scale, any_present, encoded_of, scale_of
from ..recipe.plan import Plan
from ..runs import RunFolder, finish, finished, restart, write_jsonl
from ..screen import Tick, part_of, progress
from .embed import read_features
from .units import Unit, embed_key, encoder_kinds, probe_key, units_of

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
    shift: NDArray[np.float64] | float = 0.0  # taken from outputs: thresholds chosen on validation rows


def probe(plan: Plan, run: RunFolder) -> None:
    """Fit and test every head of every fold and seed that is not done yet."""
    units = units_of(plan, run)
    keys = [probe_key(plan, embed_key(plan, unit.prepared, unit.fold, unit.seed)) for unit in units]
    todo = [(unit, key) for unit, key in zip(units, keys, strict=True) if not finished(unit.folder("probe"), key)]
    if not todo:
        return
    each = len(plan.tasks) * len(plan.inputs) * len(plan.heads) * len(encoder_kinds(plan)) * len(plan.recipe.probe.seeds)
    with progress("probe", each * len(todo)) as tick:
        for done, (unit, key) in enumerate(todo):
            began = time.monotonic()
            restart(unit.folder("probe"))
            facts = _probe_unit(unit, part_of(tick, done * each))
            finish(unit.folder("probe"), key, seconds=round(time.monotonic() - began, 3), **facts)
            seconds = round(time.monotonic() - began, 3)
            run.log("probe", fold=unit.fold.number, seed=unit.seed, seconds=seconds, **facts)


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
                        here = Labelled(encoded=encoded_of(plan, scale, train, modalities, rows), target=target[rows])
                        there = Labelled(
                            encoded=encoded_of(plan, scale, valid, modalities, rows_valid), target=target_valid[rows_valid]
                        )
                        head, facts = fit_head(part, task, here, there, plan.recipe.probe.training, where)
                        shift = shift_of(
                            plan.recipe.probe.threshold, task, there.target, partial(output_of, head, there.encoded)
                        )
                        fitted.append(
                            Fitted(
                                task=task,
                                input=name,
                                modalities=modalities,
                                name=head_name,
                                encoder=kind,
                                head_seed=head_seed,
                                head=head,
                                scale=scale,
                                shift=shift,
                            )
                        )
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
    for unit in units_of(plan, run):
        features, base = unit.folder("embed"), {"fold": unit.fold.number, "seed": unit.seed}
        fitted, _, _ = _fit_unit(plan, features, unit.fold.number, unit.seed, lambda done, text: None)
        for kind in encoder_kinds(plan):
            valid, who = read_features(features, kind, "valid")
            mine = [one for one in fitted if one.encoder == kind]
            for about, task, _, target, output in _answers(plan, mine, valid, who, base):
                scores += scores_of(about, task, target, output)
    return scores


def _probe_unit(unit: Unit, tick: Tick) -> dict[str, Any]:
    """One fold and seed: fit everything, then open the test set."""
    plan, fold, seed = unit.plan, unit.fold.number, unit.seed
    features, folder = unit.folder("embed"), unit.folder("probe")
    fitted, chosen, majority = _fit_unit(plan, features, fold, seed, tick)
    # Everything is chosen. From here on the test set is open, and nothing is fitted any more.
    unit.run.log("test opened", fold=fold, seed=seed, heads=len(fitted))
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    retrieved: list[dict[str, Any]] = []
    protocol = f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}"
    base = {"protocol": protocol, "fold": fold, "seed": seed}
    for kind in encoder_kinds(plan):
        test, who = read_features(features, kind, "test")
        mine = [one for one in fitted if one.encoder == kind]
        for about, task, ids, target, output in _answers(plan, mine, test, who, base):
            scores += scores_of(about, task, target, output)
            predictions += predictions_of(about, task, ids, target, output)
        retrieved += _retrieval(test, {"encoder": kind, "fold": fold, "seed": seed})
        if kind == encoder_kinds(plan)[0] and "majority" in plan.recipe.report.against:
            for task in plan.tasks:
                target, known = target_of(task, who["targets"])
                about = {"task": task.name, "input": "none", "head": "majority", "encoder": "none", **base, "head_seed": 0}
                scores += scores_of(about, task, target[known], np.repeat(majority[task.name][None], int(known.sum()), 0))
    write_jsonl(folder / "scores.jsonl", scores)
    write_jsonl(folder / "predictions.jsonl", predictions)
    write_jsonl(folder / "retrieval.jsonl", retrieved)
    write_jsonl(folder / "chosen.jsonl", chosen)
    return {"heads": len(fitted)}


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
