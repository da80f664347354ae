"""Plans the sections `protocol` and `window`, and what needs a package that may not be installed."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ..form import Key
from ..plan import ModalityPlan
from ..schema import Folds, Recipe
from .lookup import Lookup


def folds(look: Lookup, recipe: Recipe) -> tuple[str, dict[str, str] | None]:
    """The folds of a CSV file: what it is keyed by, and key → fold."""
    protocol = recipe.protocol
    if not isinstance(protocol, Folds):
        return "group", None
    key: Key = ("protocol", "file")
    path = Path(protocol.file) if Path(protocol.file).is_absolute() else look.document.folder / protocol.file
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = [c.strip() for c in reader.fieldnames or ()]
            by = "group" if "group" in columns else "id"
            if by not in columns or "fold" not in columns:
                look.say(key, f"{path}: needs the columns 'group' (or 'id') and 'fold', has {', '.join(columns) or 'none'}")
                return "group", None
            fold_of: dict[str, str] = {}
            for row in reader:
                row = {(k or "").strip(): (v or "").strip() for k, v in row.items() if not isinstance(v, list)}
                if fold_of.setdefault(row[by], row["fold"]) != row["fold"]:
                    look.say(
                        key,
                        f"{path}:{reader.line_num}: {by} '{row[by]}' stands in fold {fold_of[row[by]]} and in fold {row['fold']}",
                    )
                if not row["fold"]:
                    look.say(key, f"{path}:{reader.line_num}: {by} '{row[by]}' has no fold")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        look.say(key, f"{path}: cannot be read as CSV ({error.strerror if isinstance(error, OSError) else error})")
        return "group", None
    if len(set(fold_of.values())) < 2:
        look.say(key, f"{path}: has {len(set(fold_of.values()))} fold; at least two are needed")
    return by, fold_of


def windows(look: Lookup, recipe: Recipe, modalities: Sequence[ModalityPlan]) -> None:
    """Say what is wrong with the window."""
    if recipe.window.share is not None and recipe.window.seconds is not None:
        look.say(("window", "share"), "stands in place of window.seconds; keep one of the two")
    if recipe.window.embed != "whole" and recipe.window.hop and not recipe.window.seconds:
        look.say(("window", "hop"), "needs window.seconds")
    rates = [m.layout.rate for m in modalities if m.layout.rate]
    for name, seconds in (("seconds", recipe.window.seconds), ("hop", recipe.window.hop)):
        if seconds and rates and seconds * max(rates) < 1 - 1e-9:  # thousands of windows, all of one step
            look.say(
                ("window", name),
                f"{seconds:g} s are shorter than a step of any modality; the fastest has {max(rates):g} a second",
            )


def extras(look: Lookup, recipe: Recipe) -> None:
    """Say what is asked for and not installed."""
    if recipe.worth is not None and "umap" in recipe.worth.maps and importlib.util.find_spec("umap") is None:
        look.say(("worth", "maps"), "umap is not installed: pip install 'mmcl[umap]'")
    if "tensorboard" in recipe.track and importlib.util.find_spec("tensorboard") is None:
        look.say(("track",), "tensorboard is not installed: pip install 'mmcl[track]'")
