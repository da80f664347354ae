"""Every registered head keeps the contract, with every choice of its options."""

from __future__ import annotations

import pytest

from mmcl.plugins import plugins
from mmcl.testing import check_head, check_spec, make_variants

EVERY = plugins().all("head")
SMALL = {"attention": {"width": 16, "hidden": 16}}
"""Options that make a head small enough to be checked in seconds; what it computes stays the same."""


def variants():
    for name, offer in EVERY:
        for n, params in enumerate(make_variants(offer.spec.params)):
            yield pytest.param(offer.spec, params.model_copy(update=SMALL.get(name, {})), id=f"{name}-{n}")


def test_there_are_heads():
    assert EVERY


@pytest.mark.parametrize(("name", "offer"), EVERY, ids=[name for name, _ in EVERY])
def test_every_head_is_described_and_light(name, offer):
    check_spec(offer.spec)


@pytest.mark.parametrize(("spec", "params"), list(variants()))
def test_every_head_keeps_the_contract(spec, params):
    check_head(spec, params)
