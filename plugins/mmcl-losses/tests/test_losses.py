"""InfoNCE against a double loop over plain numbers, closed forms, torch's own cross-entropy, and itself broken on purpose."""

from __future__ import annotations

import itertools
import math

import mmcl_losses
import pytest
import torch
from mmcl_losses import CROSS_WINDOW, INFO_NCE, LARGEST_SCALE, SAME_SAMPLE, InfoNceParams
from pydantic import ValidationError
from torch.nn import functional

from mmcl.api import Items, NoParams, Pair
from mmcl.testing import check_plugin

VARIANTS = [
    {"denominator": denominator, "reduction": reduction, "temperature": temperature}
    for denominator, reduction, temperature in itertools.product(("all", "negatives"), ("mean", "sum"), (0.07, 1.0))
]


def loss_of(**options):
    return INFO_NCE.build(InfoNceParams(**options))


def brute(left, right, positive, ignore, denominator="all", reduction="mean", temperature=0.07):
    """The same loss, one anchor and one positive after the other. Also how many anchors count."""
    terms = []
    for i in range(len(left)):
        similarity = [torch.dot(left[i], r) / (left[i].norm() * r.norm()) for r in right]
        kept = [j for j in range(len(right)) if not ignore[i][j]]
        positives = [j for j in kept if positive[i][j]]
        negatives = [j for j in kept if not positive[i][j]]
        below = kept if denominator == "all" else negatives
        if not positives or not below:
            continue
        total = sum(torch.exp(similarity[j] / temperature) for j in below)
        terms.append(sum(-torch.log(torch.exp(similarity[j] / temperature) / total) for j in positives) / len(positives))
    value = sum(terms) if terms else (left.sum() + right.sum()) * 0
    return (value / max(1, len(terms)) if reduction == "mean" else value), len(terms)


def random_case(seed, n=5, k=7, width=4, positives=0.3, ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for rows in (n, k))
    positive = torch.rand(n, k, generator=generator) < positives
    ignore = torch.rand(n, k, generator=generator) < ignored  # may fall on a positive: then it is ignored
    return left, right, positive, ignore


def value_and_gradients(function, left, right):
    left, right = left.clone().requires_grad_(), right.clone().requires_grad_()
    value = function(left, right)
    return value.detach(), *torch.autograd.grad(value, (left, right))


def diagonal(n, width=8, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, width, generator=generator, dtype=dtype) for _ in range(2))
    return left, right, torch.eye(n, dtype=torch.bool), torch.zeros(n, n, dtype=torch.bool)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: " ".join(map(str, o.values())))
@pytest.mark.parametrize("shape", [(5, 5), (5, 7), (4, 11), (6, 2)])
def test_value_and_gradient_are_those_of_a_double_loop(options, shape):
    left_out = 0
    for seed in range(6):
        left, right, positive, ignore = random_case(seed, *shape, positives=0.2)
        _, anchors = brute(left, right, positive, ignore, **options)
        left_out += shape[0] - anchors
        loss = loss_of(**options)
        assert int(loss(Pair(left, right, positive, ignore)).anchors) == anchors
        slow = value_and_gradients(lambda x, y, p=positive, g=ignore: brute(x, y, p, g, **options)[0], left, right)
        fast = value_and_gradients(lambda x, y, p=positive, g=ignore, f=loss: f(Pair(x, y, p, g)).loss, left, right)
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert left_out > 0, "no anchor was ever without a positive: the masks test too little"


@pytest.mark.parametrize("denominator", ["all", "negatives"])
def test_a_cosine_matrix_read_across_its_rows_gives_the_same(denominator):
    left, right, positive, ignore = random_case(3, 6, 6)
    loss = loss_of(denominator=denominator)

    def handed_over(x, y):
        cosine = functional.normalize(y, dim=-1) @ functional.normalize(x, dim=-1).T  # of the other direction
        return loss(Pair(x, y, positive.T.contiguous().T, ignore.T.contiguous().T, cosine.T)).loss

    alone = value_and_gradients(lambda x, y: loss(Pair(x, y, positive, ignore)).loss, left, right)
    for a, b in zip(value_and_gradients(handed_over, left, right), alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_positive_each_on_the_diagonal_is_torchs_cross_entropy():
    left, right, positive, ignore = diagonal(9)
    for reduction in ("mean", "sum"):
        loss = loss_of(reduction=reduction, temperature=0.1)

        def reference(x, y, how=reduction):
            logits = functional.normalize(x, dim=-1) @ functional.normalize(y, dim=-1).T / 0.1
            return functional.cross_entropy(logits, torch.arange(9), reduction=how)

        ours = value_and_gradients(lambda x, y, f=loss: f(Pair(x, y, positive, ignore)).loss, left, right)
        for a, b in zip(ours, value_and_gradients(reference, left, right), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_two_recordings_have_a_closed_form():
    """With N = 2 and d = s_positive − s_negative: log(1 + exp(−d/τ)) with the positive below, −d/τ without it."""
    left, right, positive, ignore = diagonal(2, width=3)
    cosine = functional.normalize(left, dim=-1) @ functional.normalize(right, dim=-1).T
    first, second = float(cosine[0, 0] - cosine[0, 1]), float(cosine[1, 1] - cosine[1, 0])
    pair = Pair(left, right, positive, ignore)
    softplus = [math.log1p(math.exp(-d / 0.5)) for d in (first, second)]
    assert float(loss_of(temperature=0.5)(pair).loss) == pytest.approx(sum(softplus) / 2, rel=1e-12)
    alone = loss_of(temperature=0.5, denominator="negatives", reduction="sum")
    assert float(alone(pair).loss) == pytest.approx(-(first + second) / 0.5, rel=1e-12)


def test_equation_1_reaches_its_lowest_value_and_goes_no_lower():
    """Without the positive below, an anchor's loss is at least log(N − 1) − 2/τ: positives at 1, negatives at −1 (N = 2)."""
    tau = 0.07
    loss = loss_of(denominator="negatives", temperature=tau)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    best = loss(Pair(opposite, opposite, torch.eye(2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)))
    assert float(best.loss) == pytest.approx(math.log(2 - 1) - 2 / tau, rel=1e-12)
    for n in (3, 6):  # an anchor opposite to all negatives; the others are merely above the bound
        left, right = -torch.ones(n, 1, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)
        right[0] = -1.0
        only_first = torch.zeros(n, n, dtype=torch.bool)
        only_first[0, 0] = True
        one = loss(Pair(left, right, only_first, torch.zeros_like(only_first)))
        assert int(one.anchors) == 1
        assert float(one.loss) == pytest.approx(math.log(n - 1) - 2 / tau, rel=1e-12)
        for seed in range(5):
            assert float(loss(Pair(*diagonal(n, 2, seed=seed))).loss) > math.log(n - 1) - 2 / tau


def test_with_the_positive_below_the_loss_is_never_negative():
    for seed in range(5):
        assert float(loss_of()(Pair(*diagonal(6, 2, seed=seed))).loss) >= 0


def test_several_positives_stand_in_each_others_denominator():
    """Khosla et al. 2020, L_out: two positives and one negative, all equally similar, leave log 3 and not log 2."""
    same = torch.ones(1, 2, dtype=torch.float64)
    positive, ignore = torch.tensor([[True, True, False]]), torch.zeros(1, 3, dtype=torch.bool)
    pair = Pair(same, same.expand(3, 2), positive, ignore)
    assert float(loss_of()(pair).loss) == pytest.approx(math.log(3), rel=1e-12)
    assert float(loss_of(denominator="negatives")(pair).loss) == pytest.approx(math.log(1), abs=1e-12)


@pytest.mark.parametrize("denominator", ["all", "negatives"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_anchors_without_a_positive_change_neither_the_value_nor_the_count(denominator, reduction):
    left, right, positive, ignore = diagonal(6)
    positive[4:] = False
    loss = loss_of(denominator=denominator, reduction=reduction)
    some = loss(Pair(left, right, positive, ignore))
    only = loss(Pair(left[:4], right, positive[:4], ignore[:4]))
    assert int(some.anchors) == int(only.anchors) == 4
    assert float(some.loss) == pytest.approx(float(only.loss), rel=1e-12)


def test_an_anchor_without_a_negative_counts_only_where_its_positive_stands_below():
    left, right, positive, ignore = diagonal(3)
    ignore[0, 1:] = True
    assert int(loss_of(denominator="negatives")(Pair(left, right, positive, ignore)).anchors) == 2
    with_it = loss_of(reduction="sum")(Pair(left, right, positive, ignore))
    without = loss_of(reduction="sum")(Pair(left[1:], right, positive[1:], ignore[1:]))
    assert int(with_it.anchors) == 3
    assert float(with_it.loss) == pytest.approx(float(without.loss), rel=1e-12)  # −log 1 = 0


@pytest.mark.parametrize("options", [*VARIANTS, {"learn_temperature": True}], ids=lambda o: " ".join(map(str, o.values())))
@pytest.mark.parametrize("what", ["no positives", "all ignored"])
def test_nothing_to_learn_from_is_zero_with_a_gradient_of_zeros(options, what):
    left, right, positive, ignore = diagonal(4, dtype=torch.float32)
    if what == "no positives":
        positive = torch.zeros_like(positive)
    else:
        ignore = torch.ones_like(ignore)
    left, right = left.requires_grad_(), right.requires_grad_()
    loss = loss_of(**options)
    scored = loss(Pair(left, right, positive, ignore))
    torch.autograd.backward(scored.loss)
    assert scored.loss.item() == 0
    assert scored.anchors.item() == 0
    for tensor in (left, right, *loss.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()
        assert tensor.grad.isfinite().all()
    assert all(value.isfinite() for value in scored.metrics.values())


@pytest.mark.parametrize("denominator", ["all", "negatives"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_temperature_of_a_thousandth_stays_finite_and_exact(denominator, dtype):
    left, right, positive, ignore = diagonal(6, dtype=dtype)
    right[:3], right[3:] = left[:3], -left[3:]  # cosines of 1 and −1: logits of ±1000
    ignore[1] = True
    left, right = left.requires_grad_(), right.requires_grad_()
    scored = loss_of(denominator=denominator, temperature=1e-3)(Pair(left, right, positive, ignore))
    torch.autograd.backward(scored.loss)
    cosine = functional.normalize(left.detach().float(), dim=-1) @ functional.normalize(right.detach().float(), dim=-1).T
    expected = []
    for i in (0, 2, 3, 4, 5):
        logits = [float(c) / 1e-3 for c in cosine[i]]
        below = [v for j, v in enumerate(logits) if j != i or denominator == "all"]
        expected.append(max(below) + math.log(sum(math.exp(v - max(below)) for v in below)) - logits[i])
    assert scored.loss.item() == pytest.approx(sum(expected) / 5, rel=1e-5)
    assert left.grad.isfinite().all()
    assert right.grad.isfinite().all()
    assert not left.grad[1].any()


def test_half_precision_embeddings_are_scored_in_float32():
    left, right, positive, ignore = diagonal(6, dtype=torch.bfloat16)
    exact = loss_of()(Pair(left.float(), right.float(), positive, ignore)).loss
    loss = loss_of()(Pair(left, right, positive, ignore)).loss
    assert loss.dtype == torch.float32
    assert float(loss) == float(exact)
    as_autocast_makes_it = Pair(left, right, positive, ignore).similarity().bfloat16()
    loss = loss_of()(Pair(left, right, positive, ignore, as_autocast_makes_it)).loss
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), rel=0.02)


def test_a_learned_temperature_begins_at_the_given_one_and_is_a_one_dimensional_parameter():
    left, right, positive, ignore = diagonal(5)
    learned, fixed = loss_of(learn_temperature=True, temperature=0.2), loss_of(temperature=0.2)
    ((_, parameter),) = learned.named_parameters()
    assert parameter.shape == (1,)
    assert not list(fixed.parameters())
    scored = learned(Pair(left, right, positive, ignore))
    assert scored.loss.item() == pytest.approx(fixed(Pair(left, right, positive, ignore)).loss.item(), rel=1e-6)
    assert float(scored.metrics["temperature"]) == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: " ".join(map(str, o.values())))
def test_a_learned_temperatures_gradient_is_the_slope_by_finite_differences(options):
    left, right, positive, ignore = random_case(1)
    loss = loss_of(**options, learn_temperature=True).double()
    (parameter,) = loss.parameters()
    pair = Pair(left, right, positive, ignore)
    (gradient,) = torch.autograd.grad(loss(pair).loss, parameter)
    step, values = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            parameter += sign * step
            values.append(loss(pair).loss.item())
            parameter -= sign * step
    assert gradient.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)
    assert gradient.item() != 0


def test_a_learned_temperature_is_held_at_its_limit_and_can_come_back():
    left, right, positive, ignore = diagonal(5, dtype=torch.float32)
    loss = loss_of(learn_temperature=True, temperature=0.01)
    (parameter,) = loss.parameters()
    with torch.no_grad():
        parameter += 5.0  # as an optimiser's step might
    scored = loss(Pair(left, right, positive, ignore))
    assert 1 / float(scored.metrics["temperature"]) == pytest.approx(LARGEST_SCALE, rel=1e-5)
    limit = loss_of(temperature=1 / LARGEST_SCALE)(Pair(left, right, positive, ignore))
    assert scored.loss.item() == pytest.approx(limit.loss.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(scored.loss, parameter)
    assert gradient.item() > 0  # random embeddings want a softer softmax
    assert parameter.item() == pytest.approx(math.log(LARGEST_SCALE))


def test_a_learned_temperature_that_starts_beyond_its_limit_is_refused():
    with pytest.raises(ValidationError, match=r"held at 0\.01"):
        InfoNceParams(learn_temperature=True, temperature=0.005)
    assert InfoNceParams(temperature=0.005).temperature == 0.005


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": -0.1}, {"denominator": "positives"}, {"tau": 0.1}])
def test_options_out_of_bounds_are_refused(options):
    with pytest.raises(ValidationError):
        InfoNceParams(**options)


def test_metrics_are_those_of_a_double_loop_over_the_anchors_that_count():
    for seed, denominator in itertools.product(range(6), ("all", "negatives")):
        left, right, positive, ignore = random_case(seed, 6, 8)
        scored = loss_of(denominator=denominator)(Pair(left.requires_grad_(), right, positive, ignore))
        hits, near, far = [], [], []
        for i in range(6):
            similarity = [functional.cosine_similarity(left[i], r, dim=0).item() for r in right]
            good = [similarity[j] for j in range(8) if positive[i, j] and not ignore[i, j]]
            bad = [similarity[j] for j in range(8) if not positive[i, j] and not ignore[i, j]]
            if good and (bad or denominator == "all"):
                hits.append(max(good) > max(bad, default=-2.0))
                near.append(sum(good) / len(good))
                far += [sum(bad) / len(bad)] if bad else []
        assert len(hits) == int(scored.anchors)
        expected = {"accuracy": hits, "positive_cosine": near, "negative_cosine": far}
        assert set(scored.metrics) == set(expected)
        for name, values in expected.items():
            assert scored.metrics[name].item() == pytest.approx(sum(values) / len(values), rel=1e-9)
            assert not scored.metrics[name].requires_grad


def test_collapsed_embeddings_have_an_accuracy_of_zero_and_not_of_one():
    same = torch.ones(5, 3)
    scored = loss_of()(Pair(same, same, torch.eye(5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)))
    assert scored.metrics["accuracy"].item() == 0
    assert scored.loss.item() == pytest.approx(math.log(5), rel=1e-6)


def test_embeddings_that_are_not_a_number_are_not_hidden():
    left, right, positive, ignore = diagonal(4)
    left[2] = math.nan
    assert loss_of()(Pair(left, right, positive, ignore)).loss.isnan()


def test_the_comparison_with_the_double_loop_would_catch_the_usual_mistakes():
    """Each wrong version of the loop must differ from ours by far more than the tolerance of the test above."""
    left, right, positive, ignore = random_case(2, 6, 6)
    positive[0] = False
    ours = {d: loss_of(denominator=d)(Pair(left, right, positive, ignore)).loss.item() for d in ("all", "negatives")}
    for denominator, value in ours.items():
        other = "negatives" if denominator == "all" else "all"
        wrong = {
            "sum in place of mean": brute(left, right, positive, ignore, denominator, "sum"),
            "positive on the wrong side of the denominator": brute(left, right, positive, ignore, other),
            "transposed positives": brute(left, right, positive.T, ignore, denominator),
            "transposed ignore": brute(left, right, positive, ignore.T, denominator),
            "ignore upside down": brute(left, right, positive, ~ignore, denominator),
            "ignore forgotten": brute(left, right, positive, torch.zeros_like(ignore), denominator),
            "left and right swapped": brute(right, left, positive, ignore, denominator),
            "divided by all anchors": (brute(left, right, positive, ignore, denominator, "sum")[0] / 6, 0),
        }
        for mistake, (number, _) in wrong.items():
            assert abs(float(number) - value) > 1e-3, mistake


def test_same_sample_pairs_rows_of_one_recording_whatever_their_window():
    left = Items(torch.tensor([3, 3, 8]), torch.tensor([0, 1, 0]))
    right = Items(torch.tensor([8, 3, 5, 3]), torch.tensor([0, 1, 0, 0]))
    positive, ignore = SAME_SAMPLE.build(NoParams())(left, right)
    assert positive.tolist() == [[a == b for b in (8, 3, 5, 3)] for a in (3, 3, 8)]
    assert ignore.dtype == torch.bool
    assert not ignore.any()
    assert SAME_SAMPLE.needs(NoParams(), ("audio", "text")) == ()


def test_cross_window_leaves_the_same_window_out_both_ways():
    left = Items(torch.tensor([3, 3, 8]), torch.tensor([0, 1, 0]))
    right = Items(torch.tensor([8, 3, 5, 3]), torch.tensor([0, 1, 0, 0]))
    positive, ignore = CROSS_WINDOW.build(NoParams())(left, right)
    assert positive.int().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert ignore.int().tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_the_toolkits_own_checks_pass():
    results = check_plugin(mmcl_losses)
    assert {r.name for r in results} == {
        "plug-in mmcl_losses",
        "loss info-nce",
        "loss sup-con",
        "loss siglip",
        "loss dcl",
        "loss triplet",
        "loss vicreg",
        "loss barlow-twins",
        "loss cosine",
        "loss time-nce",
        "positives shared-labels",
        "positives valence-arousal-weights",
        "positives across-group",
        "positives cross-window",
        "positives same-label",
        "positives same-sample",
        "positives valence-arousal",
        "positives within-group",
    }
    assert [r for r in results if r.passed is False] == []
    # it needs scores, and is checked with some in test_positives.py
    assert {r.name for r in results if r.passed is None} <= {"positives valence-arousal"}
