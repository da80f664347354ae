"""Paired comparisons whose unit is the group (speaker, subject): intervals, tests and effect sizes over people, not over clips.

Clips of one speaker are alike, so counting each as a measurement of its own makes intervals too narrow and tests too sure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over recordings with an interval over groups."""

    mean: float
    low: float
    high: float
    groups: int
    recordings: int


@dataclass(frozen=True)
class Paired:
    """How much one is above another on the same recordings.

    p       two-sided, from flipping the signs of whole groups; None with fewer than two groups
    effect  mean difference of a group in deviations of the groups' differences (Cohen's d for pairs); None where undefined
    better  groups in which the first is above
    """

    difference: Estimate
    p: float | None
    effect: float | None
    better: int


def estimate(values: Floats, groups: Sequence[str], seed: int = 0, draws: int = 4000, confidence: float = 0.95) -> Estimate:
    """The mean of values [n], and the interval of a bootstrap that draws groups, bias-corrected and accelerated (Efron 1987).

    One group, or groups that all agree, have no interval: low and high are the mean. Values that are NaN are left out.
    """
    known = ~np.isnan(values)
    kept, names = values[known], [name for name, here in zip(groups, known.tolist(), strict=True) if here]
    if not len(kept):
        return Estimate(mean=math.nan, low=math.nan, high=math.nan, groups=0, recordings=0)
    sums, counts = _by_group(kept, names)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Estimate(mean=mean, low=mean, high=mean, groups=len(sums), recordings=len(kept))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(sums), (draws, len(sums)))
    means = np.sort(sums[drawn].sum(1) / counts[drawn].sum(1))
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    low, high = _accelerated(means, mean, left_out, confidence)
    return Estimate(mean=mean, low=low, high=high, groups=len(sums), recordings=len(kept))


def _accelerated(means: Floats, mean: float, left_out: Floats, confidence: float) -> tuple[float, float]:
    """BCa bounds, widened to Student's t, since percentiles of few groups are too narrow."""
    from scipy.stats import norm, t

    if means[0] == means[-1]:
        return mean, mean
    below = float(np.clip(((means < mean).mean() + (means <= mean).mean()) / 2, 1 / len(means), 1 - 1 / len(means)))
    bias = norm.ppf(below)
    apart = left_out.mean() - left_out
    scale = (apart**2).sum() ** 1.5
    speed = float((apart**3).sum() / (6 * scale)) if scale > 0 else 0.0
    n = len(left_out)
    # z of the tail that a t interval over n groups reaches, and the small-sample factor of the bootstrap's deviation
    reach = t.ppf((1 + confidence) / 2, n - 1) * math.sqrt(n / (n - 1))
    bounds = []
    for z in (-reach, reach):
        shifted = bias + (bias + z) / max(1e-9, 1 - speed * (bias + z))
        share = float(np.clip(norm.cdf(shifted), 0, 1))
        bounds.append(float(np.quantile(means, share)))
    return bounds[0], bounds[1]


def compare(first: Floats, second: Floats, groups: Sequence[str], seed: int = 0, draws: int = 4000) -> Paired:
    """`first` against `second`, values of the same recordings [n]; recordings of which either is NaN are left out.

    The test flips the signs of whole groups: all of them where there are at most 14, else as many as `draws`.
    """
    apart = first - second
    known = ~np.isnan(apart)
    names = [name for name, here in zip(groups, known.tolist(), strict=True) if here]
    difference = estimate(apart, groups, seed, draws)
    if difference.groups < 2:
        return Paired(difference, None, None, int(difference.mean > 0))
    sums, counts = _by_group(apart[known], names)
    means = sums / counts
    if difference.groups <= 14:
        signs = np.array([[1 if k >> i & 1 else -1 for i in range(difference.groups)] for k in range(2**difference.groups)])
    else:
        signs = np.random.default_rng(seed).choice([-1, 1], (draws, difference.groups))
        signs[0] = 1
    flipped = np.abs(signs @ sums)
    p = float((flipped >= abs(sums.sum()) - 1e-12 * max(1.0, float(np.abs(sums).sum()))).mean())
    spread = float(means.std(ddof=1))
    effect = float(means.mean()) / spread if spread > 0 else None
    return Paired(difference, p, effect, int((means > 0).sum()))


def holm(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """p values made to hold together (Holm 1979): the chance of any false alarm among them stays below the level."""
    known = sorted((p, name) for name, p in values.items() if p is not None)
    corrected: dict[str, float | None] = dict.fromkeys(values)
    highest = 0.0
    for i, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - i) * p))
        corrected[name] = highest
    return corrected


def _by_group(values: Floats, groups: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and count of each group."""
    _, index = np.unique(np.array(groups), return_inverse=True)
    return np.bincount(index, values).astype(np.float64), np.bincount(index).astype(np.float64)
