"""rerun: a run once more, from its folder alone, and what came out differently."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..api.errors import StageError
from ..recipe.plan import Plan
from ..recipe.planner import load_plan
from ..runs import RunFolder, read_json

Key = tuple[Any, ...]


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


def plan_of(folder: Path, data: Path | None = None) -> Plan:
    """The plan of a run, made again from the recipe, the overrides and the folds that its folder holds.

    data  folder under which datasets lie now; left out: where the run found them

    Raises StageError if the folder is no run, RecipeError if its recipe no longer fits the installed plug-ins.
    """
    if not (folder / "plan.json").is_file() or not (folder / "recipe.yaml").is_file():
        raise StageError(f"{folder}: is no run folder (it lacks plan.json or recipe.yaml); name one such as runs/NAME")
    said = read_json(folder / "plan.json")["plan"]
    overrides = list(said["overrides"])
    if said["dataset"]["root"] and data is None:
        overrides.append(f"dataset.root={said['dataset']['root']}")
    if said["protocol"]["use"] == "folds":
        file = folder / "folds.csv"
        if not file.is_file():
            raise StageError(f"{file}: is missing; it holds the folds of the run's recipe")
        overrides.append(f"protocol.file={file.resolve()}")
    return load_plan(folder / "recipe.yaml", tuple(overrides), data)


def differences(old: Path, new: Path) -> Rerun:
    """What differs between two finished runs of one recipe."""
    before, after = (read_json(folder / "report.json") for folder in (old, new))
    a, b = (_scores(report) for report in (before, after))
    found = [
        Difference(*(*key, a.get(key), b.get(key)))
        for key in sorted(a.keys() | b.keys(), key=str)
        if a.get(key) != b.get(key) or (key in a) != (key in b)
    ]
    here, there = _weights(old), _weights(new)
    both = sorted(here.keys() & there.keys())
    then, now = (read_json(folder / "plan.json") for folder in (old, new))
    changed = {name: (a or "–", b or "–") for name, (a, b) in _changed(then["versions"], now["versions"]).items()}
    around = _changed({"device": then.get("device")}, {"device": now.get("device")})
    for part in ("hardware", "determinism"):
        if part in then and part in now:  # runs of old don't say
            around |= _changed(then[part], now[part])
    other = tuple(name for name in both if here[name] != there[name])
    return Rerun(str(new), len(a.keys() | b.keys()), tuple(found), len(both), other, changed, around)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same in both: name → old, new; None where it is not there."""
    return {name: (old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)}


def _scores(report: Mapping[str, Any]) -> dict[Key, float | None]:
    return {
        (row["task"], row["input"], row["head"], row["encoder"], row["fold"], row["seed"], row["metric"]): row["value"]
        for row in report["scores"]
    }


def _weights(folder: Path) -> dict[str, str]:
    """Digest of every file of trained weights, by its place in the run."""
    run = RunFolder(folder)
    files = [path / "encoders.safetensors" for _, _, path in run.units("pretrain")]
    files += [file for _, _, path in run.units("supervise") for file in sorted((path / "models").glob("*.safetensors"))]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
