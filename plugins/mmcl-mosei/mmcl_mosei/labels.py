"""Labels of a segment: how intensities become targets. The same for .csd files and converted pickles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

LARGEST = 3.0
BEYOND_SENTIMENT = "sentiments beyond −3 to 3, taken at its end"
BEYOND_EMOTIONS = "emotions beyond 0 to 3, taken at its end"


def within_scale(
    sentiment: float | None, intensities: Sequence[float] | None, seen: Counter[str]
) -> tuple[float | None, list[float] | None]:
    """Sentiment in [−3, 3] and intensities in [0, 3]: what lies beyond the scale is taken at its end, and counted by segment.

    Early releases have means over more annotators than three, and sums. What is no number stays as it is.
    """
    if sentiment is not None and math.isfinite(sentiment) and abs(sentiment) > LARGEST:
        seen[BEYOND_SENTIMENT] += 1
        sentiment = math.copysign(LARGEST, sentiment)
    if intensities is None:
        return sentiment, None
    held = [min(LARGEST, max(0.0, value)) if math.isfinite(value) else value for value in intensities]
    if any(a != b for a, b in zip(held, intensities, strict=True) if math.isfinite(b)):
        seen[BEYOND_EMOTIONS] += 1
    return sentiment, held


def targets(
    sentiment: float | None, intensities: Sequence[float] | None, least: float
) -> dict[str, int | float | list[int] | list[float]]:
    """Targets of one segment; what is not known is left out.

    sentiment    in [−3, 3]
    intensities  of EMOTIONS, in [0, 3]; one is present above 0, or from `least` on
    """
    values: dict[str, int | float | list[int] | list[float]] = {}
    if intensities is not None and all(map(math.isfinite, intensities)):
        values["emotions"] = [int(value >= least if least > 0 else value > 0) for value in intensities]
    if sentiment is not None and math.isfinite(sentiment):
        values["sentiment"] = float(sentiment)
        values["sentiment-2"] = int(sentiment >= 0)
        if sentiment != 0:
            values["sentiment-2-nonzero"] = int(sentiment > 0)
        values["sentiment-7"] = round(sentiment) + 3
    return values
