"""Derives a recipe from another: `base: NAME-or-file`, and the differences.

A mapping is merged key by key, a list replaced, `key: null` takes a key away (where null is a value of that key, such as
`projection.hidden`, it is that value). A part whose `use:` changes is replaced whole: options of one plug-in mean nothing to another.
There is one level: what a reader has to look up is two files at most.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..api.errors import MmclError, RecipeError
from .form import Document, Key, as_yaml
from .schema import Recipe
from .shipped import find

Places = dict[Key, tuple[str, int | None]]


def derived(document: Document, read: typing.Callable[[Path, str], Document]) -> Document:
    """The document with its base's values under its own; the same document where it names none.

    read  reads the base: (path, what messages call it) → Document, with a base of its own left as it is

    Raises RecipeError where the base is not to be found, cannot be read, or has a base itself.
    """
    if "base" not in document.values:
        return document
    name = document.values["base"]
    if not isinstance(name, str) or not name:
        raise RecipeError([document.problem(("base",), "must name a recipe: a shipped one, or a file beside this one")])
    if "name" not in document.values:
        raise RecipeError([document.problem(("name",), f"is missing; its base's name is that of another run: '{name}'")])
    path = _path(document, name)
    base = read(path, name if name.endswith((".yaml", ".yml")) else str(path))
    if "base" in base.values:
        text = f"'{name}' has a base itself ({base.values['base']}); derive from one that stands on its own"
        raise RecipeError([document.problem(("base",), text)])
    places: Places = {}
    anchored = _anchored(base, document.folder)
    own = {key: value for key, value in document.values.items() if key != "base"}
    values = _merged(anchored, own, (), base.places, document.places, places)
    places[()] = document.places[()]
    head = [line for line in document.text.splitlines() if line.startswith("#")]
    whole = "\n".join([*head, f"# Derived from '{name}', with everything written out."]) + "\n" + as_yaml(values)
    return replace(document, values=values, places=places, whole=whole)


def _path(document: Document, name: str) -> Path:
    """The base's file: beside this one if it is written as a file, else a shipped recipe."""
    beside = document.folder / Path(name).expanduser()
    if beside.is_file():
        return beside
    try:
        path = find(name)
    except MmclError as error:
        raise RecipeError([document.problem(("base",), str(error).removeprefix(f"{document.file}: "))]) from error
    if path.is_file() and path == Path(name):  # found from the current folder, where nobody expects it
        raise RecipeError([document.problem(("base",), f"there is no file {beside}")])
    return path


def _anchored(base: Document, folder: Path) -> dict[str, Any]:
    """The base's values; a file that it names by its own folder is named from anywhere, if the two recipes lie apart."""
    protocol = base.values.get("protocol")
    if base.folder.resolve() == folder.resolve() or not isinstance(protocol, dict) or not isinstance(protocol.get("file"), str):
        return base.values
    return {**base.values, "protocol": {**protocol, "file": str((base.folder / protocol["file"]).resolve())}}


def _merged(base: Any, own: Any, key: Key, theirs: Places, ours: Places, places: Places) -> Any:
    """What stands at a key, and in `places` where it and everything inside it was written."""
    if isinstance(own, str) and isinstance(base, Mapping) and "use" in base:
        own = {"use": own}  # `head: linear` is short for `head: {use: linear}`
    if isinstance(base, str) and isinstance(own, Mapping):
        base = {"use": base}
    another = isinstance(own, Mapping) and isinstance(base, Mapping) and own.get("use", base.get("use")) != base.get("use")
    if not isinstance(own, Mapping) or not isinstance(base, Mapping) or another:
        _copy(ours, key, places)
        if isinstance(own, Mapping) and another:
            return {name: value for name, value in own.items() if value is not None or nullable((*key, name))}
        return own
    if key in ours:
        places[key] = ours[key]
    values: dict[str, Any] = {}
    for name in dict.fromkeys((*base, *own)):
        at = (*key, name)
        if name not in own:
            values[name] = base[name]
            _copy(theirs, at, places)
        elif own[name] is None and name in base and not nullable(at):
            continue
        elif name not in base:
            values[name] = own[name]
            _copy(ours, at, places)
        else:
            values[name] = _merged(base[name], own[name], at, theirs, ours, places)
    return values


def _copy(source: Places, key: Key, target: Places) -> None:
    for at, place in source.items():
        if at[: len(key)] == key:
            target[at] = place


def nullable(key: Key) -> bool:
    """Whether null is a value of a key and not its default, so that `key: null` says something."""
    here: list[type[BaseModel]] = [Recipe]
    field = None
    for part in key:
        if isinstance(part, int):
            return False
        fields = [model.model_fields[part] for model in here if part in model.model_fields]
        if fields:
            field = fields[0]
            here = [model for each in fields for model in _models(each.annotation)]
        else:
            field = None  # a name of the user's choice, or an option of a plug-in: the section stays the same
    return (
        field is not None
        and type(None) in typing.get_args(field.annotation)
        and field.get_default(call_default_factory=True) is not None
    )


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for one in typing.get_args(annotation) for model in _models(one)]
    return []
