"""The generator that tests of modalities draw from."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(7)
