"""mmcl list-backbones and its like"""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import Any

import click

from ..screen import say
from . import options


def _command(name: str, what: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @options.as_json
    def command(as_json: bool) -> None:
        from ..plugins import OURS, plugins

        rows: list[dict[str, Any]] = [
            {"name": reach, "summary": offer.spec.summary, "package": offer.package, "version": offer.version}
            for reach, offer in plugins().all(what)
        ]
        if as_json:
            click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        else:
            table(
                [
                    (row["name"], row["summary"] + ("" if row["package"] == OURS else f" [{row['package']} {row['version']}]"))
                    for row in rows
                ]
            )
        for one in plugins().failed:
            say(f"mmcl: plug-in '{one.plugin}' of {one.package} failed to load: {one.failure}")

    return command


def table(rows: list[tuple[str, str]]) -> None:
    """Two columns, the second one wrapped to the terminal."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    room = max(40, shutil.get_terminal_size((120, 24)).columns - width)
    for name, text in rows:
        first, *rest = textwrap.wrap(text, room) or [""]
        click.echo(f"{name:<{width}}{first}")
        for line in rest:
            click.echo(" " * width + line)


list_backbones = _command("list-backbones", "backbone", "List networks from a stream to a vector.")
list_modalities = _command("list-modalities", "modality", "List ways of turning raw recordings into streams.")
list_losses = _command("list-losses", "loss", "List losses between two modalities' embeddings.")
list_group_losses = _command("list-group-losses", "group-loss", "List losses of any number of modalities at once.")
list_positives = _command("list-positives", "positives", "List rules for which rows of a batch belong together.")
list_samplers = _command("list-samplers", "sampler", "List ways of putting recordings into batches.")
list_datasets = _command("list-datasets", "dataset", "List corpora.")
list_heads = _command("list-heads", "head", "List probes.")
list_pretexts = _command("list-pretexts", "pretext", "List ways of learning one vector of all modalities.")
list_presets = _command(
    "list-presets", "preset", "List papers' settings to lay over a recipe: `mmcl run RECIPE --preset NAME`."
)
list_scorers = _command("list-scorers", "scorer", "List ways of scoring recordings, such as valence and arousal.")
list_published = _command("list-published", "published", "List papers whose tables your runs can be laid beside.")


@click.command("list-recipes")
@options.as_json
def list_recipes(as_json: bool) -> None:
    """List the recipes that come with mmcl: `mmcl run NAME`."""
    from ..recipe.shipped import folder, heading, names

    rows = [
        {"name": name, "summary": heading(folder() / f"{name}.yaml"), "file": str(folder() / f"{name}.yaml")}
        for name in names()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        table([(row["name"], row["summary"]) for row in rows])
