"""For every test of the core and of the plug-ins."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The global generators begin each test at its name, so that a network built without a seed is the same in every run and order."""
    import torch

    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 — the global generator is the one that is meant
    torch.manual_seed(seed)
