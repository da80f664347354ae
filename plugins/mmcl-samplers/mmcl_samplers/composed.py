"""Batches of an epoch, composed by what is known of recordings before any is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Pool

from . import ByGroupParams, ByLabelParams, ByLengthParams, ByShardParams, HardParams

Places = NDArray[np.int64]


def cut(order: Places, size: int) -> list[list[int]]:
    """Places in their order, in batches; a last one that would stand alone joins the batch before."""
    batches = [[int(place) for place in order[k : k + size]] for k in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def at_random(pool: Pool, size: int, rng: np.random.Generator) -> list[list[int]]:
    """All places in random order."""
    return cut(rng.permutation(len(pool.row)), size)


def together(kinds: Places, size: int, each: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of about `each` kinds: every kind, in random order, comes in parts of size / each, which follow one another at random."""
    part = max(1, -(-size // each))
    parts = []
    for kind in np.unique(kinds):
        places = rng.permutation(np.flatnonzero(kinds == kind))
        parts += [places[k : k + part] for k in range(0, len(places), part)]
    return cut(np.concatenate([parts[k] for k in rng.permutation(len(parts))] or [np.zeros(0, np.int64)]), size)


def spread(kinds: Places, size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches with kinds in the shares of the whole: the places of each kind, in random order, are set evenly over the epoch."""
    when = np.empty(len(kinds))
    for kind in np.unique(kinds):
        places = rng.permutation(np.flatnonzero(kinds == kind))
        when[places] = (np.arange(len(places)) + rng.uniform()) / len(places)
    batches = cut(np.lexsort((rng.permutation(len(kinds)), when)), size)
    return [batches[k] for k in rng.permutation(len(batches))]


class ByGroup:
    """Recordings of few groups together, or every group shared out evenly."""

    def __init__(self, params: ByGroupParams) -> None:
        self.params = params

    def __call__(self, pool: Pool, size: int, rng: np.random.Generator) -> Sequence[Sequence[int]]:
        """Batches of places."""
        if self.params.how == "spread":
            return spread(pool.group, size, rng)
        return together(pool.group, size, self.params.each, rng)


class ByLabel:
    """Every batch with labels in the shares of the whole, or of few labels. Recordings whose label is unknown are of one kind more."""

    def __init__(self, params: ByLabelParams) -> None:
        self.params = params

    def __call__(self, pool: Pool, size: int, rng: np.random.Generator) -> Sequence[Sequence[int]]:
        """Batches of places."""
        target = pool.targets[self.params.target]
        if target.ndim > 1:
            _, kinds = np.unique(target, axis=0, return_inverse=True)
        else:
            _, kinds = np.unique(target, return_inverse=True)
        if self.params.how == "spread":
            return spread(kinds.reshape(-1), size, rng)
        return together(kinds.reshape(-1), size, self.params.each, rng)


class ByLength:
    """Recordings of like length together: so many batches at a time, drawn at random, are put in order and cut; batches come at random."""

    def __init__(self, params: ByLengthParams) -> None:
        self.params = params

    def __call__(self, pool: Pool, size: int, rng: np.random.Generator) -> Sequence[Sequence[int]]:
        """Batches of places."""
        order, many = rng.permutation(len(pool.row)), size * self.params.batches
        parts = [order[k : k + many] for k in range(0, len(order), many)]
        ordered = [part[np.argsort(pool.seconds[part], kind="stable")] for part in parts]
        batches = cut(np.concatenate(ordered or [order]), size)
        return [batches[k] for k in rng.permutation(len(batches))]


class ByShard:
    """Shards in random order, so many at a time: recordings come at random within each window of shards, and windows follow one another.

    So each shard is read once an epoch, but for the one batch in which a window ends and the next begins.
    """

    def __init__(self, params: ByShardParams) -> None:
        self.params = params

    def __call__(self, pool: Pool, size: int, rng: np.random.Generator) -> Sequence[Sequence[int]]:
        """Batches of places; all places in random order where nobody knows how they lie."""
        if pool.shard is None:
            return at_random(pool, size, rng)
        names, number = np.unique(pool.shard, return_inverse=True)
        turn = rng.permutation(len(names))[number.reshape(-1)] // self.params.window  # [n]: the window of each place
        return cut(np.lexsort((rng.permutation(len(turn)), turn)), size)


class Hard:
    """A batch begins with a recording drawn at random and those that are nearest to it of all that are left; the others are at random."""

    def __init__(self, params: HardParams) -> None:
        self.params = params

    def __call__(self, pool: Pool, size: int, rng: np.random.Generator) -> Sequence[Sequence[int]]:
        """Batches of places; at random where nothing is encoded yet."""
        if not pool.embeddings:
            return at_random(pool, size, rng)
        n, near = len(pool.row), max(2, round(self.params.share * size))
        order, free, batches = rng.permutation(n), np.ones(n, bool), []
        while free.any():
            waiting = order[free[order]]
            first, others = waiting[0], waiting[1:]
            ranked = others[np.argsort(-likeness(pool, int(first), others), kind="stable")]
            ranked = ranked[pool.row[ranked] != pool.row[first]][self.params.skip :]
            _, once = np.unique(pool.row[ranked], return_index=True)  # a recording that is drawn several times is near once
            chosen = ranked[np.sort(once)][: near - 1]
            filled = others[~np.isin(others, chosen)][: size - 1 - len(chosen)]
            batch = np.concatenate([[first], chosen, filled])
            free[batch] = False
            batches.append([int(place) for place in batch])
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [batches[-2] + batches[-1]]
        return [batches[k] for k in rng.permutation(len(batches))]


def likeness(pool: Pool, place: int, others: Places) -> NDArray[np.float64]:
    """The mean cosine of one place and each of others over the modalities that both have; −1 where they have none in common."""
    total, count = np.zeros(len(others)), np.zeros(len(others))
    for vectors in pool.embeddings.values():
        if vectors[place].any():
            total += vectors[others].astype(np.float64) @ vectors[place].astype(np.float64)
            count += vectors[others].any(1)
    return np.where(count > 0, total / np.maximum(count, 1), -1.0)
