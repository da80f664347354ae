"""Lays a recipe over the one that it derives from: a mapping is merged, anything else is replaced, null takes away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..api.errors import Problem
from .document import NAMED, Document, Key, Places, below, dotted, not_there

NULL_IS_A_VALUE: frozenset[Key] = frozenset({("projection", "hidden"), ("probe", "clip")})
"""Keys at which null is unlike leaving the key out; over a base it means there what it means in any recipe."""


def lay_over_base(document: Document, values: dict[str, Any], places: Places) -> list[Problem]:
    """Merge a document, in place, with the values of its base and their places; what is wrong with it."""
    layers = _Layers(document.places, places)
    document.values = layers.merge((), values, document.values)
    document.places, document.taken = layers.places, layers.taken
    return layers.problems


class _Layers:
    """The keys of a base and of a recipe over it, while they become one."""

    def __init__(self, upper: Places, lower: Places) -> None:
        self.upper, self.places = upper, {**lower, (): upper[()]}
        self.taken: set[Key] = set()
        self.problems: list[Problem] = []

    def merge(self, inside: Key, lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
        """The mapping at `inside`, key by key."""
        merged = dict(lower)
        for name, value in upper.items():
            key = (*inside, name)
            old = lower.get(name)
            if value is None and name in lower and key not in NULL_IS_A_VALUE:
                self._place(key)
                self.taken.add(key)
                del merged[name]
            elif value is None and name not in lower and inside in NAMED:
                file, line = self.upper[key]
                self.problems.append(Problem(dotted(key), not_there(lower), line, file))
            elif (both := _alike(key, old, value)) is not None:
                self.places[key] = self.upper[key]
                merged[name] = self.merge(key, *both)
            else:
                self._place(key)
                merged[name] = value
        return merged

    def _place(self, key: Key) -> None:
        """What stands at `key` comes from the upper recipe, and nothing inside it from the base."""
        for old in below(self.places, key):
            del self.places[old]
        self.places |= {one: self.upper[one] for one in below(self.upper, key)}


def _alike(key: Key, lower: Any, upper: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Two mappings that can be merged, or None where the upper value replaces the lower one.

    `tcn` is short for `{use: tcn}`; options of one plug-in mean nothing to another.
    """
    if isinstance(upper, Mapping) and isinstance(lower, str):
        lower = {"use": lower}
    elif isinstance(lower, Mapping) and "use" in lower and isinstance(upper, str):
        upper = {"use": upper}
    if not (isinstance(lower, Mapping) and isinstance(upper, Mapping)):
        return None
    replaced = "use" in lower and "use" in upper and lower["use"] != upper["use"]
    return None if replaced and key not in NAMED else (lower, upper)
