"""The shape of an embedding space: alignment, uniformity, modality gap, effective rank. All take embeddings [n, D] of any length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .health import describe


def alignment(a: Tensor, b: Tensor) -> float | None:
    """Mean squared distance of the two embeddings of a recording, on the unit sphere; 0 is perfect (Wang & Isola 2020, α = 2)."""
    if not len(a):
        return None
    return float((_unit(a) - _unit(b)).square().sum(1).mean())


def uniformity(z: Tensor) -> float | None:
    """log of the mean of exp(−2·d²) over all pairs of different recordings; lower is more spread out (Wang & Isola 2020, t = 2)."""
    if len(z) < 2:
        return None
    distance = torch.pdist(_unit(z)).square()
    return float((-2 * distance).exp().mean().log())


def gap(a: Tensor, b: Tensor) -> float | None:
    """Distance between the two modalities' mean embeddings, on the unit sphere (Liang et al. 2022)."""
    if not len(a) or not len(b):
        return None
    return float((_unit(a).mean(0) - _unit(b).mean(0)).norm())


def effective_rank(z: Tensor) -> float | None:
    """How many directions the embeddings use: exp of the entropy of their singular values, centred (Roy & Vetterli 2007)."""
    description = describe(z)
    return float(description["rank"]) if description else None


def _unit(z: Tensor) -> Tensor:
    return normalize(z.double(), dim=-1)
