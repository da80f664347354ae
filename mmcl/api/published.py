"""Published tables: a paper's figures, cell by cell, and which score of which recipe stands beside each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One figure of a published table, and where ours comes from.

    row, column  as the paper prints them
    value        the published figure in the paper's unit; None where the paper has none
    recipe       name of the recipe whose run is laid beside it; "" where nothing of ours can be
    task, input, head, encoder, metric   which score of report.json that is
    scale        what our score is multiplied by to have the paper's unit (100: percent)
    note         one sentence where the two are not quite the same thing
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


@dataclass(frozen=True)
class PublishedTable:
    """One table: "Table I", what it shows, and its cells in reading order."""

    name: str
    caption: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PublishedSpec:
    """What a plug-in registers for one paper."""

    name: str
    summary: str
    paper: str
    tables: tuple[PublishedTable, ...]
