"""compare: what several runs predict of the same test recordings, side by side, with intervals and tests over groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..api.errors import DataError, StageError
from ..data.prepared import load_split
from ..evaluate.metrics import AMONG
from ..evaluate.paired import Estimate, Floats, Paired, compare, estimate, holm
from ..runs import JsonObject, RunFolder, distrusting, each_jsonl, read_json, read_jsonl

MEASURES = {"single-label": "accuracy", "multi-label": "jaccard", "regression": "−|error|"}
"""What a single recording is worth, by type of task; of regression the absolute error, with its sign turned, so that more is better."""


RETRIEVAL = "retrieval"
"""In place of a task: how often a recording in one modality finds itself in another."""

SEARCHED = f"R@1 among {AMONG}"
"""What a single search is worth: the chance that nothing else among so many is nearer."""


@dataclass(frozen=True)
class Row:
    """One way of predicting: of which run, from what, by which head and encoder."""

    name: str
    score: Estimate
    against: Paired | None  # None for the one that the others are compared with
    corrected: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Every way of predicting one task on the recordings that all of them predicted.

    measure    what one recording is worth: one of MEASURES
    reference  name of the row that the others are compared with
    rows       the best first
    group      what a group is in this corpus, in a word: speaker, subject
    """

    task: str
    measure: str
    reference: str
    rows: tuple[Row, ...]
    recordings: int
    group: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@distrusting
def compare_runs(
    folders: Sequence[Path],
    task: str | None = None,
    inputs: Sequence[str] = (),
    heads: Sequence[str] = (),
    reference: str | None = None,
) -> Comparison:
    """The rows of several runs, sorted by score.

    task       which to compare, or retrieval; left out: the only one that all runs predict, or retrieval where they predict none
    inputs     names to keep; left out: "all" alone of each run that has it, every input of the others. Of retrieval: FROM~TO
    heads      names to keep; left out: every head. Retrieval has none
    reference  beginning of the name that the others are compared with; left out: the first run's best

    Raises DataError with a sentence if the runs have no task or no test recordings in common.
    """
    runs = {str(folder): _read(folder) for folder in folders}
    task = _common_task(list(runs.values()), task)
    facts = next(iter(runs.values())).prepare
    kind = "" if task == RETRIEVAL else facts["tasks"][task]["type"]
    short = short_names(folders)
    worths: dict[str, dict[str, list[float]]] = {}  # name of a row → recording → what each of its predictions is worth
    group_of: dict[str, str] = {}
    for folder in map(str, folders):
        run = runs[folder]
        group_of |= run.group_of
        for way, id, worth in _ways(run, task, kind, inputs, heads):
            worths.setdefault(f"{short[folder]}: {way}", {}).setdefault(id, []).append(worth)
    if not worths:
        raise DataError(f"nothing is left to compare; look at --inputs and --heads: {_known(list(runs.values()), task)}")
    ids = sorted(set.intersection(*(set(each) for each in worths.values())))
    if not ids:
        raise DataError("the runs have no test recording in common: they are of other corpora, folds or splits")
    groups = [group_of[id] for id in ids]
    _expect_one_corpus(runs, task, ids)
    values: dict[str, Floats] = {name: np.array([np.mean(each[id]) for id in ids]) for name, each in worths.items()}
    chosen = _reference(values, reference, short[str(folders[0])])
    pairs = {name: compare(each, values[chosen], groups) for name, each in values.items() if name != chosen}
    corrected = holm({name: one.p for name, one in pairs.items()})
    rows = [Row(name, estimate(each, groups), pairs.get(name), corrected.get(name)) for name, each in values.items()]
    rows.sort(key=lambda row: -row.score.mean)
    return Comparison(
        task=task,
        measure=MEASURES.get(kind, SEARCHED),
        reference=chosen,
        rows=tuple(rows),
        recordings=len(ids),
        group=facts["group"],
    )


def _expect_one_corpus(runs: Mapping[str, _Run], task: str, ids: Sequence[str]) -> None:
    """Raise DataError if ids that runs have in common are of other recordings: another corpus, group or label."""
    kept = set(ids)
    corpora = {run.corpus for run in runs.values() if run.corpus}
    if len(corpora) > 1:
        raise DataError(
            f"the runs are of other corpora ({', '.join(sorted(corpora))}), whose recordings have the same names; compare runs of one"
        )
    known: dict[str, tuple[str, Any]] = {}
    for folder, run in runs.items():
        targets = {row["id"]: row["target"] for row in run.predictions if row["task"] == task and row["id"] in kept}
        for id in kept:
            mine = run.group_of.get(id, ""), targets.get(id)
            if known.setdefault(id, mine) != mine:
                raise DataError(
                    f"{folder}: recording '{id}' has another group or label of '{task}' than in the run before; compare runs of the same data"
                )


def short_names(folders: Sequence[Path]) -> dict[str, str]:
    """The folders' own names, with their parents' where two are alike."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = ["/".join(folder.resolve().parts[-2:]) for folder in folders]
    return {str(folder): name for folder, name in zip(folders, names, strict=True)}


@dataclass(frozen=True)
class _Run:
    """What a finished run's files hold of its test recordings."""

    predictions: list[JsonObject]  # rows of predictions.jsonl
    searches: list[JsonObject]  # rows of searches.jsonl, which older runs lack
    group_of: dict[str, str]  # recording → its group
    prepare: JsonObject  # prepare.json
    corpus: str  # the dataset's plug-in, as plan.json has it; "" where that is not there


def _read(folder: Path) -> _Run:
    if not (folder / "folds.json").is_file():
        raise StageError(f"{folder}: is no run folder; name runs such as runs/NAME, that `mmcl run` has finished")
    run = RunFolder(folder)
    units = [unit for stage in ("probe", "supervise") for _, _, unit in run.units(stage)]
    predictions = [row for unit in units for row in each_jsonl(unit / "predictions.jsonl")]
    searches = [row for unit in units if (unit / "searches.jsonl").exists() for row in read_jsonl(unit / "searches.jsonl")]
    if not predictions and not searches:
        raise StageError(f"{folder}: has no predictions yet; let `mmcl run` finish it")
    samples, _ = load_split(run)
    groups = {samples.id(row): samples.group(row) for row in range(len(samples))}
    return _Run(predictions, searches, groups, read_json(folder / "prepare.json"), _corpus(folder))


def _corpus(folder: Path) -> str:
    try:
        plan = read_json(folder / "plan.json")
        return str(plan.get("plan", plan)["dataset"]["use"])
    except (StageError, KeyError, TypeError):
        return ""


def _common_task(runs: Sequence[_Run], wanted: str | None) -> str:
    """The task that is compared. Raises DataError if not all runs have it, or none is wanted and they have not one in common."""
    tasks = sorted(set.intersection(*({row["task"] for row in run.predictions} for run in runs)))
    searched = all(run.searches for run in runs)
    if searched and (wanted == RETRIEVAL or (wanted is None and not tasks)):
        return RETRIEVAL
    if wanted is None:
        if len(tasks) != 1:
            raise DataError(
                f"the runs have {len(tasks)} tasks in common ({', '.join(tasks) or 'none'}); choose one with --task"
            )
        return str(tasks[0])
    if wanted not in tasks:
        raise DataError(f"no task is named '{wanted}' in all of these runs; they have {', '.join(tasks) or 'none'} in common")
    return wanted


def _ways(run: _Run, task: str, kind: str, inputs: Sequence[str], heads: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """Every prediction (every search, of retrieval) that is kept: by what way it was made, of which recording, what it is worth."""
    if task == RETRIEVAL:
        for row in run.searches:
            if not inputs or f"{row['from']}~{row['to']}" in inputs:
                yield f"{row['encoder']} {row['from']}~{row['to']}", row["id"], row["value"]
        return
    kept = inputs or (["all"] if any(row["input"] == "all" for row in run.predictions) else [])
    for row in run.predictions:
        if row["task"] == task and (not kept or row["input"] in kept) and (not heads or row["head"] in heads):
            yield f"{row['encoder']} {row['input']} {row['head']}", row["id"], _worth(kind, row)


def _known(runs: Sequence[_Run], task: str) -> str:
    """Which inputs and heads there are, in words."""
    if task == RETRIEVAL:
        names = {f"{row['from']}~{row['to']}" for run in runs for row in run.searches}
        return f"retrieval has the inputs {', '.join(sorted(names))} and no heads"
    known = [row for run in runs for row in run.predictions if row["task"] == task]
    whats = (f"{what}s {', '.join(sorted({row[what] for row in known}))}" for what in ("input", "head"))
    return "the runs have the " + " and the ".join(whats)


def _worth(kind: str, row: Mapping[str, Any]) -> float:
    """What one prediction is worth; NaN where the target is not known."""
    target, prediction = row["target"], row["prediction"]
    if kind == "single-label":
        return float(target == prediction)
    if any(value is None for value in target):
        return float("nan")
    if kind == "multi-label":
        both = sum(t > 0.5 and p > 0.5 for t, p in zip(target, prediction, strict=True))
        either = sum(t > 0.5 or p > 0.5 for t, p in zip(target, prediction, strict=True))
        return both / either if either else 0.0
    return -float(np.mean([abs(t - p) for t, p in zip(target, prediction, strict=True)]))


def _reference(values: Mapping[str, Floats], wanted: str | None, first: str) -> str:
    """The name that others are compared with: the one that begins as `wanted`, or the best of the run with the short name `first`.

    Raises DataError if not exactly one name begins so.
    """
    if wanted is not None:
        fitting = [wanted] if wanted in values else [name for name in values if name.startswith(wanted)]
        if len(fitting) != 1:
            raise DataError(f"'{wanted}' is the beginning of {len(fitting)} names; one of {', '.join(values)} was expected")
        return fitting[0]
    mine = {name: float(np.nanmean(each)) for name, each in values.items() if name.startswith(f"{first}: ")}
    return max(mine, key=lambda name: mine[name])
