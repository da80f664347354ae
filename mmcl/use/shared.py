"""What every way of giving a run away asks: a run, a place of its own for what is given, and nothing in it of the machine that made it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..api.errors import StageError

PATH = re.compile(r"^(~|/|[A-Za-z]:[\\/]|\\\\|\.{1,2}[\\/])")
"""How a path of a machine begins."""


def require_run(root: Path) -> None:
    """Raise StageError unless a run folder is a folder."""
    if not root.is_dir():
        what = "no folder" if root.exists() else "not there"
        raise StageError(f"{root}: is {what}; a run folder such as runs/NAME was expected")


def empty_place(folder: Path) -> None:
    """Raise StageError unless a folder is new or empty, so that nobody's file is overwritten."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a link" if folder.is_symlink() else "no folder"
        raise StageError(f"{folder}: is {what}; give a new or an empty one")
    inside = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if inside:
        raise StageError(f"{folder}: holds {inside[0]}{' and more' if len(inside) > 1 else ''}; give a new or an empty folder")


def without_paths(value: Any) -> Any:
    """The same JSON value, with the last part alone of every path of this machine."""
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(one) for one in value]
    if isinstance(value, str) and PATH.match(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] or "."
    return value
