"""The features that a run took of its own recordings, as columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api.errors import StageError
from ..data.whose import read_whose
from ..model.frozen import load_features
from ..runs import distrusting
from .opened import SPLITS, Opened


@distrusting
def features_of(root: Path, split: str, fold: int | None = None, seed: int | None = None) -> dict[str, list[Any]]:
    """A column each for id, group, labels by name of class, and every feature of every modality.

    Raises StageError if there is no such split, or the run took no features of it.
    """
    if split not in SPLITS:
        raise StageError(f"split '{split}': there are {', '.join(SPLITS)}")
    run = Opened(root)
    folder = run.run.stage("embed", *run.pick(fold, seed))
    path = folder / f"{run.kind}-{split}.safetensors"
    if not path.exists():
        raise StageError(f"{path}: is not there; run the recipe again")
    who, features = read_whose(folder, split), load_features(path)
    columns: dict[str, list[Any]] = {"id": list(who["ids"]), "group": list(who["groups"])}
    for task in run.plan.info.tasks.values():
        for name, values in _labels(task.name, task.type, task.classes, who["targets"]).items():
            columns[name] = values
    for modality, one in features.items():
        present = one.present.tolist()
        for i, values in enumerate(one.vector.T.tolist()):
            columns[f"{modality}.{i}"] = [value if there else math.nan for value, there in zip(values, present, strict=True)]
    return columns


def _labels(name: str, type: str, classes: tuple[str, ...], targets: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns of a task: one with the names of classes, or one a class or a value."""
    given = [each.get(name) for each in targets]
    if type == "single-label":
        return {name: [None if value is None else classes[int(value)] for value in given]}
    rows = [value if isinstance(value, list) else None if value is None else [value] for value in given]
    if len(classes) <= 1:
        return {name: [None if row is None else row[0] for row in rows]}
    return {f"{name}.{one}": [None if row is None else row[i] for row in rows] for i, one in enumerate(classes)}
