"""Published tables: a paper's figures, cell by cell, and which score of which recipe stands beside each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """What the figures of a published table were measured on; a run on the same data and split shows them in its report.

    dataset     name of the dataset plug-in
    task        task of it that was predicted
    classes     how many classes the task had; 0 for a task without classes
    tested      groups that each fold tests, as the dataset names them, in any order
    recordings  test recordings of all folds together
    protocol    the split in a few words
    """

    dataset: str
    task: str
    classes: int
    tested: tuple[tuple[str, ...], ...]
    recordings: int
    protocol: str


@dataclass(frozen=True)
class Cell:
    """One figure of a published table, and where ours comes from.

    row, column  as the paper prints them
    value        the published figure in the paper's unit; None where the paper has none
    recipe       name of the recipe whose run is laid beside it; "" where nothing of ours can be
    task, input, head, encoder, metric   which score of report.json that is
    scale        what our score is multiplied by to have the paper's unit (100: percent)
    note         one sentence where the two are not quite the same thing
    sources      of a table with a benchmark: sources of the dataset that the figure was read from, so that a report can set the
                 run's own score from them beside it; () where the dataset has not what the paper read
    sets         "key=value", as `--set` takes them: the run is one of the recipe with these laid over it
    differs      what keeps even a run of the recipe itself from being compared ("2 of 3 modalities"); "": nothing
    tested       the fewest and the most test recordings that a run on the whole corpus has, over all folds; None: any number
    """

    row: str
    column: str
    value: float | None
    recipe: str = ""
    task: str = ""
    input: str = "all"
    head: str = "mlp"
    encoder: str = "pretrained"
    metric: str = "accuracy"
    scale: float = 100.0
    note: str = ""
    sources: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    differs: str = ""
    tested: tuple[int, int] | None = None


@dataclass(frozen=True)
class PublishedTable:
    """One table: "Table I", what it shows, its cells in reading order, and what they were measured on, where runs are to show it."""

    name: str
    caption: str
    cells: tuple[Cell, ...]
    benchmark: Benchmark | None = None


@dataclass(frozen=True)
class PublishedSpec:
    """What a plug-in registers for one paper."""

    name: str
    summary: str
    paper: str
    tables: tuple[PublishedTable, ...]
