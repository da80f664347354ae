"""The linear head against scikit-learn and against its own definition; the two-layer head against its equation."""

from __future__ import annotations

import itertools
import math
import warnings

import mmcl_heads
import numpy as np
import pytest
import torch
from mmcl_heads import KNN, LATE, LINEAR, MLP, KnnParams, LateParams, LinearParams, MlpParams, solver
from mmcl_heads.solver import LOGISTIC, SOFTMAX, SQUARED, STEPS, TOLERANCE, minimise
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional

from mmcl.api import DataError, Encoded, Labelled, StageError, Task
from mmcl.testing import check_plugin

WIDTHS = {"voice": 5, "face": 4}
SHAPES = [(120, {"voice": 5, "face": 4}), (30, {"voice": 25, "face": 20})]  # more rows than features, and fewer
GRID = (1e-3, 1e-2, 1e-1, 1.0)


def task_of(kind, outputs):
    return Task("mood", kind, tuple("abcdefgh"[:outputs]))


def rows_of(n, widths, seed):
    """Correlated features of deviation near 1, and what they hint at: [n, 8]."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)
    width = sum(widths.values())
    hidden = torch.randn(n, width, generator=generator) * torch.arange(1, width + 1) ** -0.7
    x = hidden @ torch.linalg.qr(torch.randn(width, width, generator=fixed))[0]
    x = (x - x.mean(0)) / x.std(0) + 0.3  # a mean that the bias must take up
    hint = x @ torch.randn(width, 8, generator=fixed) / width**0.5 + 0.7 * torch.randn(n, 8, generator=generator)
    names = list(widths)
    parts = x.split([widths[name] for name in names], 1)
    return {name: Encoded(part) for name, part in zip(names, parts, strict=True)}, hint


def labelled(kind, n, widths, seed, outputs=3, unknown=0.0):
    encoded, hint = rows_of(n, widths, seed)
    if kind == "single-label":
        return Labelled(encoded, hint[:, :outputs].argmax(1))
    target = (hint[:, :outputs] > 0.4).float() if kind == "multi-label" else hint[:, :outputs] * 3 + 5
    hidden = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed + 1)) < unknown
    return Labelled(encoded, target.masked_fill(hidden, math.nan))


def plain(rows):
    return torch.cat([one.vector for one in rows.encoded.values()], 1).double().numpy()


def fitted(kind, train, valid, outputs=3, widths=WIDTHS, **options):
    """A head fitted on training rows alone and chosen by accuracy on validation rows, unless the options say otherwise."""
    options = {"choose": "accuracy", "refit": "train", "blocks": "none", **options}
    head = LINEAR.build(LinearParams(**options), task_of(kind, outputs), widths)
    return head, head.fit(train, valid, torch.Generator().manual_seed(0))


def cross_entropy(weight, bias, x, y, l2):
    logits = torch.as_tensor(x) @ torch.as_tensor(weight, dtype=torch.float64).T + torch.as_tensor(bias, dtype=torch.float64)
    return (functional.cross_entropy(logits, y) + l2 / 2 * torch.as_tensor(weight).double().square().sum()).item()


@pytest.mark.parametrize(("n", "widths"), SHAPES)
@pytest.mark.parametrize("l2", GRID)
def test_single_label_is_scikit_learns_multinomial_regression(n, widths, l2):
    train = labelled("single-label", n, widths, 0)
    x, y = plain(train), train.target
    theirs = LogisticRegression(C=1 / (n * l2), tol=1e-10, max_iter=100_000).fit(x, y.numpy())
    head, facts = fitted("single-label", train, train, widths=widths, l2=(l2,))
    loss = cross_entropy(theirs.coef_, theirs.intercept_, x, y, l2)
    assert cross_entropy(head.weight, head.bias, x, y, l2) == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(head.weight.numpy(), theirs.coef_, atol=1e-3)
    np.testing.assert_allclose(head.bias.numpy(), theirs.intercept_ - theirs.intercept_.mean(), atol=1e-3)
    assert facts["l2"] == l2


def test_two_classes_share_the_penalty_so_scikit_learns_c_is_twice_as_large():
    train, l2 = labelled("single-label", 120, WIDTHS, 0, outputs=2), 0.01
    theirs = LogisticRegression(C=2 / (120 * l2), tol=1e-10, max_iter=10_000).fit(plain(train), train.target.numpy())
    head, _ = fitted("single-label", train, train, outputs=2, l2=(l2,))
    np.testing.assert_allclose((head.weight[1] - head.weight[0]).numpy(), theirs.coef_[0], atol=1e-3)
    assert (head.bias[1] - head.bias[0]).item() == pytest.approx(theirs.intercept_[0], abs=1e-3)


@pytest.mark.parametrize(("n", "widths"), SHAPES)
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_multi_label_is_one_regression_for_each_class_over_the_rows_where_it_is_known(n, widths, unknown):
    train, l2 = labelled("multi-label", n, widths, 0, unknown=unknown), 0.03
    head, _ = fitted("multi-label", train, train, widths=widths, l2=(l2,))
    x, y = plain(train), train.target.numpy()
    for k in range(3):
        known = ~np.isnan(y[:, k])
        assert known.all() == (unknown == 0)
        theirs = LogisticRegression(C=1 / (known.sum() * l2), tol=1e-10, max_iter=10_000).fit(x[known], y[known, k])
        np.testing.assert_allclose(head.weight[k].numpy(), theirs.coef_[0], atol=1e-3)
        assert head.bias[k].item() == pytest.approx(theirs.intercept_[0], abs=1e-3)


@pytest.mark.parametrize(("n", "widths"), SHAPES)
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_regression_is_ridge_for_each_value_over_the_rows_where_it_is_known(n, widths, unknown):
    train, l2 = labelled("regression", n, widths, 0, unknown=unknown), 0.03
    head, _ = fitted("regression", train, train, widths=widths, l2=(l2,))
    x, y = plain(train), train.target.double().numpy()
    for k in range(3):
        known = ~np.isnan(y[:, k])
        theirs = Ridge(alpha=known.sum() * l2, solver="cholesky").fit(x[known], y[known, k])
        np.testing.assert_allclose(head.weight[k].numpy(), theirs.coef_, atol=1e-4)
        assert head.bias[k].item() == pytest.approx(theirs.intercept_, abs=1e-4)


def test_regression_takes_one_value_a_row_and_a_task_without_classes():
    train = labelled("regression", 60, WIDTHS, 0, outputs=1)
    head = LINEAR.build(LinearParams(l2=(0.1,), refit="train", blocks="none"), Task("age", "regression", ()), WIDTHS)
    head.fit(Labelled(train.encoded, train.target[:, 0]), train, torch.Generator())
    theirs = Ridge(alpha=60 * 0.1).fit(plain(train), train.target[:, 0].double().numpy())
    assert head(train.encoded).shape == (60, 1)
    np.testing.assert_allclose(head.weight[0].numpy(), theirs.coef_, atol=1e-4)


@pytest.mark.parametrize(("n", "widths"), SHAPES)
def test_at_the_solution_the_gradient_has_all_but_vanished(n, widths):
    train = labelled("single-label", n, widths, 0)
    x, y = torch.from_numpy(plain(train)), train.target
    target = functional.one_hot(y).double()
    begin = target.mean(0).log()
    solution = minimise(SOFTMAX, x, target, torch.full_like(target, 1 / n)[None], begin[None], GRID)
    for k, l2 in enumerate(GRID):
        norms = []
        for weight, bias in ((torch.zeros(3, x.shape[1]), begin), (solution.weight[0, k].T, solution.bias[0, k])):
            weight, bias = weight.double().requires_grad_(), bias.clone().requires_grad_()
            value = functional.cross_entropy(x @ weight.T + bias, y) + l2 / 2 * weight.square().sum()
            gradient = torch.autograd.grad(value, (weight, bias))
            norms.append(math.sqrt(sum(g.square().sum().item() for g in gradient)))
        # Features stand 0.3 off their mean, which the solver takes away: its gradient by W is not quite this one.
        assert norms[1] <= 2 * TOLERANCE * norms[0]
        assert solution.gradient[0, k] <= TOLERANCE


@pytest.mark.parametrize(("n", "widths"), SHAPES)
def test_where_divide_and_conquer_gives_up_another_way_leads_to_the_same_solution(n, widths, monkeypatch):
    """As it did on UTD-MHAD, for 384 features whose eigenvalues in float32 are nearly all zero."""
    train = labelled("single-label", n, widths, 0)
    target = functional.one_hot(train.target).double()
    given = (
        SOFTMAX,
        torch.from_numpy(plain(train)),
        target,
        torch.full_like(target, 1 / n)[None],
        target.mean(0).log()[None],
        GRID,
    )
    usual = minimise(*given)

    def fail(_):
        raise torch.linalg.LinAlgError("failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    other = minimise(*given)
    torch.testing.assert_close(other.weight, usual.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other.bias, usual.bias, atol=1e-5, rtol=1e-4)


def without_a_third(n, sets, kinds, family):
    """Which rows each set has: every third one is left out, beginning elsewhere; labels of a few rows are not known, in any."""
    share = torch.stack([torch.arange(n) % 3 != k for k in range(sets)]).double()[..., None].expand(sets, n, kinds)
    if family is not SOFTMAX:
        share = share * (torch.rand(n, kinds, generator=torch.Generator().manual_seed(5)) < 0.8)
    return share / share.sum(1, keepdim=True)


@pytest.mark.parametrize("family", [SOFTMAX, LOGISTIC, SQUARED])
@pytest.mark.parametrize(("n", "widths"), SHAPES)
@pytest.mark.parametrize("limits", [{}, {"TOGETHER": 1}, {"MOST": 400}, {"BLOCK": 8}])
def test_all_penalties_and_sets_of_rows_at_once_give_what_each_gives_alone(family, n, widths, limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(solver, name, value)
    train = labelled("single-label", n, widths, 0)
    x, target = torch.from_numpy(plain(train)), functional.one_hot(train.target, 3).double()
    share, begin = without_a_third(n, 2, 3, family), torch.zeros(2, 3, dtype=torch.float64)
    together = minimise(family, x, target, share, begin, GRID)
    assert float(together.gradient.max()) <= TOLERANCE
    assert together.weight.shape == (2, len(GRID), x.shape[1], 3)
    for f, k in itertools.product(range(2), range(len(GRID))):
        here = share[f].any(1)
        alone = minimise(family, x[here], target[here], share[f, here][None], begin[:1], GRID[k : k + 1])
        torch.testing.assert_close(together.weight[f, k], alone.weight[0, 0], atol=1e-3, rtol=0)
        torch.testing.assert_close(together.bias[f, k], alone.bias[0, 0], atol=1e-3, rtol=0)


def test_what_single_precision_cannot_solve_is_solved_in_double(monkeypatch):
    """Asked for ten digits of the gradient, of features far from 0 and of unlike size."""
    monkeypatch.setattr(solver, "TOLERANCE", 1e-10)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    target = (x.sum(1) + 0.5 * torch.randn(200, generator=generator) > 0).double()[:, None]
    x = x * torch.tensor([0.1, 1.0, 10, 3], dtype=torch.float64) + 50
    share, begin = torch.full((1, 200, 1), 1 / 200, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    solution = minimise(LOGISTIC, x, target, share, begin, (1e-3,))
    assert float(solution.gradient.max()) <= 1e-10
    norms = []
    for weight, bias in ((torch.zeros(4, 1, dtype=torch.float64), begin[0]), (solution.weight[0, 0], solution.bias[0, 0])):
        residual = torch.sigmoid(x @ weight + bias) - target
        by_weight = (x - x.mean(0)).T @ residual / 200 + 1e-3 * weight
        norms.append(math.hypot(float(by_weight.norm()), float(residual.mean())))
    assert norms[1] <= 1e-9 * norms[0]


def test_a_good_place_to_begin_saves_the_way_and_changes_nothing():
    train = labelled("single-label", 120, WIDTHS, 0)
    x, target = torch.from_numpy(plain(train)), functional.one_hot(train.target).double()
    given = SOFTMAX, x, target, torch.full_like(target, 1 / 120)[None], target.mean(0).log()[None], (0.01,)
    cold = minimise(*given)
    warm = minimise(*given, near=(1.001 * cold.weight[0, 0] + 1, cold.bias[0, 0]))  # 1: to all classes, which changes no answer
    torch.testing.assert_close(warm.weight, cold.weight, atol=1e-4, rtol=1e-4)
    assert warm.steps < cold.steps / 2


def test_it_takes_tens_of_steps_where_scikit_learn_takes_hundreds():
    """Spectrum of 1/k, weak penalties: what the preconditioner is there for."""
    widths = {"voice": 150, "face": 150}
    train, grid = labelled("single-label", 900, widths, 0), (1e-4, 1e-3)
    _, facts = fitted("single-label", train, train, widths=widths, l2=grid)
    theirs = [
        LogisticRegression(C=1 / (900 * l2), tol=1e-6, max_iter=10_000).fit(plain(train), train.target.numpy()).n_iter_[0]
        for l2 in grid
    ]
    assert sum(theirs) > 5 * facts["steps"]
    assert facts["gradient"] <= TOLERANCE


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
@pytest.mark.parametrize("choose", ["accuracy", "loss"])
def test_the_l2_that_is_best_on_validation_rows_is_chosen(kind, choose):
    train, valid = labelled(kind, 40, WIDTHS, 0), labelled(kind, 200, WIDTHS, 1, unknown=0.2)
    qualities = {}
    for l2 in GRID:
        output = fitted(kind, train, valid, l2=(l2,))[0](valid.encoded).double()
        if kind == "single-label" and choose == "accuracy":
            qualities[l2] = (output.argmax(1) == valid.target).double().mean().item()
        elif kind == "single-label":
            qualities[l2] = -functional.cross_entropy(output, valid.target).item()
        elif kind == "multi-label" and choose == "accuracy":
            rates = []
            for k in range(3):
                true = [o > 0 for o, t in zip(output[:, k], valid.target[:, k], strict=True) if t == 1]
                false = [o <= 0 for o, t in zip(output[:, k], valid.target[:, k], strict=True) if t == 0]
                rates.append((sum(true) / len(true) + sum(false) / len(false)) / 2)
            qualities[l2] = float(sum(rates) / 3)
        else:
            loss = 0.0
            for k in range(3):
                known = ~valid.target[:, k].isnan()
                o, t = output[known, k], valid.target[known, k].double()
                each = functional.binary_cross_entropy_with_logits(o, t) if kind == "multi-label" else ((o - t) ** 2 / 2).mean()
                loss += each.item()
            qualities[l2] = -loss
    best = max(qualities.values())
    head, facts = fitted(kind, train, valid, l2=GRID, choose=choose)
    assert facts["l2"] == max(l2 for l2, quality in qualities.items() if quality == best)
    assert facts["l2"] not in (GRID[0], GRID[-1]) or len(set(qualities.values())) == len(GRID)
    measure = "accuracy" if choose == "accuracy" and kind != "regression" else "loss"
    assert abs(facts[f"valid_{measure}"]) == pytest.approx(abs(best), rel=1e-5)
    alone, _ = fitted(kind, train, valid, l2=(facts["l2"],))
    torch.testing.assert_close(head.weight, alone.weight)


def test_of_equally_good_l2_the_larger_is_chosen_in_whatever_order_they_stand():
    train = labelled("single-label", 60, WIDTHS, 0)
    one_row = Labelled({name: Encoded(e.vector[:1]) for name, e in train.encoded.items()}, train.target[:1])
    right = [l2 for l2 in (1e-3, 1e-1, 1e-2) if fitted("single-label", train, one_row, l2=(l2,))[1]["valid_accuracy"] == 1]
    assert len(right) > 1, "the row must be easy"
    for order in ((1e-3, 1e-1, 1e-2), (1e-1, 1e-2, 1e-3), (1e-3, 1e-2, 1e-1)):
        assert fitted("single-label", train, one_row, l2=order)[1]["l2"] == max(right)


def test_refit_on_train_and_valid_is_the_fit_on_both():
    train, valid = labelled("single-label", 50, WIDTHS, 0), labelled("single-label", 70, WIDTHS, 1)
    head, facts = fitted("single-label", train, valid, l2=GRID, refit="train+valid")
    assert facts["l2"] == fitted("single-label", train, valid, l2=GRID)[1]["l2"]
    x, y = np.concatenate([plain(train), plain(valid)]), torch.cat([train.target, valid.target]).numpy()
    theirs = LogisticRegression(C=1 / (120 * facts["l2"]), tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(head.weight.numpy(), theirs.coef_, atol=1e-3)


@pytest.mark.parametrize(("n", "widths"), SHAPES)
def test_a_class_that_train_lacks_is_never_the_answer_and_leaves_the_others_as_they_are(n, widths):
    train = labelled("single-label", n, widths, 0)
    moved = Labelled(train.encoded, torch.tensor([0, 2, 4])[train.target])  # classes 1 and 3 do not occur
    three, _ = fitted("single-label", train, train, widths=widths, l2=(0.01,))
    five, _ = fitted("single-label", moved, moved, outputs=5, widths=widths, l2=(0.01,))
    torch.testing.assert_close(five.weight[[0, 2, 4]], three.weight)
    torch.testing.assert_close(five.bias[[0, 2, 4]], three.bias)
    chance = five(rows_of(500, widths, 5)[0]).softmax(1)
    assert set(chance.argmax(1).tolist()) == {0, 2, 4}
    assert chance[:, [1, 3]].max() <= 1 / (n + 1) + 1e-6


def test_a_single_class_in_train_is_always_the_answer():
    train = labelled("single-label", 20, WIDTHS, 0)
    only = Labelled(train.encoded, torch.full((20,), 2))
    head, facts = fitted("single-label", only, only, l2=GRID)
    assert head(train.encoded).argmax(1).tolist() == [2] * 20
    assert facts["l2"] == max(GRID)
    assert facts["gradient"] == 0


def test_a_label_that_train_never_or_always_carries_or_never_knows_gets_its_odds_and_no_weights():
    train = labelled("multi-label", 60, WIDTHS, 0, outputs=4)
    train.target[:, 1], train.target[:, 2], train.target[:, 3] = 0, 1, math.nan
    train.target[:10, 1] = math.nan
    head, _ = fitted("multi-label", train, train, outputs=4, l2=GRID)
    assert head.bias[1:].tolist() == pytest.approx([math.log(1 / 51), math.log(61), 0.0], rel=1e-6)
    assert not head.weight[1:].any()
    assert head.weight[0].any()
    nothing = Labelled(train.encoded, torch.full((60, 2), math.nan))
    head, _ = fitted("multi-label", nothing, nothing, outputs=2, l2=GRID)
    assert not head(train.encoded).any()


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_features_that_say_nothing_leave_the_frequencies_and_end_at_once(kind):
    train = labelled(kind, 50, WIDTHS, 0)
    blank = Labelled({name: Encoded(torch.zeros_like(e.vector)) for name, e in train.encoded.items()}, train.target)
    head, facts = fitted(kind, blank, blank, l2=GRID)
    output = head(blank.encoded)[0]
    if kind == "single-label":
        expected, predicted = functional.one_hot(train.target).float().mean(0), output.softmax(0)
    else:
        expected, predicted = train.target.mean(0), output.sigmoid() if kind == "multi-label" else output
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-6)
    assert facts["steps"] < 10 < STEPS


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_one_training_row_is_enough(kind):
    many = labelled(kind, 30, WIDTHS, 0)
    train = Labelled({name: Encoded(e.vector[:1]) for name, e in many.encoded.items()}, many.target[:1])
    head, _ = fitted(kind, train, train)
    assert head(train.encoded).isfinite().all()


def test_a_modality_is_known_by_its_name_and_not_by_its_place():
    train = labelled("single-label", 60, WIDTHS, 0)
    turned = Labelled(dict(reversed(train.encoded.items())), train.target)
    for spec, params in ((LINEAR, LinearParams()), (MLP, MlpParams(hidden=7))):
        torch.manual_seed(0)
        head = spec.build(params, task_of("single-label", 3), WIDTHS)
        if spec is LINEAR:
            head.fit(train, turned, torch.Generator())
        assert torch.equal(head(train.encoded), head(turned.encoded))
        assert head(train.encoded).any()


def test_weights_stand_in_the_order_of_the_modalities():
    train = labelled("regression", 60, WIDTHS, 0, outputs=1)
    train = Labelled(train.encoded, train.encoded["face"].vector[:, :1].clone())
    head, _ = fitted("regression", train, train, outputs=1, l2=(1e-6,))
    assert head.weight[0].abs().argmax().item() == WIDTHS["voice"]


def test_half_precision_vectors_are_taken():
    train = labelled("single-label", 60, WIDTHS, 0)
    half = Labelled({name: Encoded(e.vector.bfloat16()) for name, e in train.encoded.items()}, train.target)
    head, _ = fitted("single-label", half, half)
    assert head(half.encoded).dtype == torch.float32


def test_what_cannot_be_fitted_or_chosen_is_refused_in_a_sentence():
    train = labelled("single-label", 30, WIDTHS, 0)
    none = Labelled({name: Encoded(e.vector[:0]) for name, e in train.encoded.items()}, train.target[:0])
    with pytest.raises(StageError, match="no training row has a label for 'mood'"):
        fitted("single-label", none, train)
    with pytest.raises(StageError, match="no validation row has a label for 'mood'"):
        fitted("single-label", train, none)
    head, facts = fitted("single-label", train, none, l2=(0.1,), refit="train+valid")
    assert facts["l2"] == 0.1
    torch.testing.assert_close(head.weight, fitted("single-label", train, train, l2=(0.1,))[0].weight)
    train.encoded["face"].vector[3, 1] = math.inf
    with pytest.raises(DataError, match="'face'"):
        fitted("single-label", train, train)


@pytest.mark.parametrize("options", [{"l2": ()}, {"l2": (0.0,)}, {"l2": (-1.0,)}, {"choose": "f1"}, {"refit": "all"}])
def test_options_of_linear_out_of_bounds_are_refused(options):
    with pytest.raises(ValidationError):
        LinearParams(**options)


def test_the_two_layer_head_is_fc_relu_fc():
    encoded, _ = rows_of(6, WIDTHS, 0)
    head = MLP.build(MlpParams(hidden=11), task_of("single-label", 3), WIDTHS)
    x = torch.cat([encoded["voice"].vector, encoded["face"].vector], 1)
    state = {name: value.detach() for name, value in head.named_parameters()}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes == {"hidden.weight": (11, 9), "hidden.bias": (11,), "output.weight": (3, 11), "output.bias": (3,)}
    for row, output in zip(x, head(encoded), strict=True):
        hidden = [max(0.0, float(w @ row + b)) for w, b in zip(state["hidden.weight"], state["hidden.bias"], strict=True)]
        expected = state["output.weight"] @ torch.tensor(hidden) + state["output.bias"]
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


def test_the_two_layer_heads_dropout_acts_in_training_only():
    encoded, _ = rows_of(6, WIDTHS, 0)
    head = MLP.build(MlpParams(dropout=0.5), task_of("multi-label", 2), WIDTHS)
    assert not torch.equal(head(encoded), head(encoded))
    head.eval()
    assert torch.equal(head(encoded), head(encoded))
    without = MLP.build(MlpParams(), task_of("multi-label", 2), WIDTHS)
    assert torch.equal(without(encoded), without(encoded))
    assert MlpParams().hidden == 512  # MPUC-MER, and its code
    assert MLP.build(MlpParams(), Task("age", "regression", ()), WIDTHS)(encoded).shape == (6, 1)


def test_the_toolkits_own_checks_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = check_plugin(mmcl_heads)
    heads = {"head attention", "head knn", "head late", "head linear", "head mlp"}
    assert {r.name for r in results} == {"plug-in mmcl_heads", *heads}
    assert [r for r in results if r.passed is not True] == []


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_late_fusion_is_the_mean_of_probes_fitted_apart_over_those_present(kind):
    train, valid = labelled(kind, 120, WIDTHS, 1), labelled(kind, 60, WIDTHS, 2)
    for one in (train, valid):
        one.encoded["voice"].present = torch.arange(len(one.target)) % 3 != 0
        one.encoded["voice"].vector[~one.encoded["voice"].present] = 0
        one.encoded["face"].present = torch.arange(len(one.target)) % 5 != 1
        one.encoded["face"].vector[~one.encoded["face"].present] = 0
    task = task_of(kind, 3)
    late = LATE.build(LateParams(), task, WIDTHS)
    facts = late.fit(train, valid, torch.Generator())
    apart = {}
    for name, width in WIDTHS.items():
        probe = LINEAR.build(LinearParams(choose="loss"), task, {name: width})
        rows = {id(one): one.encoded[name].present for one in (train, valid)}
        mine = [
            Labelled({name: Encoded(one.encoded[name].vector[rows[id(one)]])}, one.target[rows[id(one)]])
            for one in (train, valid)
        ]
        assert facts[f"{name} l2"] == probe.fit(*mine, torch.Generator())["l2"]
        output = probe({name: valid.encoded[name]})
        apart[name] = output.log_softmax(1) if kind == "single-label" else output
    got = late(valid.encoded)
    for i in range(len(got)):
        here = [name for name in WIDTHS if valid.encoded[name].present[i]] or list(WIDTHS)
        wanted = sum(apart[name][i] for name in here) / len(here)
        torch.testing.assert_close(got[i], wanted, rtol=1e-5, atol=1e-6)


def slow_vote(kind, train, rows, k, weights="similarity", temperature=0.07):
    """What the k nearest say, one row and one neighbour at a time."""
    bank, asked = plain(train), plain(rows)
    target = np.eye(3)[train.target.numpy()] if kind == "single-label" else train.target.double().numpy()

    def cosine(a, b):
        length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
        return float(a @ b) / length if length else 0.0

    votes = np.zeros((len(asked), target.shape[1]))
    for i, row in enumerate(asked):
        near = sorted(range(len(bank)), key=lambda j: (-round(cosine(row, bank[j]), 12), j))[:k]
        weight = {j: math.exp(cosine(row, bank[j]) / temperature) if weights == "similarity" else 1.0 for j in near}
        for c in range(target.shape[1]):
            known = [j for j in near if not math.isnan(target[j, c])]
            yes, total = sum(weight[j] * target[j, c] for j in known), sum(weight[j] for j in known)
            everyone = [v for v in target[:, c] if not math.isnan(v)]
            if kind == "regression":
                votes[i, c] = yes / total if known else sum(everyone) / len(everyone)
                continue
            prior = (sum(everyone) + 1) / (len(everyone) + (target.shape[1] if kind == "single-label" else 2))
            share = (yes + min(weight.values()) * prior) / (total + min(weight.values()))
            votes[i, c] = math.log(share) if kind == "single-label" else math.log(share / (1 - share))
    return votes


def neighbours(kind, train, valid, **options):
    head = KNN.build(KnnParams(**options), task_of(kind, 3), WIDTHS)
    return head, head.fit(train, valid, torch.Generator())


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
@pytest.mark.parametrize("weights", ["similarity", "same"])
@pytest.mark.parametrize("k", [1, 4, 40, 99])
def test_neighbours_vote_as_a_slow_loop_says_with_ties_and_unknown_labels(kind, weights, k):
    train, rows = labelled(kind, 40, WIDTHS, 0, unknown=0.4), labelled(kind, 25, WIDTHS, 1)
    for one in train.encoded.values():
        one.vector[20:30] = one.vector[:10]  # every one of these stands there twice, with another label
    rows.encoded["face"].vector[3], rows.encoded["voice"].vector[3] = 0, 0  # as near to one as to any other
    head, facts = neighbours(kind, train, rows, k=(k,), weights=weights)
    np.testing.assert_allclose(head(rows.encoded).numpy(), slow_vote(kind, train, rows, k, weights), rtol=1e-5, atol=1e-5)
    assert facts["k"] == k


def test_shares_of_neighbours_add_up_to_one():
    train = labelled("single-label", 40, WIDTHS, 0)
    for k in (1, 7, 40):
        head, _ = neighbours("single-label", train, train, k=(k,))
        torch.testing.assert_close(head(train.encoded).exp().sum(1), torch.ones(40))


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_a_small_temperature_leaves_the_nearest_alone_and_every_number_finite(kind):
    train, rows = labelled(kind, 60, WIDTHS, 0), labelled(kind, 30, WIDTHS, 1)
    sharp, _ = neighbours(kind, train, rows, k=(60,), temperature=1e-5)
    one, _ = neighbours(kind, train, rows, k=(1,))
    output = sharp(rows.encoded)
    assert output.isfinite().all()
    if kind == "single-label":
        assert torch.equal(output.argmax(1), one(rows.encoded).argmax(1))
    else:
        assert torch.equal(output > 0, one(rows.encoded) > 0)


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_the_number_of_neighbours_is_the_best_on_validation_rows_and_of_equal_ones_the_largest(kind):
    grid = (1, 3, 9, 27)
    train, valid = labelled(kind, 90, WIDTHS, 0), labelled(kind, 60, WIDTHS, 1, unknown=0.2)
    worse = {}
    for k in grid:
        output, truth = slow_vote(kind, train, valid, k), valid.target.double().numpy()
        if kind == "single-label":
            worse[k] = float((output.argmax(1) != truth).mean())
        else:
            known = ~np.isnan(truth)
            o, t = output[known], truth[known]
            each = np.logaddexp(0, o) - t * o if kind == "multi-label" else (o - t) ** 2
            worse[k] = float(each.mean())
    best = min(worse.values())
    for order in (grid, grid[::-1]):
        head, facts = neighbours(kind, train, valid, k=order)
        assert facts["k"] == max(k for k in grid if worse[k] <= best + 1e-9)
        assert facts["valid_loss"] == pytest.approx(best, rel=1e-6)
        assert len(head.bank) == 90  # validation rows choose, and do not vote
    assert len(set(worse.values())) > 1
    alike = Labelled({name: Encoded(e.vector[:1]) for name, e in train.encoded.items()}, train.target[:1])
    assert neighbours(kind, alike, alike, k=grid)[1]["k"] == 27


def test_neighbours_are_saved_and_loaded_as_they_were():
    train, rows = labelled("multi-label", 40, WIDTHS, 0, unknown=0.3), labelled("multi-label", 25, WIDTHS, 1)
    head, _ = neighbours("multi-label", train, rows, k=(2, 7))
    again = KNN.build(KnnParams(k=(2, 7)), task_of("multi-label", 3), WIDTHS)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(rows.encoded), head(rows.encoded))
    assert int(again.chosen) == int(head.chosen)


def test_what_has_no_neighbours_is_refused_in_a_sentence():
    train = labelled("single-label", 30, WIDTHS, 0)
    none = Labelled({name: Encoded(e.vector[:0]) for name, e in train.encoded.items()}, train.target[:0])
    with pytest.raises(StageError, match="no training row has a label for 'mood'"):
        neighbours("single-label", none, train)
    train.encoded["face"].vector[3, 1] = math.inf
    with pytest.raises(DataError, match="not finite"):
        neighbours("single-label", train, train)
