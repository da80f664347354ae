"""mmcl export, mmcl publish"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import options

FOLDER = options.Place(file_okay=False)


def _which(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name one fold, seed and network of a run."""
    command = click.option("--network", help="TASK~INPUT~HEAD of one that labels trained.  [default: the pretrained encoders]")(
        command
    )
    command = click.option("--seed", type=int, help="The seed.  [default: the first]")(command)
    return click.option("--fold", type=int, help="The fold.  [default: the first]")(command)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.option(
    "--to", type=click.Choice(["onnx", "torch-export", "safetensors", "webdataset"]), required=True, help="What is written."
)
@_which
def export(run: Path, folder: Path, to: str, fold: int | None, seed: int | None, network: str | None) -> None:
    """Write what RUN learned into FOLDER as one graph, from prepared streams to answers, and check that it gives the run's own.

    safetensors are the weights with what it takes to rebuild the networks in Python, as `mmcl publish` lays them. webdataset are the
    prepared streams of a fold with their labels, as tar files for programs that stream them.
    """
    from ..use.giving import give

    for line in give(run, folder, to, fold, seed, network):
        click.echo(line)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("folder", type=FOLDER)
@_which
def publish(run: Path, folder: Path, fold: int | None, seed: int | None, network: str | None) -> None:
    """Lay what RUN learned into FOLDER with a model card, to be given away or uploaded to the hub; `mmcl.load` opens it.

    No recording, no id and no path of this machine is in it.
    """
    from ..use.giving import give

    for line in give(run, folder, "safetensors", fold, seed, network):
        click.echo(line)
