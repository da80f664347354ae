"""time-nce against loops over plain numbers."""

from __future__ import annotations

import math

import mmcl_losses as offered
import pytest
import torch

from mmcl.api import Pair, Steps
from mmcl.testing import check_loss, make_pair, make_variants


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def steps(n, rate, longest, seed, width=3):
    """Sequences of unlike lengths, some with a hole."""
    rng = torch.Generator().manual_seed(seed)
    count = int(longest * rate)
    times = ((torch.arange(count) + 0.5) / rate).expand(n, count)
    lengths = torch.randint(1, count + 1, (n, 1), generator=rng)
    real = (torch.arange(count) < lengths) & ~((times > 1) & (times < 2) & (torch.arange(n)[:, None] == 1))
    return Steps(torch.randn(n, count, width, generator=rng, dtype=torch.float64), real, torch.where(real, times, -1.0))


def slots(side, i, every):
    """Slot → mean of its steps, of one row."""
    inside = {}
    for z, real, time in zip(side.z[i].tolist(), side.real[i].tolist(), side.times[i].tolist(), strict=True):
        if real:
            inside.setdefault(int(time // every), []).append(z)
    return {slot: [sum(row[d] for row in rows) / len(rows) for d in range(len(rows[0]))] for slot, rows in inside.items()}


def by_loops(pair, params):
    terms = []
    for i in range(len(pair.left)):
        of_slots = []
        for s, anchor in slots(pair.left_steps, i, params.every).items():
            near, far = [], []
            for k in range(len(pair.right)):
                if pair.ignore[i, k]:
                    continue
                for t, candidate in slots(pair.right_steps, k, params.every).items():
                    value = cosine(anchor, candidate) / params.temperature
                    if pair.positive[i, k] and s == t:
                        near.append(value)
                    elif pair.positive[i, k]:
                        if params.negatives != "recordings" and abs(s - t) > params.near:
                            far.append(value)
                    elif params.negatives != "seconds":
                        far.append(value)
            if near and far:
                total = math.log(sum(math.exp(value) for value in near + far))
                of_slots.append(total - sum(near) / len(near))
        if of_slots:
            terms.append(sum(of_slots) / len(of_slots))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(
    "options",
    [{}, {"negatives": "seconds"}, {"negatives": "recordings"}, {"near": 1}, {"every": 0.4, "temperature": 0.5}],
    ids=str,
)
def test_it_equals_loops(options):
    params = offered.TimeNceParams(**options)
    pair = make_pair(5, 6, width=3)
    pair.left_steps, pair.right_steps = steps(5, 4.0, 4, 1), steps(6, 2.5, 5, 2)
    scored = offered.TIME_NCE.build(params)(pair)
    assert float(scored.loss) == pytest.approx(by_loops(pair, params), rel=1e-9)


@pytest.mark.parametrize("params", make_variants(offered.TimeNceParams), ids=str)
def test_it_keeps_the_contract(params):
    check_loss(offered.TIME_NCE, params)


def test_an_order_that_agrees_is_better_than_one_that_does_not():
    n, loss = 4, offered.TIME_NCE.build(offered.TimeNceParams(negatives="seconds"))
    side = steps(n, 1.0, 6, 0)
    side = Steps(side.z, torch.ones_like(side.real), (torch.arange(6) + 0.5).expand(n, 6))
    turned = Steps(side.z.roll(1, 1), side.real, side.times)
    own = torch.eye(n, dtype=torch.bool)
    values = [
        float(loss(Pair(side.z[:, 0], side.z[:, 0], own, own & False, left_steps=side, right_steps=other)).loss)
        for other in (side, turned)
    ]
    assert values[0] < values[1] - 1
