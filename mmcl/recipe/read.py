"""Reads a recipe: YAML into plain values, its base under it and overrides over it, with the line of every key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..api.errors import Problem, RecipeError
from .derive import derived
from .form import Document, document_of, lay_over


def read_recipe(path: Path, overrides: Iterable[str] = (), name: str | None = None) -> Document:
    """The recipe in a file, under it the one that its `base` names, and `a.b=c` overrides laid over both.

    Raises RecipeError with every problem of form: bad YAML, a tag, an anchor, a key given twice, a malformed override.
    """
    file = name or str(path)
    return parse_recipe(_text_of(path, file), file, overrides, path.resolve().parent)


def _text_of(path: Path, file: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: is not UTF-8 text (byte {error.start})") from error


def parse_recipe(text: str, file: str, overrides: Iterable[str] = (), folder: Path = Path()) -> Document:
    """As `read_recipe`, from text."""

    def base_of(path: Path, name: str) -> Document:
        return document_of(_text_of(path, name), name, path.resolve().parent)

    document = derived(document_of(text, file, folder), base_of)
    problems: list[Problem] = []
    for override in overrides:
        lay_over(document, override, problems)
    if problems:
        raise RecipeError(problems)
    return document
