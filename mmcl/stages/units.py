"""One fold and seed of a run, for which every stage is done, and the fingerprints by which it is known whether it is done.

A fingerprint holds everything that a stage's results depend on, those of the stages that it reads among it. A stage is done again
where the one in its `finished.json` is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.folds import Fold
from ..data.prepared import Prepared, load_prepared
from ..recipe.plan import Plan
from ..runs import RunFolder, fingerprint, finished

SPLITS = ("train", "valid", "test")
CANONICAL = "canonical"
"""How the files of features are called that lie in the linear space of pooled streams."""
_SPACE = "canonical, in the form that retrieves more"
"""What fingerprints call that space: one that was fitted in one form alone is fitted anew."""


@dataclass(frozen=True)
class Only:
    """Which folds and seeds are asked for; None: all of them."""

    fold: int | None = None
    seed: int | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in (("fold", self.fold), ("seed", self.seed)) if value is not None)


ALL = Only()
"""All folds and seeds of a run."""


@dataclass(frozen=True)
class Unit:
    """One fold and seed of a run."""

    plan: Plan
    run: RunFolder
    prepared: Prepared
    fold: Fold
    seed: int
    first: bool = False  # the run's first one, which has what stands once in a run

    def __str__(self) -> str:
        return f"fold {self.fold.number}, seed {self.seed}"

    @property
    def address(self) -> tuple[str | int, ...]:
        """What every draw's address begins with."""
        return self.seed, "fold", self.fold.number

    def folder(self, stage: str) -> Path:
        """Where a stage leaves its files."""
        return self.run.stage(stage, self.fold.number, self.seed)

    def pooled(self, key: str) -> bool:
        """Whether its pooled streams are there, with this key."""
        return finished(self.folder("embed"), key, "pooled.json")


def units_of(plan: Plan, run: RunFolder, only: Only = ALL) -> list[Unit]:
    """Every fold and seed, or those that are asked for. Raises StageError if the run is not prepared."""
    prepared = load_prepared(run)
    places = [(fold, seed) for fold in prepared.folds for seed in plan.seeds]
    return [
        Unit(plan=plan, run=run, prepared=prepared, fold=fold, seed=seed, first=k == 0)
        for k, (fold, seed) in enumerate(places)
        if only.fold in (None, fold.number) and only.seed in (None, seed)
    ]


def encoder_kinds(plan: Plan) -> list[str]:
    """Which encoders are compared: pretrained (unless epochs is 0) and, beside them, random ones."""
    kinds = ["pretrained"] if plan.recipe.pretrain.epochs > 0 else []
    return kinds + (["random"] if "random" in plan.recipe.report.against or not kinds else [])


def feature_kinds(plan: Plan) -> list[str]:
    """Whose features heads are fitted on: those of each kind of encoder and, unless left out, what is pooled without any."""
    return [*encoder_kinds(plan), *(["pooled"] if "pooled" in plan.recipe.report.against else [])]


def pretrain_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int, earlier: Mapping[str, Any] | None = None) -> str:
    """Fingerprint of everything that the pretrained weights depend on.

    earlier  keys of `pretrain` that were others in the plan that this one goes on from
    """
    config = plan.to_json()
    config["pretrain"] |= earlier or {}
    config["pretrain"].pop("checkpoint_minutes")
    if config["pretrain"]["micro_batch"] is None:
        config["pretrain"].pop("micro_batch")
    if config["pretrain"]["choose"] == "loss":
        config["pretrain"].pop("choose")  # so that weights from before it could be otherwise stay
    parts = {name: config[name] for name in ("modalities", "window", "projection", "pretrain")}
    if any(target in plan.scores for target in plan.needs):
        parts["scores"] = config["scores"]
    return fingerprint([parts, _stores(prepared), fold.train, fold.valid, *_held(fold), seed, __version__])


def embed_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int, splits: Sequence[str] = SPLITS) -> str:
    """Fingerprint of everything that the features depend on."""
    parts = [pretrain_key(plan, prepared, fold, seed), prepared.key, fold.test, encoder_kinds(plan), *_windows(plan, prepared)]
    return fingerprint(parts if tuple(splits) == SPLITS else [*parts, list(splits)])


def pooled_key(plan: Plan, prepared: Prepared, fold: Fold, splits: Sequence[str] = SPLITS) -> str:
    """Fingerprint of everything that pooled streams depend on; they know no encoder, so that a finished run takes them beside its features."""
    window, probe = plan.recipe.window, plan.recipe.probe
    seen = [window.seconds if window.embed == "start" else None, probe.floor, probe.clip, plan.pretext is not None]
    rows = [fold.train, *(getattr(fold, split) for split in splits)]
    return fingerprint([_stores(prepared), prepared.key, rows, list(splits), seen, _SPACE, __version__])


def probe_key(plan: Plan, embedded: str) -> str:
    """Fingerprint of everything that the scores depend on.

    embedded  that of the features
    """
    config = plan.to_json()
    space = [_SPACE] if "pooled" in plan.recipe.report.against else []
    return fingerprint([embedded, config["probe"], config["report"], *space, *_unit(plan), __version__])


def probe_choices(plan: Plan, prepared: Prepared, fold: Fold, seed: int) -> dict[str, str]:
    """Of every head on every input, TASK~INPUT~HEAD, a fingerprint of everything that decides what it becomes, no test recording among it.

    Where it is another one, the head was chosen otherwise; heads that are added leave those of the others as they are.
    """
    probe = plan.to_json()["probe"]
    rest = {name: value for name, value in probe.items() if name not in ("heads", "inputs", "tasks", "seeds")}
    where = [pretrain_key(plan, prepared, fold, seed), *_windows(plan, prepared), rest]
    return {
        f"{task.name}~{name}~{head}": fingerprint([*where, modalities, part])
        for task in plan.tasks
        for name, modalities in probe["inputs"].items()
        for head, part in probe["heads"].items()
    }


def supervise_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int, only: tuple[str, str] | None = None) -> str:
    """Fingerprint of everything that the models and their scores depend on.

    only  input and head of a model: of what decides what it becomes, whatever is trained beside it
    """
    config = plan.to_json()
    config["supervise"].pop("checkpoint_minutes")
    if only is not None:
        config["supervise"].pop("tasks")
        for section, name in zip(("inputs", "heads"), only, strict=True):
            config["supervise"][section] = config["supervise"][section][name]
    parts = {name: config[name] for name in ("modalities", "window", "projection", "supervise")}
    if plan.recipe.supervise and plan.recipe.supervise.start == "pretrained":
        parts["pretrained"] = pretrain_key(plan, prepared, fold, seed)
    elif plan.recipe.supervise and plan.recipe.supervise.contrast:
        parts["objective"] = config["pretrain"]["objective"], config["pretrain"]["views"], config["scores"]
    sides = [fold.train, fold.valid, fold.test, *_held(fold)]
    return fingerprint([parts, _stores(prepared), prepared.key, *sides, *_windows(plan, prepared), seed, __version__])


def worth_key(plan: Plan, prepared: Prepared, fold: Fold, seed: int, first: bool) -> str:
    """Fingerprint of everything that the results depend on.

    first  whether this is the run's first fold and seed, which has the maps
    """
    config = plan.to_json()
    heads = list(config["probe"]["heads"].items())[:1]
    rest = [
        config["probe"][key]
        for key in ("inputs", "tasks", "features", "threshold", "training", "seeds", "standardise", "clip", "floor")
    ]
    maps = [supervise_key(plan, prepared, fold, seed)] if first and plan.supervised is not None else []
    return fingerprint([embed_key(plan, prepared, fold, seed), heads, rest, config["worth"], maps, *_unit(plan), __version__])


def _unit(plan: Plan) -> list[str]:
    """What tells heads that learn a regression centred and scaled from older ones; nothing where the shared loop learns none."""
    learned = any(not head.spec.solver for head in plan.heads.values()) and any(
        task.type == "regression" for task in plan.tasks
    )
    return ["targets centred and scaled"] if learned else []


def _held(fold: Fold) -> list[Sequence[int]]:
    """What an inner fold chooses on; nothing for the folds of a run, so that their fingerprints stay as they were."""
    return [fold.held] if fold.held else []


def _windows(plan: Plan, prepared: Prepared) -> list[str]:
    """What tells features of each modality's own windows from older ones, which ended with the shortest; nothing where they are equal."""
    sliding = plan.recipe.window.seconds is not None and plan.recipe.window.embed == "sliding"
    return ["own windows"] if sliding and not prepared.even else []


def _stores(prepared: Prepared) -> dict[str, str]:
    """The fingerprint of each modality's prepared streams."""
    return {name: store.key for name, store in prepared.stores.items()}
