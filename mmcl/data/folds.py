"""Who is trained on and who is tested. Groups never stand on both sides unless the recipe says `by: sample` in so many words."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import SampleRef
from ..api.errors import DataError
from ..seeding import address
from .recordings import Recordings, Rows

HELD = 0.2
"""Share of the training groups that is held out to choose by, where validation rows judge and no protocol says how many."""


@dataclass(frozen=True)
class Fold:
    """Rows (indices of recordings) of one fold."""

    number: int
    train: Sequence[int] = ()
    valid: Sequence[int] = ()
    test: Sequence[int] = ()
    held: Sequence[int] = ()  # of an inner fold: what epochs and heads are chosen on, where `valid` judges and chooses nothing

    @property
    def choosing(self) -> Sequence[int]:
        """Rows on which epochs are chosen: `valid`, unless rows are held out for that."""
        return self.held or self.valid


@dataclass(frozen=True)
class Inner:
    """How the training and validation rows of a fold are dealt into inner folds."""

    parts: int | None  # None: one for each group
    hold: (
        float | None
    )  # share of the groups beside a part on which epochs and heads are chosen; None: no row is held out for that


def make_folds(
    protocol: Any,
    samples: Sequence[SampleRef],
    usable: Sequence[int],
    seed: int,
    fold_of: Mapping[str, str] | None = None,
    fold_key: str = "group",
) -> list[Fold]:
    """The folds of a protocol (a section of the recipe), over the rows that can be used.

    Raises DataError if a split would be empty, a group would stand on both sides, or a file of folds does not cover the data.
    """
    samples = Recordings.of(samples)
    units = _units(protocol.by, samples, usable)
    rng = np.random.default_rng(address(seed, "folds", protocol.use))
    pairs: list[tuple[Sequence[int], Sequence[int], Sequence[int]]] = []
    if protocol.use == "official":
        pairs = [_official(protocol, samples, usable, rng)]
    elif protocol.use == "folds":
        pairs = _from_file(protocol, samples, usable, fold_of or {}, fold_key, rng)
    else:
        names = sorted(units)
        if protocol.use == "hold-out":
            shuffled = [names[i] for i in rng.permutation(len(names))]
            count = _share(protocol.test, len(names))
            tests = [shuffled[:count]]
        elif protocol.use == "k-fold":
            if len(names) < protocol.k:
                what = "recordings" if protocol.by == "sample" else "groups"
                able = f"use a k of {len(names)} at most" if len(names) > 2 else f"three {what} are needed, a side each"
                raise DataError(f"protocol: {protocol.k} folds of {len(names)} {what}; {able}")
            tests = _deal(names, units, protocol.k, samples, rng) if protocol.by == "sample" else _split(names, protocol.k, rng)
        else:
            tests = [[name] for name in names]
        for test in tests:
            inside = set(test)
            rest = [name for name in names if name not in inside]
            valid, train = _hold(rest, protocol.valid, rng)
            pairs.append((_rows(units, train), _rows(units, valid), _rows(units, test)))
    folds = [Fold(i, *(_in_order(part, usable) for part in parts)) for i, parts in enumerate(pairs)]
    if not folds:
        raise DataError("protocol: there is no recording that could be split")
    for fold in folds:
        _check(fold, protocol.by, samples)
    if protocol.only is not None:
        missing = [i for i in protocol.only if not 0 <= i < len(folds)]
        if missing:
            raise DataError(f"protocol.only: there is no fold {missing[0]}; there are 0 to {len(folds) - 1}")
        folds = [folds[i] for i in protocol.only]
    return folds


def inner_folds(folds: Sequence[Fold], how: Inner, by: str, samples: Sequence[SampleRef], seed: int) -> list[Fold]:
    """Each fold's training and validation rows dealt into parts, of which each is the validation side of one inner fold.

    Inner folds are counted from 0, fold after fold. Their test rows are those of the fold that they come from.

    by  what is dealt out as one: "group" or "sample"

    Raises DataError if there are fewer groups than parts, or too few beside a part to train on.
    """
    inner: list[Fold] = []
    samples = Recordings.of(samples)
    for fold in folds:
        rng = np.random.default_rng(address(seed, "folds", "inner", fold.number))
        units = _units(by, samples, sorted((*fold.train, *fold.valid)))
        names, what = sorted(units), "recordings" if by == "sample" else "groups"
        count, least = len(names) if how.parts is None else how.parts, 1 if how.hold is None else 2
        able = len(names) > least  # by a part each
        if count > len(names):
            most = f"use {len(names)} at most" if able else "use validation: fold"
            raise DataError(
                f"sweep.validation: {count} parts of the {len(names)} {what} of training and validation in fold {fold.number}; {most}"
            )
        dealt = _deal(names, units, count, samples, rng) if by == "sample" else _split(names, count, rng)
        for part in dealt:
            inside = set(part)
            rest = [name for name in names if name not in inside]
            if len(rest) < least:
                needed = "one is needed, to train on" if how.hold is None else "two are needed, to train and to choose on"
                others = "use more parts, or validation: fold" if able else "use validation: fold"
                raise DataError(
                    f"sweep.validation: a part of fold {fold.number} leaves {len(rest)} of {len(names)} {what}, and {needed}; {others}"
                )
            held, train = ([], rest) if how.hold is None else _hold(rest, how.hold, rng)
            fitted, judging, choosing = (Rows(np.sort(np.array(_rows(units, side), np.int32))) for side in (train, part, held))
            inner.append(Fold(number=len(inner), train=fitted, valid=judging, test=fold.test, held=choosing))
    return inner


def crosses_groups(folds: Sequence[Fold], samples: Sequence[SampleRef]) -> bool:
    """Whether any group stands on both sides of a split."""
    samples = Recordings.of(samples)
    for fold in folds:
        sides = [set(np.unique(samples.codes(part)).tolist()) for part in (fold.train, fold.valid, fold.test)]
        if sides[2] & (sides[0] | sides[1]) or sides[0] & sides[1]:
            return True
    return False


def _units(by: str, samples: Recordings, usable: Sequence[int]) -> dict[str, Sequence[int]]:
    """What is dealt out as one: the rows of a group, or single rows."""
    if by != "group":
        return {samples.id(row): (row,) for row in usable}
    rows = np.asarray(usable, np.int32)
    codes = samples.codes(rows)
    if not len(rows):
        return {}
    order = np.argsort(codes, kind="stable")
    groups, first = np.unique(codes[order], return_index=True)
    return {samples.groups[code]: Rows(part) for code, part in zip(groups, np.split(rows[order], first[1:]), strict=True)}


def _rows(units: Mapping[str, Sequence[int]], names: Sequence[str]) -> Rows:
    return Rows(np.concatenate([np.zeros(0, np.int32), *(np.asarray(units[name], np.int32) for name in names)]))


def _in_order(part: Sequence[int], usable: Sequence[int]) -> Rows:
    """Rows in the order in which they stand among those that can be used."""
    rows, known = np.asarray(part, np.int32), np.asarray(usable, np.int32)
    if bool((known[1:] > known[:-1]).all()):
        return Rows(np.sort(rows))
    order = np.argsort(known, kind="stable")
    return Rows(known[np.sort(order[np.searchsorted(known, rows, sorter=order)])] if len(rows) else rows)


def _share(share: float, count: int) -> int:
    return max(1, round(share * count))


def _hold(names: Sequence[str], share: float, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """A share of the names held back, and the rest."""
    shuffled = [names[i] for i in rng.permutation(len(names))]
    count = _share(share, len(names))
    return shuffled[:count], shuffled[count:]


def _split(names: Sequence[str], k: int, rng: np.random.Generator) -> list[list[str]]:
    """k parts whose sizes differ by one at most, the larger ones first (24 actors in 10: 3,3,3,3,2,2,2,2,2,2)."""
    shuffled = [names[i] for i in rng.permutation(len(names))]
    return [list(part) for part in np.array_split(np.array(shuffled, dtype=object), k)]


def _deal(
    names: Sequence[str], units: Mapping[str, Sequence[int]], k: int, samples: Recordings, rng: np.random.Generator
) -> list[list[str]]:
    """k parts of single recordings, dealt out class by class (by the first target), so that every part has its share of each."""
    shuffled = [names[i] for i in rng.permutation(len(names))]
    target = {name: str(next(iter(samples[units[name][0]].targets.values()), "")) for name in shuffled}
    ordered = sorted(shuffled, key=target.__getitem__)
    return [ordered[i::k] for i in range(k)]


def _official(protocol: Any, samples: Recordings, usable: Sequence[int], rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    rows = np.asarray(usable, np.int32)
    places = samples.split_codes(rows)
    parts: dict[str, NDArray[np.int32]] = dict.fromkeys(("train", "valid", "test"), np.zeros(0, np.int32))
    for place in np.unique(places[places >= 0]).tolist():
        mine = rows[places == place]
        split = samples.split(int(mine[0])) or ""
        if split not in parts:
            raise DataError(f"recording '{samples.id(int(mine[0]))}' is in split '{split}'; splits are train, valid and test")
        parts[split] = mine
    if not len(parts["valid"]):
        units = _units(protocol.by, samples, Rows(parts["train"]))
        valid, train = _hold(sorted(units), protocol.valid, rng)
        return _rows(units, train), _rows(units, valid), Rows(parts["test"])
    return Rows(parts["train"]), Rows(parts["valid"]), Rows(parts["test"])


def _from_file(
    protocol: Any,
    samples: Recordings,
    usable: Sequence[int],
    fold_of: Mapping[str, str],
    key: str,
    rng: np.random.Generator,
) -> list[tuple[Sequence[int], Sequence[int], Sequence[int]]]:
    names = sorted(set(fold_of.values()), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n))
    rows = {name: array("i") for name in names}
    for row in usable:
        mine = samples.group(row) if key == "group" else samples.id(row)
        if mine not in fold_of:
            raise DataError(f"{protocol.file}: names no fold for {key} '{mine}' (recording '{samples.id(row)}')")
        rows[fold_of[mine]].append(row)
    pairs: list[tuple[Sequence[int], Sequence[int], Sequence[int]]] = []
    for i, name in enumerate(names):
        others = [n for n in names if n != name]
        if protocol.valid == "next":
            valid_name = names[(i + 1) % len(names)]
            if len(names) < 3:
                raise DataError(
                    f"{protocol.file}: valid: next needs three folds, there are {len(names)}; set valid to a share such as 0.2"
                )
            train = _rows(rows, [n for n in others if n != valid_name])
            valid = Rows(rows[valid_name])
        else:
            units = _units(protocol.by, samples, _rows(rows, others))
            held, rest = _hold(sorted(units), protocol.valid, rng)
            valid, train = _rows(units, held), _rows(units, rest)
        pairs.append((train, valid, Rows(rows[name])))
    return pairs


def _check(fold: Fold, by: str, samples: Recordings) -> None:
    parts = {"train": fold.train, "valid": fold.valid, "test": fold.test}
    codes = {name: samples.codes(rows) for name, rows in parts.items()}
    for name, rows in parts.items():
        if not rows:
            groups = np.unique(np.concatenate(list(codes.values())))
            alone = (
                f": all {len(samples)} recordings are of one group, '{samples.groups[groups[0]]}'"
                if by == "group" and len(groups) == 1
                else ""
            )
            raise DataError(
                f"protocol: fold {fold.number} has no recording for {name}; there is too little data for this protocol{alone}"
            )
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        both = np.intersect1d(np.asarray(parts[one]), np.asarray(parts[other]))
        if len(both):
            raise DataError(
                f"protocol: recording '{samples.id(int(both[0]))}' is in {one} and in {other} of fold {fold.number}"
            )
        shared = np.intersect1d(codes[one], codes[other])
        if by == "group" and len(shared):
            here, there = (samples.id(parts[side][int(np.flatnonzero(codes[side] == shared[0])[0])]) for side in (one, other))
            raise DataError(
                f"protocol: group '{samples.groups[shared[0]]}' is in {one} (recording '{here}') and in {other} (recording "
                f"'{there}') of fold {fold.number}; mend the split, or allow it with protocol.by: sample"
            )
