"""The kit for plug-in authors is kept honest by mutants: each breaks one rule of a loss or of positives, and must be caught for that."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmcl.api import Items, LossSpec, NoParams, Pair, PositivesSpec, Scored, Softmax
from mmcl.testing import NotTried, check_loss, check_positives, make_pair


def nce(pair, positive=None, divide_by=None, logits=None):
    """Mean over anchors of −log(Σ positives / Σ candidates that are not ignored)."""
    logits = pair.similarity() / 0.2 if logits is None else logits
    positive = pair.positive if positive is None else positive
    kept = torch.finfo(logits.dtype).min
    up = logits.masked_fill(~positive, kept).logsumexp(1)
    down = logits.masked_fill(pair.ignore, kept).logsumexp(1)
    anchors = positive.any(1)
    each = torch.where(anchors, down - up, 0.0)
    return Scored(each.sum() / (divide_by or anchors.sum().clamp_min(1)) + 0 * logits.sum(), anchors.sum())


def nce_by_loops(pair):
    values = []
    for i in range(len(pair.left)):
        up = down = 0.0
        for j in range(len(pair.right)):
            e = math.exp(float(functional.cosine_similarity(pair.left[i], pair.right[j], dim=0)) / 0.2)
            up += e if pair.positive[i, j] else 0.0
            down += 0.0 if pair.ignore[i, j] else e
        if up:
            values.append(math.log(down) - math.log(up))
    return sum(values) / len(values)


def loss(function, reduction="mean", symmetric=False):
    """A loss spec around a function of a pair."""

    def build(params):
        def score(pair):
            return function(pair)

        score.reduction, score.symmetric = reduction, symmetric
        return score

    return LossSpec("tiny", "a tiny loss", NoParams, build)


def transposed(pair):
    return nce(pair, positive=pair.positive.T.contiguous() if pair.positive.shape[0] == pair.positive.shape[1] else None)


def by_place(pair):
    return nce(pair, positive=torch.eye(*pair.positive.shape, dtype=torch.bool) & pair.positive.any(1, keepdim=True))


def over_all_rows(pair):
    return nce(pair, divide_by=len(pair.left))


def nan_without_positives(pair):
    logits = pair.similarity() / 0.2
    up = (logits.exp() * pair.positive).sum(1).log()
    down = (logits.exp() * ~pair.ignore).sum(1).log()
    anchors = pair.positive.any(1)
    return Scored(((down - up) * anchors).sum() / anchors.sum(), anchors.sum())


def nan_in_the_gradient_alone(pair):
    logits = pair.similarity() / 0.2
    anchors = pair.positive.any(1)
    up = (logits.exp() * pair.positive).sum(1).log()
    down = (logits.exp() * ~pair.ignore).sum(1).log()
    each = torch.where(anchors, down - up, 0.0)
    return Scored(each.sum() / anchors.sum().clamp_min(1), anchors.sum())


def counts_everyone(pair):
    scored = nce(pair)
    return Scored(scored.loss, torch.tensor(len(pair.left)))


def ignores_nothing(pair):
    return nce(Pair(pair.left, pair.right, pair.positive, torch.zeros_like(pair.ignore)))


def writes_into_the_cosines(pair):
    return nce(pair, logits=pair.similarity().div_(0.2))


def forgets_one_side(pair):
    return nce(Pair(pair.left, pair.right.detach(), pair.positive, pair.ignore))


def detaches_the_denominator(pair):
    logits = pair.similarity() / 0.2
    held = logits.detach()
    return Scored(
        nce(pair).loss + (held.logsumexp(1).sum() - logits.logsumexp(1).sum()) / len(logits), pair.positive.any(1).sum()
    )


def rounds(pair):
    return Scored(
        nce(Pair(pair.left.bfloat16(), pair.right.bfloat16(), pair.positive, pair.ignore)).loss, pair.positive.any(1).sum()
    )


def logs_with_gradient(pair):
    scored = nce(pair)
    return Scored(scored.loss, scored.anchors, {"loss": scored.loss})


def no_gradient_without_anchors(pair):
    return nce(pair) if pair.positive.any() else Scored(torch.zeros(()), torch.tensor(0))


def test_good_loss_passes_and_equals_its_brute_force():
    check_loss(loss(nce), brute_force=nce_by_loops)


def test_loss_that_is_a_sum_passes_as_a_sum():
    check_loss(loss(lambda pair: nce(pair, divide_by=1), "sum"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (loss(transposed), "come in another order"),
        (loss(by_place), "come in another order"),
        (loss(over_all_rows), "anchors without a positive change the loss of the others"),
        (loss(nan_without_positives), "nan"),
        (loss(nan_in_the_gradient_alone), "gradient of left is not finite"),
        (loss(counts_everyone), "`anchors` counts the anchors"),
        (loss(writes_into_the_cosines), "pair.cosine is changed in place"),
        (loss(forgets_one_side), "'right' gets no gradient|slope"),
        (loss(detaches_the_denominator), "the gradient is not the slope"),
        (loss(rounds), "leave float64 alone"),
        (loss(logs_with_gradient), "metric 'loss' is a detached tensor"),
        (loss(no_gradient_without_anchors), "has a gradient"),
        (loss(nce, "sum"), "says reduction = 'sum'"),
        (loss(lambda pair: nce(pair, divide_by=1), "mean"), "says reduction = 'mean'"),
        (loss(nce, "average"), "`reduction` is"),
        (loss(nce, symmetric=True), "says symmetric = True"),
        (loss(lambda pair: nce(pair).loss), "gives an mmcl.api.Scored"),
    ],
)
def test_loss_that_breaks_a_rule_is_caught_for_it(spec, words):
    with pytest.raises(AssertionError, match=words):
        check_loss(spec)


@pytest.mark.parametrize("wrong", [ignores_nothing, transposed, over_all_rows, by_place])
def test_wrong_formula_is_caught_by_brute_force(wrong):
    with pytest.raises(AssertionError, match=r"differs from the brute-force computation"):
        check_loss(loss(wrong), brute_force=nce_by_loops)


def test_learned_temperature_must_be_one_dimensional_and_is_reached():
    class Learned(nn.Module):
        reduction, symmetric = "mean", False

        def __init__(self, shape, used=True):
            super().__init__()
            self.scale = nn.Parameter(torch.full(shape, 5.0))
            self.used = used

        def forward(self, pair):
            return nce(pair, logits=pair.similarity() * (self.scale if self.used else 5.0))

    check_loss(LossSpec("learned", "τ is learned", NoParams, lambda params: Learned((1,))))
    with pytest.raises(AssertionError, match="learned parts are 1-d"):
        check_loss(LossSpec("learned", "τ is learned", NoParams, lambda params: Learned(())))
    with pytest.raises(AssertionError, match="'scale' gets no gradient"):
        check_loss(LossSpec("learned", "τ is learned", NoParams, lambda params: Learned((1,), used=False)))


class Says:
    """A softmax with its mean over anchors, which says so, rightly or wrongly."""

    reduction, symmetric = "mean", False

    def __init__(self, **form):
        self.form = Softmax(**form)

    def softmax(self):
        return self.form

    def __call__(self, pair):
        logits = pair.similarity() / 0.2
        positive = pair.positive & ~pair.ignore
        below = logits.masked_fill(pair.ignore, torch.finfo(logits.dtype).min).logsumexp(1)
        counts = positive.sum(1)
        each = torch.where(counts > 0, below - (logits * positive).sum(1) / counts.clamp_min(1), 0.0)
        return Scored(each.sum() / (counts > 0).sum().clamp_min(1), (counts > 0).sum())


@pytest.mark.parametrize("wrong", [{"scale": 4.0}, {"positives_below": False}, {"factor": 0.5}, {"ignore_above": 0.2}])
def test_a_loss_that_says_of_itself_what_it_is_not_is_caught(wrong):
    check_loss(LossSpec("says", "a softmax", NoParams, lambda params: Says(scale=5.0)))
    with pytest.raises(AssertionError, match="says something else than what calling it gives|says that it is a softmax"):
        check_loss(LossSpec("says", "a softmax", NoParams, lambda params: Says(**{"scale": 5.0, **wrong})))


def test_random_pairs_have_something_to_learn_everywhere():
    for seed in range(20):
        pair = make_pair(6, 9, seed=seed)
        assert not (pair.positive & pair.ignore).any()
        negative = ~pair.positive & ~pair.ignore
        assert pair.positive.any(1).all()
        assert negative.any(1).all()
        assert pair.positive[:, :6].any(0).all()
        assert negative[:, 1:7].any(0).all()


# ------------------------------------------------------------------------------------------------------------- positives


def same_row(left, right):
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def positives(rule, needs=()):
    return PositivesSpec("tiny", "a tiny rule", NoParams, lambda params: rule, lambda params, names: needs)


def test_good_rules_pass():
    def same_label(left, right):
        mine, theirs = left.targets["mood"][:, None], right.targets["mood"][None, :]
        positive = (mine == theirs) & ((mine != -1) | (left.row[:, None] == right.row[None, :]))  # -1: unknown
        return positive, torch.zeros_like(positive)

    check_positives(positives(same_row))
    check_positives(positives(same_label, ("mood",)))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda left, right: (torch.eye(len(left.row), len(right.row)).bool(),) * 2, "positive and ignored at once"),
        (lambda left, right: tuple(mask.int() for mask in same_row(left, right)), "bool"),
        (lambda left, right: same_row(right, left), r"\(3, 10\)"),
        (lambda left, right: (same_row(left, right)[1],) * 2, "a negative of itself"),
        (
            lambda left, right: (
                same_row(left, right)[0] | (left.row[:, None] > right.row.float().mean()),
                same_row(left, right)[1],
            ),
            "depends on the other rows",
        ),
    ],
)
def test_rule_that_breaks_a_rule_is_caught_for_it(rule, words):
    with pytest.raises(AssertionError, match=words):
        check_positives(positives(rule))


def test_rule_that_needs_other_targets_asks_for_them():
    def near(left, right):
        far = (left.targets["va"][:, None] - right.targets["va"][None]).norm(dim=2)
        return far < 0.5, (far >= 0.5) & (far < 1)

    def square(left, right):
        mine, theirs = left.targets["va"].reshape(len(left.row), 7), right.targets["va"].reshape(len(right.row), 7)
        return (mine[:, None] == theirs[None]).all(2), torch.zeros(len(mine), len(theirs), dtype=torch.bool)

    with pytest.raises(NotTried, match="items="):
        check_positives(positives(square, ("va",)))
    check_positives(positives(near, ("va",)))  # two values are made up where classes cannot be used
    row = torch.arange(8)
    check_positives(positives(near, ("va",)), items=Items(row, row * 0, {"va": torch.rand(8, 2)}))


def lonely(function):
    """A loss that says that anchors without a positive count."""
    spec = loss(function)
    build = spec.build

    def declared(params):
        score = build(params)
        score.lonely = True
        return score

    return LossSpec("tiny", "a tiny loss", NoParams, declared)


def test_a_loss_that_says_lonely_and_leaves_anchors_without_a_positive_out_is_caught():
    with pytest.raises(AssertionError, match="says lonely = True, so an anchor counts wherever it has a candidate"):
        check_loss(lonely(nce))


def test_a_loss_that_says_lonely_and_learns_nothing_from_such_anchors_is_caught():
    def counts_alone(pair):
        scored = nce(pair)
        seen = (~pair.ignore).any(1)
        return Scored(scored.loss * scored.anchors / seen.sum().clamp_min(1), seen.sum())

    with pytest.raises(AssertionError, match="learns nothing from anchors without a positive"):
        check_loss(lonely(counts_alone))


def test_a_loss_that_says_soft_and_reads_no_weights_is_caught():
    spec = loss(nce)
    with pytest.raises(AssertionError, match="says soft = True, but the weights of positives change nothing"):
        check_loss(LossSpec("tiny", "a tiny loss", NoParams, spec.build, soft=True))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda mine: 2.0 * mine.double(), r"weights lie in \[0, 1\]; found 0.0 to 2.0"),
        (lambda mine: mine, "is of floats"),
        (lambda mine: 0.0 * mine.double(), "a window is a negative of itself"),
    ],
)
def test_a_soft_rule_that_gives_no_weights_is_caught(rule, words):
    def build(params):
        def positives(left, right):
            mine = left.row[:, None] == right.row[None, :]
            return rule(mine), torch.zeros_like(mine)

        return positives

    with pytest.raises(AssertionError, match=words):
        check_positives(PositivesSpec("tiny", "a tiny rule", NoParams, build, soft=True))
