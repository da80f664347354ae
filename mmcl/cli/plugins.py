"""mmcl plugins"""

from __future__ import annotations

import json
from typing import Any

import click

from . import options


@click.command()
@options.as_json
def plugins(as_json: bool) -> None:
    """List every plug-in: its package, the seconds of its import, what it offers, what it uses that will go, and why it failed if it did.

    MMCL_PLUGINS=none loads the built-in ones alone, MMCL_PLUGINS=a,b those and two others.
    """
    from ..plugins import OURS
    from ..plugins import plugins as installed

    rows: list[dict[str, Any]] = []
    for one in installed().loaded:
        offers = [{"what": o.what, "name": installed().reach(o)} for o in one.offers]
        rows.append(
            {
                "plugin": one.plugin,
                "package": one.package,
                "version": one.version,
                "module": one.module,
                "offers": offers,
                "failure": one.failure,
                "seconds": round(one.seconds, 4),
                "deprecated": [] if one.package == OURS else list(one.deprecations),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(f"{row['plugin']}  ({row['package']} {row['version']}, module {row['module']}, {row['seconds']:.3f} s)")
        if row["failure"]:
            click.echo(f"    failed: {row['failure']}")
        sorts: dict[str, list[str]] = {}
        for offer in row["offers"]:
            sorts.setdefault(offer["what"], []).append(offer["name"])
        for what, names in sorts.items():
            click.echo(f"    {what}: {', '.join(names)}")
        for sentence in row["deprecated"]:
            click.echo(f"    will go: {sentence.partition(': ')[2]}")
