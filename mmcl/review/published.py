"""A paper's tables filled from run folders: every cell from a run of the recipe that it belongs to, where the two can be compared."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.errors import DataError, StageError
from ..api.published import Cell, PublishedSpec
from ..data.prepared import load_split
from ..recipe.planner import load_plan
from ..recipe.shipped import find, names
from ..runs import RunFolder, distrusting, read_json, refuse_links

WHERE = frozenset({"file", "model", "corpus", "lexicon", "folds", "root", "table", "labels"})
"""Options that say where a file lies on somebody's machine; two runs that differ in these alone are runs of one recipe."""
UNSEEN = frozenset(
    {
        "checkpoint_minutes",
        "layout",
        "micro_batch",
        "package",
        "version",
        "code",
        "precision",
        "synthetic",
        "only",
        "inputs",
        "tasks",
        "seeds",
    }
)
"""Keys that change no figure, or that other words of a cell speak of."""
NAMED = 3
"""Differences that a cell names; the rest is counted."""


@dataclass(frozen=True)
class Run:
    """A finished run, as far as a table needs it."""

    report: Mapping[str, Any]
    plan: Mapping[str, Any] | None  # what plan.json has resolved; None where it lies there no more
    tested: int | None  # recordings that any fold tests
    folds: int | None
    written: float


@distrusting
def runs_of(folders: Sequence[Path]) -> dict[str, list[Run]]:
    """The runs in some folders by the name of their recipe, the newest first.

    Raises DataError if a folder holds no readable report.json.
    """
    runs: dict[str, list[Run]] = {}
    for folder in folders:
        refuse_links(folder)
        path = folder / "report.json"
        if not path.exists():
            raise DataError(
                f"{folder}: holds no report.json; name run folders, such as runs/NAME, that `mmcl run` has finished"
            )
        try:
            report = read_json(path)
            name, written = str(report["name"]), path.stat().st_mtime
        except (StageError, OSError, KeyError) as error:
            raise DataError(f"{path}: is no report of a run ({error}); write it again with `mmcl report {folder}`") from error
        plan = read_json(folder / "plan.json").get("plan") if (folder / "plan.json").exists() else None
        folds = load_split(RunFolder(folder))[1] if (folder / "folds.json").exists() else None
        tested = None if folds is None else len({row for fold in folds for row in fold.test})
        runs.setdefault(name, []).append(Run(report, plan, tested, None if folds is None else len(folds), written))
    return {name: sorted(some, key=lambda run: -run.written) for name, some in runs.items()}


def fill(spec: PublishedSpec, runs: Mapping[str, Sequence[Run]], everything: bool = False) -> list[dict[str, Any]]:
    """Every table with its cells: what was published and, where a comparable run is among these, ours in the same unit.

    everything  figures of runs that differ, too; `differs` says in what
    """
    return [
        {
            "name": table.name,
            "caption": table.caption,
            "cells": [_filled(cell, runs.get(cell.recipe, ()), everything) for cell in table.cells],
        }
        for table in spec.tables
    ]


def _filled(cell: Cell, runs: Sequence[Run], everything: bool) -> dict[str, Any]:
    """A cell with the mean and deviation of its score in the run that differs least, the newest of such."""
    wanted = {"task": cell.task, "input": cell.input, "head": cell.head, "encoder": cell.encoder, "metric": cell.metric}
    best: tuple[list[str], Run, Mapping[str, Any]] | None = None
    for run in runs:
        rows = [row for row in run.report.get("summary", ()) if all(row.get(key) == value for key, value in wanted.items())]
        if rows:
            differs = differences(cell, run)
            if best is None or len(differs) < len(best[0]):
                best = differs, run, rows[0]
    laid = best is not None and (everything or not best[0])
    mean, sd = (best[2]["mean"], best[2]["sd"]) if best is not None and laid else (None, None)
    return {
        "row": cell.row,
        "column": cell.column,
        "published": cell.value,
        "recipe": cell.recipe,
        "set": list(cell.sets),
        **wanted,
        "note": cell.note,
        "differs": best[0] if best is not None else [],
        "ours": None if mean is None else mean * cell.scale,
        "sd": None if sd is None else sd * cell.scale,
        "synthetic": bool((best[1].report if best else {}).get("synthetic")),
    }


def differences(cell: Cell, run: Run) -> list[str]:
    """What keeps a run from being set beside a cell, in words; nothing where the two can be compared."""
    if cell.recipe not in names() or run.plan is None:
        return (
            ["a run without its plan.json"]
            if run.plan is None
            else [f"recipe {cell.recipe} is not among those that are shipped"]
        )
    wanted = _plan(cell.recipe, cell.sets)
    words = [cell.differs] if cell.differs else []
    mine, theirs = _modalities(run.plan, cell), _modalities(wanted, cell)
    if mine != theirs:
        words.append(f"{len(mine)} modalit{'y' if len(mine) == 1 else 'ies'} ({', '.join(mine)})")
    if run.tested is None:
        words.append("how many recordings it was tested on is not known")
    elif cell.tested is not None and not cell.tested[0] <= run.tested <= cell.tested[1]:
        words.append(f"{run.tested:,} test recordings")
    words += _folds(run, wanted)
    own, other = (dict(_leaves(_compared(plan, cell, theirs, wanted["protocol"]["use"]))) for plan in (run.plan, wanted))
    keys = [key for key in own if own[key] != other.get(key, _ABSENT)]  # a run of an older mmcl lacks later keys
    replaced = tuple(key.removesuffix("use") for key in keys if key.endswith(".use"))  # another plug-in has other options
    keys = [key for key in keys if key.endswith(".use") or not (replaced and key.startswith(replaced))]
    if mine != theirs:
        keys = [key for key in keys if key not in ("pretrain.objective.pairs", "pretrain.objective.weights")]
    words += [f"{key} {_shown(own.get(key))}, not {_shown(other.get(key))}" for key in keys[:NAMED]]
    return [*words, f"{len(keys) - NAMED} more keys"] if len(keys) > NAMED else words


_ABSENT = object()


@functools.cache
def _plan(recipe: str, sets: tuple[str, ...]) -> dict[str, Any]:
    """What a shipped recipe resolves to, wherever the data lie."""
    resolved: dict[str, Any] = json.loads(json.dumps(load_plan(find(recipe), sets, Path("data")).to_json()))
    return resolved


def _modalities(plan: Mapping[str, Any], cell: Cell) -> list[str]:
    """Which modalities the cell's input is made of."""
    section = plan["supervise"] if cell.encoder == "supervised" else plan["probe"]
    inputs: Mapping[str, Sequence[str]] = (section or {}).get("inputs", {})
    return sorted(inputs.get(cell.input, plan["modalities"] if cell.input == "all" else cell.input.split("+")))


def _folds(run: Run, wanted: Mapping[str, Any]) -> Iterator[str]:
    """How the run's folds are fewer, or others, than the recipe's."""
    assert run.plan is not None
    mine, theirs = run.plan["protocol"], wanted["protocol"]
    count = theirs.get("k", 1 if theirs["use"] in ("official", "hold-out") else None)
    if count is not None and run.folds is not None and run.folds != count:
        yield f"{run.folds} of {count} folds"
    if run.plan.get("limit") is not None:
        yield f"limit {run.plan['limit']}"
    if mine.get("use") != theirs.get("use"):
        yield f"protocol {mine.get('use')}, not {theirs.get('use')}"
    elif mine.get("by") != theirs.get("by"):
        yield f"split by {mine.get('by')}, not by {theirs.get('by')}"


def _compared(plan: Mapping[str, Any], cell: Cell, modalities: Sequence[str], protocol: str) -> dict[str, Any]:
    """The part of a plan on which the cell's score depends, other modalities left out: they have words of their own."""
    kept: dict[str, Any] = {
        "dataset": {key: plan["dataset"][key] for key in ("use", "params")},
        "modalities": {name: one for name, one in plan["modalities"].items() if name in modalities},
        "window": plan["window"],
    }
    if plan["protocol"]["use"] == protocol:
        kept["protocol"] = {key: value for key, value in plan["protocol"].items() if key not in ("use", "by", "file")}
    learned = cell.encoder == "pretrained" or (plan["supervise"] or {}).get("contrast", 0) > 0
    if learned:
        kept |= {key: plan[key] for key in ("projection", "scores")}
        kept["pretrain.objective"] = plan["pretrain"]["objective"]
    if cell.encoder == "pretrained":
        kept["pretrain"] = plan["pretrain"]
        kept["probe"] = {key: value for key, value in plan["probe"].items() if key != "heads"}
        kept["probe.head"] = plan["probe"]["heads"].get(cell.head)
    if cell.encoder == "supervised" and plan["supervise"]:
        kept["supervise"] = {key: value for key, value in plan["supervise"].items() if key != "heads"}
        kept["supervise.head"] = plan["supervise"]["heads"].get(cell.head)
    return kept


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside mappings that may change a figure, with its key."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in UNSEEN and not (name in WHERE and not isinstance(inner, Mapping)):
                yield from _leaves(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{number}]")
    else:
        yield key.replace(".params.", "."), list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}…"
