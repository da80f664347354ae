"""mmcl serve"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options

PATH = options.Place()


@click.command("serve")
@click.argument("run", type=PATH)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen at; another than loopback needs --expose."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8400, show_default=True, help="Port; 0 for any that is free.")
@click.option("--expose", is_flag=True, help="Let other machines ask: there is no password and no encryption.")
@click.option("--name", "names", multiple=True, help="A name by which others know this machine; may be given several times.")
@click.option(
    "--root",
    type=options.Place(file_okay=False, exists=True),
    help="Take paths below this folder; left out: uploads alone.",
)
@click.option(
    "--in",
    "among",
    multiple=True,
    type=PATH,
    help="Look for neighbours in this folder, table or file; may be given several times.  [default: the run's own recordings]",
)
@click.option("--max-size", type=click.IntRange(1), default=200, show_default=True, metavar="MB", help="Size of an upload.")
@click.option(
    "--max-length",
    type=options.Number(0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Length of a recording.",
)
@click.option(
    "--max-time",
    type=options.Number(0, min_open=True),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Time for an answer.",
)
@click.option(
    "--max-memory",
    type=options.Number(0),
    default=8,
    show_default=True,
    metavar="GB",
    help="Memory for an answer on the processor, beyond what the run takes; 0 for no limit.",
)
@options.data
@options.device
def serve(run: Path, host: str, port: int, expose: bool, names: tuple[str, ...], root: Path | None, **given: Any) -> None:
    """Answer over HTTP with RUN: a page on which a clip is dropped, and JSON (see /openapi.json).

    Only this machine reaches it. Uploaded files are removed with their answer; nothing but a search's index is written.
    """
    from ..report.pages import style
    from ..use.serve import Limits, Work, is_loopback, start

    if not is_loopback(host):
        if not expose:
            raise click.UsageError(
                f"--host {host} lets other machines ask, without a password and without encryption; say --expose if that is meant"
            )
        click.echo(f"warning: whoever reaches {host} may ask this run; there is no password and no encryption", err=True)
    limits = Limits(
        bytes=given["max_size"] * 1_000_000,
        seconds=given["max_length"],
        time=given["max_time"],
        memory=round(given["max_memory"] * 1e9),
    )
    start(Work(run, given["data"], given["device"], given["among"], limits), host, port, root, names, style())
