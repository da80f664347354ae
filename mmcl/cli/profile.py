"""mmcl profile"""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options


@click.command()
@options.recipe
@options.presets
@options.overrides
@options.data
@options.limit
@click.option(
    "--out",
    type=options.Place(file_okay=False),
    help="Where profile.json and profile.html are written.  [default: runs/NAME-profile; prepared streams are shared with runs]",
)
@options.workers
@options.device
@click.option("--steps", type=click.IntRange(1, 1000), default=5, show_default=True, help="Steps that are measured.")
@click.option(
    "--compile", "compiling", is_flag=True, help="Measure what torch.compile gains for each modality, too: a minute for each."
)
@options.as_json
def profile(
    recipe: str,
    presets: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
    limit: int | None,
    out: Path | None,
    workers: int | None,
    device: str,
    steps: int,
    compiling: bool,
    as_json: bool,
) -> None:
    """Measure where a pretraining step of RECIPE spends time and memory, and say what would help here.

    Streams that are not there yet are prepared, as a run would. Nothing that was learned is kept.
    """
    from ..recipe.planner import laid_over, load_plan
    from ..recipe.shipped import find
    from ..runs import RunFolder

    sets = (*laid_over(presets, overrides), *([f"limit={limit}"] if limit else []))
    plan = load_plan(find(recipe), sets, data, name=recipe if recipe.endswith((".yaml", ".yml")) else None)
    from ..report.profile import head, profile_and_report, rows_of

    folder = RunFolder(out if out is not None else Path("runs") / f"{plan.name}-profile")
    measured, page = profile_and_report(plan, folder, workers, device, steps, compiling)
    if as_json:
        click.echo(json.dumps(measured.to_json(), indent=1, ensure_ascii=False))
        return
    rows = rows_of(measured)
    wide = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = ["  ".join((row[0].ljust(wide[0]), *(row[k].rjust(wide[k]) for k in (1, 2, 3)))).rstrip() for row in rows]
    click.echo("\n".join([head(measured), "", *lines, "", *measured.advice(), "", str(page)]))
