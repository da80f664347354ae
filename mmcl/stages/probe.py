"""probe: what the frozen features are worth. Heads are fitted on train, chosen on valid; test is opened once, at the end.

For each fold and seed: reads the features that `embed` wrote. Writes heads.{safetensors,json}, scores.jsonl, predictions.{jsonl,safetensors},
retrieval.jsonl and searches.jsonl (retrieval query by query).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..api.dataset import Task
from ..api.head import Head, Labelled
from ..data.folds import HELD
from ..data.predictions import predictions_in_parts
from ..data.prepared import load_prepared
from ..data.whose import Whose, has_whose, read_whose
from ..evaluate.answers import constant_output, output_of, predicted, predictions_of, scores_of, shift_of, target_of
from ..evaluate.calibration import temperature
from ..evaluate.metrics import AMONG
from ..evaluate.retrieval import Places, both_ways
from ..model.frozen import Features
from ..model.heads import fit_head
from ..model.kept import KeptHead, save_heads
from ..model.scale import any_present, encoded_of, scale_of, sides_of
from ..recipe.plan import Plan
from ..runs import RunFolder, finish, finished, lines_in_parts, restart, write_jsonl
from ..screen import Tick, part_of, progress
from ..seeding import address
from .embed import read_features
from .units import ALL, CANONICAL, Only, embed_key, feature_kinds, probe_choices, probe_key, units_of


def probe(plan: Plan, run: RunFolder, only: Only = ALL) -> None:
    """Fit and test every head of every fold and seed that is not done yet.

    only  which folds and seeds
    """
    units = units_of(plan, run, only)
    keys = {(u.fold.number, u.seed): probe_key(plan, embed_key(plan, u.prepared, u.fold, u.seed)) for u in units}
    choices = {(u.fold.number, u.seed): probe_choices(plan, u.prepared, u.fold, u.seed) for u in units}
    todo = [place for place, key in keys.items() if not finished(run.stage("probe", *place), key)]
    if not todo:
        return
    each = len(plan.tasks) * len(plan.inputs) * len(plan.heads) * len(feature_kinds(plan)) * len(plan.recipe.probe.seeds)
    with progress("probe", each * len(todo)) as tick:
        for done, (fold, seed) in enumerate(todo):
            began = time.monotonic()
            folder = run.stage("probe", fold, seed)
            restart(folder)
            facts = _probe_unit(plan, run, fold, seed, folder, part_of(tick, done * each), choices[fold, seed])
            finish(folder, keys[fold, seed], seconds=round(time.monotonic() - began, 3), **facts)
            run.log("probe", fold=fold, seed=seed, seconds=round(time.monotonic() - began, 3), **facts)


def _fit_unit(
    plan: Plan, features: Path, fold: int, seed: int, tick: Tick, judged: bool = False
) -> tuple[list[KeptHead], list[dict[str, Any]], dict[str, Any]]:
    """Every head of one fold and seed, what is known of each, and the output that knows the training targets only, by task.

    judged  the validation rows are to judge the heads: a head chooses by the rows that are held out for that or, where none are, by some
            training groups, so that no row is judged by what was fitted or chosen on it
    """
    done = 0
    fitted: list[KeptHead] = []
    chosen: list[dict[str, Any]] = []
    majority: dict[str, Any] = {}
    for kind in feature_kinds(plan):
        train, who_train = read_features(features, kind, "train")
        valid, who_valid = read_features(features, kind, "valid")
        if judged and has_whose(features, "held"):
            valid, who_valid = read_features(features, kind, "held")
        elif judged:
            (train, who_train), (valid, who_valid) = _within_training(train, who_train, valid, who_valid, seed, fold)
        scale = scale_of(plan, train)
        side, side_valid = sides_of(plan, who_train, who_valid)
        for task in plan.tasks:
            target, known = target_of(task, who_train["targets"])
            target_valid, known_valid = target_of(task, who_valid["targets"])
            majority[task.name] = constant_output(task, target[known])
            for name, modalities in plan.inputs.items():
                rows, rows_valid = known & any_present(train, modalities), known_valid & any_present(valid, modalities)
                for head_name, part in plan.heads.items():
                    for head_seed in plan.recipe.probe.seeds:
                        if head_seed != plan.recipe.probe.seeds[0] and getattr(fitted[-1].head, "draws", True) is False:
                            fitted.append(replace(fitted[-1], head_seed=head_seed))
                            chosen.append({**chosen[-1], "head_seed": head_seed})
                            done += 1
                            continue
                        where = (seed, "fold", fold, "head", head_name, kind, task.name, name, head_seed)
                        here = Labelled(
                            encoded_of(plan, scale, train, modalities, rows, side.within(part)), target[rows], side.of(rows)
                        )
                        there = Labelled(
                            encoded_of(plan, scale, valid, modalities, rows_valid, side_valid.within(part)),
                            target_valid[rows_valid],
                            side_valid.of(rows_valid),
                        )
                        head, facts = fit_head(part, task, here, there, plan.recipe.probe.training, where)
                        shift = shift_of(
                            plan.recipe.probe.threshold, task, there.target, partial(output_of, head, there.encoded)
                        )
                        fitted.append(
                            KeptHead(
                                task=task,
                                input=name,
                                modalities=modalities,
                                name=head_name,
                                encoder=kind,
                                head_seed=head_seed,
                                head=head,
                                part=part,
                                scale=scale,
                                features=plan.recipe.probe.features,
                                shift=shift,
                                temperature=_temperature(task, there, head),
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


def _temperature(task: Task, valid: Labelled, head: Head) -> float | None:
    """What makes probabilities of a head's outputs; None where there are no validation rows."""
    return temperature(task, valid.target.double().numpy(), output_of(head, valid.encoded)) if len(valid.target) else None


def _within_training(
    train: dict[str, Features],
    who: Whose,
    valid: dict[str, Features],
    who_valid: Whose,
    seed: int,
    fold: int,
) -> tuple[tuple[dict[str, Features], Whose], tuple[dict[str, Features], Whose]]:
    """Training rows in two: those that a head is fitted on, and about a fifth of the groups, that it chooses by.

    With a single training group there is nothing to take, and the validation rows choose, as in a run.
    """
    groups = sorted(set(who["groups"]))
    if len(groups) < 2:
        return (train, who), (valid, who_valid)
    rng = np.random.default_rng(address(seed, "fold", fold, "judged"))
    held = {groups[i] for i in rng.permutation(len(groups))[: max(1, round(HELD * len(groups)))]}
    choosing = torch.tensor([group in held for group in who["groups"]])
    fitting, chosen = (_rows_of(train, who, rows) for rows in (~choosing, choosing))
    return fitting, chosen


def _rows_of(features: dict[str, Features], who: Whose, rows: Tensor) -> tuple[dict[str, Features], Whose]:
    """Some rows of a split."""
    kept = {name: Features(one.vector[rows], one.projection[rows], one.present[rows]) for name, one in features.items()}
    return kept, who.within(rows.numpy())


def _answers(
    plan: Plan, fitted: Sequence[KeptHead], features: Mapping[str, Features], who: Whose, base: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Task, Tensor, Tensor, NDArray[np.float64]]]:
    """What each head says of some recordings: about it, its task, of which of them (bool), their targets, its outputs."""
    (side,) = sides_of(plan, who)
    for one in fitted:
        target, known = target_of(one.task, who["targets"])
        rows = known & any_present(features, one.modalities)
        output = one.outputs(features, side.within(one.part), rows)
        about = {
            "task": one.task.name,
            "input": one.input,
            "head": one.name,
            "encoder": one.encoder,
            **base,
            "head_seed": one.head_seed,
        }
        yield about, one.task, rows, target[rows], output


def validation_scores(plan: Plan, run: RunFolder) -> list[dict[str, Any]]:
    """Every metric of every head on validation rows, on which nothing was fitted or chosen. No test file is opened."""
    scores: list[dict[str, Any]] = []
    for fold in load_prepared(run).folds:
        for seed in plan.seeds:
            features = run.stage("embed", fold.number, seed)
            fitted, _, _ = _fit_unit(plan, features, fold.number, seed, lambda done, text: None, judged=True)
            for kind in feature_kinds(plan):
                valid, who = read_features(features, kind, "valid")
                mine = [one for one in fitted if one.encoder == kind]
                for about, task, _, target, output in _answers(plan, mine, valid, who, {"fold": fold.number, "seed": seed}):
                    scores += scores_of(about, task, target, output)
    return scores


def validation_retrieval(plan: Plan, run: RunFolder, modalities: Sequence[str]) -> list[dict[str, Any]]:
    """Retrieval between modalities on validation rows, among AMONG where there are so many, else among all. No test file is opened."""
    rows: list[dict[str, Any]] = []
    for fold in load_prepared(run).folds:
        for seed in plan.seeds:
            for kind in feature_kinds(plan):
                valid, _ = read_features(run.stage("embed", fold.number, seed), kind, "valid")
                about = {"encoder": kind, "fold": fold.number, "seed": seed}
                searched = _retrieval(_searched({name: valid[name] for name in modalities}), about)
                rows += [row for row in searched if row["among"] == min(AMONG, row["n"])]
    return rows


def _probe_unit(
    plan: Plan, run: RunFolder, fold: int, seed: int, folder: Path, tick: Tick, choices: Mapping[str, str]
) -> dict[str, Any]:
    """One fold and seed: fit everything, then open the test set.

    choices  fingerprints of what was chosen, for the log
    """
    features = run.stage("embed", fold, seed)
    fitted, chosen, majority = _fit_unit(plan, features, fold, seed, tick)
    # Everything is chosen. From here on the test set is open, and nothing is fitted any more.
    run.log("test opened", fold=fold, seed=seed, heads=len(fitted), choices=choices)
    scores: list[dict[str, Any]] = []
    retrieved: list[dict[str, Any]] = []
    protocol = f"{plan.recipe.protocol.use} by {plan.recipe.protocol.by}"
    base = {"protocol": protocol, "fold": fold, "seed": seed}
    with (
        predictions_in_parts(folder, read_whose(features, "test")["ids"]) as predict,
        lines_in_parts(folder / "searches.jsonl") as search,
    ):
        for kind in feature_kinds(plan):
            test, who = read_features(features, kind, "test")
            mine = [one for one in fitted if one.encoder == kind]
            for about, task, rows, target, output in _answers(plan, mine, test, who, base):
                scores += scores_of(about, task, target, output)
                ids = who.within(rows.numpy())["ids"]
                lines = predictions_of(about, task, ids, target, output)
                predict(lines, about, np.flatnonzero(rows), target.numpy(), predicted(task, output))
            spaces = read_features(features, CANONICAL, "test")[0] if kind == "pooled" and plan.pretext is None else test
            pairs = _searched(spaces)
            retrieved += _retrieval(pairs, {"encoder": kind, "fold": fold, "seed": seed})
            search(_searches(pairs, who["ids"], {"encoder": kind, "fold": fold, "seed": seed}))
            if kind == feature_kinds(plan)[0] and "majority" in plan.recipe.report.against:
                for task in plan.tasks:
                    target, known = target_of(task, who["targets"])
                    about = {"task": task.name, "input": "none", "head": "majority", "encoder": "none", **base, "head_seed": 0}
                    scores += scores_of(about, task, target[known], np.repeat(majority[task.name][None], int(known.sum()), 0))
    # Random encoders and pooled streams beside trained ones are baselines that nobody will ask: their heads are not kept.
    save_heads(folder, [one for one in fitted if one.encoder == feature_kinds(plan)[0]])
    write_jsonl(folder / "scores.jsonl", scores)
    write_jsonl(folder / "retrieval.jsonl", retrieved)
    write_jsonl(folder / "chosen.jsonl", chosen)
    return {"heads": len(fitted)}


def _retrieval(pairs: Sequence[_Search], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Retrieval between every two modalities, both directions, among all recordings and among AMONG of them."""
    rows = []
    for search in pairs:
        n = len(search.rows)
        for among in (AMONG, None):
            if among is not None and n < among:
                continue
            for metric, (value, chance) in search.places.retrieval(among).items():
                one = {"metric": metric, "value": value, "chance": chance, "n": n, "among": among or n}
                rows.append({**about, "from": search.query, "to": search.gallery, **one})
    return rows


def _searches(pairs: Sequence[_Search], ids: Sequence[str], about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each recording's R@1 among AMONG (all, where they are fewer), between every two modalities, both directions."""
    for search in pairs:
        values = search.places.first(AMONG).tolist()
        base = {**about, "from": search.query, "to": search.gallery}
        for row, value in zip(search.rows, values, strict=True):
            yield {**base, "id": ids[row], "value": value}


@dataclass(frozen=True)
class _Search:
    """Where recordings of one modality find themselves among those of another."""

    query: str
    gallery: str
    rows: list[int]  # who was searched for
    places: Places


def _searched(test: Mapping[str, Features]) -> list[_Search]:
    """Every two modalities, in both directions, that share a space and at least two recordings; each pair is compared once."""
    pairs = {}
    for a, b in itertools.combinations(test, 2):
        both = test[a].present & test[b].present
        if int(both.sum()) > 1 and 0 < test[a].projection.shape[1] == test[b].projection.shape[1]:
            rows = both.nonzero().squeeze(1).tolist()
            there, back = both_ways(test[a].projection[both], test[b].projection[both])
            pairs[a, b], pairs[b, a] = _Search(a, b, rows, there), _Search(b, a, rows, back)
    return [pairs[pair] for pair in itertools.permutations(test, 2) if pair in pairs]
