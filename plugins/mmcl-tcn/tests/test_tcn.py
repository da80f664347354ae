"""What a temporal convolutional network must be: causal if it says so, blind to padding, the formula of Bai et al. 2018."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import mmcl_tcn.network
import pytest
import torch
from mmcl_tcn import TCN, TcnParams
from mmcl_tcn.network import Tcn
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmcl.api import Layout
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, expect_read_out_in_parts, idle_parameters

CHANNELS = 3


def make(**options: object) -> Tcn:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    layout = Layout("spectrogram", ("time", "channel"), {"channel": CHANNELS}, 50.0)
    params = TcnParams.model_validate({"channels": (4, 4, 6), "dropout": 0.0, **options})
    TCN.fits(params, layout)
    return TCN.build(params, layout).double()


rows = functools.partial(make_rows, (CHANNELS,))


def test_a_later_step_never_changes_an_earlier_output_of_a_causal_network() -> None:
    stream = rows(12)
    before = make().forward(stream).sequence
    stream.values[0, 7] += 1.0
    after = make().forward(stream).sequence
    changed = (before - after).abs().amax(2)[0] > 0
    assert not changed[:7].any()
    assert changed[7]


def test_a_network_that_is_not_causal_sees_both_sides() -> None:
    stream = rows(12)
    before = make(causal=False).forward(stream).sequence
    stream.values[0, 7] += 1.0
    changed = (before - make(causal=False).forward(stream).sequence).abs().amax(2)[0] > 0
    assert changed[5]
    assert changed[9]


@pytest.mark.parametrize(("kernel", "levels"), [(2, 3), (3, 2), (5, 2)])
def test_receptive_field_is_two_convolutions_of_each_dilation(kernel: int, levels: int) -> None:
    network = make(kernel=kernel, channels=(4,) * levels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()  # with positive weights and inputs every path stays open through every ReLU
    reach = 2 * (kernel - 1) * sum(2**i for i in range(levels))
    stream = rows(reach + 5)
    stream.values = stream.values.abs().requires_grad_()
    network.forward(stream).sequence[0, -1].sum().backward()
    seen = stream.values.grad.abs().sum(2)[0] > 0
    assert seen.tolist() == [False] * 4 + [True] * (reach + 1)


def slow_convolution(values: list[Tensor], layer: torch.nn.Module, dilation: int, causal: bool) -> list[Tensor]:
    """A weight-normed dilated convolution written as its formula, step by step."""
    gain = layer.parametrizations.weight.original0
    direction = layer.parametrizations.weight.original1
    weight = torch.stack([g * v / v.square().sum().sqrt() for g, v in zip(gain, direction, strict=True)])
    size = weight.shape[2]
    shift = (size - 1) * dilation if causal else (size - 1) // 2 * dilation
    out = []
    for t in range(len(values)):
        total = layer.bias.clone()
        for j in range(size):
            if 0 <= t - shift + j * dilation < len(values):
                total += weight[:, :, j] @ values[t - shift + j * dilation]
        out.append(total)
    return out


@pytest.mark.parametrize("causal", [True, False])
def test_levels_equal_the_formula_computed_step_by_step(causal: bool) -> None:
    network, stream = make(causal=causal), rows(9, 4)
    got = network.forward(stream).sequence
    for row, length in enumerate((9, 4)):
        hidden = list(stream.values[row, :length])
        for i, level in enumerate(network.levels):
            inner = [v.relu() for v in slow_convolution(hidden, level.first, 2**i, causal)]
            inner = [v.relu() for v in slow_convolution(inner, level.second, 2**i, causal)]
            if isinstance(level.match, torch.nn.Conv1d):
                hidden = [level.match.weight[:, :, 0] @ v + level.match.bias for v in hidden]
            hidden = [(a + b).relu() for a, b in zip(inner, hidden, strict=True)]
        torch.testing.assert_close(got[row, :length], torch.stack(hidden), rtol=0, atol=1e-10)


CHOICES = list(itertools.product((True, False), ("mean", "last", "mean+std"), (None, 5)))


@pytest.mark.parametrize(("causal", "readout", "width"), CHOICES)
def test_padding_and_neighbours_never_change_a_row(causal: bool, readout: str, width: int | None) -> None:
    network = make(causal=causal, readout=readout, width=width)
    together = network.forward(rows(9, 1, 5, pad=6))
    for row, length in enumerate((9, 1, 5)):
        alone = network.forward(row_of(rows(9, 1, 5), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.sequence[row, :length], alone.sequence[0], rtol=0, atol=1e-12)
        assert not together.sequence[row, length:].any()


def test_read_outs_are_the_statistics_of_the_real_steps() -> None:
    stream = rows(9, 4, pad=3)
    hidden = make().forward(stream).sequence
    for row, length in enumerate((9, 4)):
        real = hidden[row, :length]
        torch.testing.assert_close(make().forward(stream).vector[row], real.mean(0))
        torch.testing.assert_close(make(readout="last").forward(stream).vector[row], real[-1])
        both = torch.cat([real.mean(0), (real.var(0, unbiased=False) + 1e-6).sqrt()])
        torch.testing.assert_close(make(readout="mean+std").forward(stream).vector[row], both)


@pytest.mark.parametrize(("readout", "width"), list(itertools.product(("mean", "last", "mean+std"), (None, 5))))
def test_a_sequence_is_as_wide_as_the_vector_and_equals_it_for_one_step(readout: str, width: int | None) -> None:
    network = make(readout=readout, width=width)
    encoded = network.forward(rows(1))
    assert encoded.vector.shape == (1, network.width)
    # The read-out's deviation of one step is √1e-6, a sequence's is 0.
    torch.testing.assert_close(encoded.sequence[:, 0], encoded.vector, rtol=0, atol=3e-3)


@pytest.mark.parametrize(("readout", "width"), list(itertools.product(("mean", "last", "mean+std"), (None, 5))))
def test_every_parameter_gets_a_gradient(readout: str, width: int | None) -> None:
    network = make(readout=readout, width=width)
    assert idle_parameters(network, network.forward(rows(9, 1, 5)).vector) == []


def test_weight_norm_survives_a_safetensors_file(tmp_path: Path) -> None:
    network = make()
    save_file(network.state_dict(), tmp_path / "tcn.safetensors")
    other = make()
    for parameter in other.parameters():
        torch.nn.init.constant_(parameter, 0.3)
    other.load_state_dict(load_file(tmp_path / "tcn.safetensors"))
    assert torch.equal(other.forward(rows(9)).vector, network.forward(rows(9)).vector)


def test_dropout_takes_whole_channels_and_only_while_training() -> None:
    network, stream = make(dropout=0.9, channels=(32,)), rows(9)
    kept = network.train().levels[0].dropout(torch.ones(1, 32, 9)).amax(2)
    assert set(kept[0].round().tolist()) == {0.0, 10.0}
    assert torch.equal(network.eval().forward(stream).vector, network.forward(stream).vector)


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(readout="mean+std", width=5), rows(30, 12))


def test_an_even_kernel_is_refused_where_it_would_have_no_centre() -> None:
    make(kernel=4)
    with pytest.raises(ValueError, match="kernel 4 has no centre"):
        make(kernel=4, causal=False)


def test_parts_are_read_out_one_after_another_from_real_steps_alone() -> None:
    expect_read_out_in_parts(make(parts=3, readout="mean+std").eval(), rows(11, 4, 2, pad=3), 3)


def everything_of(
    network: Tcn, lengths: tuple[int, ...], pad: int, seed: int, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> list[Tensor]:
    """Vector, sequence and the gradients of the input and of all weights, one way or the other."""
    monkeypatch.setattr(mmcl_tcn.network, "on_processor", lambda values: packed)
    stream = rows(*lengths, pad=pad)
    stream.values.requires_grad_()
    torch.manual_seed(seed)
    encoded = network.forward(stream)
    weight = torch.linspace(-1, 2, encoded.sequence.numel(), dtype=torch.float64).view_as(encoded.sequence)
    network.zero_grad()
    (encoded.vector.square().sum() + (weight * encoded.sequence).square().sum()).backward()
    return [encoded.vector, encoded.sequence, stream.values.grad, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize("lengths", [(9,), (9, 9, 9), (12, 5, 1)])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("causal", "kernel"), [(True, 1), (True, 2), (True, 3), (False, 3), (False, 5)])
def test_packed_rows_give_the_values_and_gradients_of_convolutions(
    lengths: tuple[int, ...], dropout: float, causal: bool, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make(causal=causal, kernel=kernel, dropout=dropout, readout="mean+std").train()
    ways = [everything_of(network, lengths, 4, 7, monkeypatch, packed) for packed in (True, False)]
    for ours, plain in zip(*ways, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_rows_shorter_than_a_convolution_looks_are_not_padded_to_its_reach(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six levels of five taps look 128 steps back; rows of 9 need no more than 8 zeros between them."""
    network = make(causal=causal, kernel=5, channels=(4,) * 6).train()
    ways = [everything_of(network, (9, 9, 4), 0, 7, monkeypatch, packed) for packed in (True, False)]
    for ours, plain in zip(*ways, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    laid_out = mmcl_tcn.packed.Rows(torch.ones(3, 9, dtype=torch.bool), 128)
    assert laid_out.count == 8 + 3 * (9 + 8)


def test_where_all_channels_are_dropped_nothing_is_learned_and_nothing_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make(dropout=0.999, channels=(4,)).train()
    for one in everything_of(network, (6,), 2, 0, monkeypatch, packed=True):
        assert one.isfinite().all()


def test_a_processor_packs_rows_and_a_graph_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rows(4).values
    assert mmcl_tcn.network.on_processor(values)
    assert not mmcl_tcn.network.on_processor(values.to("meta"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not mmcl_tcn.network.on_processor(values)


@pytest.mark.parametrize("packed", [True, False])
def test_in_bf16_no_step_of_a_level_is_widened_to_float32(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask in float32 would do that: what it is multiplied with becomes float32, and the next convolution turns it back."""
    monkeypatch.setattr(mmcl_tcn.network, "on_processor", lambda values: packed)
    network = make().float()
    seen: list[torch.dtype] = []
    for level in network.levels:
        level.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
        level.dropout.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    stream = rows(12, 5)
    stream.values = stream.values.float()
    with torch.autocast("cpu", torch.bfloat16):
        network(stream)
    assert set(seen) == {torch.bfloat16}
