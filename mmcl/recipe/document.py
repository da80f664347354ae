"""A recipe as read: its values, and the file and line at which each of its keys stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..api.errors import Problem

Key = tuple[str | int, ...]

Places = dict[Key, tuple[str, int | None]]
"""Key → file and line, or "--set" and None."""

NAMED: tuple[Key, ...] = (("modalities",), ("probe", "heads"), ("supervise", "heads"), ("scores",))
"""Sections whose keys are names of the user's choice: an empty override takes one away."""


@dataclass(frozen=True)
class Base:
    """The recipe that another one derives from, as read."""

    name: str  # as the other one names it
    text: str
    file: str  # as messages call it
    folder: Path


@dataclass
class Document:
    """A recipe as read: its values, and where each key stands (file and line, or "--set")."""

    values: dict[str, Any]
    file: str
    text: str  # as written
    places: Places = field(default_factory=dict)
    folder: Path = Path()
    base: Base | None = None
    whole: str = ""  # enough to run it again without its base: as written, or with the base merged; overrides are not in it
    taken: set[Key] = field(default_factory=set)  # keys of the base that a null took away
    lenient: set[Key] = field(default_factory=set)  # keys that an `a.b?=c` has set

    def problem(self, key: Key, text: str) -> Problem:
        """A problem at `key`, placed at the line of the key or of the nearest one around it."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.places:
                file, line = self.places[key[:end]]
                return Problem(dotted(key), text, line, file)
        return Problem(dotted(key), text, None, self.file)


def without(values: dict[str, Any], key: Key) -> None:
    """Take a key out of the values."""
    inner: Any = values
    for part in key[:-1]:
        inner = inner[part]
    del inner[key[-1]]


def dotted(key: Key) -> str:
    """A key as people write it: probe.heads.linear.l2[1]."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def not_there(names: Iterable[str]) -> str:
    """Why a name of the user's choice cannot be taken away."""
    return f"is not there to be taken away; there are {', '.join(names) or 'none'}"


def below(places: Places, key: Key) -> list[Key]:
    """`key` and the keys inside it that have a place."""
    return [one for one in places if one[: len(key)] == key]


def anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with a relative file of folds found from any folder, rather than from the recipe's."""
    protocol = values.get("protocol")
    if not isinstance(protocol, dict) or not isinstance(protocol.get("file"), str):
        return values
    return {**values, "protocol": {**protocol, "file": str((folder / protocol["file"]).resolve())}}
