"""From outputs to probabilities: one temperature, fitted on validation rows (Guo et al. 2017, §4.2)."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from ..api.dataset import Task

Floats = NDArray[np.float64]

FURTHEST = 5.0
"""A temperature is no smaller than exp(−FURTHEST) and no larger than exp(FURTHEST)."""


def temperature(task: Task, target: Floats, output: Floats) -> float | None:
    """What outputs are divided by so that validation rows are likeliest; None for a regression, and where no row has a label.

    target  classes [n] of a single-label task; 0, 1 or NaN [n, classes] of a multi-label task
    output  [n, classes]: logits
    """
    known = np.isfinite(target)
    if task.type == "regression" or not known.any():
        return None
    best = minimize_scalar(
        lambda log: _unlikeliness(task, target, output / math.exp(log)), bounds=(-FURTHEST, FURTHEST), method="bounded"
    )
    return float(math.exp(best.x))


def probabilities(task: Task, output: Floats, divisor: float | None) -> Floats:
    """Probabilities [n, classes] of a classification's outputs: summing to 1 over the classes of a single-label task."""
    scaled = output / (1.0 if divisor is None else divisor)
    return cast("Floats", softmax(scaled, axis=1) if task.type == "single-label" else expit(scaled))


def _unlikeliness(task: Task, target: Floats, output: Floats) -> float:
    """Mean negative log-likelihood of the labels that are known."""
    if task.type == "single-label":
        return -float(log_softmax(output, axis=1)[np.arange(len(target)), target.astype(int)].mean())
    known = np.isfinite(target)
    each = np.where(target > 0.5, log_expit(output), log_expit(-output))
    return -float(each[known].mean())
