"""Metrics and retrieval against scikit-learn and slow loops, degenerate cases included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from mmcl.evaluate.metrics import concordance, evaluate, multi_label, regression, single_label, weighted_accuracy
from mmcl.evaluate.retrieval import ranks, retrieval


@pytest.mark.parametrize("seed", range(5))
def test_single_label_metrics_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    target, output = rng.integers(0, 5, 60), rng.normal(size=(60, 6))
    found = evaluate("single-label", "abcdef", target.astype(float), output)
    guess = output.argmax(1)
    assert found["accuracy"] == (pytest.approx(sk.accuracy_score(target, guess)), 60)
    assert found["uar"][0] == pytest.approx(np.mean([(guess[target == c] == c).mean() for c in np.unique(target)]))
    assert found["f1_weighted"][0] == pytest.approx(sk.f1_score(target, guess, average="weighted"))


def test_perfect_predictions_score_one_in_every_metric():
    target = np.array([0, 2, 2, 1])
    assert {value for value, _ in single_label(target, target).values()} == {1.0}
    truth = np.array([[1.0, 0], [0, 1], [1, 1], [0, 0]])
    assert all(value == 1.0 for value, _ in multi_label("ab", truth, truth * 2 - 1).values())
    values = np.arange(5.0)
    found = regression(["v"], values, values)
    assert found["mae"][0] == 0.0
    assert (found["pearson"][0], found["ccc"][0]) == (pytest.approx(1.0), pytest.approx(1.0))


def test_a_class_that_never_occurs_does_not_lower_uar():
    assert single_label(np.array([0, 0, 1]), np.array([0, 2, 1]))["uar"][0] == pytest.approx((0.5 + 1) / 2)


def test_weighted_accuracy_is_the_formula_of_the_paper():
    rng = np.random.default_rng(0)
    truth, guess = rng.random(200) < 0.2, rng.random(200) < 0.4
    tp, tn = (truth & guess).sum(), (~truth & ~guess).sum()
    p, n = truth.sum(), (~truth).sum()
    assert weighted_accuracy(truth, guess) == pytest.approx((tp * n / p + tn) / (2 * n))
    assert weighted_accuracy(truth, guess) == pytest.approx(sk.balanced_accuracy_score(truth, guess))


@pytest.mark.parametrize("truth", [np.zeros(4, bool), np.ones(4, bool)])
def test_weighted_accuracy_without_one_class_is_undefined_not_zero(truth):
    assert math.isnan(weighted_accuracy(truth, np.array([True, False, True, False])))


def test_the_mean_over_classes_is_undefined_if_one_class_is():
    truth = np.array([[1.0, 0], [0, 0]])
    found = multi_label("ab", truth, truth)
    assert found["a/w_acc"][0] == 0.5 or not math.isnan(found["a/w_acc"][0])
    assert math.isnan(found["b/w_acc"][0])
    assert math.isnan(found["w_acc"][0])


def test_multi_label_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    truth, output = (rng.random((80, 3)) < 0.3).astype(float), rng.normal(size=(80, 3))
    found = multi_label("abc", truth, output)
    for i, name in enumerate("abc"):
        assert found[f"{name}/auroc"][0] == pytest.approx(sk.roc_auc_score(truth[:, i], output[:, i]))
        assert found[f"{name}/f1_binary"][0] == pytest.approx(sk.f1_score(truth[:, i], output[:, i] > 0))
        assert found[f"{name}/average_precision"][0] == pytest.approx(sk.average_precision_score(truth[:, i], output[:, i]))


def test_unknown_labels_are_left_out_of_their_class():
    truth = np.array([[1.0], [0.0], [np.nan]])
    assert multi_label("a", truth, np.array([[1.0], [-1.0], [9.0]]))["a/w_acc"] == (1.0, 2)


def test_concordance_punishes_shift_and_scale_as_lin_defines():
    rng = np.random.default_rng(2)
    x = rng.normal(size=100)
    y = 0.5 * x + 1
    expected = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert concordance(x, y) == pytest.approx(expected)
    assert concordance(x, y) < 1
    assert math.isnan(concordance(np.ones(3), np.ones(3)))


def test_ranks_equal_a_double_loop_also_in_blocks():
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(23, 4, generator=generator), torch.randn(23, 4, generator=generator)
    expected = []
    for i in range(23):
        own = torch.cosine_similarity(query[i], gallery[i], dim=0)
        expected.append(1 + sum(float(torch.cosine_similarity(query[i], gallery[j], dim=0) > own) for j in range(23) if j != i))
    assert ranks(query, gallery).tolist() == expected
    assert ranks(query, gallery, block=5).tolist() == expected


def test_constant_embeddings_get_the_rank_of_guessing():
    same = torch.ones(9, 3)
    assert ranks(same, same).tolist() == [5.0] * 9
    assert retrieval(same, same)["R@1"] == (0.0, pytest.approx(1 / 9))


def test_retrieval_finds_itself_and_knows_chance():
    z = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    found = retrieval(z, z)
    assert found["R@1"] == (1.0, pytest.approx(1 / 40))
    assert found["median_rank"] == (1.0, 20.5)


def test_guessing_scores_chance_among_32():
    generator = torch.Generator().manual_seed(3)
    query, gallery = torch.randn(3200, 16, generator=generator), torch.randn(3200, 16, generator=generator)
    value, chance = retrieval(query, gallery, 32, generator)["R@5"]
    assert chance == pytest.approx(5 / 32)
    assert abs(value - chance) < 4 * math.sqrt(chance * (1 - chance) / 3200)
