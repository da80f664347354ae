"""Rules that say which rows belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from mmcl.api import Items, StageError

from . import GroupParams, SameLabelParams, SharedLabelsParams, VaPositivesParams


def same_sample(left: Items, right: Items) -> tuple[Tensor, Tensor]:
    """Rows of one recording are positives, whatever their window; nothing is ignored."""
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def cross_window(left: Items, right: Items) -> tuple[Tensor, Tensor]:
    """Rows of one recording are positives where their windows differ, and are ignored where they are the same."""
    mine = left.row[:, None] == right.row[None, :]
    aligned = left.view[:, None] == right.view[None, :]
    return mine & ~aligned, mine & aligned


class ByGroup:
    """Rows of one recording are positives; negatives are of the same group alone (`within`), or of other groups alone.

    With negatives of one's own group, who it is says nothing of which candidate is right: what is learned is what differs between
    recordings of one person (Yarici et al. 2025 weigh such negatives up, which `keep` allows too). An anchor alone in its group has
    no negative, and losses say what that means to them.
    """

    def __init__(self, params: GroupParams, within: bool) -> None:
        self.within, self.keep = within, params.keep

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """Positive and ignore, bool [N, K]. Raises StageError where rows come without their group."""
        if left.group is None or right.group is None:
            raise StageError(
                "positives 'within-group' and 'across-group' need the group of every recording, and it is not known here"
            )
        positive = left.row[:, None] == right.row[None, :]
        same = left.group[:, None] == right.group[None, :]
        ignore = (~same if self.within else same) & ~positive
        if self.keep:
            ignore &= ~_kept(left.row, right.row, self.keep)
        return positive, ignore


def _kept(left: Tensor, right: Tensor, share: float) -> Tensor:
    """Bool [N, K]: a fixed share of all pairs of recordings, the same for two recordings whenever they meet."""
    low, high = torch.minimum(left[:, None], right[None, :]), torch.maximum(left[:, None], right[None, :])
    mixed = (low * 0x9E3779B1 + high * 0x85EBCA6B) & 0xFFFFFFFF  # two large odd numbers: near recordings fall far apart
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 13)) % 65_536 < share * 65_536


TOLERANCE = 1e-6
"""How far below δ a distance must lie: |−0.7 − (−0.6)| is 0.1, and no rounding of either number may put it below 0.1."""


class ValenceArousal:
    """j is a positive of i if their (valence, arousal) lie nearer than δ, or if both are windows of one recording.

    Distances are compared in float64 and must be less than δ by more than 1e-6, which is more than rounding of the scores makes.
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
        return own | (distance < self.params.threshold - TOLERANCE), unknown

    def _scores(self, items: Items) -> Tensor:
        return items.targets[self.params.target.replace("{modality}", items.modality)].double()


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


class ValenceArousalWeights(ValenceArousal):
    """j belongs to i by 1 − distance/δ, 0 where that is below 0; a window of the same recording by 1."""

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """Weights in [0, 1], and ignore where a score is missing, [N, K]."""
        mine, theirs = self._scores(left), self._scores(right)
        own = left.row[:, None] == right.row[None, :]
        distance = (mine[:, None] - theirs[None, :]).square().sum(-1).sqrt()
        unknown = distance.isnan() & ~own
        weight = (1 - distance / self.params.threshold).clamp_min(0).nan_to_num(0)
        return weight.masked_fill(own, 1.0), unknown


class SharedLabels:
    """j belongs to i by the number of labels that both have over those that either has (Jaccard), 0 where neither has any; own windows by 1."""

    def __init__(self, params: SharedLabelsParams) -> None:
        self.params = params

    def __call__(self, left: Items, right: Items) -> tuple[Tensor, Tensor]:
        """Weights in [0, 1], and ignore where labels are unknown, [N, K]. Raises StageError for a task that is not multi-label."""
        mine, theirs = (items.targets[self.params.target] for items in (left, right))
        if mine.ndim != 2:
            raise StageError(
                f"positives 'shared-labels' weigh the labels of a multi-label task, and '{self.params.target}' is none; use same-label"
            )
        own = left.row[:, None] == right.row[None, :]
        unknown = (mine.isnan().any(-1)[:, None] | theirs.isnan().any(-1)[None, :]) & ~own
        a, b = mine.double().nan_to_num(0), theirs.double().nan_to_num(0)
        both = a @ b.T
        either = a.sum(-1)[:, None] + b.sum(-1)[None, :] - both
        weight = (both / either.clamp_min(1)).masked_fill(unknown, 0)
        return weight.masked_fill(own, 1.0), unknown
