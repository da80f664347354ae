"""One recording under two names, across splits: the same prepared values, or almost the same shape.

Loudness, brightness and a little noise leave a shape as it is. Words are not looked at: people say the same, and actors read the
same lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.store import Store
from .case import SPLITS, Case, Leak

ALIKE = 0.9995
"""Correlation of two recordings' shapes from which they count as near-duplicates in any company."""
SIMILAR, APART = 0.95, 0.25
"""Or from which they do if each is the other's nearest, and what parts them is so small a share of what parts them from the next."""
JITTER = 0.85
"""Correlation of their second differences that near-duplicates have besides: two who do the same don't tremble alike."""
STEPS, SHARES = 32, 8
"""A recording's shape: so many steps of at most so many groups of channels."""
FINE = 256
"""Groups of channels whose second differences are compared."""
SHORT = 16
"""Steps below which recordings are alike by chance, so that only identical ones count."""
LENGTHS = 1.05
"""Recordings are compared over the longest beginning that both have, in lengths that grow by this factor."""


def copies(case: Case) -> Iterator[Leak]:
    """No recording of one split is, but for its name, one of another split."""
    words = _of_words(case)
    samples = case.samples
    for name, store in case.prepared.stores.items():
        if name in words:
            continue
        same = identical(store)
        near = near_duplicates(store, store.rows.tolist()) if store.layout.timed else []
        for number, fold in case.folds.items():
            side = {row: split for split in SPLITS for row in getattr(fold, split)}
            for likeness, sets in (("the same", same), ("almost the same", near)):
                pairs = [pair for rows in sets for pair in combinations(rows, 2)]
                crossing = [(a, b) for a, b in pairs if a in side and b in side and side[a] != side[b]]
                if crossing:
                    a, b = crossing[0]
                    yield Leak(
                        f"fold {number}: {len(crossing)} pairs of recordings in different splits have {likeness} {name}, such as "
                        f"'{samples[a].id}' ({side[a]}) and '{samples[b].id}' ({side[b]})"
                    )


def _of_words(case: Case) -> set[str]:
    """The modalities whose source is words."""
    sources = case.plan.info.sources
    return {name for name, one in case.settings["modalities"].items() if sources[one["source"]].type == "words"}


def identical(store: Store) -> list[tuple[int, ...]]:
    """Sets of recordings whose prepared values are the same."""
    by_digest: dict[str, list[int]] = {}
    for row in store.rows:
        values = np.ascontiguousarray(store.values(row))
        digest = hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
        by_digest.setdefault(digest, []).append(row)
    return [tuple(rows) for rows in by_digest.values() if len(rows) > 1]


def near_duplicates(store: Store, rows: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs that are almost the same over a beginning that both have; identical ones are left to `identical`.

    An end that was cut off is not compared. Repetitions of one movement are alike too, but they differ in what is too quick to be
    meant, and no two of them stand out: so a pair must be nearer to each other than anything else is to either, and tremble alike.
    """
    lengths = _lengths(max((store.length(row) for row in rows), default=0))
    level = {row: int(np.searchsorted(lengths, store.length(row), "right")) - 1 for row in rows}
    pairs: set[tuple[int, int]] = set()
    for at, length in enumerate(lengths):
        company = [row for row in rows if level[row] in (at, at + 1)]  # so that a little shorter is still compared
        if len(company) > 1 and length >= SHORT:
            pairs.update(_near(store, company, length))
    return sorted(pairs)


def _lengths(longest: int) -> list[int]:
    """1, 2, 3, … and on by LENGTHS, up to `longest`."""
    lengths, length = [], 1.0
    while length <= longest:
        lengths.append(int(length))
        length *= LENGTHS
    return sorted(set(lengths))


def _near(store: Store, rows: Sequence[int], length: int) -> Iterator[tuple[int, int]]:
    """Of recordings that have `length` steps at least, pairs whose beginnings are almost the same."""
    shapes = np.stack([_shape(store.values(row, 0, length)) for row in rows])
    best, second, which = (np.zeros(len(rows), kind) for kind in (np.float32, np.float32, np.int64))
    close: list[tuple[int, int]] = []
    for start in range(0, len(rows), 512):
        likeness = shapes[start : start + 512] @ shapes.T
        likeness[np.arange(len(likeness)), start + np.arange(len(likeness))] = -1
        here = slice(start, start + len(likeness))
        which[here] = likeness.argmax(1)
        best[here] = likeness.max(1)
        second[here] = np.partition(likeness, -2, axis=1)[:, -2]
        close += [(start + int(i), int(j)) for i, j in np.argwhere(likeness > ALIKE)]
    for a, b in enumerate(which.tolist()):
        parted = APART * (1 - max(second[a], second[b]))
        if which[b] == a and best[a] > SIMILAR and 1 - best[a] < parted:
            close.append((a, b))
    for a, b in {(min(pair), max(pair)) for pair in close}:
        one, other = store.values(rows[a], 0, length), store.values(rows[b], 0, length)
        if float(_jitter(one) @ _jitter(other)) > JITTER and not np.array_equal(store.values(rows[a]), store.values(rows[b])):
            yield rows[a], rows[b]


def _shape(values: NDArray[Any]) -> NDArray[np.float32]:
    """A recording as a vector of length 1: STEPS steps of at most SHARES groups of channels, each about its own mean."""
    groups = _grouped(values, SHARES)
    edges = np.linspace(0, len(groups), STEPS + 1)
    shape = np.stack([groups[int(a) : max(int(a) + 1, int(b))].mean(0) for a, b in pairwise(edges)])
    return _of_length_one(shape - shape.mean(0))


def _jitter(values: NDArray[Any]) -> NDArray[np.float32]:
    """What is quick in a recording, as a vector of length 1: second differences of at most FINE groups of channels."""
    return _of_length_one(np.diff(_grouped(values, FINE), n=2, axis=0))


def _grouped(values: NDArray[Any], shares: int) -> NDArray[np.float64]:
    """The means of groups of channels, [T, at most `shares`]."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    return np.stack([part.mean(1) for part in np.array_split(flat, min(shares, flat.shape[1]), axis=1)], 1)


def _of_length_one(shape: NDArray[np.float64]) -> NDArray[np.float32]:
    norm = float(np.linalg.norm(shape))
    return (shape / norm if norm > 0 else np.zeros_like(shape)).ravel().astype(np.float32)
