"""A report's sections on pretraining: how the losses fell, and how well one modality finds another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluate.metrics import RETRIEVAL
from ..evaluate.statistics import Summary, bounds_of, summarise
from ..runs import JsonObject
from . import figures, words
from .results import Pretraining, Results


def learning(results: Results) -> JsonObject | None:
    """Loss curves, and what each pair of modalities had come to at the kept epoch."""
    pretraining = [one for one in results.pretraining if one.history]
    if not pretraining:
        return None
    last = results.plan["pretrain"].get("keep") == "last"
    kept = [one.facts["epochs" if last else "best_epoch"] for one in pretraining]
    pairs: dict[str, dict[str, list[float]]] = {}
    for one, epoch in zip(pretraining, kept, strict=True):
        for pair, metrics in next((row for row in one.history if row["epoch"] == epoch), one.history[-1])["pairs"].items():
            for key, value in metrics.items():
                if value is not None:
                    pairs.setdefault(pair, {}).setdefault(key, []).append(value)
    runs = [_run(one, epoch) for one, epoch in zip(pretraining, kept, strict=True)]
    skipped: dict[str, int] = {}
    for one in pretraining:
        for pair, count in one.facts.get("skipped_pairs", {}).items():
            skipped[pair] = skipped.get(pair, 0) + count
    losses = [_curve(one, epoch) for one, epoch in zip(pretraining, kept, strict=True)]
    ranked = all(run["retrieval"] is not None for run in runs)
    curves = [_retrieval_curve(one, epoch) for one, epoch in zip(pretraining, kept, strict=True)] if ranked else []
    return {
        "picture": figures.curves(losses, words.curves_alt(runs)),
        "retrieval": figures.curves(curves, words.ranks_alt(runs)) if ranked else None,
        "pairs": {pair: {key: sum(v) / len(v) for key, v in values.items()} for pair, values in pairs.items()},
        "runs": runs,
        "skipped": skipped,
        "valid": any(run["valid"] is not None for run in runs),
        "sentence": words.learning(runs, results.plan["pretrain"]["patience"], last),
    }


def _curve(one: Pretraining, kept: int) -> figures.Curve:
    """The losses of one fold and seed."""
    return figures.Curve(
        fold=one.fold,
        seed=one.seed,
        epochs=[row["epoch"] for row in one.history],
        train=[row["train_loss"] for row in one.history],
        valid=[row["valid_loss"] for row in one.history],
        best=kept,
    )


def _retrieval_curve(one: Pretraining, kept: int) -> figures.Curve:
    """Retrieval among validation recordings of one fold and seed."""
    return figures.Curve(
        fold=one.fold,
        seed=one.seed,
        epochs=[row["epoch"] for row in one.history],
        train=(),
        valid=[row["valid_retrieval"] for row in one.history],
        best=kept,
    )


def _run(one: Pretraining, kept: int) -> JsonObject:
    """One row of the table of all folds and seeds."""
    losses = next((row for row in one.history if row["epoch"] == kept), {"train_loss": None, "valid_loss": None})
    return {
        "fold": one.fold,
        "seed": one.seed,
        "epochs": one.facts["epochs"],
        "best": kept,
        "lowest": one.facts["best_epoch"],
        "stopped": one.facts["stopped"],
        "seconds": one.facts["seconds"],
        "train": losses["train_loss"],
        "valid": losses["valid_loss"],
        "retrieval": losses.get("valid_retrieval"),
    }


def retrieval(results: Results) -> JsonObject | None:
    """Retrieval between modalities: a map of R@1, and a table of everything, for each size of the search."""
    if not results.retrieval:
        return None
    return {"searches": [_search(results, among, rows) for among, rows in searches_of(results.retrieval)]}


def _search(results: Results, among: int | None, rows: Sequence[JsonObject]) -> JsonObject:
    """What searches of one size gave."""
    names = list(results.plan["modalities"])
    table: dict[tuple[str, str, str, str], Summary] = {}
    chance: dict[tuple[str, str, str], float] = {}
    grouped: dict[tuple[str, str, str, str], list[JsonObject]] = {}
    for row in rows:
        grouped.setdefault((row["from"], row["to"], row["encoder"], row["metric"]), []).append(row)
    for (a, b, kind, metric), each in grouped.items():
        bounds = bounds_of(metric) if metric != "median_rank" else (1.0, float("inf"))
        table[a, b, kind, metric] = summarise({(r["fold"], r["seed"], 0): r["value"] for r in each}, bounds)
        chance[a, b, metric] = sum(r["chance"] for r in each) / len(each)
    kinds = [kind for kind in dict.fromkeys((results.subject, "random", "pooled")) if any(key[2] == kind for key in table)]
    maps = {
        kind: {
            (a, b): score.mean for (a, b, k, m), score in table.items() if k == kind and m == "R@1" and score.mean is not None
        }
        for kind in kinds
    }
    drawn = {kind: cells for kind, cells in maps.items() if kind != "pooled"}
    levels = sorted({round(value, 4) for (_, _, m), value in chance.items() if m == "R@1"})
    directions = [(a, b) for a in names for b in names if any((a, b, kind, "R@1") in table for kind in kinds)]
    return {
        "among": among,
        "kinds": kinds,
        "levels": levels,
        "metrics": RETRIEVAL,
        "rows": [
            {
                "from": a,
                "to": b,
                "n": max(r["n"] for r in rows if (r["from"], r["to"]) == (a, b)),
                "scores": {kind: {m: table.get((a, b, kind, m)) for m in RETRIEVAL} for kind in kinds},
                "chance": {m: chance.get((a, b, m)) for m in RETRIEVAL},
            }
            for a, b in directions
        ],
        "guessing": _uniform(chance),
        "picture": figures.pair_map(names, drawn, words.retrieval_alt(drawn, levels)),
        "sentence": words.retrieval(maps, levels, among),
    }


def _uniform(chance: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
    """What guessing gives for each metric, where that is one number for all pairs."""
    levels: dict[str, set[float]] = {}
    for (_, _, metric), value in chance.items():
        levels.setdefault(metric, set()).add(round(value, 9))
    return {metric: each.pop() for metric, each in levels.items() if len(each) == 1}


def searches_of(rows: Sequence[JsonObject]) -> list[tuple[int | None, list[JsonObject]]]:
    """Searches of one size together: among the same number for every pair, fold and seed; then among all (None).

    R@k depends on how many recordings there are to choose from, so different sizes are never averaged into one number, except
    where the whole test set is searched and folds differ in size.
    """

    def unit(row: JsonObject) -> tuple[Any, ...]:
        return row["from"], row["to"], row["encoder"], row["fold"], row["seed"]

    units = {unit(row) for row in rows}
    sizes = sorted({row["among"] for row in rows})
    shared = [size for size in sizes if {unit(row) for row in rows if row["among"] == size} == units]
    # Where all test sets are equally large, their size is shared too; that search comes last, as the one among all.
    drawn = [size for size in shared if any(row["n"] > size for row in rows)]
    searches: list[tuple[int | None, list[JsonObject]]] = [
        (size, [row for row in rows if row["among"] == size]) for size in drawn
    ]
    searches.append((None, [row for row in rows if row["among"] == row["n"]]))
    return [(size, each) for size, each in searches if each]
