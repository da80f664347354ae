"""The run under audit, as its files have it, and a leak in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...api.dataset import SampleRef
from ...api.errors import StageError
from ...data.folds import Fold
from ...data.prepared import Prepared, load_prepared, load_split
from ...recipe.plan import Plan
from ...runs import RunFolder, read_json

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Leak:
    """What a check yields: one leak, or what looks like one, with the name of a recording or a file to look at."""

    evidence: str
    asked: bool = False  # the recipe says so in so many words


@dataclass(frozen=True)
class Case:
    """A run, opened for reading."""

    run: RunFolder
    samples: Sequence[SampleRef]
    splits: Sequence[Fold]
    about: Mapping[str, Any]  # plan.json

    @property
    def settings(self) -> Mapping[str, Any]:
        """The recipe with every default, as plan.json has it."""
        settings: Mapping[str, Any] = self.about["plan"]
        return settings

    @cached_property
    def prepared(self) -> Prepared:
        """The prepared streams. Raises StageError if they are not there any more, or not whole."""
        return load_prepared(self.run)

    @cached_property
    def plan(self) -> Plan:
        """The plan, as the folder states it: nothing is read where it says that recordings lie.

        Raises RecipeError if the recipe no longer fits the installed plug-ins.
        """
        from ...use.opened import stated_plan  # late: it brings torch

        return stated_plan(self.run.root)

    @cached_property
    def folds(self) -> dict[int, Fold]:
        """The folds by their numbers."""
        return {fold.number: fold for fold in self.splits}

    def units(self, stage: str) -> list[tuple[int, int, Path]]:
        """What a stage has finished of the plan's folds and seeds, as (fold, seed, folder).

        What an earlier recipe left beside them is not looked at.
        """
        if stage == "pretrain":
            wanted = bool(self.settings["pretrain"]["epochs"])
        else:
            wanted = stage in ("embed", "probe") or bool(self.settings.get(stage))
        if not wanted:
            return []
        return [unit for unit in self.run.units(stage) if unit[0] in self.folds and unit[1] in self.settings["seed"]]

    def ids(self, fold: int, split: str) -> set[str]:
        """The recordings of one side of a split, by name."""
        return {self.samples[row].id for row in getattr(self.folds[fold], split)}

    def embedded(self, fold: int, seed: int) -> Path:
        """The folder of a fold's and seed's features. Raises StageError if they are not there."""
        folder = self.run.stage("embed", fold, seed)
        if not (folder / "finished.json").is_file():
            raise StageError(f"{folder}: has no features; what rests on them cannot be derived again")
        return folder


def case_of(run: RunFolder) -> Case:
    """A run's files. Raises StageError if it has no plan, or `prepare` has not run."""
    about = read_json(run.root / "plan.json")
    return Case(run, *load_split(run), about)
