"""mmcl doctor"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from . import options


@click.command()
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what works on this machine: packages and extras, weights, threads and GPU, folders; a line each, with the remedy.

    Ends with 1 if mmcl cannot do its work here, else with 0: an extra that is not installed is no fault.
    """
    from ..review.machine import examined

    lines = examined()
    if as_json:
        click.echo(json.dumps([asdict(line) for line in lines], indent=1))
    else:
        for line in lines:
            click.echo(f"{line.state:<8} {line.name:<15} {line.text}{f' → {line.remedy}' if line.state != 'ok' else ''}")
    ctx.exit(int(any(line.state == "wrong" for line in lines)))
