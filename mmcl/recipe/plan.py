"""What a plan is: a recipe in which every name has been looked up and every default filled in.

A plan holds no data and imports no torch, so `mmcl check` works on a laptop that has neither. `planner` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from ..api.dataset import DatasetInfo, Task
from ..api.kinds import Layout
from ..api.params import Params
from .schema import Augment, Recipe

Pairs = tuple[tuple[str, str], ...]

JOINT = "joint"
"""Name of the one vector that a pretext makes of all modalities."""


@dataclass(frozen=True)
class Part:
    """One plug-in as the recipe uses it: what it is, its options with every default filled in, and who offers it."""

    what: str
    use: str
    spec: Any
    params: Params
    package: str
    version: str
    standardise: str = "train"  # of a probe's head: by what its features are centred and scaled, "train" or "group"
    code: str = ""  # what the plug-in's files held, as 16 hexadecimal digits; "" where it lies in no file

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json and for fingerprints."""
        return {
            "use": self.use,
            "params": self.params.stated(),
            "package": self.package,
            "version": self.version,
            **({"code": self.code} if self.code else {}),
            **({"standardise": self.standardise} if self.standardise != "train" else {}),
        }


@dataclass(frozen=True)
class ModalityPlan:
    """One modality: which source, through which features, in which layout, into which backbone."""

    name: str
    source: str
    features: Part
    layout: Layout
    backbone: Part | None  # None where a pretext takes all streams together
    normalise: str
    augment: Augment
    frozen: bool = False  # whether the backbone learns nothing

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json."""
        return {
            "source": self.source,
            "features": self.features.to_json(),
            "layout": self.layout.to_json(),
            "backbone": self.backbone and self.backbone.to_json(),
            "normalise": self.normalise,
            "augment": self.augment.stated(),
            **({"frozen": True} if self.frozen else {}),  # left out: fingerprints stay as they were
        }


@dataclass(frozen=True)
class ScorePlan:
    """Numbers that are computed for every recording: by what, from which source, and the task that they make."""

    scorer: Part
    source: str | None  # None: from labels
    task: Task
    standardise: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json and for fingerprints."""
        task = {"name": self.task.name, "type": self.task.type, "classes": list(self.task.classes)}
        later = {"standardise": self.standardise} if self.standardise else {}
        return {**self.scorer.to_json(), "source": self.source, "task": task, **later}


@dataclass(frozen=True)
class GroupPlan:
    """A loss of several modalities at once: of which, and what it counts for beside the pairs."""

    loss: Part
    modalities: tuple[str, ...]
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json and for fingerprints."""
        return {**self.loss.to_json(), "modalities": list(self.modalities), "weight": self.weight}


@dataclass(frozen=True)
class SupervisePlan:
    """What is trained with labels: every head on every input, for every task."""

    heads: Mapping[str, Part]
    inputs: Mapping[str, tuple[str, ...]]
    tasks: tuple[Task, ...]
    sampler: Part | None = None  # what puts recordings into batches; None: they come in random order


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do. Stages read it; networks never see it."""

    recipe: Recipe
    text: str  # the recipe for the run folder: as written, or whole where it derives from another
    overrides: tuple[str, ...]
    dataset: Part
    info: DatasetInfo
    root: Path | None
    modalities: tuple[ModalityPlan, ...]
    pairs: Pairs
    loss: Part
    positives: Part
    heads: Mapping[str, Part]
    inputs: Mapping[str, tuple[str, ...]]  # name in the report → modalities
    tasks: tuple[Task, ...]
    fold_of: Mapping[str, str] | None  # group or id → fold, where the protocol reads a file
    fold_key: str  # "group" or "id": what `fold_of` is keyed by
    supervised: SupervisePlan | None = None
    pretext: Part | None = None  # takes all streams together, in place of backbones and pairs
    sampler: Part | None = None  # what puts recordings into batches; None: they come in random order
    scores: Mapping[str, ScorePlan] = field(default_factory=dict)
    weights: tuple[float, ...] = ()  # one a pair, above 0; () where the recipe gives none: all 1
    group: GroupPlan | None = None  # beside the pairs, or in their place
    folder: Path | None = None  # where the recipe lies; None for one that is in no file
    outdated: tuple[str, ...] = ()  # what the recipe, or a plug-in that it names, uses and that will go; a sentence each

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.recipe.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds for which everything is repeated."""
        return self.recipe.seed

    @property
    def parts(self) -> list[tuple[str, Part]]:
        """Every plug-in with its key in the recipe."""
        named: list[tuple[str, Part | None]] = [("dataset", self.dataset)]
        for one in self.modalities:
            named += [(f"modalities.{one.name}.features", one.features), (f"modalities.{one.name}.backbone", one.backbone)]
        named += [(f"scores.{name}", score.scorer) for name, score in self.scores.items()]
        objective = "pretrain.objective"
        named += [(f"{objective}.loss", self.loss), (f"{objective}.positives", self.positives)]
        named += [(f"{objective}.group", self.group.loss if self.group else None), ("pretrain.pretext", self.pretext)]
        named += [("pretrain.sampler", self.sampler)]
        named += [(f"probe.heads.{name}", head) for name, head in self.heads.items()]
        trained = self.supervised.heads if self.supervised else {}
        named += [(f"supervise.heads.{name}", head) for name, head in trained.items()]
        named += [("supervise.sampler", self.supervised.sampler if self.supervised else None)]
        return [(key, part) for key, part in named if part is not None]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the targets that the positives read."""
        return tuple(self.positives.spec.needs(self.positives.params, tuple(m.name for m in self.modalities)))

    @property
    def departs(self) -> dict[str, str]:
        """Modality → which rule of the contract its backbone breaks on purpose."""
        return {m.name: m.backbone.spec.departs for m in self.modalities if m.backbone and m.backbone.spec.departs}

    @property
    def contrasted(self) -> tuple[str, ...]:
        """The modalities that stand in a pair or in the group, each once: those whose encoders learn."""
        group = self.group.modalities if self.group else ()
        return tuple(dict.fromkeys([*(name for pair in self.pairs for name in pair), *group]))

    @property
    def linked(self) -> Pairs:
        """Every two different modalities that the objective links: contrasted as a pair, or both in the group."""
        group = combinations(self.group.modalities, 2) if self.group else ()
        pairs = [pair for pair in self.pairs if pair[0] != pair[1]]
        known = {frozenset(pair) for pair in pairs}
        return (*pairs, *(pair for pair in group if frozenset(pair) not in known))

    @property
    def halves(self) -> tuple[str, ...]:
        """The sections whose networks compute in bf16."""
        sections = {"pretrain": self.recipe.pretrain, "supervise": self.recipe.supervise}
        return tuple(name for name, section in sections.items() if section is not None and section.precision == "bf16")

    def uses_labels(self) -> bool:
        """Whether pretraining sees labels, or scores."""
        return bool(self.labels) and self.recipe.pretrain.epochs > 0

    @property
    def labels(self) -> list[str]:
        """The targets that pretraining looks at."""
        targets = [] if self.pretext else list(self.needs)
        targets += self.sampler.spec.needs(self.sampler.params) if self.sampler else ()
        balance = self.recipe.pretrain.balance
        return list(dict.fromkeys([*targets, *([] if balance is None else [balance])]))

    def to_json(self) -> dict[str, Any]:
        """The resolved plan with every default."""
        recipe = self.recipe.model_dump(mode="json")
        return {
            "format": 1,
            "name": self.name,
            "about": self.recipe.about,
            "seed": list(self.seeds),
            "overrides": list(self.overrides),
            "dataset": {
                **self.dataset.to_json(),
                "root": str(self.root.absolute()) if self.root else None,  # it is read from other folders too
                "synthetic": self.info.synthetic,
            },
            "modalities": {m.name: m.to_json() for m in self.modalities},
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "window": recipe["window"],
            "projection": recipe["projection"],
            "pretrain": {
                **recipe["pretrain"],
                "objective": {
                    "pairs": [list(p) for p in self.pairs],
                    "positives": self.positives.to_json(),
                    "loss": self.loss.to_json(),
                    **({"weights": list(self.weights)} if self.weights else {}),  # left out: fingerprints stay as they were
                    **({"group": self.group.to_json()} if self.group else {}),
                    **{name: value for name, value in recipe["pretrain"]["objective"].items() if name in _STATED},
                },
                "pretext": self.pretext and self.pretext.to_json(),
                **({"sampler": self.sampler.to_json()} if self.sampler else {}),  # left out: fingerprints stay as they were
            },
            "probe": {
                **recipe["probe"],
                "inputs": {name: list(modalities) for name, modalities in self.inputs.items()},
                "heads": {name: head.to_json() for name, head in self.heads.items()},
                "tasks": [task.name for task in self.tasks],
            },
            "supervise": None
            if self.supervised is None
            else {
                **recipe["supervise"],
                "inputs": {name: list(modalities) for name, modalities in self.supervised.inputs.items()},
                "heads": {name: head.to_json() for name, head in self.supervised.heads.items()},
                "tasks": [task.name for task in self.supervised.tasks],
                **({"sampler": self.supervised.sampler.to_json()} if self.supervised.sampler else {}),
            },
            "worth": recipe["worth"],
            "protocol": recipe["protocol"],
            "report": recipe["report"],
            "track": recipe["track"],
            "sweep": recipe["sweep"],
            "departs": self.departs,
            "limit": recipe["limit"],
            "reading": recipe["reading"],
        }


_STATED = ("combine", "queue", "momentum", "predictor")
"""Keys of an objective that a plan states as the recipe has them, and only where they are not their defaults."""


def changed_code(
    old: Mapping[str, Any], new: Mapping[str, Any], inside: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[str, str], str]]:
    """Plug-ins of two plans, as files hold them, whose files differ under one version: where, the two hashes, and a sentence."""
    same = ("use", "package", "version")
    if "code" in old and "code" in new and old["code"] != new["code"] and all(old.get(word) == new.get(word) for word in same):
        whose = f"'{new['use']}' ({'.'.join(inside)}; package {new['package']} {new['version']})"
        yield (*inside, "code"), (str(old["code"]), str(new["code"])), f"the code of plug-in {whose} has changed"
    for name in old:
        if isinstance(old[name], Mapping) and isinstance(new.get(name), Mapping):
            yield from changed_code(old[name], new[name], (*inside, name))


def main_input(inputs: Mapping[str, Sequence[str]]) -> str:
    """The input with most modalities: `all`, where a recipe has it. Chosen by the recipe, never by a score."""
    return max(inputs, key=lambda name: (len(inputs[name]), name == "all"))
