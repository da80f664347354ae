"""Scores a batch by a group loss: all modalities of a recording at once.

Recordings that have the same modalities are anchors together; their candidates are all recordings that have these at least. So a loss
never meets a gap, and a recording that lacks a modality still learns from the others. Above HELD entries, losses of independent anchors
are scored in blocks, which are worked out again for the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Tensor

from ..api.batch import Items
from ..api.group import Group, GroupLoss
from ..api.loss import Positives, Scored
from .blocks import asked_of_block, joined
from .score import Embedded, pick

HELD = 4_194_304
"""Anchors × candidates × modalities² up to which a group is scored whole (16 MB in float32 for a matrix of Gram matrices)."""


@dataclass
class GroupScore:
    """A group loss of one batch. `loss` is None if no recording had anything to learn from."""

    loss: Tensor | None
    metrics: dict[str, Tensor] = field(default_factory=dict)  # detached scalars: loss, and the loss's metrics
    anchors: int = 0  # rows that had something to learn from
    short: int = 0  # rows with fewer modalities than the loss needs


def score_group(
    embedded: Mapping[str, Embedded],
    items: Items,
    modalities: Sequence[str],
    positives: Positives,
    loss: GroupLoss,
    fewest: int = 2,
    held: int = HELD,
) -> GroupScore:
    """The loss over all anchors, whatever modalities each of them has: a mean by number of anchors, or the sum, as the loss has it.

    modalities  names of those that are scored together, in the order in which the loss sees them
    fewest      modalities that an anchor needs
    """
    present = torch.zeros(len(items.row), len(modalities), dtype=torch.bool, device=items.row.device)
    for k, name in enumerate(modalities):
        present[embedded[name].rows, k] = True
    parts: list[Scored] = []
    for pattern in _patterns(present, fewest):
        anchors = (present == pattern).all(1).nonzero().squeeze(1)
        candidates = present[:, pattern].all(1).nonzero().squeeze(1)
        if len(candidates) < 2:
            continue
        names = [name for name, here in zip(modalities, pattern.tolist(), strict=True) if here]
        parts += _blocks(embedded, items, names, anchors, candidates, positives, loss, held)
    scored = joined(parts, loss.reduction)
    short = int((present.any(1) & (present.sum(1) < fewest)).sum())
    if scored is None:
        return GroupScore(None, short=short)
    metrics = {"loss": scored.loss.detach(), **scored.metrics}
    return GroupScore(scored.loss, metrics, anchors=int(scored.anchors), short=short)


def _patterns(present: Tensor, fewest: int) -> list[Tensor]:
    """Which modalities recordings have, each way once, most modalities first; ways with fewer than `fewest` are left out."""
    ways = torch.unique(present, dim=0)
    order = sorted(range(len(ways)), key=lambda k: (-int(ways[k].sum()), ways[k].tolist()))
    return [ways[k] for k in order if int(ways[k].sum()) >= fewest]


def _blocks(
    embedded: Mapping[str, Embedded],
    items: Items,
    names: Sequence[str],
    anchors: Tensor,
    candidates: Tensor,
    positives: Positives,
    loss: GroupLoss,
    held: int,
) -> list[Scored]:
    """The loss of some anchors against some candidates, all of which have these modalities, in blocks of anchors."""
    right = {name: _rows_of(embedded[name], candidates) for name in names}
    left = {name: _rows_of(embedded[name], anchors) for name in names}
    each = len(candidates) * len(names) ** 2
    rows = len(anchors) if loss.reduction == "whole" else max(1, held // each)
    parts = []
    for k in range(0, len(anchors), rows):
        cut = anchors[k : k + rows]
        masks = _masks(items, names, cut, candidates, positives)
        group = Group({name: z[k : k + rows] for name, z in left.items()}, right, *masks)
        parts.append(asked_of_block(loss, group, len(cut) == len(anchors)))
    return parts


def _rows_of(one: Embedded, rows: Tensor) -> Tensor:
    """The embeddings of some rows of the batch, all of which are there."""
    return one.z[torch.searchsorted(one.rows, rows)]


def _masks(
    items: Items, names: Sequence[str], anchors: Tensor, candidates: Tensor, positives: Positives
) -> tuple[Tensor, Tensor, Tensor]:
    """Positive where every two modalities have it so, ignored where any two do, and which candidate is the anchor itself."""
    positive = torch.ones(len(anchors), len(candidates), dtype=torch.bool, device=anchors.device)
    ignore = torch.zeros_like(positive)
    for left, right in permutations(names, 2):
        one, other = positives(pick(items, anchors, left), pick(items, candidates, right))
        positive, ignore = positive & one, ignore | other
    return positive & ~ignore, ignore, anchors[:, None] == candidates[None, :]
