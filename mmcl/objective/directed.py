"""Scores a batch where anchors and candidates are not made alike: anchors may have gone through a predictor, candidates may come from a
teacher, and embeddings of earlier batches may stand behind them as further negatives. Or where a loss is of sequences.

So the two directions of a pair share no matrix, and each is scored by itself. Candidates have no gradient, but for sequences. What an earlier batch left is never
a positive: where the rule would have it so, and where it is of the anchor's own recording, it is ignored. Above HELD entries, losses
of independent anchors are scored in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..api.batch import Items
from ..api.loss import Pair, PairLoss, Positives, Scored, Steps
from .blocks import asked_of_block, joined
from .score import Embedded, Met, Objective, Sum, at_rows, meet, pick

HELD = 4_194_304
"""Anchors × candidates up to which a direction is scored whole (16 MB in float32)."""


@dataclass
class Past:
    """One modality's embeddings of earlier batches."""

    z: Tensor  # [Q, D], without a graph
    who: Items  # of Q rows


def score_directed(
    embedded: Mapping[str, Embedded],
    items: Items,
    pairs: Sequence[tuple[str, str]],
    positives: Positives,
    loss: PairLoss,
    weights: Sequence[float] = (),
    combine: str = "mean",
    soft: bool = False,
    past: Mapping[str, Past] | None = None,
    both: bool = False,
    held: int = HELD,
) -> Objective:
    """The mean over all ordered pairs of modalities, as `score` has it, of anchors `z` against candidates `key` (left out: `z` without its graph).

    past  of each modality, further candidates; left out: none
    both  whether candidates are `z` with its graph, so that both sides learn
    """
    added, skipped = Sum(combine), []
    for pair, weight in zip(pairs, weights or [1.0] * len(pairs), strict=True):
        met = meet(embedded, items, pair, positives, weight)
        learned = [] if len(met.rows) < 2 else _directions(embedded, met, loss, soft, past or {}, both, held)
        if not learned:
            skipped.append(met.name)
            continue
        # one modality against itself has one direction, which stands for both
        added.add(met, torch.stack([one.loss for one in learned]).sum(), learned, 2 if met.same else 1)
    value = added.value
    return Objective(None if value is None else value / (added.count or 1.0), added.report, skipped=tuple(skipped))


def _directions(
    embedded: Mapping[str, Embedded], met: Met, loss: PairLoss, soft: bool, past: Mapping[str, Past], both: bool, held: int
) -> list[Scored]:
    """The score of each direction that has something to learn from."""
    sides = ((met.first, met.left), (met.second, met.right))
    scored = []
    for backwards in (False,) if met.same else (False, True):
        (anchor, own), (candidate, other) = sides[::-1] if backwards else sides
        left = at_rows(embedded[anchor].z, own)
        one = embedded[candidate]
        right = at_rows(one.z if both else one.z.detach() if one.key is None else one.key, other)
        steps = _steps_of(embedded[anchor].steps, own), _steps_of(one.steps, other)
        further = past.get(candidate)
        if further is not None:
            right = torch.cat([right, further.z.to(right.dtype)])
        each = len(right) if steps[0] is None else len(right) * steps[0].z.shape[1]
        rows = len(left) if loss.reduction == "whole" else max(1, held // each)
        parts = []
        for k in range(0, len(left), rows):
            cut = slice(k, min(k + rows, len(left)))
            positive, ignore = _masks(met, cut, backwards, further)
            weight = positive.to(torch.promote_types(left.dtype, torch.float32)) if soft else None
            block = Pair(left[cut], right, positive > 0, ignore, weight=weight, right_steps=steps[1])
            block.left_steps = None if steps[0] is None else _steps_of(steps[0], cut)
            parts.append(asked_of_block(loss, block, rows >= len(left)))
        whole = joined(parts, loss.reduction)
        scored += [] if whole is None else [whole]
    return scored


def _steps_of(steps: Steps | None, rows: Tensor | slice) -> Steps | None:
    """The steps of some rows."""
    return None if steps is None else Steps(steps.z[rows], steps.real[rows], steps.times[rows])


def _masks(met: Met, cut: slice, backwards: bool, further: Past | None) -> tuple[Tensor, Tensor]:
    """Positive (weights, where the rule gives some) and ignore of some anchors against the batch and, behind it, what is past."""
    positive, ignore = met.masks(cut, backwards)
    if further is None:
        return positive, ignore
    if backwards:
        anchors = pick(met.other, cut, met.second)
        near, neither = (mask.T for mask in met.positives(further.who, anchors))
    else:
        anchors = pick(met.who, cut, met.first)
        near, neither = met.positives(anchors, further.who)
    neither = neither | (near > 0) | (anchors.row[:, None] == further.who.row[None, :])
    return torch.cat([positive, torch.zeros_like(near)], 1), torch.cat([ignore, neither], 1)
