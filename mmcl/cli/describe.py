"""mmcl describe"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..api.deprecation import Deprecated

KINDS = (
    "backbone",
    "modality",
    "loss",
    "group-loss",
    "positives",
    "sampler",
    "dataset",
    "head",
    "pretext",
    "scorer",
    "preset",
    "kind",
    "recipe",
)
PLACES = {
    "backbone": ("modalities", "NAME", "backbone"),
    "modality": ("modalities", "NAME", "features"),
    "loss": ("pretrain", "objective", "loss"),
    "group-loss": ("pretrain", "objective", "group"),
    "positives": ("pretrain", "objective", "positives"),
    "sampler": ("pretrain", "sampler"),
    "dataset": ("dataset",),
    "head": ("probe", "heads", "NAME"),
    "pretext": ("pretrain", "pretext"),
    "scorer": ("scores", "NAME"),
}
"""Where a recipe names a plug-in of each kind."""
NEEDED = re.compile(r"; needed\b")
"""What the description of an option says that has an empty default, and that nothing works without."""


@click.command()
@click.argument("what", metavar="KIND", type=click.Choice(KINDS))
@click.argument("name")
@options.as_json
def describe(what: str, name: str, as_json: bool) -> None:
    """Show one plug-in: what it does, where it comes from, its options with bounds and defaults, and how a recipe names it.

    KIND is backbone, modality, loss, group-loss, positives, sampler, dataset, head, pretext, scorer, preset, kind or recipe.
    """
    if what == "recipe":
        _recipe(name, as_json)
        return
    from ..plugins import plugins

    offer = plugins().get(what, name)
    spec = offer.spec
    facts: dict[str, Any] = {
        "name": plugins().reach(offer),
        "kind": what,
        "summary": spec.summary,
        "package": f"{offer.package} {offer.version}",
    }
    for label in ("equation", "missing", "follows", "departs", "paper"):
        if getattr(spec, label, ""):
            facts[label] = getattr(spec, label)
    if what == "kind":
        facts["axes"] = list(spec.axes)
    if what == "backbone":
        facts["takes"] = [" × ".join(axes) for axes in spec.accepts]
    if what == "modality":
        facts["reads"] = list(spec.accepts)
    if what == "positives":
        facts["labels"] = _needs(spec)
    if what == "sampler":
        facts["labels"] = list(spec.needs(spec.params())) or "none"
    if what == "group-loss":
        most = "any number" if spec.most is None else str(spec.most)
        facts["modalities"] = str(spec.fewest) if spec.most == spec.fewest else f"{spec.fewest} to {most}"
    if what == "scorer":
        facts["reads"] = list(spec.takes) or "labels"
    if what == "head":
        facts["tasks"] = list(spec.tasks)
    if what == "dataset":
        facts |= _dataset(spec)
    if what == "preset":
        facts["sets"] = list(spec.sets)
    plain = what in ("kind", "preset")
    facts["options"] = [] if plain else _options(spec.params)
    if what in PLACES:
        facts["example"] = _example(what, facts["name"], facts["options"])
    if what == "loss" and spec.predictor:
        facts["example"] += f"\n{'  ' * (len(PLACES['loss']) - 1)}predictor: {{}}"
    if what == "positives" and spec.soft:
        _say_weighs(facts)
    if what == "positives" and any("NAME" in one for one in _needs(spec)):
        facts["example"] += (
            f"\n# fill in scores: entries that give each modality's {', '.join(_needs(spec))}, NAME being the modality"
        )
    if as_json:
        click.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    rows, example = facts.pop("options"), facts.pop("example", None)
    click.echo(f"{facts.pop('name')}: {facts.pop('summary')}")
    for label, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"  {label}:")
            for inner, text in value.items():
                click.echo(f"    {inner}: {text}")
        else:
            click.echo(f"  {label}: {', '.join(value) if isinstance(value, list) else value}")
    if not plain:
        click.echo("  options:" if rows else "  no options")
    for row in rows:
        bounds = f", {row['bounds']}" if row["bounds"] else ""
        default = "needed" if row["required"] else "default " + ("nothing" if row["default"] is None else _yaml(row["default"]))
        click.echo(f"    {row['name']} ({row['type']}{bounds}; {default})\n        {row['description']}")
    if example:
        click.echo("  in a recipe:")
        for line in example.splitlines():
            click.echo(f"    {line}")


def _recipe(name: str, as_json: bool) -> None:
    """Show a shipped recipe."""
    from ..recipe.shipped import find, heading

    path = find(name)
    text = path.read_text(encoding="utf-8")
    if as_json:
        recipe = {"name": path.stem, "kind": "recipe", "summary": heading(path), "file": str(path), "recipe": text}
        click.echo(json.dumps(recipe, indent=1, ensure_ascii=False))
    else:
        click.echo(text, nl=False)


def _say_weighs(facts: dict[str, Any]) -> None:
    """Say of a rule that weighs positives which losses read weights, and put one into its example."""
    from ..plugins import plugins

    able = [name for name, offer in plugins().all("loss") if offer.spec.soft]
    facts["weighs"] = f"positives; losses that read weights are {', '.join(able)}"
    alone = next(name for name in able if not plugins().get("loss", name).spec.predictor)
    facts["example"] += f"\n{'  ' * (len(PLACES['positives']) - 1)}loss: {alone}"


def _needs(spec: Any) -> list[str] | str:
    """The targets that a rule for positives reads with default options."""
    return list(spec.needs(spec.params(), ("NAME",))) or "none"


def _example(what: str, name: str, rows: list[dict[str, Any]]) -> str:
    """YAML that names the plug-in with its needed options and the first two others, as a recipe has it; a comment says what is to be filled in."""
    needed = [row for row in rows if row["required"] or (row["default"] == "" and NEEDED.search(row["description"]))]
    shown = [*needed, *[row for row in rows if row not in needed and row["default"] not in (None, "")][:2]]
    options = "".join(f", {row['name']}: {_yaml('…' if row in needed else row['default'])}" for row in shown)
    missing = "".join(f"\n# fill in {row['name']}: {row['description']}" for row in needed)
    *sections, slot = PLACES[what]
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    lines.append(f"{'  ' * len(sections)}{slot}: {{use: {_yaml(name)}{options}}}")
    return "\n".join(lines) + missing


def _yaml(value: Any) -> str:
    """A value as a recipe writes it between braces."""
    from ..recipe.read import scalar

    if isinstance(value, list):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(v)}' for key, v in value.items())}}}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        plain = re.fullmatch(r"[\w…][\w…+:./-]*", value) and not value.endswith(":") and isinstance(scalar(value), str)
        return value if plain else json.dumps(value, ensure_ascii=False)
    return str(value)


def _dataset(spec: Any) -> dict[str, Any]:
    """What a dataset's info says with default options."""
    if needed := [name for name, field in spec.params.model_fields.items() if field.is_required()]:
        return {"sources and tasks": f"depend on {', '.join(needed)}; 'mmcl check' of a recipe that sets them says which"}
    info = spec.info(spec.params())
    if spec.complete is not None and not info.sources:
        return {
            "sources and tasks": "read from the table in its folder; 'mmcl data check FOLDER' says which",
            "groups": f"{info.group} (never on both sides of a split)",
            "get": info.get,
            "looked for in": f"DIR/{spec.name} (DIR: --data DIR or $MMCL_DATA), or dataset.root",
        }
    return {
        "sources": {n: f"{s.type}{f', {s.rate:g} a second' if s.rate else ''}: {s.summary}" for n, s in info.sources.items()},
        "predicts": {n: f"{t.type}: {', '.join(t.classes)}" for n, t in info.tasks.items()},
        "groups": f"{info.group} (never on both sides of a split)",
        "official splits": ", ".join(info.official) or "none",
        "synthetic": "yes" if info.synthetic else "no",
        "licence": info.licence or "not stated",
        "get": info.get or "made on the spot",
        **({"looked for in": f"DIR/{spec.name} (DIR: --data DIR or $MMCL_DATA), or dataset.root"} if spec.needs_root else {}),
    }


def _options(params: Any) -> list[dict[str, Any]]:
    """Every option with its type, bounds, default and sentence."""
    from pydantic_core import to_jsonable_python

    properties = params.model_json_schema().get("properties", {})
    rows = []
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for name, field in params.model_fields.items():
        schema = properties.get(name, {})
        variants = [schema, *schema.get("anyOf", [])]
        bounds = ", ".join(f"{sign} {_yaml(one[key])}" for one in variants for key, sign in signs.items() if key in one)
        types = [_type(one) for one in (schema.get("anyOf") or [schema])]
        rows.append(
            {
                "name": name,
                "type": " or ".join(types),
                "bounds": bounds,
                "required": field.is_required(),
                "default": None
                if field.is_required()
                else to_jsonable_python(field.get_default(call_default_factory=True, validated_data={})),
                "description": (field.description or "") + _going(params.DEPRECATED.get(name)),
            }
        )
    return rows


def _going(deprecated: Deprecated | None) -> str:
    """What is said of an option that will go, after its sentence."""
    return "" if deprecated is None else f" ({deprecated.sentence('this')})"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner)}" if isinstance(inner, dict) else "list"
    return {"null": "nothing"}.get(str(schema.get("type")), str(schema.get("type", "mapping")))
