"""mmcl sample"""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command()
@click.argument("target", metavar="DATASET-or-RECIPE")
@click.argument("folder", metavar="DIR", type=options.Place(file_okay=False))
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=32, show_default=True, help="About so many recordings.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed writes the same files.")
def sample(target: str, folder: Path, count: int, seed: int) -> None:
    """Write a tiny made-up copy of a corpus into DIR, in its true file format: to try a recipe, or to see how files must lie.

    It goes into DIR/NAME, where --data DIR looks for it. Of a recipe, the files that its options read are written, and the command that
    tries it is printed. Nobody was recorded, so that scores on it mean nothing.
    """
    from ..begin.sample import write_sample

    root, command = write_sample(target, folder, count, seed)
    files = [path for path in root.rglob("*") if path.is_file()]
    click.echo(f"{root}: {len(files)} files, made up by mmcl; no score on them means anything")
    if command is not None:
        click.echo(f"try it: {command}")
