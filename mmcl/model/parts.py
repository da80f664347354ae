"""How the rows of one modality go through its network: all at once or some at a time, on one rank or on several that run in step.

Ranks run in step where their networks exchange something while they run: batch norms that see the rows of all ranks, and weights that are
sharded. Then each rank sends as many parts through as every other, a row of filler where it has none, of which nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..api.batch import Batch, Items, Stream
from ..engine.batch_norm import OverRanks, learning_norms
from ..engine.ranks import Ranks

Outputs = tuple[Tensor, ...]
"""What a network makes of some rows, each tensor with a line for every row."""


@dataclass(frozen=True)
class InStep:
    """How ranks send the rows of one modality through one network together."""

    ranks: Ranks
    rows: tuple[int, ...]  # that have the modality, on each rank
    pooled: bool  # batch norms see the rows of all ranks
    sharded: bool = False  # every rank needs the others whenever the network runs

    @property
    def own(self) -> int:
        """Rows of this rank."""
        return self.rows[self.ranks.rank]

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return sum(self.rows)

    def exchanges(self, network: nn.Module) -> bool:
        """Whether a rank without rows takes part, with filler, when a network runs."""
        return self.total > 0 and self.ranks.size > 1 and (self.sharded or (self.pooled and bool(learning_norms(network))))

    def parts(self, size: int | None) -> list[tuple[Tensor, int]]:
        """This rank's rows of each part (int64 [k], maybe none), and how many rows all ranks have in it.

        size  rows of a part; where norms see all ranks, those of all ranks together, dealt out in turn so that each rank has its share of
              every part, and so that a part holds the same rows in any number of processes
        """
        mine, largest = self.own, max(self.rows)
        if not self.pooled:
            cut = size or max(1, largest)
            return [(torch.arange(min(k, mine), min(k + cut, mine)), self.total) for k in range(0, max(1, largest), cut)]
        count = 1 if size is None else max(1, -(-self.total // size))
        before = sum(self.rows[: self.ranks.rank])
        return [(torch.arange(mine)[(j - before) % count :: count], len(range(j, self.total, count))) for j in range(count)]

    def norms(self, network: nn.Module, own: int, total: int) -> AbstractContextManager[object]:
        """The context in which a network sees so many rows of this rank, and of all."""
        if self.ranks.size == 1 or (own and not self.pooled):
            return nullcontext()
        if not self.pooled:
            return statistics_kept(network)
        return OverRanks(network, self.ranks, own, total)


def in_step_of(batch: Batch, names: Sequence[str], ranks: Ranks, pooled: bool, sharded: bool = False) -> dict[str, InStep]:
    """How ranks send each modality of a batch, of which this one has its share, through its network; {} where each goes by itself."""
    if not pooled and (not sharded or ranks.size == 1):
        return {}
    here = torch.tensor([int(batch.streams[name].present.sum()) for name in names], dtype=torch.int64, device=ranks.device)
    table = ranks.every(here).T.tolist()
    return {name: InStep(ranks, tuple(rows), pooled, sharded) for name, rows in zip(names, table, strict=True)}


def in_parts(
    network: nn.Module,
    encode: Callable[[Tensor, Tensor, Tensor], Outputs],
    stream: Stream,
    part: int | None,
    step: InStep | None,
    measured: bool,
    always: bool = False,
) -> Outputs:
    """What `encode` makes of values, steps and present of a stream, all of which are present, in the order of its rows.

    network   whose norms `encode` goes through
    part      rows that go through it at a time; where something is learned, activations are made again for the backward pass
    step      how ranks run in step; None: this rank goes by itself
    measured  whether values are measurements, and not ids
    always    whether they are cut where nothing is learned, too
    """
    size = part if torch.is_grad_enabled() or always else None
    n = len(stream.present)
    if step is None:
        cut = size or max(1, n)
        parts = [(torch.arange(k, min(k + cut, n)), n) for k in range(0, max(1, n), cut)]
    else:
        parts = [(rows, total) for rows, total in step.parts(size) if len(rows) or step.exchanges(network)]
    outputs = []
    for rows, total in parts:
        piece = stream if len(rows) == n else _piece(stream, rows)
        seen = piece if len(rows) or step is None else filler(stream, measured)
        context = nullcontext() if step is None else step.norms(network, len(rows), total)
        if len(parts) == 1 or not torch.is_grad_enabled():
            with context:
                encoded = encode(seen.values, seen.steps, seen.present)
        else:
            encoded = _again(encode, seen, network, context)
        outputs.append(encoded if seen is piece else tuple(one[:0] for one in encoded))
    if len(outputs) == 1:
        return outputs[0]
    order = torch.cat([rows for rows, _ in parts]).argsort().to(stream.present.device)
    straight = bool((order.diff() == 1).all())
    joined = [torch.cat(each) for each in zip(*outputs, strict=True)]
    return tuple(each if straight else each[order] for each in joined)


def filler(stream: Stream, measured: bool) -> Stream:
    """One row as a stream's rows are, all of whose steps are real; what stands in it means nothing, but is nothing odd either."""
    shape = (1, *stream.values.shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)) if measured else torch.zeros(shape)
    return Stream(
        values=noise.to(stream.values),
        steps=stream.steps.new_ones(1, *stream.steps.shape[1:]),
        present=stream.present.new_ones(1),
    )


def filler_of(batch: Batch, measured: Mapping[str, bool], present: Collection[str]) -> Batch:
    """One row of filler, which has some modalities.

    measured  whether a modality's values are measurements, by its name
    """
    nobody, streams = torch.zeros(1, dtype=torch.int64), {}
    for name, kind in measured.items():
        one = filler(batch.streams[name], kind)
        here = one.present if name in present else ~one.present
        streams[name] = Stream(one.values * here.view(1, *[1] * (one.values.ndim - 1)), one.steps & here[:, None], here)
    return Batch(Items(nobody, nobody), streams)


def _piece(stream: Stream, rows: Tensor) -> Stream:
    if bool((rows.diff() == 1).all()):  # neighbours need no copy
        here = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0)
        return Stream(stream.values[here], stream.steps[here], stream.present[here])
    rows = rows.to(stream.present.device)
    return Stream(stream.values[rows], stream.steps[rows], stream.present[rows])


def _again(
    encode: Callable[[Tensor, Tensor, Tensor], Outputs],
    seen: Stream,
    network: nn.Module,
    context: AbstractContextManager[object],
) -> Outputs:
    """What `encode` makes of rows, whose activations are made again for the backward pass."""
    outputs: Outputs = checkpoint(
        encode,
        seen.values,
        seen.steps,
        seen.present,
        use_reentrant=False,
        context_fn=lambda: (context, _second_time(context, network)),
    )
    return outputs


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """While it is entered, running statistics stay as they are."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum = 0.0
        m.num_batches_tracked = None if m.num_batches_tracked is None else m.num_batches_tracked.clone()
    try:
        yield
    finally:
        for m, (momentum, tracked) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, tracked


@contextmanager
def _second_time(context: AbstractContextManager[object], network: nn.Module) -> Iterator[None]:
    """While activations are made again, running statistics stay as the first pass left them."""
    with statistics_kept(network), context:
        yield
