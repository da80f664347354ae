"""Every registered dataset keeps the contract, on the tiny copy that it writes itself."""

from __future__ import annotations

import pytest

from mmcl.plugins import plugins
from mmcl.testing import check_dataset, check_spec

EVERY = plugins().all("dataset")


def test_there_are_datasets():
    assert EVERY


@pytest.mark.parametrize(("name", "offer"), EVERY, ids=[name for name, _ in EVERY])
def test_every_dataset_is_described_and_light(name, offer):
    check_spec(offer.spec)


@pytest.mark.parametrize(("name", "offer"), EVERY, ids=[name for name, _ in EVERY])
def test_every_dataset_keeps_the_contract(name, offer, tmp_path):
    check_dataset(offer.spec, tmp_path)
