"""What the labels of each side of a split can teach and test, in sentences: known before anything is extracted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from ..api.dataset import SampleRef, Task
from .folds import Fold
from .recordings import Recordings

SIDES = ("train", "valid", "test")
IN_WORDS = {"train": "training", "valid": "validation", "test": "test"}


def concerns(tasks: Iterable[Task], samples: Sequence[SampleRef], folds: Sequence[Fold]) -> list[str]:
    """Everything that `unlearnable` says, and what cannot be tested, chosen by or told from the people who are recorded."""
    tasks = list(tasks)
    return [*unlearnable(tasks, samples, folds), *_untested(tasks, samples, folds), *_alone(tasks, samples)]


def unlearnable(tasks: Sequence[Task], samples: Sequence[SampleRef], folds: Sequence[Fold]) -> list[str]:
    """A sentence for each class that is asked for and never taught, and for training labels that are all alike."""
    return [*_untaught(tasks, samples, folds), *one_class(tasks, samples, folds)]


def one_class(tasks: Sequence[Task], samples: Sequence[SampleRef], folds: Sequence[Fold]) -> Iterator[str]:
    """A sentence for each fold and task whose training labels are all alike, so that nothing can be told apart by them."""
    for fold in folds:
        for task in tasks:
            labels = [one for row in fold.train if (one := _target(samples, task, row)) is not None]
            where = f"fold {fold.number}: all {len(labels)} training recordings with a label of '{task.name}'"
            if len(labels) < 2:
                continue
            if task.type == "regression":
                if len(set(map(str, labels))) == 1:
                    yield f"{where} have the value {labels[0]}: a head learns to say that and nothing else; different numbers are needed"
            elif task.type == "single-label" and len(set(map(str, labels))) == 1:
                yield f"{where} are '{task.classes[cast('int', labels[0])]}': a head learns to say that and nothing else; two classes are needed"
            elif task.type == "multi-label":
                shares = np.nanmean(np.asarray(labels, float), axis=0)
                for name, share in zip(task.classes, shares, strict=True):
                    if share in (0.0, 1.0):
                        has = "lack" if share == 0 else "have"
                        yield f"{where} {has} '{name}': a head cannot learn when it is {'there' if share == 0 else 'not there'}"


def _untaught(tasks: Sequence[Task], samples: Sequence[SampleRef], folds: Sequence[Fold]) -> Iterator[str]:
    """Classes of validation or test recordings that no training recording has, and tasks without any training label."""
    for task in tasks:
        untaught: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
        for fold in folds:
            counts = _counts(task, samples, fold)
            if not sum(counts["train"].values()):
                if sum(counts["valid"].values()) + sum(counts["test"].values()):
                    yield f"{_fold(fold, folds)}no training recording has a label of '{task.name}': nothing can be learned of it"
                continue
            if task.type != "single-label":
                continue  # of several labels `one_class` says it
            for name in task.classes:
                asked = [f"{counts[side][name]} of the {IN_WORDS[side]}" for side in ("valid", "test") if counts[side][name]]
                if asked and not counts["train"][name]:
                    untaught[name].append((fold.number, asked))
        for name, where in untaught.items():
            begin = "" if len(folds) == 1 else f"in fold{'s' * (len(where) > 1)} {', '.join(str(n) for n, _ in where)} "
            # of several folds each tests somebody else: nobody can be moved
            mend = "move some of their groups to training" if len(folds) == 1 else "add recordings of others who have it"
            yield (
                f"class '{name}' of '{task.name}' {begin}is in {' and '.join(where[0][1])} recordings and in no training recording: "
                f"what was never shown is never answered; {mend}, or leave the class out"
            )


def _untested(tasks: Sequence[Task], samples: Sequence[SampleRef], folds: Sequence[Fold]) -> Iterator[str]:
    """Classes that no fold tests, and classes and labels that stand in no validation recording."""
    for task in tasks:
        each = [_counts(task, samples, fold) for fold in folds]
        taught = [counts for counts in each if sum(counts["train"].values())]
        for side, what in (("test", "its answers are never tested"), ("valid", "nothing is chosen or calibrated by it")):
            if taught and not any(sum(counts[side].values()) for counts in taught):
                yield f"no {IN_WORDS[side]} recording has a label of '{task.name}': {what}"
            elif task.type != "regression":
                for name in task.classes:
                    if any(counts["train"][name] for counts in taught) and not any(counts[side][name] for counts in taught):
                        yield f"class '{name}' of '{task.name}' is in no {IN_WORDS[side]} recording: {what}"


def _alone(tasks: Sequence[Task], samples: Sequence[SampleRef]) -> Iterator[str]:
    """Classes that a single group has, where groups are more than recordings: whoever knows the group knows the class."""
    if len({sample.group for sample in samples}) == len(samples):
        return
    for task in (task for task in tasks if task.type != "regression"):
        groups: dict[str, set[str]] = {name: set() for name in task.classes}
        for sample in samples:
            for name in _names(task, sample.targets.get(task.name)):
                groups[name].add(sample.group)
        known = {sample.group for sample in samples if sample.targets.get(task.name) is not None}
        for name, who in groups.items():
            if len(who) == 1 and len(known) > 1:
                yield (
                    f"class '{name}' of '{task.name}' is of '{min(who)}' alone: nothing tells the class from who it is, and on people kept "
                    "apart it is either learned or tested"
                )


def _counts(task: Task, samples: Sequence[SampleRef], fold: Fold) -> dict[str, dict[str, int]]:
    """Side → class → recordings that have it; of numbers, how many are known under the task's own name."""
    counts: dict[str, dict[str, int]] = {}
    for side in SIDES:
        mine = counts[side] = dict.fromkeys(task.classes if task.type != "regression" else (task.name,), 0)
        for row in getattr(fold, side):
            for name in _names(task, _target(samples, task, row)):
                mine[name] += 1
    return counts


def _target(samples: Sequence[SampleRef], task: Task, row: int) -> Any:
    """A recording's label; of recordings in columns nothing else is looked up."""
    return samples.target(task.name, row) if isinstance(samples, Recordings) else samples[row].targets.get(task.name)


def _names(task: Task, target: Any) -> list[str]:
    """The classes of a recording by its label; the task's name where numbers are known."""
    if target is None:
        return []
    if task.type == "regression":
        return [task.name]
    if isinstance(target, list):
        return [name for name, there in zip(task.classes, target, strict=True) if there == 1]
    return [task.classes[int(target)]]


def _fold(fold: Fold, folds: Sequence[Fold]) -> str:
    return f"fold {fold.number}: " if len(folds) > 1 else ""
