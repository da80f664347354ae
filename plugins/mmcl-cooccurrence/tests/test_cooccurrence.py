"""What the co-occurrence network must be: joints apart and then channels, motion beside position, recordings of one length."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from mmcl_cooccurrence import CO_OCCURRENCE, CooccurrenceParams
from mmcl_cooccurrence.network import Cooccurrence, motion
from torch import Tensor

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, idle_parameters

SHAPES = {"signal": (5,), "skeleton": (4, 3)}
AXES = {"signal": ("time", "channel"), "skeleton": ("time", "joint", "channel")}
LENGTHS = (23, 1, 5)
CHOICES = list(itertools.product(SHAPES, (True, False), ("flatten", "mean"), (None, 6)))


def layout_of(kind: str, shape: tuple[int, ...] | None = None) -> Layout:
    return Layout(kind, AXES[kind], dict(zip(AXES[kind][1:], shape or SHAPES[kind], strict=True)), 25.0)


def make(kind: str = "skeleton", **options: object) -> Cooccurrence:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    small = {"resample": 34, "points": (6, 32), "channels": (4, 5, 6, 7), "dropout": 0.0}
    params = CooccurrenceParams.model_validate({**small, **options})
    CO_OCCURRENCE.fits(params, layout_of(kind))
    return CO_OCCURRENCE.build(params, layout_of(kind)).double()


def rows(kind: str, *lengths: int, pad: int = 0) -> Stream:
    return make_rows(SHAPES[kind], *lengths, pad=pad)


# ----------------------------------------------------------------------------------------------------------------- formula


def slow_convolution(values: Tensor, layer: torch.nn.Conv2d) -> Tensor:
    """[channel, T, X] → [channel', T, X], a sum over what lies around each place, zeros beyond the edges."""
    weight, tall, wide = layer.weight, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2
    out = layer.bias[:, None, None].repeat(1, *values.shape[1:])
    for t, x in itertools.product(range(values.shape[1]), range(values.shape[2])):
        for i, j in itertools.product(range(weight.shape[2]), range(weight.shape[3])):
            at, beside = t + i - tall, x + j - wide
            if 0 <= at < values.shape[1] and 0 <= beside < values.shape[2]:
                out[:, t, x] += weight[:, :, i, j] @ values[:, at, beside]
    return out


def slow_pool(values: Tensor) -> Tensor:
    """The largest of each 2 × 2 places; what is left over at an edge is dropped."""
    tall, wide = values.shape[1] // 2, values.shape[2] // 2
    best = [[values[:, 2 * t : 2 * t + 2, 2 * x : 2 * x + 2].amax((1, 2)) for x in range(wide)] for t in range(tall)]
    return torch.stack([torch.stack(row, 1) for row in best], 1)


def slow_norm(values: Tensor, norm: torch.nn.Module) -> Tensor:
    """[channel, …] by the statistics that were kept, then ReLU; as it is where there is no normalisation."""
    if isinstance(norm, torch.nn.Identity):
        return values
    rows = zip(values, norm.running_mean, norm.running_var, norm.weight, norm.bias, strict=True)
    return torch.stack(
        [(one - mean) / (variance + 1e-5).sqrt() * weight + bias for one, mean, variance, weight, bias in rows]
    ).relu()


def slow_network(network: Cooccurrence, positions: Tensor) -> Tensor:
    """The paper's Figure 3 for one person; positions [T, joint, channel] of 34 steps → [T / least, channel, feature]."""
    changes = positions[1:] - positions[:-1]
    place = np.linspace(0, len(changes) - 1, len(positions))
    low = np.minimum(place.astype(int), len(changes) - 2)
    share = torch.tensor(place - low)[:, None, None]
    inputs = [positions, (1 - share) * changes[low] + share * changes[low + 1]]
    joined = []
    for part, values in zip(network.streams, inputs, strict=False):  # without motion there is one stream
        points = slow_norm(slow_convolution(values.permute(2, 0, 1), part.first), part.norms[0]).relu()
        points = slow_norm(slow_convolution(points, part.second), part.norms[1])
        joints_are_channels = points.permute(2, 1, 0)  # [joint, T, feature]
        hidden = slow_pool(slow_norm(slow_convolution(joints_are_channels, part.third), part.norms[2]))
        joined.append(slow_pool(slow_norm(slow_convolution(hidden, part.fourth), part.norms[3])))
    hidden = torch.cat(joined)
    for layer, norm in zip((network.fifth, network.sixth), network.norms, strict=False):
        hidden = slow_pool(slow_norm(slow_convolution(hidden, layer), norm).relu())
    return hidden.transpose(0, 1)


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"norm": "batch", "channels": (4, 5, 6)}], ids=str)
@pytest.mark.parametrize("both", [True, False])
def test_it_is_the_papers_network_computed_place_by_place(both: bool, options: dict[str, object]) -> None:
    positions = make_rows((4, 3), 34)
    network = make(motion=both, **options)
    network.forward(rows("skeleton", 34, 20, 9, 40))  # in training, so that batch statistics are kept
    network.eval()
    assert len(network.streams) == (2 if both else 1)
    with torch.no_grad():
        wanted = slow_network(network, positions.values[0])
        encoded = network.forward(positions)
        torch.testing.assert_close(encoded.vector[0], wanted.flatten(), rtol=0, atol=1e-12)
        torch.testing.assert_close(encoded.sequence[0], wanted.flatten(1), rtol=0, atol=1e-12)
        mean = make(motion=both, readout="mean", **options)
        mean.load_state_dict(network.state_dict())
        torch.testing.assert_close(mean.eval().forward(positions).vector[0], wanted.flatten(1).mean(0), rtol=0, atol=1e-12)


def test_sensors_are_joints_of_one_channel() -> None:
    sensors = rows("signal", *LENGTHS)
    joints = Stream(sensors.values[..., None], sensors.steps, sensors.present)
    torch.manual_seed(1)
    params = CooccurrenceParams(resample=34, points=(6, 32), channels=(4, 5, 6, 7), dropout=0.0)
    network = CO_OCCURRENCE.build(params, layout_of("skeleton", (5, 1))).double()
    assert torch.equal(make("signal").forward(sensors).vector, network.forward(joints).vector)


def test_joints_are_apart_before_they_become_channels() -> None:
    network, outputs = make(), []
    network.streams[0].second.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    for step in (0.0, 1.0):
        stream = rows("skeleton", 34)
        stream.values[:, 10, 2] += step
        network.forward(stream)
    changed = (outputs[0] - outputs[1]).abs().amax((0, 1)) > 0  # [T, joint]
    assert changed.nonzero().tolist() == [[9, 2], [10, 2], [11, 2]]


def test_a_body_that_stands_still_has_no_motion() -> None:
    still = torch.randn(1, 1, 4, 3).expand(1, 9, 4, 3)
    assert motion(still).shape == still.shape
    assert not motion(still).any()
    steady = torch.arange(9.0).view(1, 9, 1, 1).expand(1, 9, 4, 3)
    assert torch.equal(motion(steady), torch.ones(1, 9, 4, 3))


# ----------------------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize(("kind", "both", "readout", "width"), CHOICES)
def test_padding_neighbours_and_what_stands_behind_the_mask_never_change_a_row(
    kind: str, both: bool, readout: str, width: int | None
) -> None:
    network = make(kind, motion=both, readout=readout, width=width)
    padded = rows(kind, *LENGTHS, pad=9)
    padded.values[~padded.steps] = float("nan")
    together = network.forward(padded)
    assert together.vector.shape == (3, network.width)
    for row, length in enumerate(LENGTHS):
        alone = network.forward(row_of(rows(kind, *LENGTHS), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.sequence[row], alone.sequence[0], rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(("kind", "both", "readout", "width"), CHOICES)
def test_every_parameter_gets_a_gradient(kind: str, both: bool, readout: str, width: int | None) -> None:
    network = make(kind, motion=both, readout=readout, width=width)
    assert idle_parameters(network, network.forward(rows(kind, 23, 30, 17)).vector) == []


@pytest.mark.parametrize(("channels", "resample", "left"), [(4, 16, 1), (4, 32, 2), (4, 50, 3), (3, 50, 6), (3, 8, 1)])
def test_steps_are_halved_once_for_each_width(channels: int, resample: int, left: int) -> None:
    network = make(resample=resample, channels=(4, 5, 6, 7)[:channels])
    encoded = network.forward(rows("skeleton", *LENGTHS))
    each = (3 + channels) * 32 // 2**channels
    assert encoded.sequence.shape == (3, left, each)
    assert encoded.steps.all()
    assert network.width == each * left


def test_dropout_falls_on_each_of_the_last_three_layers_and_only_while_training() -> None:
    network, stream = make(dropout=0.5), rows("skeleton", 34)
    calls: list[int] = []
    for layer in [network.dropout, *(part.dropout for part in network.streams)]:
        layer.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape[1]))
    assert not torch.equal(network.train().forward(stream).vector, network.forward(stream).vector)
    assert calls == [5, 5, 6, 7] * 2
    assert torch.equal(network.eval().forward(stream).vector, network.forward(stream).vector)


@pytest.mark.parametrize("kind", SHAPES)
def test_bfloat16_is_near_float32(kind: str) -> None:
    expect_near_in_bfloat16(make(kind), rows(kind, 30, 12))


@pytest.mark.parametrize(
    "options", [{"resample": 16}, {"width": 7}, {"points": (8, 16)}, {"norm": "batch", "channels": (8, 8, 8)}], ids=str
)
def test_options_that_are_no_choice_among_words_keep_the_contract_too(options: dict[str, object]) -> None:
    check_backbone(CO_OCCURRENCE, CooccurrenceParams.model_validate(options))


def test_too_few_features_to_be_halved_four_times_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points is \[64, 15\]; the second is halved 4 times and must be 16 or more"):
        make(points=(64, 15))
    make(points=(64, 8), channels=(4, 5, 6))
    with pytest.raises(ValueError, match=r"resample is 15; steps are halved 4 times and must be 16 or more"):
        make(resample=15)


def test_it_has_as_many_weights_as_its_description_says() -> None:
    shapes = (("skeleton", (20, 3)), ("signal", (6,)))
    built = [CO_OCCURRENCE.build(CooccurrenceParams(), layout_of(kind, shape)) for kind, shape in shapes]
    counts = [f"{sum(p.numel() for p in network.parameters()):,}" for network in built]
    assert re.findall(r"\d+,\d+", CO_OCCURRENCE.follows) == counts
