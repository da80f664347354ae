"""UniVA's encoder: additive attention by its formula, padding, and rows beyond the last position."""

from __future__ import annotations

import math

import pytest
import torch
from mmcl_transformer import UnivaParams
from mmcl_transformer.univa import AdditiveAttention, UnivaEncoder

from mmcl.api import Layout, Stream


def test_additive_attention_is_its_formula_and_never_sees_padding():
    torch.manual_seed(0)
    read = AdditiveAttention(5).double()
    hidden, steps = torch.randn(2, 4, 5, dtype=torch.float64), torch.tensor([[True] * 4, [True, True, False, False]])
    got = read(hidden, steps)
    for b, length in ((0, 4), (1, 2)):
        energy = [
            float(read.weigh.weight[0] @ (read.project.weight @ hidden[b, t] + read.project.bias).tanh()) for t in range(length)
        ]
        total = math.fsum(map(math.exp, energy))
        torch.testing.assert_close(got[b], sum(math.exp(e) / total * hidden[b, t] for t, e in enumerate(energy)))


@pytest.mark.parametrize("layers", [0, 2])
def test_padding_and_rows_beyond_the_last_position(layers):
    torch.manual_seed(0)
    params = UnivaParams(width=12, layers=layers, heads=3, feedforward=8, longest=4)
    network = UnivaEncoder(params, Layout("signal", ("time", "channel"), {"channel": 3}, 1.0)).double().eval()
    values = torch.randn(1, 7, 3, dtype=torch.float64)
    alone = network(Stream(values, torch.ones(1, 7, dtype=torch.bool), torch.ones(1, dtype=torch.bool))).vector
    padded = torch.cat([values, torch.zeros(1, 5, 3, dtype=torch.float64)], 1)
    steps = torch.arange(12)[None] < 7
    torch.testing.assert_close(network(Stream(padded, steps, torch.ones(1, dtype=torch.bool))).vector, alone)
    turned = network(Stream(values.flip(1), steps[:, :7], torch.ones(1, dtype=torch.bool))).vector
    assert (turned - alone).abs().max() > 1e-6 if layers else torch.allclose(turned, alone)
