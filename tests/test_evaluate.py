"""Metrics and retrieval against scikit-learn and slow loops, degenerate cases included."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmcl.api import Task
from mmcl.evaluate import metrics
from mmcl.evaluate import retrieval as retrieving
from mmcl.evaluate.answers import predictions_of, scores_of, target_of, target_tensor
from mmcl.evaluate.metrics import concordance, evaluate, multi_label, regression, single_label, weighted_accuracy
from mmcl.evaluate.retrieval import both_ways, places, retrieval


@pytest.mark.parametrize("seed", range(5))
def test_single_label_metrics_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    target, output = rng.integers(0, 5, 60), rng.normal(size=(60, 6))
    scores = evaluate("single-label", "abcdef", target.astype(float), output)
    guess = output.argmax(1)
    assert scores["accuracy"] == (pytest.approx(sk.accuracy_score(target, guess)), 60)
    assert scores["uar"][0] == pytest.approx(np.mean([(guess[target == c] == c).mean() for c in np.unique(target)]))
    assert scores["f1_weighted"][0] == pytest.approx(sk.f1_score(target, guess, average="weighted"))


def test_perfect_predictions_score_one_in_every_metric():
    target = np.array([0, 2, 2, 1])
    assert {value for value, _ in single_label(target, target).values()} == {1.0}
    truth = np.array([[1.0, 0], [0, 1], [1, 1], [1, 0]])
    truth = np.concatenate([truth, 1 - truth[:2]])
    scores = multi_label("ab", truth, truth * 2 - 1)
    assert scores.pop("hamming_loss")[0] == 0.0
    assert {name: value for name, (value, _) in scores.items() if value != 1.0} == {}
    values = np.arange(5.0)
    scores = regression(["v"], values, values)
    assert scores["mae"][0] == 0.0
    assert (scores["pearson"][0], scores["ccc"][0]) == (pytest.approx(1.0), pytest.approx(1.0))


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
    scores = multi_label("ab", truth, truth)
    assert scores["a/w_acc"][0] == 0.5 or not math.isnan(scores["a/w_acc"][0])
    assert math.isnan(scores["b/w_acc"][0])
    assert math.isnan(scores["w_acc"][0])


def test_multi_label_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    truth, output = (rng.random((80, 3)) < 0.3).astype(float), rng.normal(size=(80, 3))
    scores = multi_label("abc", truth, output)
    for i, name in enumerate("abc"):
        assert scores[f"{name}/auroc"][0] == pytest.approx(sk.roc_auc_score(truth[:, i], output[:, i]))
        assert scores[f"{name}/f1_binary"][0] == pytest.approx(sk.f1_score(truth[:, i], output[:, i] > 0))
        assert scores[f"{name}/average_precision"][0] == pytest.approx(sk.average_precision_score(truth[:, i], output[:, i]))


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


def slow_places(query, gallery):
    """One query and one recording after the other, in float64."""
    query, gallery = (torch.nn.functional.normalize(z.double(), dim=-1).tolist() for z in (query, gallery))
    better, equal = [], []
    for i, one in enumerate(query):
        cosine = [math.fsum(a * b for a, b in zip(one, other, strict=True)) for other in gallery]
        others = [c - cosine[i] for j, c in enumerate(cosine) if j != i]
        better.append(sum(c > 1e-13 for c in others))
        equal.append(sum(abs(c) <= 1e-13 for c in others))
    return better, equal


def twins(n=40, width=4):
    """Vectors whose cosines float32 cannot tell apart, and some that nothing can: in whole numbers, so with many ties."""
    generator = torch.Generator().manual_seed(4)
    one = torch.randint(-2, 3, (n, width), generator=generator).double() + 0.5
    other = one.roll(1, 0).clone()
    other[::3] = other[0]
    other[1::3] += 1e-9 * torch.randn(len(other[1::3]), width, generator=generator)
    return one, other


@pytest.mark.parametrize("tile", [(512, 2048), (5, 7), (40, 1)])
@pytest.mark.parametrize("crowded", [1, 16, 10**9], ids=["rather apart", "as it is", "rather whole tiles"])
@pytest.mark.parametrize("tied", [False, True])
def test_places_both_ways_equal_a_double_loop_also_in_tiles(tied, crowded, tile, monkeypatch):
    monkeypatch.setattr(retrieving, "TILE", tile)
    monkeypatch.setattr(retrieving, "CROWDED", crowded)
    generator = torch.Generator().manual_seed(0)
    one, other = twins() if tied else (torch.randn(23, 4, generator=generator), torch.randn(23, 4, generator=generator))
    for got, (query, gallery) in zip(both_ways(one, other), ((one, other), (other, one)), strict=True):
        better, equal = slow_places(query, gallery)
        assert got.better.tolist() == better
        assert got.equal.tolist() == equal
        assert any(equal) is tied
        ranks = [1 + b + e / 2 for b, e in zip(better, equal, strict=True)]
        assert got.ranks.tolist() == ranks
        assert got.reciprocal_rank == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))


def test_a_search_of_many_holds_one_tile_at_a_time(monkeypatch):
    held = []
    monkeypatch.setattr(retrieving, "_leave_out_itself", lambda tile, row, column: held.append(tile.shape))
    both_ways(torch.randn(5000, 2), torch.randn(5000, 2))
    assert max(rows for rows, _ in held) == 512
    assert max(columns for _, columns in held) == 2048


def test_constant_embeddings_get_the_rank_of_guessing():
    same = torch.ones(9, 3)
    assert places(same, same).ranks.tolist() == [5.0] * 9
    assert retrieval(same, same)["R@1"] == (0.0, pytest.approx(1 / 9))
    assert retrieval(same, same, 4)["R@5"] == (pytest.approx(1), 1.0)  # rank 2.5 of 4, whoever comes along
    assert retrieval(same, same, 4)["median_rank"] == (3.0, 2.5)


def test_retrieval_finds_itself_and_knows_chance():
    z = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    scores = retrieval(z, z)
    assert scores["R@1"] == (1.0, pytest.approx(1 / 40))
    assert scores["median_rank"] == (1.0, 20.5)


def test_guessing_scores_chance_among_32():
    generator = torch.Generator().manual_seed(3)
    query, gallery = torch.randn(3200, 16, generator=generator), torch.randn(3200, 16, generator=generator)
    value, chance = retrieval(query, gallery, 32)["R@5"]
    assert chance == pytest.approx(5 / 32)
    assert abs(value - chance) < 4 * math.sqrt(chance * (1 - chance) / 3200)


@pytest.mark.parametrize("tied", [False, True])
def test_a_search_among_few_is_the_mean_over_every_choice_of_others(tied):
    """Seven recordings, four of them searched: every set of three others, one after the other."""
    generator = torch.Generator().manual_seed(7)
    query, gallery = torch.randn(7, 3, generator=generator), torch.randn(7, 3, generator=generator)
    if tied:
        gallery[4], gallery[5] = gallery[1], gallery[1]
    every = []
    for i in range(7):
        for others in itertools.combinations([j for j in range(7) if j != i], 3):
            rows = torch.tensor([i, *others])
            every.append(float(places(query[rows], gallery[rows]).ranks[0]))
    scores = retrieval(query, gallery, 4)
    assert scores["R@1"][0] == pytest.approx(np.mean([rank <= 1 for rank in every]), abs=1e-12)
    chances, which = places(query, gallery)._chances(4)
    for k in range(1, 5):
        assert chances[which, k - 1].mean() == pytest.approx(np.mean([rank <= k for rank in every]), abs=1e-12)
    assert places(query, gallery).first(4).mean() == pytest.approx(scores["R@1"][0], abs=1e-12)
    whole = sorted(every)
    assert abs(scores["median_rank"][0] - whole[(len(whole) - 1) // 2]) <= 0.5


def test_multi_label_metrics_over_rows_are_scikit_learns_and_the_definition():
    from sklearn.metrics import f1_score, hamming_loss, jaccard_score

    rng = np.random.default_rng(0)
    target, output = (rng.random((60, 4)) < 0.3).astype(float), rng.normal(size=(60, 4))
    target[3], output[3] = 0, -1  # both empty: scikit-learn's zero_division and ours count 0
    guess = output > 0
    scores = metrics.multi_label(tuple("abcd"), target, output)
    assert scores["jaccard"][0] == pytest.approx(jaccard_score(target, guess, average="samples", zero_division=0))
    assert scores["hamming_loss"][0] == pytest.approx(hamming_loss(target, guess))
    assert scores["f1_micro"][0] == pytest.approx(f1_score(target, guess, average="micro"))
    assert scores["f1_macro"][0] == pytest.approx(f1_score(target, guess, average="macro", zero_division=0))
    target[5, 1] = np.nan
    assert metrics.multi_label(tuple("abcd"), target, output)["jaccard"][1] == 59


def test_sentiment_metrics_say_which_variant_they_are():
    truth, guess = np.array([0.0, 0.5, -0.5, 2.5, -3.0, 1.0]), np.array([-0.1, 0.4, 0.2, 2.4, -9.0, 1.5])
    scores = {name: value for name, (value, _) in metrics.sentiment(truth, guess).items()}
    assert scores["acc7"] == pytest.approx(5 / 6)  # 0 0 -0 2 -3 1 against -0 0 0 2 -3 2
    assert scores["acc7_away"] == pytest.approx(2 / 6)  # 0 1 -1 3 -3 1 against 0 0 0 2 -3 2
    assert scores["acc2_nonneg"] == pytest.approx(4 / 6)
    assert scores["acc2_nonzero"] == pytest.approx(4 / 5)
    assert metrics.evaluate("regression", (), truth, guess, ("sentiment",)).keys() >= {"acc7", "mae"}
    assert "acc7" not in metrics.evaluate("regression", (), truth, guess)


def test_thresholds_are_the_best_cut_for_each_class_and_stay_where_nothing_is_to_be_gained():
    rng = np.random.default_rng(0)
    target = (rng.random((80, 3)) < 0.4).astype(float)
    output = target * 2 + rng.normal(size=(80, 3)) + np.array([3.0, -5.0, 0.0])
    target[:, 2] = 1  # occurs one way: nothing to choose by
    cuts = metrics.thresholds(target, output)
    assert cuts[2] == 0
    for i in range(2):
        tried = [metrics.weighted_accuracy(target[:, i] > 0.5, output[:, i] > cut) for cut in np.linspace(-9, 9, 2000)]
        got = metrics.weighted_accuracy(target[:, i] > 0.5, output[:, i] > cuts[i])
        assert got >= max(tried) - 1e-9
        assert got > metrics.weighted_accuracy(target[:, i] > 0.5, output[:, i] > 0) + 0.2
    perfect = np.where(target[:, :1] > 0.5, 1.0, -1.0)
    assert metrics.thresholds(target[:, :1], perfect)[0] == 0


def same(value, expected):
    return (math.isnan(value) and math.isnan(expected)) or value == pytest.approx(expected, abs=1e-12)


EASY = settings(max_examples=60, deadline=None)
CLASSES = st.integers(2, 5)


@EASY
@given(st.data(), CLASSES, st.integers(1, 12))
def test_single_label_metrics_are_scikit_learns_whatever_occurs_or_is_guessed(data, classes, n):
    """Classes that never occur, classes that are never guessed, single rows: nothing is special."""
    some = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    target, guess = np.array(data.draw(some)), np.array(data.draw(some))
    scores = evaluate("single-label", "abcde"[:classes], target.astype(float), np.eye(classes)[guess])
    assert {count for _, count in scores.values()} == {n}
    seen = sorted(set(target) | set(guess))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that were guessed and do not occur
        assert same(scores["uar"][0], sk.balanced_accuracy_score(target, guess))
    assert same(scores["accuracy"][0], sk.accuracy_score(target, guess))
    assert same(scores["f1_macro"][0], sk.f1_score(target, guess, labels=seen, average="macro", zero_division=0))
    assert same(scores["f1_weighted"][0], sk.f1_score(target, guess, average="weighted", zero_division=0))


def auroc_of_pairs(truth, score):
    """How often a positive stands above a negative, ties counting half."""
    pairs = [(a > b) + (a == b) / 2 for a in score[truth] for b in score[~truth]]
    return sum(pairs) / len(pairs) if pairs else math.nan


def precision_by_steps(truth, score):
    """Mean of the precision at each positive, rows of one score taken together."""
    cuts = sorted(set(score), reverse=True)
    total, before = 0.0, 0
    for cut in cuts:
        taken = score >= cut
        hits = int((truth & taken).sum())
        total += (hits - before) * hits / int(taken.sum())
        before = hits
    return total / int(truth.sum()) if truth.any() else math.nan


@EASY
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0])), min_size=1, max_size=14
    )
)
def test_a_label_of_many_is_scored_as_scikit_learn_and_as_the_definitions_say(rows):
    """Ties in scores, unknown labels, all yes, all no, a single row; a score of exactly 0 says no."""
    target, output = np.array([[t] for t, _ in rows]), np.array([[o] for _, o in rows])
    scores = {name: value for name, (value, _) in multi_label("a", target, output).items()}
    known = ~np.isnan(target[:, 0])
    assert multi_label("a", target, output)["a/auroc"][1] == int(known.sum())
    truth, score = target[known, 0] > 0.5, output[known, 0]
    guess = score > 0
    both = bool(truth.any() and not truth.all())
    assert same(scores["a/auroc"], auroc_of_pairs(truth, score))
    assert same(scores["a/average_precision"], precision_by_steps(truth, score))
    assert math.isnan(scores["a/w_acc"]) != both
    if both:
        assert same(scores["a/auroc"], sk.roc_auc_score(truth, score))
        assert same(scores["a/binary_accuracy"], sk.accuracy_score(truth, guess))
        assert same(scores["a/w_acc"], sk.balanced_accuracy_score(truth, guess))
    if truth.any():
        assert same(scores["a/average_precision"], sk.average_precision_score(truth, score))
    if truth.any() or guess.any():
        assert same(scores["a/f1_binary"], sk.f1_score(truth, guess, zero_division=0))
    else:
        assert math.isnan(scores["a/f1_binary"])
    if len(truth):
        assert same(scores["a/f1_weighted"], sk.f1_score(truth, guess, average="weighted", zero_division=0))
        assert same(scores["jaccard"], np.mean([float(t and g) for t, g in zip(truth, guess, strict=True)]))  # of one class
        assert same(scores["hamming_loss"], sk.hamming_loss(truth, guess))
    else:
        assert all(math.isnan(value) for value in scores.values())


@EASY
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=20))
def test_values_are_scored_as_scikit_learn_and_lin_say(rows):
    target, output = np.array([t for t, _ in rows]), np.array([o for _, o in rows])
    scores = {name: value for name, (value, _) in regression(["v"], target, output).items()}
    assert same(scores["mae"], sk.mean_absolute_error(target, output))
    if len(rows) > 1 and min(target.std(), output.std()) > 1e-6:
        assert scores["pearson"] == pytest.approx(np.corrcoef(target, output)[0, 1], abs=1e-9)
        assert abs(scores["ccc"]) <= abs(scores["pearson"]) + 1e-9 <= 1 + 2e-9
    if len(rows) == 1:
        assert math.isnan(scores["pearson"])
        assert math.isnan(scores["ccc"])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 123.456])
@pytest.mark.parametrize("n", [3, 7, 20])
def test_a_constant_has_no_correlation_however_it_is_rounded(value, n):
    other = np.arange(float(n))
    for scores in (regression(["v"], np.full(n, value), other), regression(["v"], other, np.full(n, value))):
        assert math.isnan(scores["pearson"][0])
        assert scores["ccc"][0] == pytest.approx(0, abs=1e-9)
    assert math.isnan(concordance(np.full(n, value), np.full(n, value)))


def test_values_that_are_unknown_are_left_out_of_their_value_alone():
    target = np.array([[1.0, 2], [2, np.nan], [4, 1], [np.nan, 5]])
    output = np.array([[1.5, 2], [2, 9], [3, 3], [9, 4]])
    scores = regression(["a", "b"], target, output)
    assert scores["a/mae"] == (pytest.approx(0.5), 3)
    assert scores["b/mae"] == (pytest.approx(1.0), 3)
    assert scores["mae"][0] == pytest.approx(0.75)
    assert scores["a/pearson"][0] == pytest.approx(np.corrcoef([1, 2, 4], [1.5, 2, 3])[0, 1])
    assert scores["b/ccc"][0] == pytest.approx(concordance(np.array([2.0, 1, 5]), np.array([2.0, 3, 4])))


@EASY
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.sampled_from([-2.0, -0.5, 0.5, 3.0])), min_size=1, max_size=12)
)
def test_no_cut_is_better_than_the_threshold_and_none_as_good_is_nearer_to_zero(rows):
    target, output = np.array([[t] for t, _ in rows]), np.array([[o] for _, o in rows])
    (threshold,) = metrics.thresholds(target, output)
    known = ~np.isnan(target[:, 0])
    truth, score = target[known, 0] > 0.5, output[known, 0]
    if truth.all() or not truth.any():
        assert threshold == 0
        return
    got = metrics.weighted_accuracy(truth, score > threshold)
    for cut in np.linspace(-4, 5, 91):
        assert metrics.weighted_accuracy(truth, score > cut) <= got + 1e-12
    if metrics.weighted_accuracy(truth, score > 0) >= got - 1e-12:
        assert threshold == 0


def test_no_recordings_have_no_value_of_any_metric():
    nothing = {**evaluate("single-label", "ab", np.zeros(0), np.zeros((0, 2)))}
    nothing |= evaluate("multi-label", "ab", np.zeros((0, 2)), np.zeros((0, 2)))
    nothing |= evaluate("regression", ("v",), np.zeros((0, 1)), np.zeros((0, 1)), ("sentiment",))
    assert len(nothing) > 20
    assert all(math.isnan(value) and n == 0 for value, n in nothing.values())


# -------------------------------------------------------------------------------------------------------------- answers

EMOTION = Task("emotion", "single-label", ("calm", "happy", "sad"))
EMOTIONS = Task("emotions", "multi-label", ("happy", "sad"))
VALENCE = Task("valence", "regression", ())


def test_targets_are_a_row_a_recording_and_unknown_ones_stand_out():
    targets = [{"emotion": 2, "emotions": (1, 0), "valence": 0.5}, {}, {"emotion": 0.0, "emotions": [0, math.nan]}]
    classes, known = target_of(EMOTION, targets)
    assert (classes.dtype, classes.tolist(), known.tolist()) == (torch.int64, [2, -1, 0], [True, False, True])
    labels = target_tensor(EMOTIONS, targets)
    assert (labels.dtype, labels.shape) == (torch.float32, (3, 2))
    np.testing.assert_array_equal(labels, [[1, 0], [math.nan, math.nan], [0, math.nan]])
    np.testing.assert_array_equal(target_tensor(VALENCE, targets), [[0.5], [math.nan], [math.nan]])
    assert target_of(EMOTIONS, targets)[1].tolist() == [True, False, True]
    assert [target_tensor(task, []).shape for task in (EMOTION, EMOTIONS, VALENCE)] == [(0,), (0, 2), (0, 1)]


@pytest.mark.parametrize(
    ("task", "output", "prediction", "target"),
    [
        (EMOTION, [0.1, 3.0, -1.0], 1, 2),
        (EMOTIONS, [0.1, 0.0], [1, 0], [1.0, None]),
        (VALENCE, [0.123456789], [0.123457], [0.5]),
    ],
    ids=lambda value: value.type if isinstance(value, Task) else None,
)
def test_a_prediction_is_what_an_output_means_in_plain_values(task, output, prediction, target):
    targets = target_tensor(task, [{"emotion": 2, "emotions": (1, math.nan), "valence": 0.5}])
    (row,) = predictions_of({"fold": 0}, task, ["a"], targets, np.array([output]))
    assert row == {"fold": 0, "id": "a", "target": target, "prediction": prediction}
    scores = scores_of({"fold": 0}, task, targets, np.array([output]))
    assert {row["metric"] for row in scores} >= {metrics.HEADLINE[task.type]}
    assert all(row["value"] is None or math.isfinite(row["value"]) for row in scores)
