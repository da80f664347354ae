"""The sections `protocol` and `window`: who is tested, by which folds, and which span of time is cut."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ...api.dataset import DatasetInfo
from ...text import read_text
from ..document import Key
from ..plan import ModalityPlan
from ..schema import Folds, Recipe
from .problems import Problems


def folds_of(recipe: Recipe, problems: Problems) -> tuple[str, dict[str, str] | None]:
    """The folds of a CSV file: what it is keyed by, and key → fold."""
    protocol = recipe.protocol
    if not isinstance(protocol, Folds):
        return "group", None
    key: Key = ("protocol", "file")
    path = Path(protocol.file) if Path(protocol.file).is_absolute() else problems.document.folder / protocol.file
    try:
        with io.StringIO(read_text(path), newline="") as file:
            reader = csv.DictReader(file)
            columns = [c.strip() for c in reader.fieldnames or ()]
            by = "group" if "group" in columns else "id"
            if by not in columns or "fold" not in columns:
                problems.add(key, f"{path}: needs the columns 'group' (or 'id') and 'fold', has {', '.join(columns) or 'none'}")
                return "group", None
            folds: dict[str, str] = {}
            for row in reader:
                row = {(k or "").strip(): (v or "").strip() for k, v in row.items() if not isinstance(v, list)}
                name, fold, line = row[by], row["fold"], f"{path}:{reader.line_num}"
                if folds.setdefault(name, fold) != fold:
                    problems.add(key, f"{line}: {by} '{name}' stands in fold {folds[name]} and in fold {fold}")
                if not fold:
                    problems.add(key, f"{line}: {by} '{name}' has no fold")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        problems.add(key, f"{path}: cannot be read as CSV ({reason})")
        return "group", None
    if len(set(folds.values())) < 2:
        problems.add(key, f"{path}: has {len(set(folds.values()))} fold; at least two are needed")
    return by, folds


def check_official(recipe: Recipe, info: DatasetInfo | None, problems: Problems) -> None:
    """Note where the dataset's own splits are asked for and it has none."""
    if recipe.protocol.use == "official" and info and "test" not in info.official:
        problems.add(
            ("protocol",),
            f"'{recipe.dataset.use}' has no official test split; use hold-out, k-fold, folds or leave-one-group-out",
        )


def check_compiled(recipe: Recipe, modalities: Sequence[ModalityPlan], problems: Problems) -> None:
    """Note networks that cannot be translated once for all batches."""
    known = {m.name: m for m in modalities}
    for k, name in enumerate(recipe.pretrain.compile):
        key = ("pretrain", "compile", k)
        if recipe.pretrain.sync_batchnorm or recipe.pretrain.shard:
            problems.add(key, "has not been tried beside sync_batchnorm or shard; leave one of them out")
        elif recipe.pretrain.pretext is not None:
            problems.add(
                key, "is for networks of single modalities, and pretrain.pretext puts one of all in their place; leave it out"
            )
        elif name not in recipe.modalities:
            problems.add(key, f"is no modality of this recipe: {', '.join(recipe.modalities)}")
        elif (
            (one := known.get(name)) is not None and one.layout.timed and (not one.layout.rate or recipe.window.seconds is None)
        ):
            why = (
                f"the steps of {name} come at no fixed rate"
                if not one.layout.rate
                else "windows differ in length without window.seconds"
            )
            problems.add(key, f"{why}, and its network would be translated again and again; leave it out")


def check_window(recipe: Recipe, modalities: Sequence[ModalityPlan], problems: Problems) -> None:
    """Note what cannot be cut from these streams."""
    window = recipe.window
    if window.share is not None and window.seconds is not None:
        problems.add(("window", "share"), "stands in place of window.seconds; keep one of the two")
    if window.embed != "whole" and window.hop and not window.seconds:
        problems.add(("window", "hop"), "needs window.seconds")
    rates = [m.layout.rate for m in modalities if m.layout.rate]
    for name, seconds in (("seconds", window.seconds), ("hop", window.hop)):
        if seconds and rates and seconds * max(rates) < 1 - 1e-9:  # thousands of windows, all of one step
            problems.add(
                ("window", name),
                f"{seconds:g} s are shorter than a step of any modality; the fastest has {max(rates):g} a second",
            )
