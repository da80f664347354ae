"""The class token: it stands before the steps, and looks at all of them."""

from __future__ import annotations

import functools

import mmcl_transformer
import torch
from mmcl_transformer import ClsParams
from mmcl_transformer.cls import ClsTransformer

from mmcl.api import Layout
from mmcl.testing import check_plugin
from mmcl.testing.batch import make_rows


def test_the_toolkits_own_checks_pass(tmp_path):
    results = check_plugin(mmcl_transformer, tmp_path)
    assert {r.name for r in results} >= {"backbone cls-transformer", "backbone univa-encoder"}
    assert [(r.name, r.check, r.message) for r in results if r.passed is not True] == []


stream = functools.partial(make_rows, (6,))


def network(**options):
    torch.manual_seed(0)
    params = ClsParams(**{"heads": 2, "feedforward": 8, "dropout": 0.0, **options})
    return ClsTransformer(params, Layout("signal", ("time", "channel"), {"channel": 6}, 1.0)).double().eval()


def test_the_vector_is_the_class_token_before_all_steps():
    transformer = network()
    got = transformer(stream(5, 3, pad=2))
    assert got.sequence.shape == (2, 8, 6)
    assert got.steps.tolist() == [[True] * 6 + [False] * 2, [True] * 4 + [False] * 4]
    torch.testing.assert_close(got.vector, got.sequence[:, 0])
    changed = stream(5, 3, pad=2)
    changed.values[0, 4, 0] += 1
    assert (transformer(changed).vector[0] - got.vector[0]).abs().max() > 1e-6  # it has looked at the last step
    torch.testing.assert_close(transformer(changed).vector[1], got.vector[1])


def test_the_first_step_can_be_the_class_token_and_nothing_is_changed_without_layers():
    transformer, given = network(layers=0, cls="first"), stream(5, 3)
    got = transformer(given)
    torch.testing.assert_close(got.vector, given.values[:, 0])
    torch.testing.assert_close(got.sequence, given.values)
