"""Which windows of a recording networks see: drawn ones while they learn, all in turn where features are taken and averaged.

A network of one modality sees all of that modality, however long the others are; one of several sees them at the same time, to the
end of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..api.batch import Batch, Items, Stream
from ..data.batches import ahead
from ..data.stack import batch, stack
from ..data.store import Store
from ..data.windows import Span, cut, draw, slide
from ..recipe.plan import Plan
from ..seeding import address

WINDOWS = 64
"""Windows that go through a network at a time where nothing is learned."""


Views = int | Sequence[float]
"""Windows of each recording in a batch: how many, or of each what share of `window` it is."""
Share = Callable[[int], slice]
"""Which of so many rows of a batch this process cuts."""


def every(n: int) -> slice:
    """All rows of a batch."""
    return slice(0, n)


def draw_batches(
    plan: Plan,
    stores: Mapping[str, Store],
    batches: Sequence[Sequence[int]],
    views: Views,
    *where: str | int,
    first: int = 0,
    share: Share = every,
) -> Iterator[Batch]:
    """Batches of drawn windows, prepared one step ahead; where they are cut depends on the address `where` alone.

    batches  rows of recordings
    views    windows of each recording: how many, or what share of `window` each is
    first    number of the batch to begin with
    share    the rows of each batch that are wanted; they are cut where they would be if all were
    """
    yield from ahead(
        [
            partial(draw_batch, plan, stores, rows, views, np.random.default_rng(address(*where, k)), share)
            for k, rows in enumerate(batches)
            if k >= first
        ]
    )


def draw_batch(
    plan: Plan, stores: Mapping[str, Store], rows: Sequence[int], views: Views, rng: np.random.Generator, share: Share = every
) -> Batch:
    """Windows of every recording, each the same seconds in every modality; first all first views."""
    items = items_of(rows, views)
    seen = items.row.tolist()
    spans, mine = spans_drawn(plan, stores, seen, rng, parts_of(views, items.view.tolist())), share(len(seen))
    return batch(stores, seen[mine], spans[mine], views=items.view[mine].tolist())


def items_of(rows: Sequence[int], views: Views) -> Items:
    """Who stands in each row of a batch of drawn windows: first all first views."""
    count = views if isinstance(views, int) else len(views)
    numbers = [view for view in range(count) for _ in rows]
    return Items(row=torch.tensor([*rows] * count, dtype=torch.int64), view=torch.tensor(numbers, dtype=torch.int64))


def drawn_spans(
    plan: Plan, stores: Mapping[str, Store], batches: Sequence[Sequence[int]], views: Views, row: int, *where: str | int
) -> list[Span]:
    """Where `draw_batches` of the same arguments cuts one recording; no stream is read."""
    spans: list[Span] = []
    for k, rows in enumerate(batches):
        if row in rows:
            items = items_of(rows, views)
            seen, parts = items.row.tolist(), parts_of(views, items.view.tolist())
            drawn = spans_drawn(plan, stores, seen, np.random.default_rng(address(*where, k)), parts)
            spans += [span for one, span in zip(seen, drawn, strict=True) if one == row]
    return spans


def parts_of(views: Views, numbers: Sequence[int]) -> list[float]:
    """What share of `window` each row's window is, by the numbers of their views."""
    return [1.0 if isinstance(views, int) else views[number] for number in numbers]


def spans_drawn(
    plan: Plan, stores: Mapping[str, Store], rows: Sequence[int], rng: np.random.Generator, parts: Sequence[float]
) -> list[Span]:
    """A span of each recording.

    parts  what share of `window` each is
    """
    window = plan.recipe.window
    return [
        draw(stores, row, window.seconds, window.place, rng, window.share, part) for row, part in zip(rows, parts, strict=True)
    ]


def windows_of(
    plan: Plan, stores: Mapping[str, Store], rows: Sequence[int], by_length: bool = True
) -> Iterator[tuple[Tensor, Batch]]:
    """The windows from which all modalities are taken together, in batches: which of `rows` each is of (int64 [n]), and its streams.

    by_length  whole recordings come in batches of like length, which wastes less on padding; False: as `rows` has them
    """
    parts = _parts(_cuts(plan, stores, stores, rows, by_length))
    jobs = [partial(batch, stores, [row for _, row, _ in part], [span for _, _, span in part]) for part in parts]
    for part, windows in zip(parts, ahead(jobs), strict=True):
        yield torch.tensor([i for i, _, _ in part]), windows


def windows_of_each(plan: Plan, stores: Mapping[str, Store], rows: Sequence[int]) -> Iterator[tuple[str, Tensor, Stream]]:
    """The windows from which each modality is taken by itself, in batches: whose, which of `rows` each is of (int64 [n]), its stream.

    A modality's windows reach from its first second to its last, whatever the others have.
    """
    each = {name: _parts(_cuts(plan, stores, {name: store}, rows, True)) for name, store in stores.items()}
    turns = [
        (name, parts[k])
        for k in range(max(map(len, each.values()), default=0))
        for name, parts in each.items()
        if k < len(parts)
    ]
    jobs = [partial(_stream, stores[name], part) for name, part in turns]
    for (name, part), stream in zip(turns, ahead(jobs), strict=True):
        yield name, torch.tensor([i for i, _, _ in part]), stream


Cut = tuple[int, int, Span]
"""A recording's place among those that are asked for, its row, and what is cut from it."""


def _cuts(
    plan: Plan, stores: Mapping[str, Store], seen: Mapping[str, Store], rows: Sequence[int], by_length: bool
) -> list[Cut]:
    """Every window of every recording, over the length of the modalities that are seen.

    A recording that has none of them is cut as long as its others are: in no batch does anything depend on who lacks what.
    """
    window = plan.recipe.window
    cuts: list[Cut] = []
    for i, row in enumerate(rows):
        there = seen if any(row in store for store in seen.values()) else stores
        cuts += [(i, row, span) for span in slide(there, row, window.seconds, window.embed, window.hop)]
    if by_length:
        cuts.sort(key=lambda cut: _steps(stores, cut[1]) if cut[2].seconds is None else 0)
    return cuts


def _parts(cuts: Sequence[Cut]) -> list[Sequence[Cut]]:
    """As many windows as go through a network at a time."""
    return [cuts[k : k + WINDOWS] for k in range(0, len(cuts), WINDOWS)]


def _stream(store: Store, part: Sequence[Cut]) -> Stream:
    """One modality of a batch of windows."""
    return stack([cut(store, row, span) for _, row, span in part], store.layout)


def _steps(stores: Mapping[str, Store], row: int) -> int:
    """Steps of a recording, over all modalities that it has."""
    return sum(store.length(row) for store in stores.values() if row in store)


class WindowMean:
    """The mean of some vectors over each recording's windows, in the processor's memory; zeros for one without any."""

    def __init__(self, recordings: int, width: int) -> None:
        self._total, self._count = torch.zeros(recordings, width), torch.zeros(recordings)

    def add(self, index: Tensor, vectors: Tensor) -> None:
        """The vectors [n, width] of some windows, and which recording each is of (int64 [n])."""
        self._total.index_add_(0, index, vectors.float().cpu())
        self._count.index_add_(0, index, torch.ones(len(index)))

    @property
    def present(self) -> Tensor:
        """Which recordings have any window (bool)."""
        return self._count > 0

    @property
    def value(self) -> Tensor:
        """The means [recordings, width]."""
        return self._total / self._count.clamp_min(1)[:, None]
