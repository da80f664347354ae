"""Looks up what a recipe names, and gathers everything that is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ...api.errors import PluginError, Problem, RecipeError, UnknownNameError
from ...plugins import Plugins
from ..form import Document, Key
from ..plan import Part
from ..schema import NAME, Recipe, Use

ABSENT = object()
"""Where no value stands."""


class Lookup:
    """A recipe that has been read, the plug-ins that it may name, and the problems so far."""

    def __init__(self, document: Document, plugins: Plugins) -> None:
        self.document, self.plugins = document, plugins
        self.problems: list[Problem] = []

    def say(self, key: Key, text: str) -> None:
        """Add a problem at a key."""
        self.problems.append(self.document.problem(key, text))

    def recipe(self) -> Recipe:
        """The recipe's own keys, checked; plug-ins' options are checked later, each by its plug-in."""
        try:
            return Recipe.model_validate(self.document.values)
        except ValidationError as error:
            self.validation(error, (), Recipe)
            # The names are looked up all the same, so that a typo in `use:` is said together with a wrong bound elsewhere.
            self.names(self.document.values)
            raise RecipeError(self.problems) from error

    def names(self, values: Mapping[str, Any]) -> None:
        """Look up the plug-ins that an invalid recipe names, as far as it can be read."""
        objective = inner(inner(values, "pretrain"), "objective")
        uses: list[tuple[str, Key, Any]] = [("dataset", ("dataset",), values.get("dataset"))]
        for name, section in inner(values, "modalities").items():
            if isinstance(section, Mapping):
                uses += [
                    ("modality", ("modalities", name, "features"), section.get("features")),
                    ("backbone", ("modalities", name, "backbone"), section.get("backbone")),
                ]
        uses += [(what, ("pretrain", "objective", what), objective.get(what)) for what in ("loss", "positives")]
        uses.append(("pretext", ("pretrain", "pretext"), inner(values, "pretrain").get("pretext")))
        for name, scorer in inner(values, "scores").items():
            uses.append(("scorer", ("scores", name), scorer))
        for section in ("probe", "supervise"):
            heads = inner(inner(values, section), "heads")
            uses += [("head", (section, "heads", name), head) for name, head in heads.items()]
        for what, key, value in uses:
            use = value.get("use") if isinstance(value, Mapping) else value
            if isinstance(use, str):
                options = (
                    {k: v for k, v in value.items() if k not in ("use", "root", "source")} if isinstance(value, Mapping) else {}
                )
                self.look_up(key, what, use, options)

    def look_up(self, key: Key, what: str, use: str, options: Mapping[str, Any]) -> Part | None:
        """A plug-in with its options, or None and the problems said."""
        try:
            offer = self.plugins.get(what, use)
        except (UnknownNameError, PluginError) as error:
            self.say(key, str(error))
            return None
        try:
            params = offer.spec.params.model_validate(dict(options))
        except ValidationError as error:
            self.validation(error, key, offer.spec.params)
            return None
        return Part(
            what=what,
            use=self.plugins.reach(offer),
            spec=offer.spec,
            params=params,
            package=offer.package,
            version=offer.version,
        )

    def part(self, key: Key, use: Use) -> Part | None:
        """The plug-in that a section of the recipe uses, or None and the problems said."""
        return self.look_up(key, use.what, use.use, use.options)

    def quietly(self, key: Key, use: Use) -> Part | None:
        """The same, where what is wrong with it is told elsewhere."""
        problems = list(self.problems)
        part = self.part(key, use)
        self.problems = problems
        return part

    def validation(self, error: ValidationError, at: Key, model: type[BaseModel]) -> None:
        """Every one of pydantic's errors in words, at the line of its key.

        Where a value may be one thing or another (`float | Literal["next"]`), pydantic says why it is neither: one problem
        of ours, or, if the value has the form of one of them, what is wrong inside.
        """
        either: dict[Key, list[tuple[str, Any]]] = {}
        inside: set[Key] = set()
        errors: list[tuple[Key, Key | None, str, Any]] = []
        for one in error.errors():
            key, choice = self.real_key(at, one["loc"], one["type"] == "missing")
            text, got = self.words(dict(one), at, key, model)
            errors.append((key, choice, text, got))
            if choice == key:
                either.setdefault(key, []).append((text, got))
            elif choice is not None:
                inside.add(choice)
        for key, choice, text, got in errors:
            if choice != key:
                self.say(key, text + got_text(got))
            elif key not in inside and key in either:
                branches = either.pop(key)
                first, *others = dict.fromkeys(text for text, _ in branches)
                self.say(key, " or ".join([first, *(text.removeprefix("must be ") for text in others)]) + got_text(got))

    def words(self, one: Mapping[str, Any], at: Key, key: Key, model: type[BaseModel]) -> tuple[str, Any]:
        """One of pydantic's errors in words, and the value to show after them (or ABSENT for none)."""
        kind, value, about = one["type"], one["input"], one.get("ctx", {})
        if kind == "missing":
            return "is missing", ABSENT
        if kind == "extra_forbidden":
            known = keys_of(model, key[len(at) : -1], self.document.values if at == () else None)
            near = difflib.get_close_matches(str(key[-1]), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}" if known else ""
            return f"is not a key here{hint}", ABSENT
        if kind == "union_tag_invalid":
            kinds = str(about["expected_tags"]).replace("'", "")
            if isinstance(value, Mapping) and "use" not in value:
                return f"needs 'use:', one of {kinds}", ABSENT
            return f"must name one of {kinds}", use_of(value)
        if kind == "tuple_type":
            return f"must be a list, such as [{show(value)}]", value
        if kind in ("model_type", "dict_type"):
            slot = next((one for one in Use.__subclasses__() if one.__name__ == about.get("class_name")), None)
            return f"must name a {slot.what}, as NAME or {{use: NAME, …}}" if slot else "must be a mapping of keys", value
        if kind == "too_short":
            return f"needs at least {about['min_length']}, has {about['actual_length']}", ABSENT
        if kind == "string_pattern_mismatch" and about["pattern"] == NAME:
            return "must begin with a letter or digit and hold only letters, digits, '.', '_' and '-'", value
        text = str(one["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
        of_itself = kind == "value_error" and isinstance(value, tuple | Mapping)  # the sentence says what stands there
        return text[:1].lower() + text[1:], ABSENT if of_itself else value

    def real_key(self, at: Key, loc: tuple[str | int, ...], missing: bool) -> tuple[Key, Key | None]:
        """A pydantic location as a key of the recipe, and the innermost key on the way whose value may be one of several.

        For such a value the location also names which of them was tried; that is no key, and neither is a validator.
        """
        key: list[str | int] = list(at)
        value: Any = self.document.values
        choice: Key | None = None
        for part in at:
            value = item(value, part)
        for i, part in enumerate(loc):
            inside = item(value, part)
            if inside is ABSENT and not (missing and i == len(loc) - 1):
                choice = tuple(key)
                continue
            key.append(part)
            value = inside
        return tuple(key), choice


def item(value: Any, part: str | int) -> Any:
    """What stands under a key, or ABSENT."""
    if isinstance(value, Mapping):
        return value.get(part, ABSENT) if isinstance(part, str) else ABSENT
    if isinstance(value, tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return ABSENT


def inner(values: Any, name: str) -> Mapping[str, Any]:
    """A mapping inside a mapping, or an empty one."""
    inside = values.get(name) if isinstance(values, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}


def use_of(value: Any) -> Any:
    """The name of the plug-in that a value uses, in its short form or its long one."""
    return value.get("use") if isinstance(value, Mapping) else value


def got_text(value: Any) -> str:
    """The end of a sentence that says what stands there."""
    return "" if value is ABSENT else f", got {show(value)}"


def show(value: Any) -> str:
    """A value as the recipe writes it."""
    if isinstance(value, Mapping | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    return f"'{value}'" if isinstance(value, str) else str(value)


def keys_of(model: type[BaseModel], inside: Key, values: Any) -> list[str]:
    """The keys that are allowed in the section where an unknown one was found."""
    import types
    import typing

    def models(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        if typing.get_origin(annotation) in (dict, Mapping):
            return models(typing.get_args(annotation)[1])
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
            return [m for a in typing.get_args(annotation) for m in models(a)]
        return []

    here = [model]
    for part in inside:
        values = item(values, part) if values is not None else None
        step = [m for one in here if part in one.model_fields for m in models(one.model_fields[str(part)].annotation)]
        here = step or here  # a name inside a mapping (modalities.audio): the section stays the same
        use = values.get("use") if isinstance(values, Mapping) else None
        chosen = [m for m in here if "use" in m.model_fields and use in typing.get_args(m.model_fields["use"].annotation)]
        here = chosen or here
    return sorted({name for one in here for name in one.model_fields})
