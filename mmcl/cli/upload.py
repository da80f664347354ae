"""mmcl upload"""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command()
@click.argument("run", type=options.Place(file_okay=False))
@click.argument("url")
def upload(run: Path, url: str) -> None:
    """Put the prepared streams of RUN, and the list of its recordings, at URL: s3://BUCKET/FOLDER, gs://… or file:///….

    `mmcl run RECIPE --prepared URL` then starts from them on any machine, without a recording. What is there already stays.
    """
    from ..use.upload import upload as put

    for line in put(run, url):
        click.echo(line)
