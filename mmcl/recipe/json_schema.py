"""The JSON schema of a recipe, with every installed plug-in's options, for editors and other programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..plugins import Plugins
from .schema import Recipe
from .slots import (
    Use,
    UseBackbone,
    UseDataset,
    UseGroupLoss,
    UseHead,
    UseLoss,
    UseModality,
    UsePositives,
    UsePretext,
    UseSampler,
    UseScorer,
)

SLOTS: tuple[type[Use], ...] = (
    UseDataset,
    UseModality,
    UseBackbone,
    UseLoss,
    UseGroupLoss,
    UsePositives,
    UseSampler,
    UseHead,
    UseScorer,
    UsePretext,
)

CHANGES = "changes."
"""Prefix of the definitions for recipes that derive from another."""

_REF = "#/$defs/"


def json_schema(plugins: Plugins) -> dict[str, Any]:
    """A JSON schema (2020-12) in which every `use:` knows the options of what it names.

    It refuses what a plan refuses by form alone: names, types, bounds and unknown keys, but not what two parts say of each other.
    """
    schema = Recipe.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for section in (schema, *list(definitions.values())):
        for inner in _nested(section):
            if "oneOf" in inner:
                _kinds(inner, definitions)
    for slot in SLOTS:
        beside = dict(
            definitions.get(slot.__name__, {}).get("properties", {})
        )  # what a recipe may say of any plug-in of this kind
        beside.pop("use", None)
        choices: list[dict[str, Any]] = []
        short: list[str] = []
        for name, offer in plugins.all(slot.what):
            own = _apart(offer.spec.params.model_json_schema(), f"{slot.what}.{name}.")
            definitions |= own.pop("$defs", {})
            properties = {"use": {"const": name, "description": offer.spec.summary}, **beside, **own.get("properties", {})}
            if slot is UseDataset and not offer.spec.needs_root:
                del properties["root"]
            needed = own.get("required", [])
            if not needed:
                short.append(name)
            choices.append(
                {
                    "title": f"{slot.what} {name}",
                    "type": "object",
                    "properties": properties,
                    "required": ["use", *needed],
                    "additionalProperties": False,
                }
            )
        named = {"enum": short, "description": "the plug-in with its default options"}
        definitions[slot.__name__] = {"description": slot.__doc__, "anyOf": [named, *choices]}
    projection = definitions["Projection"]
    kinds = projection["properties"]["use"]["enum"]
    definitions["Projection"] = {
        "description": projection["description"],
        "anyOf": [{"enum": kinds, "description": "the one of this name with its default options"}, projection],
    }
    whole = {key: value for key, value in schema.items() if key != "$defs"}
    changes = {CHANGES + name: _changes(definition) for name, definition in {**definitions, "Recipe": whole}.items()}
    changes[f"{CHANGES}Recipe"]["properties"]["base"] = {
        "type": "string",
        "description": Recipe.model_fields["base"].description,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mmcl recipe",
        "description": whole.get("description", ""),
        "if": {"required": ["base"]},
        "then": {"$ref": f"{_REF}{CHANGES}Recipe", "required": ["base"]},
        "else": {"$ref": f"{_REF}Recipe"},
        "$defs": {**definitions, "Recipe": whole, **changes},
    }


def _changes(section: Any) -> Any:
    """The same schema for what a recipe changes of its base: no key is needed, and each may be null, which takes it away."""
    if isinstance(section, list):
        return [_changes(one) for one in section]
    if not isinstance(section, dict):
        return section
    changed = {}
    for key, value in section.items():
        if key in ("required", "minProperties"):
            continue
        if key == "$ref":
            changed[key] = _REF + CHANGES + value.removeprefix(_REF)
        elif key == "properties":
            changed[key] = {name: _or_null(_changes(one)) for name, one in value.items()}
        elif key == "additionalProperties" and isinstance(value, dict):
            changed[key] = _or_null(_changes(value))
        elif key in ("const", "enum", "default", "description"):
            changed[key] = value
        else:  # what no `use:` tells apart may be any of several
            changed["anyOf" if key == "oneOf" else key] = _changes(value)
    return changed


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, and null."""
    about = {key: schema[key] for key in ("description",) if key in schema}
    return {"anyOf": [schema, {"type": "null"}], **about}


def _kinds(choice: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Let a choice told apart by `use` (an optimizer, a protocol) be written short, and need `use` where it is a mapping."""
    short: list[str] = []
    for branch in choice["oneOf"]:
        section = definitions[branch["$ref"].removeprefix(_REF)]
        needed = [key for key in section.get("required", []) if key != "use"]
        section["required"] = ["use", *needed]
        if not needed:
            short.append(section["properties"]["use"]["const"])
    choice["oneOf"].insert(0, {"enum": short, "description": "the one of this name with its default options"})


def _nested(value: Any) -> Iterator[dict[str, Any]]:
    """A schema and every schema inside it, definitions left out."""
    if isinstance(value, dict):
        yield value
    for inner in [v for k, v in value.items() if k != "$defs"] if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from _nested(inner)


def _apart(own: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A plug-in's schema whose definitions are named after the plug-in: two may call different things by one name."""
    for inner in _nested({"itself": own, "definitions": own.get("$defs", {})}):
        if isinstance(inner.get("$ref"), str):
            inner["$ref"] = _REF + prefix + inner["$ref"].removeprefix(_REF)
    return {**own, "$defs": {prefix + name: definition for name, definition in own.get("$defs", {}).items()}}
