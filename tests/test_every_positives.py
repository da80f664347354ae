"""Every registered positives keeps the contract, with every choice of its options."""

from __future__ import annotations

import pytest

from mmcl.plugins import plugins
from mmcl.testing import check_positives, check_spec, make_variants

EVERY = plugins().all("positives")


def variants():
    for name, offer in EVERY:
        for n, params in enumerate(make_variants(offer.spec.params)):
            yield pytest.param(offer.spec, params, id=f"{name}-{n}")


def test_there_are_rules_for_positives():
    assert EVERY


@pytest.mark.parametrize(("name", "offer"), EVERY, ids=[name for name, _ in EVERY])
def test_every_positives_is_described_and_light(name, offer):
    check_spec(offer.spec)


@pytest.mark.parametrize(("spec", "params"), list(variants()))
def test_every_positives_keeps_the_contract(spec, params):
    check_positives(spec, params)
