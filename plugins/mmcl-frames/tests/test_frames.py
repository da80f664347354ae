"""What the frame network must be: real frames alone, one by one, then convolutions over time that end where a row ends."""

from __future__ import annotations

import itertools

import pytest
import torch
from mmcl_frames import FRAME_CNN, FrameCnnParams
from mmcl_frames.network import FrameCnn
from torch import Tensor

from mmcl.api import Layout, Stream

SHAPE = (2, 12, 16)  # channel, height, width


def make(shape: tuple[int, int, int] = SHAPE, **options: object) -> FrameCnn:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    axes = ("time", "channel", "height", "width")
    layout = Layout("frames", axes, dict(zip(axes[1:], shape, strict=True)), 15.0)
    params = FrameCnnParams.model_validate({"channels": (4, 8), "dropout": 0.0, **options})
    FRAME_CNN.fits(params, layout)
    return FRAME_CNN.build(params, layout).double()


def rows(*lengths: int, pad: int = 0) -> Stream:
    """Random rows of these lengths, the same ones whatever the padding."""
    longest = max(lengths) + pad
    steps = torch.arange(longest) < torch.tensor(lengths)[:, None]
    values = torch.zeros(len(lengths), longest, *SHAPE, dtype=torch.float64)
    for i, length in enumerate(lengths):
        values[i, :length] = torch.randn(length, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
    return Stream(values, steps, torch.ones(len(lengths), dtype=torch.bool))


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
        stream = rows(6, 1, 3)
        alone = network.forward(
            Stream(stream.values[row : row + 1, :length], stream.steps[row : row + 1, :length], stream.present[:1])
        )
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
    vector = network.forward(rows(6, 1, 3)).vector
    (vector * torch.linspace(0.5, 1.5, vector.numel(), dtype=torch.float64).view_as(vector)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bfloat16_is_near_float32() -> None:
    network, stream = make().float(), rows(6, 2)
    stream.values = stream.values.float()
    exact = network.forward(stream).vector
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.forward(stream).vector
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("options", "sentence"), [({"channels": (4, 6)}, "multiples of 4"), ({"kernel": 2}, "kernel 2 has no centre")]
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_parts_are_read_out_one_after_another_from_real_steps_alone() -> None:
    parts, lengths = 3, (11, 4, 2)
    network = make(parts=parts, readout="mean+std").eval()
    found = network(rows(*lengths, pad=3))
    channels = network.width // (2 * parts)
    for i, real in enumerate(found.steps):
        steps = found.sequence[i, real, :channels]
        groups = [[k for k in range(len(steps)) if k * parts // len(steps) == part] for part in range(parts)]
        mean = [steps[group].mean(0) if group else steps.new_zeros(channels) for group in groups]
        torch.testing.assert_close(found.vector[i, : channels * parts], torch.cat(mean), rtol=0, atol=1e-12)
        spread = [(steps[group].var(0, correction=0) if group else steps.new_zeros(channels)) for group in groups]
        torch.testing.assert_close(found.vector[i, channels * parts :], (torch.cat(spread) + 1e-6).sqrt(), rtol=0, atol=1e-9)
