"""Plans heads, tasks and inputs, of the sections `probe` and `supervise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...api.dataset import DatasetInfo, Task
from ..plan import Part, SupervisePlan
from ..schema import Recipe
from .dataset import has
from .lookup import Lookup


def tasks(
    look: Lookup, recipe: Recipe, info: DatasetInfo | None, section: str, given: tuple[str, ...] | None
) -> tuple[Task, ...]:
    """The tasks that a section learns: those it names, or all that the dataset has."""
    if info is None:
        return ()
    wanted = given if given is not None else tuple(info.tasks)
    for i, name in enumerate(wanted):
        if name not in info.tasks:
            look.say((section, "tasks", i), f"no task is named '{name}'; {has(recipe.dataset.use, 'tasks', info.tasks)}")
    return tuple(info.tasks[name] for name in wanted if name in info.tasks)


def inputs(look: Lookup, recipe: Recipe, section: str, given: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    """What a section predicts from, by the name that it has in the report."""
    names = list(recipe.modalities)
    if given is None:
        given = (*names, "all") if len(names) > 1 else tuple(names)
    modalities_of: dict[str, tuple[str, ...]] = {}
    for i, text in enumerate(given):
        parts = tuple(names) if text == "all" else tuple(part.strip() for part in text.split("+"))
        unknown = [part for part in parts if part not in names]
        if unknown:
            look.say((section, "inputs", i), f"no modality is named '{unknown[0]}'; there are {', '.join(names)} and all")
        elif len(set(parts)) < len(parts) or text in modalities_of:
            look.say((section, "inputs", i), f"'{text}' names something twice")
        modalities_of[text] = parts
    return modalities_of


def able(look: Lookup, section: str, heads: Mapping[str, Part], tasks: Sequence[Task]) -> None:
    """Say which heads cannot do which tasks."""
    for name, head in heads.items():
        for task in tasks:
            if task.type not in head.spec.tasks:
                look.say(
                    (section, "heads", name),
                    f"'{head.use}' does {', '.join(head.spec.tasks)}; task '{task.name}' is {task.type}",
                )


def supervised(look: Lookup, recipe: Recipe, info: DatasetInfo | None) -> SupervisePlan | None:
    """What is trained with labels, where a recipe has that."""
    section = recipe.supervise
    if section is None:
        return None
    learned = tasks(look, recipe, info, "supervise", section.tasks)
    heads = {name: head for name, use in section.heads.items() if (head := look.part(("supervise", "heads", name), use))}
    able(look, "supervise", heads, learned)
    for name, head in heads.items():
        if head.spec.solver:
            look.say(
                ("supervise", "heads", name),
                f"'{head.use}' brings its own solver for frozen features, so encoders cannot be trained through it; use mlp or another",
            )
    if section.start == "pretrained" and recipe.pretrain.epochs == 0:
        look.say(("supervise", "start"), "is pretrained, but pretrain.epochs is 0")
    return SupervisePlan(heads=heads, inputs=inputs(look, recipe, "supervise", section.inputs), tasks=learned)
