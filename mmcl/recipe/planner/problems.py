"""Gathers what is wrong with a recipe, so that all of it is said at once, while plug-ins are looked up."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ...api.deprecation import Deprecated
from ...api.errors import PluginError, Problem, RecipeError, UnknownNameError
from ...plugins import Plugins
from ..document import Document, Key, dotted, without
from ..plan import Part
from ..slots import Use
from .validation import in_words


class Problems:
    """The problems of one recipe, each at the line of its key, and where its names are looked up."""

    def __init__(self, document: Document, plugins: Plugins) -> None:
        self.document, self.plugins = document, plugins
        self._problems: list[Problem] = []
        self.outdated: list[str] = []  # what the recipe has that will go, a sentence each

    def add(self, key: Key, text: str) -> None:
        """Note that `key` is wrong; `text` goes on after its name."""
        self._problems.append(self.document.problem(key, text))

    def deprecate(self, key: Key, deprecated: Deprecated) -> None:
        """Note that the recipe has something at `key` that will go."""
        place = str(self.document.problem(key, "")).rpartition(f"{dotted(key)}: ")[0]
        sentence = place + deprecated.sentence(dotted(key))
        if sentence not in self.outdated:
            self.outdated.append(sentence)

    def stop(self, cause: Exception | None = None) -> None:
        """Raise RecipeError with all problems, if there are any: the recipe's own first, then those of its base."""
        if self._problems:
            raise RecipeError(sorted(self._problems, key=lambda one: one.file != self.document.file)) from cause

    def apart(self) -> Problems:
        """A list of its own for the same recipe: for what is looked up twice, and is wrong once."""
        other = Problems(self.document, self.plugins)
        other.outdated = self.outdated
        return other

    def part(self, key: Key, use: Use) -> Part | None:
        """The plug-in that stands at `key`, or None and its problems noted."""
        return self.look_up(key, use.what, use.use, use.options)

    def look_up(self, key: Key, what: str, use: str, options: Mapping[str, Any]) -> Part | None:
        """A plug-in with its options, or None and its problems noted."""
        try:
            offer = self.plugins.get(what, use)
        except (UnknownNameError, PluginError) as error:
            self.add(key, str(error))
            return None
        for name in [name for name in options if (*key, name) in self.document.lenient]:
            if name not in offer.spec.params.model_fields:  # a preset's option, for whoever has it
                without(self.document.values, (*key, name))
                options = {other: value for other, value in options.items() if other != name}
        try:
            params = offer.spec.params.model_validate(dict(options))
        except ValidationError as error:
            for wrong, text in in_words(error, self.document.values, offer.spec.params, key):
                self.add(wrong, text)
            return None
        self._check_nulls(key, params)
        for name in options:
            if name in offer.spec.params.DEPRECATED:
                self.deprecate((*key, name), offer.spec.params.DEPRECATED[name])
        return Part(
            what=what,
            use=self.plugins.reach(offer),
            spec=offer.spec,
            params=params,
            package=offer.package,
            version=offer.version,
            code=offer.code,
        )

    def _check_nulls(self, key: Key, params: BaseModel) -> None:
        """Note a null over a base's option at which null would be a value of its own, unlike the default that holds now."""
        for name, field in type(params).model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            nullable = type(None) in typing.get_args(field.annotation)
            if (*key, name) in self.document.taken and nullable and default is not None:
                self.add(
                    (*key, name),
                    f"null takes away what the base has, so that the default, {default}, would hold; "
                    f"for null itself: --set {dotted((*key, name))}=",
                )


def has(owner: str, what: str, names: Mapping[str, Any]) -> str:
    """The end of a sentence that says what there is in place of something unknown."""
    return f"'{owner}' has the {what} {', '.join(names)}" if names else f"'{owner}' has no {what}"
