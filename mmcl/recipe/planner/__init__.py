"""Makes a plan of a recipe: every name looked up, every option checked, all problems said at once.

A plan holds no data and imports no torch, so `mmcl check` works on a laptop that has neither. Each section of the recipe is planned
in a file of its own; what they find wrong gathers in one `Lookup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...api.dataset import DatasetInfo
from ...api.errors import MmclError, RecipeError
from ...plugins import Plugins
from ...plugins import plugins as installed
from ..form import Document
from ..plan import JOINT, Part, Plan
from ..read import read_recipe
from ..schema import Recipe
from .dataset import has, root, scores
from .heads import able, inputs, supervised, tasks
from .lookup import Lookup
from .modalities import modality, pretext
from .objective import pairs, sampling, weights
from .protocol import extras, folds, windows

OBJECTIVE = ("pretrain", "objective")


def laid_over(presets: Sequence[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """The values of presets, in order, and of overrides after them. Raises UnknownNameError for a preset that nobody offers."""
    known = installed()
    return (*(one for name in presets for one in known.get("preset", name).spec.sets), *overrides)


def load_plan(
    path: Path, overrides: Sequence[str] = (), data: Path | None = None, plugins: Plugins | None = None, name: str | None = None
) -> Plan:
    """The plan of a recipe file. Raises RecipeError with all problems at once.

    data     folder under which datasets lie (`--data`, $MMCL_DATA)
    plugins  where names are looked up; left out: the installed plug-ins
    name     what messages call the file
    """
    return make_plan(read_recipe(path, overrides, name), data, plugins, tuple(overrides))


def make_plan(
    document: Document, data: Path | None = None, plugins: Plugins | None = None, overrides: tuple[str, ...] = ()
) -> Plan:
    """The plan of a recipe that has been read."""
    look = Lookup(document, installed() if plugins is None else plugins)
    recipe = look.recipe()
    dataset = look.part(("dataset",), recipe.dataset)
    labels = _info(look, dataset)  # tasks left out are those of the corpus
    scored = scores(look, recipe, labels)
    info = labels
    if info and scored:
        info = replace(info, tasks={**info.tasks, **{name: score.task for name, score in scored.items()}})
    modalities = [m for name in recipe.modalities if (m := modality(look, name, recipe, info))]
    joint = pretext(look, recipe, modalities)
    contrasted, shares = weights(look, recipe, pairs(look, recipe) if recipe.pretrain.pretext is None else ())
    loss = look.part((*OBJECTIVE, "loss"), recipe.pretrain.objective.loss)
    positives = _positives(look, recipe, info)
    sampling(look, recipe, info)
    probed = tasks(look, recipe, labels if recipe.probe.tasks is None else info, "probe", recipe.probe.tasks)
    heads = {name: head for name, use in recipe.probe.heads.items() if (head := look.part(("probe", "heads", name), use))}
    able(look, "probe", heads, probed)
    together = recipe.pretrain.pretext is not None
    if together and recipe.pretrain.micro_batch is not None:
        look.say(("pretrain", "micro_batch"), "is for pairs; a pretext takes its batch whole")
    of_probe = {"all": (JOINT,)} if together else inputs(look, recipe, "probe", recipe.probe.inputs)
    trained = supervised(look, recipe, labels if recipe.supervise and recipe.supervise.tasks is None else info)
    fold_key, fold_of = folds(look, recipe)
    if recipe.protocol.use == "official" and info and "test" not in info.official:
        look.say(
            ("protocol",),
            f"'{recipe.dataset.use}' has no official test split; use hold-out, k-fold, folds or leave-one-group-out",
        )
    where = root(look, recipe, dataset, data)
    windows(look, recipe, modalities)
    extras(look, recipe)
    if look.problems:
        raise RecipeError(look.problems)
    assert dataset is not None
    assert info is not None
    assert loss is not None
    assert positives is not None
    return Plan(
        recipe=recipe,
        text=document.whole,
        overrides=overrides,
        dataset=dataset,
        info=info,
        root=where,
        modalities=tuple(modalities),
        pairs=contrasted,
        loss=loss,
        positives=positives,
        heads=heads,
        inputs=of_probe,
        tasks=probed,
        fold_of=fold_of,
        fold_key=fold_key,
        supervised=trained,
        pretext=joint,
        scores=scored,
        weights=shares,
        folder=document.folder if document.folder.is_absolute() else None,
    )


def _info(look: Lookup, dataset: Part | None) -> DatasetInfo | None:
    """What a dataset says of itself, without its data."""
    if dataset is None:
        return None
    try:
        info: DatasetInfo = dataset.spec.info(dataset.params)
    except (ValueError, MmclError) as error:
        look.say(("dataset",), str(error))
        return None
    return info


def _positives(look: Lookup, recipe: Recipe, info: DatasetInfo | None) -> Part | None:
    """The rule of positives, whose targets the dataset has."""
    key = (*OBJECTIVE, "positives")
    positives = look.part(key, recipe.pretrain.objective.positives)
    if positives and info:
        for need in positives.spec.needs(positives.params, tuple(recipe.modalities)):
            if need not in info.tasks:
                look.say(key, f"'{positives.use}' needs the target '{need}'; {has(recipe.dataset.use, 'tasks', info.tasks)}")
    return positives
