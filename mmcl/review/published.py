"""A paper's tables filled from run folders: every cell from the report.json of the recipe that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api.errors import DataError
from ..api.published import Cell, PublishedSpec


def found_runs(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """report.json of each run folder, by the name of its recipe; of several with one name the newest.

    Raises DataError if a folder holds no readable report.json.
    """
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    for folder in folders:
        path = folder / "report.json"
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            name, written = str(said["name"]), path.stat().st_mtime
        except FileNotFoundError:
            raise DataError(
                f"{folder}: holds no report.json; name run folders, such as runs/NAME, that `mmcl run` has finished"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is no report of a run ({error}); write it again with `mmcl report {folder}`") from error
        if name not in found or written > found[name][0]:
            found[name] = written, said
    return {name: said for name, (_, said) in found.items()}


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
    wanted = {"task": cell.task, "input": cell.input, "head": cell.head, "encoder": cell.encoder, "metric": cell.metric}
    said = next(
        (row for row in (report or {}).get("summary", ()) if all(row.get(key) == value for key, value in wanted.items())), None
    )
    mean, sd = (None, None) if said is None else (said["mean"], said["sd"])
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
