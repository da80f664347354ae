"""mmcl check-plugin"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import click

from ..api.errors import PluginError
from . import options


@click.command("check-plugin")
@click.argument("package")
@click.option(
    "--data",
    type=options.Place(file_okay=False, exists=True),
    help="Folder of real recordings: DATA/NAME of a dataset NAME, or DATA itself. They are read, and nothing is written.",
)
@click.option("--recordings", type=click.IntRange(1), default=24, show_default=True, help="Real recordings that are read.")
@options.as_json
def check_plugin(package: str, data: Path | None, recordings: int, as_json: bool) -> None:
    """Check all that PACKAGE offers against the contract: a module's name, such as mmcl_mine, or a package's, such as mmcl-mine.

    Exit code 2 where something fails; what could not be tried is said, and what works and will go with a later release.
    """
    module = package.replace("-", "_")
    try:
        there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise PluginError(f"no module '{module}' is installed; pip install -e the package, or name its module")
    from ..testing import check_plugin as run  # late: torch comes with the first check

    results = run(module, data=data, recordings=recordings)
    failed = [one for one in results if one.passed is False]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in results], indent=1))
    else:
        name = ""
        for one in results:
            if one.name != name:
                name = one.name
                click.echo(name)
            sign = {True: "will go" if one.message else "ok", False: "FAILED", None: "not tried"}[one.passed]
            click.echo(f"  {sign:<10} {one.check}{f': {one.message}' if one.message else ''}")
        untried = sum(one.passed is None for one in results)
        outdated = sum(bool(one.passed and one.message) for one in results)
        ends = f", {outdated} of what it uses will go" if outdated else ""
        click.echo(
            f"{len(results) - len(failed) - untried} checks passed, {len(failed)} failed, {untried} not tried{ends}", err=True
        )
    if failed:
        raise click.exceptions.Exit(2)
