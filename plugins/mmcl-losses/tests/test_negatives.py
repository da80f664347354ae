"""Which negatives count, and how much: by group, by nearness, and those too near to be negatives."""

from __future__ import annotations

import math

import pytest
import torch
from mmcl_losses import ACROSS_GROUP, INFO_NCE, WITHIN_GROUP, GroupParams, InfoNceParams

from mmcl.api import Items, Pair, StageError


def items(rows, groups):
    return Items(torch.tensor(rows), torch.zeros(len(rows), dtype=torch.int64), group=torch.tensor(groups))


@pytest.mark.parametrize(("spec", "within"), [(WITHIN_GROUP, True), (ACROSS_GROUP, False)])
def test_negatives_are_of_the_asked_groups_alone(spec, within):
    left, right = items([0, 1, 2, 3], [5, 5, 6, 7]), items([0, 1, 2, 4], [5, 5, 6, 6])
    positive, ignore = spec.build(GroupParams())(left, right)
    for i in range(4):
        for j in range(4):
            same = left.row[i] == right.row[j]
            assert bool(positive[i, j]) is bool(same)
            of_group = bool(left.group[i] == right.group[j])
            assert bool(ignore[i, j]) is (not same and of_group is not within)


def test_a_share_of_the_other_negatives_stays_and_is_the_same_whenever_two_recordings_meet():
    rows, groups = list(range(400)), [i % 4 for i in range(400)]
    rule = WITHIN_GROUP.build(GroupParams(keep=0.25))
    positive, ignore = rule(items(rows, groups), items(rows, groups))
    others = torch.tensor(groups)[:, None] != torch.tensor(groups)[None]
    assert (~ignore & others).sum() / others.sum() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(ignore, ignore.T)
    assert not (ignore & positive).any()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    again = rule(items(order.tolist(), [groups[i] for i in order]), items(rows, groups))[1]
    assert torch.equal(again, ignore[order])


def test_rows_without_a_group_are_refused_in_a_sentence():
    rows = Items(torch.arange(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(StageError, match="need the group of every recording"):
        WITHIN_GROUP.build(GroupParams())(rows, rows)


def case(seed, n=5, k=7):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(rows, 4, generator=generator, dtype=torch.float64) for rows in (n, k))
    return left, right, torch.rand(n, k, generator=generator) < 0.3, torch.rand(n, k, generator=generator) < 0.2


def brute(left, right, positive, ignore, denominator, hardness, tau=0.5):
    """One anchor and one candidate after the other; weights are numbers, not tensors, so that no gradient goes through them."""
    terms = []
    for i in range(len(left)):
        cosine = [torch.dot(left[i], r) / (left[i].norm() * r.norm()) for r in right]
        positives = [j for j in range(len(right)) if positive[i, j] and not ignore[i, j]]
        negatives = [j for j in range(len(right)) if not positive[i, j] and not ignore[i, j]]
        if not positives or (denominator == "negatives" and not negatives):
            continue
        raw = {j: math.exp(hardness * float(cosine[j].detach())) for j in negatives}
        mean = sum(raw.values()) / max(1, len(raw))
        total = sum(raw[j] / mean * torch.exp(cosine[j] / tau) for j in negatives)
        if denominator == "all":
            total = total + sum(torch.exp(cosine[j] / tau) for j in positives)
        terms.append(sum(torch.log(total) - cosine[j] / tau for j in positives) / len(positives))
    return sum(terms) / len(terms), len(terms)


@pytest.mark.parametrize("denominator", ["all", "negatives"])
@pytest.mark.parametrize("hardness", [0.5, 4.0])
def test_hard_negatives_weigh_as_in_a_double_loop(denominator, hardness):
    for seed in range(5):
        left, right, positive, ignore = case(seed)
        a, b = left.clone().requires_grad_(), right.clone().requires_grad_()
        expected, anchors = brute(a, b, positive, ignore, denominator, hardness)
        slow = torch.autograd.grad(expected, (a, b))
        loss = INFO_NCE.build(InfoNceParams(denominator=denominator, hardness=hardness, temperature=0.5))
        a, b = left.clone().requires_grad_(), right.clone().requires_grad_()
        scored = loss(Pair(a, b, positive, ignore))
        torch.testing.assert_close(scored.loss, expected.detach(), rtol=1e-12, atol=1e-12)
        assert int(scored.anchors) == anchors
        for fast, by_hand in zip(torch.autograd.grad(scored.loss, (a, b)), slow, strict=True):
            torch.testing.assert_close(fast, by_hand, rtol=1e-10, atol=1e-12)


def test_a_hardness_that_does_nothing_gives_the_plain_loss_and_its_metrics():
    left, right, positive, ignore = case(3, 6, 6)
    plain = INFO_NCE.build(InfoNceParams())(Pair(left, right, positive, ignore))
    hard = INFO_NCE.build(InfoNceParams(hardness=1e-12))(Pair(left, right, positive, ignore))
    torch.testing.assert_close(hard.loss, plain.loss)
    for name, value in plain.metrics.items():
        torch.testing.assert_close(hard.metrics[name], value)


@pytest.mark.parametrize(
    "options", [{}, {"hardness": 2.0}, {"denominator": "negatives"}, {"denominator": "negatives", "hardness": 2.0}]
)
def test_negatives_above_the_threshold_count_neither_way(options):
    left, right, positive, ignore = case(1)
    cosine = torch.nn.functional.normalize(left, dim=1) @ torch.nn.functional.normalize(right, dim=1).T
    masked = INFO_NCE.build(InfoNceParams(**options))(Pair(left, right, positive, ignore | (~positive & (cosine > 0.3))))
    cut = INFO_NCE.build(InfoNceParams(false_negatives=0.3, **options))(Pair(left, right, positive, ignore))
    plain = INFO_NCE.build(InfoNceParams(**options))(Pair(left, right, positive, ignore))
    torch.testing.assert_close(cut.loss, masked.loss)
    assert not torch.isclose(cut.loss, plain.loss), "the case must have such negatives"


@pytest.mark.parametrize("denominator", ["all", "negatives"])
def test_hard_rows_without_anything_to_learn_from_are_zero_with_a_gradient_of_zeros(denominator):
    left = torch.randn(3, 4, requires_grad=True)
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    scored = INFO_NCE.build(InfoNceParams(hardness=1.0, denominator=denominator))(
        Pair(left, torch.randn(3, 4), nothing, nothing)
    )
    assert scored.loss == 0
    (gradient,) = torch.autograd.grad(scored.loss, left)
    assert not gradient.any()
