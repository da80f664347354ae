"""A paper's tables filled from run folders: every cell from the report.json of the recipe that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api.errors import DataError, StageError
from ..api.published import Cell, PublishedSpec
from ..runs import read_json, refuse_links


def reports_of(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """report.json of each run folder, by the name of its recipe; of several with one name the newest.

    Raises DataError if a folder holds no readable report.json.
    """
    newest: dict[str, tuple[float, dict[str, Any]]] = {}
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
        if name not in newest or written > newest[name][0]:
            newest[name] = written, report
    return {name: report for name, (_, report) in newest.items()}


def fill(spec: PublishedSpec, reports: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every table with its cells: what was published and, where the recipe was run, ours in the same unit."""
    return [
        {
            "name": table.name,
            "caption": table.caption,
            "cells": [_filled(cell, reports.get(cell.recipe)) for cell in table.cells],
        }
        for table in spec.tables
    ]


def _filled(cell: Cell, report: Mapping[str, Any] | None) -> dict[str, Any]:
    """A cell with the mean and deviation of its score in the report, in the paper's unit; None where the report lacks it."""
    wanted = {"task": cell.task, "input": cell.input, "head": cell.head, "encoder": cell.encoder, "metric": cell.metric}
    summary = (report or {}).get("summary", ())
    score = next((row for row in summary if all(row.get(key) == value for key, value in wanted.items())), None)
    mean, sd = (None, None) if score is None else (score["mean"], score["sd"])
    return {
        "row": cell.row,
        "column": cell.column,
        "published": cell.value,
        "recipe": cell.recipe,
        **wanted,
        "note": cell.note,
        "ours": None if mean is None else mean * cell.scale,
        "sd": None if sd is None else sd * cell.scale,
        "synthetic": bool((report or {}).get("synthetic")),
    }
