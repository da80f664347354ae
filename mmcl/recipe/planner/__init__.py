"""Makes a plan of a recipe: every name looked up, every option checked, all problems said at once.

One file for each section of a recipe; what they find wrong goes into one list (`problems`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...plugins import Plugins
from ...plugins import plugins as installed
from ..document import Document
from ..plan import Plan
from ..processor import bf16_instructions
from ..read import read_recipe
from ..schema import Recipe
from .dataset import dataset_of, scores_of
from .heads import probe_of, supervise_of
from .modalities import modality_of
from .names import checked
from .objective import check_balance, objective_of, pretext_of, sampler_of
from .problems import Problems
from .protocol import check_compiled, check_official, check_window, folds_of


def laid_over(presets: Sequence[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """The values of presets, in order, and of overrides after them. Raises UnknownNameError for a preset that nobody offers."""
    known = installed()
    return (*(one for name in presets for one in known.get("preset", name).spec.sets), *overrides)


def load_plan(
    path: Path,
    overrides: Sequence[str] = (),
    data: Path | None = None,
    plugins: Plugins | None = None,
    name: str | None = None,
    without: bool = False,
) -> Plan:
    """The plan of a recipe file. Raises RecipeError with all problems at once.

    data     folder under which datasets lie (`--data`, $MMCL_DATA)
    plugins  where names are looked up; left out: the installed plug-ins
    name     what messages call the file
    without  no recording is read, as its streams are prepared already: nothing need say where recordings lie
    """
    return make_plan(read_recipe(path, overrides, name), data, plugins, tuple(overrides), without=without)


def make_plan(
    document: Document,
    data: Path | None = None,
    plugins: Plugins | None = None,
    overrides: tuple[str, ...] = (),
    complete: bool = False,
    without: bool = False,
) -> Plan:
    """The plan of a recipe that has been read.

    complete  the dataset's options are complete, as a run states them: no table of its folder is read
    without   nothing need say where recordings lie
    """
    problems = Problems(document, installed() if plugins is None else plugins)
    recipe = checked(problems)
    recipe, chosen = with_precision(recipe)
    dataset, root, corpus = dataset_of(recipe, data, problems, complete, without)
    scores = scores_of(recipe, corpus, problems)
    tasks_too = {name: score.task for name, score in scores.items()}
    info = replace(corpus, tasks={**corpus.tasks, **tasks_too}) if corpus else None
    modalities = [m for name in recipe.modalities if (m := modality_of(name, recipe, info, problems))]
    pretext = pretext_of(recipe, modalities, problems)
    objective = objective_of(recipe, info, modalities, problems)
    check_balance(recipe, info, problems)
    sampler = sampler_of("pretrain", recipe, info, problems)
    # tasks that a recipe leaves out are those of the corpus, without scores
    tasks, heads, inputs = probe_of(recipe, corpus if recipe.probe.tasks is None else info, problems)
    supervised = supervise_of(recipe, corpus if recipe.supervise and recipe.supervise.tasks is None else info, problems)
    fold_key, fold_of = folds_of(recipe, problems)
    check_official(recipe, info, problems)
    check_window(recipe, modalities, problems)
    check_compiled(recipe, modalities, problems)
    _check_extras(recipe, problems)
    problems.stop()
    assert dataset is not None
    assert info is not None
    assert objective.loss is not None
    assert objective.positives is not None
    plan = Plan(
        recipe=recipe,
        text=document.whole,
        overrides=(*overrides, *chosen),
        dataset=dataset,
        info=info,
        root=root,
        modalities=tuple(modalities),
        pairs=objective.pairs,
        weights=objective.weights,
        loss=objective.loss,
        positives=objective.positives,
        group=objective.group,
        pretext=pretext,
        sampler=sampler,
        heads=heads,
        inputs=inputs,
        tasks=tasks,
        supervised=supervised,
        scores=scores,
        fold_of=fold_of,
        fold_key=fold_key,
        folder=document.folder if document.folder.is_absolute() else None,
    )
    packages = problems.plugins.deprecations(part.package for _, part in plan.parts)
    return replace(plan, outdated=(*problems.outdated, *packages))


def with_precision(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with every `precision: auto` decided by this machine's processor, and what was decided, as overrides that say so again."""
    sections = {name: getattr(recipe, name) for name in ("pretrain", "supervise")}
    chosen = "float32" if bf16_instructions() is None else "bf16"
    decided = {
        name: section.model_copy(update={"precision": chosen})
        for name, section in sections.items()
        if section is not None and section.precision == "auto"
    }
    return recipe.model_copy(update=decided), tuple(f"{name}.precision={chosen}" for name in decided)


def _check_extras(recipe: Recipe, problems: Problems) -> None:
    """Note which optional packages the recipe needs and does not find."""
    if recipe.worth is not None and "umap" in recipe.worth.maps and importlib.util.find_spec("umap") is None:
        problems.add(("worth", "maps"), "umap is not installed: pip install 'mmcl[umap]'")
    if "tensorboard" in recipe.track and importlib.util.find_spec("tensorboard") is None:
        problems.add(("track",), "tensorboard is not installed: pip install 'mmcl[track]'")
