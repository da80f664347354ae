"""Made-up streams, and single rows of them.

make_stream(layout, lengths)   a stream of a layout, as a backbone is given it
make_rows(shape, *lengths)     the same in float64, to be compared with a formula computed slowly
stack_rows(rows)               a stream of rows that are there already
row_of(stream, row)            one row alone, without its padding
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..api.batch import Stream
from ..api.kinds import Layout

if TYPE_CHECKING:
    from torch import Tensor


def make_stream(layout: Layout, lengths: Sequence[int], padding: int = 0, seed: int = 0) -> Stream:
    """A made-up stream whose rows have `lengths` real steps; `padding` more than the longest needs.

    A row's values depend on the seed and its place alone, never on padding or on the other rows. Without an axis `channel` they are
    ids, whole numbers from 1 to below the layout's `vocab`.
    """
    import torch

    def drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if layout.measured:
            return torch.randn(shape, generator=generator)
        return torch.randint(1, int(layout.notes.get("vocab", 2)), shape, generator=generator).float()

    generators = [torch.Generator().manual_seed(1000 * seed + row) for row in range(len(lengths))]
    if layout.timed:
        rows = [drawn((length, *layout.shape), g) for length, g in zip(lengths, generators, strict=True)]
        return stack_rows(rows, padding)
    values = torch.stack([drawn(layout.shape, generator) for generator in generators])
    count = len(lengths)
    return Stream(values, torch.ones(count, 1, dtype=torch.bool), torch.ones(count, dtype=torch.bool))


def make_rows(shape: Sequence[int], *lengths: int, pad: int = 0) -> Stream:
    """Random rows of these lengths in float64, the same ones whatever the padding; `shape` is that of a step."""
    import torch

    generators = [torch.Generator().manual_seed(row) for row in range(len(lengths))]
    rows = [
        torch.randn(length, *shape, dtype=torch.float64, generator=generator)
        for length, generator in zip(lengths, generators, strict=True)
    ]
    return stack_rows(rows, pad)


def stack_rows(rows: Sequence[Tensor], padding: int = 0) -> Stream:
    """A stream of these rows, each [its steps, …]; `padding` steps more than the longest needs."""
    import torch

    lengths = [len(row) for row in rows]
    steps = max(lengths) + padding
    values = rows[0].new_zeros(len(rows), steps, *rows[0].shape[1:])
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
    present = torch.ones(len(rows), dtype=torch.bool)
    return Stream(values, torch.arange(steps)[None, :] < torch.tensor(lengths)[:, None], present)


def row_of(stream: Stream, row: int, length: int | None = None) -> Stream:
    """One row of a stream by itself, cut to `length` steps; with all of its steps, padded ones included, if left out."""
    here = slice(row, row + 1)
    return Stream(stream.values[here, :length], stream.steps[here, :length], stream.present[here])
