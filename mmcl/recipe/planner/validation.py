"""Pydantic's errors in the words of a recipe: which key, what it must be, and what stands there."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ..document import Key
from ..read import scalar
from ..schema import NAME
from ..slots import Use

_ABSENT = object()

MOST = 1000
"""Errors that are put in words: a recipe with more of them is no recipe, and each takes a millisecond."""


def in_words(
    error: ValidationError, values: Mapping[str, Any], model: type[BaseModel], at: Key = ()
) -> Iterator[tuple[Key, str]]:
    """Every one of pydantic's errors as a key of the recipe and the sentence that goes on after it.

    values  the whole recipe
    model   what was validated, which stands at key `at`

    Where a value may be one thing or another (`float | Literal["next"]`), pydantic says why it is neither: one problem
    of ours, or, if the value has the form of one of them, what is wrong inside.
    """
    either: dict[Key, list[tuple[str, Any]]] = {}
    inside: set[Key] = set()
    sentences: list[tuple[Key, Key | None, str, Any]] = []
    for one in error.errors()[:MOST]:
        key, choice = _real_key(values, at, one["loc"], one["type"] == "missing")
        text, got = _sentence(dict(one), values, at, key, model)
        sentences.append((key, choice, text, got))
        if choice == key:
            either.setdefault(key, []).append((text, got))
        elif choice is not None:
            inside.add(choice)
    for key, choice, text, got in sentences:
        if choice != key:
            yield key, text + _got(got)
        elif key not in inside and key in either:
            branches = either.pop(key)
            first, *others = dict.fromkeys(text for text, _ in branches)
            yield key, " or ".join([first, *(text.removeprefix("must be ") for text in others)]) + _got(got)


def _real_key(values: Mapping[str, Any], at: Key, location: tuple[str | int, ...], missing: bool) -> tuple[Key, Key | None]:
    """A pydantic location as a key of the recipe, and the innermost key on the way whose value may be one of several.

    For such a value the location also names which of them was tried; that is no key, and neither is a validator.
    """
    key: list[str | int] = list(at)
    value: Any = values
    choice: Key | None = None
    for part in at:
        value = _item(value, part)
    for i, part in enumerate(location):
        inside = _item(value, part)
        if inside is _ABSENT and not (missing and i == len(location) - 1):
            choice = tuple(key)
            continue
        key.append(part)
        value = inside
    return tuple(key), choice


def _sentence(
    error: Mapping[str, Any], values: Mapping[str, Any], at: Key, key: Key, model: type[BaseModel]
) -> tuple[str, Any]:
    """One of pydantic's errors in words, and the value to show after them (or _ABSENT for none)."""
    kind, value, about = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is missing", _ABSENT
    if kind == "extra_forbidden":
        known = _keys_of(model, key[len(at) : -1], values if at == () else None)
        near = difflib.get_close_matches(str(key[-1]), known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}" if known else ""
        return f"is not a key here{hint}", _ABSENT
    if kind == "union_tag_invalid":
        kinds = str(about["expected_tags"]).replace("'", "")
        if isinstance(value, Mapping) and "use" not in value:
            return f"needs 'use:', one of {kinds}", _ABSENT
        return f"must name one of {kinds}", value.get("use") if isinstance(value, Mapping) else value
    if kind == "tuple_type":
        return f"must be a list, such as [{_show(value)}]", value
    if kind in ("model_type", "dict_type"):
        slot = next((one for one in Use.__subclasses__() if one.__name__ == about.get("class_name")), None)
        return f"must name a {slot.what}, as NAME or {{use: NAME, …}}" if slot else "must be a mapping of keys", value
    if kind == "too_short":
        return f"needs at least {about['min_length']}, has {about['actual_length']}", _ABSENT
    if kind == "string_pattern_mismatch" and about["pattern"] == NAME:
        return "must begin with a letter or digit and hold only letters, digits, '.', '_' and '-'", value
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
    text += _remedy(kind, value)
    of_itself = kind == "value_error" and isinstance(value, tuple | Mapping)  # the sentence shows what is wrong
    return text[:1].lower() + text[1:], _ABSENT if of_itself else value


def _remedy(kind: str, value: Any) -> str:
    """What to write instead, where it can be seen what is meant: a number in quotes, 1e2 for a whole number, True or yes."""
    if kind == "bool_type" and isinstance(value, str):
        meant = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}.get(
            value.lower()
        )
        return f" (write {meant})" if meant else " (true or false)"
    if kind not in ("int_type", "float_type"):
        return ""
    number = scalar(value.strip()) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        return ""
    if kind == "int_type":
        return f" (write {int(number)})" if math.isfinite(number) and number == int(number) else ""
    return f" (write {value.strip()} without quotes)" if isinstance(value, str) else ""


def _item(value: Any, part: str | int) -> Any:
    """What stands under a key, or _ABSENT."""
    if isinstance(value, Mapping):
        return value.get(part, _ABSENT) if isinstance(part, str) else _ABSENT
    if isinstance(value, tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return _ABSENT


def _got(value: Any) -> str:
    """The end of a sentence that says what stands there."""
    return "" if value is _ABSENT else f", got {_show(value)}"


def _show(value: Any) -> str:
    """A value as the recipe writes it."""
    if isinstance(value, Mapping | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    return f"'{value}'" if isinstance(value, str) else str(value)


def _keys_of(model: type[BaseModel], inside: Key, values: Any) -> list[str]:
    """The keys that are allowed in the section where an unknown one stands."""
    here = [model]
    for part in inside:
        values = _item(values, part) if values is not None else None
        step = [m for one in here if part in one.model_fields for m in _models(one.model_fields[str(part)].annotation)]
        here = step or here  # a name inside a mapping (modalities.audio): the section stays the same
        use = values.get("use") if isinstance(values, Mapping) else None
        chosen = [m for m in here if "use" in m.model_fields and use in typing.get_args(m.model_fields["use"].annotation)]
        here = chosen or here
    return sorted({name for one in here for name in one.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a value of this type may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (dict, Mapping):
        return _models(typing.get_args(annotation)[1])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for one in typing.get_args(annotation) for model in _models(one)]
    return []
