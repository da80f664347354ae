"""The recipe's own keys, checked; the plug-ins' options are checked later, each by its plug-in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ...api.deprecation import Deprecated
from ..document import Key
from ..schema import Recipe
from ..slots import Section
from .problems import Problems
from .validation import in_words


def checked(problems: Problems) -> Recipe:
    """The recipe with every default. Raises RecipeError where a key is wrong, with the names that are wrong elsewhere."""
    values = problems.document.values
    try:
        recipe = Recipe.model_validate(values)
        for key, deprecated in _deprecated(recipe):
            problems.deprecate(key, deprecated)
        return recipe
    except ValidationError as error:
        for key, text in in_words(error, values, Recipe):
            problems.add(key, text)
        # The names are looked up all the same, so that a typo in `use:` is told together with a wrong bound elsewhere.
        for what, key, value in _places(values):
            use = value.get("use") if isinstance(value, Mapping) else value
            own = ("use", "root", "source", "standardise", "weight", "modalities")
            options = {k: v for k, v in value.items() if k not in own} if isinstance(value, Mapping) else {}
            if isinstance(use, str):
                problems.look_up(key, what, use, options)
        problems.stop(error)
        raise  # never: pydantic's error holds one problem at least


def _deprecated(value: Any, key: Key = ()) -> Iterator[tuple[Key, Deprecated]]:
    """Every key of a recipe's sections that is given and will go."""
    inner: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Section):
        given = [name for name in type(value).model_fields if name in value.model_fields_set]
        yield from (((*key, name), value.DEPRECATED[name]) for name in given if name in value.DEPRECATED)
        inner = ((name, getattr(value, name)) for name in given)
    elif isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, tuple):
        inner = enumerate(value)
    for name, one in inner:
        yield from _deprecated(one, (*key, name))


def _places(values: Mapping[str, Any]) -> Iterator[tuple[str, Key, Any]]:
    """Where an invalid recipe names plug-ins, as far as it can be read: their kind, the key and what stands there."""
    yield "dataset", ("dataset",), values.get("dataset")
    for name, section in _inner(values, "modalities").items():
        if isinstance(section, Mapping):
            yield "modality", ("modalities", name, "features"), section.get("features")
            yield "backbone", ("modalities", name, "backbone"), section.get("backbone")
    pretrain = _inner(values, "pretrain")
    for what in ("loss", "positives"):
        yield what, ("pretrain", "objective", what), _inner(pretrain, "objective").get(what)
    yield "group-loss", ("pretrain", "objective", "group"), _inner(pretrain, "objective").get("group")
    yield "sampler", ("pretrain", "sampler"), pretrain.get("sampler")
    yield "pretext", ("pretrain", "pretext"), pretrain.get("pretext")
    for name, scorer in _inner(values, "scores").items():
        yield "scorer", ("scores", name), scorer
    yield "sampler", ("supervise", "sampler"), _inner(values, "supervise").get("sampler")
    for stage in ("probe", "supervise"):
        for name, head in _inner(_inner(values, stage), "heads").items():
            yield "head", (stage, "heads", name), head


def _inner(values: Any, name: str) -> Mapping[str, Any]:
    """A mapping inside a mapping, or an empty one."""
    inside = values.get(name) if isinstance(values, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}
