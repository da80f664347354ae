"""Positives that weigh, and the losses of pairs: whole and in blocks the same, and refused where a loss reads no weights."""

from __future__ import annotations

import json

import pytest
import torch

from mmcl.api import Items, Pair, RecipeError
from mmcl.model.contrast import build_contrast
from mmcl.objective.score import Embedded, score
from mmcl.plugins import plugins

LOSSES = ["siglip", "dcl", "triplet", "vicreg", "barlow-twins", "cosine", "sup-con"]
N = 9


def drawn(seed=0):
    """Two modalities of nine rows, of which each lacks one."""
    rng = torch.Generator().manual_seed(seed)
    rows = {"audio": [0, 1, 2, 3, 4, 5, 6, 7], "text": [1, 2, 3, 4, 5, 6, 7, 8]}
    z = {name: torch.randn(len(kept), 5, generator=rng, dtype=torch.float64, requires_grad=True) for name, kept in rows.items()}
    items = Items(torch.arange(N), torch.zeros(N, dtype=torch.int64), {}, group=torch.arange(N) // 3)
    return {name: Embedded(z[name], torch.tensor(rows[name])) for name in rows}, items


def weights(left, right):
    """By how near two recordings' numbers are, nothing beyond three."""
    apart = (left.row[:, None] - right.row[None, :]).abs()
    return (1 - apart / 3).clamp_min(0).double(), torch.zeros_like(apart, dtype=torch.bool)


def same(left, right):
    mine = left.row[:, None] == right.row[None, :]
    return mine, torch.zeros_like(mine)


def value_and_gradients(loss, rule, soft=False, **sizes):
    embedded, items = drawn()
    value = score(embedded, items, [("audio", "text")], rule, loss, soft=soft, **sizes).loss
    assert value is not None
    return value.detach(), *torch.autograd.grad(value, [one.z for one in embedded.values()])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("soft", [False, True])
def test_a_pair_scored_in_blocks_is_the_pair_scored_whole(name, soft):
    spec = plugins().get("loss", name).spec
    if soft and not spec.soft:
        pytest.skip(f"{name} reads no weights")
    loss = spec.build(spec.params())
    loss = loss.double() if isinstance(loss, torch.nn.Module) else loss
    rule = weights if soft else same
    whole = value_and_gradients(loss, rule, soft)
    for sizes in ({"small": 0, "block": 16}, {"small": 0, "block": 16, "held": 0}):
        for one, other in zip(whole, value_and_gradients(loss, rule, soft, **sizes), strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["siglip", "sup-con"])
def test_both_directions_of_a_weighed_pair_are_what_the_loss_gives_of_each(name):
    spec = plugins().get("loss", name).spec
    loss = spec.build(spec.params())
    loss = loss.double() if isinstance(loss, torch.nn.Module) else loss
    embedded, _ = drawn()
    left, right = embedded["audio"].z[1:].detach(), embedded["text"].z[:-1].detach()
    rows = torch.arange(1, 8)
    weight = (1 - (rows[:, None] - rows[None, :]).abs() / 3).clamp_min(0).double()
    none = torch.zeros(7, 7, dtype=torch.bool)
    values = [loss(Pair(*sides, weight > 0, none, weight=weight)).loss.detach() for sides in ((left, right), (right, left))]
    (value, *_) = value_and_gradients(loss, weights, soft=True)
    assert float(value) == pytest.approx(float(sum(values)) / 2, abs=1e-10)
    plain = value_and_gradients(loss, lambda a, b: (weights(a, b)[0] > 0, weights(a, b)[1]))[0]
    assert abs(float(plain) - float(value)) > 1e-3


def test_a_modality_against_itself_never_weighs_its_own_row():
    spec = plugins().get("loss", "sup-con").spec
    embedded, items = drawn()
    seen = []

    def loss(pair):
        seen.append(pair)
        return spec.build(spec.params())(pair)

    loss.reduction, loss.symmetric = "mean", False
    score(embedded, items, [("audio", "audio")], weights, loss, soft=True)
    assert (seen[0].weight.diagonal() == 0).all()
    assert seen[0].ignore.diagonal().all()
    assert float(seen[0].weight[0, 1]) == pytest.approx(2 / 3)


def test_a_rule_that_weighs_needs_a_loss_that_reads_weights(tiny_plan):
    rule = "pretrain.objective.positives={use: valence-arousal-weights, target: va}"
    with pytest.raises(RecipeError) as error:
        tiny_plan(rule)
    assert "'info-nce' reads no weights, and 'valence-arousal-weights' weighs positives; losses that do are " in str(
        error.value
    )
    assert "siglip" in str(error.value)


def test_a_rule_that_weighs_is_described_with_a_loss_that_reads_weights(capsys):

    from mmcl.cli import main
    from mmcl.recipe.read import parse_recipe

    with pytest.raises(SystemExit):
        main(["describe", "positives", "shared-labels", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert "sup-con" in facts["weighs"]
    assert parse_recipe(facts["example"], "example").values["pretrain"]["objective"]["loss"] in ("siglip", "sup-con")


def test_a_plans_contrast_knows_that_positives_weigh(tiny_plan, monkeypatch):
    plan = tiny_plan("pretrain.objective.loss=siglip", "pretrain.objective.positives={use: shared-labels}")
    contrast = build_contrast(plan, [])
    assert contrast.soft
    _, items = drawn()
    labels = (torch.rand(N, 3, generator=torch.Generator().manual_seed(2)) > 0.5).double()
    items = Items(items.row, items.view, {"emotion": labels})
    one = contrast.positives(items, items)[0]
    both, either = (labels[0] * labels[1]).sum(), ((labels[0] + labels[1]) > 0).sum()
    assert float(one[0, 1]) == pytest.approx(float(both / either))
