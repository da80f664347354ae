"""What the networks that labels trained say of recordings, or of their windows, that a run is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..api.batch import Batch
from ..data.stack import batch
from ..data.windows import Span, slide, whole_seconds
from ..model.kept_network import KeptNetwork
from ..model.windows import WINDOWS, windows_of
from ..recipe.plan import Plan
from .files import Item
from .reading import Chunk

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A recording that is asked about, or a window of one.

    row     of the recording, in its chunk
    number  of the window, in its recording
    cut     the window; None for a whole recording
    span    its seconds
    there   the modalities that it has
    """

    item: Item
    row: int
    number: int
    cut: Span | None
    span: tuple[float, float] | None
    there: tuple[str, ...]


def rows_of(plan: Plan, chunk: Chunk, windows: tuple[float, float | None] | None) -> list[Row]:
    """The recordings of a chunk or, with `windows` (seconds and hop), their windows: the same seconds of every modality."""
    stores, names = chunk.stores, [modality.name for modality in plan.modalities]
    if windows is None:
        return [
            Row(item, row, 0, None, None, tuple(name for name in names if row in stores[name]))
            for row, item in enumerate(chunk.items)
        ]
    rows: list[Row] = []
    for row, item in enumerate(chunk.items):
        cuts = slide(stores, row, windows[0], "sliding", windows[1])
        streams = batch(stores, [row] * len(cuts), cuts).streams
        last = whole_seconds(stores, row)
        for number, cut in enumerate(cuts):
            span = cut.start, min(cut.start + windows[0], max(last, cut.start))
            there = tuple(name for name in names if bool(streams[name].present[number]))
            rows.append(Row(item, row, number, cut, span, there))
    return rows


def answers_of(
    plan: Plan, network: KeptNetwork, chunk: Chunk, rows: Sequence[Row], device: torch.device
) -> tuple[Floats, Floats | None]:
    """A network's outputs of some rows, less its thresholds, and probabilities, each [n, outputs]; None of a regression."""
    stores = {name: chunk.stores[name] for name in network.modalities}
    cuts = [(row.row, row.cut) for row in rows if row.cut is not None]
    if not cuts:
        windows: Iterator[tuple[Tensor, Batch]] = windows_of(plan, stores, [row.row for row in rows], by_length=False)
    else:
        windows = (
            (torch.arange(k, min(k + WINDOWS, len(cuts))), batch(stores, [row for row, _ in some], [cut for _, cut in some]))
            for k in range(0, len(cuts), WINDOWS)
            for some in [cuts[k : k + WINDOWS]]
        )
    return network.answers(windows, len(rows), str(device))
