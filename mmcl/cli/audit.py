"""mmcl audit"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from . import options


@click.command()
@click.argument("run", type=options.Place(file_okay=False))
@options.as_json
def audit(run: Path, as_json: bool) -> None:
    """Look in the files of RUN for anything by which the test set could have been seen; exit code 1 if there is.

    Splits, statistics, chosen epochs, features, probes, thresholds and predictions are derived again from the files. What the recipe asks
    for in so many words (splitting by recording, contrasting test inputs) is found too.
    """
    from ..review.audit import audit_folder

    audited = audit_folder(run)
    if as_json:
        document = {
            "checks": audited.checks,
            "findings": [asdict(one) for one in audited.findings],
            "left_out": audited.left_out,
        }
        click.echo(json.dumps(document, indent=1))
    else:
        for check in audited.checks:
            mine = [one for one in audited.findings if one.check == check]
            left = check in audited.left_out
            click.echo(f"{'LEAK' if mine else '?   ' if left else 'ok  '}  {check}{': could not be looked at' if left else ''}")
            if left:
                click.echo(f"      {audited.left_out[check]}")
            for one in mine:
                click.echo(f"      {one.evidence}{' (the recipe asks for it)' if one.asked else ''}")
    if audited.findings:
        sys.exit(1)
