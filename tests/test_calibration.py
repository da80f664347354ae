"""Probabilities of outputs: one temperature, fitted on validation rows."""

from __future__ import annotations

import numpy as np
import pytest

from mmcl.api import Task
from mmcl.evaluate.calibration import probabilities, temperature

TASKS = {
    "single-label": Task("emotion", "single-label", ("happy", "sad", "angry")),
    "multi-label": Task("emotions", "multi-label", ("happy", "sad", "angry")),
    "regression": Task("valence", "regression", ("valence", "arousal")),
}


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_a_temperature_makes_validation_rows_likeliest(kind):
    rng, task = np.random.default_rng(0), TASKS[kind]
    output = rng.normal(size=(400, 3)) * 12  # far too sure: labels are drawn at a sixth of it
    shares = probabilities(task, output, 6.0)
    if kind == "single-label":
        target = np.array([rng.choice(3, p=row) for row in shares], float)
    else:
        target = (rng.random((400, 3)) < shares).astype(float)
        target[::7, 1] = np.nan  # unknown: counts nothing
    best = temperature(task, target, output)

    def unlikeliness(divisor: float) -> float:
        shares = probabilities(task, output, divisor)
        if kind == "single-label":
            return -np.mean([np.log(row[int(t)]) for row, t in zip(shares, target, strict=True)])
        return -np.nanmean(np.where(np.isnan(target), np.nan, np.log(np.where(target > 0.5, shares, 1 - shares))))

    tried = [unlikeliness(divisor) for divisor in np.exp(np.linspace(-1, 5, 60))]
    assert unlikeliness(best) <= min(tried) + 1e-7
    assert unlikeliness(best) < unlikeliness(1.0)
    assert 4 < best < 9


def test_a_regression_has_no_temperature():
    assert temperature(TASKS["regression"], np.zeros((3, 2)), np.ones((3, 2))) is None
