"""compare: what several runs say of the same test recordings, side by side, with intervals and tests over groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError, StageError
from ..evaluate.paired import Estimate, Paired, compare, estimate, holm
from ..runs import RunFolder, read_json, read_jsonl

MEASURES = {"single-label": "accuracy", "multi-label": "jaccard", "regression": "−|error|"}
"""What a single recording is worth, by type of task; of regression the absolute error, with its sign turned, so that more is better."""


@dataclass(frozen=True)
class Row:
    """One way of predicting: of which run, from what, by which head and encoder."""

    name: str
    score: Estimate
    against: Paired | None  # None for the one that the others are compared with
    corrected: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Every way of predicting one task on the recordings that all of them predicted."""

    task: str
    measure: str
    reference: str
    rows: tuple[Row, ...]
    recordings: int
    group: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_runs(
    folders: Sequence[Path],
    task: str | None = None,
    inputs: Sequence[str] = (),
    heads: Sequence[str] = (),
    reference: str | None = None,
) -> Comparison:
    """The rows of several runs, sorted by score.

    task       which to compare; left out: the only one that all runs predict
    inputs, heads  names to keep; left out: "all" where every run has it, and every head
    reference  beginning of the name that the others are compared with; left out: the first run's best

    Raises DataError with a sentence if the runs have no task or no test recordings in common.
    """
    runs = [(folder, RunFolder(folder)) for folder in folders]
    said = {str(folder): _read(folder, run) for folder, run in runs}
    tasks = set.intersection(*({row["task"] for row in each["rows"]} for each in said.values()))
    if task is None:
        if len(tasks) != 1:
            raise DataError(
                f"the runs have {len(tasks)} tasks in common ({', '.join(sorted(tasks)) or 'none'}); choose one with --task"
            )
        (task,) = tasks
    elif task not in tasks:
        raise DataError(
            f"no task is named '{task}' in all of these runs; they have {', '.join(sorted(tasks)) or 'none'} in common"
        )
    kind = next(iter(said.values()))["prepare"]["tasks"][task]["type"]
    short = short_names(folders)
    found: dict[str, dict[str, list[float]]] = {}
    there: dict[str, dict[str, None]] = {"input": {}, "head": {}}
    groups: dict[str, str] = {}
    for folder, _ in runs:
        each = said[str(folder)]
        groups |= each["groups"]
        kept = inputs or (["all"] if any(row["input"] == "all" for row in each["rows"]) else [])
        for row in each["rows"]:
            if row["task"] == task:
                for what, names_of in there.items():
                    names_of[row[what]] = None
            if row["task"] != task or (kept and row["input"] not in kept) or (heads and row["head"] not in heads):
                continue
            name = f"{short[str(folder)]}: {row['encoder']} {row['input']} {row['head']}"
            found.setdefault(name, {}).setdefault(row["id"], []).append(_worth(kind, row))
    if not found:
        raise DataError(
            "nothing is left to compare; look at --inputs and --heads: the runs have the "
            + " and the ".join(f"{what}s {', '.join(sorted(names_of))}" for what, names_of in there.items())
        )
    ids = sorted(set.intersection(*(set(each) for each in found.values())))
    if not ids:
        raise DataError("the runs have no test recording in common: they are of other corpora, folds or splits")
    names = [groups[id] for id in ids]
    values: dict[str, NDArray[np.float64]] = {name: np.array([np.mean(each[id]) for id in ids]) for name, each in found.items()}
    chosen = _reference(values, reference, short[str(folders[0])])
    pairs = {name: compare(each, values[chosen], names) for name, each in values.items() if name != chosen}
    corrected = holm({name: one.p for name, one in pairs.items()})
    rows = [Row(name, estimate(each, names), pairs.get(name), corrected.get(name)) for name, each in values.items()]
    rows.sort(key=lambda row: -row.score.mean)
    group = next(iter(said.values()))["prepare"]["group"]
    return Comparison(task, MEASURES[kind], chosen, tuple(rows), len(ids), group)


def _read(folder: Path, run: RunFolder) -> dict[str, Any]:
    if not (folder / "folds.json").is_file():
        raise StageError(f"{folder}: is no run folder; name runs such as runs/NAME, that `mmcl run` has finished")
    rows = [
        row
        for stage in ("probe", "supervise")
        for _, _, unit in run.units(stage)
        for row in read_jsonl(unit / "predictions.jsonl")
    ]
    if not rows:
        raise StageError(f"{folder}: has no predictions yet; let `mmcl run` finish it")
    samples = read_json(folder / "folds.json")["samples"]
    return {"rows": rows, "groups": {s["id"]: s["group"] for s in samples}, "prepare": read_json(folder / "prepare.json")}


def _worth(kind: str, row: Mapping[str, Any]) -> float:
    """What one prediction is worth; NaN where the target is not known."""
    truth, said = row["target"], row["prediction"]
    if kind == "single-label":
        return float(truth == said)
    if any(value is None for value in truth):
        return float("nan")
    if kind == "multi-label":
        both = sum(t > 0.5 and s > 0.5 for t, s in zip(truth, said, strict=True))
        either = sum(t > 0.5 or s > 0.5 for t, s in zip(truth, said, strict=True))
        return both / either if either else 0.0
    return -float(np.mean([abs(t - s) for t, s in zip(truth, said, strict=True)]))


def short_names(folders: Sequence[Path]) -> dict[str, str]:
    """The folders' own names, with their parents' where two are alike."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = ["/".join(folder.resolve().parts[-2:]) for folder in folders]
    return {str(folder): name for folder, name in zip(folders, names, strict=True)}


def _reference(values: Mapping[str, NDArray[np.float64]], wanted: str | None, first: str) -> str:
    if wanted is not None:
        fitting = [wanted] if wanted in values else [name for name in values if name.startswith(wanted)]
        if len(fitting) != 1:
            raise DataError(f"'{wanted}' is the beginning of {len(fitting)} names; one of {', '.join(values)} was expected")
        return fitting[0]
    mine = {name: float(np.nanmean(each)) for name, each in values.items() if name.startswith(f"{first}: ")}
    return max(mine, key=lambda name: mine[name])
