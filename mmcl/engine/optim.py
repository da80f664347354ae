"""Optimisers and learning-rate schedules. The rate is a function of the epoch, so there is no schedule state to keep."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def build_optimizer(section: Any, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a recipe's section asks for, over everything trainable in `module`."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    if section.use == "sgd":
        return torch.optim.SGD(
            trainable, lr=section.lr, momentum=section.momentum, weight_decay=section.weight_decay, fused=True
        )
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]  # biases, gains and the temperature: decay would pull them towards 0
    groups = [{"params": matrices, "weight_decay": section.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=section.lr, betas=section.betas, fused=True)


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
