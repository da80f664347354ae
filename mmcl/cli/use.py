"""mmcl embed, mmcl predict, mmcl search"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..screen import say
from . import options

run = click.argument("run", type=options.Place())
names = click.argument("names", nargs=-1, required=True, metavar="FILE|FOLDER|TABLE|ID…")
fold = click.option("--fold", type=click.IntRange(0), help="Ask this fold alone.")
seed = click.option("--seed", type=int, help="Ask this seed alone.")
windows = click.option("--windows", is_flag=True, help="A row for every window in place of one a recording.")
seconds = click.option("--seconds", type=options.Number(0, min_open=True), help="Length of windows; left out: the recipe's.")
hop = click.option("--hop", type=options.Number(0, min_open=True), help="From one window to the next; left out: half of one.")


def course(command: Callable[..., int]) -> Callable[..., int]:
    """The options of windows, of what part of the run is asked, and of where its data and processor are."""
    for option in (options.device, options.data, seed, fold, hop, seconds, windows):
        command = option(command)
    return command


@click.command("embed")
@run
@names
@click.option(
    "--out",
    type=options.Place(dir_okay=False),
    default=Path("features.npz"),
    show_default=True,
    help="Where to write: .npz, .safetensors or .parquet.",
)
@click.option("--overwrite", is_flag=True, help="Write it again if it is there.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Processes that read and encode recordings, some at a time each; they share the threads.  [default: 1; on a cluster as many as fit]",
)
@options.engine
@options.address
@course
def embed(
    names: tuple[str, ...], out: Path, overwrite: bool, jobs: int | None, engine: str, address: str | None, **given: Any
) -> int:
    """Take frozen features of recordings with the encoders of RUN, prepared as its own were.

    Files of one name are one recording; a table has a row a recording and its sources in columns. Any of the run's modalities may be missing.
    Exit code 1: some recordings could not be read; each is named.
    """
    options.check_engine(engine, address)
    from ..api.errors import StageError
    from ..stages.engines import engine_of
    from ..use.embedding import require_ending

    require_ending(out)  # before hours of work
    cut = {name: given.pop(name) for name in ("windows", "seconds", "hop", "fold", "seed")}
    if out.exists() and not overwrite:
        raise StageError(f"{out}: is there already; give --overwrite to write it again, or another --out")
    session = _opened(given)
    embedded = session.embed(names, jobs=jobs, engine=engine_of(engine, address), beside=out.parent, **cut)
    embedded.save(out, session.sides(embedded))
    shown = ", ".join(
        f"{name} {one.vector.shape[1]} wide in {int(one.present.sum()):,}" for name, one in embedded.features.items()
    )
    say(f"{out}: {len(embedded.ids):,} rows of {len(embedded.items):,} recordings; {shown}")
    return 1 if session.refused else 0


@click.command("predict")
@run
@names
@click.option("--out", type=options.Place(dir_okay=False), help="Write there, as .jsonl or .csv; left out: print JSON lines.")
@click.option("--overwrite", is_flag=True, help="Write it again if it is there.")
@click.option("--task", "tasks", multiple=True, help="Predict this task alone; may be given several times.")
@click.option("--input", help="Ask heads on these modalities; left out: on most of those that a recording has.")
@click.option("--head", help="Ask this head; left out: the recipe's first that suits.")
@click.option(
    "--supervised", is_flag=True, help="Ask the networks that labels trained (`supervise`), not heads on frozen features."
)
@course
def predict(names: tuple[str, ...], out: Path | None, overwrite: bool, tasks: tuple[str, ...], **given: Any) -> int:
    """Say what RUN's heads answer about recordings: labels with calibrated probabilities, or values.

    The mean over all folds and seeds answers; a recording of the run's own is answered by the folds that have not seen it, where there are
    any. Exit code 1: some recordings could not be read; each is named.
    """
    from ..api.errors import StageError

    if out is not None and out.suffix.lower() not in (".jsonl", ".csv"):
        raise StageError(f"--out {out}: answers are written as .jsonl or .csv")
    if out is not None and out.exists() and not overwrite:
        raise StageError(f"{out}: is there already; give --overwrite to write it again, or another --out")
    how = {name: given.pop(name) for name in ("windows", "seconds", "hop", "fold", "seed", "input", "head", "supervised")}
    session = _opened(given)
    answers = [one.to_json() for one in session.predict(names, tasks=tasks, **how)]
    text = _csv(answers) if out is not None and out.suffix.lower() == ".csv" else _lines(answers)
    if out is None:
        click.echo(text, nl=False)
    else:
        from ..runs import write_text

        write_text(out, text)
        say(f"{out}: {len(answers):,} answers")
    missing = sorted({name for one in answers for name in one["missing"]})
    if missing:
        count = sum(bool(one["missing"]) for one in answers)
        say(f"{count:,} of {len(answers):,} answers lacked {', '.join(missing)}")
    return 1 if session.refused else 0


@click.command("search")
@run
@click.argument("query", nargs=-1, required=True, metavar="FILE|ID…")
@click.option(
    "--in",
    "among",
    multiple=True,
    help="Folder, table or files that are searched; may be given several times.  [default: the run's own recordings]",
)
@click.option("-n", type=click.IntRange(1), default=10, show_default=True, help="So many of each query.")
@click.option("--by", "ask", help="Modality of the query; left out: all that it has.")
@click.option("--modality", help="Modality of the recordings that are searched; left out: all that they have.")
@fold
@seed
@options.data
@options.device
@options.as_json
def search(query: tuple[str, ...], among: tuple[str, ...], n: int, as_json: bool, **given: Any) -> int:
    """Find the recordings nearest to a recording, of whatever modality, in the space in which RUN contrasted them.

    Without --in the run's own recordings are searched, by the features that it kept. The embeddings of other files are kept beside the run, so that the next search of the same files is quick.
    """
    how = {name: given.pop(name) for name in ("ask", "modality", "fold", "seed")}
    session = _opened(given)
    results = [one.to_json() for one in session.search(query, among or None, n=n, **how)]
    if as_json:
        click.echo(_lines(results), nl=False)
    else:
        wide = max((len(one["id"]) for one in results), default=0)
        for one in results:
            click.echo(f"{one['similarity']:+.3f}  {one['id']:<{wide}}  {one['file']}")
    if not results:
        say("nothing is near: there is no other recording among those that were searched")
    return 1 if session.refused else 0


def _opened(given: dict[str, Any]) -> Any:
    from ..use.session import Session

    return Session(given["run"], given["data"], given["device"])


def _lines(rows: list[dict[str, Any]]) -> str:
    import json

    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    from ..use.answers import flat

    flattened = [flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flattened for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flattened)
    return out.getvalue()
