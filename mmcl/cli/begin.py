"""mmcl new-dataset, mmcl new-recipe, mmcl new-plugin"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ..screen import say
from . import options


@click.command("new-dataset")
@click.argument("folder", type=options.Place())
@click.option("--out", default="recordings.csv", show_default=True, help="Name of the table, which is written into FOLDER.")
@click.option(
    "--pattern",
    metavar="REGEX",
    help="Regular expression with named groups, searched for in each path; every name becomes a column: '(?P<speaker>s[0-9]+)_(?P<emotion>[a-z]+)'.",
)
@click.option("--overwrite", is_flag=True, help="Write the table again if it is there.")
def new_dataset(folder: Path, out: str, pattern: str | None, overwrite: bool) -> None:
    """Write a table of the recordings in FOLDER, say what could not be told from names, and print a recipe for it.

    Files of one name are one recording, whatever folders and endings they have. Who is in them, their labels and their splits are read from the
    names of folders, or by --pattern.
    """
    from ..api.errors import MmclError
    from ..begin.recipe import recipe_of
    from ..begin.table import write_table

    draft = write_table(folder, out, pattern, overwrite)
    for note in draft.notes:
        say(f"mmcl: {note}")
    say(f"mmcl: {folder / out} written; look it over, then: mmcl data check {shlex.quote(str(folder))}")
    try:
        text, notes = recipe_of(folder / out)
    except MmclError as error:
        say(f"mmcl: no recipe yet: {error}")
        say(
            f"mmcl: mend the table, then: mmcl new-recipe {shlex.quote(str(folder / out))} --out {shlex.quote(f'{folder.resolve().name}.yaml')}"
        )
        return
    for note in notes:
        say(f"mmcl: {note}")
    click.echo(text, nl=False)


@click.command("new-recipe")
@click.argument("table", type=options.Place())
@click.option("--out", type=options.Place(dir_okay=False), help="Write it there; left out: print it.")
@click.option("--overwrite", is_flag=True, help="Write the recipe again if it is there.")
@click.option("--faces", is_flag=True, help="Look for the main face in films: pictures of it, and its 68 points (extra faces).")
def new_recipe(table: Path, out: Path | None, overwrite: bool, faces: bool) -> None:
    """Write a runnable recipe for TABLE: features and networks by the type of each source, every default with its reason."""
    from ..api.errors import StageError
    from ..begin.recipe import recipe_of
    from ..runs import write_text

    text, notes = recipe_of(table, faces, out)
    for note in notes:
        say(f"mmcl: {note}")
    if out is None:
        click.echo(text, nl=False)
        return
    if (
        out.exists() and not overwrite and not (out.is_file() and out.stat().st_size == 0)
    ):  # which `>` leaves where nothing came
        raise StageError(f"{out}: is there already; give --overwrite to write it again, or another --out")
    write_text(out, text)
    say(f"mmcl: {out} written; next: mmcl check {shlex.quote(str(out))}")


@click.command("new-plugin")
@click.argument("kind")
@click.argument("name")
@click.option("--out", type=options.Place(file_okay=False), default=Path(), help="Folder in which the package is written.")
def new_plugin(kind: str, name: str, out: Path) -> None:
    """Write a package with one plug-in NAME that works as it is: options, spec, hook, code, tests, CI.

    KIND is backbone, dataset, group-loss, head, loss, modality, positives, preset, pretext, sampler or scorer.
    """
    from ..begin.plugin import write_plugin

    folder, *files = write_plugin(kind, name, out)
    for path in files:
        click.echo(path)
    say(f"mmcl: next: cd {shlex.quote(str(folder))} && pip install -e '.[test]' && pytest; then: mmcl describe {kind} {name}")
