"""The checks of a sampler pass one that keeps the contract and catch each planted fault."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmcl.api import NoParams, SamplerSpec
from mmcl.testing import check_sampler


class Shuffled:
    """Random order, with one fault or none."""

    def __init__(self, fault: str) -> None:
        self.fault, self.calls = fault, 0

    def __call__(self, pool, size, rng):
        n, fault = len(pool.row), self.fault
        self.calls += 1
        if fault == "a global generator":
            order = list(range(n))
            random.shuffle(order)
        elif fault == "never random":
            order = list(range(n))
        elif fault == "state between calls":
            order = np.roll(rng.permutation(n), self.calls)
        else:
            order = rng.permutation(n)
        if fault == "the pool changed":
            pool.seconds.sort()
        if fault == "rows in place of places":
            order = pool.row[order]
        if fault == "the last one lost":
            order = order[: n - n % size] if n >= size else order
        batches = [[int(i) for i in order[k : k + size]] for k in range(0, n, size)]
        batches = [one for one in batches if one]
        if fault == "one twice" and n > 2:
            batches[0] = [*batches[0][:-1], batches[0][0]]
        if len(batches) > 1 and len(batches[-1]) == 1 and fault != "one alone":
            last = batches.pop()
            batches[-1] += last
        if fault == "all in one":
            batches = [[i for one in batches for i in one]] if batches else []
        return batches


@pytest.mark.parametrize("fault", [True, False])
def test_a_sampler_that_cannot_do_without_embeddings_is_caught(fault):
    def nearest_first(pool, size, rng):
        order = rng.permutation(len(pool.row))
        if fault or pool.embeddings:
            order = order[np.argsort(-pool.embeddings["voice"][order, 0], kind="stable")]
        return [[int(i) for i in one] for one in np.array_split(order, max(1, len(order) // size)) if len(one)]

    spec = SamplerSpec("nearest-first", "by one number", NoParams, lambda params: nearest_first, looks=lambda params: 1)
    if not fault:
        check_sampler(spec)
        return
    with pytest.raises(AssertionError, match="of which the first epoch has none: it raised KeyError: 'voice'"):
        check_sampler(spec)


FAULTS = {
    "a global generator": "changes the generator of `random`",
    "never random": "the same batches from any generator",
    "state between calls": "asked twice with equal generators",
    "the pool changed": "changes its pool in place",
    "rows in place of places": "there is no place",
    "the last one lost": "is missing",
    "one twice": "comes twice",
    "one alone": "two recordings at least",
    "all in one": "a batch has `size` places",
}


def spec(fault: str = "") -> SamplerSpec:
    return SamplerSpec("shuffled", "random order", NoParams, lambda params: Shuffled(fault))


def test_a_sampler_that_keeps_the_contract_passes():
    check_sampler(spec())


@pytest.mark.parametrize(("fault", "sentence"), FAULTS.items())
def test_each_fault_is_caught(fault, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_sampler(spec(fault))
