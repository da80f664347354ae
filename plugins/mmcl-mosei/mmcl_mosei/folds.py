"""The standard folds: which video stands in which split, from JSON or from the SDK's own module, which is read and never run."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcl.api import DataError
from mmcl.media import read_text

from . import GET

SPLITS = ("train", "valid", "test")
IN_MODULE = {split: f"standard_{split}_fold" for split in SPLITS}


def read_folds(path: Path, corpus: str) -> dict[str, str]:
    """Video → split.

    path    {"train": [...], "valid": [...], "test": [...]} in JSON, or one such under each corpus' name; or the SDK's module (.py)
    corpus  "mosei" or "mosi"

    Raises DataError if the file is missing or malformed, or a video stands in two splits.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: is not there; it names the videos of the standard folds (folds: none does without). {GET}"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8; lists of video ids were expected") from error
    lists = _of_module(path, text) if path.suffix == ".py" else _of_json(path, text, corpus)
    folds: dict[str, str] = {}
    for split in SPLITS:
        for video in lists[split]:
            if folds.setdefault(str(video), split) != split:
                raise DataError(f"{path}: video '{video}' stands in {folds[str(video)]} and in {split}")
    return folds


def _of_json(path: Path, text: str, corpus: str) -> Mapping[str, Any]:
    try:
        lists = json.loads(text)
        lists = lists.get(corpus, lists)  # a file may hold the folds of several corpora
        return {split: list(lists[split]) for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path}: must be {{"train": [...], "valid": [...], "test": [...]}} of video ids ({error!r})'
        ) from error


def _of_module(path: Path, text: str) -> Mapping[str, Any]:
    """The lists that the SDK's module gives names to. Their literals alone are looked at: nothing of the module is run."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{path}: is no module of Python ({error}); the SDK's module of folds was expected") from error
    values = {
        target.id: statement.value
        for statement in body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    lists = {}
    for split, name in IN_MODULE.items():
        try:
            lists[split] = [str(video) for video in ast.literal_eval(values[name])]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}: needs a plain list called {name}, as in the SDK's module of folds") from error
    return lists
