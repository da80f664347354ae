"""What the fully connected backbone must be: its formula, on a vector or on the statistics of the real steps."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from mmcl_mlp import MLP, MlpParams
from mmcl_mlp.network import Mlp

from mmcl.api import Layout, Stream
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, idle_parameters

CHANNELS = 3


def make(timed: bool = True, **options: object) -> Mlp:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    axes = ("time", "channel") if timed else ("channel",)
    layout = Layout("any", axes, {"channel": CHANNELS}, 10.0 if timed else None)
    params = MlpParams.model_validate({"hidden": (6, 4), "width": 5, "dropout": 0.0, **options})
    return MLP.build(params, layout).double()


rows = functools.partial(make_rows, (CHANNELS,))


def vectors(count: int) -> Stream:
    """Rows of a kind without time."""
    values = torch.randn(count, CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return Stream(values, torch.ones(count, 1, dtype=torch.bool), torch.ones(count, dtype=torch.bool))


def test_a_vector_goes_through_the_layers_of_the_formula() -> None:
    network, stream = make(timed=False), vectors(4)
    linears = [m for m in network.layers if isinstance(m, torch.nn.Linear)]
    x = stream.values.numpy()
    for layer in linears[:-1]:
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)  # the gain is 1 and the shift 0 at first
        x = np.maximum(x, 0)
    x = x @ linears[-1].weight.detach().numpy().T + linears[-1].bias.detach().numpy()
    np.testing.assert_allclose(network.forward(stream).vector.detach().numpy(), x, rtol=0, atol=1e-12)


def test_a_stream_over_time_enters_as_mean_and_deviation_of_its_real_steps() -> None:
    network, stream = make(hidden=()), rows(8, 1, 3, pad=4)
    layer = network.layers[0]
    got = network.forward(stream).vector
    for row, length in enumerate((8, 1, 3)):
        real = stream.values[row, :length].numpy()
        pooled = torch.tensor(np.concatenate([real.mean(0), np.sqrt(real.var(0) + 1e-6)]))
        torch.testing.assert_close(got[row], layer(pooled), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_padding_never_changes_the_vector(norm: str) -> None:
    for training in (True, False):
        network = make(norm=norm).train(training)
        few, many = network.forward(rows(8, 1, 3)).vector, network.forward(rows(8, 1, 3, pad=9)).vector
        torch.testing.assert_close(few, many, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_rows_do_not_see_each_other_once_trained(norm: str) -> None:
    network, stream = make(norm=norm, timed=False), vectors(6)
    network.forward(stream)  # moves the running statistics
    network.eval()
    alone = torch.cat([network.forward(row_of(stream, i)).vector for i in range(6)])
    torch.testing.assert_close(network.forward(stream).vector, alone, rtol=0, atol=1e-12)


def test_batch_norm_in_training_uses_the_rows_of_the_batch() -> None:
    network, stream = make(norm="batch", hidden=(6,), timed=False), vectors(6)
    first, norm, last = network.layers[0], network.layers[1], network.layers[-1]
    inner = first(stream.values)
    normal = (inner - inner.mean(0)) / (inner.var(0, unbiased=False) + norm.eps).sqrt()
    torch.testing.assert_close(network.forward(stream).vector, last(normal.relu()), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_mean, 0.1 * inner.mean(0))


def test_a_batch_of_one_row_is_normalised_as_in_evaluation() -> None:
    network = make(norm="batch", timed=False)
    for _ in range(5):
        network.forward(vectors(6))
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    one = network.train().forward(vectors(1)).vector
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(one, network.eval().forward(vectors(1)).vector, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("timed", [True, False])
def test_every_parameter_gets_a_gradient(norm: str, timed: bool) -> None:
    network = make(norm=norm, timed=timed)
    vector = network.forward(rows(8, 1, 3, 5) if timed else vectors(4)).vector
    assert idle_parameters(network, vector, least=1e-9) == []


@pytest.mark.parametrize("timed", [True, False])
def test_skip_puts_the_input_before_the_output(timed: bool) -> None:
    stream = rows(8, 1, 3) if timed else vectors(4)
    with_skip, without = make(timed=timed, skip=True), make(timed=timed)
    vector, output = with_skip.forward(stream).vector, without.forward(stream).vector
    inner = CHANNELS * (2 if timed else 1)
    assert with_skip.width == vector.shape[1] == inner + without.width
    torch.testing.assert_close(vector[:, inner:], output, rtol=0, atol=0)
    real = [stream.values[i][stream.steps[i]] for i in range(len(stream.steps))] if timed else stream.values
    for i, row in enumerate(real):
        expected = torch.cat([row.mean(0), (row.var(0, correction=0) + 1e-6).sqrt()]) if timed else row
        torch.testing.assert_close(vector[i, :inner], expected, rtol=0, atol=1e-12)


def test_skip_left_out_changes_no_fingerprint() -> None:
    assert "skip" not in MlpParams().stated()
    assert MlpParams(skip=True).stated()["skip"] is True


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(), rows(30, 12))
