"""mmcl prepare"""

from __future__ import annotations

import re
from pathlib import Path

import click

from . import options


def numbered(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """The number of a shard, and how many there are, of "2/8"."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"'{value}' is no shard; they are counted from 1: 1/8 is the first of eight, 8/8 the last")
    return int(match[1]), int(match[2])


@click.command()
@options.recipe
@options.presets
@options.overrides
@options.data
@options.limit
@click.option(
    "--out",
    type=options.Place(file_okay=False),
    help="The run folder beside which streams are kept, as for `mmcl run`.  [default: runs/NAME]",
)
@click.option(
    "--shard",
    metavar="I/N",
    required=True,
    callback=numbered,
    help="Which share of the recordings, of how many: 2/8 is the second of eight.",
)
@options.workers
@click.option("--strict", is_flag=True, help="End at the first clip that cannot be read, rather than list and skip it.")
def prepare(
    recipe: str,
    presets: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
    limit: int | None,
    out: Path | None,
    shard: tuple[int, int],
    workers: int | None,
    strict: bool,
) -> None:
    """Prepare one share of RECIPE's recordings, and print where the streams lie.

    Start it once for each share, on as many machines as reach the same folder. Whoever ends last puts the streams together, to the byte what
    one process would have written. `mmcl run` prepares what no share has.
    """
    from ..recipe.planner import laid_over, load_plan
    from ..recipe.shipped import find
    from ..runs import RunFolder

    sets = (*laid_over(presets, overrides), *([f"limit={limit}"] if limit else []))
    plan = load_plan(find(recipe), sets, data, name=recipe if recipe.endswith((".yaml", ".yml")) else None)
    from ..stages.parts import prepare_shard  # after the plan: a mistake in the recipe is said before torch is imported

    for folder in prepare_shard(plan, RunFolder(out if out is not None else Path("runs") / plan.name), *shard, workers, strict):
        click.echo(folder)
