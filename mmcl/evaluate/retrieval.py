"""Retrieval between modalities: given a recording's embedding in one, find the same recording among others in another."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

Counts = NDArray[np.int64]


def ranks(query: Tensor, gallery: Tensor, block: int = 4096) -> Tensor:
    """For each query (row i of [n, D]) the rank of row i of the gallery by cosine similarity, 1 being best; float64 [n].

    Ties count as half: a constant embedding gets the rank of guessing, not the first.
    """
    better, equal = places(query, gallery, block)
    return torch.from_numpy(1 + better + equal / 2)


def reciprocal_rank(query: Tensor, gallery: Tensor) -> float:
    """Mean of 1 / rank over all queries, in (0, 1] (Voorhees 1999); ranks as above, so that a constant embedding gets no credit."""
    return float((1 / ranks(query, gallery)).mean())


def places(query: Tensor, gallery: Tensor, block: int = 4096) -> tuple[Counts, Counts]:
    """For each query how many other recordings are more similar than its own, and how many just as similar."""
    query, gallery = normalize(query.double(), dim=-1), normalize(gallery.double(), dim=-1)
    better, equal = [], []
    for start in range(0, len(query), block):
        part = query[start : start + block]
        similarity = part @ gallery.T
        own = similarity.gather(1, torch.arange(start, start + len(part))[:, None])
        better.append((similarity > own).sum(1))
        equal.append((similarity == own).sum(1) - 1)
    nothing = [torch.zeros(0, dtype=torch.int64)]
    return torch.cat(better or nothing).numpy(), torch.cat(equal or nothing).numpy()


def retrieval(query: Tensor, gallery: Tensor, among: int | None = None) -> dict[str, tuple[float, float]]:
    """R@1, R@5, R@10 and the median rank: name → (value, what guessing gives).

    among  search among so many recordings: the right one and others drawn at random. Nothing is drawn: the values are what all
           draws together would give, by the hypergeometric distribution of how many better ones come along. Left out: among all
    """
    n = len(query)
    if n < 2:
        return {}
    size = n if among is None else min(among, n)
    better, equal = places(query, gallery)
    result = {f"R@{k}": (float(_within(k, better, equal, n, size).mean()), min(1.0, k / size)) for k in (1, 5, 10)}
    low, high = 1, size  # the lowest rank within which half of all searches end
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _within(middle, better, equal, n, size).mean() >= 0.5 - 1e-9 else (middle + 1, high)
    if size == n:
        result["median_rank"] = (float(np.median(1 + better + equal / 2)), (size + 1) / 2)
    else:
        result["median_rank"] = (float(low), (size + 1) / 2)
    return result


def first(query: Tensor, gallery: Tensor, among: int) -> NDArray[np.float64]:
    """The chance of each query [n] to find its own recording first among so many, as `retrieval` reckons R@1; their mean is that."""
    better, equal = places(query, gallery)
    return _within(1, better, equal, len(query), min(among, len(query)))


def _within(k: int, better: Counts, equal: Counts, n: int, size: int) -> NDArray[np.float64]:
    """The chance that each query's rank is at most k among the right recording and size − 1 of the n − 1 others."""
    from scipy.stats import hypergeom

    if size == n:
        within: NDArray[np.float64] = (1 + better + equal / 2 <= k).astype(np.float64)
        return within
    drawn = size - 1
    chance = np.zeros(len(better))
    for ties in range(min(drawn, 2 * (k - 1), int(equal.max(initial=0))) + 1):  # that many of the equal ones come along
        comes = hypergeom.pmf(ties, n - 1, equal, drawn)
        chance += np.nan_to_num(comes * hypergeom.cdf(k - 1 - (ties + 1) // 2, n - 1 - equal, better, drawn - ties))
    return chance
