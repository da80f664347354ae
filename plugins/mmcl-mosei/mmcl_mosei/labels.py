"""Labels of a segment: how intensities become targets. The same for .csd files and converted pickles."""

from __future__ import annotations

import math
from collections.abc import Sequence

LARGEST = 3.0


def targets(
    sentiment: float | None, intensities: Sequence[float] | None, least: float
) -> dict[str, int | float | list[int] | list[float]]:
    """Targets of one segment; what is not known is left out.

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
        values["sentiment-7"] = round(min(LARGEST, max(-LARGEST, sentiment))) + 3
    return values
