"""Means over batches of unequal size."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Mean:
    """The mean of one figure over batches, each weighing as many recordings as it has.

    Figures stay tensors until the mean is asked for, so that no step waits for the device.
    """

    def __init__(self) -> None:
        self._values: list[tuple[Tensor, int]] = []

    def add(self, value: Tensor, rows: int) -> None:
        """The figure of one more batch, of so many recordings."""
        self._values.append((value.detach(), rows))

    def to_json(self) -> list[tuple[float, int]]:
        """Plain values, for a checkpoint."""
        return [(float(value), rows) for value, rows in self._values]

    @classmethod
    def from_json(cls, values: Iterable[tuple[float, int]]) -> Mean:
        """The mean that `to_json` was asked of: float64 holds every figure exactly."""
        mean = cls()
        for value, rows in values:
            mean.add(torch.tensor(value, dtype=torch.float64), int(rows))
        return mean

    @property
    def value(self) -> float | None:
        """The mean so far; None before the first batch."""
        if not self._values:
            return None
        return math.fsum(float(value) * rows for value, rows in self._values) / sum(rows for _, rows in self._values)
