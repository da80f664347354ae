"""The sections `dataset` and `scores`: what is recorded, where it lies, and what is computed of every recording."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ...api.dataset import DatasetInfo
from ...api.errors import MmclError
from ..document import Key
from ..plan import Part, ScorePlan
from ..schema import Recipe
from .problems import Problems

COPY = (
    "copy them here by the tools of that place ('aws s3 sync', 'gcloud storage rsync'), or prepare them where they are, 'mmcl upload' the streams, "
    "and give their URL as --prepared"
)
"""What to do about recordings at a URL."""


def dataset_of(
    recipe: Recipe, data: Path | None, problems: Problems, complete: bool = False, without: bool = False
) -> tuple[Part | None, Path | None, DatasetInfo | None]:
    """The dataset, where it lies, and what it says of itself before any recording is read.

    What its options leave open is filled in from its own tables, where it does that and the folder is there, unless they are complete.
    """
    dataset = problems.part(("dataset",), recipe.dataset)
    root = root_of(recipe, dataset, data, problems, without)
    if dataset is None:
        return None, None, None
    completes = dataset.spec.complete is not None
    try:
        if completes and not complete and root is not None and root.is_dir():
            dataset = replace(dataset, params=dataset.spec.complete(dataset.params, root))
        info = dataset.spec.info(dataset.params)
    except (ValueError, MmclError) as error:
        problems.add(("dataset",), str(error))
        return dataset, root, None
    if completes and not info.sources:
        if root is not None or without:
            hint = (
                twice(root)
                if root
                else "; give --data, or state its options, as plan.json of the uploaded run has them under plan.dataset.params"
            )
            problems.add(
                ("dataset",),
                f"{root or 'its folder'}: is not there, and '{dataset.use}' reads from it which sources and labels there are{hint}",
            )
        return dataset, root, None
    return dataset, root, info


def root_of(recipe: Recipe, dataset: Part | None, data: Path | None, problems: Problems, without: bool = False) -> Path | None:
    """Where the data are; whether they are there is the run's business."""
    given = recipe.dataset.root
    if dataset is None or not dataset.spec.needs_root:
        if dataset is not None and given is not None:
            problems.add(("dataset", "root"), f"'{dataset.use}' makes its own data; leave root out")
        return None
    asked = given if given is not None else str(data or "")
    if re.match(r"[a-z0-9]{2,10}:/", asked):
        key: Key = ("dataset",) if given is None else ("dataset", "root")
        problems.add(key, f"{asked}: recordings are read from a folder, and this is a URL; {COPY}")
        return None
    if given is not None:
        path = Path(given).expanduser()
        return path if path.is_absolute() or data is None else data / path
    if data is not None:
        return data / str(dataset.spec.name)
    if without:
        return None
    problems.add(
        ("dataset",),
        f"where is the data? Set dataset.root, or give --data DIR (or MMCL_DATA) with a folder '{dataset.spec.name}' in it",
    )
    return None


def twice(root: Path) -> str:
    """The offer of the folder above, where --data already named the dataset's own folder; "" elsewhere."""
    above = root.parent
    return f"; did you mean --data {above.parent}?" if root.name == above.name and above.is_dir() and not root.exists() else ""


def scores_of(recipe: Recipe, info: DatasetInfo | None, problems: Problems) -> dict[str, ScorePlan]:
    """What is computed for every recording, by the name of the task that it makes."""
    scores: dict[str, ScorePlan] = {}
    for name, use in recipe.scores.items():
        key: Key = ("scores", name)
        scorer = problems.part(key, use)
        if scorer is None or info is None:
            continue
        if name in info.tasks:
            problems.add(key, f"'{recipe.dataset.use}' has a task of that name; take another")
            continue
        source, takes = use.source, scorer.spec.takes
        fitting = [s for s, one in info.sources.items() if one.type in takes]
        if takes and source is None and len(fitting) == 1:
            source = fitting[0]
        if takes and source not in fitting:
            listed = ", ".join(f"{s} ({one.type})" for s, one in info.sources.items())
            remedy = ": set source" if fitting else ""
            problems.add(key, f"'{scorer.use}' reads {' or '.join(takes)}{remedy}; the dataset has {listed}")
            continue
        if not takes and source is not None:
            problems.add((*key, "source"), f"'{scorer.use}' reads labels; leave source out")
            continue
        try:
            task = scorer.spec.task(scorer.params, info.tasks)
        except (ValueError, MmclError) as error:
            problems.add(key, str(error))
            continue
        scores[name] = ScorePlan(scorer=scorer, source=source, task=replace(task, name=name), standardise=use.standardise)
    return scores
