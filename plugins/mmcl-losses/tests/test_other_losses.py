"""siglip, dcl, triplet, vicreg and barlow-twins against loops over plain numbers and their papers' formulas, and what soft positives are."""

from __future__ import annotations

import math
from dataclasses import replace

import mmcl_losses as offered
import pytest
import torch

from mmcl.api import Items, Pair, StageError
from mmcl.testing import check_loss, check_positives, make_pair


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def rows(pair, above=None):
    """Of each anchor: cosines, positives and negatives by number, and weights."""
    left, right = pair.left.tolist(), pair.right.tolist()
    for i, a in enumerate(left):
        s = [cosine(a, b) for b in right]
        kept = [j for j in range(len(right)) if not pair.ignore[i, j]]
        positives = [j for j in kept if pair.positive[i, j]]
        negatives = [j for j in kept if not pair.positive[i, j] and not (above is not None and s[j] > above)]
        weight = [1.0 if pair.weight is None else float(pair.weight[i, j]) for j in range(len(right))]
        yield s, positives, negatives, weight


def mean(values):
    return sum(values) / len(values)


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > -30 else x


def siglip(params):
    def loss(pair):
        terms = []
        for s, positives, negatives, weight in rows(pair, params.false_negatives):
            z = [params.scale * x + params.bias for x in s]
            term = -sum(weight[j] * log_sigmoid(z[j]) + (1 - weight[j]) * log_sigmoid(-z[j]) for j in positives)
            term -= sum(log_sigmoid(-z[j]) for j in negatives)
            if positives or negatives:
                terms.append(term)
        return mean(terms)

    return loss


def dcl(params):
    def loss(pair):
        kept = [row for row in rows(pair, params.false_negatives) if row[1] and row[2]]
        tau, sigma = params.temperature, params.sigma
        every = [math.exp(s[p] / sigma) for s, positives, _, _ in kept for p in positives] if sigma else []
        terms = []
        for s, positives, negatives, _ in kept:
            weights = [2 - math.exp(s[p] / sigma) / mean(every) if sigma else 1.0 for p in positives]
            near = mean([w * s[p] / tau for w, p in zip(weights, positives, strict=True)])
            terms.append(-near + math.log(sum(math.exp(s[j] / tau) for j in negatives)))
        return mean(terms)

    return loss


def triplet(params):
    def loss(pair):
        terms = []
        for s, positives, negatives, _ in rows(pair, params.false_negatives):
            if not positives or not negatives:
                continue
            each = []
            for p in positives:
                if params.negatives == "all":
                    each.append(sum(max(0.0, params.margin + s[j] - s[p]) for j in negatives))
                    continue
                asked = negatives if params.negatives == "hardest" else [j for j in negatives if s[j] < s[p]]
                each.append(max(0.0, params.margin + max(s[j] for j in asked) - s[p]) if asked else 0.0)
            terms.append(mean(each))
        return mean(terms)

    return loss


def couples(pair):
    left, right = pair.left.tolist(), pair.right.tolist()
    kept = [(i, j) for i in range(len(left)) for j in range(len(right)) if pair.positive[i, j] and not pair.ignore[i, j]]
    return [left[i] for i, _ in kept], [right[j] for _, j in kept]


def covariance(z, d, e):
    n = len(z)
    means = [mean([row[k] for row in z]) for k in (d, e)]
    return sum((row[d] - means[0]) * (row[e] - means[1]) for row in z) / (n - 1)


def vicreg(params):
    def loss(pair):
        a, b = couples(pair)
        width = len(a[0])
        s = mean([sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) for p, q in zip(a, b, strict=True)])
        v = sum(mean([max(0.0, 1 - math.sqrt(covariance(z, d, d) + 1e-4)) for d in range(width)]) for z in (a, b))
        c = sum(covariance(z, d, e) ** 2 for z in (a, b) for d in range(width) for e in range(width) if d != e) / width
        return params.invariance * s + params.variance * v + params.covariance * c

    return loss


def barlow_twins(params):
    def loss(pair):
        a, b = couples(pair)
        width, total = len(a[0]), 0.0

        def standard(z, d):
            centred = [row[d] - mean([other[d] for other in z]) for row in z]
            length = math.sqrt(sum(x * x for x in centred))
            return [x / length for x in centred]

        for d in range(width):
            for e in range(width):
                c = sum(x * y for x, y in zip(standard(a, d), standard(b, e), strict=True))
                total += (1 - c) ** 2 if d == e else params.redundancy * c * c
        return params.factor * total

    return loss


def alike(params):
    def loss(pair):
        kept = [row for row in rows(pair) if row[1]]
        return mean([2 - 2 * sum(w[p] * s[p] for p in near) / sum(w[p] for p in near) for s, near, _, w in kept])

    return loss


CASES = [
    (offered.SIGLIP, offered.SigLipParams, siglip, [{}, {"learn": False, "scale": 3.0, "bias": 0.5}, {"false_negatives": 0.3}]),
    (offered.DCL, offered.DclParams, dcl, [{}, {"temperature": 0.5, "sigma": 0.5}, {"false_negatives": 0.4}]),
    (
        offered.TRIPLET,
        offered.TripletParams,
        triplet,
        [{}, {"negatives": "all", "margin": 0.5}, {"negatives": "semi-hard", "margin": 1.0}, {"false_negatives": 0.5}],
    ),
    (offered.VICREG, offered.VicRegParams, vicreg, [{}, {"invariance": 1.0, "variance": 0.0, "covariance": 3.0}]),
    (offered.COSINE, offered.NoParams, alike, [{}]),
    (offered.BARLOW_TWINS, offered.BarlowTwinsParams, barlow_twins, [{}, {"redundancy": 0.5, "factor": 0.1}]),
]


@pytest.mark.parametrize(
    ("spec", "params", "brute"),
    [
        pytest.param(spec, kind(**options), brute, id=f"{spec.name} {options}")
        for spec, kind, brute, all in CASES
        for options in all
    ],
)
def test_each_loss_keeps_the_contract_and_equals_its_formula_number_by_number(spec, params, brute):
    check_loss(spec, params, brute(params))


def test_siglip_is_the_algorithm_of_its_paper():
    """Zhai et al. 2023, Algorithm 1: labels 2·I − 1, the sum of −log σ(labels·logits) over n."""
    pair = make_pair(6, 6, ignored=0)
    pair = Pair(pair.left, pair.right, torch.eye(6, dtype=torch.bool), torch.zeros(6, 6, dtype=torch.bool))
    logits = pair.similarity() * 10 - 10
    labels = 2 * torch.eye(6, dtype=torch.float64) - 1
    wanted = -torch.nn.functional.logsigmoid(labels * logits).sum() / 6
    loss = offered.SIGLIP.build(offered.SigLipParams()).double()
    assert float(loss(pair).loss.detach()) == pytest.approx(float(wanted), abs=1e-6)  # log 10 begins in float32
    assert {name for name, _ in loss.named_parameters()} == {"log_scale", "bias"}


def test_anchors_without_a_positive_count_for_siglip_and_push_away():
    pair = make_pair(5, 7, ignored=0)
    pair.positive[:] = False
    left = pair.left.requires_grad_()
    scored = offered.SIGLIP.build(offered.SigLipParams(learn=False, scale=3, bias=0)).double()(pair)
    assert int(scored.anchors) == 5
    scored.loss.backward()
    pushed = Pair(left.detach() - left.grad, pair.right, pair.positive, pair.ignore)
    assert float(pushed.similarity().mean()) < float(pair.similarity().mean().detach()) - 0.01


def test_weights_of_positives_are_means_over_them_in_sup_con():
    pair = make_pair(6, 9)
    weight = torch.rand(6, 9, dtype=torch.float64) * pair.positive
    pair = Pair(pair.left, pair.right, pair.positive, pair.ignore, weight=weight)
    for form in ("out", "in"):
        params = offered.SupConParams(form=form)
        terms = []
        for s, positives, negatives, w in rows(pair):
            total = sum(math.exp(s[j] / 0.1) for j in positives + negatives)
            share = [w[p] / sum(w[q] for q in positives) for p in positives]
            each = [math.exp(s[p] / 0.1) / total for p in positives]
            out = -sum(a * math.log(b) for a, b in zip(share, each, strict=True))
            terms.append(out if form == "out" else -math.log(sum(a * b for a, b in zip(share, each, strict=True))))
        assert float(offered.SUP_CON.build(params)(pair).loss) == pytest.approx(mean(terms), abs=1e-9)
        check_loss(offered.SUP_CON, params)


def test_valence_and_arousal_weigh_by_their_distance():
    places = torch.tensor([[0.0, 0.0], [0.3, 0.4], [0.0, 0.1], [float("nan"), 0.0]])
    items = Items(torch.arange(4), torch.zeros(4, dtype=torch.int64), {"va-audio": places}, "audio")
    weight, ignore = offered.VALENCE_AROUSAL_WEIGHTS.build(offered.VaWeightsParams(threshold=1.0))(items, items)
    assert weight[0].tolist() == pytest.approx([1.0, 0.5, 0.9, 0.0])
    assert ignore[0].tolist() == [False, False, False, True]
    assert weight.diagonal().tolist() == [1, 1, 1, 1]
    check_positives(offered.VALENCE_AROUSAL_WEIGHTS)


def test_shared_labels_weigh_by_jaccard():
    labels = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [float("nan"), 0.0, 0.0]])
    items = Items(torch.arange(4), torch.zeros(4, dtype=torch.int64), {"emotion": labels}, "audio")
    weight, ignore = offered.SHARED_LABELS.build(offered.SharedLabelsParams())(items, items)
    assert weight[0].tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0])
    assert weight[2, 2] == 1  # itself
    assert ignore[0].tolist() == [False, False, False, True]
    check_positives(offered.SHARED_LABELS)
    classes = Items(torch.arange(4), torch.zeros(4, dtype=torch.int64), {"emotion": torch.arange(4)}, "audio")
    with pytest.raises(StageError, match="multi-label"):
        offered.SHARED_LABELS.build(offered.SharedLabelsParams())(classes, classes)


def test_a_dimension_that_does_not_vary_gives_barlow_twins_no_gradient_that_blows_up():
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.randn(6, 4, generator=rng) for _ in range(2))
    left[:, 1] = 0.3  # dead on one side
    left.requires_grad_()
    same = torch.eye(6, dtype=torch.bool)
    pair = replace(make_pair(6, 4), left=left, right=right, positive=same, ignore=torch.zeros_like(same))
    scored = offered.BARLOW_TWINS.build(offered.BarlowTwinsParams())(pair)
    torch.autograd.backward(scored.loss)
    assert bool(left.grad.isfinite().all())
    assert float(left.grad[:, 1].abs().max()) == 0
    assert 0 < float(left.grad.abs().max()) < 10
