"""Losses of independent anchors, scored in blocks that are worked out again for the backward pass, so that none of them is held."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from ..api.group import Group
from ..api.loss import Pair, Scored
from .score import asked


def asked_of_block(loss: Callable[[Any], Any], block: Pair | Group, whole: bool) -> Scored:
    """What a loss gives of some anchors, or of all (`whole`), whose intermediate results are then kept."""
    if whole or not torch.is_grad_enabled():
        return asked(loss, block)
    value, count, *metrics = checkpoint(partial(_apart, loss, block), use_reentrant=False)
    return Scored(value, count, dict(metrics))


def _apart(loss: Callable[[Any], Any], block: Pair | Group) -> tuple[object, ...]:
    """What a loss gives, as a plain tuple that can be worked out again."""
    scored = asked(loss, copy.copy(block))  # a pair remembers its cosines, which are to be worked out again too
    return (scored.loss, scored.anchors, *scored.metrics.items())


def joined(parts: Sequence[Scored], reduction: str) -> Scored | None:
    """The score of all anchors of some blocks: a mean by number of anchors, or the sum, as the loss has it; None if none had anything to learn from."""
    counts = [int(part.anchors) for part in parts]
    total = sum(counts)
    if total == 0:
        return None
    learned = [(part, n) for part, n in zip(parts, counts, strict=True) if n > 0]
    weights = [1.0 if reduction == "sum" else n / total for _, n in learned]
    value = torch.stack([part.loss * weight for (part, _), weight in zip(learned, weights, strict=True)]).sum()
    metrics = {
        name: torch.stack([part.metrics[name] * (n / total) for part, n in learned if name in part.metrics]).sum()
        for name in learned[0][0].metrics
    }
    return Scored(value, torch.tensor(total, device=value.device), metrics)
