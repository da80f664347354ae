"""mmcl report"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
def report(run: Path) -> None:
    """Write the report of the run folder RUN again, from its files alone, and print its path."""
    from ..stages.report import write_report

    write_report(run)
    click.echo(run / "report.html")
