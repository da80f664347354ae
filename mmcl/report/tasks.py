"""A report's sections on one task: its answer, its scores, and where it was right and wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.predictions import Floats, Way, distinct
from ..evaluate.metrics import HEADLINE
from ..evaluate.statistics import Cell, Summary, bounds_of, difference
from ..recipe.plan import main_input
from ..runs import JsonObject
from . import card, figures, words
from .common import Common, distribution
from .results import Results

POINTS = 1000
"""Points of a scatter plot above which only every k-th is drawn."""
PER_CLASS = ("w_acc", "binary_accuracy", "f1_binary", "f1_weighted", "auroc", "average_precision")
"""Metrics of each label for itself."""


def task_section(results: Results, name: str, id: str) -> JsonObject:
    """One task's answer, scores and mistakes, for the template."""
    task, summary = results.tasks[name], results.summary
    metric = HEADLINE[task["type"]]
    cell, floor = results.main_cell(name, metric), results.floor(name, metric)
    tested, common = _tested(results.scores), Common(results, name)
    everything: list[JsonObject] = [
        {"input": c[1], "head": c[2], "encoder": c[3], "metric": c[4], "score": score}
        for c, score in summary.items()
        if c[0] == name
    ]
    measured = {row["metric"].rsplit("/", 1)[-1] for row in everything}
    return {
        "id": id,
        "name": name,
        "type": task["type"],
        "metric": metric,
        "metric_words": words.metric(metric),
        "answer": _answer(results, common, cell, floor),
        "common": common.shown(),
        "distribution": distribution(results, name),
        "floor": floor,
        "floor_words": words.FLOOR[task["type"]],
        "heads": _heads(results, name, metric, floor, tested),
        "supervised": _supervised(results, name, metric, tested),
        "everything": everything,
        "glossary": [(m, explanation) for m, (_, explanation) in words.METRICS.items() if m in measured],
        "over": words.over(summary.get(cell)),
        "spread": cell in summary and summary[cell].sd is not None,
        "has_pooled": any(c[3] == "pooled" for c in summary),
        "has_random": results.subject == "pretrained" and any(c[3] == "random" for c in summary),
        "recall": metric == "accuracy" and (*cell[:4], "uar") in summary,
        "recall_floor": results.floor(name, "uar"),
        "mistakes": _mistakes(results, name, task),
    }


def _tested(scores: Iterable[Mapping[str, Any]]) -> dict[Cell, int]:
    """How many recordings each score rests on: those of all folds' test sets."""
    by_fold: dict[Cell, dict[int, int]] = {}
    for row in scores:
        cell = row["task"], row["input"], row["head"], row["encoder"], row["metric"]
        by_fold.setdefault(cell, {})[row["fold"]] = row["n"]
    return {cell: sum(each.values()) for cell, each in by_fold.items()}


def _answer(results: Results, common: Common, cell: Cell, floor: Summary | None) -> JsonObject:
    """The answer in sentences and bars."""
    name = common.task
    scores = {"random": results.summary.get((*cell[:3], "random", cell[4])) if results.subject == "pretrained" else None}
    scores |= {"pooled": results.summary.get((*cell[:3], "pooled", cell[4])), "majority": floor}
    return card.answer(
        results.about,
        results.prepare,
        task=name,
        kind=results.tasks[name]["type"],
        measure=cell[4],
        main=results.main,
        subject=results.subject,
        mine=results.summary.get(cell),
        baselines=[
            card.Baseline(name=one, score=score, gain=results.gain(cell, one))
            for one, score in scores.items()
            if score is not None
        ],
        alone=_alone(results, common),
        behind=_behind(results, common),
        labelled=_labelled(results, name, cell[4]),
        bound=_bound(results, name, cell),
        recall=results.summary.get((*cell[:4], "uar")) if cell[4] == "accuracy" else None,
    )


def _behind(results: Results, common: Common) -> list[card.Behind]:
    """Inputs of the first head that score below random encoders or pooled streams, and joint ones below their best part.

    All on the recordings that the inputs have in common.
    """
    inputs, subject = results.plan["probe"]["inputs"], results.subject
    means = {
        (input, encoder): score.mean
        for input in inputs
        for encoder in (subject, "random", "pooled")
        if (score := common.score(input, encoder)) is not None and score.mean is not None
    }
    behind = []
    for input, modalities in inputs.items():
        if (mine := means.get((input, subject))) is None:
            continue
        for kind in ("random", "pooled"):
            if (input, kind) in means and mine < (other := means[input, kind]):
                behind.append(card.Behind(input, mine, kind, other, gain=common.gain(input, subject, kind)))
        parts = [
            (means[one, subject], one)
            for one, alone in inputs.items()
            if len(alone) == 1 < len(modalities) and alone[0] in modalities and (one, subject) in means
        ]
        if parts and mine < max(parts)[0]:
            behind.append(card.Behind(input, mine, max(parts)[1], max(parts)[0], part=True))
    return behind


def _heads(results: Results, task: str, metric: str, floor: Summary | None, tested: Mapping[Cell, int]) -> list[JsonObject]:
    """Each head's scores from every input."""
    heads = []
    for head, spec in results.plan["probe"]["heads"].items():
        rows = []
        for input in results.plan["probe"]["inputs"]:
            cell: Cell = (task, input, head, results.subject, metric)
            if cell in results.summary:
                rows.append(
                    {
                        "input": input,
                        "main": (input, head) == (results.main, results.head),
                        "mine": results.summary[cell],
                        "random": results.summary.get((task, input, head, "random", metric)),
                        "gain": results.gain(cell, "random"),
                        "pooled": results.summary.get((task, input, head, "pooled", metric)),
                        "n": tested[cell],
                        "recall": results.summary.get((*cell[:4], "uar")) if metric == "accuracy" else None,
                    }
                )
        if rows:
            heads.append(
                {
                    "name": head,
                    "caption": words.caption(words.metric(metric), task, head, rows[0]["mine"]),
                    "use": spec["use"],
                    "rows": rows,
                    "picture": _dots(results, task, metric, head, floor),
                }
            )
    return heads


def _supervised(results: Results, task: str, metric: str, tested: Mapping[Cell, int]) -> list[JsonObject]:
    """Models trained with labels, beside the first head on frozen features of the same input."""
    rows, table = [], results.table
    for cell, score in results.summary.items():
        if cell[0] != task or cell[4] != metric or cell[3] not in ("supervised", "fine-tuned"):
            continue
        frozen: Cell = (task, cell[1], results.head, results.subject, metric)
        rows.append(
            {
                "input": cell[1],
                "head": cell[2],
                "encoder": cell[3],
                "mine": score,
                "frozen": results.summary.get(frozen),
                "gain": difference(table[frozen], table[cell], bounds_of(metric)) if frozen in table else None,
                "n": tested[cell],
            }
        )
    return rows


def _labelled(results: Results, task: str, metric: str) -> list[tuple[str, Summary]]:
    """Models trained with labels on the input with most modalities, in the order of the recipe: (head, score)."""
    section = results.plan.get("supervise")
    if not section:
        return []
    main = main_input(section["inputs"])
    return [
        (head, score)
        for head in section["heads"]
        for kind in ("supervised", "fine-tuned")
        if (score := results.summary.get((task, main, head, kind, metric))) is not None and score.mean is not None
    ]


def _bound(results: Results, task: str, cell: Cell) -> card.Baseline | None:
    """The highest score of the same encoders trained with labels from scratch on the answer's input, and the answer less that."""
    section = results.plan.get("supervise")
    if not section:
        return None
    modalities = set(results.plan["probe"]["inputs"][results.main])
    rivals: list[Cell] = [
        (task, input, head, "supervised", cell[4])
        for input, names in section["inputs"].items()
        if set(names) == modalities
        for head in section["heads"]
    ]
    scored = [(score.mean, one) for one in rivals if (score := results.summary.get(one)) is not None and score.mean is not None]
    if not scored or cell not in results.table:
        return None
    _, best = max(scored, key=lambda each: each[0])
    gain = difference(results.table[cell], results.table[best], bounds_of(cell[4]))
    return card.Baseline(name=best[2], score=results.summary[best], gain=gain)


def _alone(results: Results, common: Common) -> tuple[str, Summary] | None:
    """The single modality that does best alone on the recordings that all inputs have, where the main input has several."""
    inputs = results.plan["probe"]["inputs"]
    if len(inputs[results.main]) < 2:
        return None
    single = [
        (name, score)
        for name, modalities in inputs.items()
        if len(modalities) == 1 and (score := common.score(name, results.subject)) and score.mean is not None
    ]
    return max(single, key=lambda one: one[1].mean or 0.0) if single else None


def _dots(
    results: Results,
    task: str,
    metric: str,
    head: str,
    floor: Summary | None,
    names: Sequence[tuple[str, str, str]] | None = None,
) -> figures.Picture:
    """Dots of several inputs, or of several metrics: `names` are (label, input, metric)."""
    rows: dict[str, dict[str, figures.Measured]] = {}
    for label, input, what in names or [(input, input, metric) for input in results.plan["probe"]["inputs"]]:
        for encoder in dict.fromkeys((results.subject, "random")):
            cell: Cell = (task, input, head, encoder, what)
            if cell in results.summary:
                values = [v for v in results.table[cell].values() if v is not None]
                rows.setdefault(label, {})[encoder] = figures.Measured(results.summary[cell], values)
    scores = {label: {encoder: one.summary for encoder, one in row.items()} for label, row in rows.items()}
    level, title = None if floor is None else floor.mean, words.metric(metric)
    return figures.dots(rows, level, title, bounds_of(metric), words.dots_alt(task, title, scores, level))


def _mistakes(results: Results, name: str, task: Mapping[str, Any]) -> JsonObject | None:
    """Where the main input with the first head is right and wrong, over all test sets together."""
    predictions: dict[str, list[Way]] = {}
    for way in results.predictions:
        if way.about["task"] == name:
            predictions.setdefault(way.about["encoder"], []).append(way)
    ways = predictions.get(results.subject)
    if ways is None:
        return None
    every = [way for each in predictions.values() for way in each]
    of_type = {"single-label": _confused, "multi-label": _each_label}.get(task["type"], _distances)
    return {
        "kind": task["type"],
        "input": words.inputs(results.plan["probe"]["inputs"][results.main], len(results.plan["modalities"])),
        "head": results.head,
        "rows": sum(map(len, ways)),
        "ids": distinct(ways),
        "times": len({(way.about["seed"], way.about["head_seed"]) for way in every}),
        **of_type(results, name, task, predictions),
    }


def _confused(results: Results, name: str, task: Mapping[str, Any], predictions: Mapping[str, Sequence[Way]]) -> JsonObject:
    """Which class was taken for which, and how much of each was recognised."""
    classes, subject = task["classes"], results.subject
    kinds = [kind for kind in dict.fromkeys((subject, "random")) if kind in predictions]
    counts = {kind: confusion_of(len(classes), predictions[kind]) for kind in kinds}
    recall = {
        kind: [row[i] / sum(row) if sum(row) else None for i, row in enumerate(matrix)] for kind, matrix in counts.items()
    }
    matrix = counts[subject]
    totals, worst = [sum(row) for row in matrix], words.worst(classes, matrix)
    return {
        "classes": classes,
        "matrix": matrix,
        "recall": recall,
        "totals": totals,
        "worst": worst,
        "picture": figures.confusion(classes, matrix, subject, words.confusion_alt(name, classes, matrix, worst)),
        "bars": figures.recalls(classes, recall, totals, words.recall_alt(classes, recall)),
    }


def confusion_of(classes: int, ways: Iterable[Way]) -> list[list[int]]:
    """Counts by true class (down) and predicted class (across)."""
    counts = np.zeros((classes, classes), np.int64)
    for way in ways:
        np.add.at(counts, (way.target.astype(np.int64), way.prediction.astype(np.int64)), 1)
    rows: list[list[int]] = counts.tolist()
    return rows


def _each_label(results: Results, name: str, task: Mapping[str, Any], predictions: Mapping[str, Sequence[Way]]) -> JsonObject:
    """Each label's metrics for itself."""
    classes, metric = task["classes"], HEADLINE[task["type"]]
    ways = predictions[results.subject]
    _, last = np.unique(np.concatenate([way.keys for way in ways])[::-1], return_index=True)  # each recording once
    truth = np.concatenate([way.target for way in ways])[::-1][last]
    return {
        "per_class": [
            {
                "class": c,
                "metrics": {m: results.summary.get(results.main_cell(name, f"{c}/{m}")) for m in PER_CLASS},
                "positive": int((truth[:, i] > 0.5).sum()),
                "known": int((~np.isnan(truth[:, i])).sum()),
            }
            for i, c in enumerate(classes)
        ],
        "metric_words": words.metric(metric),
        "picture": _dots(results, name, metric, results.head, None, [(c, results.main, f"{c}/{metric}") for c in classes]),
    }


def _distances(results: Results, name: str, task: Mapping[str, Any], predictions: Mapping[str, Sequence[Way]]) -> JsonObject:
    """Predicted against true values."""
    ways, outputs = predictions[results.subject], task["classes"] or [name]
    count = sum(map(len, ways))
    step, first = max(1, -(-count // POINTS)), 0
    shown: list[tuple[Floats, Floats]] = []
    for way in ways:  # every step-th of all rows together
        shown.append((way.target[first::step], way.prediction[first::step]))
        first = (first - len(way)) % step
    target, prediction = (np.concatenate(each) for each in zip(*shown, strict=True))
    points = []
    for i in range(len(outputs)):
        known = ~np.isnan(target[:, i])
        points.append((target[known, i].tolist(), prediction[known, i].tolist()))
    score = results.summary.get(results.main_cell(name, HEADLINE[task["type"]]))
    return {
        "step": step,
        "picture": figures.scatter(outputs, points, words.scatter_alt(name, outputs, count, score)),
    }
