"""SSE-FT's fusion against its equation, step by step."""

from __future__ import annotations

import math

import mmcl_sseft
import pytest
import torch
from mmcl_sseft import ImaParams
from mmcl_sseft.fusion import CrossLayer, ImaFusion

from mmcl.api import DataError, Encoded, Task
from mmcl.testing import check_plugin


def test_the_toolkits_own_checks_pass(tmp_path):
    results = check_plugin(mmcl_sseft, tmp_path)
    assert {r.name for r in results} >= {"head ima-fusion"}
    assert [(r.name, r.check, r.message) for r in results if r.passed is False] == []
    assert {r.name for r in results if r.passed is None} == set()


# ---------------------------------------------------------------------------------------------------------------- fusion

WIDTHS = {"text": 8, "audio": 4, "video": 4}


def head(widths=WIDTHS, kind="regression", **options):
    torch.manual_seed(0)
    task = Task("t", kind, () if kind == "regression" else ("a", "b"))
    return ImaFusion(ImaParams(**{"heads": 2, "feedforward": 6, "dropout": 0.0, **options}), task, widths).double().eval()


def encoded(widths=WIDTHS, rows=3):
    generator = torch.Generator().manual_seed(1)
    encodings = {}
    for i, (name, width) in enumerate(widths.items()):
        steps = torch.arange(5) < torch.tensor([5, 3 - i % 2, 2])[:rows, None]
        sequence = torch.randn(rows, 5, width, dtype=torch.float64, generator=generator) * steps[..., None]
        encodings[name] = Encoded(sequence[:, 0], sequence, steps, torch.ones(rows, dtype=torch.bool))
    return encodings


def normed(layer, x):
    return (x - x.mean()) / (x.var(correction=0) + layer.eps).sqrt() * layer.weight + layer.bias


def slow_layer(layer: CrossLayer, token, keys):
    """One row: multi-head attention of one query over real steps, written out."""
    size = len(token) // layer.heads
    q, mixed = layer.query(token), []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        energy = [float(q[part] @ layer.key(k)[part]) / math.sqrt(size) for k in keys]
        total = math.fsum(map(math.exp, energy))
        mixed.append(sum(math.exp(e) / total * layer.value(k)[part] for e, k in zip(energy, keys, strict=True)))
    x = normed(layer.first, token + layer.join(torch.cat(mixed)))
    wide = layer.widen(x)
    return normed(layer.second, x + layer.narrow(0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))))


@pytest.mark.parametrize("fusion", ["hadamard", "concat", "none"])
def test_the_fusion_is_its_equation(fusion):
    ima, given = head(fusion=fusion), encoded()
    got = ima(given)
    for row in range(3):
        parts = []
        for core in WIDTHS:
            views = []
            for other in WIDTHS:
                if other == core or fusion == "none":
                    continue
                token = given[core].vector[row]
                keys = given[other].sequence[row][given[other].steps[row]]
                for layer in ima.stacks[f"{core}>{other}"]:
                    token = slow_layer(layer, token, keys)
                views.append(token)
            if fusion == "none":
                views = [given[core].vector[row]]
            elif fusion == "hadamard":
                views = [views[0] * views[1]]
            parts += views
        joined = torch.cat(parts)
        assert len(joined) == (32 if fusion == "concat" else 16)
        torch.testing.assert_close(got[row], ima.out(ima.mix(joined).tanh()), rtol=1e-9, atol=1e-9)


def test_a_missing_modality_is_no_core_and_changes_no_product():
    ima, given = head(), encoded()
    given["video"].present = torch.tensor([True, False, True])
    given["video"].vector[1], given["video"].sequence[1], given["video"].steps[1] = 0, 0, False
    views = ima.views(given, "text")[0]
    token = given["text"].vector[1]
    keys = given["audio"].sequence[1][given["audio"].steps[1]]
    for layer in ima.stacks["text>audio"]:
        token = slow_layer(layer, token, keys)
    torch.testing.assert_close(views[1], token)
    output = ima(given)
    assert output.isfinite().all()
    whole = ima(encoded())
    torch.testing.assert_close(output[[0, 2]], whole[[0, 2]])
    for name in ("audio", "video"):  # text alone is left
        given[name].present = torch.tensor([True, False, True])
    torch.testing.assert_close(ima.views(given, "text")[0][1], given["text"].vector[1])


def test_one_modality_alone_is_its_class_token_and_two_are_two_views():
    alone = head({"text": 8})
    given = {"text": encoded()["text"]}
    torch.testing.assert_close(alone(given), alone.out(alone.mix(given["text"].vector).tanh()))
    assert head({"text": 8, "audio": 4}).mix.in_features == 12


def test_sequences_of_another_width_are_refused():
    given = encoded()
    given["audio"].sequence = given["audio"].sequence[..., :3]
    with pytest.raises(DataError, match="'audio' has steps of 3 and a vector of 4 numbers"):
        head()(given)
    assert head(heads=6).stacks["text>audio"][0].heads == 2  # of 6 heads and a width of 8


def test_losses_are_absolute_error_cross_entropy_and_binary_cross_entropy():
    output, target = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([[0.0], [float("nan")], [2.0]])
    assert head().loss(output, target).item() == pytest.approx((1 + 3) / 2)
    assert head(regression="mse").loss(output, target).item() == pytest.approx((1 + 9) / 2)
    logits = torch.tensor([[0.3, -0.2]])
    single = head(kind="single-label").loss(logits, torch.tensor([1])).item()
    assert single == pytest.approx(-math.log(math.exp(-0.2) / (math.exp(0.3) + math.exp(-0.2))))
    several = head(kind="multi-label").loss(logits, torch.tensor([[1.0, float("nan")]])).item()
    assert several == pytest.approx(math.log(1 + math.exp(-0.3)))
