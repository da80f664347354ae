"""mmcl data"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..review.recordings import Census, SourceCount

SHOWN = 20
"""Defects, and sentences about labels, that are printed; --json has them all."""


@click.group()
def data() -> None:
    """Look at recordings, before a run or after."""


@data.command()
@click.argument("target", metavar="RECIPE-or-FOLDER")
@options.overrides
@options.data
@options.limit
@options.as_json
def check(target: str, overrides: tuple[str, ...], data: Path | None, limit: int | None, as_json: bool) -> None:
    """Read the table and the head of every file of a recipe's data, or of a folder with a table of its own; extract nothing.

    Says how many recordings, people and labels there are in each split, how long they last, what is missing and what is damaged. What a run would
    refuse is refused here: a word that is no split, a speaker on both sides, an empty split, a class with a single recording.
    """
    from ..review.recordings import census_of_folder, census_of_plan

    if Path(target).is_dir():
        if overrides or limit is not None:
            raise click.UsageError("--set and --limit belong to a recipe; a folder is looked at whole")
        census, title = census_of_folder(Path(target)), target
    else:
        from ..recipe.planner import load_plan
        from ..recipe.shipped import find

        sets = (*overrides, *([f"limit={limit}"] if limit else []))
        plan = load_plan(find(target), sets, data, name=target if target.endswith((".yaml", ".yml")) else None)
        census, title = census_of_plan(plan), f"{plan.name}, {plan.root or plan.dataset.use}"
    if as_json:
        click.echo(json.dumps(census.to_json(), indent=1))
        return
    click.echo(title)
    for line in lines_of(census):
        click.echo(line)


def lines_of(census: Census) -> list[str]:
    """A census in a few lines."""
    few = f" (limit {census.limit})" if census.limit is not None else ""
    lines = [f"  recordings  {census.recordings:,} of {_count(census.groups, census.group)}{few}"]
    if census.groups == census.recordings and census.group == "recording":
        lines.append(
            "              no column says who is in them: the same person may stand on both sides of a split (dataset.group)"
        )
        lines += [f"              does '{name}'? then write group: {name}" for name in _people(census)]
    if census.splits:
        parts = [f"{name} {count:,} ({_count(groups, census.group)})" for name, (count, groups) in census.splits.items()]
        lines.append(f"  splits      {', '.join(parts)}")
    for name, task in census.tasks.items():
        if "counts" in task:
            shown = ", ".join(f"{one} {count:,}" for one, count in task["counts"].items())
        else:
            shown = "; ".join(f"{one} {low:g} to {high:g}" for one, (low, high) in task["ranges"].items())
        unknown = f"; unknown {task['unknown']:,}" if task["unknown"] else ""
        lines.append(f"  {name:<11} {task['type']}: {shown}{unknown}")
    lines += [f"  look        {sentence}" for sentence in census.concerns[:SHOWN]]
    if len(census.concerns) > SHOWN:
        lines.append(f"              … and {len(census.concerns) - SHOWN:,} more (--json lists them)")
    lines += [f"  {source.name:<11} {_source(source)}" for source in census.sources]
    if census.sources and not census.headers:
        lines.append("              this dataset says nothing of files before they are read; a run lists what it cannot read")
    if census.facts:
        shown = ", ".join(f"{name} ({count:,} value{'s' * (count != 1)})" for name, count in census.facts.items())
        lines.append(f"  facts       {shown}: kept, not learned; a label is numbers, or a few words that come again and again")
    if census.apart:
        names = ", ".join(census.apart[:5]) + (", …" if len(census.apart) > 5 else "")
        lines.append(f"  apart       {len(census.apart):,} whose sources differ in length by more than a tenth: {names}")
    for id, source, sentence in census.defects[:SHOWN]:
        lines.append(f"  defect      {id}, {source}: {sentence}")
    if len(census.defects) > SHOWN:
        lines.append(f"              … and {len(census.defects) - SHOWN:,} more (--json lists them)")
    if census.defects:
        lines.append(f"              a run lists these {len(census.defects):,} and skips them; with --strict it ends there")
    return lines


def _people(census: Census) -> list[str]:
    """Labels whose classes look like names of people: S01, actor_3."""
    from ..begin.table import PERSON

    return [name for name, task in census.tasks.items() if task.get("counts") and all(map(PERSON.fullmatch, task["counts"]))]


def _source(source: SourceCount) -> str:
    """One source in a line."""
    total = source.present + source.missing
    text = f"{source.type}: " + (
        f"all {total:,}" if not source.missing else f"{source.present:,} of {total:,}, {source.missing:,} missing"
    )
    if source.seconds is not None:
        text += f"; {_length(source.seconds)}, {source.shortest:.2f} to {source.longest:.2f} s each"
    if source.rates:
        text += f"; {', '.join(f'{rate} a second {count:,}' for rate, count in list(source.rates.items())[:4])}"
    return text


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@data.command()
@click.argument("target", metavar="RECIPE-or-RUN")
@click.argument("id")
@options.overrides
@options.data
@click.option(
    "--out",
    type=options.Place(dir_okay=False),
    help="Where the page goes; left out: ID.html in the current folder.",
)
def show(target: str, id: str, overrides: tuple[str, ...], data: Path | None, out: Path | None) -> None:
    """Draw one recording on a time line: sound, frames, landmarks, words, every modality's stream, gaps.

    Of a run, what it prepared is shown, and the windows that pretraining cut; of a recipe, what would be made now.
    """
    from ..report.one_recording import write_page
    from ..review.one_recording import recording_of_plan, recording_of_run

    if Path(target).is_dir():
        if overrides:
            raise click.UsageError("--set belongs to a recipe; a run is shown as it was made")
        shown = recording_of_run(Path(target), id, data)
    else:
        from ..recipe.planner import load_plan
        from ..recipe.shipped import find

        plan = load_plan(find(target), overrides, data, name=target if target.endswith((".yaml", ".yml")) else None)
        shown = recording_of_plan(plan, id)
    name = re.sub(r"[^\w.-]+", "-", id).strip(".-")[:100] or "recording"
    path = out or Path(f"{name}.html")
    if out is None and path.exists():
        raise click.UsageError(f"{path} is there already; name another with --out, which may write over it")
    click.echo(write_page(shown, path))
