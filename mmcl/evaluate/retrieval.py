"""Retrieval between modalities: given a recording's embedding in one, find the same recording among others in another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def ranks(query: Tensor, gallery: Tensor, block: int = 4096) -> Tensor:
    """For each query (row i of [n, D]) the rank of row i of the gallery by cosine similarity, 1 being best; float64 [n].

    Ties count as half: a constant embedding gets the rank of guessing, not the first.
    """
    query, gallery = normalize(query.double(), dim=-1), normalize(gallery.double(), dim=-1)
    found = []
    for start in range(0, len(query), block):
        part = query[start : start + block]
        similarity = part @ gallery.T
        own = similarity.gather(1, torch.arange(start, start + len(part))[:, None])
        better = (similarity > own).sum(1)
        equal = (similarity == own).sum(1) - 1
        found.append(1 + better + equal / 2)
    return torch.cat(found).double() if found else torch.zeros(0, dtype=torch.float64)


def retrieval(
    query: Tensor, gallery: Tensor, among: int | None = None, generator: torch.Generator | None = None
) -> dict[str, tuple[float, float]]:
    """R@1, R@5, R@10 and the median rank: name → (value, what guessing gives).

    among  search among so many recordings at a time, drawn at random, every recording asked once; left out: among all
    """
    n = len(query)
    if n < 2:
        return {}
    size = n if among is None else min(among, n)
    if size == n:
        found = ranks(query, gallery)
    else:
        order = torch.randperm(n, generator=generator)
        parts = [order[k : k + size] for k in range(0, n - n % size, size)]
        found = torch.cat([ranks(query[part], gallery[part]) for part in parts])
    result = {f"R@{k}": (float((found <= k).double().mean()), min(1.0, k / size)) for k in (1, 5, 10)}
    result["median_rank"] = (float(found.median()), (size + 1) / 2)
    return result
