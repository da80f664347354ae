"""mmcl rerun"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ..screen import say
from . import options


@click.command()
@click.argument("run", type=options.Place(file_okay=False))
@click.option("--out", type=options.Place(file_okay=False), help="The new run folder.  [default: RUN-again]")
@options.data
@options.workers
@options.overwrite
@options.as_json
def rerun(run: Path, out: Path | None, data: Path | None, workers: int | None, overwrite: bool, as_json: bool) -> None:
    """Repeat RUN from its folder alone, and say what came out differently; exit code 1 if anything did.

    On the same machine with the same versions and threads, weights are the same to the bit.
    """
    from ..review.rerun import differences, plan_of

    plan = plan_of(run, data)
    from ..report import run_and_report
    from ..runs import RunFolder, read_json

    for sentence in read_json(run / "plan.json").get("going_on", []):
        say(f"mmcl: {run}: {sentence}; the repetition trains in one go")
    folder = out if out is not None else run.resolve().with_name(f"{run.resolve().name}-again")
    # Streams are prepared anew too, in the repetition's own folder: those of the run would hide that preparing them has a state.
    run_and_report(plan, RunFolder(folder, folder / "prepared"), workers, overwrite=overwrite)
    repeated = differences(run, folder)
    if as_json:
        click.echo(json.dumps(repeated.to_json(), indent=1))
    else:
        click.echo(
            f"{folder}: {repeated.scores} scores, {len(repeated.differences)} of them different; {repeated.weights} file{'' if repeated.weights == 1 else 's'} of weights, {len(repeated.other_weights)} of them different"
        )
        for name, (old, new) in repeated.versions.items():
            click.echo(f"  {name}: {old} then, {new} now" if " " in name else f"  version of {name}: {old} then, {new} now")
        for name, (before, after) in repeated.surroundings.items():
            click.echo(f"  {name}: {_plain(before)} then, {_plain(after)} now")
        for one in repeated.differences[:50]:
            click.echo(
                f"  {one.task} {one.input} {one.head} {one.encoder} fold {one.fold} seed {one.seed} {one.metric}: {_number(one.old)} then, {_number(one.new)} now"
            )
        if len(repeated.differences) > 50:
            click.echo(f"  … and {len(repeated.differences) - 50} more (--json has all)")
    if repeated.differences or repeated.other_weights:
        sys.exit(1)


def _plain(value: object) -> str:
    return "not set" if value is None else str(value)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
