"""What each JSON file of a run folder holds: one schema a file, and limits for all of them. Nobody vouches for what such a file says.

A key that a schema does not name may hold anything within the limits; one that it names and that is not there is no fault unless readers
cannot do without it. Values stay as the file has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .files import BY_NAME, LARGEST, ModelFile, Shape
from .remote import AT_A_URL

DEEPEST = 40
"""Lists and objects within each other that a file may have."""


def shape_of(path: PurePath) -> Callable[[Any], None] | None:
    """What checks the object of a file, or of each of its lines; None for a file of which nothing more is known than the limits.

    It raises ValueError with the place and what is wrong there.
    """
    shape = (
        BY_NAME.get(path.name)
        or AT_A_URL.get(path.name)
        or (ModelFile if path.suffix == ".json" and path.name.count("~") == 2 else None)
    )
    return None if shape is None else _checker(shape)


@cache
def _checker(shape: type[Shape]) -> Callable[[Any], None]:
    adapter = TypeAdapter(shape)

    def check(value: Any) -> None:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part)[:60] for part in first["loc"])
            raise ValueError(f"{place}: {first['msg'][:200]}") from error

    return check


SPARE, FOLD = 2**24, 20
"""Bytes that the values of a text may take in memory: so many, and so many for each character. What mmcl writes takes up to 13 for each."""


def memory_of(text: str) -> int:
    """Bytes that the values of JSON text take in memory, about."""
    return 88 * text.count("[") + 200 * text.count("{") + 50 * text.count(":") + 30 * text.count('"') + 32 * text.count(",")


def require_modest(memory: int, characters: int) -> None:
    """Raise ValueError if the values of so much JSON text would take far more memory than text of mmcl's does, as lists of nothing do."""
    if memory > SPARE + FOLD * characters:
        raise ValueError(f"its {characters:,} characters would take {memory / 2**30:.1f} GiB of memory")


def parsed(text: str) -> Any:
    """JSON within the limits: no number beyond LARGEST, none that is no number, nothing deeper than DEEPEST, no half of a character.

    Raises ValueError with what is wrong.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("lists within lists, too deep to be read") from None
    level, depth = [value], 0
    while level := [one for outer in level if type(outer) in _HOLDERS for one in _inside(outer) if type(one) in _HOLDERS]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists or objects within each other")
    if _SURROGATE.search(text) or _LONG.search(text):
        _check_values(value)
    return value


_HOLDERS = (dict, list)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONG = re.compile(r"\d{19}|[eE]\+?\d{3}")


def _inside(value: dict[str, Any] | list[Any]) -> Any:
    return value.values() if isinstance(value, dict) else value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _check_values(value: Any) -> None:
    if isinstance(value, dict):
        for name, one in value.items():
            _check_values(name)
            _check_values(one)
    elif isinstance(value, list):
        for one in value:
            _check_values(one)
    elif isinstance(value, str):
        if any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ValueError("half of a character (a lone surrogate)")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("a whole number beyond 2**63")
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a number beyond all numbers")
