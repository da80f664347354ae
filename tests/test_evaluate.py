"""Metrics and retrieval against scikit-learn and slow loops, degenerate cases included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from mmcl.evaluate import metrics
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
    truth = np.array([[1.0, 0], [0, 1], [1, 1], [1, 0]])
    truth = np.concatenate([truth, 1 - truth[:2]])
    found = multi_label("ab", truth, truth * 2 - 1)
    assert found.pop("hamming_loss")[0] == 0.0
    assert {name: value for name, (value, _) in found.items() if value != 1.0} == {}
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


def test_multi_label_metrics_over_rows_are_scikit_learns_and_the_definition():
    from sklearn.metrics import f1_score, hamming_loss, jaccard_score

    rng = np.random.default_rng(0)
    target, output = (rng.random((60, 4)) < 0.3).astype(float), rng.normal(size=(60, 4))
    target[3], output[3] = 0, -1  # both empty: scikit-learn's zero_division and ours count 0
    guess = output > 0
    found = metrics.multi_label(tuple("abcd"), target, output)
    assert found["jaccard"][0] == pytest.approx(jaccard_score(target, guess, average="samples", zero_division=0))
    assert found["hamming_loss"][0] == pytest.approx(hamming_loss(target, guess))
    assert found["f1_micro"][0] == pytest.approx(f1_score(target, guess, average="micro"))
    assert found["f1_macro"][0] == pytest.approx(f1_score(target, guess, average="macro", zero_division=0))
    target[5, 1] = np.nan
    assert metrics.multi_label(tuple("abcd"), target, output)["jaccard"][1] == 59


def test_sentiment_metrics_say_which_variant_they_are():
    truth, said = np.array([0.0, 0.5, -0.5, 2.5, -3.0, 1.0]), np.array([-0.1, 0.4, 0.2, 2.4, -9.0, 1.5])
    found = {name: value for name, (value, _) in metrics.sentiment(truth, said).items()}
    assert found["acc7"] == pytest.approx(5 / 6)  # 0 0 -0 2 -3 1 against -0 0 0 2 -3 2
    assert found["acc7_away"] == pytest.approx(2 / 6)  # 0 1 -1 3 -3 1 against 0 0 0 2 -3 2
    assert found["acc2_nonneg"] == pytest.approx(4 / 6)
    assert found["acc2_nonzero"] == pytest.approx(4 / 5)
    assert metrics.evaluate("regression", (), truth, said, ("sentiment",)).keys() >= {"acc7", "mae"}
    assert "acc7" not in metrics.evaluate("regression", (), truth, said)


def test_thresholds_are_the_best_cut_for_each_class_and_stay_where_nothing_is_to_be_gained():
    rng = np.random.default_rng(0)
    target = (rng.random((80, 3)) < 0.4).astype(float)
    output = target * 2 + rng.normal(size=(80, 3)) + np.array([3.0, -5.0, 0.0])
    target[:, 2] = 1  # occurs one way: nothing to choose by
    found = metrics.thresholds(target, output)
    assert found[2] == 0
    for i in range(2):
        tried = [metrics.weighted_accuracy(target[:, i] > 0.5, output[:, i] > cut) for cut in np.linspace(-9, 9, 2000)]
        got = metrics.weighted_accuracy(target[:, i] > 0.5, output[:, i] > found[i])
        assert got >= max(tried) - 1e-9
        assert got > metrics.weighted_accuracy(target[:, i] > 0.5, output[:, i] > 0) + 0.2
    perfect = np.where(target[:, :1] > 0.5, 1.0, -1.0)
    assert metrics.thresholds(target[:, :1], perfect)[0] == 0
