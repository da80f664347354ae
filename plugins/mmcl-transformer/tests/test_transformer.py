"""What the transformer must be: PyTorch's own encoder layer on the real steps, with positions along time."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from mmcl_transformer import TRANSFORMER, TransformerParams
from mmcl_transformer import network as module
from mmcl_transformer.network import Transformer, positions
from torch import Tensor, nn

from mmcl.api import Layout, Stream
from mmcl.testing.batch import make_rows
from mmcl.testing.networks import expect_near_in_bfloat16

CHANNELS = 6
LAYOUT = Layout("words", ("time", "channel"), {"channel": CHANNELS})


def make(**options: object) -> Transformer:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    params = TransformerParams.model_validate({"layers": 2, "heads": 2, "feedforward": 9, "dropout": 0.0, **options})
    TRANSFORMER.fits(params, LAYOUT)
    network = TRANSFORMER.build(params, LAYOUT).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases and gains that say something
    return network


rows = functools.partial(make_rows, (CHANNELS,))


def theirs(network: Transformer, activation: str) -> list[nn.TransformerEncoderLayer]:
    """PyTorch's encoder layers with the same weights."""
    layers = []
    for ours in network.layers:
        layer = nn.TransformerEncoderLayer(
            network.width, ours.heads, ours.widen.out_features, 0.0, activation, batch_first=True, norm_first=ours.pre
        ).double()
        pairs = [
            (layer.self_attn.in_proj_weight, ours.attend.weight),
            (layer.self_attn.in_proj_bias, ours.attend.bias),
            (layer.self_attn.out_proj, ours.join),
            (layer.linear1, ours.widen),
            (layer.linear2, ours.narrow),
            (layer.norm1, ours.first),
            (layer.norm2, ours.second),
        ]
        with torch.no_grad():
            for to, source in pairs:
                if isinstance(to, nn.Module):
                    to.load_state_dict(source.state_dict())
                else:
                    to.copy_(source)
        layers.append(layer)
    return layers


@pytest.mark.parametrize(("norm", "activation", "width"), list(itertools.product(("post", "pre"), ("relu", "gelu"), (None, 8))))
def test_layers_equal_pytorchs_own_on_every_row_alone(norm: str, activation: str, width: int | None) -> None:
    network = make(norm=norm, activation=activation, width=width)
    stream = rows(7, 1, 4, pad=3)
    encoded = network.forward(stream)
    for row, length in enumerate((7, 1, 4)):
        hidden = network.enter(stream.values[row : row + 1, :length])
        hidden = hidden + positions(length, network.width, hidden)
        for layer in theirs(network, activation):
            hidden = layer(hidden)
        hidden = network.leave(hidden)
        torch.testing.assert_close(encoded.sequence[row, :length], hidden[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(encoded.vector[row], hidden[0].mean(0), rtol=0, atol=1e-10)
        assert not encoded.sequence[row, length:].any()


@pytest.mark.parametrize("width", [6, 7])
def test_positions_are_the_formula(width: int) -> None:
    table = positions(40, width, torch.zeros(0, dtype=torch.float64))
    for t, i in itertools.product((0, 1, 17, 39), range(width)):
        angle = t / 10_000 ** ((i - i % 2) / width)
        assert float(table[t, i]) == pytest.approx(math.sin(angle) if i % 2 == 0 else math.cos(angle), abs=1e-12)


def test_the_order_of_steps_matters_and_only_through_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    network, stream = make(), rows(7)
    turned = Stream(stream.values.flip(1), stream.steps, stream.present)

    def gap() -> float:
        return float((network.forward(stream).vector - network.forward(turned).vector).detach().abs().max())

    assert gap() > 1e-3

    def nowhere(steps: int, width: int, like: Tensor) -> Tensor:
        return like.new_zeros(steps, width)

    monkeypatch.setattr(module, "positions", nowhere)
    assert gap() < 1e-12


def test_a_row_is_the_same_in_every_place_of_a_batch() -> None:
    stream = rows(5, 5, 5)
    stream.values[2] = stream.values[0]
    vector = make().forward(stream).vector
    torch.testing.assert_close(vector[2], vector[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "training"), list(itertools.product(("post", "pre"), (True, False))))
def test_padding_never_changes_the_vector(norm: str, training: bool) -> None:
    network = make(norm=norm).train(training)
    few, many = network.forward(rows(7, 1, 4)), network.forward(rows(7, 1, 4, pad=9))
    torch.testing.assert_close(few.vector, many.vector, rtol=0, atol=1e-12)
    torch.testing.assert_close(few.sequence, many.sequence[:, :7], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "width"), list(itertools.product(("post", "pre"), (None, 8))))
def test_every_parameter_gets_a_gradient(norm: str, width: int | None) -> None:
    network = make(norm=norm, width=width)
    vector = network.forward(rows(7, 1, 4)).vector
    (vector * torch.randn(vector.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_only_while_training() -> None:
    network, stream = make(dropout=0.5), rows(7, 4)
    assert not torch.equal(network.forward(stream).vector, network.forward(stream).vector)
    network.eval()
    assert torch.equal(network.forward(stream).vector, network.forward(stream).vector)


def test_layers_begin_with_weights_of_their_own() -> None:
    torch.manual_seed(0)
    network = TRANSFORMER.build(TransformerParams(layers=2, heads=2, feedforward=9), LAYOUT)
    for first, second in zip(network.layers[0].parameters(), network.layers[1].parameters(), strict=True):
        assert first.dim() == 1 or not torch.equal(first, second)


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(width=8), rows(30, 12))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"heads": 4}, r"heads: 4 does not divide the width 6 \(the number of channels\)"),
        ({"heads": 3, "width": 8}, "heads: 3 does not divide the width 8"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_defaults_are_the_text_network_of_mpuc_mer() -> None:
    layout = Layout("words", ("time", "channel"), {"channel": 300})
    TRANSFORMER.fits(TransformerParams(), layout)
    with torch.device("meta"):
        network = TRANSFORMER.build(TransformerParams(), layout)
        layer = nn.TransformerEncoderLayer(300, 5, batch_first=True)  # PyTorch's default feed-forward width, as their code
    assert sum(p.numel() for p in network.parameters()) == 6 * sum(p.numel() for p in layer.parameters())


def test_the_authors_transformer_gives_every_step_the_position_of_its_row():
    from mmcl_transformer import BATCH_POSITIONS, BatchPositionsParams
    from mmcl_transformer.network import positions

    layout = Layout("word-vectors", ("time", "channel"), {"channel": 10})
    options = {"layers": 1, "heads": 2, "feedforward": 8, "dropout": 0.0}
    torch.manual_seed(0)
    theirs = BATCH_POSITIONS.build(BatchPositionsParams(**options, output=6), layout).double().eval()
    values = torch.randn(1, 5, 10, dtype=torch.float64).repeat(3, 1, 1)
    stream = Stream(values, torch.ones(3, 5, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    vectors = theirs(stream).vector
    assert vectors.shape == (3, 6)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-4  # one recording, two places in the batch
    turned = Stream(values.flip(1), stream.steps, stream.present)
    torch.testing.assert_close(theirs(turned).vector, vectors)  # the order of steps is lost
    torch.manual_seed(0)
    plain = TRANSFORMER.build(TransformerParams(**options, output=6, positions="none"), layout).double().eval()
    shifted = values + positions(3, 10, values)[:, None]
    torch.testing.assert_close(plain(Stream(shifted, stream.steps, stream.present)).vector, vectors)
    assert "batch" in BATCH_POSITIONS.departs


def test_without_positions_order_is_lost_and_with_them_it_is_not():
    layout = Layout("word-vectors", ("time", "channel"), {"channel": 10})
    values = torch.randn(2, 5, 10, dtype=torch.float64)
    steps, present = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    for which, same in (("none", True), ("steps", False)):
        torch.manual_seed(0)
        params = TransformerParams(layers=1, heads=2, feedforward=8, dropout=0.0, positions=which)
        network = TRANSFORMER.build(params, layout).double().eval()
        apart = (
            (network(Stream(values, steps, present)).vector - network(Stream(values.flip(1), steps, present)).vector)
            .abs()
            .max()
        )
        assert (apart < 1e-10) == same
