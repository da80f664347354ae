"""compare: what several runs predict of the same test recordings, side by side, with intervals and tests over groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError, StageError
from ..data.predictions import Way, key_of, read_predictions
from ..data.prepared import load_split
from ..data.recordings import Recordings
from ..evaluate.metrics import AMONG
from ..evaluate.paired import Estimate, Floats, Paired, compare, estimate, holm
from ..runs import JsonObject, RunFolder, distrusting, read_json, read_jsonl

Keys = NDArray[np.int64]
"""Recordings, as `Recorded` numbers them."""
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
    worths: dict[str, list[_Worth]] = {}  # name of a row → what its predictions are worth
    for folder in map(str, folders):
        for way, one in _ways(runs[folder], task, kind, inputs, heads):
            worths.setdefault(f"{short[folder]}: {way}", []).append(one)
    if not worths:
        raise DataError(f"nothing is left to compare; look at --inputs and --heads: {_known(list(runs.values()), task)}")
    means = {name: _means(each) for name, each in worths.items()}
    keys = reduce(np.intersect1d, (known for known, _ in means.values()))
    if not len(keys):
        raise DataError("the runs have no test recording in common: they are of other corpora, folds or splits")
    ids, groups, order = _whose(runs, keys)
    _expect_one_corpus(runs, task, keys[order], ids)
    values = {name: worth[np.searchsorted(known, keys)][order] for name, (known, worth) in means.items()}
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


def _means(parts: Sequence[_Worth]) -> tuple[Keys, Floats]:
    """Recordings, each once and in the order of their keys, and what their predictions are worth on average."""
    keys, place = np.unique(np.concatenate([one.keys for one in parts]), return_inverse=True)
    total = np.bincount(place, np.concatenate([one.worth for one in parts]), len(keys))
    return keys, total / np.bincount(place, minlength=len(keys))


def _whose(runs: Mapping[str, _Run], keys: Keys) -> tuple[list[str], list[str], NDArray[np.intp]]:
    """The ids and groups of some recordings in the order of their ids, and their places among `keys`."""
    named: dict[str, tuple[str, int]] = {}
    for run in runs.values():
        for row, place in run.rows(keys):
            named[run.samples.id(row)] = run.samples.group(row), place
    ids = sorted(named)
    return ids, [named[id][0] for id in ids], np.array([named[id][1] for id in ids], np.intp)


def _expect_one_corpus(runs: Mapping[str, _Run], task: str, keys: Keys, ids: Sequence[str]) -> None:
    """Raise DataError if recordings that runs have in common are others: of another corpus, group or label."""
    corpora = {run.corpus for run in runs.values() if run.corpus}
    if len(corpora) > 1:
        raise DataError(
            f"the runs are of other corpora ({', '.join(sorted(corpora))}), whose recordings have the same names; compare runs of one"
        )
    order = np.argsort(keys, kind="stable")
    first: tuple[list[str], Floats] | None = None
    for folder, run in runs.items():
        groups = [""] * len(keys)
        for row, place in run.rows(keys[order]):
            groups[order[place]] = run.samples.group(row)
        labels = np.full((len(keys), 1), np.nan)
        for way in run.predictions:
            if way.about["task"] == task:
                target = way.target.reshape(len(way), -1)
                if target.shape[1] != labels.shape[1]:
                    labels = np.full((len(keys), target.shape[1]), np.nan)
                at = np.minimum(np.searchsorted(keys[order], way.keys), len(keys) - 1)
                kept = keys[order][at] == way.keys
                labels[order[at[kept]]] = target[kept]
        first = first or (groups, labels)
        same = np.array([mine == theirs for mine, theirs in zip(groups, first[0], strict=True)])
        if first[1].shape == labels.shape:
            same &= ((first[1] == labels) | (np.isnan(first[1]) & np.isnan(labels))).all(1)
        else:
            same[:] = False
        if not same.all():
            raise DataError(
                f"{folder}: recording '{ids[int(same.argmin())]}' has another group or label of '{task}' than in the run before; "
                "compare runs of the same data"
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

    predictions: list[Way]
    searches: list[JsonObject]  # rows of searches.jsonl, which older runs lack
    samples: Recordings
    prepare: JsonObject  # prepare.json
    corpus: str  # the dataset's plug-in, as plan.json has it; "" where that is not there

    def rows(self, keys: Keys) -> Iterator[tuple[int, int]]:
        """The run's recordings that have one of some keys, which are in order: each one's row, and the place of its key."""
        own = np.fromiter(map(key_of, map(self.samples.id, range(len(self.samples)))), np.int64, len(self.samples))
        place = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
        for row in np.flatnonzero(keys[place] == own).tolist():
            yield row, int(place[row])


def _read(folder: Path) -> _Run:
    if not (folder / "folds.json").is_file():
        raise StageError(f"{folder}: is no run folder; name runs such as runs/NAME, that `mmcl run` has finished")
    run = RunFolder(folder)
    units = [unit for stage in ("probe", "supervise") for _, _, unit in run.units(stage)]
    predictions = [way for unit in units for way in read_predictions(unit)]
    searches = [row for unit in units if (unit / "searches.jsonl").exists() for row in read_jsonl(unit / "searches.jsonl")]
    if not predictions and not searches:
        raise StageError(f"{folder}: has no predictions yet; let `mmcl run` finish it")
    samples, _ = load_split(run)
    return _Run(predictions, searches, samples, read_json(folder / "prepare.json"), _corpus(folder))


def _corpus(folder: Path) -> str:
    try:
        plan = read_json(folder / "plan.json")
        return str(plan.get("plan", plan)["dataset"]["use"])
    except (StageError, KeyError, TypeError):
        return ""


def _common_task(runs: Sequence[_Run], wanted: str | None) -> str:
    """The task that is compared. Raises DataError if not all runs have it, or none is wanted and they have not one in common."""
    tasks = sorted(set.intersection(*({way.about["task"] for way in run.predictions} for run in runs)))
    searched = all(run.searches for run in runs)
    if searched and (wanted == RETRIEVAL or (wanted is None and not tasks)):
        return RETRIEVAL
    if wanted is None:
        if not tasks:
            raise DataError("the runs have no task in common; choose runs that predict the same")
        if len(tasks) > 1:
            raise DataError(f"the runs have {len(tasks)} tasks in common ({', '.join(tasks)}); choose one with --task")
        return str(tasks[0])
    if wanted not in tasks:
        raise DataError(f"no task is named '{wanted}' in all of these runs; they have {', '.join(tasks) or 'none'} in common")
    return wanted


@dataclass(frozen=True)
class _Worth:
    """What predictions or searches of one way are worth, each of a recording."""

    keys: Keys
    worth: Floats


def _ways(run: _Run, task: str, kind: str, inputs: Sequence[str], heads: Sequence[str]) -> Iterator[tuple[str, _Worth]]:
    """Every way of predicting (of searching, of retrieval) that is kept: its name, and what it is worth."""
    if task == RETRIEVAL:
        rows: dict[str, list[JsonObject]] = {}
        for row in run.searches:
            if not inputs or f"{row['from']}~{row['to']}" in inputs:
                rows.setdefault(f"{row['encoder']} {row['from']}~{row['to']}", []).append(row)
        for name, each in rows.items():
            yield (
                name,
                _Worth(np.array([key_of(one["id"]) for one in each], np.int64), np.array([one["value"] for one in each])),
            )
        return
    kept = inputs or (["all"] if any(way.about["input"] == "all" for way in run.predictions) else [])
    for way in run.predictions:
        about = way.about
        if about["task"] == task and (not kept or about["input"] in kept) and (not heads or about["head"] in heads):
            yield f"{about['encoder']} {about['input']} {about['head']}", _Worth(way.keys, _worth(kind, way))


def _known(runs: Sequence[_Run], task: str) -> str:
    """Which inputs and heads there are, in words."""
    if task == RETRIEVAL:
        names = {f"{row['from']}~{row['to']}" for run in runs for row in run.searches}
        return f"retrieval has the inputs {', '.join(sorted(names))} and no heads"
    known = [way.about for run in runs for way in run.predictions if way.about["task"] == task]
    whats = (f"{what}s {', '.join(sorted({row[what] for row in known}))}" for what in ("input", "head"))
    return "the runs have the " + " and the ".join(whats)


def _worth(kind: str, way: Way) -> Floats:
    """What each prediction is worth; NaN where the target is not known."""
    target, prediction = way.target, way.prediction
    if kind == "single-label":
        return np.asarray(target == prediction, np.float64)
    if kind == "multi-label":
        yes, guess = target > 0.5, prediction > 0.5
        both, either = (yes & guess).sum(1), (yes | guess).sum(1)
        worth = np.where(either > 0, both / np.maximum(either, 1), 0.0)
    else:
        worth = -np.abs(target - prediction).mean(1)
    return np.where(np.isnan(target).any(1), np.nan, worth)


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
