"""What a report says of recordings: inputs set against each other on those that all of them have, and the classes of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.predictions import Floats, Way
from ..data.prepared import Split
from ..evaluate.metrics import HEADLINE, evaluate
from ..evaluate.statistics import Cell, Summary, Unit, bounds_of, difference, summarise
from ..runs import JsonObject
from . import figures, words
from .results import Results

Keys = NDArray[np.int64]
"""Recordings, as `Recorded` numbers them."""
SPLITS = {"train": "training", "valid": "validation", "test": "test"}
"""Split → its name in words."""


class Common:
    """The scores of the first head from every input, on the test recordings that all inputs have.

    Inputs whose modality is missing in some recordings are tested on fewer, and their scores cannot be set against each other. Where
    all are tested on the same recordings this holds the scores that they have anyway.
    """

    def __init__(self, results: Results, task: str) -> None:
        self.task, self.metric = task, HEADLINE[results.tasks[task]["type"]]
        self.results = results
        inputs = results.plan["probe"]["inputs"]
        ways = [way for way in results.of_inputs if way.about["task"] == task and way.about["input"] in inputs]
        keys: dict[str, list[Keys]] = {}
        for way in ways:
            if way.about["encoder"] == results.subject:
                keys.setdefault(way.about["input"], []).append(way.keys)
        each = {name: np.unique(np.concatenate(some)) for name, some in keys.items()}
        self.keys: Keys = reduce(np.intersect1d, each.values()) if each else np.zeros(0, np.int64)
        self.differ = any(len(one) != len(self.keys) for one in each.values())
        self.tested = {name: len(one) for name, one in each.items()}
        self.table: dict[Cell, dict[Unit, float | None]] = self._scored(ways) if self.differ else {}

    def values(self, input: str, encoder: str) -> Mapping[Unit, float | None]:
        """The headline metric from an input at every unit; empty where it was not measured."""
        cell: Cell = (self.task, input, self.results.head, encoder, self.metric)
        return (self.table if self.differ else self.results.table).get(cell, {})

    def score(self, input: str, encoder: str) -> Summary | None:
        """The headline metric from an input; None where it was not measured."""
        values = self.values(input, encoder)
        return summarise(values, bounds_of(self.metric)) if values else None

    def gain(self, input: str, encoder: str, other: str) -> Summary | None:
        """How much higher one kind of encoder scores than another, unit by unit."""
        mine, theirs = self.values(input, encoder), self.values(input, other)
        return difference(mine, theirs, bounds_of(self.metric)) if mine and theirs else None

    def shown(self) -> JsonObject | None:
        """Inputs side by side on the recordings that they have in common; None where they have all in common."""
        if not self.differ:
            return None
        rows = [
            {"input": name, "score": self.score(name, self.results.subject), "random": self.score(name, "random"), "n": n}
            for name, n in self.tested.items()
        ]
        counts = sorted(self.tested.values())
        sentence = (
            f"Inputs were tested on {words.whole(counts[0])} to {words.whole(counts[-1])} recordings, as not every recording has every modality: "
            "the rows above are not of the same recordings. "
        )
        if not len(self.keys):
            return {"sentence": f"{sentence}No recording has them all, so they cannot be set against each other.", "rows": []}
        return {"sentence": f"{sentence}On the {words.whole(len(self.keys))} that all of them have:", "rows": rows}

    def _scored(self, ways: Sequence[Way]) -> dict[Cell, dict[Unit, float | None]]:
        """The headline metric of every input and encoder at every unit, on the common recordings alone."""
        task = self.results.tasks[self.task]
        units: dict[tuple[Cell, Unit], list[Way]] = {}
        for way in ways:
            row = way.about
            cell: Cell = (self.task, row["input"], row["head"], row["encoder"], self.metric)
            units.setdefault((cell, (row["fold"], row["seed"], row["head_seed"])), []).append(way)
        table: dict[Cell, dict[Unit, float | None]] = {}
        for (cell, unit), each in units.items():
            kept = [np.isin(way.keys, self.keys) for way in each]
            if not any(rows.any() for rows in kept):
                continue
            target, prediction = (
                np.concatenate([getattr(way, what)[rows] for way, rows in zip(each, kept, strict=True)])
                for what in ("target", "prediction")
            )
            value = evaluate(task["type"], task["classes"], target, _output(task, prediction))[self.metric][0]
            table.setdefault(cell, {})[unit] = value if np.isfinite(value) else None
        return table


def _output(task: Mapping[str, Any], prediction: Floats) -> Floats:
    """What decides as the predictions did: of classes one column each, 1 where it was predicted."""
    if task["type"] == "single-label":
        return np.eye(len(task["classes"]))[prediction.astype(np.int64)]
    return prediction - 0.5 if task["type"] == "multi-label" else prediction


def distribution(results: Results, name: str) -> JsonObject | None:
    """How often each class of a task occurs in each split of the first fold, drawn; and the counts of every fold."""
    task = results.tasks[name]
    counts = classes_of(results.split, {name: task}).get(name) if results.split else None
    if not counts:
        return None
    folds = list(counts)
    first = counts[folds[0]]
    classes = task["classes"]
    share = {
        SPLITS[split]: [count / max(1, first[split]["known"]) for count in first[split]["counts"]]
        for split in SPLITS
        if first[split]["known"]
    }
    alt = "; ".join(
        f"{classes[i]}: " + ", ".join(f"{split} {100 * shares[i]:.0f}%" for split, shares in share.items())
        for i in range(min(len(classes), words.SPOKEN))
    )
    more = f"; and {len(classes) - words.SPOKEN} more in the table below" if len(classes) > words.SPOKEN else ""
    absent = [
        f"{classes[i]} in {SPLITS[split]} (fold {fold})"
        for fold, splits in counts.items()
        for split in SPLITS
        for i, count in enumerate(splits[split]["counts"])
        if not count and splits[split]["known"]
    ]
    return {
        "fold": folds[0] if len(folds) > 1 else None,
        "picture": figures.splits(classes, share, f"Share of each class of {name} in each split. {alt}{more}."),
        "classes": classes,
        "splits": list(SPLITS.values()),
        "rows": [
            {"fold": fold, "split": SPLITS[split], **splits[split]} for fold, splits in counts.items() for split in SPLITS
        ],
        "absent": absent[:6] + ([f"and {len(absent) - 6} more"] if len(absent) > 6 else []),
    }


def classes_of(split: Split, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, dict[str, JsonObject]]]:
    """Recordings of each class, by task, fold and split.

    split  the recordings, and who is on which side
    """
    samples, folds = split
    counted: dict[str, dict[int, dict[str, JsonObject]]] = {}
    for name, task in tasks.items():
        if task["type"] == "regression" or not task["classes"]:
            continue
        for fold in folds:
            for side in SPLITS:
                targets = [samples.target(name, row) for row in getattr(fold, side)]
                counts = counted.setdefault(name, {}).setdefault(fold.number, {})
                counts[side] = _counted(targets, len(task["classes"]))
    return counted


def _counted(targets: Sequence[Any], classes: int) -> JsonObject:
    """How many targets there are of each class (of several labels: that have it), are known at all, and are unknown."""
    counts, known = [0] * classes, 0
    for target in targets:
        if isinstance(target, (list, tuple)):
            values = list(target[:classes])
            known += any(value is not None and value == value for value in values)
            for i, value in enumerate(values):
                counts[i] += value is not None and value > 0.5
        elif target is not None and 0 <= int(target) < classes:
            known += 1
            counts[int(target)] += 1
    return {"counts": counts, "known": known, "unknown": len(targets) - known}
