"""What a residual network over time and bands must be: convolutions of a picture, over real steps alone."""

from __future__ import annotations

import re

import pytest
import torch
from mmcl_resnet2d import RESNET_2D, Resnet2dParams
from mmcl_resnet2d.network import Resnet2d
from torch import Tensor
from torch.nn import functional

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16

LENGTHS = (9, 1, 5)
LAYOUT = Layout("spectrogram", ("time", "channel"), {"channel": 10}, 25.0)


def make(**options: object) -> Resnet2d:
    """A small network in float64, as after some training."""
    torch.manual_seed(1)
    network = RESNET_2D.build(Resnet2dParams.model_validate({"channels": (4, 8), **options}), LAYOUT).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
    return network


def rows(*lengths: int, pad: int = 0) -> Stream:
    return make_rows((10,), *lengths, pad=pad)


def normed(norm, picture: Tensor) -> Tensor:
    """Each channel by its running statistics."""
    scale = norm.norm.weight / (norm.norm.running_var + norm.norm.eps).sqrt()
    return (picture - norm.norm.running_mean[:, None, None]) * scale[:, None, None] + norm.norm.bias[:, None, None]


def test_a_row_alone_is_a_picture_sent_through_residual_blocks() -> None:
    network = make()
    with torch.no_grad():
        encoded = network.forward(rows(*LENGTHS, pad=3))
        for row, length in enumerate(LENGTHS):
            picture = normed(network.norm, network.stem(rows(*LENGTHS).values[row, :length][None, None])[0]).relu()
            for block in network.blocks:
                hidden = normed(block.norms[0], block.first(picture[None])[0]).relu()
                hidden = normed(block.norms[1], block.second(hidden[None])[0])
                beside = picture if block.match is None else normed(block.norms[2], block.match(picture[None])[0])
                picture = functional.relu(hidden + beside)
            steps = picture.mean(2).T
            assert picture.shape == (8, -(-length // 2), 5)
            spread = (steps.var(0, correction=0) + 1e-6).sqrt()
            torch.testing.assert_close(encoded.vector[row], torch.cat([steps.mean(0), spread]), rtol=0, atol=1e-10)
            torch.testing.assert_close(encoded.sequence[row, : len(steps), :8], steps, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"norm": "group"}, {"time": "keep"}, {"parts": 2, "width": 5}, {"blocks": 2}], ids=str)
def test_padding_and_neighbours_never_change_a_row(options: dict[str, object]) -> None:
    network = make(**options)
    together = network.forward(rows(*LENGTHS, pad=5))
    assert together.vector.shape == (3, network.width)
    for row, length in enumerate(LENGTHS):
        alone = network.forward(row_of(rows(*LENGTHS), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-10)


def test_normalisation_of_the_batch_learns_from_real_steps_alone() -> None:
    first, second = make().train(), make().train()
    first.forward(rows(*LENGTHS))
    second.forward(rows(*LENGTHS, pad=7))
    for one, other in zip(first.buffers(), second.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(), rows(30, 12))


@pytest.mark.parametrize("options", [{"parts": 4, "readout": "mean"}, {"width": 7, "dropout": 0.5}], ids=str)
def test_options_that_are_no_choice_among_words_keep_the_contract_too(options: dict[str, object]) -> None:
    check_backbone(RESNET_2D, Resnet2dParams.model_validate({"channels": (4, 8), **options}))


def test_widths_that_do_not_go_into_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="must be multiples of 4"):
        RESNET_2D.fits(Resnet2dParams(channels=(6,), norm="group"), LAYOUT)


def test_it_has_as_many_weights_as_its_description_says() -> None:
    network = RESNET_2D.build(Resnet2dParams(), LAYOUT)
    assert re.findall(r"\d+,\d+", RESNET_2D.follows) == [f"{sum(p.numel() for p in network.parameters()):,}"]
