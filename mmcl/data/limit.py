"""A few of the recordings, for a dry run: groups whole, every split with its share."""

from __future__ import annotations

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
    """About `limit` recordings of each split that a protocol (a section of the recipe) makes, in the order of the samples.

    Whole groups are drawn until there are as many or more; with `by: sample`, single recordings. Where splits are known beforehand (official
    ones, folds of a file) that is done in each of them, and else for as many splits as the protocol makes. Recordings of no split are left out.
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
        parts = _parts(side, protocol, "valid" in sides)
        rows: list[int] = []
        names = sorted(units)
        for drawn, i in enumerate(rng.permutation(len(names))):
            if len(rows) >= limit * parts and drawn >= parts:
                break
            rows += units[names[i]]
        kept.update(rows)
    return [sample for row, sample in enumerate(samples) if row in kept]


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
