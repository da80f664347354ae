"""What ST-GCN must be: the formula of Yan et al. 2018 computed joint by joint, with batch statistics of real steps alone."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from mmcl_stgcn import STGCN, StgcnParams
from mmcl_stgcn.graphs import Graph, partitions
from mmcl_stgcn.network import NARROW, PackedNorm, Packing, Stgcn, gather_neighbours
from torch import Tensor, nn

from mmcl.api import Layout
from mmcl.testing.batch import make_rows, row_of
from mmcl.testing.networks import expect_near_in_bfloat16, expect_read_out_in_parts, idle_parameters

JOINTS, CHANNELS = 5, 3
EDGES = ((0, 1), (1, 2), (1, 3), (2, 3), (3, 4))
LAYOUT = Layout("skeleton", ("time", "joint", "channel"), {"joint": JOINTS, "channel": CHANNELS}, 30.0)


def make(**options: Any) -> Stgcn:
    """A small network without dropout, in float64."""
    torch.manual_seed(1)
    small = {"graph": "custom", "edges": EDGES, "centre": 1, "kernel": 3, "channels": (4, 4, 6), "dropout": 0.0}
    params = StgcnParams.model_validate({**small, **options})
    STGCN.fits(params, LAYOUT)
    network = STGCN.build(params, LAYOUT).double()
    exact = partitions(Graph("five", JOINTS, EDGES, 1), params.partition, params.max_hop)
    network.adjacency = torch.tensor(exact, dtype=torch.float64)  # as float32 it would hide differences below 1e-8
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # gains, shifts and edges that say something
    return network


rows = functools.partial(make_rows, (JOINTS, CHANNELS))


def slow_norm(batch: list[Tensor], norm: nn.BatchNorm1d) -> list[Tensor]:
    """Batch normalisation in training: mean and deviation of each channel over all that the rows hold."""
    every = torch.cat([row.reshape(-1, norm.num_features) for row in batch])
    mean, deviation = every.mean(0), (every.var(0, unbiased=False) + norm.eps).sqrt()
    return [
        ((row.reshape(-1, norm.num_features) - mean) / deviation * norm.weight + norm.bias).reshape(row.shape) for row in batch
    ]


def slow_graph(row: Tensor, weight: Tensor, adjacency: Tensor) -> Tensor:
    """For every step and joint: the sum over subsets and neighbours of edge weight times mixed channels."""
    subsets, joints = adjacency.shape[0], adjacency.shape[1]
    mixes = weight.view(weight.shape[0], subsets, -1)
    out = torch.zeros(len(row), joints, weight.shape[0], dtype=torch.float64)
    for t, to, k, source in itertools.product(range(len(row)), range(joints), range(subsets), range(joints)):
        out[t, to] += adjacency[k, source, to] * (mixes[:, k] @ row[t, source])
    return out


def slow_time(row: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Temporal convolution around every `stride`-th step; what lies beyond the row is zero."""
    half = weight.shape[2] // 2
    out = []
    for t in range(0, len(row), stride):
        total = torch.zeros(row.shape[1], weight.shape[0], dtype=torch.float64)
        for j in range(weight.shape[2]):
            if 0 <= t + j - half < len(row):
                total += row[t + j - half] @ weight[:, :, j, 0].T
        out.append(total)
    return torch.stack(out)


def slow_network(network: Stgcn, batch: list[Tensor]) -> list[Tensor]:
    """The whole network on rows of their own lengths, in training."""
    batch = slow_norm([row.flatten(1) for row in batch], network.enter)
    batch = [row.view(-1, JOINTS, CHANNELS) for row in batch]
    for unit in network.units:
        adjacency = network.adjacency if unit.importance is None else network.adjacency * unit.importance
        hidden = slow_norm([slow_graph(row, unit.mix.weight, adjacency) for row in batch], unit.first)
        hidden = slow_norm([slow_time(row.relu(), unit.time.weight, unit.stride) for row in hidden], unit.second)
        if unit.match is not None:
            batch = slow_norm([row[:: unit.stride] @ unit.match[0].weight.T for row in batch], unit.match[1])
        if unit.residual:
            hidden = [a + b for a, b in zip(hidden, batch, strict=True)]
        batch = [row.relu() for row in hidden]
    return batch


@pytest.mark.parametrize(
    "options",
    [
        {"strides": (1, 2, 1)},
        {"partition": "distance", "edge_importance": False},
        {"partition": "uniform", "kernel": 5, "max_hop": 2},
    ],
)
def test_training_equals_the_formula_computed_joint_by_joint_on_unpadded_rows(options: dict[str, Any]) -> None:
    network, stream = make(**options), rows(7, 1, 4, pad=3)
    encoded = network.forward(stream)
    with torch.no_grad():
        slow = slow_network(network, [stream.values[i, :length] for i, length in enumerate((7, 1, 4))])
    for row, expected in enumerate(slow):
        torch.testing.assert_close(encoded.sequence[row, : len(expected)], expected.mean(1), rtol=0, atol=1e-10)
        torch.testing.assert_close(encoded.vector[row], expected.mean((0, 1)), rtol=0, atol=1e-10)
        assert not encoded.sequence[row, len(expected) :].any()
        assert encoded.steps[row].sum() == len(expected)


@pytest.mark.parametrize("channels", [1, 2, NARROW, NARROW + 1, 32])
def test_what_reaches_a_joint_is_its_neighbours_sum_however_many_channels_there_are(channels: int) -> None:
    values = torch.randn(7, 5, channels, dtype=torch.float64, requires_grad=True)
    graph = torch.rand(3, 5, 5, dtype=torch.float64, requires_grad=True)
    wanted = torch.einsum("kft,sfc->stkc", graph, values).flatten(2)
    reached = gather_neighbours(values, graph)
    torch.testing.assert_close(reached, wanted)
    weight = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(reached, (values, graph), weight),
        torch.autograd.grad(wanted, (values, graph), weight),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_deviations_are_those_of_each_joint_over_the_real_steps() -> None:
    network, stream = make(readout="mean+std"), rows(7, 1, 4, pad=3)
    vector = network.forward(stream).vector
    with torch.no_grad():
        slow = slow_network(network, [stream.values[i, :length] for i, length in enumerate((7, 1, 4))])
    for row, expected in enumerate(slow):
        deviation = (expected.var(0, unbiased=False) + 1e-6).sqrt().mean(0)
        torch.testing.assert_close(vector[row], torch.cat([expected.mean((0, 1)), deviation]), rtol=0, atol=1e-10)


def test_batch_statistics_are_those_of_the_unpadded_concatenation() -> None:
    stream = rows(7, 1, 4, pad=5)
    ours, theirs = PackedNorm(CHANNELS).double(), nn.BatchNorm1d(CHANNELS).double()
    packing = Packing(stream.steps)
    for _ in range(3):
        got = packing.unpack(ours(packing.pack(stream.values)))
        flat = torch.cat([stream.values[i, :length].reshape(-1, CHANNELS) for i, length in enumerate((7, 1, 4))])
        expected = theirs(flat).split([7 * JOINTS, JOINTS, 4 * JOINTS])
    for row, length in enumerate((7, 1, 4)):
        torch.testing.assert_close(got[row, :length].reshape(-1, CHANNELS), expected[row], rtol=0, atol=1e-12)
        assert not got[row, length:].any()
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("width", [None, 7])
@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_neither_the_vector_nor_the_running_statistics(stride: int, width: int | None, training: bool) -> None:
    results, kept = [], []
    for pad in (0, 1, 6):
        network = make(strides=(1, stride, 1), width=width, readout="mean+std")
        network.forward(rows(9, 6, 3))  # running statistics that are not the initial ones
        results.append(network.train(training).forward(rows(8, 1, 5, pad=pad)))
        kept.append(network.state_dict())
    for other, state in zip(results[1:], kept[1:], strict=True):
        torch.testing.assert_close(other.vector, results[0].vector, rtol=0, atol=1e-12)
        assert other.steps.sum(1).tolist() == [-(-length // stride) for length in (8, 1, 5)]
        assert all(torch.allclose(state[name].double(), kept[0][name].double(), rtol=0, atol=1e-12) for name in state)


def test_rows_do_not_see_each_other_once_trained() -> None:
    network, stream = make(), rows(7, 1, 4)
    network.forward(stream)
    network.eval()
    together = network.forward(stream).vector
    for row, length in enumerate((7, 1, 4)):
        alone = network.forward(row_of(stream, row, length))
        torch.testing.assert_close(alone.vector[0], together[row], rtol=0, atol=1e-12)


def test_one_row_of_one_step_trains_on_the_running_statistics_of_its_input() -> None:
    network = make()
    network.forward(rows(7, 4))
    before = network.enter.running_mean.clone()
    assert network.forward(rows(1)).vector.isfinite().all()
    assert torch.equal(network.enter.running_mean, before)


@pytest.mark.parametrize(
    ("partition", "readout", "width"),
    list(itertools.product(("spatial", "distance", "uniform"), ("mean", "mean+std"), (None, 7))),
)
def test_every_parameter_gets_a_gradient(partition: str, readout: str, width: int | None) -> None:
    network = make(partition=partition, readout=readout, width=width)
    assert idle_parameters(network, network.forward(rows(7, 1, 4)).vector, least=1e-9) == []


@pytest.mark.parametrize(("readout", "width"), list(itertools.product(("mean", "mean+std"), (None, 7))))
def test_a_sequence_is_as_wide_as_the_vector_and_equals_it_for_one_step(readout: str, width: int | None) -> None:
    network = make(readout=readout, width=width).eval()
    encoded = network.forward(rows(1))
    assert encoded.vector.shape == (1, network.width)
    # The read-out's deviation of one step is √1e-6, a sequence's is 0.
    torch.testing.assert_close(encoded.sequence[:, 0], encoded.vector, rtol=0, atol=3e-3)


def test_bfloat16_is_near_float32() -> None:
    expect_near_in_bfloat16(make(readout="mean+std"), rows(30, 12), rtol=0.1)


def test_joints_that_are_not_neighbours_do_not_meet_in_one_unit() -> None:
    network = make(channels=(4,)).eval()
    stream = rows(5)
    stream.values.requires_grad_()
    taken: list[Tensor] = []
    network.units[0].register_forward_hook(lambda _, __, output: taken.append(output[0]))
    network.forward(stream)
    taken[0][2, 4].sum().backward()  # step 2, joint 4: its only neighbour is 3, its kernel spans steps 1 to 3
    seen = stream.values.grad[0].abs().sum(2) > 0
    assert not seen[:, :3].any()
    assert not seen[[0, 4]].any()
    assert seen[1:4, 3:].any()


def test_parts_are_read_out_one_after_another_from_real_steps_alone() -> None:
    expect_read_out_in_parts(make(parts=3, readout="mean+std").eval(), rows(11, 4, 2, pad=3), 3, deviations=False)
