"""What a residual network along time must be: blocks by the formula, apart where it says so, blind to padding and to what stands there."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from mmcl_resnet1d import RESNET_1D, Resnet1dParams
from mmcl_resnet1d.layers import FLOOR, Norm, stretches
from mmcl_resnet1d.network import Block, Resnet1d
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Layout, Stream
from mmcl.testing import check_backbone
from mmcl.testing.batch import make_rows, row_of, stack_rows
from mmcl.testing.networks import expect_near_in_bfloat16, idle_parameters

SHAPES = {"signal": (6,), "skeleton": (4, 3), "video": (1, 12, 16)}
AXES = {
    "signal": ("time", "channel"),
    "skeleton": ("time", "joint", "channel"),
    "video": ("time", "channel", "height", "width"),
}
LENGTHS = (9, 1, 4)
NORMS, READOUTS = ("group", "batch", "layer"), ("mean", "mean+max", "last", "attention")


def layout_of(kind: str, shape: tuple[int, ...] | None = None) -> Layout:
    return Layout(kind, AXES[kind], dict(zip(AXES[kind][1:], shape or SHAPES[kind], strict=True)), 25.0)


def make(kind: str = "signal", **options: object) -> Resnet1d:
    """A small network without dropout, in float64, whose every parameter is drawn: at first biases are 0 and hide what padding does."""
    torch.manual_seed(1)
    small = {"apart": (2,), "channels": (6, 8), "stem": (2, 3), "grid": 2, "kernel": 3, "dropout": 0.0}
    params = Resnet1dParams.model_validate({**small, **options})
    RESNET_1D.fits(params, layout_of(kind))
    network = RESNET_1D.build(params, layout_of(kind)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def rows(kind: str, *lengths: int, pad: int = 0) -> Stream:
    return make_rows(SHAPES[kind], *lengths, pad=pad)


# ------------------------------------------------------------------------------------------------------------------ padding


@pytest.mark.parametrize(("kind", "norm", "readout", "resample"), list(itertools.product(SHAPES, NORMS, READOUTS, (None, 7))))
def test_padding_and_neighbours_never_change_a_row(kind: str, norm: str, readout: str, resample: int | None) -> None:
    network = make(kind, norm=norm, readout=readout, resample=resample).train(norm != "batch")
    together = network.forward(rows(kind, *LENGTHS, pad=5))
    assert together.vector.shape == (3, network.width)
    for row, length in enumerate(LENGTHS):
        alone = network.forward(row_of(rows(kind, *LENGTHS), row, length))
        real = together.steps[row]
        torch.testing.assert_close(together.vector[row], alone.vector[0], rtol=0, atol=1e-11)
        torch.testing.assert_close(together.sequence[row, real], alone.sequence[0], rtol=0, atol=1e-11)
        assert not together.sequence[row, ~real].any()


@pytest.mark.parametrize(("kind", "norm", "resample"), list(itertools.product(SHAPES, NORMS, (None, 7))))
def test_what_stands_behind_the_mask_is_never_read(kind: str, norm: str, resample: int | None) -> None:
    network = make(kind, norm=norm, resample=resample, parts=2, readout="mean+max").train()
    clean, spoilt = rows(kind, *LENGTHS, pad=5), rows(kind, *LENGTHS, pad=5)
    spoilt.values[~spoilt.steps] = float("nan")
    torch.testing.assert_close(network.forward(spoilt).vector, network.forward(clean).vector, rtol=0, atol=0)


def test_batch_statistics_are_those_of_the_real_steps_alone() -> None:
    norm, plain = Norm(3, 1, "batch").double(), nn.BatchNorm1d(3).double()
    stream = make_rows((3,), *LENGTHS)
    values = stream.values.masked_fill(~stream.steps[..., None], 1e6).transpose(1, 2)
    got = norm(values, stream.steps).transpose(1, 2)[stream.steps]
    torch.testing.assert_close(got, plain(stream.values[stream.steps]))
    torch.testing.assert_close(norm.batch.running_var, plain.running_var)


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_half_precision_is_normalised_in_float32(kind: str) -> None:
    rough = 100 + torch.randn(1, 2, 3000, generator=torch.Generator().manual_seed(0)).bfloat16()
    steps, norm = torch.ones(1, 3000, dtype=torch.bool), Norm(2, 2 if kind == "group" else 1, kind)
    assert torch.equal(norm(rough, steps), norm(rough.float(), steps))


@pytest.mark.parametrize(("kind", "norm", "readout"), list(itertools.product(SHAPES, NORMS, READOUTS)))
def test_a_batch_of_one_recording_of_one_step_can_be_trained_on(kind: str, norm: str, readout: str) -> None:
    network = make(kind, norm=norm, readout=readout).train()
    vector = network.forward(rows(kind, 1)).vector
    vector.sum().backward()
    assert vector.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


# ------------------------------------------------------------------------------------------------------------------- blocks


def slow_norm(values: Tensor, norm: Norm, kind: str, groups: int) -> Tensor:
    """[T, C], one group of channels after another; statistics over the group's channels and all steps, or a step's alone."""
    out = torch.empty_like(values)
    for one in range(groups):
        here = [c for c in range(values.shape[1]) if c * groups // values.shape[1] == one]
        for t in range(len(values)):
            seen = values[t, here] if kind == "layer" else values[:, here]
            scaled = (values[t, here] - seen.mean()) / (seen.var(correction=0) + FLOOR).sqrt()
            out[t, here] = scaled * norm.weight[here] + norm.bias[here]
    return out


def slow_convolution(values: Tensor, layer: nn.Conv1d, stride: int) -> Tensor:
    """[T, C] → [T', C'], each output channel a sum over the channels of its own group."""
    outer, own, size = layer.weight.shape
    groups = values.shape[1] // own
    out = []
    for t in range(0, len(values), stride):
        step = torch.zeros(outer, dtype=values.dtype)
        for channel in range(outer):
            first = channel * groups // outer * own
            for j in range(size):
                if 0 <= t + j - size // 2 < len(values):
                    step[channel] += layer.weight[channel, :, j] @ values[t + j - size // 2, first : first + own]
        out.append(step)
    return torch.stack(out)


@pytest.mark.parametrize(("kind", "groups", "stride"), [("group", 1, 1), ("group", 3, 2), ("layer", 3, 1), ("layer", 1, 3)])
def test_a_block_is_its_formula_computed_step_by_step(kind: str, groups: int, stride: int) -> None:
    torch.manual_seed(0)
    params = Resnet1dParams.model_validate({"kernel": 3, "norm": kind, "dropout": 0.0})
    block = Block(6, 12, stride, groups, params).double()
    for norm in block.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    stream = make_rows((6,), *LENGTHS, pad=2)
    got, steps = block(stream.values.transpose(1, 2), stream.steps)
    halves = groups if groups > 1 or kind == "layer" else 4  # the most groups of 8 that divide 12 channels
    for row, length in enumerate(LENGTHS):
        values = stream.values[row, :length]
        inner = slow_norm(slow_convolution(values, block.first, stride), block.norms[0], kind, halves).relu()
        inner = slow_norm(slow_convolution(inner, block.second, 1), block.norms[1], kind, halves)
        source = slow_norm(slow_convolution(values, block.match, stride), block.norms[2], kind, halves)
        assert steps[row].sum() == len(inner) == -(-length // stride)
        torch.testing.assert_close(got[row].T[: len(inner)], (inner + source).relu(), rtol=0, atol=1e-10)
        assert not got[row].T[len(inner) :].any()


def test_a_block_that_changes_nothing_else_adds_its_input_itself() -> None:
    block = Block(6, 6, 1, 1, Resnet1dParams(dropout=0.0)).double()
    nn.init.zeros_(block.norms[1].weight)
    stream = make_rows((6,), 5)
    assert block.match is None
    torch.testing.assert_close(block(stream.values.transpose(1, 2), stream.steps)[0], stream.values.transpose(1, 2).relu())


@pytest.mark.parametrize(("strides", "left"), [(None, 3), ((1, 1, 1), 9), ((3, 1, 2), 2)])
def test_each_stage_keeps_as_many_steps_as_its_stride_says(strides: tuple[int, ...] | None, left: int) -> None:
    network = make(strides=strides, blocks=2)
    assert network.forward(rows("signal", 9)).sequence.shape[1] == left
    assert [block.stride for block in network.blocks[1::2]] == [1, 1, 1]  # the second block of a stage leaves its steps alone


# -------------------------------------------------------------------------------------------------------------------- apart


def reached(network: Resnet1d, stream: Stream, changed: Stream, block: int) -> set[int]:
    """Which channels behind a block another stream changes."""
    outputs: list[Tensor] = []
    handle = network.blocks[block].register_forward_hook(lambda _, __, output: outputs.append(output[0].detach()))
    network.forward(stream)
    network.forward(changed)
    handle.remove()
    return set((outputs[0] - outputs[1]).abs().amax((0, 2)).nonzero().flatten().tolist())


@pytest.mark.parametrize(
    ("kind", "options", "place", "own"),
    [
        ("signal", {}, np.s_[..., 4], {8, 9}),
        ("signal", {"group": 3}, np.s_[..., 4], {2, 3}),
        ("skeleton", {}, np.s_[:, :, 1], {2, 3}),
        ("skeleton", {"norm": "layer"}, np.s_[:, :, 1, 2], {2, 3}),
        ("video", {"stem": (2,), "grid": 4}, np.s_[..., 8:, :2], {24, 25}),  # the lowest and leftmost of 4 × 4 parts
    ],
)
def test_things_are_kept_apart_in_the_first_stages_and_mixed_behind_them(
    kind: str, options: dict[str, object], place: object, own: set[int]
) -> None:
    network = make(kind, **{"apart": (4, 2), "norm": "batch", **options}).eval()
    stream, changed = rows(kind, 9), rows(kind, 9)
    changed.values[place] += 1.0
    first = {c for c in own for c in (2 * c, 2 * c + 1)}  # twice as many filters in the first stage
    if kind != "video":
        assert set() < reached(network, stream, changed, 0) <= first
        assert set() < reached(network, stream, changed, 1) <= own
    else:  # a convolution looks a few pixels beyond a part
        assert own <= reached(network, stream, changed, 1) <= own | {16, 17, 18, 19, 26, 27}
    assert len(reached(network, stream, changed, 2)) > 2


def test_every_thing_has_filters_of_its_own() -> None:
    stream = rows("skeleton", 9)
    stream.values[:, :, 1] = stream.values[:, :, 0]
    outputs: list[Tensor] = []
    network = make("skeleton", norm="group")
    network.blocks[0].register_forward_hook(lambda _, __, output: outputs.append(output[0]))
    network.forward(stream)
    assert (outputs[0][0, :2] - outputs[0][0, 2:4]).abs().max() > 0.1


@pytest.mark.parametrize(("channels", "things"), [(6, 6), (16, 16), (18, 9), (80, 16), (128, 16), (300, 15), (37, 1)])
def test_channels_stay_together_in_as_small_groups_as_make_sixteen(channels: int, things: int) -> None:
    network = RESNET_1D.build(Resnet1dParams(), layout_of("signal", (channels,)))
    assert network.blocks[0].first.groups == things


def test_no_stage_apart_mixes_all_from_the_start() -> None:
    assert [block.first.groups for block in make(apart=()).blocks] == [1, 1]


# ----------------------------------------------------------------------------------------------------------------- resample


def test_a_recording_played_at_half_the_speed_has_the_same_vector() -> None:
    fast = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slow = torch.zeros(15, 6, dtype=torch.float64)
    slow[::2], slow[1::2] = fast, (fast[1:] + fast[:-1]) / 2
    vectors = make(resample=8).forward(stack_rows([fast, slow])).vector
    torch.testing.assert_close(vectors[0], vectors[1])
    vectors = make(resample=None).forward(stack_rows([fast, slow])).vector
    assert (vectors[0] - vectors[1]).abs().max() > 0.01


# ------------------------------------------------------------------------------------------------------------------ pictures


def test_only_real_frames_reach_the_image_layers() -> None:
    network, counts = make("video"), []
    network.frames.layers[0].register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    network.forward(rows("video", 6, 1, 3, pad=20))
    assert counts == [10]


def test_frames_equal_pytorchs_own_layers_one_frame_after_another() -> None:
    network, stream = make("video", grid=2), rows("video", *LENGTHS, pad=2)
    got = network.frames(stream.values, stream.steps)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            hidden = stream.values[row, t][None]
            for layer, norm in zip(network.frames.layers, network.frames.norms, strict=True):
                hidden = functional.conv2d(hidden, layer.weight, None, 2, layer.weight.shape[2] // 2)
                hidden = functional.group_norm(hidden, norm.groups, norm.weight, norm.bias, FLOOR).relu()
            wanted = functional.adaptive_avg_pool2d(hidden, 2)[0].flatten(1).T
            torch.testing.assert_close(got[row, t], wanted)
        assert not got[row, length:].any()


@pytest.mark.parametrize(("size", "count"), [(12, 4), (7, 4), (3, 4), (5, 1)])
def test_stretches_are_pytorchs_adaptive_means(size: int, count: int) -> None:
    values = torch.randn(1, 1, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stretches(size, count) @ values[0, 0], functional.adaptive_avg_pool1d(values, count)[0, 0])


# ------------------------------------------------------------------------------------------------------------------ read-out


@pytest.mark.parametrize(
    ("readout", "parts"), [(r, p) for r, p in itertools.product(READOUTS, (1, 3)) if (r, p) != ("last", 3)]
)
def test_read_outs_are_computed_from_the_real_steps_of_each_part(readout: str, parts: int) -> None:
    lengths = (11, 1, 4)
    network = make(readout=readout, parts=parts, strides=(1, 1, 1))
    encoded = network.forward(rows("signal", *lengths, pad=3))
    for row, length in enumerate(lengths):
        steps = encoded.sequence[row, :length, :8]
        means, largest = [], []
        for part in range(parts):
            own = [steps[t] for t in range(length) if t * parts // length == part]
            scores = [network.read.score(one).item() if network.read.score is not None else 0.0 for one in own]
            total = sum(np.exp(scores))
            weights = [1.0] if readout == "last" else [np.exp(score) / total for score in scores]
            own = own[-1:] if readout == "last" else own
            means.append(sum((w * one for w, one in zip(weights, own, strict=True)), torch.zeros(8, dtype=torch.float64)))
            largest.append(torch.stack(own).amax(0) if own else torch.zeros(8, dtype=torch.float64))
        wanted = torch.cat([*means, *(largest if readout == "mean+max" else [])])
        torch.testing.assert_close(encoded.vector[row], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("readout", "width"), list(itertools.product(READOUTS, (None, 5))))
def test_width_is_that_of_the_vector_and_of_every_step(readout: str, width: int | None) -> None:
    network = make(readout=readout, width=width)
    encoded = network.forward(rows("signal", *LENGTHS))
    assert network.width == (width or (16 if readout == "mean+max" else 8))
    assert encoded.vector.shape == (3, network.width)
    assert encoded.sequence.shape[2] == network.width


# ------------------------------------------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize(("kind", "norm", "readout"), list(itertools.product(SHAPES, NORMS, READOUTS)))
def test_every_parameter_gets_a_gradient(kind: str, norm: str, readout: str) -> None:
    network = make(kind, norm=norm, readout=readout, width=5, blocks=2)
    assert idle_parameters(network, network.forward(rows(kind, 9, 12, 4)).vector) == []


def test_dropout_takes_whole_channels_and_only_while_training() -> None:
    network, stream = make(dropout=0.9), rows("signal", 9)
    kept = network.train().blocks[0].dropout(torch.ones(1, 32, 9)).amax(2)
    assert set(kept[0].round().tolist()) == {0.0, 10.0}
    assert not torch.equal(network.forward(stream).vector, network.forward(stream).vector)
    assert torch.equal(network.eval().forward(stream).vector, network.forward(stream).vector)


@pytest.mark.parametrize(("kind", "norm"), list(itertools.product(SHAPES, NORMS)))
def test_bfloat16_is_near_float32(kind: str, norm: str) -> None:
    expect_near_in_bfloat16(make(kind, norm=norm, readout="attention", resample=20), rows(kind, 30, 12))


@pytest.mark.parametrize(
    "options",
    [
        {"apart": ()},
        {"apart": (4, 4), "blocks": 2},
        {"resample": 16},
        {"resample": 3, "norm": "batch"},
        {"parts": 3, "readout": "attention"},
        {"width": 7, "readout": "mean+max", "parts": 2},
    ],
    ids=str,
)
def test_options_that_are_no_choice_among_words_keep_the_contract_too(options: dict[str, object]) -> None:
    check_backbone(RESNET_1D, Resnet1dParams.model_validate({"channels": (16, 16), **options}))


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("signal", {"kernel": 4}, "kernel 4 has no centre"),
        ("signal", {"strides": (1, 2)}, "strides has 2 entries; apart and channels make 3 stages together"),
        ("signal", {"readout": "last", "parts": 2}, "reads one step"),
        ("signal", {"group": 4}, "group 4 does not divide the 6 channels"),
        ("skeleton", {"group": 3}, "a skeleton is kept apart by its own parts"),
    ],
)
def test_options_that_cannot_work_are_refused(kind: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make(kind, **options)


def test_it_has_as_many_weights_as_its_description_says() -> None:
    shapes = {"signal": (6,), "skeleton": (20, 3), "video": (1, 48, 64)}
    built = {kind: RESNET_1D.build(Resnet1dParams(), layout_of(kind, shape)) for kind, shape in shapes.items()}
    counts = [f"{sum(p.numel() for p in network.parameters()):,}" for network in built.values()]
    assert re.findall(r"\d+,\d+", RESNET_1D.follows) == counts
