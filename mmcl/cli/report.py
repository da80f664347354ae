"""mmcl report"""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=options.Place(file_okay=False))
@click.option(
    "--out",
    type=options.Place(dir_okay=False),
    help="Where the page of several runs goes.  [default: beside the first run]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write the report of a run again, or one page that sets several RUNS side by side, and print its path.

    Reads the run folders' files alone: no recipe, no data and no plug-in is needed.
    """
    if len(runs) == 1:
        if out is not None:
            raise click.UsageError("--out is for several runs; the report of one lies in its folder")
        from ..report.page import write_report

        write_report(runs[0])
        click.echo(runs[0] / "report.html")
        return
    from ..report.several import report_runs

    click.echo(report_runs(runs, out))
