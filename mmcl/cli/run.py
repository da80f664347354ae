"""mmcl run"""

from __future__ import annotations

from pathlib import Path

import click

from ..screen import launched
from . import options


@click.command()
@options.recipe
@options.presets
@options.overrides
@options.data
@options.prepared
@options.limit
@click.option(
    "--out",
    type=options.Place(file_okay=False),
    help="The run folder.  [default: runs/NAME; with --limit, runs/NAME-limit-N]",
)
@options.workers
@click.option("--strict", is_flag=True, help="End at the first clip that cannot be read, rather than list and skip it.")
@options.device
@click.option(
    "--stop-after",
    type=click.Choice(["prepare", "pretrain", "embed", "probe", "supervise", "worth"]),
    help="Go no further than this stage.",
)
@options.overwrite
@click.option(
    "--continue",
    "more",
    is_flag=True,
    help="Go on with finished pretraining, for more epochs (--set pretrain.epochs=N), from its last one.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Folds and seeds at a time, each in a process of its own; they share the threads.  [default: 1; on a cluster as many as fit]",
)
@click.option(
    "--only",
    metavar="fold=N,seed=N",
    help="Run this fold and seed alone, or all of one fold or seed. Other processes may run others in the same folder meanwhile.",
)
@options.engine
@options.address
def run(
    recipe: str,
    presets: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
    prepared: str | None,
    limit: int | None,
    out: Path | None,
    workers: int | None,
    strict: bool,
    device: str,
    stop_after: str | None,
    overwrite: bool,
    more: bool,
    jobs: int | None,
    only: str | None,
    engine: str,
    address: str | None,
) -> None:
    """Run RECIPE, a file or the name of a shipped one, and print the path of its report.

    Stages that are finished and unchanged are not done again; a run that was killed goes on from its last checkpoint. Finished work
    of another plan is replaced only where that is asked for; another seed, head, input, task or measure of worth is added to it.
    """
    if overwrite and more:
        raise click.UsageError("--overwrite begins anew and --continue goes on; give one of them")
    options.check_engine(engine, address)
    from ..recipe.planner import laid_over, load_plan
    from ..recipe.shipped import find
    from ..runs import RunFolder

    sets = (*laid_over(presets, overrides), *([f"limit={limit}"] if limit else []))
    called = recipe if recipe.endswith((".yaml", ".yml")) else None
    plan = load_plan(find(recipe), sets, data, name=called, without=prepared is not None)
    from ..report import run_and_report  # after the plan: a mistake in the recipe is said before torch is imported

    few = plan.recipe.limit
    name = plan.name if few is None else f"{plan.name}-limit-{few}"  # never in the folder of the whole run
    folder = RunFolder(out if out is not None else Path("runs") / name, remote=prepared)
    report = run_and_report(plan, folder, workers, strict, device, stop_after, overwrite, more, jobs, only, engine, address)
    if launched()[0] == 0:
        click.echo(report if stop_after is None else folder.root)
