"""What holds at a key that a recipe leaves out, so that an override inside it is laid over that."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from .document import Key
from .schema import Recipe
from .slots import Section


def default_at(key: Key) -> dict[str, Any]:
    """The mapping that stands for a section's default, as a recipe would have it: which plug-ins and which named heads it uses.

    Options that the default leaves out are left out here too. Empty for a section without a `use`, and for one that is off by default.
    """
    model: type[Section] | None = Recipe
    parts = list(key)
    while model is not None and parts:
        name = parts.pop(0)
        field = model.model_fields.get(str(name))
        if field is None:
            return {}
        if not parts:
            return _brief(field.get_default(call_default_factory=True, validated_data={}))
        inside = list(_sections(field.annotation))
        if typing.get_origin(field.annotation) is dict:
            parts.pop(0)  # a name of the user's choice, of which there is no default
            if not parts:
                return {}
        model = inside[0] if len(inside) == 1 else None  # what is in one of several kinds has no sections of its own
    return {}


def _brief(default: Any) -> dict[str, Any]:
    """A default as a mapping without what the schema fills in by itself."""
    if isinstance(default, dict):
        return {name: _brief(value) for name, value in default.items()}
    return {"use": default.use} if isinstance(default, Section) and hasattr(default, "use") else {}


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for one in typing.get_args(annotation):
        yield from _sections(one)
