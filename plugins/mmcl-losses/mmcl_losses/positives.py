"""Rules that say which rows belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from mmcl.api import Items


def same_sample(left: Items, right: Items) -> tuple[Tensor, Tensor]:
    """Rows of one recording are positives, whatever their window; nothing is ignored."""
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def cross_window(left: Items, right: Items) -> tuple[Tensor, Tensor]:
    """Rows of one recording are positives where their windows differ, and are ignored where they are the same."""
    mine = left.row[:, None] == right.row[None, :]
    aligned = left.view[:, None] == right.view[None, :]
    return mine & ~aligned, mine & aligned
