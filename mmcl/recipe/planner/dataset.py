"""Plans the sections `dataset` and `scores`: where the data are, and what is computed for every recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...api.dataset import DatasetInfo
from ...api.errors import MmclError
from ..form import Key
from ..plan import Part, ScorePlan
from ..schema import Recipe
from .lookup import Lookup


def scores(look: Lookup, recipe: Recipe, info: DatasetInfo | None) -> dict[str, ScorePlan]:
    """What is computed for every recording."""
    planned = {}
    for name, use in recipe.scores.items():
        key: Key = ("scores", name)
        part = look.part(key, use)
        if part is None or info is None:
            continue
        if name in info.tasks:
            look.say(key, f"'{recipe.dataset.use}' has a task of that name; take another")
            continue
        source = use.source
        fitting = [s for s, one in info.sources.items() if one.type in part.spec.takes]
        listed = ", ".join(f"{s} ({one.type})" for s, one in info.sources.items())
        if part.spec.takes and source is None and len(fitting) == 1:
            source = fitting[0]
        if part.spec.takes and source not in fitting:
            look.say(key, f"'{part.use}' reads {' or '.join(part.spec.takes)}: set source; the dataset has {listed}")
            continue
        if not part.spec.takes and source is not None:
            look.say((*key, "source"), f"'{part.use}' reads labels; leave source out")
            continue
        try:
            task = part.spec.task(part.params, info.tasks)
        except (ValueError, MmclError) as error:
            look.say(key, str(error))
            continue
        planned[name] = ScorePlan(scorer=part, source=source, task=replace(task, name=name))
    return planned


def root(look: Lookup, recipe: Recipe, dataset: Part | None, data: Path | None) -> Path | None:
    """Where the data are; whether they are there is the run's business."""
    if dataset is None or not dataset.spec.needs_root:
        if dataset is not None and recipe.dataset.root is not None:
            look.say(("dataset", "root"), f"'{dataset.use}' makes its own data; leave root out")
        return None
    given = recipe.dataset.root
    if given is None and data is None:
        look.say(
            ("dataset",),
            f"where is the data? Set dataset.root, or give --data DIR (or MMCL_DATA) with a folder '{dataset.spec.name}' in it",
        )
        return None
    if given is None:
        assert data is not None
        return data / str(dataset.spec.name)
    path = Path(given).expanduser()
    return path if path.is_absolute() or data is None else data / path


def has(owner: str, what: str, names: Mapping[str, Any]) -> str:
    """What somebody has, in words."""
    return f"'{owner}' has the {what} {', '.join(names)}" if names else f"'{owner}' has no {what}"
