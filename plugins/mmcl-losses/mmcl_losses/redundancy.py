"""Losses without negatives: the cosine alone, for a predictor, and those that look at dimensions over the whole batch, VICReg and Barlow Twins."""

from __future__ import annotations

import torch
from torch import Tensor

from mmcl.api import Pair, Scored

from . import BarlowTwinsParams, VicRegParams

CONSTANT = 1e-12
"""A dimension whose squared deviations add up to no more does not vary: its length would only blow up what rounding left."""


def _couples(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Both rows of every positive, [n, D] each, at least float32; and how many anchors have one."""
    positive = pair.positive & ~pair.ignore
    i, j = positive.nonzero(as_tuple=True)
    left, right = (z.float() if z.dtype.itemsize < 4 else z for z in (pair.left, pair.right))
    return left[i], right[j], positive.any(1).sum()


def _nothing(pair: Pair, anchors: Tensor) -> Scored:
    """A loss of 0 with a gradient of zeros: no dimension varies over fewer than two positives."""
    left, right = (z.float() if z.dtype.itemsize < 4 else z for z in (pair.left, pair.right))
    return Scored(left.sum() * 0 + right.sum() * 0, torch.zeros_like(anchors))


class Cosine:
    """L_i = mean over positives p of 2 − 2·cos(i, p), by weight where positives weigh (Grill et al. 2020, Eq. 2)."""

    reduction, symmetric = "mean", False

    def __call__(self, pair: Pair) -> Scored:
        """The loss; metric: the mean cosine of positives."""
        cosine, positive = pair.similarity(), pair.positive & ~pair.ignore
        weight = positive.to(cosine.dtype) if pair.weight is None else pair.weight.to(cosine.dtype) * positive
        total, counts = weight.sum(1), positive.any(1)
        near = (cosine * weight).sum(1) / torch.where(counts, total, 1)
        anchors = counts.sum()
        mean = torch.where(counts, near, 0).sum() / anchors.clamp_min(1)
        return Scored(2 * (counts.any().to(mean.dtype) - mean), anchors, {"positive_cosine": mean.detach()})


class VicReg:
    """λ·s + μ·(v + v′) + ν·(c + c′) of the positives' rows (Bardes, Ponce, LeCun 2022, Eq. 1 to 6).

    s  mean squared distance of the two rows of a positive
    v  mean over dimensions of [γ − √(variance + ε)]₊, γ = 1, ε = 1e-4
    c  sum of squared covariances of different dimensions, by the number of dimensions

    A row with several positives counts once with each. Embeddings are taken as they are, not normalised.
    """

    reduction, symmetric = "whole", True

    def __init__(self, params: VicRegParams) -> None:
        self.params = params

    def __call__(self, pair: Pair) -> Scored:
        """The loss; metrics: its three terms."""
        left, right, anchors = _couples(pair)
        if len(left) < 2:
            return _nothing(pair, anchors)
        invariance = (left - right).square().sum(1).mean()
        variance = _spread(left) + _spread(right)
        covariance = _shared(left) + _shared(right)
        p = self.params
        loss = p.invariance * invariance + p.variance * variance + p.covariance * covariance
        terms = {"invariance": invariance.detach(), "variance": variance.detach(), "covariance": covariance.detach()}
        return Scored(loss, anchors, terms)


def _spread(z: Tensor) -> Tensor:
    return (1 - (z.var(0) + 1e-4).sqrt()).clamp_min(0).mean()


def _shared(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


class BarlowTwins:
    """Σ_i (1 − C_ii)² + λ Σ_i Σ_j≠i C_ij², C the correlations over positives of both sides' dimensions (Zbontar et al. 2021, Eq. 1 and 2).

    A row with several positives counts once with each. A dimension that does not vary has correlations of 0.
    """

    reduction, symmetric = "whole", True

    def __init__(self, params: BarlowTwinsParams) -> None:
        self.params = params

    def __call__(self, pair: Pair) -> Scored:
        """The loss; metric: mean correlation of equal dimensions."""
        left, right, anchors = _couples(pair)
        if len(left) < 2:
            return _nothing(pair, anchors)
        correlation = _standard(left).T @ _standard(right)
        own = correlation.diagonal()
        rest = correlation.square().sum() - own.square().sum()
        loss = ((1 - own).square().sum() + self.params.redundancy * rest) * self.params.factor
        return Scored(loss, anchors, {"correlation": own.detach().mean()})


def _standard(z: Tensor) -> Tensor:
    """Deviations from the mean, each dimension of length 1; zeros, without a gradient, where it does not vary."""
    z = z - z.mean(0)
    total = z.square().sum(0)
    return torch.where(total > CONSTANT, z / total.clamp_min(CONSTANT).sqrt(), torch.zeros_like(z))
