"""The JSON schema of a recipe, with every installed plug-in's options, for editors and other programs."""

from __future__ import annotations

from typing import Any

from ..plugins import Plugins
from .schema import Recipe, Use, UseBackbone, UseDataset, UseHead, UseLoss, UseModality, UsePositives

SLOTS: tuple[type[Use], ...] = (UseDataset, UseModality, UseBackbone, UseLoss, UsePositives, UseHead)


def json_schema(plugins: Plugins) -> dict[str, Any]:
    """A JSON schema (2020-12) in which every `use:` knows the options of what it names."""
    schema = Recipe.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for slot in SLOTS:
        choices: list[dict[str, Any]] = []
        for name, offer in plugins.all(slot.what):
            own = offer.spec.params.model_json_schema()
            for inner, definition in own.get("$defs", {}).items():
                definitions.setdefault(inner, definition)
            properties = {"use": {"const": name, "description": offer.spec.summary}, **own.get("properties", {})}
            if slot is UseDataset and offer.spec.needs_root:
                properties["root"] = {"type": "string", "description": slot.model_fields["root"].description}
            choices.append(
                {
                    "title": f"{slot.what} {name}", "type": "object", "properties": properties,
                    "required": ["use", *own.get("required", [])], "additionalProperties": False,
                }
            )  # fmt: skip
        short = {"enum": [name for name, _ in plugins.all(slot.what)], "description": "the plug-in with its default options"}
        definitions[slot.__name__] = {"description": slot.__doc__, "anyOf": [short, *choices]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "mmcl recipe"}
