"""The autoencoder of CAE-LR: the published shapes, the matrix by a slow loop, gaps, and that it learns."""

from __future__ import annotations

import pytest
import torch
from mmcl_cae import CAE, CaeParams
from mmcl_cae.network import Cae, shares

from mmcl.api import Layout, Stream

VOICE = Layout("spectrogram", ("time", "channel"), {"channel": 6}, 50.0)
FACE = Layout("skeleton", ("time", "joint", "channel"), {"joint": 3, "channel": 2}, 30.0)
UNITS = Layout("vector", ("channel",), {"channel": 4}, None)
LAYOUTS = {"voice": VOICE, "face": FACE, "units": UNITS}


def streams(rows: int = 5, pad: int = 0, seed: int = 0) -> dict[str, Stream]:
    generator = torch.Generator().manual_seed(seed)
    streams = {}
    for k, (name, layout) in enumerate(LAYOUTS.items()):
        lengths = torch.tensor([9 + 7 * k + 3 * i for i in range(rows)])
        longest = int(lengths.max())
        values = torch.randn(rows, longest, *layout.shape, generator=generator)
        steps = torch.arange(longest + pad) < lengths[:, None]
        values = torch.cat([values, torch.zeros(rows, pad, *layout.shape)], 1)
        values = values * steps.view(*steps.shape, *[1] * len(layout.shape))
        if not layout.timed:
            values, steps = values[:, 0], torch.ones(rows, 1, dtype=torch.bool)
        streams[name] = Stream(values, steps, torch.ones(rows, dtype=torch.bool))
    return streams


def make(**options) -> Cae:
    torch.manual_seed(1)
    return CAE.build(CaeParams(**options), LAYOUTS)


def test_the_published_matrix_of_20_by_409_becomes_250_numbers():
    layouts = {
        name: Layout("signal", ("time", "channel"), {"channel": size}, 10.0)
        for name, size in {"audio": 74, "text": 300, "vision": 35}.items()
    }
    assert CAE.build(CaeParams(), layouts).width == 250


@pytest.mark.parametrize(("length", "rows"), [(7, 3), (3, 7), (20, 20), (1, 4), (40, 8)])
def test_rows_are_means_over_equal_stretches_of_the_real_steps(length, rows):
    steps = torch.zeros(1, length + 2, dtype=torch.bool)
    steps[0, :length] = True
    weights = shares(steps, rows)[0]
    fine = 1000
    for j in range(rows):
        expected = torch.zeros(length + 2)
        for k in range(fine):  # a fine ruler laid over the stretch
            expected[int((j + (k + 0.5) / fine) * length / rows)] += 1 / fine
        torch.testing.assert_close(weights[j], expected, rtol=0, atol=2e-3)


def test_padding_and_other_recordings_change_nothing():
    network = make().eval()
    whole, padded, part = (
        streams(),
        streams(pad=6),
        {k: Stream(s.values[:2], s.steps[:2], s.present[:2]) for k, s in streams().items()},
    )
    torch.testing.assert_close(network(whole).vector, network(padded).vector, rtol=0, atol=1e-5)
    torch.testing.assert_close(network(whole).vector[:2], network(part).vector, rtol=0, atol=1e-5)


def test_a_missing_modality_is_not_to_be_rebuilt():
    network = make().eval()
    batch = streams()
    batch["face"].present[1] = False
    batch["face"].values[1] = 0
    matrix, known = network.matrix(batch)
    assert matrix[1, 0, :, 6:12].abs().max() == 0
    assert known[1, 0, :, 6:12].max() == 0
    assert known[1, 0, :, :6].min() == 1
    hidden, sizes, places = network._encode(matrix)
    rebuilt = network._decode(hidden, sizes, places)
    terms = [(rebuilt[i] - matrix[i])[known[i] > 0].square().mean() for i in range(5)]
    torch.testing.assert_close(network.learn(batch).loss, torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unpool", ["indices", "nearest"])
def test_it_learns_and_every_weight_has_a_part_in_it(unpool):
    network, batch = make(unpool=unpool), streams(rows=8)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = network.learn(batch).loss
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert all(
                p.grad is not None and bool(p.grad.abs().max() > 0) for n, p in network.named_parameters() if "bias" not in n
            )
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_streams_that_are_too_narrow_are_refused():
    with pytest.raises(ValueError, match="have 4 features a step together"):
        CAE.fits(CaeParams(), {"units": UNITS})
