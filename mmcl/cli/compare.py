"""mmcl compare"""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=options.Place(file_okay=False))
@click.option("--task", help="The task to compare, where the runs have several.")
@click.option("--inputs", multiple=True, metavar="NAME", help="Predict from these alone.  [default: all]")
@click.option("--heads", multiple=True, metavar="NAME", help="These heads alone.")
@click.option(
    "--against", metavar="NAME", help="Beginning of the row that others are compared with.  [default: the first run's best]"
)
@click.option("--picture", type=options.Place(dir_okay=False), help="Draw it: an SVG file.")
@options.as_json
def compare(
    runs: tuple[Path, ...],
    task: str | None,
    inputs: tuple[str, ...],
    heads: tuple[str, ...],
    against: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Set RUNS side by side on the test recordings that all of them predicted.

    Intervals and tests are over groups (speakers, subjects), not over clips: a bootstrap of groups, and a test that flips the signs of whole
    groups, corrected for the number of comparisons (Holm).
    """
    from ..report.comparison import p_words
    from ..report.comparison import picture as draw
    from ..report.words import few, plural
    from ..review.compare import compare_runs

    comparison = compare_runs(runs, task, inputs, heads, against)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(draw(comparison), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(comparison.to_json(), indent=1))
        return
    click.echo(
        f"{comparison.task}: {comparison.measure} on {comparison.recordings} test recordings, 95 % intervals over {comparison.rows[0].score.groups} {plural(comparison.group)}\n"
    )
    if rough := few(comparison.rows[0].score.groups, plural(comparison.group)):
        click.echo(f"{rough}\n")
    width = max(len(row.name) for row in comparison.rows)
    click.echo(f"{'':<{width}}  score  interval        difference  interval         p (Holm)  effect  higher in")
    for row in comparison.rows:
        text = f"{row.name:<{width}}  {row.score.mean:.3f}  {row.score.low:.3f} to {row.score.high:.3f}"
        if row.against is None:
            click.echo(f"{text}  compared with")
            continue
        one = row.against
        effect = "–" if one.effect is None else f"{one.effect:+.2f}"
        click.echo(
            f"{text}  {one.difference.mean:+.3f}      {one.difference.low:+.3f} to {one.difference.high:+.3f}  "
            f"{p_words(row.corrected):>8}  {effect:>6}  {one.better} of {one.difference.groups}"
        )
