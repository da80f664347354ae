"""Optimisers and learning-rate schedules. The rate is a function of the epoch, so there is no schedule state to keep."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .ranks import Ranks, is_sharded


def build_optimizer(section: Any, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a recipe's section asks for, over everything trainable in `module`."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    sharded = any(is_sharded(p) for p in trainable)
    if section.use == "sgd":
        fused = not sharded  # torch has no fused step for shards
        return torch.optim.SGD(
            _apart([{"params": trainable}]),
            lr=section.lr,
            momentum=section.momentum,
            weight_decay=section.weight_decay,
            fused=fused,
        )
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]  # biases, gains and the temperature: decay would pull them towards 0
    groups = [{"params": matrices, "weight_decay": section.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(_apart(groups), lr=section.lr, betas=section.betas, fused=True)


def _apart(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that hold something, weights that are sharded apart from those that are not: no step takes both at once."""
    parts = [
        {**group, "params": [p for p in group["params"] if is_sharded(p) == sharded]}
        for group in groups
        for sharded in (False, True)
    ]
    return [part for part in parts if part["params"]]


def clip_gradient(model: nn.Module, most: float, ranks: Ranks) -> None:
    """Scale the gradient, where its norm over all weights is larger than `most`."""
    if not any(is_sharded(weight) for weight in model.parameters()):
        torch.nn.utils.clip_grad_norm_(model.parameters(), most)
        return
    from .shards import clip  # late: it takes seconds to import

    clip(model, most, ranks)


def rate(section: Any, base: float, epochs: int, at: float) -> float:
    """The learning rate at a time in epochs (3.5: halfway through the fourth)."""
    factor = 1.0
    if section.use == "step":
        factor = section.gamma ** (int(at) // section.every)
    elif section.use == "cosine":
        through = min(1.0, max(0.0, at - section.warmup) / max(epochs - section.warmup, 1e-9))
        factor = section.floor + (1 - section.floor) * (1 + math.cos(math.pi * through)) / 2
    elif section.use == "linear":
        factor = 1.0 - min(1.0, max(0.0, at - section.warmup) / max(epochs - section.warmup, 1e-9))
    if at < section.warmup:
        factor *= (at + 1e-3) / section.warmup
    return base * factor


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = value
