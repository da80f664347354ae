"""How sure a score is: means, deviations and intervals over folds and seeds, against slow computations and scipy."""

from __future__ import annotations

from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from mmcl.evaluate.statistics import Unit, difference, summarise


def test_seeds_are_averaged_within_each_fold_and_the_interval_is_over_folds():
    random = np.random.default_rng(0)
    values: dict[Unit, float | None] = {
        (fold, seed, head): float(random.random()) for fold in range(4) for seed in range(1 + fold) for head in range(2)
    }
    means = []
    for fold in range(4):
        seeds = [mean(values[fold, seed, head] for head in range(2)) for seed in range(1 + fold)]
        means.append(mean(seeds))
    summary = summarise(values)
    interval = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (summary.mean, summary.sd) == (pytest.approx(mean(means)), pytest.approx(stdev(means)))
    assert (summary.low, summary.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (summary.units, summary.over, summary.folds, summary.seeds, summary.undefined) == (4, "folds", 4, 4, 0)


def test_a_head_seed_too_many_in_one_seed_gives_it_no_more_weight():
    values: dict[Unit, float | None] = {(0, 0, 0): 0.0, (0, 0, 1): 0.0, (0, 0, 2): 0.0, (0, 1, 0): 1.0, (1, 0, 0): 0.5}
    assert summarise(values).mean == pytest.approx(((0.0 + 1.0) / 2 + 0.5) / 2)


def test_a_single_fold_is_over_its_seeds_and_says_so():
    summary = summarise({(3, 0, 0): 0.5, (3, 0, 1): 0.7, (3, 1, 0): 0.8, (3, 1, 1): 0.9})
    interval = stats.ttest_1samp([0.6, 0.85], 0).confidence_interval(0.95)
    assert (summary.over, summary.units, summary.folds) == ("seeds", 2, 1)
    assert (summary.low, summary.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_single_fold_and_seed_is_over_head_seeds_and_one_measurement_over_nothing():
    assert summarise({(0, 0, 0): 0.5, (0, 0, 1): 0.7}).over == "head seeds"
    one = summarise({(0, 4, 2): 0.5})
    assert (one.mean, one.sd, one.low, one.high, one.over, one.units) == (0.5, None, None, None, "nothing", 1)


def test_undefined_values_are_counted_and_never_zero():
    summary = summarise({(0, 0, 0): 0.4, (1, 0, 0): None, (2, 0, 0): 0.6})
    assert (summary.mean, summary.units, summary.undefined) == (pytest.approx(0.5), 2, 1)
    nothing = summarise({(0, 0, 0): None})
    assert (nothing.mean, nothing.units, nothing.undefined) == (None, 0, 1)


def test_an_interval_ends_where_the_metric_ends():
    summary = summarise({(0, 0, 0): 0.99, (1, 0, 0): 0.5}, (0.0, 1.0))
    assert (summary.low, summary.high) == (0.0, 1.0)


def test_a_difference_is_taken_fold_by_fold():
    mine = [0.9, 0.5, 0.7]
    theirs = [0.8, 0.45, 0.55]
    summary = difference({(f, 0, 0): v for f, v in enumerate(mine)}, {(f, 0, 0): v for f, v in enumerate(theirs)})
    interval = stats.ttest_rel(mine, theirs).confidence_interval(0.95)
    assert (summary.low, summary.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (summary.units, summary.above) == (3, 3)


def test_a_baseline_without_head_seeds_counts_for_each_of_them_and_a_missing_one_for_none():
    mine: dict[Unit, float | None] = {(0, 0, 0): 0.5, (0, 0, 1): 0.7, (1, 0, 0): 0.9, (2, 0, 0): 0.1}
    summary = difference(mine, {(0, 0, 0): 0.2, (1, 0, 0): 0.3})
    assert summary.folds == 2
    assert summary.mean == pytest.approx(mean([mean([0.5 - 0.2, 0.7 - 0.2]), 0.9 - 0.3]))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(7)
    truth, hit, naive = 0.6, 0, 0
    draws = 1500
    for _ in range(draws):
        folds = truth + random.normal(0, 0.05, 5)
        values: dict[Unit, float | None] = {
            (f, s, 0): float(folds[f] + random.normal(0, 0.03)) for f in range(5) for s in range(3)
        }
        summary = summarise(values)
        assert summary.low is not None
        assert summary.high is not None
        hit += summary.low <= truth <= summary.high
        alone = stats.ttest_1samp(list(values.values()), truth).pvalue
        naive += alone > 0.05
    assert 0.93 <= hit / draws <= 0.97
    assert naive / draws < 0.9, "seeds counted as measurements of their own would claim too much"
