"""rerun: a run once more, from its folder alone, and what came out differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..api.errors import StageError
from ..plugins import require_offered
from ..recipe.plan import Plan, changed_code
from ..recipe.planner import load_plan
from ..recipe.read import require_whole
from ..runs import RunFolder, digest, distrusting, read_json, read_text, refuse_links

RECIPE_BYTES = 2**20
"""A longer recipe of a run is refused."""


@dataclass(frozen=True)
class Difference:
    """One score in the old run and in the new one; None where it is not there."""

    task: str
    input: str
    head: str
    encoder: str
    fold: int
    seed: int
    metric: str
    old: float | None
    new: float | None


@dataclass(frozen=True)
class Rerun:
    """What differs between a run and its repetition."""

    folder: str
    scores: int
    differences: tuple[Difference, ...]
    weights: int  # files of trained weights that both have
    other_weights: tuple[str, ...]  # those of them that are not the same to the bit
    versions: Mapping[str, tuple[str, str]]  # what was of another version: old, new
    surroundings: Mapping[str, tuple[Any, Any]]  # what else was otherwise of the machine, its threads and switches: old, new

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@distrusting
def plan_of(folder: Path, data: Path | None = None) -> Plan:
    """The plan of a run, made again from the recipe, the overrides and the folds that its folder holds.

    data  folder under which datasets lie now; left out: where the run found them

    Raises StageError if the folder is no run, RecipeError if its recipe no longer fits the installed plug-ins.
    """
    refuse_links(folder)
    if not (folder / "plan.json").is_file() or not (folder / "recipe.yaml").is_file():
        raise StageError(f"{folder}: is no run folder (it lacks plan.json or recipe.yaml); name one such as runs/NAME")
    settings = read_json(folder / "plan.json")["plan"]
    require_whole(read_text(folder / "recipe.yaml", RECIPE_BYTES), str(folder / "recipe.yaml"))
    require_offered(settings, str(folder))
    overrides = list(settings["overrides"])
    if settings["dataset"]["root"] and data is None:
        overrides.append(f"dataset.root={json.dumps(settings['dataset']['root'])}")  # quoted: `d #1` is a folder, not a comment
    if settings["protocol"]["use"] == "folds":
        file = folder / "folds.csv"
        if not file.is_file():
            raise StageError(f"{file}: is missing; it holds the folds of the run's recipe")
        overrides.append(f"protocol.file={json.dumps(str(file.resolve()))}")
    plan = load_plan(folder / "recipe.yaml", tuple(overrides), data)
    if (against := settings["report"]["against"]) == list(plan.recipe.report.against):
        return plan
    # The default was another one when the run was made: its baselines are those that it has.
    return load_plan(folder / "recipe.yaml", (*overrides, f"report.against={json.dumps(against)}"), data)


@distrusting
def differences(old: Path, new: Path) -> Rerun:
    """What differs between two finished runs of one recipe."""
    before, after = (_scores(read_json(folder / "report.json")) for folder in (old, new))
    scores = sorted(before.keys() | after.keys(), key=str)
    changed = [
        Difference(**dict(zip(PLACE, place, strict=True)), old=before.get(place), new=after.get(place))
        for place in scores
        if before.get(place) != after.get(place) or (place in before) != (place in after)
    ]
    then, now = (read_json(folder / "plan.json") for folder in (old, new))
    versions = {name: (a or "–", b or "–") for name, (a, b) in _changed(then["versions"], now["versions"]).items()}
    versions |= {words: hashes for _, hashes, words in changed_code(then["plan"], now["plan"])}
    surroundings = _changed({"device": then.get("device")}, {"device": now.get("device")})
    for part in ("hardware", "determinism"):
        if part in then and part in now:  # runs of old don't say
            surroundings |= _changed(then[part], now[part])
    here, there = _weights(old), _weights(new)
    both = sorted(here.keys() & there.keys())
    return Rerun(
        folder=str(new),
        scores=len(scores),
        differences=tuple(changed),
        weights=len(both),
        other_weights=tuple(name for name in both if here[name] != there[name]),
        versions=versions,
        surroundings=surroundings,
    )


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same in both: name → old, new; None where it is not there."""
    return {name: (old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)}


PLACE = ("task", "input", "head", "encoder", "fold", "seed", "metric")
"""What says of a score what it is of, and where it was measured."""


def _scores(report: Mapping[str, Any]) -> dict[tuple[Any, ...], float | None]:
    """Every score of a report, by its PLACE."""
    return {tuple(row[name] for name in PLACE): row["value"] for row in report["scores"]}


def _weights(folder: Path) -> dict[str, str]:
    """Digest of every file of trained weights, by its place in the run."""
    run = RunFolder(folder)
    files = [path / "encoders.safetensors" for _, _, path in run.units("pretrain")]
    files += [file for _, _, path in run.units("supervise") for file in sorted((path / "models").glob("*.safetensors"))]
    return {str(file.relative_to(folder)): digest(file) for file in files}
