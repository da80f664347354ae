"""What a Conformer must be: its formula, step by step, over real steps alone."""

from __future__ import annotations

import math
import re

import pytest
import torch
from mmcl_conformer import CONFORMER, ConformerParams
from mmcl_conformer.network import Conformer
from torch import Tensor
from torch.nn import functional

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16

LENGTHS = (9, 1, 5)
LAYOUT = Layout("signal", ("time", "channel"), {"channel": 3}, 25.0)


def make(**options: object) -> Conformer:
    """A small network without dropout, in float64, as after some training."""
    torch.manual_seed(1)
    params = ConformerParams.model_validate(
        {"units": 8, "layers": 2, "heads": 2, "feedforward": 12, "kernel": 3, "dropout": 0.0, **options}
    )
    CONFORMER.fits(params, LAYOUT)
    network = CONFORMER.build(params, LAYOUT).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, dtype=torch.float64))
    return network


def rows(*lengths: int, pad: int = 0) -> Stream:
    return make_rows((3,), *lengths, pad=pad)


def slow_attention(part, row: Tensor) -> Tensor:
    """Every couple of steps by itself."""
    count, units = row.shape
    size = units // part.heads
    queries, keys, values = part.attend(functional.layer_norm(row, (units,), part.norm.weight, part.norm.bias)).chunk(3, 1)
    mixed = torch.zeros_like(row)
    for head in range(part.heads):
        cut = slice(head * size, (head + 1) * size)
        for i in range(count):
            scores = []
            for j in range(count):
                angle = [(i - j) / 10_000 ** (2 * k / units) for k in range(units // 2)]
                place = part.place(torch.tensor([*map(math.sin, angle), *map(math.cos, angle)], dtype=torch.float64))[cut]
                by_content = (queries[i, cut] + part.content[head, 0]) @ keys[j, cut]
                scores.append((by_content + (queries[i, cut] + part.distance[head, 0]) @ place) / math.sqrt(size))
            mixed[i, cut] = torch.stack(scores).softmax(0) @ values[:, cut]
    return part.join(mixed)


def slow_convolution(part, row: Tensor) -> Tensor:
    """Each channel of each step as a sum over the kernel."""
    one, other = part.widen(part.norm(row)).chunk(2, 1)
    gated, moved = one * other.sigmoid(), torch.zeros_like(row)
    reach = part.near.kernel_size[0] // 2
    for t in range(len(row)):
        moved[t] = part.near.bias
        for k in range(-reach, reach + 1):
            if 0 <= t + k < len(row):
                moved[t] = moved[t] + part.near.weight[:, 0, k + reach] * gated[t + k]
    norm = part.normed
    scaled = (moved - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return part.narrow(functional.silu(scaled))


def test_steps_are_the_formula_computed_couple_by_couple() -> None:
    network = make()
    with torch.no_grad():
        encoded = network.forward(rows(*LENGTHS, pad=2))
        for row, length in enumerate(LENGTHS):
            hidden = network.enter(rows(*LENGTHS).values[row, :length])
            for layer in network.layers:
                hidden = hidden + layer.first(hidden) / 2
                hidden = hidden + slow_attention(layer.attention, hidden)
                hidden = hidden + slow_convolution(layer.convolution, hidden)
                hidden = layer.norm(hidden + layer.second(hidden) / 2)
            torch.testing.assert_close(encoded.sequence[row, :length], hidden, rtol=0, atol=1e-6)  # sinusoids are float32
            torch.testing.assert_close(encoded.vector[row], hidden.mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"norm": "layer"}, {"parts": 2}, {"width": 5}, {"kernel": 1}], ids=str)
def test_padding_and_neighbours_never_change_a_row(options: dict[str, object]) -> None:
    network = make(**options)
    together = network.forward(rows(*LENGTHS, pad=5))
    assert together.vector.shape == (3, network.width)
    for row, length in enumerate(LENGTHS):
        alone = network.forward(row_of(rows(*LENGTHS), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-7)


def test_normalisation_of_the_batch_learns_from_real_steps_alone() -> None:
    first, second = make().train(), make().train()
    first.forward(rows(*LENGTHS))
    second.forward(rows(*LENGTHS, pad=7))
    for one, other in zip(first.buffers(), second.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(), rows(30, 12))


@pytest.mark.parametrize("options", [{"layers": 3}, {"parts": 4, "norm": "layer"}, {"width": 7}], ids=str)
def test_options_that_are_no_choice_among_words_keep_the_contract_too(options: dict[str, object]) -> None:
    check_backbone(CONFORMER, ConformerParams.model_validate({"units": 8, "heads": 2, "kernel": 5, **options}))


@pytest.mark.parametrize(("options", "sentence"), [({"kernel": 4}, "has no centre"), ({"heads": 3}, "a multiple of heads: 3")])
def test_what_cannot_be_built_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_it_has_as_many_weights_as_its_description_says() -> None:
    network = CONFORMER.build(ConformerParams(), Layout("signal", ("time", "channel"), {"channel": 6}, 25.0))
    assert re.findall(r"\d+,\d+", CONFORMER.follows) == [f"{sum(p.numel() for p in network.parameters()):,}"]
