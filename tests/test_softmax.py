"""Losses that say that they are a softmax, scored all pairs together: against one anchor, one candidate after the other."""

from __future__ import annotations

import itertools

import pytest
import torch

from mmcl.api import Items, Pair
from mmcl.objective import softmax as together
from mmcl.objective.score import Embedded, score
from mmcl.plugins import plugins

ROWS = 8
ITEMS = Items(
    torch.arange(4).repeat(2) + 50,
    torch.tensor([0] * 4 + [1] * 4),
    {"emotion": torch.tensor([0, 1, 0, 2, 0, 1, -1, 2])},
    group=torch.tensor([0, 0, 1, 1] * 2),
)
FULL = {"a": list(range(8)), "b": list(range(8)), "c": list(range(8))}
GAPS = {"a": [0, 1, 2, 5, 7], "b": [1, 2, 3, 4, 5, 6], "c": [0, 2, 6, 7]}
ALONE = {"a": [0, 1, 2, 3], "b": [3, 4, 5, 6, 7], "c": [0, 2, 3, 6]}  # a and b have one recording in common

WAYS = {
    "one stack": {},
    "blocks, all held": {"small": 1, "block": 20},
    "blocks, some held": {"small": 1, "block": 20, "held": 30},
    "blocks, none held": {"small": 1, "block": 20, "held": 0},
}


def some(left, right):
    """Asymmetric masks without a pattern: several positives, none, and much that is ignored."""
    mixed = (left.row[:, None] * 7 + left.view[:, None] * 3 + right.row[None] * 5 + right.view[None]) % 11
    return mixed < 3, (mixed > 6) & (mixed < 9)


def itself(left, right):
    """Each window with itself alone, as most batches have it."""
    positive = (left.row[:, None] == right.row[None]) & (left.view[:, None] == right.view[None])
    return positive, torch.zeros_like(positive)


def nothing(left, right):
    positive = torch.zeros(len(left.row), len(right.row), dtype=torch.bool)
    return positive, positive.clone()


def rule(name):
    if callable(name):
        return name
    spec = plugins().get("positives", name).spec
    return spec.build(spec.params())


def loss_of(**options):
    spec = plugins().get("loss", "info-nce").spec
    return spec.build(spec.params(**{"temperature": 0.2, **options}))


def drawn(presence, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Embedded(torch.randn(len(rows), 5, generator=generator, dtype=torch.float64).to(dtype), torch.tensor(rows))
        for name, rows in presence.items()
    }


def slow(
    embedded, pairs, positives, weights, combine, scale, denominator="all", reduction="mean", factor=1.0, false_negatives=None
):
    """The objective in float64 by the equations: a loop over pairs, directions, anchors and candidates."""
    total, count, met = 0.0, 0.0, 0
    for (first, second), weight in zip(pairs, weights, strict=True):
        shared = sorted(set(embedded[first].rows.tolist()) & set(embedded[second].rows.tolist()))
        if len(shared) < 2:
            continue
        pick = [
            Items(
                ITEMS.row[shared],
                ITEMS.view[shared],
                {k: v[shared] for k, v in ITEMS.targets.items()},
                name,
                ITEMS.group[shared],
            )
            for name in (first, second)
        ]
        positive, ignore = positives(*pick)
        at = [[embedded[name].rows.tolist().index(row) for row in shared] for name in (first, second)]
        unit = [
            torch.nn.functional.normalize(embedded[name].z.double(), dim=-1)[rows]
            for name, rows in zip((first, second), at, strict=True)
        ]
        values = []
        for turned in (False, True) if first != second else (False,):
            terms = []
            for i in range(len(shared)):
                good, bad, below = [], [], []
                for j in range(len(shared)):
                    cell = (j, i) if turned else (i, j)
                    cosine = unit[1][i] @ unit[0][j] if turned else unit[0][i] @ unit[1][j]
                    own = first == second and i == j
                    mine, out = bool(positive[cell]) and not own, bool(ignore[cell]) or own
                    if false_negatives is not None and not mine and float(cosine) > false_negatives:
                        out = True
                    if out:
                        continue
                    (good if mine else bad).append(cosine * scale)
                    if denominator == "all" or not mine:
                        below.append(cosine * scale)
                if good and (denominator == "all" or bad):
                    terms.append(torch.logsumexp(torch.stack(below), 0) - torch.stack(good).mean())
            if terms:
                summed = torch.stack(terms).sum() * factor
                values.append(summed / len(terms) if reduction == "mean" else summed)
        if not values:
            continue
        share = weight * (2 if first == second else 1)
        total = total + (sum(values) * share if combine == "mean" else weight * sum(values) / len(values))
        count += len(values) * share
        met += 1
    return total / {"mean": count, "sum": 1.0, "count": met}[combine] if met else None


def graded(function, embedded, *more):
    leaves = {name: Embedded(e.z.clone().requires_grad_(), e.rows) for name, e in embedded.items()}
    value = function(leaves)
    inputs = [e.z for e in leaves.values()] + list(more)
    return value, torch.autograd.grad(2 * value, inputs, allow_unused=True)


CASES = [
    ("same-sample", {}),
    ("same-sample", {"denominator": "negatives"}),
    ("cross-window", {"factor": 0.5}),
    ("cross-window", {"denominator": "negatives", "reduction": "sum"}),
    ("within-group", {"reduction": "sum"}),
    ("across-group", {"denominator": "negatives"}),
    ("same-label", {"factor": 2.0, "reduction": "sum"}),
    (itself, {}),
    (itself, {"reduction": "sum", "factor": 0.5}),
    (itself, {"false_negatives": 0.2}),
    (some, {}),
    (some, {"denominator": "negatives"}),
    (some, {"false_negatives": 0.1}),
    (some, {"denominator": "negatives", "false_negatives": 0.1, "reduction": "sum"}),
]


@pytest.fixture
def alone(monkeypatch):
    """How often pairs were scored one by one, by calling the loss."""
    calls = []
    spec = plugins().get("loss", "info-nce").spec
    kind = type(spec.build(spec.params()))
    whole = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, pair: calls.append(pair) or whole(self, pair))
    return calls


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned temperature"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("positives", "options"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_all_pairs_together_are_a_double_loop_in_value_and_gradient(positives, options, way, learned, alone):
    loss = loss_of(learn_temperature=learned, **options).double()
    more = list(loss.parameters())
    for k, presence in enumerate((FULL, GAPS, ALONE)):
        pairs = [*itertools.combinations(presence, 2), ("c", "c")]
        combine, weights = ("mean", "sum", "count")[k], (1.0, 3.0, 0.25, 0.5)
        embedded = drawn(presence, torch.float64, seed=k)

        def ours(leaves, pairs=pairs, weights=weights, combine=combine):
            return score(leaves, ITEMS, pairs, rule(positives), loss, weights, combine, **WAYS[way]).loss

        def theirs(leaves, pairs=pairs, weights=weights, combine=combine):
            scale = more[0].exp()[0] if learned else 5.0
            return slow(leaves, pairs, rule(positives), weights, combine, scale, **options)

        (value, grads), (wanted, slopes) = graded(ours, embedded, *more), graded(theirs, embedded, *more)
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
        for grad, slope in zip(grads, slopes, strict=True):
            torch.testing.assert_close(grad, torch.zeros_like(grad) if slope is None else slope, rtol=1e-12, atol=1e-12)
    assert not alone, "the pairs were scored one by one"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("positives", [itself, some, "cross-window"])
def test_in_float32_value_and_gradient_are_a_double_loops_to_a_millionth(positives, way):
    loss = loss_of(temperature=0.07)
    for presence in (FULL, GAPS):
        pairs = list(itertools.combinations(presence, 2))
        embedded = drawn(presence, torch.float32, seed=3)
        value, grads = graded(lambda z, p=pairs: score(z, ITEMS, p, rule(positives), loss, **WAYS[way]).loss, embedded)
        wanted, slopes = graded(lambda z, p=pairs: slow(z, p, rule(positives), [1.0] * 3, "mean", 1 / 0.07), embedded)
        torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=1e-6)
        for grad, slope in zip(grads, slopes, strict=True):
            torch.testing.assert_close(grad, slope, rtol=0, atol=1e-6 * float(slope.abs().max()) + 1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("positives", "options"), [*CASES, (nothing, {})], ids=lambda x: getattr(x, "__name__", str(x)))
def test_what_is_reported_is_what_the_loss_reports_of_each_pair_alone(positives, options, way):
    class Silent:
        """The same loss, which says nothing of itself."""

        symmetric = False

        def __init__(self, loss):
            self.loss, self.reduction = loss, loss.reduction

        def __call__(self, pair: Pair):
            return self.loss(pair)

    for learned, presence in ((False, FULL), (True, GAPS)):
        embedded = drawn(presence, torch.float64, seed=5)
        pairs = [*itertools.combinations(presence, 2), ("a", "a")]
        loss = loss_of(learn_temperature=learned, **options).double()
        one = score(embedded, ITEMS, pairs, rule(positives), loss, **WAYS[way])
        other = score(embedded, ITEMS, pairs, rule(positives), Silent(loss))
        assert one.skipped == other.skipped
        assert (one.loss is None) == (other.loss is None)
        assert {name: set(figures) for name, figures in one.pairs.items()} == {name: set(f) for name, f in other.pairs.items()}
        for name, figures in other.pairs.items():
            for figure, value in figures.items():
                torch.testing.assert_close(
                    one.pairs[name][figure].double(), value.double(), rtol=1e-10, atol=1e-12, msg=f"{name} {figure}"
                )


def test_a_temperature_whose_exponentials_would_leave_the_numbers_of_a_type_is_scored_with_maxima(alone):
    embedded = drawn(FULL, torch.float32)
    for temperature, apart in ((0.03, False), (0.02, True)):
        alone.clear()
        objective = score(embedded, ITEMS, [("a", "b")], itself, loss_of(temperature=temperature))
        assert bool(alone) is apart
        wanted = slow(embedded, [("a", "b")], itself, [1.0], "mean", 1 / temperature)
        torch.testing.assert_close(objective.loss.double(), wanted, rtol=1e-5, atol=1e-6)
    double = {name: Embedded(e.z.double(), e.rows) for name, e in embedded.items()}
    alone.clear()
    score(double, ITEMS, [("a", "b")], itself, loss_of(temperature=0.02))
    assert not alone


def test_hard_negatives_are_scored_pair_by_pair(alone):
    score(drawn(FULL, torch.float64), ITEMS, [("a", "b")], itself, loss_of(hardness=2.0))
    assert len(alone) == 2


@pytest.mark.parametrize("way", WAYS)
def test_cosines_at_their_bound_vectors_of_zeros_and_half_precision_stay_finite(way):
    embedded = drawn(FULL, torch.float32)
    embedded["b"].z = -embedded["a"].z.clone()
    embedded["c"].z = embedded["a"].z.clone()
    embedded["c"].z[3] = 0
    for dtype in (torch.float32, torch.bfloat16):
        leaves = {name: Embedded(e.z.detach().clone().to(dtype).requires_grad_(), e.rows) for name, e in embedded.items()}
        objective = score(leaves, ITEMS, [("a", "b"), ("a", "c")], itself, loss_of(temperature=0.026), **WAYS[way])
        assert objective.loss.dtype == torch.float32
        objective.loss.backward()
        assert all(e.z.grad.isfinite().all() and e.z.grad.dtype == dtype for e in leaves.values())
    embedded["a"].z[2, 1] = torch.nan
    assert score(embedded, ITEMS, [("a", "b")], itself, loss_of(), **WAYS[way]).loss.isnan()


@pytest.mark.parametrize("way", WAYS)
def test_collapsed_embeddings_find_nothing_in_both_directions(way):
    embedded = {name: Embedded(torch.ones(8, 5), torch.arange(8)) for name in "ab"}
    assert score(embedded, ITEMS, [("a", "b")], itself, loss_of(), **WAYS[way]).pairs["a~b"]["accuracy"] == 0


def test_big_batches_hold_no_matrix_for_the_backward_pass_and_no_more_than_they_may_before():
    rows = 128
    items = Items(torch.arange(rows), torch.zeros(rows, dtype=torch.int64))
    embedded = {name: Embedded(torch.randn(rows, 4, requires_grad=True), torch.arange(rows)) for name in "ab"}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        objective = score(embedded, items, [("a", "b")], itself, loss_of(), small=1, block=512, held=2000)
    assert max(kept, default=0) < rows * rows
    objective.loss.backward()
    stack = together.Diagonal(torch.randn(1, rows, 4), torch.randn(1, rows, 4), loss_of().softmax(), 5.0, 4, 2000)
    stack.sums()
    assert sum(power.numel() for power, _ in stack.kept.values()) <= 2000


def test_no_gradient_is_worked_out_where_none_is_wanted(monkeypatch):
    monkeypatch.setattr(together.Diagonal, "gradients", lambda *_: pytest.fail("a gradient was worked out"))
    leaves = {name: Embedded(e.z.requires_grad_(), e.rows) for name, e in drawn(FULL, torch.float32).items()}
    with torch.no_grad():
        assert not score(leaves, ITEMS, [("a", "b")], itself, loss_of()).loss.requires_grad
