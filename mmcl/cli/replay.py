"""mmcl replay"""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command()
@click.argument("run", type=options.Place(file_okay=False))
def replay(run: Path) -> None:
    """Look at the batch at which pretraining in RUN stopped since its loss was no number: whose streams, which embeddings, which pair.

    The batch goes through the networks once more, with the weights and draws that it had; nothing is written.
    """
    from ..review.replay import replay as replayed

    for sentence in replayed(run):
        click.echo(sentence)
