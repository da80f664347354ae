"""The sections `probe` and `supervise`: which heads, on which inputs, for which tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ...api.dataset import DatasetInfo, Task
from ..document import Key
from ..plan import JOINT, Part, SupervisePlan
from ..schema import Recipe
from ..slots import UseHead
from .objective import sampler_of
from .problems import Problems, has

Stage = Literal["probe", "supervise"]


def probe_of(
    recipe: Recipe, info: DatasetInfo | None, problems: Problems
) -> tuple[tuple[Task, ...], dict[str, Part], dict[str, tuple[str, ...]]]:
    """What is fitted on frozen features: tasks, heads and inputs."""
    section, together = recipe.probe, recipe.pretrain.pretext is not None
    tasks = _tasks(recipe, info, "probe", section.tasks, problems)
    heads = _heads("probe", section.heads, tasks, problems)
    for name, head in heads.items():
        heads[name] = replace(head, standardise=section.heads[name].standardise or section.standardise)
        if heads[name].standardise == "group" and recipe.protocol.by == "sample":
            key: Key = ("probe", "heads", name, "standardise") if section.heads[name].standardise else ("probe", "standardise")
            problems.add(key, "standardises each group by itself, where protocol.by: sample sets one group on both sides")
    if together and recipe.pretrain.micro_batch is not None:
        problems.add(("pretrain", "micro_batch"), "is for pairs; a pretext takes its batch whole")
    if together:
        return tasks, heads, {"all": (JOINT,)}
    return tasks, heads, _inputs(recipe, "probe", section.inputs, problems)


def supervise_of(recipe: Recipe, info: DatasetInfo | None, problems: Problems) -> SupervisePlan | None:
    """What is trained with labels; None where the recipe has no such section."""
    section = recipe.supervise
    if section is None:
        return None
    tasks = _tasks(recipe, info, "supervise", section.tasks, problems)
    heads = _heads("supervise", section.heads, tasks, problems)
    for name, head in heads.items():
        if section.heads[name].standardise is not None:
            problems.add(
                ("supervise", "heads", name, "standardise"), "is for frozen features; here the encoder learns with the head"
            )
        if head.spec.solver:
            problems.add(
                ("supervise", "heads", name),
                f"'{head.use}' brings its own solver for frozen features, so encoders cannot be trained through it; use mlp or another",
            )
    if section.start == "pretrained" and recipe.pretrain.epochs == 0:
        problems.add(("supervise", "start"), "is pretrained, but pretrain.epochs is 0")
    inputs = _inputs(recipe, "supervise", section.inputs, problems)
    return SupervisePlan(heads=heads, inputs=inputs, tasks=tasks, sampler=sampler_of("supervise", recipe, info, problems))


def _tasks(
    recipe: Recipe, info: DatasetInfo | None, stage: Stage, given: tuple[str, ...] | None, problems: Problems
) -> tuple[Task, ...]:
    """The tasks that are predicted; left out, all that there are."""
    if info is None:
        return ()
    wanted = given if given is not None else tuple(info.tasks)
    for i, name in enumerate(wanted):
        if name not in info.tasks:
            problems.add((stage, "tasks", i), f"no task is named '{name}'; {has(recipe.dataset.use, 'tasks', info.tasks)}")
    return tuple(info.tasks[name] for name in wanted if name in info.tasks)


def _heads(stage: Stage, given: Mapping[str, UseHead], tasks: Sequence[Task], problems: Problems) -> dict[str, Part]:
    """The heads by their names in the report; which of them cannot do which task is noted."""
    heads = {name: head for name, use in given.items() if (head := problems.part((stage, "heads", name), use))}
    for name, head in heads.items():
        for task in tasks:
            if task.type not in head.spec.tasks:
                problems.add(
                    (stage, "heads", name),
                    f"'{head.use}' does {', '.join(head.spec.tasks)}; task '{task.name}' is {task.type}",
                )
    return heads


def _inputs(recipe: Recipe, stage: Stage, given: tuple[str, ...] | None, problems: Problems) -> dict[str, tuple[str, ...]]:
    """What is predicted from: name in the report → modalities."""
    names = list(recipe.modalities)
    if given is None:
        given = (*names, "all") if len(names) > 1 else tuple(names)
    inputs: dict[str, tuple[str, ...]] = {}
    for i, text in enumerate(given):
        parts = tuple(names) if text == "all" else tuple(part.strip() for part in text.split("+"))
        unknown = [part for part in parts if part not in names]
        if unknown:
            problems.add((stage, "inputs", i), f"no modality is named '{unknown[0]}'; there are {', '.join(names)} and all")
        elif len(set(parts)) < len(parts) or text in inputs:
            problems.add((stage, "inputs", i), f"'{text}' names something twice")
        inputs[text] = parts
    return inputs
