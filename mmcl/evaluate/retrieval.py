"""Retrieval between modalities: given a recording's embedding in one, find the same recording among others in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

Counts = NDArray[np.int64]

TILE = (512, 2048)
"""Queries and recordings whose similarities are held at a time (4 MB in float32)."""

ALIKE = 1e-12
"""Cosines in float64 that differ by no more are the same: it is what rounding makes of equal vectors, and far less than float32 tells apart."""

CROWDED = 16
"""A tile is computed in float64 as a whole where more than one in so many of its cosines is too near to the right one's for float32."""


@dataclass(frozen=True)
class Places:
    """For each query how many other recordings are more similar than its own, and how many just as similar; int64 [n]."""

    better: Counts
    equal: Counts

    @property
    def ranks(self) -> NDArray[np.float64]:
        """The rank of each query's own recording, 1 being best. Ties count as half: a constant embedding ranks as guessing does."""
        ranks: NDArray[np.float64] = 1 + self.better + self.equal / 2
        return ranks

    @property
    def reciprocal_rank(self) -> float:
        """Mean of 1 / rank over all queries, in (0, 1] (Voorhees 1999)."""
        return float((1 / self.ranks).mean())

    def retrieval(self, among: int | None = None) -> dict[str, tuple[float, float]]:
        """R@1, R@5, R@10 and the median rank: name → (value, what guessing gives); nothing where there are fewer than two recordings.

        among  search among so many recordings: the right one and others drawn at random. Nothing is drawn: the values are what all
               draws together would give, by the hypergeometric distribution of how many better ones come along. Left out: among all
        """
        n = len(self.better)
        if n < 2:
            return {}
        size = n if among is None else min(among, n)
        if size == n:
            within = {k: float((self.ranks <= k).mean()) for k in (1, 5, 10)}
            median = float(np.median(self.ranks))
        else:
            chances, which = self._chances(size)
            mean = np.bincount(which, minlength=len(chances)) @ chances / n  # of a rank of at most 1, 2, …
            within = {k: float(mean[min(k, size) - 1]) for k in (1, 5, 10)}
            median = float(1 + int(np.argmax(mean >= 0.5 - 1e-9)))  # the lowest rank within which half of all searches end
        result = {f"R@{k}": (value, min(1.0, k / size)) for k, value in within.items()}
        return {**result, "median_rank": (median, (size + 1) / 2)}

    def first(self, among: int) -> NDArray[np.float64]:
        """The chance of each query [n] to find its own recording first among so many; their mean is R@1."""
        size = min(among, len(self.better))
        if size == len(self.better):
            return (self.ranks <= 1).astype(np.float64)
        chances, which = self._chances(size)
        firsts: NDArray[np.float64] = chances[which, 0]
        return firsts

    def _chances(self, size: int) -> tuple[NDArray[np.float64], Counts]:
        """The chance of a rank of at most 1, 2, … among so many recordings, of each distinct place [m, size], and which each query has.

        Of the equal ones that come along, half stand before the right one, and a rank that ends in a half is not yet the next whole one.
        """
        others, drawn = len(self.better) - 1, size - 1
        distinct, which = np.unique(np.stack([self.better, self.equal], 1), axis=0, return_inverse=True)
        better, equal = distinct.T
        chances = np.zeros((len(distinct), size))
        for ties in range(min(drawn, int(equal.max(initial=0))) + 1):
            mine = np.flatnonzero(equal >= ties)
            comes = _drawn(others, equal[mine], drawn, ties)
            before = _cumulated(others - equal[mine], better[mine], drawn - ties)  # [m, drawn - ties + 1]
            behind = (ties + 1) // 2
            width = min(size - behind, before.shape[1])
            chances[mine, behind : behind + width] += comes[:, None] * before[:, :width]
            chances[mine, behind + width :] += (comes * before[:, -1])[:, None]
        return chances, which.reshape(-1)


def both_ways(one: Tensor, other: Tensor) -> tuple[Places, Places]:
    """Places of one's rows [n, D] among the other's by cosine similarity, and the other way round.

    Every cosine is computed once, in float32; those too near to the right recording's to be told apart are computed again in float64.
    """
    n = len(one)
    own, near, far = _own(one, other), _unit(one), _unit(other)
    margin = 1e-6 + one.shape[1] * 2.0**-24  # what rounding may do to a product of two vectors in float32
    better, equal = (torch.zeros(2, n, dtype=torch.int64) for _ in range(2))
    high, low = (own + margin).float(), (own - margin).float()
    for i in range(0, n, TILE[0]):
        rows = slice(i, i + TILE[0])
        for j in range(0, n, TILE[1]):
            columns = slice(j, j + TILE[1])
            tile = near[rows] @ far[columns].T
            _leave_out_itself(tile, i, j)
            for way, (axis, h, g) in enumerate(
                ((1, high[rows, None], low[rows, None]), (0, high[None, columns], low[None, columns]))
            ):
                place = rows if axis == 1 else columns
                above = tile > h
                unsure = (tile >= g) ^ above
                number = int(np.count_nonzero(unsure.numpy()))
                if number * CROWDED > tile.numel():
                    exact = _unit64(one[rows]) @ _unit64(other[columns]).T
                    _leave_out_itself(exact, i, j)
                    difference = exact - (own[rows, None] if axis == 1 else own[None, columns])
                    better[way, place] += (difference > ALIKE).sum(axis)
                    equal[way, place] += (difference.abs() <= ALIKE).sum(axis)
                    continue
                better[way, place] += above.sum(axis)
                if number:
                    left, right = unsure.nonzero(as_tuple=True)
                    exact = (_unit64(one[i + left]) * _unit64(other[j + right])).sum(1)
                    query = i + left if axis == 1 else j + right
                    difference = exact - own[query]
                    better[way].index_add_(0, query, (difference > ALIKE).long())
                    equal[way].index_add_(0, query, (difference.abs() <= ALIKE).long())
    return Places(better[0].numpy(), equal[0].numpy()), Places(better[1].numpy(), equal[1].numpy())


def places(query: Tensor, gallery: Tensor) -> Places:
    """Where each query's own recording stands in the gallery."""
    return both_ways(query, gallery)[0]


def retrieval(query: Tensor, gallery: Tensor, among: int | None = None) -> dict[str, tuple[float, float]]:
    """What `Places.retrieval` says of queries and a gallery, row i of which is the right one for query i."""
    return places(query, gallery).retrieval(among)


def _own(one: Tensor, other: Tensor) -> Tensor:
    """Each recording's similarity with itself, float64 [n]."""
    blocks = [
        (_unit64(one[k : k + TILE[1]]) * _unit64(other[k : k + TILE[1]])).sum(1) for k in range(0, max(1, len(one)), TILE[1])
    ]
    return torch.cat(blocks)


def _unit(z: Tensor) -> Tensor:
    """Of length 1, rounded to float32 at the end."""
    return torch.cat([_unit64(z[k : k + TILE[1]]).float() for k in range(0, max(1, len(z)), TILE[1])])


def _unit64(z: Tensor) -> Tensor:
    return normalize(z.double(), dim=-1)


def _leave_out_itself(tile: Tensor, row: int, column: int) -> None:
    start, end = max(row, column), min(row + tile.shape[0], column + tile.shape[1])
    if start < end:
        both = torch.arange(start, end)
        tile[both - row, both - column] = -torch.inf


def _drawn(total: int, marked: Counts, drawn: int, wanted: int) -> NDArray[np.float64]:
    """The chance that so many of the marked ones are among the drawn [m] (hypergeometric)."""
    return _chance(np.full(len(marked), total), marked, drawn, np.array([wanted]))[:, 0]


def _cumulated(total: Counts, marked: Counts, drawn: int) -> NDArray[np.float64]:
    """The chance that 0, at most 1, … at most `drawn` of the marked ones are among the drawn [m, drawn + 1]."""
    chances: NDArray[np.float64] = np.minimum(_chance(total, marked, drawn, np.arange(drawn + 1)).cumsum(1), 1.0)
    return chances


def _chance(total: Counts, marked: Counts, drawn: int, wanted: Counts) -> NDArray[np.float64]:
    """The hypergeometric chance of each count wanted [w], for each of [m] ways that so many of a total are marked: [m, w]."""
    from scipy.special import gammaln

    def choose(n: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
        possible = (k >= 0) & (k <= n)
        n, k = np.where(possible, n, 0), np.where(possible, k, 0)
        ways: NDArray[np.float64] = np.where(possible, gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), -np.inf)
        return ways

    all_of, some, take = total[:, None].astype(float), marked[:, None].astype(float), wanted[None].astype(float)
    whole = choose(all_of, np.full_like(all_of, drawn))
    logarithm = (
        choose(some, take + 0 * some) + choose(all_of - some, drawn - take + 0 * some) - np.where(whole > -np.inf, whole, 0)
    )
    chances: NDArray[np.float64] = np.where(whole > -np.inf, np.exp(logarithm), 0.0)
    return chances
