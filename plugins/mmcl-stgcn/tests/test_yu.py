"""The traffic network on landmarks: the authors' sizes, its formula step by step, and rows that are too short."""

from __future__ import annotations

import functools

import pytest
import torch
from mmcl_stgcn import STGCN_YU, StgcnYuParams
from mmcl_stgcn.graphs import GRAPHS
from mmcl_stgcn.yu import LOST, Block, TimeBlock, normalised

from mmcl.api import Layout, Stream
from mmcl.testing.batch import make_rows

JOINTS = 4
LAYOUT = Layout("skeleton", ("time", "joint", "channel"), {"joint": JOINTS, "channel": 2}, 30.0, notes={})
EDGES = ((0, 1), (1, 2), (2, 3))


def make(**options):
    torch.manual_seed(1)
    params = StgcnYuParams(graph="custom", edges=EDGES, dropout=0.0, **options)
    STGCN_YU.fits(params, LAYOUT)
    return STGCN_YU.build(params, LAYOUT).double().eval()


rows = functools.partial(make_rows, (JOINTS, 2))


@pytest.mark.parametrize(
    ("options", "wanted"), [({"steps": 90}, 16.09e6), ({"steps": 30}, 14.12e6), ({"readout": "mean"}, 0.13e6)]
)
def test_it_has_as_many_weights_as_the_authors_network(options, wanted):
    layout = Layout("skeleton", ("time", "joint", "channel"), {"joint": 51, "channel": 2}, 30.0, notes={"graph": "face-51"})
    network = STGCN_YU.build(StgcnYuParams(**{"readout": "flatten", **options}), layout)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(wanted, rel=0.01)


def test_the_authors_graph_has_65_edges_and_four_that_ours_has_not():
    ours, theirs = (set(map(frozenset, GRAPHS[name].edges)) for name in ("face-51", "face-51-mpuc"))
    assert len(theirs) == 65
    assert {tuple(sorted(e)) for e in theirs - ours} == {(5, 7), (6, 8), (44, 50), (46, 48)}
    assert {tuple(sorted(e)) for e in ours - theirs} == {(5, 6), (7, 8)}


def test_adjacency_holds_the_identity_twice():
    got = torch.tensor(normalised(JOINTS, EDGES))
    a = torch.zeros(JOINTS, JOINTS)
    for i, j in EDGES:
        a[i, j] = a[j, i] = 1
    a = a + 2 * torch.eye(JOINTS)
    d = torch.diag(a.sum(1) ** -0.5)
    torch.testing.assert_close(got, d @ a @ d)


def test_a_time_block_adds_the_sigmoid_and_a_block_is_its_formula():
    torch.manual_seed(0)
    block = Block(2, JOINTS).double().eval()
    x = rows(9)
    got, steps = block(x.values, x.steps, torch.tensor(normalised(JOINTS, EDGES), dtype=torch.float64))

    def convolve(layer, values, t, v):
        return layer.bias + sum(layer.weight[:, :, k, 0] @ values[t + k][v] for k in range(3))

    def time_block(layers: TimeBlock, values):
        return [
            [
                (
                    convolve(layers.plain, values, t, v)
                    + convolve(layers.gate, values, t, v).sigmoid()
                    + convolve(layers.rest, values, t, v)
                ).relu()
                for v in range(JOINTS)
            ]
            for t in range(len(values) - 2)
        ]

    mixing = normalised(JOINTS, EDGES)
    first = time_block(block.before, [[x.values[0, t, v] for v in range(JOINTS)] for t in range(9)])
    mixed = [
        [(sum(mixing[v][w] * step[w] for w in range(JOINTS)) @ block.theta).relu() for v in range(JOINTS)] for step in first
    ]
    wanted = time_block(block.after, mixed)
    norm = block.norm
    for t, step in enumerate(wanted):
        for v in range(JOINTS):
            scaled = (step[v] - norm.running_mean[v]) / (norm.running_var[v] + norm.eps).sqrt() * norm.weight[v] + norm.bias[v]
            torch.testing.assert_close(got[0, t, v], scaled, rtol=1e-10, atol=1e-10)
    assert steps.shape[1] == 5


def test_short_rows_are_repeated_from_their_start_and_padding_changes_nothing():
    network = make()
    alone = network(rows(5)).vector[0]
    given = rows(5).values[0]
    long = torch.stack([given[t % 5] for t in range(LOST + 1)])[None]
    again = network(Stream(long, torch.ones(1, LOST + 1, dtype=torch.bool), torch.ones(1, dtype=torch.bool))).vector[0]
    torch.testing.assert_close(alone, again)
    torch.testing.assert_close(network(rows(5, 30, pad=4)).vector[0], alone)


def test_flatten_reads_so_many_steps_and_no_more():
    network = make(readout="flatten", steps=20)
    whole = rows(30)
    first = Stream(whole.values[:, :20], whole.steps[:, :20], whole.present)
    torch.testing.assert_close(network(whole).vector, network(first).vector)
    changed = rows(30)
    changed.values[0, 3] += 1
    assert (network(changed).vector - network(whole).vector).abs().max() > 1e-6
