"""Skeletons that do not depend on where a person stands, faces or how tall they are; plain signals."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, Sequence, Source, Table

from . import SignalsParams, SkeletonParams
from .checks import pick, require_finite, require_rate, require_steps
from .gaps import at_zero, fill_lost


class Skeleton:
    """Centred, turned, scaled, with speeds; y (the second coordinate) is taken as vertical. Joints at exactly 0 were lost, and are filled in."""

    def __init__(self, params: SkeletonParams, source: Source) -> None:
        assert source.rate is not None
        self.params, self.notes, self.rate = params, dict(source.notes), source.rate
        self._counts: Counter[str] = Counter()

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """Raises DataError if a value is NaN, the torso has no length, or the shoulders do not say where the body faces."""
        assert isinstance(raw, Sequence)
        require_rate(raw.rate, self.rate)
        require_steps(raw.values, tuple(int(n) for n in self.notes["shape"]))
        points = require_finite(raw.values, lambda i: f"frame {i[0] + 1}, joint {i[1]}, channel {i[2]}").astype(np.float64)
        lost = at_zero(points)
        self._counts["joints of single frames that were lost, filled in"] += int(lost[:, ~lost.all(axis=0)].sum())
        points = fill_lost(points, lost)
        if self.params.centre != "none":
            root = points[:, int(self.notes["root"])][:, None]
            points = points - (root[:1] if self.params.centre == "first-frame" else root)
        if self.params.turn:
            points = self._turned(points)
        if self.params.scale == "torso":
            top, bottom = self.notes["torso"]
            length = float(np.median(np.linalg.norm(points[:, top] - points[:, bottom], axis=1)))
            if length == 0:
                raise DataError(f"the torso (joints {top} and {bottom}) has length 0; the skeleton was not tracked")
            points = points / length
        if self.params.velocity:
            speed = np.zeros_like(points)
            speed[1:] = (points[1:] - points[:-1]) * self.rate
            points = np.concatenate([points, speed], axis=2)
        return points.astype(np.float32)

    def counts(self) -> dict[str, int]:
        """How many joints were lost so far."""
        return dict(self._counts)

    def _turned(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = self.notes["shoulders"]
        x, _, z = points[0, second] - points[0, first]
        width = float(np.hypot(x, z))
        if width == 0:
            raise DataError(f"the shoulders (joints {first} and {second}) of its first frame stand above each other")
        cosine, sine = x / width, z / width
        turned = points.copy()
        turned[..., 0] = points[..., 0] * cosine + points[..., 2] * sine
        turned[..., 2] = points[..., 2] * cosine - points[..., 0] * sine
        return turned


class Signals:
    """Channels as they are, at another rate if asked: step k stands at k / rate either way."""

    def __init__(self, params: SignalsParams, source: Source) -> None:
        self.params, self.source = params, source
        names = source.notes.get("columns" if source.type == "table" else "channels", ())
        self.names = [str(name).strip() for name in (params.columns or names)]

    def extract(self, raw: Raw) -> NDArray[np.float32]:
        """Raises DataError if a value is NaN, or the recording has another rate or shape than its source promises."""
        assert isinstance(raw, Table | Sequence)
        require_rate(raw.rate, self.source.rate)
        if isinstance(raw, Sequence):
            require_steps(raw.values, tuple(int(n) for n in self.source.notes["shape"]))
        chosen = pick(raw, self.names) if isinstance(raw, Table) else raw.values
        values = require_finite(chosen, lambda i: f"row {i[0] + 1}, column '{self.names[i[1]] if self.names else i[1]}'")
        rate = self.source.rate if raw.rate is None else raw.rate
        assert rate is not None
        if self.params.rate is None or self.params.rate == rate:
            return values
        return resampled(values, rate, self.params.rate)


def resampled(values: NDArray[np.float32], rate: float, wanted: float) -> NDArray[np.float32]:
    """The same stretch of time at another rate, low-passed below half of the lower rate; no step lies after the last given."""
    from scipy.signal import resample_poly

    ratio = Fraction(wanted / rate).limit_denominator(10_000)  # 30 / 29.97 is 1001 / 1000 exactly
    up, down = ratio.numerator, ratio.denominator
    if up == 0:
        raise DataError(f"has {rate:g} steps a second, more than can be brought down to {wanted:g}")
    steps = (len(values) - 1) * up // down + 1
    # The straight line from the first to the last step is taken out before the filter, which would pull both towards zero.
    return np.asarray(resample_poly(values.astype(np.float64), up, down, axis=0, padtype="line")[:steps], np.float32)
