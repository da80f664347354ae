"""Every registered backbone keeps the contract, with every choice of its options."""

from __future__ import annotations

import pytest

from mmcl.plugins import plugins
from mmcl.testing import NotTried, check_backbone, check_spec, make_variants

EVERY = plugins().all("backbone")


def variants():
    for name, offer in EVERY:
        for n, params in enumerate(make_variants(offer.spec.params)):
            yield pytest.param(offer.spec, params, id=f"{name}-{n}")


def test_there_are_backbones():
    assert EVERY


@pytest.mark.parametrize(("name", "offer"), EVERY, ids=[name for name, _ in EVERY])
def test_every_backbone_is_described_and_light(name, offer):
    check_spec(offer.spec)


@pytest.mark.parametrize(("spec", "params"), list(variants()))
def test_every_backbone_keeps_the_contract(spec, params):
    try:
        check_backbone(spec, params)
    except NotTried as why:
        if params == spec.params() and "needs a model" not in str(why):  # which is a folder of the user's
            raise  # the defaults must fit something made up here
        pytest.skip(str(why))
