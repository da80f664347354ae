"""Random changes to streams: each against what it says, padded steps untouched, absent rows untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmcl.api.batch import Stream
from mmcl.api.kinds import Layout
from mmcl.model.augment import Augmentation, augment, mirror, permuted, stretched

SIGNAL = Layout("sequence", ("time", "channel"), {"channel": 6}, 10.0)
SWAP = {"mirror": {"swap": [0, 2, 1, 3], "negate": [0]}}
SKELETON = Layout("skeleton", ("time", "joint", "channel"), {"joint": 4, "channel": 3}, 10.0, notes=SWAP)
LENGTHS = (12, 7, 1, 0)


def stream_of(layout, seed=0, garbage=0.0):
    steps = torch.arange(12)[None] < torch.tensor(LENGTHS)[:, None]
    values = torch.randn(4, 12, *layout.shape, generator=torch.Generator().manual_seed(seed))
    mask = steps.view(4, 12, *[1] * len(layout.shape))
    return Stream(torch.where(mask, values, torch.tensor(garbage)), steps, steps.any(1))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


EVERY = {
    "noise": 0.1,
    "gain": 0.2,
    "mask_time": 0.5,
    "mask_channels": 0.5,
    "rotate": 0.3,
    "lose": 0.3,
    "mask_bands": 0.5,
    "speed": 0.4,
    "permute": 4,
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("layout", [SIGNAL, SKELETON], ids=["signal", "skeleton"])
def test_padding_stays_zero_and_every_recording_keeps_a_step(name, layout):
    changed = augment(stream_of(layout), layout, Augmentation(**{name: EVERY[name]}), rng())
    assert not changed.values[~changed.steps].any()
    assert ((changed.steps.sum(1) > 0) == torch.tensor([n > 0 for n in LENGTHS])).all()
    assert changed.values.isfinite().all()
    assert changed.values[0].shape[1:] == torch.Size(layout.shape)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("lose", "noise")])
def test_what_stands_behind_the_mask_changes_nothing(name):
    how = Augmentation(**{name: EVERY[name]})
    clean, littered = (augment(stream_of(SIGNAL, garbage=g), SIGNAL, how, rng(1)) for g in (0.0, 1e6))
    torch.testing.assert_close(clean.values, littered.values)


@pytest.mark.parametrize("name", EVERY)
def test_equal_generators_give_equal_streams_and_others_differ(name):
    how = Augmentation(**{name: EVERY[name]})
    one, same, other = (augment(stream_of(SIGNAL), SIGNAL, how, rng(seed)).values for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_nothing_asked_for_is_nothing():
    assert not Augmentation()
    assert all(Augmentation(**{name: value}) for name, value in EVERY.items())
    assert Augmentation(mirror=0.5)


def test_permuting_keeps_every_step_of_every_recording_and_the_order_inside_a_part():
    stream = Stream(torch.arange(12.0).repeat(4, 1)[..., None], stream_of(SIGNAL).steps, torch.ones(4, dtype=torch.bool))
    seen = set()
    for seed in range(40):
        order = permuted(stream, 3, rng(seed)).values[..., 0]
        for row, length in enumerate(LENGTHS):
            assert sorted(order[row, :length].tolist()) == list(range(length))
            assert order[row, length:].tolist() == list(range(length, 12))
        jumps = int((order[0].diff() != 1).sum())
        assert jumps <= 2
        seen.add(jumps)
    assert seen == {0, 1, 2}


def test_a_recording_is_played_faster_by_interpolating_its_own_steps():
    stream = stream_of(SIGNAL, garbage=1e6)
    factor = torch.tensor([1.5, 0.5, 2.0, 1.0])
    changed = stretched(stream, factor)
    assert changed.steps.sum(1).tolist() == [8, 14, 1, 0]
    for row, after in ((0, 8), (1, 14)):
        before = LENGTHS[row]
        for channel in range(6):
            expected = np.interp(
                np.linspace(0, before - 1, after), np.arange(before), stream.values[row, :before, channel].numpy()
            )
            np.testing.assert_allclose(changed.values[row, :after, channel], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(changed.values[2, 0], stream.values[2, 0])


def test_the_same_speed_leaves_a_stream_as_it_is():
    stream = stream_of(SIGNAL)
    torch.testing.assert_close(stretched(stream, torch.ones(4)).values, stream.values)


def test_bands_are_masked_in_one_span_over_all_steps():
    stream = Stream(torch.ones(500, 5, 6), torch.ones(500, 5, dtype=torch.bool), torch.ones(500, dtype=torch.bool))
    values = augment(stream, SIGNAL, Augmentation(mask_bands=0.5), rng()).values
    assert (values == values[:, :1]).all()
    widths = []
    for row in values[:, 0]:
        hidden = (row == 0).nonzero().squeeze(1)
        widths.append(len(hidden))
        assert len(hidden) == 0 or int(hidden[-1] - hidden[0]) + 1 == len(hidden)
    assert max(widths) == 3
    assert min(widths) == 0


def test_joints_are_masked_whole():
    stream = Stream(torch.ones(400, 5, 4, 3), torch.ones(400, 5, dtype=torch.bool), torch.ones(400, dtype=torch.bool))
    values = augment(stream, SKELETON, Augmentation(mask_joints=0.25), rng()).values
    joints = values[:, 0, :, 0]
    assert (values == joints[:, None, :, None]).all()
    assert (joints == 0).float().mean() == pytest.approx(0.25, abs=0.03)


def test_a_mirror_swaps_left_and_right_and_turns_one_direction_and_undoes_itself():
    stream = stream_of(SKELETON)
    seen = mirror(stream, SKELETON, 1.0, rng())
    by_hand = stream.values[:, :, [0, 2, 1, 3]].clone()
    by_hand[..., 0] *= -1
    torch.testing.assert_close(seen.values, by_hand)
    torch.testing.assert_close(mirror(seen, SKELETON, 1.0, rng()).values, stream.values)
    assert mirror(stream, SKELETON, 0.0, rng()) is stream
    many = Stream(torch.ones(1000, 1, 4, 3), torch.ones(1000, 1, dtype=torch.bool), torch.ones(1000, dtype=torch.bool))
    assert (mirror(many, SKELETON, 0.3, rng()).values[:, 0, 0, 0] < 0).float().mean() == pytest.approx(0.3, abs=0.05)
