"""A few of the recordings, for a dry run: no more than are asked for, of as many groups and classes as they can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..api.dataset import SampleRef
from ..seeding import address


def limited(
    samples: Sequence[SampleRef],
    limit: int,
    protocol: Any,
    seed: int,
    fold_of: Mapping[str, str] | None = None,
    fold_key: str = "group",
) -> list[SampleRef]:
    """`limit` recordings of each split that a protocol (a section of the recipe) makes, in the order of the samples; fewer where there are fewer.

    Where splits are known beforehand (official ones, folds of a file) they are drawn from each of them, and else for as many splits as the
    protocol makes. Of each group no more are taken than half the limit while there are other groups, so that every split has two and people
    still have several recordings; labels that were taken least come first. Recordings of no split are left out. A group stays on one side
    all the same: it is the folds that see to that.
    """
    rng = np.random.default_rng(address(seed, "limit"))
    sides: dict[str, dict[str, list[int]]] = {}  # split → group or id → rows
    for row, sample in enumerate(samples):
        side = _side(sample, protocol.use, fold_of, fold_key)
        if side is not None:
            unit = sample.group if protocol.by == "group" else sample.id
            sides.setdefault(side, {}).setdefault(unit, []).append(row)
    kept: set[int] = set()
    for side, units in sorted(sides.items()):
        wanted = limit * _parts(side, protocol, "valid" in sides)
        names = sorted(units)
        left = [[units[names[i]][k] for k in rng.permutation(len(units[names[i]]))] for i in rng.permutation(len(names))]
        kept |= _drawn(samples, left, wanted, max(1, limit // 2))
    return [sample for row, sample in enumerate(samples) if row in kept]


def _drawn(samples: Sequence[SampleRef], left: list[list[int]], wanted: int, most: int) -> set[int]:
    """So many rows in all: at most `most` of each unit while there are other units, the labels that were taken least first."""
    taken: set[int] = set()
    seen: Counter[tuple[str, str]] = Counter()
    while len(taken) < wanted and any(left):
        for rows in left:
            for _ in range(min(most, len(rows), wanted - len(taken))):
                row = min(rows, key=lambda row: sum(seen[one] for one in _labels(samples[row])))
                rows.remove(row)
                taken.add(row)
                seen.update(_labels(samples[row]))
    return taken


def _labels(sample: SampleRef) -> list[tuple[str, str]]:
    """What a recording is labelled with, numbers that are no classes aside."""
    return [(name, str(label)) for name, label in sample.targets.items() if isinstance(label, int | list)]


def _side(sample: SampleRef, use: str, fold_of: Mapping[str, str] | None, fold_key: str) -> str | None:
    """The split that a recording is known to be in before anything is drawn; an empty text where none is."""
    if use == "official":
        return sample.split
    if use == "folds":
        return (fold_of or {}).get(sample.group if fold_key == "group" else sample.id, "")
    return ""


def _parts(side: str, protocol: Any, has_valid: bool) -> int:
    """How many splits will be made of one side, each of which needs a group of its own."""
    if side == "train" and protocol.use == "official":
        return 1 if has_valid else 2
    if side:
        return 1
    return max(3, getattr(protocol, "k", 3))  # train, valid and test at least
