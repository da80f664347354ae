"""mmcl sweep"""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command()
@options.recipe
@options.presets
@options.overrides
@options.data
@click.option("--out", type=options.Place(file_okay=False), help="The sweep's folder.  [default: runs/NAME-sweep]")
@click.option("--trials", type=click.IntRange(1), help="How many settings are tried, in place of the recipe's number.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Trials at a time, each in its own process.  [default: 1; on a cluster as many as fit]",
)
@options.device
@click.option("--no-final", is_flag=True, help="Do not run the best values in full: the test set stays closed.")
@options.engine
@options.address
def sweep(
    recipe: str,
    presets: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
    out: Path | None,
    trials: int | None,
    jobs: int | None,
    device: str,
    no_final: bool,
    engine: str,
    address: str | None,
) -> None:
    """Search over the values that RECIPE's `sweep:` names, print the best, and run them in full.

    Trials are judged on validation recordings alone; the test set is opened once, for the best values. Run the same command again to go
    on with the trials that are missing.
    """
    options.check_engine(engine, address)
    from ..recipe.planner import laid_over
    from ..recipe.search import load_sweep
    from ..recipe.shipped import find

    name = recipe if recipe.endswith((".yaml", ".yml")) else None
    search = load_sweep(find(recipe), laid_over(presets, overrides), data, name, trials)
    from ..report import search_and_report
    from ..report.search import ranked, shown  # after the plan: a mistake in the recipe is said before torch is imported

    folder = out if out is not None else Path("runs") / f"{search.plan.name}-sweep"
    searched = search_and_report(search, folder, jobs, device, not no_final, engine, address)

    click.echo(f"{searched.about}\n")
    rows = [
        (str(one.number), "–" if one.score is None else f"{one.score:.3f}", *(shown(v) for v in one.values.values()), one.state)
        for one in ranked(searched)[:10]
    ]
    for row in _columns([("trial", searched.metric, *searched.best.values, "state"), *rows]):
        click.echo(row)
    click.echo("\nBest values (validation scores of the best of many trials are too high; only a test score counts):")
    for key, value in searched.best.values.items():
        click.echo(f"  {key}={value}")
    if searched.final is not None and searched.final["mean"] is not None:
        click.echo(f"Test {searched.metric} of these values, run in full: {searched.final['mean']:.3f}")
    click.echo(folder / "sweep.html")


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
