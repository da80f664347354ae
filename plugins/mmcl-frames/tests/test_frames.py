"""What the frame network must be: real frames alone, one by one, then convolutions over time that end where a row ends."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from mmcl_frames import FRAME_CNN, FrameCnnParams
from mmcl_frames.network import FrameCnn
from torch import Tensor

from mmcl.api import Layout, Stream
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, expect_read_out_in_parts, idle_parameters

SHAPE = (2, 12, 16)  # channel, height, width


def make(shape: tuple[int, int, int] = SHAPE, **options: object) -> FrameCnn:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    axes = ("time", "channel", "height", "width")
    layout = Layout("frames", axes, dict(zip(axes[1:], shape, strict=True)), 15.0)
    params = FrameCnnParams.model_validate({"channels": (4, 8), "dropout": 0.0, **options})
    FRAME_CNN.fits(params, layout)
    return FRAME_CNN.build(params, layout).double()


rows = functools.partial(make_rows, SHAPE)


def slow_sequence(network: FrameCnn, frames: Tensor) -> Tensor:
    """Frame by frame through the image layers, then the temporal convolutions as sums over what lies beside each frame."""
    hidden = [network.image(frame[None])[0] for frame in frames]
    for layer in network.time:
        size = layer.weight.shape[2]
        added = []
        for t in range(len(hidden)):
            total = layer.bias.clone()
            for j in range(size):
                if 0 <= t + j - size // 2 < len(hidden):
                    total += layer.weight[:, :, j] @ hidden[t + j - size // 2]
            added.append(total.relu())
        hidden = [a + b for a, b in zip(hidden, added, strict=True)]
    return torch.stack(hidden)


@pytest.mark.parametrize(("layers", "kernel", "pool"), [(0, 3, "mean"), (2, 3, "mean"), (1, 5, "grid")])
def test_frames_and_time_equal_the_formula_computed_one_by_one(layers: int, kernel: int, pool: str) -> None:
    network, stream = make(layers=layers, kernel=kernel, pool=pool), rows(6, 1, 3, pad=2)
    encoded = network.forward(stream)
    for row, length in enumerate((6, 1, 3)):
        real = slow_sequence(network, stream.values[row, :length])
        both = torch.cat([real.mean(0), (real.var(0, unbiased=False) + 1e-6).sqrt()])
        torch.testing.assert_close(encoded.vector[row], both, rtol=0, atol=1e-10)
        torch.testing.assert_close(encoded.sequence[row, :length, : real.shape[1]], real, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("readout", "width", "training"), list(itertools.product(("mean", "mean+std"), (None, 5), (True, False)))
)
def test_padding_and_neighbours_never_change_a_row(readout: str, width: int | None, training: bool) -> None:
    network = make(readout=readout, width=width).train(training)
    together = network.forward(rows(6, 1, 3, pad=4))
    assert together.vector.shape == (3, network.width)
    assert together.sequence.shape == (3, 10, network.width)
    for row, length in enumerate((6, 1, 3)):
        alone = network.forward(row_of(rows(6, 1, 3), row, length))
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.sequence[row, :length], alone.sequence[0], rtol=0, atol=1e-12)
        assert not together.sequence[row, length:].any()


def test_only_real_frames_reach_the_image_layers() -> None:
    network, counts = make(), []
    network.image.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    network.forward(rows(6, 1, 3, pad=20))
    assert counts == [10]


def test_a_grid_knows_where_in_the_image_something_is_and_a_mean_hardly() -> None:
    left = torch.zeros(1, 1, 1, 32, 32, dtype=torch.float64)
    left[..., 12:20, 6:10] = 1.0
    right = left.roll(16, -1)  # by a multiple of what the strides skip, and far from the edges
    steps, present = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    gaps = []
    for pool in ("mean", "grid"):
        network = make((1, 32, 32), pool=pool, layers=0, readout="mean")
        a, b = (network.forward(Stream(v, steps, present)).vector for v in (left, right))
        gaps.append(float((a - b).detach().abs().max()))
    assert gaps[1] > 5 * gaps[0]


@pytest.mark.parametrize(
    ("readout", "width", "pool"), list(itertools.product(("mean", "mean+std"), (None, 5), ("mean", "grid")))
)
def test_every_parameter_gets_a_gradient(readout: str, width: int | None, pool: str) -> None:
    network = make(readout=readout, width=width, pool=pool, layers=2)
    assert idle_parameters(network, network.forward(rows(6, 1, 3)).vector) == []


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(), rows(6, 2))


@pytest.mark.parametrize(
    ("options", "sentence"), [({"channels": (4, 6)}, "multiples of 4"), ({"kernel": 2}, "kernel 2 has no centre")]
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_parts_are_read_out_one_after_another_from_real_steps_alone() -> None:
    expect_read_out_in_parts(make(parts=3, readout="mean+std").eval(), rows(11, 4, 2, pad=3), 3)
