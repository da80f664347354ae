"""Group losses against their papers' formulas, worked out number by number."""

from __future__ import annotations

import itertools
import math

import mmcl_groups
import pytest
import torch
from mmcl_groups.symile import mixtures

from mmcl.api import Group, StageError
from mmcl.testing import check_group_loss, make_group
from mmcl.testing.group import WIDTH

NAMES = ("words", "voice", "face")


def unit(vector) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def rows(side, name, i):
    return unit(side[name][i].tolist())


def dot(u, v) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def softmax_loss(scores: dict, positives) -> float:
    """−log of each positive's share, averaged."""
    total = sum(math.exp(s) for s in scores.values())
    return sum(-math.log(math.exp(scores[p]) / total) for p in positives) / len(positives)


def masks(group: Group, i: int):
    k = group.positive.shape[1]
    ignored = {j for j in range(k) if group.ignore[i, j]}
    positives = [j for j in range(k) if group.positive[i, j] and j not in ignored]
    return positives, [j for j in range(k) if j not in positives and j not in ignored], ignored


def symile_by_loops(negatives: str, temperature: float):
    def loss(group: Group) -> float:
        names, k = list(group.left), group.positive.shape[1]
        terms = []
        for i in range(len(group.positive)):
            positives, apart, ignored = masks(group, i)
            if not positives:
                continue
            for anchor in names:
                others = [n for n in names if n != anchor]

                def product(columns, anchor=anchor, others=others, i=i):
                    vectors = [
                        rows(group.left, anchor, i),
                        *(rows(group.right, n, j) for n, j in zip(others, columns, strict=True)),
                    ]
                    return sum(math.prod(values) for values in zip(*vectors, strict=True)) / temperature

                scores = {("own", j): product([j] * len(others)) for j in positives}
                if negatives == "aligned":
                    scores |= {("other", j): product([j] * len(others)) for j in apart}
                else:
                    columns = (
                        itertools.product(range(k), repeat=2)
                        if negatives == "all" and len(others) == 2
                        else zip(*(order.tolist() for order in mixtures(k, len(others))), strict=True)
                    )
                    for c, mixture in enumerate(columns):
                        if not ignored & set(mixture) and not set(mixture) <= set(positives):
                            scores["mixed", c] = product(mixture)
                terms.append(softmax_loss(scores, [("own", j) for j in positives]))
        return sum(terms) / len(terms)

    return loss


def det(matrix: list[list[float]]) -> float:
    """By permutations (Leibniz)."""
    n = len(matrix)
    total = 0.0
    for order in itertools.permutations(range(n)):
        sign = (-1) ** sum(order[a] > order[b] for a in range(n) for b in range(a + 1, n))
        total += sign * math.prod(matrix[r][order[r]] for r in range(n))
    return total


def volume(vectors) -> float:
    return math.sqrt(max(0.0, det([[dot(u, v) for v in vectors] for u in vectors])) + 1e-8)


def area(vectors) -> float:
    x, y, z = vectors
    u, v = ([a - b for a, b in zip(x, w, strict=True)] for w in (y, z))
    return math.sqrt(max(0.0, dot(u, u) * dot(v, v) - dot(u, v) ** 2) + 1e-8) / 2


def body_by_loops(size, temperature: float, anchor: str = "each"):
    def loss(group: Group) -> float:
        terms = []
        for name in group.left if anchor == "each" else [anchor]:
            others = [n for n in group.left if n != name]
            for i in range(len(group.positive)):
                positives, apart, _ = masks(group, i)
                if not positives:
                    continue
                for mine, theirs in (((name,), others), (others, (name,))):  # the anchor's own, those of every candidate
                    scores = {}
                    for j in positives + apart:
                        here = {n: rows(group.left, n, i) for n in mine} | {n: rows(group.right, n, j) for n in theirs}
                        scores[j] = -size([here[n] for n in (name, *others)]) / temperature
                    terms.append(softmax_loss(scores, positives))
        return sum(terms) / len(terms)

    return loss


@pytest.mark.parametrize("negatives", ["shuffled", "aligned", "all"])
@pytest.mark.parametrize("learned", [False, True])
def test_symile_is_the_papers_formula(negatives, learned):
    params = mmcl_groups.SymileParams(negatives=negatives, temperature=0.05, learn_temperature=learned)
    check_group_loss(mmcl_groups.SYMILE, params, symile_by_loops(negatives, 0.05), modalities=NAMES)


@pytest.mark.parametrize("names", [("a", "b"), NAMES, (*NAMES, "body"), (*NAMES, "body", "hand")])
@pytest.mark.parametrize("anchor", ["each", "first"])
def test_gram_is_the_papers_formula(names, anchor):
    anchor = names[0] if anchor == "first" else anchor
    params = mmcl_groups.AnchorParams(anchor=anchor, temperature=0.2)
    check_group_loss(mmcl_groups.GRAM, params, body_by_loops(volume, 0.2, anchor), modalities=names)


@pytest.mark.parametrize("anchor", ["each", "voice"])
def test_triangle_is_the_papers_formula(anchor):
    params = mmcl_groups.AnchorParams(anchor=anchor, temperature=0.2)
    check_group_loss(mmcl_groups.TRIANGLE, params, body_by_loops(area, 0.2, anchor), modalities=NAMES)


def test_a_recording_without_the_named_anchor_is_left_out():
    group = make_group(("voice", "face"))
    scored = mmcl_groups.GRAM.build(mmcl_groups.AnchorParams(anchor="words"), dict.fromkeys(NAMES, 5))(group)
    assert int(scored.anchors) == 0
    assert float(scored.loss) == 0.0


def comm_by_loops(comm, temperature: float):
    def loss(group: Group) -> float:
        candidates = comm.fuse(group.right).tolist()
        names = list(group.left)
        terms = []
        for i in range(len(group.positive)):
            positives, apart, _ = masks(group, i)
            (own,) = [j for j in range(group.positive.shape[1]) if group.itself[i, j]]
            elsewhere = [j for j in positives if j != own]
            if not elsewhere:
                continue

            def nce(vector, wanted, apart=apart):
                scores = {j: dot(vector, candidates[j]) / temperature for j in {*wanted, *apart}}
                return softmax_loss(scores, wanted)

            fused = comm.fuse({n: group.left[n][i : i + 1] for n in names})[0].tolist()
            total = nce(fused, elsewhere)
            for name in names:
                alone = comm.fuse({name: group.left[name][i : i + 1]})[0].tolist()
                total += (nce(alone, [own]) + nce(alone, elsewhere)) / 2
            terms.append(total)
        return sum(terms) / len(terms)

    return loss


def test_comm_is_the_papers_formula():
    params = mmcl_groups.CommParams(heads=1, width=6, temperature=0.3)
    torch.manual_seed(0)
    twin = mmcl_groups.COMM.build(params, dict.fromkeys(NAMES, WIDTH)).double()  # as the checks build it
    check_group_loss(mmcl_groups.COMM, params, comm_by_loops(twin, 0.3), modalities=NAMES)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(StageError, match="8 heads do not divide embeddings of 5 numbers"):
        mmcl_groups.COMM.build(mmcl_groups.CommParams(), {"a": 5})
