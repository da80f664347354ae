"""What a linear backbone must be: the sum over a step's values, part by part, over real steps alone."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from mmcl_linear import LINEAR_1D, Linear1dParams
from mmcl_linear.network import Linear1d
from torch import Tensor

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, idle_parameters

SHAPES = {"signal": (3,), "skeleton": (4, 3)}
AXES = {"signal": ("time", "channel"), "skeleton": ("time", "joint", "channel")}
LENGTHS = (9, 1, 5)
CHOICES = list(itertools.product(SHAPES, (1, 3), (False, True), (0.0, 0.5)))


def layout_of(kind: str, shape: tuple[int, ...] | None = None) -> Layout:
    return Layout(kind, AXES[kind], dict(zip(AXES[kind][1:], shape or SHAPES[kind], strict=True)), 25.0)


def make(kind: str = "signal", **options: object) -> Linear1d:
    """A small network in float64."""
    torch.manual_seed(1)
    params = Linear1dParams.model_validate({"channels": 2, "parts": 3, **options})
    LINEAR_1D.fits(params, layout_of(kind))
    return LINEAR_1D.build(params, layout_of(kind)).double()


def rows(kind: str, *lengths: int, pad: int = 0) -> Stream:
    return make_rows(SHAPES[kind], *lengths, pad=pad)


def slow_steps(network: Linear1d, values: Tensor) -> list[Tensor]:
    """Every step of one row, summed up by loops; what lies outside of the row counts as zero."""
    weight, bias, flat = network.combine.weight, network.combine.bias, values.flatten(1)
    steps = []
    for t in range(len(flat)):
        total = torch.zeros(weight.shape[0], dtype=torch.float64) if bias is None else bias.clone()
        for k in range(weight.shape[2]):
            place = t + k - weight.shape[2] // 2
            if 0 <= place < len(flat):
                total = total + weight[:, :, k] @ flat[place]
        steps.append(total)
    return steps


@pytest.mark.parametrize(("kind", "kernel", "centre", "level"), CHOICES)
def test_the_vector_is_part_by_part_what_loops_give(kind: str, kernel: int, centre: bool, level: float) -> None:
    network, stream = make(kind, kernel=kernel, centre=centre, level=level), rows(kind, *LENGTHS, pad=3)
    encoded = network(stream)
    for row, length in enumerate(LENGTHS):
        steps = slow_steps(network, stream.values[row, :length])
        torch.testing.assert_close(encoded.sequence[row, :length, :2], torch.stack(steps), rtol=0, atol=1e-12)
        mean = sum(steps) / length
        spread = [sum((step[c] - mean[c]) ** 2 for step in steps) / length for c in range(2)]
        wanted = []
        for part in range(3):
            inside = [steps[k] for k in range(length) if k * 3 // length == part]
            wanted.append(
                sum(inside) / len(inside) - (mean if centre else 0) if inside else torch.zeros(2, dtype=torch.float64)
            )
        if level:
            deviation = torch.stack([(one + 1e-6).sqrt() for one in spread])
            wanted += [level * math.sqrt(3) * mean, level * math.sqrt(3) * deviation]
        torch.testing.assert_close(encoded.vector[row], torch.cat(wanted), rtol=0, atol=1e-12)


def test_centred_parts_do_not_know_what_is_added_to_every_step() -> None:
    network, stream = make(centre=True), rows("signal", 9)
    before = network(stream).vector
    moved = Stream(stream.values + torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64), stream.steps, stream.present)
    torch.testing.assert_close(network(moved).vector, before, rtol=0, atol=1e-12)
    assert not torch.allclose(make(centre=False)(moved).vector, make(centre=False)(stream).vector)


def test_a_level_of_one_weighs_a_mean_as_if_it_stood_in_every_part() -> None:
    together, apart = make(), make(centre=True, level=1.0)
    apart.load_state_dict(together.state_dict())
    stream = rows("signal", 9, 6)
    plain, split = together(stream).vector, apart(stream).vector[:, :8]
    torch.testing.assert_close(split @ split.T, plain @ plain.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "kernel", "centre", "level"), CHOICES)
def test_padding_and_neighbours_never_change_a_row(kind: str, kernel: int, centre: bool, level: float) -> None:
    network = make(kind, kernel=kernel, centre=centre, level=level)
    together = network(rows(kind, *LENGTHS, pad=5))
    assert together.vector.shape == (3, network.width)
    for row, length in enumerate(LENGTHS):
        alone = network(row_of(rows(kind, *LENGTHS), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.sequence[row, :length], alone.sequence[0], rtol=0, atol=1e-12)
        assert not together.sequence[row, length:].any()


def test_what_stands_behind_the_mask_is_never_read() -> None:
    clean, spoilt = rows("signal", *LENGTHS, pad=5), rows("signal", *LENGTHS, pad=5)
    spoilt.values[~spoilt.steps] = float("nan")
    network = make(kernel=3, centre=True, level=0.1)
    assert torch.equal(network(spoilt).vector, network(clean).vector)


@pytest.mark.parametrize(("kind", "kernel", "centre", "level"), CHOICES)
def test_every_parameter_gets_a_gradient(kind: str, kernel: int, centre: bool, level: float) -> None:
    network = make(kind, kernel=kernel, centre=centre, level=level)
    assert idle_parameters(network, network(rows(kind, *LENGTHS)).vector) == []


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(level=0.1), rows("signal", 30, 12))


@pytest.mark.parametrize("options", [{"kernel": 3, "level": 0.1}, {"parts": 4, "centre": True}], ids=str)
def test_options_that_are_no_choice_among_words_keep_the_contract_too(options: dict[str, object]) -> None:
    check_backbone(LINEAR_1D, Linear1dParams.model_validate({"channels": 8, **options}))


@pytest.mark.parametrize(
    ("options", "words"), [({"kernel": 4}, "kernel 4 has no centre"), ({"centre": True, "parts": 1}, "leaves zeros")]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_it_has_as_many_weights_as_its_description_says() -> None:
    built = [
        LINEAR_1D.build(Linear1dParams(), layout_of(kind, shape)) for kind, shape in (("signal", (6,)), ("skeleton", (20, 3)))
    ]
    assert re.findall(r"\d+(?= weights|, 9| on 20)|976", LINEAR_1D.follows) == [
        str(sum(p.numel() for p in network.parameters())) for network in built
    ]
