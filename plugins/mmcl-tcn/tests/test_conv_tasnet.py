"""Conv-TasNet's blocks: the authors' size, the formula of one block, how far a step sees, and padding."""

from __future__ import annotations

import functools

import mmcl_tcn.conv_tasnet
import pytest
import torch
from mmcl_tcn import CONV_TASNET, ConvTasnetParams
from mmcl_tcn.conv_tasnet import Block, GlobalNorm

from mmcl.api import Layout
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16


def make(channels=5, **options):
    torch.manual_seed(1)
    layout = Layout("spectrogram", ("time", "channel"), {"channel": channels}, 50.0)
    return CONV_TASNET.build(ConvTasnetParams(**{"dropout": 0.0, **options}), layout)


rows = functools.partial(make_rows, (5,))


def test_it_has_exactly_the_authors_number_of_weights():
    assert sum(p.numel() for p in make(128).parameters()) == 217_813


def slow_norm(norm: GlobalNorm, values):
    """values: a list of steps, each [C]."""
    joined = torch.cat(list(values))
    mean = joined.mean()
    variance = ((joined - mean) ** 2).mean()
    return [(step - mean) / (variance + 1e-8).sqrt() * norm.gain + norm.bias for step in values]


def test_a_block_is_its_formula():
    torch.manual_seed(0)
    block = Block(4, 6, 3, 2).double()
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x = torch.randn(1, 4, 7, dtype=torch.float64)
    got = block(x, torch.ones(1, 1, 7, dtype=torch.float64))

    def prelu(layer, step):
        return torch.where(step > 0, step, layer.weight * step)

    wide = [prelu(block.first, block.widen.weight[:, :, 0] @ x[0, :, t] + block.widen.bias) for t in range(7)]
    wide = slow_norm(block.norm, wide)
    along = []
    for t in range(7):
        total = block.along.bias.clone()
        for k in range(3):
            at = t + (k - 1) * 2
            if 0 <= at < 7:
                total = total + block.along.weight[:, 0, k] * wide[at]
        along.append(prelu(block.second, total))
    for t, step in enumerate(slow_norm(block.last_norm, along)):
        torch.testing.assert_close(got[0, :, t], block.narrow.weight[:, :, 0] @ step + block.narrow.bias)


def test_padding_and_other_rows_change_nothing():
    network = make().double()
    together = network(rows(9, 4, 1, pad=6)).vector
    for i, length in enumerate((9, 4, 1)):
        torch.testing.assert_close(together[i], network(row_of(rows(9, 4, 1), i, length)).vector[0])


def test_the_convolutions_reach_125_steps():
    """1 + 2·2·(1 + 2 + 4 + 8 + 16) steps, as the reference network; the norms see all, so they are taken out here."""
    network = make().double()
    for module in network.modules():
        if isinstance(module, GlobalNorm):
            module.forward = lambda values, real, first: values
    stream = rows(201)
    stream.values.requires_grad_()
    network(stream).sequence[0, 100].sum().backward()
    seen = (stream.values.grad.abs().sum(2)[0] > 0).nonzero().squeeze(1)
    assert (int(seen.min()), int(seen.max())) == (100 - 62, 100 + 62)


def everything_of(network, lengths, first, monkeypatch):
    """Vector, sequence and the gradients of the input and of all weights, with steps or channels first."""
    monkeypatch.setattr(mmcl_tcn.conv_tasnet, "on_processor", lambda values: first)
    stream = rows(*lengths, pad=3)
    stream.values.requires_grad_()
    torch.manual_seed(3)
    encoded = network(stream)
    weight = torch.linspace(-1, 2, encoded.sequence.numel(), dtype=torch.float64).view(encoded.sequence.shape)
    network.zero_grad()
    (encoded.vector.square().sum() + (weight * encoded.sequence).square().sum()).backward()
    return [encoded.vector, encoded.sequence, stream.values.grad, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize("lengths", [(9,), (9, 9), (12, 5, 1)])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kernel", [3, 5])
def test_with_steps_first_values_and_gradients_are_those_of_convolutions(lengths, dropout, kernel, monkeypatch):
    network = make(dropout=dropout, kernel=kernel).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ways = [everything_of(network, lengths, first, monkeypatch) for first in (True, False)]
    for ours, plain in zip(*ways, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first", [True, False])
def test_in_bf16_no_block_is_widened_to_float32(first, monkeypatch):
    monkeypatch.setattr(mmcl_tcn.conv_tasnet, "on_processor", lambda values: first)
    network, seen = make(), []
    for block in network.blocks:
        block.norm.register_forward_hook(lambda module, given, out: seen.append(given[0].dtype))
        block.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    stream = rows(12, 5)
    stream.values = stream.values.float()
    with torch.autocast("cpu", torch.bfloat16):
        network(stream)
    assert set(seen) == {torch.bfloat16}
    assert len(seen) == 2 * len(network.blocks)


def test_bfloat16_is_near_float32():
    expect_near_in_bfloat16(make(), rows(30, 12))
