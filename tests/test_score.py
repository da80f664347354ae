"""The objective: pairs, directions, missing rows and blocks, against a slow double loop."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mmcl.api import Items, Pair, Scored
from mmcl.objective.score import Embedded, score
from mmcl.plugins import plugins


class Nce:
    """A plain InfoNCE, mean over anchors, written as a double loop."""

    reduction = "mean"
    symmetric = False

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def __call__(self, pair: Pair) -> Scored:
        similarity = pair.similarity() / 0.1
        terms = []
        for i in range(len(similarity)):
            for j in range(similarity.shape[1]):
                if pair.positive[i, j]:
                    others = torch.stack([similarity[i, k] for k in range(similarity.shape[1]) if not pair.ignore[i, k]])
                    terms.append(torch.logsumexp(others, 0) - similarity[i, j])
        if not terms:
            return Scored(pair.similarity().sum() * 0, torch.tensor(0))
        total = torch.stack(terms)
        value = total.mean() if self.reduction == "mean" else total.sum()
        return Scored(value, torch.tensor(len(terms)), {"top": total.detach().max()})


def same_sample(left: Items, right: Items):
    positive = left.row[:, None] == right.row[None, :]
    return positive, torch.zeros_like(positive)


def brute(z: dict[str, dict[int, list[float]]], pairs, temperature=0.1) -> float:
    """Eq. 2 of MPUC-MER over plain lists: mean over ordered pairs of the mean over shared recordings."""

    def cosine(u, v):
        return sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))

    terms = []
    for first, second in pairs:
        for m, n in ((first, second), (second, first)):
            shared = sorted(set(z[m]) & set(z[n]))
            if len(shared) < 2:
                continue
            each = []
            for i in shared:
                exp = {j: math.exp(cosine(z[m][i], z[n][j]) / temperature) for j in shared}
                each.append(-math.log(exp[i] / sum(exp.values())))
            terms.append(sum(each) / len(each))
    return sum(terms) / len(terms)


def drawn(presence: dict[str, list[int]], seed: int = 0, width: int = 5) -> dict[str, Embedded]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Embedded(
            torch.randn(len(rows), width, generator=generator, dtype=torch.float64).requires_grad_(), torch.tensor(rows)
        )
        for name, rows in presence.items()
    }


def as_lists(embedded):
    return {name: {int(r): z.tolist() for r, z in zip(e.rows, e.z.detach(), strict=True)} for name, e in embedded.items()}


ITEMS = Items(torch.arange(100, 108), torch.zeros(8, dtype=torch.int64))
FULL = {"a": list(range(8)), "b": list(range(8)), "c": list(range(8))}
GAPS = {"a": [0, 1, 2, 5, 7], "b": [1, 2, 3, 4, 5], "c": [0, 2, 6]}


@pytest.mark.parametrize("presence", [FULL, GAPS], ids=["complete", "with missing rows"])
def test_all_pairs_both_directions_equal_a_double_loop(presence):
    embedded = drawn(presence)
    pairs = list(itertools.combinations(presence, 2))
    objective = score(embedded, ITEMS, pairs, same_sample, Nce())
    used = [p for p in pairs if len(set(presence[p[0]]) & set(presence[p[1]])) >= 2]
    assert objective.loss.item() == pytest.approx(brute(as_lists(embedded), used), abs=1e-10)


def test_swapping_the_modalities_of_a_pair_changes_nothing():
    embedded = drawn(GAPS)
    one = score(embedded, ITEMS, [("a", "b")], same_sample, Nce()).loss
    other = score(embedded, ITEMS, [("b", "a")], same_sample, Nce()).loss
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_pair_with_fewer_than_two_shared_rows_is_skipped_and_named():
    embedded = drawn({"a": [0, 1, 2], "b": [2, 3, 4], "c": [0, 1]})
    objective = score(embedded, ITEMS, [("a", "b"), ("a", "c")], same_sample, Nce())
    assert objective.skipped == ("a~b",)
    assert set(objective.pairs) == {"a~c"}
    assert objective.loss.item() == pytest.approx(brute(as_lists(embedded), [("a", "c")]), abs=1e-10)


def test_nothing_shared_gives_no_loss_rather_than_zero():
    objective = score(drawn({"a": [0, 1], "b": [2, 3]}), ITEMS, [("a", "b")], same_sample, Nce())
    assert objective.loss is None


def test_absent_rows_get_no_gradient():
    embedded = drawn(GAPS)
    score(embedded, ITEMS, [("a", "b")], same_sample, Nce()).loss.backward()
    alone = [i for i, row in enumerate(GAPS["a"]) if row not in GAPS["b"]]
    assert float(embedded["a"].z.grad[alone].abs().sum()) == 0.0
    assert embedded["c"].z.grad is None


class Learned(torch.nn.Module):
    """Reads cosines and lengths, has a parameter, and passes over anchors whose row number is odd."""

    symmetric = False

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.reduction = reduction
        self.scale = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.float64))

    def forward(self, pair: Pair) -> Scored:
        lengths = pair.left.norm(dim=1) + pair.right.norm(dim=1).mean()
        each = (-(pair.similarity() * self.scale).log_softmax(1) * pair.positive).sum(1) + 0.1 * lengths
        counts = pair.positive.any(1)
        total = (each * counts).sum()
        anchors = counts.sum()
        return Scored(
            total / anchors.clamp_min(1) if self.reduction == "mean" else total, anchors, {"top": each.detach().mean()}
        )


def even_only(left: Items, right: Items):
    positive = (left.row[:, None] == right.row[None, :]) & (left.row[:, None] % 2 == 0)
    return positive, torch.zeros_like(positive)


@pytest.mark.parametrize("reduction", ["mean", "sum", "whole"])
@pytest.mark.parametrize("positives", [same_sample, even_only], ids=["all anchors", "half the anchors"])
@pytest.mark.parametrize("presence", [FULL, GAPS], ids=["complete", "with missing rows"])
@pytest.mark.parametrize("held", [1 << 20, 1], ids=["one matrix a pair", "no whole matrix"])
@pytest.mark.parametrize("kind", [Nce, Learned])
def test_scoring_in_blocks_of_rows_gives_the_same_value_gradient_and_metrics(kind, held, presence, positives, reduction):
    pairs = list(itertools.combinations(presence, 2))
    whole, parts = drawn(presence, 3), drawn(presence, 3)
    one, other = kind(reduction), kind(reduction)
    a = score(whole, ITEMS, pairs, positives, one)
    b = score(parts, ITEMS, pairs, positives, other, small=1, block=12, held=held)
    torch.testing.assert_close(a.loss, b.loss, rtol=0, atol=1e-12)
    assert a.skipped == b.skipped
    assert a.pairs.keys() == b.pairs.keys()
    for name in a.pairs:
        torch.testing.assert_close(a.pairs[name]["loss"], b.pairs[name]["loss"], rtol=0, atol=1e-12)
    (2 * a.loss).backward()
    (2 * b.loss).backward()
    for name in presence:
        torch.testing.assert_close(whole[name].z.grad, parts[name].z.grad, rtol=0, atol=1e-12)
    if kind is Learned:
        torch.testing.assert_close(one.scale.grad, other.scale.grad, rtol=0, atol=1e-12)


def test_blocks_hold_no_matrix_for_the_backward_pass():
    embedded = drawn({"a": list(range(64)), "b": list(range(64))}, width=4)
    items = Items(torch.arange(64), torch.zeros(64, dtype=torch.int64))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        objective = score(embedded, items, [("a", "b")], same_sample, Nce(), small=1, block=512)
    assert max(kept) < 64 * 64
    objective.loss.backward()
    assert embedded["a"].z.grad is not None


def test_blocks_without_gradient_give_the_same_value():
    embedded = drawn(FULL)
    with torch.no_grad():
        value = score(embedded, ITEMS, [("a", "b")], same_sample, Nce(), small=1, block=12).loss
    assert not value.requires_grad
    torch.testing.assert_close(
        value, score(embedded, ITEMS, [("a", "b")], same_sample, Nce()).loss.detach(), rtol=0, atol=1e-12
    )


def test_an_item_is_never_its_own_positive_within_one_modality():
    items = Items(torch.tensor([1, 1, 2, 2]), torch.tensor([0, 1, 0, 1]))
    embedded = drawn({"a": [0, 1, 2, 3]})
    seen = {}

    class Look(Nce):
        def __call__(self, pair):
            seen["positive"], seen["ignore"] = pair.positive, pair.ignore
            return super().__call__(pair)

    score(embedded, items, [("a", "a")], same_sample, Look())
    assert seen["ignore"].int().tolist() == torch.eye(4, dtype=torch.int).tolist()
    assert seen["positive"].int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_bf16_embeddings_are_scored_in_float32():
    embedded = {k: Embedded(e.z.detach().bfloat16(), e.rows) for k, e in drawn(FULL).items()}
    assert score(embedded, ITEMS, [("a", "b")], same_sample, Nce()).loss.dtype == torch.float32


def authors(z, tau):
    """MPUC-MER's code read from scratch (two windows v of N items; z[modality][v][i] of length 1), mean over ordered pairs.

    l(i, v) = -1/2 log( exp(s(i_v, i_other)/tau) / sum over (j, w) other than (i, v) of exp(s(i_v, j_w)/tau) )
    """
    names, n = list(z), len(next(iter(z.values()))[0])
    pairs = []
    for m, o in itertools.permutations(names, 2):
        terms = []
        for i in range(n):
            for v in (0, 1):
                sims = {
                    (j, w): math.fsum(a * b for a, b in zip(z[m][v][i], z[o][w][j], strict=True))
                    for j in range(n)
                    for w in (0, 1)
                }
                total = math.fsum(math.exp(s / tau) for key, s in sims.items() if key != (i, v))
                terms.append(-0.5 * math.log(math.exp(sims[i, 1 - v] / tau) / total))
        pairs.append(sum(terms) / len(terms))
    return sum(pairs) / len(pairs)


def test_the_preset_of_the_authors_code_is_their_formula():
    """preset mpuc-reference: cross-window positives, half the loss, two views."""
    offers = plugins()
    preset = {s.split("=", 1)[0]: s.split("=", 1)[1] for s in offers.get("preset", "mpuc-reference").spec.sets}
    assert preset["pretrain.views"] == "2"
    assert preset["pretrain.objective.positives"] == "cross-window"
    assert preset["pretrain.objective.loss"] == "{use: info-nce, temperature: 0.07, factor: 0.5}"
    spec = offers.get("loss", "info-nce").spec
    loss = spec.build(spec.params(temperature=0.07, factor=0.5))
    positives = offers.get("positives", "cross-window").spec
    embedded = drawn({name: list(range(10)) for name in "abc"}, seed=3)
    items = Items(torch.arange(5).repeat(2), torch.tensor([0] * 5 + [1] * 5))  # first all first windows, as training has them
    ours = score(embedded, items, list(itertools.combinations("abc", 2)), positives.build(positives.params()), loss).loss
    unit = {name: torch.nn.functional.normalize(e.z.detach(), dim=-1) for name, e in embedded.items()}
    theirs = authors({name: [z[:5].tolist(), z[5:].tolist()] for name, z in unit.items()}, 0.07)
    assert ours.item() == pytest.approx(theirs, abs=1e-10)


def test_equation_1_as_printed_is_preset_mpuc_eq1():
    """L_i = -log( exp(s_ii/tau) / sum over j other than i of exp(s_ij/tau) ), summed over i, mean over ordered pairs."""
    spec = plugins().get("loss", "info-nce").spec
    loss = spec.build(spec.params(temperature=0.07, denominator="negatives", reduction="sum"))
    embedded = drawn({name: list(range(6)) for name in "abc"}, seed=4)
    items = Items(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    ours = score(embedded, items, list(itertools.combinations("abc", 2)), same_sample, loss).loss
    unit = {name: torch.nn.functional.normalize(e.z.detach(), dim=-1).tolist() for name, e in embedded.items()}
    losses = []
    for m, n in itertools.permutations("abc", 2):
        s = [[math.fsum(a * b for a, b in zip(x, y, strict=True)) / 0.07 for y in unit[n]] for x in unit[m]]
        losses.append(sum(-(s[i][i] - math.log(math.fsum(math.exp(s[i][j]) for j in range(6) if j != i))) for i in range(6)))
    assert ours.item() == pytest.approx(sum(losses) / len(losses), abs=1e-10)


def test_positives_are_given_whose_rows_they_compare():
    asked = []

    def compare(left, right):
        asked.append((left.modality, right.modality))
        return same_sample(left, right)

    score(drawn(FULL), ITEMS, [("a", "b")], compare, Nce())
    assert set(asked) == {("a", "b")}


# --------------------------------------------------------------------------------------------------------------- weights


class Even:
    """The same from both sides, so that one direction stands for both."""

    symmetric, reduction = True, "whole"

    def __call__(self, pair: Pair) -> Scored:
        turned = Pair(pair.right, pair.left, pair.positive.T, pair.ignore.T, pair.similarity().T)
        one, other = Nce()(pair), Nce()(turned)
        return Scored((one.loss + other.loss) / 2, one.anchors, one.metrics)


TWO_VIEWS = Items(torch.tensor([0, 1, 2, 3] * 2), torch.tensor([0] * 4 + [1] * 4))


@pytest.mark.parametrize("kind", [Nce, Even])
@pytest.mark.parametrize("presence", [FULL, GAPS], ids=["complete", "with missing rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_are_the_plain_mean_to_the_bit(kind, presence, dtype):
    pairs = [*itertools.combinations(presence, 2), ("a", "a")]

    def graded(*weights):
        embedded = {
            name: Embedded(e.z.detach().to(dtype).requires_grad_(), e.rows) for name, e in drawn(presence, seed=5).items()
        }
        loss = score(embedded, TWO_VIEWS, pairs, same_sample, kind(), *weights).loss
        loss.backward()
        return loss.detach(), embedded

    (plain, without), (ones, given) = graded(), graded([1.0] * len(pairs))
    assert torch.equal(plain, ones)
    assert all(torch.equal(without[name].z.grad, given[name].z.grad) for name in presence)
    # The mean as it is without weights: the sum of both directions of every pair by their number. Halving and doubling are exact.
    alone = [score(without, TWO_VIEWS, [pair], same_sample, kind()).loss for pair in pairs]
    doubled = [2 * value.detach() for value in alone if value is not None]
    assert torch.equal(plain, torch.stack(doubled).sum() / (2 * len(doubled)))


@pytest.mark.parametrize("kind", [Nce, Even])
@pytest.mark.parametrize("presence", [FULL, GAPS], ids=["complete", "with missing rows"])
@pytest.mark.parametrize("small", [1 << 20, 1], ids=["whole", "in blocks"])
def test_weighted_pairs_are_a_weighted_mean(kind, presence, small):
    """Σ w · loss / Σ w, in float64 over plain lists, over the pairs that share two recordings; the gradient with it."""
    pairs, weights = [("a", "b"), ("a", "c"), ("b", "c")], [3.0, 0.5, 1.25]
    embedded = drawn(presence, seed=6)
    lists = as_lists(embedded)
    objective = score(embedded, ITEMS, pairs, same_sample, kind(), weights, small=small, block=12)
    used = [(p, w) for p, w in zip(pairs, weights, strict=True) if len(set(presence[p[0]]) & set(presence[p[1]])) >= 2]
    assert len(used) == (3 if presence is FULL else 2)
    total = math.fsum(w for _, w in used)
    assert objective.loss.item() == pytest.approx(math.fsum(w * brute(lists, [p]) for p, w in used) / total, abs=1e-12)
    for pair, _ in used:  # what is reported is each pair's own loss
        assert objective.pairs["~".join(pair)]["loss"].item() == pytest.approx(brute(lists, [pair]), abs=1e-12)
    objective.loss.backward()
    got = {name: e.z.grad.clone() for name, e in embedded.items()}
    for name in presence:
        for i, row in enumerate(presence[name][:2]):
            moved = {key: {k: list(v) for k, v in rows.items()} for key, rows in lists.items()}
            values = []
            for step in (1e-6, -1e-6):
                moved[name][row][0] = lists[name][row][0] + step
                values.append(math.fsum(w * brute(moved, [p]) for p, w in used) / total)
            assert float(got[name][i, 0]) == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-7)


def test_a_modality_with_itself_counts_in_both_directions_as_any_pair():
    embedded = drawn(FULL, seed=7)
    apart = [score(embedded, TWO_VIEWS, [pair], same_sample, Nce()).loss.item() for pair in (("a", "a"), ("a", "b"))]
    both = score(embedded, TWO_VIEWS, [("a", "a"), ("a", "b")], same_sample, Nce(), [3.0, 2.0]).loss.item()
    assert both == pytest.approx((3 * apart[0] + 2 * apart[1]) / 5, abs=1e-12)
