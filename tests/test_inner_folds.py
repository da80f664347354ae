"""A search's own folds: every training and validation group validates once, and test rows stay where they are."""

from __future__ import annotations

from collections import Counter

import pytest

from mmcl.api import DataError, SampleRef
from mmcl.data.folds import Fold, inner_folds

SAMPLES = [SampleRef(f"g{g}-{i}", f"g{g}", {"audio": "x"}, {}) for g in range(7) for i in range(g + 1)]
ROWS = {g: tuple(row for row, sample in enumerate(SAMPLES) if sample.group == f"g{g}") for g in range(7)}
FOLD = Fold(2, (*ROWS[0], *ROWS[1], *ROWS[3]), ROWS[4], (*ROWS[5], *ROWS[6]))


@pytest.mark.parametrize("parts", [2, 3, 4, 9])
def test_every_group_validates_once_and_no_group_stands_on_both_sides(parts):
    folds = inner_folds(FOLD, SAMPLES, parts, seed=3)
    assert len(folds) == min(parts, 4)
    assert [fold.number for fold in folds] == list(range(len(folds)))
    assert Counter(row for fold in folds for row in fold.valid) == Counter((*FOLD.train, *FOLD.valid))
    for fold in folds:
        assert fold.test == FOLD.test
        assert sorted(fold.train + fold.valid) == sorted(FOLD.train + FOLD.valid)
        assert not {SAMPLES[r].group for r in fold.train} & {SAMPLES[r].group for r in fold.valid}
        assert fold.train
        assert fold.valid


def test_equal_seeds_give_equal_folds_and_others_differ():
    assert inner_folds(FOLD, SAMPLES, 2, 0) == inner_folds(FOLD, SAMPLES, 2, 0)
    assert len({inner_folds(FOLD, SAMPLES, 2, seed)[0].valid for seed in range(20)}) > 1


def test_one_group_cannot_be_dealt():
    with pytest.raises(DataError, match="has 1 group to train and validate on"):
        inner_folds(Fold(0, ROWS[3][:2], ROWS[3][2:], ROWS[5]), SAMPLES, 2, 0)
