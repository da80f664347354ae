"""What gated recurrent units must be: the formula, step by step, over real steps alone, in each direction."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from mmcl_gru import GRU, GruParams
from mmcl_gru.network import Gru
from torch import Tensor

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, idle_parameters

SHAPES = {"signal": (3,), "skeleton": (4, 3)}
AXES = {"signal": ("time", "channel"), "skeleton": ("time", "joint", "channel")}
LENGTHS = (9, 1, 5)
CHOICES = list(itertools.product(SHAPES, ("both", "forward"), ("mean", "last"), (None, 6)))


def layout_of(kind: str, shape: tuple[int, ...] | None = None) -> Layout:
    return Layout(kind, AXES[kind], dict(zip(AXES[kind][1:], shape or SHAPES[kind], strict=True)), 25.0)


def make(kind: str = "signal", **options: object) -> Gru:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    params = GruParams.model_validate({"units": 4, "layers": 2, "dropout": 0.0, **options})
    GRU.fits(params, layout_of(kind))
    return GRU.build(params, layout_of(kind)).double()


def rows(kind: str, *lengths: int, pad: int = 0) -> Stream:
    return make_rows(SHAPES[kind], *lengths, pad=pad)


def slow_layer(network: Gru, layer: int, values: list[Tensor], backward: bool) -> list[Tensor]:
    """One layer in one direction, in the order of its input: Cho et al.'s gates, the reset gate behind the product as in cuDNN."""
    ending = f"l{layer}{'_reverse' if backward else ''}"
    weights = [getattr(network.gru, f"{sort}_{ending}").chunk(3) for sort in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state, states = torch.zeros(4, dtype=torch.float64), []
    for value in reversed(values) if backward else values:
        seen = [w @ value + b for w, b in zip(weights[0], weights[2], strict=True)]
        kept = [w @ state + b for w, b in zip(weights[1], weights[3], strict=True)]
        reset, update = ((seen[i] + kept[i]).sigmoid() for i in range(2))
        state = update * state + (1 - update) * (seen[2] + reset * kept[2]).tanh()
        states.append(state)
    return states[::-1] if backward else states


@pytest.mark.parametrize(("kind", "directions"), list(itertools.product(SHAPES, ("both", "forward"))))
def test_states_are_the_formula_computed_step_by_step(kind: str, directions: str) -> None:
    network, stream = make(kind, directions=directions), rows(kind, *LENGTHS, pad=3)
    encoded = network.forward(stream)
    final = make(kind, directions=directions, readout="last").forward(stream)
    for row, length in enumerate(LENGTHS):
        hidden = [step.flatten() for step in stream.values[row, :length]]
        for layer in range(2):
            forward = slow_layer(network, layer, hidden, backward=False)
            backward = slow_layer(network, layer, hidden, backward=True) if directions == "both" else [torch.empty(0)] * length
            hidden = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
        torch.testing.assert_close(encoded.sequence[row, :length], torch.stack(hidden), rtol=0, atol=1e-12)
        torch.testing.assert_close(encoded.vector[row], torch.stack(hidden).mean(0), rtol=0, atol=1e-12)
        # the last of each direction: one has read the whole row after its last step, the other after its first
        torch.testing.assert_close(final.vector[row], torch.cat([forward[-1], backward[0]]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "directions", "readout", "width"), CHOICES)
def test_padding_and_neighbours_never_change_a_row(kind: str, directions: str, readout: str, width: int | None) -> None:
    network = make(kind, directions=directions, readout=readout, width=width)
    together = network.forward(rows(kind, *LENGTHS, pad=5))
    assert together.vector.shape == (3, network.width)
    for row, length in enumerate(LENGTHS):
        alone = network.forward(row_of(rows(kind, *LENGTHS), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.sequence[row, :length], alone.sequence[0], rtol=0, atol=1e-12)
        assert not together.sequence[row, length:].any()


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_what_stands_behind_the_mask_is_never_read(readout: str) -> None:
    clean, spoilt = rows("signal", *LENGTHS, pad=5), rows("signal", *LENGTHS, pad=5)
    spoilt.values[~spoilt.steps] = float("nan")
    network = make(readout=readout, layers=2)
    assert torch.equal(network.forward(spoilt).vector, network.forward(clean).vector)


def test_one_direction_never_looks_ahead_and_both_do() -> None:
    for directions, first in (("forward", 7), ("both", 0)):
        stream, network = rows("signal", 12), make(directions=directions)
        before = network.forward(stream).sequence
        stream.values[0, 7] += 1.0
        changed = (network.forward(stream).sequence - before).abs().amax(2)[0] > 0
        assert changed.tolist() == [t >= first for t in range(12)]


def test_parts_are_means_of_equal_stretches_of_the_real_steps() -> None:
    network = make(parts=3)
    encoded = network.forward(rows("signal", 11, 2, pad=3))
    for row, length in enumerate((11, 2)):
        groups = [[k for k in range(length) if k * 3 // length == part] for part in range(3)]
        wanted = [
            encoded.sequence[row, group, :8].mean(0) if group else torch.zeros(8, dtype=torch.float64) for group in groups
        ]
        torch.testing.assert_close(encoded.vector[row], torch.cat(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "directions", "readout", "width"), CHOICES)
def test_every_parameter_gets_a_gradient(kind: str, directions: str, readout: str, width: int | None) -> None:
    network = make(kind, directions=directions, readout=readout, width=width)
    assert idle_parameters(network, network.forward(rows(kind, *LENGTHS)).vector) == []


@pytest.mark.parametrize(("layers", "readout"), list(itertools.product((1, 2), ("mean", "last"))))
@pytest.mark.filterwarnings("error")
def test_dropout_falls_on_what_is_read_out_and_only_while_training(layers: int, readout: str) -> None:
    network, stream = make(dropout=0.5, layers=layers, readout=readout).train(), rows("signal", 9)
    assert not torch.equal(network.forward(stream).vector, network.forward(stream).vector)
    assert network.gru.dropout == (0.5 if layers == 2 else 0.0)
    assert torch.equal(network.eval().forward(stream).vector, network.forward(stream).vector)


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_bfloat16_is_near_float32(readout: str) -> None:
    expect_near_in_bfloat16(make(readout=readout), rows("signal", 30, 12))


@pytest.mark.parametrize("options", [{"layers": 3}, {"parts": 4}, {"width": 7, "readout": "last"}], ids=str)
def test_options_that_are_no_choice_among_words_keep_the_contract_too(options: dict[str, object]) -> None:
    check_backbone(GRU, GruParams.model_validate({"units": 8, **options}))


def test_parts_of_a_single_state_are_refused() -> None:
    with pytest.raises(ValueError, match="readout: last reads one state"):
        make(parts=2, readout="last")


def test_it_has_as_many_weights_as_its_description_says() -> None:
    built = [GRU.build(GruParams(), layout_of(kind, shape)) for kind, shape in (("signal", (6,)), ("skeleton", (20, 3)))]
    assert re.findall(r"\d+,\d+", GRU.follows) == [f"{sum(p.numel() for p in network.parameters()):,}" for network in built]
