"""Rules that say which rows belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from mmcl.api import Items

from . import SameLabelParams, VaPositivesParams


def same_sample(left: Items, right: Items) -> tuple[Tensor, Tensor]:
    """Rows of one recording are positives, whatever their window; nothing is ignored."""
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def cross_window(left: Items, right: Items) -> tuple[Tensor, Tensor]:
    """Rows of one recording are positives where their windows differ, and are ignored where they are the same."""
    mine = left.row[:, None] == right.row[None, :]
    aligned = left.view[:, None] == right.view[None, :]
    return mine & ~aligned, mine & aligned


class ValenceArousal:
    """j is a positive of i if their (valence, arousal) lie nearer than δ, or if both are windows of one recording.

    Where a score is missing, other recordings are neither positive nor negative: nobody knows.
    """

    def __init__(self, params: VaPositivesParams) -> None:
        self.params = params

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """Positive and ignore, [N, K]."""
        mine, theirs = self._scores(left), self._scores(right)
        own = left.row[:, None] == right.row[None, :]
        distance = (mine[:, None] - theirs[None, :]).square().sum(-1).sqrt()
        unknown = distance.isnan() & ~own
        return own | (distance < self.params.threshold), unknown

    def _scores(self, items: Items) -> Tensor:
        return items.targets[self.params.target.replace("{modality}", items.modality)].float()


class SameLabel:
    """j is a positive of i if their labels are the same, or if both are windows of one recording (Sup-CL)."""

    def __init__(self, params: SameLabelParams) -> None:
        self.params = params

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """Positive and ignore, [N, K]; an unknown label (−1, or NaN) is neither."""
        mine, theirs = left.targets[self.params.target], right.targets[self.params.target]
        own = left.row[:, None] == right.row[None, :]
        if mine.ndim == 1:
            same = mine[:, None] == theirs[None, :]
            unknown = (mine < 0)[:, None] | (theirs < 0)[None, :] if not mine.is_floating_point() else torch.zeros_like(same)
        else:
            same = (mine[:, None] == theirs[None, :]).all(-1)
            unknown = mine.isnan().any(-1)[:, None] | theirs.isnan().any(-1)[None, :]
        return own | (same & ~unknown), unknown & ~own
