"""Writes the reference pages from the code: every key of a recipe, every plug-in's options, every command's help.

`make docs` runs it before mkdocs; tests/test_docs.py runs it too. The pages are not committed, so they cannot go stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mmcl.plugins import OURS, REGISTRIES, plugins
from mmcl.recipe import objectives, optimisers, schema, searches

OUT = Path(__file__).parent / "reference"


def cell(value: Any) -> str:
    """Text that a table can hold."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def kind_of(value: dict[str, Any]) -> str:
    """What a key takes, in words, from its JSON schema."""
    if "anyOf" in value or "oneOf" in value:
        kinds = dict.fromkeys(kind_of(one) for one in value.get("anyOf", value.get("oneOf")))
        return " or ".join(kinds)
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value or "allOf" in value:
        return "section"
    if value.get("type") == "array":
        inner = value.get("items") or (value.get("prefixItems") or [{}])[0]
        return f"list of {kind_of(inner)}" if inner else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"names, each with {kind_of(inner)}" if isinstance(inner, dict) and inner else "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "nothing"}
    return words.get(str(value.get("type")), "any value")


def options(model: type[BaseModel]) -> list[str]:
    """A table of a model's fields."""
    if not model.model_fields:
        return ["No options."]
    described = model.model_json_schema().get("properties", {})
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if field.is_required():
            default = "(needed)"
        else:
            value = field.get_default(call_default_factory=True)
            default = (
                ""
                if value is None or value is PydanticUndefined
                else "(its own defaults)"
                if isinstance(value, BaseModel | dict)
                else f"`{value}`"
            )
        bounds = [
            f"{sign} {described.get(name, {})[key]:g}"
            for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
            if key in described.get(name, {})
        ]
        kind = kind_of(described.get(name, {}))
        rows.append(
            f"| `{name}` | {cell(kind)} | {cell(default)} | {cell(field.description or '')}{' (' + ', '.join(bounds) + ')' if bounds else ''} |"
        )
    return rows


def recipe_page() -> str:
    """Every section of a recipe."""
    sections: list[tuple[str, type[BaseModel]]] = [
        ("recipe", schema.Recipe),
        ("dataset", schema.UseDataset),
        ("modalities.NAME", schema.ModalitySection),
        ("modalities.NAME.augment", schema.Augment),
        ("window", schema.Window),
        ("projection", schema.Projection),
        ("pretrain", schema.Pretrain),
        ("pretrain.views, each of a list", schema.View),
        ("pretrain.objective", objectives.Objective),
        ("pretrain.objective.predictor", objectives.Predictor),
        ("pretrain.optimizer, use: sgd", optimisers.Sgd),
        ("pretrain.optimizer, use: adamw", optimisers.AdamW),
        ("pretrain.schedule, use: constant", optimisers.Constant),
        ("pretrain.schedule, use: step", optimisers.Step),
        ("pretrain.schedule, use: cosine", optimisers.Cosine),
        ("pretrain.schedule, use: linear", optimisers.Linear),
        ("scores.NAME", schema.UseScorer),
        ("probe", schema.Probe),
        ("probe.training", schema.HeadTraining),
        ("supervise", schema.Supervise),
        ("worth", schema.Worth),
        ("worth.robustness", schema.Robustness),
        ("protocol, use: official", schema.Official),
        ("protocol, use: hold-out", schema.HoldOut),
        ("protocol, use: k-fold", schema.KFold),
        ("protocol, use: folds", schema.Folds),
        ("protocol, use: leave-one-group-out", schema.LeaveOneGroupOut),
        ("reading", schema.Reading),
        ("report", schema.Report),
        ("sweep", searches.Sweep),
        ("sweep.score", searches.SweepScore),
        ("sweep.space.KEY, as a range", searches.Range),
    ]
    lines = ["# Keys of a recipe", ""]
    for title, model in sections:
        lines += [f"## {title}", "", (model.__doc__ or "").strip(), "", *options(model), ""]
    return "\n".join(lines)


def plugins_page() -> str:
    """Every built-in plug-in and its options."""
    lines = ["# Plug-ins", ""]
    for what in REGISTRIES:
        lines += [f"## {what}", ""]
        for name, offer in plugins().all(what):
            if offer.package != OURS:
                continue
            spec = offer.spec
            lines += [f"### {name}", "", f"{spec.summary}.", ""]
            for label in ("paper", "follows", "equation", "licence"):
                if getattr(spec, label, ""):
                    lines += [f"*{label}*: {getattr(spec, label)}", ""]
            if what == "kind":
                lines += [f"axes: {' × '.join(spec.axes)}", ""]
            elif what == "preset":
                lines += [*(f"- `{one}`" for one in spec.sets), ""]
            elif what == "published":
                lines += [f"{table.name}: {table.caption}; {len(table.cells)} cells\n" for table in spec.tables]
            else:
                lines += [*options(spec.params), ""]
    return "\n".join(lines)


def catalogue_page() -> str:
    """Everything that is offered, by the built-ins and by the packages of catalogue.yaml, kind by kind."""
    known = yaml.safe_load((OUT.parent / "catalogue.yaml").read_text(encoding="utf-8"))["packages"]
    lines = ["# Catalogue", "", "What there is to choose from. `mmcl list-backbones` and its like print what is installed.", ""]
    for what in REGISTRIES:
        rows = [(name, OURS, offer.spec.summary) for name, offer in plugins().all(what) if offer.package == OURS]
        rows += [(name, one["package"], one["summary"]) for one in known for name in one["offers"].get(what, ())]
        lines += [f"## {what}", "", "| name | package | what |", "|---|---|---|"]
        lines += [*(f"| `{name}` | {package} | {cell(text)} |" for name, package, text in rows), ""]
    lines += ["## Packages", "", "| package | licence | where |", "|---|---|---|"]
    lines += [*(f"| {one['package']} | {one['licence']} | {one['home']} |" for one in known), ""]
    return "\n".join(lines)


def commands_page() -> str:
    """The help of every command."""
    from mmcl.cli import cli

    context = click.Context(cli, info_name="mmcl")
    lines = ["# Commands", "", "```text", cli.get_help(context), "```", ""]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is None:
            continue
        own = click.Context(command, info_name=name, parent=context)
        helps = [(name, command.get_help(own))]
        for below in command.list_commands(own) if isinstance(command, click.Group) else ():
            one = command.get_command(own, below)
            assert one is not None
            helps.append((f"{name} {below}", one.get_help(click.Context(one, info_name=below, parent=own))))
        for title, text in helps:
            lines += [f"## mmcl {title}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def main() -> None:
    """Write the pages."""
    OUT.mkdir(exist_ok=True)
    pages = {"recipe": recipe_page, "plugins": plugins_page, "commands": commands_page, "catalogue": catalogue_page}
    for name, page in pages.items():
        (OUT / f"{name}.md").write_text(page() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
