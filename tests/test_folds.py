"""Protocols: every recording is tested as promised, and groups never cross."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mmcl.api import DataError, SampleRef
from mmcl.data.folds import Fold, Inner, crosses_groups, inner_folds, make_folds


def people(groups: int = 24, each: int = 6, classes: int = 3, split=None) -> list[SampleRef]:
    return [
        SampleRef(f"g{g}-c{c}", f"g{g:02d}", {"audio": "x"}, {"emotion": c % classes}, split(g) if split else None)
        for g in range(groups)
        for c in range(each)
    ]


def protocol(use: str, **values):
    return SimpleNamespace(
        **{"use": use, "by": "group", "only": None, "valid": 0.2, "test": 0.2, "k": 5, "file": "folds.csv", **values}
    )


def folds_of(section, samples, seed=0, **more):
    return make_folds(section, samples, range(len(samples)), seed, **more)


EVERY = [protocol("hold-out"), protocol("k-fold", k=10), protocol("leave-one-group-out")]


@pytest.mark.parametrize("section", EVERY, ids=lambda s: s.use)
def test_groups_never_cross_and_every_row_has_one_side(section):
    samples = people()
    for fold in folds_of(section, samples):
        assert sorted(fold.train + fold.valid + fold.test) == list(range(len(samples)))
        sides = [{samples[r].group for r in part} for part in (fold.train, fold.valid, fold.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert not crosses_groups(folds_of(section, samples), samples)


@pytest.mark.parametrize("section", EVERY[1:], ids=lambda s: s.use)
def test_every_row_is_tested_exactly_once(section):
    samples = people()
    tested = Counter(row for fold in folds_of(section, samples) for row in fold.test)
    assert tested == Counter(range(len(samples)))


def test_24_actors_in_10_folds_are_3333222222():
    samples = people()
    sizes = [len({samples[r].group for r in fold.test}) for fold in folds_of(protocol("k-fold", k=10), samples)]
    assert sizes == [3, 3, 3, 3, 2, 2, 2, 2, 2, 2]


def test_by_sample_crosses_groups_deals_classes_evenly_and_is_seen():
    samples = people()
    folds = folds_of(protocol("k-fold", k=4, by="sample"), samples)
    assert crosses_groups(folds, samples)
    for fold in folds:
        assert set(Counter(samples[r].targets["emotion"] for r in fold.test).values()) == {12}


def test_seed_changes_the_folds_and_nothing_else_does():
    samples = people()
    assert folds_of(protocol("k-fold"), samples, 1) == folds_of(protocol("k-fold"), samples, 1)
    assert folds_of(protocol("k-fold"), samples, 1) != folds_of(protocol("k-fold"), samples, 2)


def test_official_takes_validation_from_training_groups_alone():
    samples = people(8, split=lambda g: "train" if g % 2 else "test")
    (fold,) = folds_of(protocol("official", valid=0.25), samples)
    assert {samples[r].group for r in fold.test} == {"g00", "g02", "g04", "g06"}
    assert len({samples[r].group for r in fold.valid}) == 1
    assert len({samples[r].group for r in fold.train}) == 3


def test_official_refuses_a_speaker_on_both_sides_and_names_the_clips():
    samples = [
        SampleRef("a", "ann", {}, {}, "train"),
        SampleRef("v", "bob", {}, {}, "valid"),
        SampleRef("b", "ann", {}, {}, "test"),
    ]
    with pytest.raises(DataError, match=r"group 'ann' is in train \(recording 'a'\) and in test \(recording 'b'\)"):
        folds_of(protocol("official"), samples)
    (fold,) = folds_of(protocol("official", by="sample"), samples)
    assert crosses_groups([fold], samples)


def test_folds_from_a_file_use_the_next_fold_for_validation():
    samples = people(6)
    fold_of = {f"g{g:02d}": str(g // 2) for g in range(6)}
    folds = folds_of(protocol("folds", valid="next"), samples, fold_of=fold_of)
    for i, fold in enumerate(folds):
        assert {fold_of[samples[r].group] for r in fold.test} == {str(i)}
        assert {fold_of[samples[r].group] for r in fold.valid} == {str((i + 1) % 3)}


def test_a_file_of_folds_that_misses_a_group_is_refused():
    with pytest.raises(DataError, match="names no fold for group 'g01'"):
        folds_of(protocol("folds", valid="next"), people(2), fold_of={"g00": "0"})


def test_folds_are_numbered_as_in_the_protocol_when_only_some_are_run():
    folds = folds_of(protocol("k-fold", only=(3, 1)), people())
    assert [f.number for f in folds] == [3, 1]
    with pytest.raises(DataError, match="there is no fold 7; there are 0 to 4"):
        folds_of(protocol("k-fold", only=(7,)), people())


def test_too_little_data_is_refused():
    with pytest.raises(DataError, match="10 folds of 3 groups"):
        folds_of(protocol("k-fold", k=10), people(3))
    with pytest.raises(DataError, match="has no recording for train"):
        folds_of(protocol("leave-one-group-out"), people(2))
    with pytest.raises(DataError, match="no recording that could be split"):
        folds_of(protocol("leave-one-group-out"), [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=12, max_size=80),
    st.sampled_from(["hold-out", "k-fold", "leave-one-group-out"]),
    st.integers(0, 99),
)
def test_no_assignment_of_groups_makes_one_cross(groups, use, seed):
    samples = [SampleRef(str(i), f"g{g}", {}, {"emotion": i % 2}) for i, g in enumerate(groups)]
    try:
        folds = folds_of(protocol(use, k=3), samples, seed)
    except DataError:
        return
    assert not crosses_groups(folds, samples)
    for fold in folds:
        assert not set(fold.train) & set(fold.test)


ANY = settings(max_examples=200, deadline=None)
PEOPLE = st.lists(st.integers(0, 9), min_size=4, max_size=60)
SHARES = st.floats(0.05, 0.9)


@st.composite
def smuggled(draw):
    """Recordings with any groups, labels and official splits, any of which may be unusable; and a protocol with any options."""
    groups = draw(PEOPLE)
    n = len(groups)
    split = draw(st.lists(st.sampled_from(["train", "valid", "test", None]), min_size=n, max_size=n))
    label = draw(st.lists(st.sampled_from([0, 1, 2, None]), min_size=n, max_size=n))
    samples = [
        SampleRef(f"r{i}", f"g{g}", {}, {} if c is None else {"emotion": c}, s)
        for i, (g, c, s) in enumerate(zip(groups, label, split, strict=True))
    ]
    usable = [i for i in range(n) if draw(st.integers(0, 9))]
    use = draw(st.sampled_from(["official", "hold-out", "k-fold", "leave-one-group-out", "folds"]))
    by = draw(st.sampled_from(["group", "sample"]))
    valid = draw(SHARES | st.just("next")) if use == "folds" else draw(SHARES)
    section = protocol(use, by=by, valid=valid, test=draw(SHARES), k=draw(st.integers(2, 4)))
    key = draw(st.sampled_from(["group", "id"]))
    names = {s.group if key == "group" else s.id for s in samples}
    fold_of = {name: str(draw(st.integers(0, 2))) for name in sorted(names)} if use == "folds" else None
    return section, samples, usable, draw(st.integers(0, 999)), fold_of, key


@ANY
@given(smuggled())
def test_whatever_is_asked_for_nobody_crosses_unless_the_recipe_says_by_sample(case):
    section, samples, usable, seed, fold_of, key = case
    try:
        folds = make_folds(section, samples, usable, seed, fold_of, key)
    except DataError:
        event(f"{section.use} by {section.by}: refused")
        return
    event(f"{section.use} by {section.by}: made")
    assert folds
    tested = Counter(row for fold in folds for row in fold.test)
    for fold in folds:
        rows = [*fold.train, *fold.valid, *fold.test]
        assert len(rows) == len(set(rows)), "a recording stands in two splits, or twice in one"
        assert set(rows) <= set(usable)
        assert fold.train
        assert fold.valid
        assert fold.test
        sides = [{samples[r].group for r in part} for part in (fold.train, fold.valid, fold.test)]
        crossing = (sides[0] & sides[1]) | (sides[0] & sides[2]) | (sides[1] & sides[2])
        assert not crossing or section.by == "sample"
        if section.use == "official":
            assert all(samples[r].split == "test" for r in fold.test)
            assert not any(samples[r].split == "test" for r in [*fold.train, *fold.valid])
        else:
            assert set(rows) == set(usable)
    assert crosses_groups(folds, samples) == (section.by == "sample" and _crosses(folds, samples))
    assert max(tested.values()) == 1, "a recording is tested more than once"
    if section.use in ("k-fold", "leave-one-group-out"):
        assert set(tested) == set(usable)
    assert folds == make_folds(section, samples, usable, seed, fold_of, key)


def _crosses(folds, samples):
    """By a slow loop over pairs of recordings."""
    for fold in folds:
        where = {r: name for name, part in (("a", fold.train), ("b", fold.valid), ("c", fold.test)) for r in part}
        for r in where:
            for q in where:
                if samples[r].group == samples[q].group and where[r] != where[q]:
                    return True
    return False


@ANY
@given(PEOPLE, st.integers(2, 5), st.integers(0, 99), st.integers(0, 59))
def test_a_single_recording_moved_to_the_other_side_by_a_file_of_folds_is_refused(groups, k, seed, moved):
    samples = [SampleRef(f"r{i}", f"g{g}", {}, {}) for i, g in enumerate(groups)]
    people = sorted({s.group for s in samples})
    fold_of = {s.id: str(people.index(s.group) % k) for s in samples}
    victim = samples[moved % len(samples)]
    alone = sum(s.group == victim.group for s in samples) == 1
    fold_of[victim.id] = str((int(fold_of[victim.id]) + 1) % k)
    section = protocol("folds", valid=0.3)
    try:
        folds = make_folds(section, samples, range(len(samples)), seed, fold_of, "id")
    except DataError:
        return
    assert alone, "one of a person's recordings went to the other side, and nobody said so"
    assert not crosses_groups(folds, samples)


@ANY
@given(PEOPLE, st.sampled_from(["hold-out", "k-fold", "leave-one-group-out"]), st.integers(0, 99), st.randoms())
def test_labels_and_files_have_no_say_in_who_is_tested(groups, use, seed, random):
    """By group, folds rest on names and the seed alone: no choice of labels can bring a recording into a split."""
    plain = [SampleRef(f"r{i}", f"g{g}", {}, {}) for i, g in enumerate(groups)]
    other = [SampleRef(s.id, s.group, {"audio": "x"}, {"emotion": random.randint(0, 5)}) for s in plain]
    try:
        folds = folds_of(protocol(use, k=2), plain, seed)
    except DataError:
        return
    assert folds == folds_of(protocol(use, k=2), other, seed)


def who(samples, rows):
    return {samples[row].group for row in rows}


@pytest.mark.parametrize("parts", [None, 4])
@pytest.mark.parametrize("hold", [None, 0.2])
def test_inner_folds_validate_every_group_once_and_never_train_on_it(parts, hold):
    samples = people(12)
    outer = folds_of(protocol("k-fold", k=3), samples)
    inner = inner_folds(outer, Inner(parts, hold), "group", samples, 7)
    each = parts or 8
    assert [fold.number for fold in inner] == list(range(3 * each))
    for n, whole in enumerate(outer):
        mine = inner[n * each : (n + 1) * each]
        known = {*whole.train, *whole.valid}
        assert Counter(row for fold in mine for row in fold.valid) == Counter(known)
        for fold in mine:
            assert fold.test == whole.test
            assert {*fold.train, *fold.held, *fold.valid} == known
            sides = [who(samples, part) for part in (fold.train, fold.held, fold.valid, fold.test)]
            assert sum(map(len, sides)) == 12, "no group stands on two sides"
            assert len(sides[2]) == 8 // each
            assert len(sides[1]) == (0 if hold is None else max(1, round(hold * (8 - len(sides[2])))))
            assert fold.choosing == (fold.held or fold.valid)
    again = inner_folds(outer, Inner(parts, hold), "group", samples, 7)
    assert again == inner
    other = inner_folds(outer[1:], Inner(parts, hold), "group", samples, 7)
    assert [fold.valid for fold in other] == [fold.valid for fold in inner[each:]], "no deal depends on the folds before it"


def test_inner_folds_by_sample_deal_classes_evenly():
    samples = people(6, each=6)
    outer = folds_of(protocol("hold-out", by="sample", test=1 / 3), samples)
    inner = inner_folds(outer, Inner(3, None), "sample", samples, 0)
    assert Counter(row for fold in inner for row in fold.valid) == Counter((*outer[0].train, *outer[0].valid))
    for fold in inner:
        assert not {*fold.train} & {*fold.valid}
        counts = Counter(samples[row].targets["emotion"] for row in fold.valid)
        assert max(counts.values()) - min(counts.values()) <= 3
    assert crosses_groups(inner, samples)


def test_more_parts_than_groups_and_too_few_groups_are_refused():
    samples = people(6)
    outer = folds_of(protocol("hold-out", test=1 / 3), samples)
    with pytest.raises(DataError) as error:
        inner_folds(outer, Inner(5, None), "group", samples, 0)
    assert str(error.value) == ("sweep.validation: 5 parts of the 4 groups of training and validation in fold 0; use 4 at most")
    few = people(3)
    outer = folds_of(protocol("hold-out", test=1 / 3), few)
    with pytest.raises(DataError, match="a part of fold 0 leaves 1 of 2 groups, and two are needed"):
        inner_folds(outer, Inner(None, 0.2), "group", few, 0)


def test_a_part_that_leaves_nobody_to_train_on_is_refused():
    samples = people(2)
    fold = Fold(0, tuple(range(4)), (), (4,))
    alone = [replace(sample, group="one") for sample in samples]
    with pytest.raises(
        DataError, match="a part of fold 0 leaves 0 of 1 groups, and one is needed, to train on; use validation: fold$"
    ):
        inner_folds([fold], Inner(None, None), "group", alone, 0)


def test_two_groups_judge_each_other_where_nothing_has_to_be_chosen():
    samples = people(3)
    (outer,) = folds_of(protocol("hold-out", test=1 / 3), samples)
    first, second = inner_folds([outer], Inner(None, None), "group", samples, 0)
    assert (first.train, first.valid) == (second.valid, second.train)
    assert {*first.train, *first.valid} == {*outer.train, *outer.valid}
