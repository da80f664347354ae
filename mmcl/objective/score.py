"""Scores a batch: the loss of every pair of modalities, in both directions, averaged (MPUC-MER, Eq. 2), by weight where pairs have some.

Losses that say that they are a softmax over candidates (`mmcl.api.Softmax`) are scored together, by softmax.py. Of any other loss, one
cosine matrix is computed per unordered pair and read in both directions. Above SMALL entries it is read in blocks that fit a
processor's cache, whose gradients are taken at once: what stays for the backward pass is one gradient per embedding, never a
matrix. Above HELD entries no whole matrix is made at all. Losses that need all rows at once (`reduction: whole`) get them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..api.batch import Items
from ..api.errors import PluginError
from ..api.group import Group
from ..api.loss import Pair, PairLoss, Positives, Scored, Softmax, SoftmaxLoss, Steps
from .softmax import LARGEST_SCALE, Couple, Sizes, Taken, score_softmax

SMALL = 65_536
"""Entries of a similarity matrix up to which a pair is scored whole, by plain automatic differentiation (256 × 256)."""
BLOCK = 131_072
"""Entries of one block (0.5 MB in float32: the handful of passes over it stay in a second-level cache)."""
HELD = 33_554_432
"""Entries above which the similarities of a pair are never held as one matrix (128 MB in float32); each direction then multiplies
its own blocks."""


@dataclass
class Embedded:
    """One modality's embeddings of the rows that have it."""

    z: Tensor  # [n, D]
    rows: Tensor  # int64 [n]: their rows in the batch, ascending
    key: Tensor | None = None  # [n, D]: what a teacher makes of the same rows, without a graph
    steps: Steps | None = None  # of the same rows, where the loss asks for sequences


@dataclass
class Objective:
    """The objective of one batch. `loss` is None if no pair had two recordings in common."""

    loss: Tensor | None
    # "audio~text" → detached scalars: loss, and the loss's metrics
    pairs: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    # modality → what its embeddings look like, while validating
    embeddings: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()  # pairs with fewer than two shared rows, or without an anchor to learn from


def score(
    embedded: Mapping[str, Embedded],
    items: Items,
    pairs: Sequence[tuple[str, str]],
    positives: Positives,
    loss: PairLoss,
    weights: Sequence[float] = (),
    combine: str = "mean",
    soft: bool = False,
    small: int = SMALL,
    block: int = BLOCK,
    held: int = HELD,
) -> Objective:
    """The mean over all ordered pairs of modalities. Its gradient can be taken once, not differentiated again.

    weights  one a pair, above 0; left out: all 1
    combine  mean: Σ w · loss / Σ w over the directions that have something to learn from; sum: Σ w · loss over pairs, each the mean of its
             directions; count: that by the number of pairs
    soft     whether positives weigh
    """
    met = [
        meet(embedded, items, pair, positives, weight)
        for pair, weight in zip(pairs, weights or [1.0] * len(pairs), strict=True)
    ]
    enough = [one for one in met if one.rows.shape[0] > 1]
    form = None if soft else _softmax_of(loss, [embedded[name].z for one in enough for name in (one.first, one.second)])
    if form is None:
        value, count, report = _each_alone(embedded, enough, loss, combine, Sizes(small, block, held))
    else:
        value, count, report = _together(embedded, len(items.row), enough, loss, form, combine, Sizes(small, block, held))
    skipped = tuple(one.name for one in met if one.name not in report)
    return Objective(value / (count or 1.0) if report and value is not None else None, report, skipped=skipped)


@dataclass
class Met:
    """A pair of modalities, on the N recordings that have both."""

    first: str
    second: str
    left: Tensor  # int64 [N]: where they stand among the first modality's embeddings
    right: Tensor
    rows: Tensor  # int64 [N]: their rows in the batch
    who: Items  # as the first modality has them
    other: Items
    positives: Positives
    weight: float

    @property
    def name(self) -> str:
        """How a report calls it."""
        return f"{self.first}~{self.second}"

    @property
    def same(self) -> bool:
        """One modality against itself: a row is neither its own positive nor its own negative."""
        return self.first == self.second

    def masks(self, rows: slice, backwards: bool = False) -> tuple[Tensor, Tensor]:
        """Positive (weights, where the rule gives some) and ignore of some anchors, left ones or right ones, against all candidates."""
        if backwards:
            positive, ignore = (mask.T for mask in self.positives(self.who, _cut(self.other, rows)))
        else:
            positive, ignore = self.positives(_cut(self.who, rows), self.other)
        if self.same:
            every = torch.arange(len(self.rows), device=positive.device)
            itself = every[rows, None] == every[None, :]
            positive, ignore = positive.masked_fill(itself, 0), ignore | itself
        return positive, ignore


def meet(embedded: Mapping[str, Embedded], items: Items, pair: tuple[str, str], positives: Positives, weight: float) -> Met:
    """A pair of modalities, on the recordings of a batch that have both."""
    first, second = pair
    one, other = embedded[first].rows, embedded[second].rows
    left, right = _shared(one, other)
    rows = at_rows(one, left)
    return Met(first, second, left, right, rows, pick(items, rows, first), pick(items, rows, second), positives, weight)


_Scored = tuple[Tensor | None, float, dict[str, dict[str, Tensor]]]
"""The sum of all losses, what it is divided by, and what each pair reports."""


def _softmax_of(loss: PairLoss, z: Sequence[Tensor]) -> Softmax | None:
    """What a loss says of itself, where exponentials of its cosines stay well inside the numbers of their type."""
    if not z or not isinstance(loss, SoftmaxLoss) or loss.symmetric or loss.reduction == "whole":
        return None
    form = loss.softmax()
    largest = min(LARGEST_SCALE[torch.float64 if x.dtype == torch.float64 else torch.float32] for x in z)
    return form if form is not None and form.number <= largest else None


def _together(
    embedded: Mapping[str, Embedded],
    batch: int,
    met: Sequence[Met],
    loss: PairLoss,
    form: Softmax,
    combine: str,
    sizes: Sizes,
) -> _Scored:
    """All pairs of a loss that is a softmax."""
    couples = [
        Couple(m.first, m.second, m.left, m.right, m.rows, m.masks, 1 if m.same else 2, m.weight * _stands_for(m, combine))
        for m in met
    ]
    value, scores = score_softmax(
        {name: e.z for name, e in embedded.items()},
        {name: e.rows for name, e in embedded.items()},
        batch,
        couples,
        form,
        loss.reduction == "mean",
        combine != "mean",
        sizes,
    )
    learned = [both for some in scores for both in some.learned]
    count = 0.0
    report: dict[str, dict[str, Tensor]] = {}
    for m, both in zip(met, learned, strict=True):
        if any(both):
            count += {"mean": sum(both) * m.weight * _stands_for(m, combine), "sum": 0.0, "count": 1.0}[combine]
    names = list(scores[0].figures)
    figures = torch.stack([torch.cat([some.figures[name] for some in scores]) for name in names], 2)  # [P, 2, figures]
    if all(all(both) for both in learned):
        means = figures.mean(1)
    else:
        used = figures.new_tensor(learned)[:, :, None]
        means = torch.where(used > 0, figures, 0).sum(1) / used.sum(1)
    for m, both, row in zip(met, learned, means.unbind(), strict=True):
        if any(both):
            report[m.name] = dict(zip(names, row.unbind(), strict=True))
    if isinstance(form.scale, Tensor):
        for one in report.values():
            one["temperature"] = 1 / form.scale.detach().squeeze()
    return value, count, report


def _stands_for(met: Met, combine: str) -> int:
    """A modality against itself has one direction, which stands for both in a mean over directions."""
    return 2 if met.same and combine == "mean" else 1


# ------------------------------------------------------------------------------------------- any loss, pair by pair


def _each_alone(embedded: Mapping[str, Embedded], met: Sequence[Met], loss: PairLoss, combine: str, sizes: Sizes) -> _Scored:
    unit = {name: normalize(e.z.float() if e.z.dtype.itemsize < 4 else e.z, dim=-1) for name, e in embedded.items()}
    added = Sum(combine)
    for m in met:
        both = _Both(
            left=at_rows(embedded[m.first].z, m.left),
            right=at_rows(embedded[m.second].z, m.right),
            unit_left=at_rows(unit[m.first], m.left),
            unit_right=at_rows(unit[m.second], m.right),
            masks=m.masks,
            loss=loss,
            directions=1 if loss.symmetric or m.same else 2,
        )
        small = len(m.left) * len(m.right) <= sizes.small
        scored, value = _whole(both) if small else _in_blocks(both, sizes.block, sizes.held)
        learned = [s for s in scored if int(s.anchors) > 0]
        if not learned:
            continue
        added.add(m, value, learned, 2 // both.directions)  # a symmetric loss stands for both directions
    return added.value, added.count, added.report


class Sum:
    """The losses of pairs, added up.

    combine  as `score` has it

    count   what the sum is divided by
    report  of each pair, its loss and metrics, the mean over its directions
    """

    def __init__(self, combine: str) -> None:
        self._combine, self._total = combine, list[Tensor]()
        self.count = 0.0
        self.report: dict[str, dict[str, Tensor]] = {}

    @property
    def value(self) -> Tensor | None:
        """The sum; None where no pair had anything to learn from."""
        return torch.stack(self._total).sum() if self._total else None

    def add(self, met: Met, value: Tensor, learned: Sequence[Scored], stands: int) -> None:
        """One more pair.

        value    the sum of its directions' losses
        learned  the score of each direction that has something to learn from
        stands   directions that each of them stands for
        """
        share = met.weight * stands
        self._total.append(value * share if self._combine == "mean" else value * met.weight / len(learned))
        self.count += {"mean": len(learned) * share, "sum": 0.0, "count": 1.0}[self._combine]
        self.report[met.name] = {"loss": _mean([one.loss.detach() for one in learned])}
        for name in learned[0].metrics:
            self.report[met.name][name] = _mean([one.metrics[name] for one in learned if name in one.metrics])


def _pair(left: Tensor, right: Tensor, positive: Tensor, ignore: Tensor, cosine: Tensor) -> Pair:
    """A pair whose positives may weigh."""
    if positive.dtype == torch.bool:
        return Pair(left, right, positive, ignore, cosine)
    return Pair(left, right, positive > 0, ignore, cosine, positive.to(cosine.dtype))


def asked(loss: Callable[[Any], Any], batch: Pair | Group) -> Scored:
    """What a loss gives of a pair, or of a group. Raises PluginError if that is no score."""
    scored = loss(batch)
    if not isinstance(scored, Scored):
        raise PluginError(f"{_whose(loss)}: gives an mmcl.api.Scored; it gave a {type(scored).__name__}")
    for name in ("loss", "anchors"):
        value = getattr(scored, name)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"one of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise PluginError(f"{_whose(loss)}: `{name}` of its Scored is a tensor of one number; it gave {got}")
    return scored


def _whose(loss: Any) -> str:
    kind = loss if isinstance(loss, FunctionType) else type(loss)
    return f"the loss {kind.__qualname__} ({kind.__module__})"


@dataclass
class _Both:
    """A pair of modalities, on the recordings that have both."""

    left: Tensor  # [N, D], as the projection made them
    right: Tensor  # [N, D]
    unit_left: Tensor  # [N, D], of length 1
    unit_right: Tensor
    masks: Callable[[slice, bool], tuple[Tensor, Tensor]]  # of some anchors against all; backwards: of right ones
    loss: PairLoss
    directions: int


def _whole(both: _Both) -> tuple[list[Scored], Tensor]:
    """Each direction's score, and their sum, differentiated as any other formula."""
    cosine = both.unit_left @ both.unit_right.T
    every = slice(None)
    scored = [asked(both.loss, _pair(both.left, both.right, *both.masks(every, False), cosine))]
    if both.directions == 2:
        scored.append(asked(both.loss, _pair(both.right, both.left, *both.masks(every, True), cosine.T)))
    return scored, torch.stack([s.loss for s in scored if int(s.anchors) > 0] or [cosine.sum() * 0]).sum()


def _in_blocks(both: _Both, block: int, held: int) -> tuple[list[Scored], Tensor]:
    """Each direction's score, and their sum, whose gradient is taken block by block while the blocks are at hand."""
    learned = [p for p in both.loss.parameters() if p.requires_grad] if isinstance(both.loss, nn.Module) else []
    inputs = [both.left, both.right, both.unit_left, both.unit_right, *learned]
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.no_grad():
        sweeps = _Sweeps(both, learned, wanted, block, held)
        scored = [sweeps.direction(i) for i in range(both.directions)]
        value = torch.stack([s.loss for s in scored if int(s.anchors) > 0] or [scored[0].loss * 0]).sum()
        grads = sweeps.gradients() if wanted else []
    if wanted:
        value = cast(Tensor, Taken.apply(value, grads, *inputs))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return scored, value


class _Sweeps:
    """Goes over a pair's anchors in blocks, adding up values, metrics and gradients.

    Both directions write into one gradient of the shared similarities, which is multiplied out once, at the end.
    """

    def __init__(self, both: _Both, learned: list[nn.Parameter], wanted: bool, block: int, held: int) -> None:
        self.both, self.learned, self.wanted = both, learned, wanted
        n = len(both.left)
        apart = both.loss.reduction in ("mean", "sum")
        self.rows = max(1, block // n) if apart else n
        z, unit = [both.left.detach(), both.right.detach()], [both.unit_left.detach(), both.unit_right.detach()]
        self.z, self.unit = z, unit
        self.cosine = unit[0] @ unit[1].T if n * n <= held else None
        if self.cosine is None and apart:
            self.rows = max(self.rows, min(n, 8 * block // n))  # thin blocks multiply slowly
        self.slope: Tensor | None = None  # of both directions, [left, right]
        self.to_unit: list[Tensor | None] = [None, None]
        self.to_z: list[Tensor | None] = [None, None]  # most losses read the cosines alone
        self.to_learned: list[Tensor | None] = [None] * len(learned)

    def direction(self, i: int) -> Scored:
        """The loss of left against right (0) or right against left (1)."""
        n, mean = len(self.both.left), self.both.loss.reduction == "mean"
        guess = 1 / n if mean else 1.0  # the weight of a block whose anchors all count
        parts = self._sweep(i, guess)
        counts = torch.stack([p.anchors.to(p.loss.dtype) for p in parts])
        total = counts.sum().clamp_min(1)
        if mean and self.wanted and int(total) != n:
            self._sweep(i, 1 / float(total) - guess)  # some anchors stood out: add what the first sweep gave too little
        shares = counts / total
        weights = shares if mean else torch.ones_like(counts)
        value = torch.stack([p.loss for p in parts]) @ weights
        metrics: dict[str, Tensor] = {}
        for part, share in zip(parts, shares, strict=True):  # a block without an anchor may leave its metrics out
            for name, figure in part.metrics.items():
                metrics[name] = metrics.get(name, 0) + figure.to(share.dtype) * share
        return Scored(value, counts.sum(), metrics)

    def _sweep(self, i: int, weight: float) -> list[Scored]:
        """Scores every block of one direction; adds `weight` times its gradients."""
        both, parts = self.both, []
        mean = both.loss.reduction == "mean"
        for k in range(0, len(both.left), self.rows):
            cut = slice(k, k + self.rows)
            positive, ignore = both.masks(cut, i == 1)
            if self.cosine is None:
                cosine = self.unit[i][cut] @ self.unit[1 - i].T
            elif i == 0:
                cosine = self.cosine[cut].clone()
            else:  # columns laid out as rows; copied, then turned, which is 7 times faster than at once
                cosine = self.cosine[:, cut].contiguous().T.contiguous()
            left, right = self.z[i][cut].detach(), self.z[1 - i].detach()
            if not self.wanted:
                parts.append(asked(both.loss, _pair(left, right, positive, ignore, cosine)))
                continue
            leaves = [x.requires_grad_() for x in (cosine, left, right)]
            with torch.enable_grad():
                scored = asked(both.loss, _pair(left, right, positive, ignore, cosine))
                share = weight * scored.anchors.to(scored.loss.dtype) if mean else torch.full_like(scored.loss, weight)
                grads = (
                    torch.autograd.grad(scored.loss, [*leaves, *self.learned], share, allow_unused=True)
                    if scored.loss.requires_grad
                    else [None] * (3 + len(self.learned))
                )
            self._add(i, cut, list(grads))
            parts.append(Scored(scored.loss.detach(), scored.anchors, scored.metrics))
        return parts

    def _add(self, i: int, cut: slice, grads: list[Tensor | None]) -> None:
        slope, to_left, to_right, *to_learned = grads
        if slope is not None and self.cosine is None:
            self._raise(self.to_unit, i, cut, slope @ self.unit[1 - i])
            self._raise(self.to_unit, 1 - i, slice(None), slope.T @ self.unit[i][cut])
        elif slope is not None and self.cosine is not None:
            if self.slope is None:
                self.slope = torch.zeros_like(self.cosine)
            place = self.slope[cut] if i == 0 else self.slope[:, cut]
            place += slope if i == 0 else slope.T.contiguous()
        self._raise(self.to_z, i, cut, to_left)
        self._raise(self.to_z, 1 - i, slice(None), to_right)
        for k, grad in enumerate(to_learned):
            if grad is not None:
                known = self.to_learned[k]
                self.to_learned[k] = grad if known is None else known + grad

    def _raise(self, sums: list[Tensor | None], side: int, where: slice, grad: Tensor | None) -> None:
        """Adds a gradient of some rows to the sum of a side."""
        if grad is None:
            return
        held = sums[side]
        if held is None:
            held = sums[side] = torch.zeros_like(self.z[side] if sums is self.to_z else self.unit[side])
        held[where] += grad

    def gradients(self) -> list[Tensor | None]:
        """Of left, right, unit left, unit right and the loss's own parameters."""
        if self.slope is not None:
            self.to_unit = [self.slope @ self.unit[1], self.slope.T @ self.unit[0]]
        return [*self.to_z, *self.to_unit, *self.to_learned]


def _shared(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows that both have stand in each, in the same order."""
    if left is right or torch.equal(left, right):
        every = torch.arange(left.shape[0], device=left.device)
        return every, every
    return torch.isin(left, right).nonzero().squeeze(1), torch.isin(right, left).nonzero().squeeze(1)


def at_rows(z: Tensor, rows: Tensor) -> Tensor:
    """Some rows, ascending; no copy if they are all."""
    return z if rows.shape[0] == z.shape[0] else z[rows]


def pick(items: Items, rows: Tensor | slice, modality: str) -> Items:
    """Who stands in some rows, which ascend, and in which modality."""
    if isinstance(rows, Tensor) and rows.shape == items.row.shape:  # ascending, so they are all of them
        return Items(items.row, items.view, items.targets, modality, items.group)
    targets = {name: target[rows] for name, target in items.targets.items()}
    group = None if items.group is None else items.group[rows]
    return Items(items.row[rows], items.view[rows], targets, modality, group)


def _cut(items: Items, rows: slice) -> Items:
    return items if rows == slice(None) else pick(items, rows, items.modality)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
