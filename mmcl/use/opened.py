"""A finished run, opened from its folder alone: its plan, its encoders, its kept heads, who was in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..data.folds import Fold
from ..data.prepared import load_prepared, load_split
from ..model.build import encoders_of, joint_of
from ..model.encoder import Encoder
from ..model.joint import Joint
from ..model.keep import load_encoders
from ..model.kept import KeptHead, load_heads
from ..model.kept_network import KeptNetwork, load_networks
from ..plugins import require_offered
from ..recipe.plan import Plan, changed_code
from ..recipe.planner import make_plan
from ..recipe.read import as_yaml, parse_recipe, require_whole
from ..runs import RunFolder, distrust, distrusting, read_json, read_text
from ..screen import say
from .shared import require_run

SPLITS = ("train", "valid", "test")
"""The sides of a fold whose features a run keeps."""
RECIPE_BYTES = 2**20
"""A longer recipe of a run is refused."""


@dataclass(frozen=True)
class Trained:
    """What one fold and seed of a run has learned: an encoder a modality, or one of all of them, and the heads on their features."""

    fold: int
    seed: int
    encoders: dict[str, Encoder] | Joint
    heads: tuple[KeptHead, ...]

    def __str__(self) -> str:
        return f"fold {self.fold}, seed {self.seed}"


class Opened:
    """A finished run. Nothing is trained, and nothing in its folder is changed.

    root  the run folder
    data  folder under which datasets lie now; left out: where the run found them

    Raises StageError if the folder is no run, or its run has not come as far as encoders and heads; RecipeError, PluginError or
    UnknownNameError where the installed plug-ins no longer fit it.
    """

    def __init__(self, root: Path, data: Path | None = None) -> None:
        require_run(root)
        self.run, self.data = RunFolder(root), data
        self.plan = stated_plan(root, data)
        self.samples, self._folds = load_split(self.run)
        with distrust(root):
            self.units = [(fold, seed) for fold, seed, _ in self.run.units("probe")]
        if not self.units:
            raise StageError(f"{root}: has no finished fold and seed yet; `mmcl run` the recipe to its end first")
        self.network_units = [(fold, seed) for fold, seed, _ in self.run.units("supervise")]
        self.indexes: dict[str, Any] = {}  # of searches, where the folder cannot keep them
        self._trained: dict[tuple[int, int], Trained] = {}
        self._networks: dict[tuple[int, int], list[KeptNetwork]] = {}

    @property
    def kind(self) -> str:
        """Which encoders answer: pretrained ones, or random ones where the recipe trained none."""
        return "pretrained" if self.plan.recipe.pretrain.epochs > 0 else "random"

    @property
    def folds(self) -> list[int]:
        """The folds that are finished."""
        return sorted({fold for fold, _ in self.units})

    def seeds(self, fold: int) -> list[int]:
        """The seeds of a fold that are finished, in the order of the recipe."""
        finished = {seed for number, seed in self.units if number == fold}
        return [seed for seed in self.plan.seeds if seed in finished] or sorted(finished)

    def pick(self, fold: int | None, seed: int | None) -> tuple[int, int]:
        """One fold and seed: those given, else the first. Raises StageError, with what there is, for one that is not there."""
        number = self.folds[0] if fold is None else fold
        if number not in self.folds:
            raise StageError(f"{self.run.root}: has no fold {number}; it has {', '.join(map(str, self.folds))}")
        seeds = self.seeds(number)
        chosen = seeds[0] if seed is None else seed
        if chosen not in seeds:
            raise StageError(f"{self.run.root}: has no seed {chosen} in fold {number}; it has {', '.join(map(str, seeds))}")
        return number, chosen

    def trained(self, fold: int, seed: int) -> Trained:
        """What a fold and seed has learned, loaded once."""
        if (fold, seed) not in self._trained:
            heads = load_heads(self.run.stage("probe", fold, seed))
            self._trained[fold, seed] = Trained(fold, seed, self._encoders(fold, seed), tuple(heads))
        return self._trained[fold, seed]

    def networks(self, fold: int, seed: int) -> list[KeptNetwork]:
        """The networks that labels trained in a fold and seed (`supervise`), loaded once. Raises StageError if there are none."""
        if (fold, seed) not in self.network_units:
            there = ", ".join(f"fold {one} seed {other}" for one, other in self.network_units)
            what = f"it has some of {there}" if there else "its recipe has no `supervise`, or has not come so far"
            raise StageError(f"{self.run.root}: has no network that labels trained in fold {fold}, seed {seed}; {what}")
        if (fold, seed) not in self._networks:
            self._networks[fold, seed] = load_networks(self.run.stage("supervise", fold, seed))
        return self._networks[fold, seed]

    def _encoders(self, fold: int, seed: int) -> dict[str, Encoder] | Joint:
        folder = self.run.stage("pretrain", fold, seed)
        if self.kind == "pretrained" and self.plan.pretext is None:
            return load_encoders(folder)
        where = (seed, "fold", fold)
        if self.kind == "pretrained":
            return joint_of(self.plan, "pretrained", folder, {}, (), *where)
        try:
            stores = load_prepared(self.run).stores
        except StageError as error:
            raise StageError(
                f"{self.run.root}: its encoders were never trained (pretrain.epochs 0), and to draw them again the streams that it was "
                f"prepared with must lie beside it ({error})"
            ) from error
        train = self.fold(fold).train
        if self.plan.pretext is None:
            return encoders_of(self.plan, "random", folder, stores, train, *where)
        return joint_of(self.plan, "random", folder, stores, train, *where)

    def fold(self, number: int) -> Fold:
        """Who was on which side of a fold."""
        return next(fold for fold in self._folds if fold.number == number)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Id of each of the run's own recordings → its row."""
        return {sample.id: row for row, sample in enumerate(self.samples)}

    def side(self, id: str, fold: int) -> str:
        """On which side of a fold a recording was: train, valid, test, unused; "new" for one that is not the run's own."""
        if id not in self.rows:
            return "new"
        return self._sides[fold].get(self.rows[id], "unused")

    @cached_property
    def _sides(self) -> dict[int, dict[int, str]]:
        """Of every fold, the side of each row."""
        sides = ("held", "train", "valid", "test")
        return {fold.number: {row: side for side in sides for row in getattr(fold, side)} for fold in self._folds}

    def unseen_folds(self, id: str) -> list[int]:
        """The finished folds in which a recording was a test recording, so that neither encoders nor heads have seen it."""
        return [number for number in self.folds if self.side(id, number) == "test"]

    def sample(self, id: str) -> SampleRef | None:
        """The run's own recording of that id; None if there is none."""
        row = self.rows.get(id)
        return None if row is None else self.samples[row]

    def labels(self, id: str) -> dict[str, str | list[str] | float | list[float]]:
        """What is known of one of the run's own recordings, by task: a class, the classes that are there, or its values."""
        sample = self.sample(id)
        known: dict[str, str | list[str] | float | list[float]] = {}
        for name, value in ({} if sample is None else sample.targets).items():
            task = self.plan.info.tasks[name]
            if task.type == "single-label":
                assert isinstance(value, int)
                known[name] = task.classes[value]
            elif task.type == "multi-label":
                assert isinstance(value, list)
                known[name] = [one for one, there in zip(task.classes, value, strict=True) if there]
            else:
                known[name] = [float(one) for one in value] if isinstance(value, list) else float(value)
        return known

    def __repr__(self) -> str:
        return "\n".join(describe(self))


def describe(run: Opened) -> list[str]:
    """What there is in a run, a line each."""
    plan = run.plan
    heads = run.trained(*run.pick(None, None)).heads
    tasks = {one.task.name: one.task for one in heads}
    shown = ", ".join(f"{m.name} ({m.source}: {plan.info.sources[m.source].type})" for m in plan.modalities)
    several = f"{len(run.folds)} folds" if len(run.folds) > 1 else f"fold {run.folds[0]}"
    return [
        f"{plan.name}, {run.run.root}: {several}, seeds {', '.join(map(str, run.seeds(run.folds[0])))}, {run.kind} encoders",
        f"  reads    {shown}",
        *(f"  answers  {name} ({task.type}): {', '.join(task.classes)}" for name, task in tasks.items()),
        f"  heads    {', '.join(dict.fromkeys(one.name for one in heads))} on {', '.join(dict.fromkeys(one.input for one in heads))}",
    ]


@distrusting
def stated_plan(root: Path, data: Path | None = None) -> Plan:
    """The plan of a run as its folder states it: its dataset's options are complete, and no recording and no table of it is read.

    data  folder under which datasets lie now; left out: where the run found them

    Raises StageError if the folder is no run, RecipeError if its recipe no longer fits the installed plug-ins.
    """
    for name in ("plan.json", "recipe.yaml"):
        if not (root / name).is_file():
            raise StageError(f"{root}: is no run folder (it lacks {name}); name one such as runs/NAME")
    try:
        stated = read_json(root / "plan.json")["plan"]
        dataset = {"use": stated["dataset"]["use"], **stated["dataset"]["params"]}
        if data is None and stated["dataset"]["root"] is not None:
            dataset["root"] = stated["dataset"]["root"]
        overrides = [*stated["overrides"], "track=[]", "worth=", "sweep="]
        if stated["protocol"]["use"] == "folds":
            overrides.append(f"protocol.file={json.dumps(str((root / 'folds.csv').resolve()))}")
        if data is not None and _own_folder(stated["overrides"], root) is not None:
            dataset["root"] = _own_folder(stated["overrides"], root)
    except (KeyError, TypeError) as error:
        raise StageError(f"{root / 'plan.json'}: is no plan of a run ({error} is missing); run the recipe again") from error
    text = read_text(root / "recipe.yaml", RECIPE_BYTES)
    require_whole(text, str(root / "recipe.yaml"))
    document = parse_recipe(
        text, str(root / "recipe.yaml"), (*overrides, f"dataset={as_yaml(dataset, flow=True)}"), root.resolve()
    )
    require_offered(stated, str(root))
    plan = make_plan(document, data, overrides=tuple(stated["overrides"]), complete=True)
    for _, _, words in changed_code(stated, plan.to_json()):
        say(f"{root}: {words} since this run, whose answers may be others now")
    return plan


def _own_folder(overrides: Sequence[str], root: Path) -> Any:
    """What the recipe itself says of where its data lie, below --data; None where it says nothing."""
    document = parse_recipe(read_text(root / "recipe.yaml", RECIPE_BYTES), "recipe.yaml", overrides, root.resolve())
    dataset = document.values.get("dataset")
    return dataset.get("root") if isinstance(dataset, dict) else None
