"""mmcl runs"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from ..screen import say
from . import options


class Listing(click.Group):
    """`mmcl runs DIR` is short for `mmcl runs list DIR`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with `list` where no command is named."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


really = click.option("--yes", is_flag=True, help="Do it; left out: only say what would be removed.")


@click.group(cls=Listing)
def runs() -> None:
    """List runs; remove some, or prepared streams that none needs.

    `mmcl runs [DIR]` is short for `mmcl runs list [DIR]`.
    """


@runs.command("list")
@click.argument("folder", metavar="[DIR]", type=options.Place(), default=Path("runs"))
@options.as_json
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in DIR (runs): recipe, state, main score, when, size; newest first."""
    from ..review.runs import runs_in

    listed = runs_in(folder)
    if as_json:
        click.echo(json.dumps([one.to_json() for one in listed], indent=1))
        return
    if not listed:
        say(f"mmcl: {folder} holds no runs")
        return
    rows = [("run", "recipe", "state", "score", "changed (UTC)", "size")]
    for one in listed:
        score = "–" if one.score is None else f"{one.score:.3f} {one.metric}" + (f" {one.task}" if one.task else "")
        when = "–" if one.time is None else f"{datetime.fromtimestamp(one.time, UTC):%Y-%m-%d %H:%M}"
        rows.append((one.folder, one.recipe or "–", one.state, score, when, options.size(one.size)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@runs.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=options.Place())
@really
def rm(folders: tuple[Path, ...], yes: bool) -> None:
    """Remove runs or sweeps. Without --yes it is said what would be removed, and nothing is.

    A folder that mmcl did not make, that holds other files too or that is being written is refused. Prepared streams stay: `mmcl runs prune`.
    """
    from ..review.runs import remove

    for folder, size in remove(folders, yes):
        click.echo(f"{folder}: {'removed' if yes else 'would be removed'} ({options.size(size)})")
    if not yes:
        say("mmcl: nothing was removed; the same with --yes removes it")


@runs.command()
@click.argument("folder", metavar="[DIR]", type=options.Place(), default=Path("runs"))
@really
def prune(folder: Path, yes: bool) -> None:
    """Remove prepared streams in DIR (runs) that none of its runs needs. Without --yes it is said which, and nothing is removed."""
    from ..review.runs import prune as unused_of

    unused = unused_of(folder, yes)
    for one in unused:
        click.echo(f"{one.folder}: {'removed' if yes else 'would be removed'} ({options.size(one.size)})")
    total = options.size(sum(one.size for one in unused))
    if not unused:
        say(f"mmcl: every prepared stream in {folder} is needed by a run")
    elif not yes:
        say(f"mmcl: nothing was removed; the same with --yes frees {total}")
