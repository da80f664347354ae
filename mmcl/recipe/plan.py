"""Makes a plan of a recipe: every name looked up, every option checked, all problems said at once.

A plan holds no data and imports no torch, so `mmcl check` works on a laptop that has neither.
"""

from __future__ import annotations

import csv
import difflib
import importlib.util
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..api.dataset import DatasetInfo, Task
from ..api.errors import MmclError, PluginError, Problem, RecipeError, UnknownNameError
from ..api.kinds import Layout
from ..api.params import Params
from ..plugins import Plugins
from ..plugins import plugins as installed
from .read import Document, Key, read_recipe
from .schema import NAME, PAIRS, Augment, Folds, Recipe
from .slots import Use

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

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json and for fingerprints."""
        return {
            "use": self.use,
            "params": self.params.model_dump(mode="json"),
            "package": self.package,
            "version": self.version,
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

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json."""
        return {
            "source": self.source,
            "features": self.features.to_json(),
            "layout": self.layout.to_json(),
            "backbone": self.backbone and self.backbone.to_json(),
            "normalise": self.normalise,
            "augment": self.augment.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class ScorePlan:
    """Numbers that are computed for every recording: by what, from which source, and the task that they make."""

    scorer: Part
    source: str | None  # None: from labels
    task: Task

    def to_json(self) -> dict[str, Any]:
        """Plain values, for plan.json and for fingerprints."""
        task = {"name": self.task.name, "type": self.task.type, "classes": list(self.task.classes)}
        return {**self.scorer.to_json(), "source": self.source, "task": task}


@dataclass(frozen=True)
class SupervisePlan:
    """What is trained with labels: every head on every input, for every task."""

    heads: Mapping[str, Part]
    inputs: Mapping[str, tuple[str, ...]]
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do. Stages read it; networks never see it."""

    recipe: Recipe
    text: str  # the recipe as written, for the run folder
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
    scores: Mapping[str, ScorePlan] = field(default_factory=dict)
    weights: tuple[float, ...] = ()  # one a pair, above 0; () where the recipe gives none: all 1
    folder: Path | None = None  # where the recipe lies; None for one that is in no file

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.recipe.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds for which everything is repeated."""
        return self.recipe.seed

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the targets that the positives read."""
        return tuple(self.positives.spec.needs(self.positives.params, tuple(m.name for m in self.modalities)))

    @property
    def departs(self) -> dict[str, str]:
        """Modality → which rule of the contract its backbone breaks on purpose."""
        return {m.name: m.backbone.spec.departs for m in self.modalities if m.backbone and m.backbone.spec.departs}

    def uses_labels(self) -> bool:
        """Whether pretraining sees labels, or scores."""
        return bool(self.labels) and self.recipe.pretrain.epochs > 0

    @property
    def labels(self) -> list[str]:
        """The targets that pretraining looks at."""
        found = [] if self.pretext else list(self.needs)
        balance = self.recipe.pretrain.balance
        return found if balance is None or balance in found else [*found, balance]

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
                "root": str(self.root) if self.root else None,
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
                },
                "pretext": self.pretext and self.pretext.to_json(),
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
            },
            "worth": recipe["worth"],
            "protocol": recipe["protocol"],
            "report": recipe["report"],
            "track": recipe["track"],
            "sweep": recipe["sweep"],
            "departs": self.departs,
        }


def main_input(inputs: Mapping[str, Sequence[str]]) -> str:
    """The input with most modalities: `all`, where a recipe has it. Chosen by the recipe, never by a score."""
    return max(inputs, key=lambda name: (len(inputs[name]), name == "all"))


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
    return _Planner(document, data, installed() if plugins is None else plugins, overrides).plan()


class _Planner:
    """Collects the problems of one recipe while its parts are looked up."""

    def __init__(self, document: Document, data: Path | None, plugins: Plugins, overrides: tuple[str, ...]) -> None:
        self.document, self.data, self.plugins, self.overrides = document, data, plugins, overrides
        self.problems: list[Problem] = []

    def say(self, key: Key, text: str) -> None:
        self.problems.append(self.document.problem(key, text))

    def plan(self) -> Plan:
        recipe = self.recipe()
        dataset = self.part(("dataset",), recipe.dataset)
        info: DatasetInfo | None = None
        if dataset:
            try:
                info = dataset.spec.info(dataset.params)
            except (ValueError, MmclError) as error:
                self.say(("dataset",), str(error))
        scores = self.scores(recipe, info)
        labels = info  # tasks left out are those of the corpus
        if info and scores:
            info = replace(info, tasks={**info.tasks, **{name: score.task for name, score in scores.items()}})
        modalities = [m for name in recipe.modalities if (m := self.modality(name, recipe, info))]
        pretext = self.pretext(recipe, modalities)
        pairs = self.pairs(recipe) if recipe.pretrain.pretext is None else ()
        pairs, weights = self.weights(recipe, pairs)
        objective = ("pretrain", "objective")
        loss = self.part((*objective, "loss"), recipe.pretrain.objective.loss)
        positives = self.part((*objective, "positives"), recipe.pretrain.objective.positives)
        if positives and info:
            for need in positives.spec.needs(positives.params, tuple(recipe.modalities)):
                if need not in info.tasks:
                    self.say(
                        (*objective, "positives"),
                        f"'{positives.use}' needs the target '{need}'; {_has(recipe.dataset.use, 'tasks', info.tasks)}",
                    )
        self.sampling(recipe, info)
        tasks = self.tasks(recipe, labels if recipe.probe.tasks is None else info, "probe", recipe.probe.tasks)
        heads = {name: head for name, use in recipe.probe.heads.items() if (head := self.part(("probe", "heads", name), use))}
        self.able("probe", heads, tasks)
        together = recipe.pretrain.pretext is not None
        if together and recipe.pretrain.micro_batch is not None:
            self.say(("pretrain", "micro_batch"), "is for pairs; a pretext takes its batch whole")
        inputs = {"all": (JOINT,)} if together else self.inputs(recipe, "probe", recipe.probe.inputs)
        supervised = self.supervised(recipe, labels if recipe.supervise and recipe.supervise.tasks is None else info)
        fold_key, fold_of = self.folds(recipe)
        if recipe.protocol.use == "official" and info and "test" not in info.official:
            self.say(
                ("protocol",),
                f"'{recipe.dataset.use}' has no official test split; use hold-out, k-fold, folds or leave-one-group-out",
            )
        root = self.root(recipe, dataset)
        if recipe.window.share is not None and recipe.window.seconds is not None:
            self.say(("window", "share"), "stands in place of window.seconds; keep one of the two")
        if recipe.window.embed != "whole" and recipe.window.hop and not recipe.window.seconds:
            self.say(("window", "hop"), "needs window.seconds")
        rates = [m.layout.rate for m in modalities if m.layout.rate]
        for name, seconds in (("seconds", recipe.window.seconds), ("hop", recipe.window.hop)):
            if seconds and rates and seconds * max(rates) < 1 - 1e-9:  # thousands of windows, all of one step
                self.say(
                    ("window", name),
                    f"{seconds:g} s are shorter than a step of any modality; the fastest has {max(rates):g} a second",
                )
        if recipe.worth is not None and "umap" in recipe.worth.maps and importlib.util.find_spec("umap") is None:
            self.say(("worth", "maps"), "umap is not installed: pip install 'mmcl[umap]'")
        if "tensorboard" in recipe.track and importlib.util.find_spec("tensorboard") is None:
            self.say(("track",), "tensorboard is not installed: pip install 'mmcl[track]'")
        if self.problems:
            raise RecipeError(self.problems)
        assert dataset is not None
        assert info is not None
        assert loss is not None
        assert positives is not None
        return Plan(
            recipe,
            self.document.text,
            self.overrides,
            dataset,
            info,
            root,
            tuple(modalities),
            pairs,
            loss,
            positives,
            heads,
            inputs,
            tasks,
            fold_of,
            fold_key,
            supervised,
            pretext,
            scores,
            weights,
            self.document.folder if self.document.folder.is_absolute() else None,
        )

    def recipe(self) -> Recipe:
        """The recipe's own keys, checked; plug-ins' options are checked later, each by its plug-in."""
        try:
            return Recipe.model_validate(self.document.values)
        except ValidationError as error:
            self.validation(error, (), Recipe)
            # The names are looked up all the same, so that a typo in `use:` is said together with a wrong bound elsewhere.
            self.names(self.document.values)
            raise RecipeError(self.problems) from error

    def names(self, values: Mapping[str, Any]) -> None:
        """Look up the plug-ins that an invalid recipe names, as far as it can be read."""
        objective = _inner(_inner(values, "pretrain"), "objective")
        found: list[tuple[str, Key, Any]] = [("dataset", ("dataset",), values.get("dataset"))]
        for name, section in _inner(values, "modalities").items():
            if isinstance(section, Mapping):
                found += [
                    ("modality", ("modalities", name, "features"), section.get("features")),
                    ("backbone", ("modalities", name, "backbone"), section.get("backbone")),
                ]
        found += [(what, ("pretrain", "objective", what), objective.get(what)) for what in ("loss", "positives")]
        found.append(("pretext", ("pretrain", "pretext"), _inner(values, "pretrain").get("pretext")))
        for name, scorer in _inner(values, "scores").items():
            found.append(("scorer", ("scores", name), scorer))
        for section in ("probe", "supervise"):
            heads = _inner(_inner(values, section), "heads")
            found += [("head", (section, "heads", name), head) for name, head in heads.items()]
        for what, key, value in found:
            use = value.get("use") if isinstance(value, Mapping) else value
            if isinstance(use, str):
                options = (
                    {k: v for k, v in value.items() if k not in ("use", "root", "source")} if isinstance(value, Mapping) else {}
                )
                self.look_up(key, what, use, options)

    def validation(self, error: ValidationError, at: Key, model: type[BaseModel]) -> None:
        """Every one of pydantic's errors in words, at the line of its key.

        Where a value may be one thing or another (`float | Literal["next"]`), pydantic says why it is neither: one problem
        of ours, or, if the value has the form of one of them, what is wrong inside.
        """
        either: dict[Key, list[tuple[str, Any]]] = {}
        inside: set[Key] = set()
        found: list[tuple[Key, Key | None, str, Any]] = []
        for one in error.errors():
            key, choice = self.real_key(at, one["loc"], one["type"] == "missing")
            text, got = self.words(dict(one), at, key, model)
            found.append((key, choice, text, got))
            if choice == key:
                either.setdefault(key, []).append((text, got))
            elif choice is not None:
                inside.add(choice)
        for key, choice, text, got in found:
            if choice != key:
                self.say(key, text + _got(got))
            elif key not in inside and key in either:
                branches = either.pop(key)
                first, *others = dict.fromkeys(text for text, _ in branches)
                self.say(key, " or ".join([first, *(text.removeprefix("must be ") for text in others)]) + _got(got))

    def words(self, one: Mapping[str, Any], at: Key, key: Key, model: type[BaseModel]) -> tuple[str, Any]:
        """One of pydantic's errors in words, and the value to show after them (or _ABSENT for none)."""
        kind, value, about = one["type"], one["input"], one.get("ctx", {})
        if kind == "missing":
            return "is missing", _ABSENT
        if kind == "extra_forbidden":
            known = _keys_of(model, key[len(at) : -1], self.document.values if at == () else None)
            near = difflib.get_close_matches(str(key[-1]), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}" if known else ""
            return f"is not a key here{hint}", _ABSENT
        if kind == "union_tag_invalid":
            kinds = str(about["expected_tags"]).replace("'", "")
            if isinstance(value, Mapping) and "use" not in value:
                return f"needs 'use:', one of {kinds}", _ABSENT
            return f"must name one of {kinds}", _kind(value)
        if kind == "tuple_type":
            return f"must be a list, such as [{_show(value)}]", value
        if kind in ("model_type", "dict_type"):
            slot = next((one for one in Use.__subclasses__() if one.__name__ == about.get("class_name")), None)
            return f"must name a {slot.what}, as NAME or {{use: NAME, …}}" if slot else "must be a mapping of keys", value
        if kind == "too_short":
            return f"needs at least {about['min_length']}, has {about['actual_length']}", _ABSENT
        if kind == "string_pattern_mismatch" and about["pattern"] == NAME:
            return "must begin with a letter or digit and hold only letters, digits, '.', '_' and '-'", value
        text = str(one["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
        of_itself = kind == "value_error" and isinstance(value, tuple | Mapping)  # the sentence says what it found
        return text[:1].lower() + text[1:], _ABSENT if of_itself else value

    def real_key(self, at: Key, loc: tuple[str | int, ...], missing: bool) -> tuple[Key, Key | None]:
        """A pydantic location as a key of the recipe, and the innermost key on the way whose value may be one of several.

        For such a value the location also names which of them was tried; that is no key, and neither is a validator.
        """
        key: list[str | int] = list(at)
        value: Any = self.document.values
        choice: Key | None = None
        for part in at:
            value = _item(value, part)
        for i, part in enumerate(loc):
            inside = _item(value, part)
            if inside is _ABSENT and not (missing and i == len(loc) - 1):
                choice = tuple(key)
                continue
            key.append(part)
            value = inside
        return tuple(key), choice

    def look_up(self, key: Key, what: str, use: str, options: Mapping[str, Any]) -> Part | None:
        """A plug-in with its options, or None and the problems said."""
        try:
            offer = self.plugins.get(what, use)
        except (UnknownNameError, PluginError) as error:
            self.say(key, str(error))
            return None
        try:
            params = offer.spec.params.model_validate(dict(options))
        except ValidationError as error:
            self.validation(error, key, offer.spec.params)
            return None
        return Part(what, self.plugins.reach(offer), offer.spec, params, offer.package, offer.version)

    def part(self, key: Key, use: Use) -> Part | None:
        return self.look_up(key, use.what, use.use, use.options)

    def modality(self, name: str, recipe: Recipe, info: DatasetInfo | None) -> ModalityPlan | None:
        key: Key = ("modalities", name)
        section = recipe.modalities[name]
        if name in ("all", "none") or "+" in name or not name.replace("-", "").replace("_", "").isalnum():
            self.say(key, "must be a name of letters, digits, - and _, other than 'all' and 'none'")
        features = self.part((*key, "features"), section.features)
        backbone = self.part((*key, "backbone"), section.backbone) if section.backbone else None
        if section.backbone is None and recipe.pretrain.pretext is None:
            self.say((*key, "backbone"), "is missing")
        if section.backbone is not None and recipe.pretrain.pretext is not None:
            self.say((*key, "backbone"), "is not used with pretrain.pretext, which takes all streams together; leave it out")
        if not (features and info):
            return None
        source = self.source(key, name, section.source, features, info)
        if source is None:
            return None
        try:
            layout = features.spec.layout(features.params, info.sources[source])
            kind = self.plugins.get("kind", layout.kind).spec
        except (ValueError, MmclError) as error:
            self.say((*key, "features"), str(error))
            return None
        if tuple(layout.axes) != tuple(kind.axes):
            self.say(
                (*key, "features"),
                f"'{features.use}' breaks the contract: axes {layout.axes}, kind '{kind.name}' has {kind.axes}",
            )
        if backbone is None and recipe.pretrain.pretext is None:
            return None
        if backbone is not None and not self.takes(key, features, layout, backbone):
            return None
        if section.augment.rotate and layout is not None and layout.sizes.get("channel", 0) % 3:
            self.say(
                ("modalities", name, "augment", "rotate"),
                f"turns channels that come in threes (x y z); this stream has {layout.sizes.get('channel', 'no channels')}",
            )
        if not layout.measured:
            self.unchanged(key, recipe, name, layout)
        return ModalityPlan(
            name, source, features, layout, backbone, section.normalise if layout.measured else "none", section.augment
        )

    def unchanged(self, key: Key, recipe: Recipe, name: str, layout: Layout) -> None:
        """Say what would change numbers that stand for something."""
        section = recipe.modalities[name]
        ids = f"'{name}' is a stream of {layout.kind}, whose numbers stand for something"
        if section.normalise == "channel" and "normalise" in section.model_fields_set:
            self.say((*key, "normalise"), f"{ids} and have no mean; leave normalise out, or set it to none")
        if section.augment != Augment():
            self.say((*key, "augment"), f"{ids} and cannot be changed a little; leave augment out")
        if recipe.worth is not None and (recipe.worth.robustness.noise or recipe.worth.robustness.loss):
            self.say(("worth", "robustness"), f"{ids}: noise and loss would make other things of them; keep late alone")

    def takes(self, key: Key, features: Part, layout: Layout, backbone: Part) -> bool:
        """Whether a backbone takes a stream; if not, it is said why."""
        if tuple(layout.axes) not in backbone.spec.accepts:
            takes = " or ".join(" × ".join(axes) for axes in backbone.spec.accepts)
            fitting = [n for n, o in self.plugins.all("backbone") if tuple(layout.axes) in o.spec.accepts]
            self.say(
                (*key, "backbone"),
                f"'{backbone.use}' takes {takes}; '{features.use}' gives {layout}. Backbones that take it: {', '.join(fitting) or 'none'}",
            )
            return False
        try:
            backbone.spec.fits(backbone.params, layout)
        except (ValueError, MmclError) as error:
            self.say((*key, "backbone"), str(error))
            return False
        return True

    def pretext(self, recipe: Recipe, modalities: Sequence[ModalityPlan]) -> Part | None:
        """What takes all streams together in place of backbones and pairs, where a recipe has that."""
        given = recipe.pretrain.pretext
        if given is None:
            return None
        key: Key = ("pretrain", "pretext")
        found = self.part(key, given)
        if found and len(modalities) == len(recipe.modalities):
            try:
                found.spec.fits(found.params, {m.name: m.layout for m in modalities})
            except (ValueError, MmclError) as error:
                self.say(key, str(error))
        if recipe.probe.inputs not in (None, ("all",)):
            self.say(
                ("probe", "inputs"), "with pretrain.pretext there is one vector of all modalities: all, or leave inputs out"
            )
        if recipe.supervise is not None:
            self.say(("supervise",), "trains the modalities' own backbones, which a recipe with pretrain.pretext has not")
        return found

    def source(self, key: Key, name: str, given: str | None, features: Part, info: DatasetInfo) -> str | None:
        """Which source a modality reads: the one given, one of its own name, or the only one that fits."""
        fitting = [s for s, source in info.sources.items() if source.type in features.spec.accepts]
        listed = ", ".join(f"{s} ({source.type})" for s, source in info.sources.items())
        if given is not None:
            if given not in info.sources:
                self.say((*key, "source"), f"the dataset has no source '{given}'; it has {listed}")
                return None
            if given not in fitting:
                self.say(
                    (*key, "source"),
                    f"'{features.use}' reads {' or '.join(features.spec.accepts)}, and source '{given}' is {info.sources[given].type}; "
                    f"the dataset has {listed}",
                )
                return None
            return given
        if name in fitting:
            return name
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            self.say(
                key,
                f"several sources fit '{features.use}': set source: to one of {', '.join(fitting)}, or name the modality after it",
            )
        else:
            self.say(
                (*key, "features"), f"'{features.use}' reads {' or '.join(features.spec.accepts)}; the dataset has {listed}"
            )
        return None

    def pairs(self, recipe: Recipe) -> Pairs:
        """The unordered pairs of modalities that are contrasted."""
        key: Key = ("pretrain", "objective", "pairs")
        names, given = list(recipe.modalities), recipe.pretrain.objective.pairs
        different = tuple(itertools.combinations(names, 2))
        if isinstance(given, tuple):
            unknown = sorted({n for pair in given for n in pair} - set(names))
            if unknown:
                self.say(key, f"no modality is named {', '.join(unknown)}; there are {', '.join(names)}")
            unique = {tuple(sorted(pair, key=lambda n: names.index(n) if n in names else -1)) for pair in given}
            if len(unique) < len(given):
                self.say(key, "names a pair twice; a pair counts in both directions anyway")
            found: Pairs = given
        elif given == "all":
            found = different
        elif given == "same":
            found = tuple((n, n) for n in names)
        elif given == "all+same":
            found = (*different, *((n, n) for n in names))
        elif given.startswith("star:"):
            centre = given.removeprefix("star:").strip()
            if centre not in names:
                self.say(key, f"no modality is named '{centre}'; there are {', '.join(names)}")
            found = tuple((centre, n) for n in names if n != centre)
        else:
            self.say(key, f"must be {PAIRS}, got '{given}'")
            return ()
        if not found and recipe.pretrain.epochs > 0:
            self.say(key, f"gives no pair to contrast among {', '.join(names)}")
        if any(a == b for a, b in found) and recipe.pretrain.epochs > 0:
            needs = (
                positives.spec.needs(positives.params, tuple(names))
                if (positives := self.known_positives(recipe)) is not None
                else ("?",)
            )
            if not needs and recipe.pretrain.views < 2:
                self.say(
                    key,
                    f"pairs a modality with itself, where '{recipe.pretrain.objective.positives.use}' has no positives but the "
                    "anchor itself; set pretrain.views: 2",
                )
        return found

    def weights(self, recipe: Recipe, pairs: Pairs) -> tuple[Pairs, tuple[float, ...]]:
        """The pairs that count for something, and for how much; no weights where the recipe gives none."""
        key: Key = ("pretrain", "objective", "weights")
        given, names = recipe.pretrain.objective.weights, list(recipe.modalities)
        if not given or not (pairs or recipe.pretrain.pretext):  # that there is no pair is said where pairs are
            return pairs, ()
        if recipe.pretrain.pretext is not None:
            self.say(key, "weigh pairs of modalities, of which a recipe with pretrain.pretext has none; leave them out")
            return pairs, ()
        contrasted = [frozenset(pair) for pair in pairs]
        single: dict[str, float] = {}
        coupled: dict[frozenset[str], float] = {}
        for name, weight in given.items():
            parts = tuple(part.strip() for part in name.split("~"))
            who = frozenset(parts)
            unknown = [part for part in parts if part not in names]
            if unknown:
                self.say((*key, name), f"no modality is named '{unknown[0]}'; there are {', '.join(names)}")
            elif len(parts) > 2:
                self.say((*key, name), f"must be a modality or a pair such as {names[0]}~{names[-1]}")
            elif len(parts) == 2 and who in coupled:
                self.say((*key, name), "weighs a pair a second time; a pair counts in both directions anyway")
            elif len(parts) == 2 and who not in contrasted:
                self.say((*key, name), f"is no pair that pretrain.objective.pairs contrasts; these are {_couples(pairs)}")
            elif len(parts) == 1 and not any(name in pair for pair in contrasted):
                self.say((*key, name), f"is in no pair that pretrain.objective.pairs contrasts; these are {_couples(pairs)}")
            elif len(parts) == 2:
                coupled[who] = weight
            else:
                single[name] = weight
        found = [
            (pair, coupled.get(frozenset(pair), math.prod(single.get(name, 1.0) for name in frozenset(pair)))) for pair in pairs
        ]
        kept = [(pair, weight) for pair, weight in found if weight > 0]
        if not kept:
            self.say(key, "leave no pair to contrast: all weigh 0")
        return tuple(pair for pair, _ in kept), tuple(weight for _, weight in kept)

    def sampling(self, recipe: Recipe, info: DatasetInfo | None) -> None:
        section = recipe.pretrain
        if section.balance is None or info is None:
            return
        key: Key = ("pretrain", "balance")
        task = info.tasks.get(section.balance)
        if task is None:
            self.say(key, f"no task is named '{section.balance}'; {_has(recipe.dataset.use, 'tasks', info.tasks)}")
        elif task.type != "single-label":
            self.say(key, f"task '{task.name}' is {task.type}; only the classes of a single-label task can be balanced")
        if section.transductive:
            self.say(key, "would read the labels of the splits in pretrain.transductive; keep one of the two")

    def known_positives(self, recipe: Recipe) -> Part | None:
        said = list(self.problems)
        found = self.part(("pretrain", "objective", "positives"), recipe.pretrain.objective.positives)
        self.problems = said  # said where the part itself is looked up
        return found

    def scores(self, recipe: Recipe, info: DatasetInfo | None) -> dict[str, ScorePlan]:
        """What is computed for every recording."""
        found = {}
        for name, use in recipe.scores.items():
            key: Key = ("scores", name)
            part = self.part(key, use)
            if part is None or info is None:
                continue
            if name in info.tasks:
                self.say(key, f"'{recipe.dataset.use}' has a task of that name; take another")
                continue
            source = use.source
            fitting = [s for s, one in info.sources.items() if one.type in part.spec.takes]
            listed = ", ".join(f"{s} ({one.type})" for s, one in info.sources.items())
            if part.spec.takes and source is None and len(fitting) == 1:
                source = fitting[0]
            if part.spec.takes and source not in fitting:
                self.say(key, f"'{part.use}' reads {' or '.join(part.spec.takes)}: set source; the dataset has {listed}")
                continue
            if not part.spec.takes and source is not None:
                self.say((*key, "source"), f"'{part.use}' reads labels; leave source out")
                continue
            try:
                task = part.spec.task(part.params, info.tasks)
            except (ValueError, MmclError) as error:
                self.say(key, str(error))
                continue
            found[name] = ScorePlan(part, source, replace(task, name=name))
        return found

    def supervised(self, recipe: Recipe, info: DatasetInfo | None) -> SupervisePlan | None:
        section = recipe.supervise
        if section is None:
            return None
        tasks = self.tasks(recipe, info, "supervise", section.tasks)
        heads = {name: head for name, use in section.heads.items() if (head := self.part(("supervise", "heads", name), use))}
        self.able("supervise", heads, tasks)
        for name, head in heads.items():
            if head.spec.solver:
                self.say(
                    ("supervise", "heads", name),
                    f"'{head.use}' brings its own solver for frozen features, so encoders cannot be trained through it; use mlp or another",
                )
        if section.start == "pretrained" and recipe.pretrain.epochs == 0:
            self.say(("supervise", "start"), "is pretrained, but pretrain.epochs is 0")
        return SupervisePlan(heads, self.inputs(recipe, "supervise", section.inputs), tasks)

    def able(self, section: str, heads: Mapping[str, Part], tasks: Sequence[Task]) -> None:
        """Say which heads cannot do which tasks."""
        for name, head in heads.items():
            for task in tasks:
                if task.type not in head.spec.tasks:
                    self.say(
                        (section, "heads", name),
                        f"'{head.use}' does {', '.join(head.spec.tasks)}; task '{task.name}' is {task.type}",
                    )

    def tasks(self, recipe: Recipe, info: DatasetInfo | None, section: str, given: tuple[str, ...] | None) -> tuple[Task, ...]:
        if info is None:
            return ()
        wanted = given if given is not None else tuple(info.tasks)
        for i, name in enumerate(wanted):
            if name not in info.tasks:
                self.say((section, "tasks", i), f"no task is named '{name}'; {_has(recipe.dataset.use, 'tasks', info.tasks)}")
        return tuple(info.tasks[name] for name in wanted if name in info.tasks)

    def inputs(self, recipe: Recipe, section: str, given: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
        names = list(recipe.modalities)
        if given is None:
            given = (*names, "all") if len(names) > 1 else tuple(names)
        found: dict[str, tuple[str, ...]] = {}
        for i, text in enumerate(given):
            parts = tuple(names) if text == "all" else tuple(part.strip() for part in text.split("+"))
            unknown = [part for part in parts if part not in names]
            if unknown:
                self.say((section, "inputs", i), f"no modality is named '{unknown[0]}'; there are {', '.join(names)} and all")
            elif len(set(parts)) < len(parts) or text in found:
                self.say((section, "inputs", i), f"'{text}' names something twice")
            found[text] = parts
        return found

    def folds(self, recipe: Recipe) -> tuple[str, dict[str, str] | None]:
        """The folds of a CSV file: what it is keyed by, and key → fold."""
        protocol = recipe.protocol
        if not isinstance(protocol, Folds):
            return "group", None
        key: Key = ("protocol", "file")
        path = Path(protocol.file) if Path(protocol.file).is_absolute() else self.document.folder / protocol.file
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                columns = [c.strip() for c in reader.fieldnames or ()]
                by = "group" if "group" in columns else "id"
                if by not in columns or "fold" not in columns:
                    self.say(key, f"{path}: needs the columns 'group' (or 'id') and 'fold', has {', '.join(columns) or 'none'}")
                    return "group", None
                found: dict[str, str] = {}
                for row in reader:
                    row = {(k or "").strip(): (v or "").strip() for k, v in row.items() if not isinstance(v, list)}
                    if found.setdefault(row[by], row["fold"]) != row["fold"]:
                        self.say(
                            key,
                            f"{path}:{reader.line_num}: {by} '{row[by]}' stands in fold {found[row[by]]} and in fold {row['fold']}",
                        )
                    if not row["fold"]:
                        self.say(key, f"{path}:{reader.line_num}: {by} '{row[by]}' has no fold")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.say(key, f"{path}: cannot be read as CSV ({error.strerror if isinstance(error, OSError) else error})")
            return "group", None
        if len(set(found.values())) < 2:
            self.say(key, f"{path}: has {len(set(found.values()))} fold; at least two are needed")
        return by, found

    def root(self, recipe: Recipe, dataset: Part | None) -> Path | None:
        """Where the data are; whether they are there is the run's business."""
        if dataset is None or not dataset.spec.needs_root:
            if dataset is not None and recipe.dataset.root is not None:
                self.say(("dataset", "root"), f"'{dataset.use}' makes its own data; leave root out")
            return None
        given = recipe.dataset.root
        if given is None and self.data is None:
            self.say(
                ("dataset",),
                f"where is the data? Set dataset.root, or give --data DIR (or MMCL_DATA) with a folder '{dataset.spec.name}' in it",
            )
            return None
        if given is None:
            assert self.data is not None
            return self.data / str(dataset.spec.name)
        path = Path(given).expanduser()
        return path if path.is_absolute() or self.data is None else self.data / path


_ABSENT = object()


def _item(value: Any, part: str | int) -> Any:
    """What stands under a key, or _ABSENT."""
    if isinstance(value, Mapping):
        return value.get(part, _ABSENT) if isinstance(part, str) else _ABSENT
    if isinstance(value, tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return _ABSENT


def _inner(values: Any, name: str) -> Mapping[str, Any]:
    """A mapping inside a mapping, or an empty one."""
    inside = values.get(name) if isinstance(values, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}


def _kind(value: Any) -> Any:
    return value.get("use") if isinstance(value, Mapping) else value


def _got(value: Any) -> str:
    """The end of a sentence that says what stands there."""
    return "" if value is _ABSENT else f", got {_show(value)}"


def _show(value: Any) -> str:
    """A value as the recipe writes it."""
    if isinstance(value, Mapping | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    return f"'{value}'" if isinstance(value, str) else str(value)


def _couples(pairs: Pairs) -> str:
    """Pairs as weights name them."""
    return ", ".join("~".join(pair) for pair in pairs) or "none"


def _has(owner: str, what: str, names: Mapping[str, Any]) -> str:
    return f"'{owner}' has the {what} {', '.join(names)}" if names else f"'{owner}' has no {what}"


def _keys_of(model: type[BaseModel], inside: Key, values: Any) -> list[str]:
    """The keys that are allowed in the section where an unknown one was found."""
    import types
    import typing

    def models(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        if typing.get_origin(annotation) in (dict, Mapping):
            return models(typing.get_args(annotation)[1])
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
            return [m for a in typing.get_args(annotation) for m in models(a)]
        return []

    here = [model]
    for part in inside:
        values = _item(values, part) if values is not None else None
        step = [m for one in here if part in one.model_fields for m in models(one.model_fields[str(part)].annotation)]
        here = step or here  # a name inside a mapping (modalities.audio): the section stays the same
        use = values.get("use") if isinstance(values, Mapping) else None
        chosen = [m for m in here if "use" in m.model_fields and use in typing.get_args(m.model_fields["use"].annotation)]
        here = chosen or here
    return sorted({name for one in here for name in one.model_fields})
