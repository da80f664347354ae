"""Made-up streams."""

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
    present = torch.ones(len(lengths), dtype=torch.bool)
    if not layout.timed:
        values = torch.stack([drawn(layout.shape, generator) for generator in generators])
        return Stream(values, torch.ones(len(lengths), 1, dtype=torch.bool), present)
    steps = max(lengths) + padding
    values = torch.zeros(len(lengths), steps, *layout.shape)
    for row, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
        values[row, :length] = drawn((length, *layout.shape), generator)
    return Stream(values, torch.arange(steps)[None, :] < torch.tensor(lengths)[:, None], present)
