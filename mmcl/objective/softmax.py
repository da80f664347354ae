"""All pairs of a loss that is a softmax over candidates, both directions at once (see `mmcl.api.Softmax`).

A cosine is at most 1, so no exponential of a moderately scaled one overflows: no maxima are searched, and the one matrix of exponentials of
a pair serves both directions, as sums over its rows and over its columns. Small batches are scored as one stack of all pairs. Big
ones go pair by pair in blocks of anchors, twice: first for the sums, then for the gradient, where what was not held is computed again. So what
stays for the backward pass is one gradient an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..api.loss import Softmax

LARGEST_SCALE = {torch.float32: 40.0, torch.float64: 300.0}
"""Scales up to which exp(±scale), and sums of many, stay well inside the numbers of a type."""

EPS = 1e-12
"""Shortest length that a vector is divided by, as `torch.nn.functional.normalize` has it."""

Masks = Callable[[slice], tuple[Tensor, Tensor]]
"""Positive and ignore of some anchors against all candidates, bool [rows, N]."""


@dataclass
class Units:
    """Embeddings of a modality, of length 1, and the gradient that gathers for them."""

    unit: Tensor  # [n, D]
    length: Tensor  # [n, 1], before
    grad: Tensor | None = None

    @classmethod
    def of(cls, z: Tensor, wanted: bool) -> Units:
        """Of embeddings as they are."""
        length = z.norm(dim=-1, keepdim=True)
        unit = z / length.clamp_min(EPS)
        return cls(unit, length, torch.zeros_like(unit) if wanted else None)

    def slope(self) -> Tensor:
        """The gradient for the embeddings as they were, written over the one for the units."""
        assert self.grad is not None
        along = (self.grad * self.unit).sum(-1, keepdim=True).mul_(self.length >= EPS)
        return self.grad.addcmul_(self.unit, along, value=-1).div_(self.length.clamp_min(EPS))


@dataclass
class Result:
    """What every pair [P] of a stack gives in both directions."""

    loss: Tensor  # [P, 2]: sum over anchors, factor included
    anchors: list[list[int]]  # [P][2]
    metrics: dict[str, Tensor]  # name → [P, 2], means over anchors


@dataclass
class _Stack:
    """Pairs with as many recordings each, scored together in two sweeps: `sums`, then `gradients`."""

    left: Tensor  # [P, N, D], of length 1
    right: Tensor
    softmax: Softmax
    scale: float
    block: int  # anchors of a block
    held: int  # exponentials that may be held for the second sweep
    kept: dict[int, Any] = field(default_factory=dict)  # what is held of blocks, by their first anchor

    def cuts(self) -> Iterator[slice]:
        for k in range(0, self.left.shape[1], self.block):
            yield slice(k, k + self.block)

    def logits(self, cut: slice) -> Tensor:
        return torch.bmm(self.left[:, cut] * self.scale, self.right.mT)

    def hold(self, cut: slice, power: Tensor, more: Tensor | None = None) -> None:
        if self.held >= power.numel():
            self.held -= power.numel()
            self.kept[cut.start] = power, more

    def pulled(self, cuts: Iterator[tuple[slice, Tensor]]) -> tuple[Tensor, Tensor]:
        """Gradients of left and right units [P, N, D] from those of the logits, block by block."""
        to_left, to_right = torch.empty_like(self.left), None
        for cut, slope in cuts:
            torch.bmm(slope, self.right, out=to_left[:, cut])
            if to_right is None:
                to_right = torch.bmm(slope.mT, self.left[:, cut])
            else:
                to_right.baddbmm_(slope.mT, self.left[:, cut])
        assert to_right is not None
        to_left.mul_(self.scale)
        return to_left, to_right.mul_(self.scale)


@dataclass
class Diagonal(_Stack):
    """Anchor i belongs to candidate i alone, and nothing is ignored."""

    def sums(self) -> Result:
        """What each direction gives."""
        n, own, best, best_down, total, total_down = self.left.shape[1], [], [], [], [], []
        for cut in self.cuts():
            power = self.logits(cut)
            diagonal = power.diagonal(cut.start, 1, 2)
            own.append(diagonal.clone())
            diagonal.fill_(-torch.inf)
            best.append(power.amax(2))
            best_down.append(power.amax(1))
            diagonal.copy_(own[-1])
            power.exp_()
            total.append(power.sum(2))
            total_down.append(power.sum(1))
            self.hold(cut, power)
        if len(own) == 1:
            near, highest = own[0], torch.stack([best[0], best_down[0]], 1)
            self.total = torch.stack([total[0], total_down[0]], 1)  # [P, 2, N]
        else:
            near, highest = torch.cat(own, 1), torch.stack([torch.cat(best, 1), torch.stack(best_down).amax(0)], 1)
            self.total = torch.stack([torch.cat(total, 1), torch.stack(total_down).sum(0)], 1)
        together = near.sum(1, keepdim=True)
        every = (self.left.sum(1) * self.right.sum(1)).sum(1, keepdim=True)  # of all cosines
        loss = self.total.log().sum(2) - together
        metrics = {
            "accuracy": (near[:, None] > highest).to(loss.dtype).mean(2),
            "positive_cosine": (together / (n * self.scale)).expand_as(loss),
            "negative_cosine": ((every - together / self.scale) / (n * (n - 1))).expand_as(loss),
        }
        factor = self.softmax.factor
        return Result(loss * factor if factor != 1 else loss, [[n, n]] * len(loss), metrics)

    def gradients(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of left and right units [P, N, D].

        weights  [P, 2]: what an anchor's loss weighs, factor included
        """
        below, above = weights[:, :, None] / self.total, weights.sum(1, keepdim=True)

        def slopes() -> Iterator[tuple[slice, Tensor]]:
            for cut in self.cuts():
                power, _ = self.kept.pop(cut.start, None) or (self.logits(cut).exp_(), None)
                slope = (below[:, 0, cut, None] + below[:, 1, None, :]).mul_(power)
                slope.diagonal(cut.start, 1, 2).sub_(above)
                yield cut, slope

        return self.pulled(slopes())


@dataclass
class Masked(_Stack):
    """Any positives, and candidates that are ignored."""

    masks: Masks | None = None  # bool [P, rows, N]

    def sums(self) -> Result:
        """What each direction gives."""
        rows: list[Tensor] = []
        columns: Tensor | None = None
        for cut in self.cuts():
            across, down = self._sweep(cut)
            rows.append(across)
            columns = down if columns is None else _joined(columns, down)
        assert columns is not None
        both = torch.stack([torch.cat(rows, 2), columns], 2)
        self.total, self.positives, negatives, near, far, best, worst = both.unbind(0)  # [P, 2, N] each
        counts = self.positives > 0 if self.softmax.positives_below else (self.positives > 0) & (negatives > 0)
        self.counts = counts
        near, far = near / self.positives.clamp_min(1), far / negatives.clamp_min(1)
        each = torch.where(counts, self.total.log() - near, 0)
        anchors, opposed = counts.sum(2), counts & (negatives > 0)
        divisor = anchors.clamp_min(1).to(each.dtype)
        metrics = {
            "accuracy": ((best > worst) & counts).sum(2) / divisor,
            "positive_cosine": (near * counts).sum(2) / divisor / self.scale,
            "negative_cosine": (far * opposed).sum(2) / opposed.sum(2).clamp_min(1) / self.scale,
        }
        loss = each.sum(2)
        return Result(loss * self.softmax.factor if self.softmax.factor != 1 else loss, anchors.tolist(), metrics)

    def _at(self, cut: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Positives, and who stands in the denominator."""
        assert self.masks is not None
        positive, ignore = self.masks(cut)
        if self.softmax.ignore_above is not None:
            ignore = ignore | (~positive & (logits > self.softmax.ignore_above * self.scale))
        return positive & ~ignore, ~ignore if self.softmax.positives_below else ~(positive | ignore)

    def _sweep(self, cut: slice) -> tuple[Tensor, Tensor]:
        """Seven figures of every anchor of a block [7, P, rows], and of every candidate as far as the block says [7, P, N]."""
        logits = self.logits(cut)
        positive, below = self._at(cut, logits)
        negative = below & ~positive
        near, far = logits.masked_fill(~positive, 0), logits.masked_fill(~negative, 0)
        best, worst = logits.masked_fill(~positive, -torch.inf), logits.masked_fill(~negative, -torch.inf)
        power = logits.exp_().masked_fill_(~below, 0)
        self.hold(cut, power, positive)
        across, down = (
            torch.stack(
                [
                    power.sum(axis),
                    positive.sum(axis, dtype=power.dtype),
                    negative.sum(axis, dtype=power.dtype),
                    near.sum(axis),
                    far.sum(axis),
                    best.amax(axis),
                    worst.amax(axis),
                ]
            )
            for axis in (2, 1)
        )
        return across, down

    def _again(self, cut: slice) -> tuple[Tensor, Tensor]:
        logits = self.logits(cut)
        positive, below = self._at(cut, logits)
        return logits.exp_().masked_fill_(~below, 0), positive

    def gradients(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """As for Diagonal."""
        weight = self.counts * weights[:, :, None]
        below = weight / torch.where(self.counts, self.total, 1)
        above = weight / self.positives.clamp_min(1)

        def slopes() -> Iterator[tuple[slice, Tensor]]:
            for cut in self.cuts():
                power, positive = self.kept.pop(cut.start, None) or self._again(cut)
                slope = (below[:, 0, cut, None] + below[:, 1, None, :]).mul_(power)
                yield cut, slope.sub_((above[:, 0, cut, None] + above[:, 1, None, :]).mul_(positive))

        return self.pulled(slopes())


def _joined(one: Tensor, other: Tensor) -> Tensor:
    """What two blocks say of every candidate: sums, and the largest of the last two."""
    one[:5] += other[:5]
    torch.maximum(one[5:], other[5:], out=one[5:])
    return one


def _diagonal(positive: Tensor, ignore: Tensor, start: int) -> bool:
    """Whether anchor `start + i` belongs to candidate `start + i` alone, and nothing is ignored; bool [rows, N] both."""
    if positive.shape[1] < 2:
        return False
    if positive.device.type != "cpu":
        alone = (positive.count_nonzero() == positive.shape[0]) & positive.diagonal(start).all() & ~ignore.any()
        return bool(alone)
    mine, ignored = positive.numpy(), ignore.numpy()  # numpy counts bytes 10 times faster
    return np.count_nonzero(mine) == len(mine) and bool(mine.diagonal(start).all()) and np.count_nonzero(ignored) == 0


# ------------------------------------------------------------------------------------------------------ pairs of a batch


@dataclass
class Couple:
    """A pair of modalities, on the N recordings that both have."""

    first: str
    second: str
    left: Tensor  # int64 [N]: where they stand among the first modality's embeddings
    right: Tensor
    rows: Tensor  # int64 [N]: their rows in the batch
    masks: Callable[[slice], tuple[Tensor, Tensor]]  # positive and ignore of some of them against all, bool [rows, N]
    directions: int  # 1: left to right alone
    weight: float  # of one direction


@dataclass
class Scores:
    """Of pairs, one a row: what each direction gives."""

    learned: list[list[bool]]  # [P][2]: whether it had an anchor to learn from
    figures: dict[str, Tensor]  # [P, 2]: the loss as its reduction has it, and metrics


@dataclass(frozen=True)
class Sizes:
    """When pairs are stacked, and how big blocks are, in entries of a similarity matrix."""

    small: int  # recordings of a batch, squared, up to which all its pairs are one stack
    block: int
    held: int  # exponentials of a pair that may be held at a time


def score_softmax(
    z: Mapping[str, Tensor],
    where: Mapping[str, Tensor],
    batch: int,
    couples: Sequence[Couple],
    softmax: Softmax,
    mean: bool,
    halved: bool,
    sizes: Sizes,
) -> tuple[Tensor, list[Scores]]:
    """The weighted sum of all losses, differentiable in the embeddings and the scale, and what each stack of pairs gave.

    z       embeddings [n, D] by modality, at least float32 or to be raised to it
    where   int64 [n] by modality: their rows in the batch of so many recordings
    mean    losses are means over anchors, not sums
    halved  a pair's loss is the mean over its directions, not their sum
    """
    names = list(dict.fromkeys(name for couple in couples for name in (couple.first, couple.second)))
    learned_scale = isinstance(softmax.scale, Tensor) and softmax.scale.requires_grad
    inputs = [z[name] for name in names] + ([cast(Tensor, softmax.scale)] if learned_scale else [])
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.no_grad(), _full_precision(inputs[0].device.type):
        raised = {name: _raised(z[name].detach()) for name in names}
        alike = len({(x.shape[1], x.dtype) for x in raised.values()}) == 1
        kind = _Stacked if alike and batch * batch <= sizes.small else _OneByOne
        pairs = kind(raised, where, batch, couples, sizes, wanted)
        total, to_log_scale = raised[names[0]].new_zeros(2).unbind()
        scores = []
        for stack, some in pairs.stacks(softmax):
            result = stack.sums()
            got, weights = _weighted(result, some, mean, halved)
            total += (result.loss * weights).sum()
            scores.append(got)
            if wanted:
                to_left, to_right = stack.gradients(weights * softmax.factor if softmax.factor != 1 else weights)
                pairs.add(some, to_left, to_right)
                if learned_scale:  # Σ slope · logit over all couples of rows
                    to_log_scale += (to_left * stack.left).sum()
        grads = [grad.to(x.dtype) for grad, x in zip(pairs.slopes(), inputs, strict=False)] if wanted else []
        if wanted and learned_scale:
            scale = cast(Tensor, softmax.scale)
            grads.append((to_log_scale / scale).to(scale.dtype).view_as(scale))
    if wanted:
        total = cast(Tensor, Taken.apply(total, grads, *inputs))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return total, scores


def _weighted(result: Result, couples: Sequence[Couple], mean: bool, halved: bool) -> tuple[Scores, Tensor]:
    """What each direction gave, and what its sum over anchors weighs in the objective."""
    learned = [
        [a > 0 and d < c.directions for d, a in enumerate(both)] for both, c in zip(result.anchors, couples, strict=True)
    ]
    shares = [
        [
            c.weight * one / (max(1, sum(both)) if halved else 1) / (a if mean and one else 1)
            for one, a in zip(both, counted, strict=True)
        ]
        for both, counted, c in zip(learned, result.anchors, couples, strict=True)
    ]
    weights, loss = result.loss.new_tensor(shares), result.loss
    if mean:
        loss = loss / loss.new_tensor(result.anchors).clamp_min(1)
    return Scores(learned, {"loss": loss, **result.metrics}), weights


class _Stacked:
    """All pairs of a batch as a few stacks; recordings that lack a modality are ignored rows of zeros."""

    def __init__(
        self,
        z: Mapping[str, Tensor],
        where: Mapping[str, Tensor],
        batch: int,
        couples: Sequence[Couple],
        sizes: Sizes,
        wanted: bool,
    ) -> None:
        self.where, self.batch, self.couples = where, batch, couples
        self.index = {name: k for k, name in enumerate(z)}
        self.at_once = max(1, 8 * sizes.small // max(1, batch * batch))
        some = next(iter(z.values()))
        if all(one.shape[0] == batch for one in z.values()):
            together = torch.stack(list(z.values()))
        else:
            together = some.new_zeros(len(z), batch, some.shape[1])
            for k, (name, one) in enumerate(z.items()):
                together[k, where[name]] = one
        self.units = Units.of(together, wanted)

    def stacks(self, softmax: Softmax) -> Iterator[tuple[Diagonal | Masked, Sequence[Couple]]]:
        """Stacks of pairs, and which pairs they are."""
        for k in range(0, len(self.couples), self.at_once):
            some = self.couples[k : k + self.at_once]
            left, right = self.units.unit[self._sides(some, 0)], self.units.unit[self._sides(some, 1)]
            masks = [couple.masks(slice(None)) for couple in some]
            yield self._stack(left, right, softmax, some, masks), some

    def _stack(
        self, left: Tensor, right: Tensor, softmax: Softmax, some: Sequence[Couple], masks: list[tuple[Tensor, Tensor]]
    ) -> Diagonal | Masked:
        scale, rows, held = softmax.number, self.batch, len(some) * self.batch * self.batch
        complete = all(couple.rows.shape[0] == self.batch for couple in some)
        if complete and softmax.positives_below and softmax.ignore_above is None and all(_diagonal(*one, 0) for one in masks):
            return Diagonal(left, right, softmax, scale, rows, held)
        padded = [self._padded(couple, *one) for couple, one in zip(some, masks, strict=True)]
        positive, ignore = (torch.stack(side) for side in zip(*padded, strict=True))
        return Masked(left, right, softmax, scale, rows, held, masks=lambda cut: (positive, ignore))

    def _sides(self, couples: Sequence[Couple], side: int) -> Tensor:
        chosen = [self.index[(couple.first, couple.second)[side]] for couple in couples]
        return torch.tensor(chosen, device=self.units.unit.device)

    def _padded(self, couple: Couple, positive: Tensor, ignore: Tensor) -> tuple[Tensor, Tensor]:
        if couple.rows.shape[0] == self.batch:
            return positive, ignore
        every = [positive.new_zeros(self.batch, self.batch), positive.new_ones(self.batch, self.batch)]
        for whole, part in zip(every, (positive, ignore), strict=True):
            whole[couple.rows[:, None], couple.rows] = part
        return every[0], every[1]

    def add(self, couples: Sequence[Couple], to_left: Tensor, to_right: Tensor) -> None:
        """Add the gradients of a stack."""
        assert self.units.grad is not None
        self.units.grad.index_add_(0, self._sides(couples, 0), to_left).index_add_(0, self._sides(couples, 1), to_right)

    def slopes(self) -> list[Tensor]:
        """Gradients of the embeddings as they came, by modality."""
        slopes = self.units.slope()
        return [
            slope if self.where[name].shape[0] == self.batch else slope[self.where[name]]
            for name, slope in zip(self.index, slopes.unbind(0), strict=True)
        ]


class _OneByOne:
    """Each pair by itself, in blocks of anchors."""

    def __init__(
        self,
        z: Mapping[str, Tensor],
        where: Mapping[str, Tensor],
        batch: int,
        couples: Sequence[Couple],
        sizes: Sizes,
        wanted: bool,
    ) -> None:
        self.couples, self.sizes = couples, sizes
        self.units = {name: Units.of(one, wanted) for name, one in z.items()}

    def stacks(self, softmax: Softmax) -> Iterator[tuple[Diagonal | Masked, Sequence[Couple]]]:
        """One pair after the other."""
        for couple in self.couples:
            left, right = self.units[couple.first].unit, self.units[couple.second].unit
            left, right = _at(left, couple.left), _at(right, couple.right)
            n = len(left)
            rows = max(1, self.sizes.block // n)
            if n * n > self.sizes.held:
                rows = max(rows, min(n, 8 * self.sizes.block // n))  # thin blocks multiply slowly

            scale, held = softmax.number, self.sizes.held
            if softmax.positives_below and softmax.ignore_above is None and _diagonal_throughout(couple, rows):
                yield Diagonal(left[None], right[None], softmax, scale, rows, held), [couple]
            else:
                yield Masked(left[None], right[None], softmax, scale, rows, held, masks=partial(_one_pair, couple)), [couple]

    def add(self, couples: Sequence[Couple], to_left: Tensor, to_right: Tensor) -> None:
        """Add the gradients of a pair."""
        (couple,) = couples
        for name, at, grad in ((couple.first, couple.left, to_left[0]), (couple.second, couple.right, to_right[0])):
            known = self.units[name].grad
            assert known is not None
            if len(at) == len(known):
                known.add_(grad)
            else:
                known.index_add_(0, at, grad)

    def slopes(self) -> list[Tensor]:
        """Gradients of the embeddings as they came, by modality."""
        return [one.slope() for one in self.units.values()]


class Taken(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, grads: list[Tensor | None], *inputs: Tensor) -> Tensor:
        """The value; `grads` are those of `inputs`."""
        ctx.grads = grads
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, scaled."""
        return None, None, *(None if grad is None else grad * above[0] for grad in ctx.grads)


def _diagonal_throughout(couple: Couple, rows: int) -> bool:
    n = couple.rows.shape[0]
    return all(_diagonal(*couple.masks(slice(k, k + rows)), k) for k in range(0, n, rows))


def _one_pair(couple: Couple, cut: slice) -> tuple[Tensor, Tensor]:
    positive, ignore = couple.masks(cut)
    return positive[None], ignore[None]


def _full_precision(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _at(z: Tensor, rows: Tensor) -> Tensor:
    return z if rows.shape[0] == z.shape[0] else z[rows]


def _raised(z: Tensor) -> Tensor:
    return z.float() if z.dtype.itemsize < 4 else z
