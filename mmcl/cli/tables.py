"""mmcl tables"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..screen import say
from . import options

NAMED = 4
"""Reasons that a cell names; --json has them all."""


@click.command()
@click.argument("name")
@click.argument("runs", nargs=-1, type=options.Place(file_okay=False))
@click.option(
    "--all", "everything", is_flag=True, help="Lay figures beside the paper's, too, that cannot be compared with them."
)
@options.as_json
def tables(name: str, runs: tuple[Path, ...], everything: bool, as_json: bool) -> None:
    """Lay the figures of your RUNS beside the tables of a paper, cell by cell.

    NAME is a paper that `mmcl list-published` names. A cell is filled from a run of the recipe that it belongs to, the newest where several
    are given; n/a where none was run. A run that differs from the recipe (other modalities, folds, epochs, heads, fewer recordings) is
    not laid beside the paper's figure: its cell says what differs.
    """
    from ..plugins import plugins
    from ..review.published import fill, runs_of

    spec = plugins().get("published", name).spec
    by_recipe = runs_of(runs)
    filled = fill(spec, by_recipe, everything)
    for recipe in sorted(set(by_recipe) - {cell["recipe"] for table in filled for cell in table["cells"]}):
        say(f"no cell of {spec.name} belongs to recipe '{recipe}'; its run is not shown")
    if as_json:
        click.echo(json.dumps({"name": spec.name, "paper": spec.paper, "tables": filled}, indent=1, ensure_ascii=False))
        return
    click.echo(f"{spec.summary}\n{spec.paper}")
    for table in filled:
        click.echo(f"\n{table['name']}: {table['caption']}\n(published | ours ± deviation over folds and seeds)\n")
        _print(table["cells"])


def _print(cells: list[dict[str, Any]]) -> None:
    """Rows by columns, and the notes under them."""
    rows, columns = (list(dict.fromkeys(cell[what] for cell in cells)) for what in ("row", "column"))
    notes = list(dict.fromkeys(cell["note"] for cell in cells if cell["note"]))
    by_place = {(cell["row"], cell["column"]): cell for cell in cells}
    text = [["", *columns]]
    for row in rows:
        text.append([row, *(_cell(by_place.get((row, column)), notes) for column in columns)])
    widths = [max(len(line[i]) for line in text) for i in range(len(text[0]))]
    for line in text:
        click.echo(
            "  ".join(
                part.ljust(width) if i == 0 else part.rjust(width)
                for i, (part, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
        )
    for n, note in enumerate(notes, 1):
        click.echo(f"[{n}] {note}")


def _cell(cell: dict[str, Any] | None, notes: list[str]) -> str:
    if cell is None:
        return ""
    value = cell["published"]
    digits = 3 if value is not None and abs(value) < 2 else 2  # shares have three, percentages two
    published = "–" if value is None else f"{value:.{digits}f}"
    spread = "" if cell["sd"] is None else f" ± {cell['sd']:.{digits}f}"
    ours = "n/a" if cell["ours"] is None else f"{cell['ours']:.{digits}f}{spread}"
    if cell["differs"]:
        named, rest = cell["differs"][:NAMED], len(cell["differs"]) - NAMED
        reasons = "; ".join([*named, *([f"{rest} more"] if rest > 0 else [])])
        ours = f"({reasons})" if cell["ours"] is None else f"{ours} ({reasons})"
        return f"{published} | {ours}"
    mark = f" [{notes.index(cell['note']) + 1}]" if cell["note"] else ""
    return f"{published} | {ours}{mark}"
