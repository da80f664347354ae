"""Scores a batch: the loss of every pair of modalities, in both directions, averaged (MPUC-MER, Eq. 2).

One cosine matrix is computed per unordered pair and read in both directions. Above BLOCK entries, losses that are a mean or a
sum over anchors are scored in blocks of rows whose similarities are computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from ..api.batch import Items
from ..api.loss import Pair, PairLoss, Positives, Scored

BLOCK = 4_194_304
"""Entries of a similarity matrix above which it is scored in blocks of rows (2,048 × 2,048)."""


@dataclass
class Embedded:
    """One modality's embeddings of the rows that have it."""

    z: Tensor  # [n, D]
    rows: Tensor  # int64 [n]: their rows in the batch, ascending


@dataclass
class Objective:
    """The objective of one batch. `loss` is None if no pair had two recordings in common."""

    loss: Tensor | None
    pairs: dict[str, dict[str, Tensor]] = field(
        default_factory=dict
    )  # "audio~text" → detached scalars: loss, and the loss's metrics
    skipped: tuple[str, ...] = ()  # pairs with fewer than two shared rows, or without an anchor to learn from


def score(
    embedded: Mapping[str, Embedded],
    items: Items,
    pairs: Sequence[tuple[str, str]],
    positives: Positives,
    loss: PairLoss,
    block: int = BLOCK,
) -> Objective:
    """The mean over all ordered pairs of modalities."""
    unit = {name: normalize(e.z.float() if e.z.dtype.itemsize < 4 else e.z, dim=-1) for name, e in embedded.items()}
    terms: list[Tensor] = []
    report: dict[str, dict[str, Tensor]] = {}
    skipped: list[str] = []
    for first, second in pairs:
        name = f"{first}~{second}"
        left, right = _shared(embedded[first].rows, embedded[second].rows)
        if len(left) < 2:
            skipped.append(name)
            continue
        who = _pick(items, embedded[first].rows[left])
        positive, ignore = positives(who, who)
        if first == second:
            itself = torch.eye(len(left), dtype=torch.bool, device=positive.device)
            positive, ignore = positive & ~itself, ignore | itself
        ends = [(first, left, second, right)]
        if not (loss.symmetric or first == second):
            ends.append((second, right, first, left))
        in_blocks = len(left) * len(right) > block and loss.reduction in ("mean", "sum")
        cosine = None if in_blocks else unit[first][left] @ unit[second][right].T
        scored = []
        for i, (a, rows_a, b, rows_b) in enumerate(ends):
            pair = Pair(
                embedded[a].z[rows_a], embedded[b].z[rows_b], positive if i == 0 else positive.T, ignore if i == 0 else ignore.T,
                None if cosine is None else cosine if i == 0 else cosine.T,
            )  # fmt: skip
            scored.append(_in_blocks(pair, loss, block) if in_blocks else loss(pair))
        heard = [s for s in scored if int(s.anchors) > 0]
        if not heard:
            skipped.append(name)
            continue
        terms += [s.loss for s in heard] * (2 // len(ends))  # a symmetric loss stands for both directions
        report[name] = {"loss": _mean([s.loss.detach() for s in heard])}
        for metric in heard[0].metrics:
            report[name][metric] = _mean([s.metrics[metric] for s in heard])
    return Objective(_mean(terms) if terms else None, report, tuple(skipped))


def _in_blocks(pair: Pair, loss: PairLoss, block: int) -> Scored:
    """The loss of a big pair, some rows at a time."""
    rows = max(1, block // len(pair.right))
    parts: list[Scored] = []

    def part(left: Tensor, right: Tensor, positive: Tensor, ignore: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        scored = loss(Pair(left, right, positive, ignore))
        return scored.loss, scored.anchors, dict(scored.metrics)

    for k in range(0, len(pair.left), rows):
        cut = slice(k, k + rows)
        value, anchors, metrics = cast(
            tuple[Tensor, Tensor, dict[str, Tensor]],
            checkpoint(part, pair.left[cut], pair.right, pair.positive[cut], pair.ignore[cut], use_reentrant=False),
        )
        parts.append(Scored(value, anchors, metrics))
    counts = torch.stack([p.anchors.to(p.loss.dtype) for p in parts])
    whole = counts.sum().clamp_min(1)
    weights = counts / whole if loss.reduction == "mean" else torch.ones_like(counts)
    shares = counts / whole
    total = torch.stack([p.loss * w for p, w in zip(parts, weights, strict=True)]).sum()
    metrics = {
        name: torch.stack([p.metrics[name] * s for p, s in zip(parts, shares, strict=True)]).sum() for name in parts[0].metrics
    }
    return Scored(total, counts.sum(), metrics)


def _shared(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows that both have stand in each, in the same order."""
    if left is right or (len(left) == len(right) and bool((left == right).all())):
        every = torch.arange(len(left), device=left.device)
        return every, every
    return torch.isin(left, right).nonzero().squeeze(1), torch.isin(right, left).nonzero().squeeze(1)


def _pick(items: Items, rows: Tensor) -> Items:
    return Items(items.row[rows], items.view[rows], {name: target[rows] for name, target in items.targets.items()})


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
