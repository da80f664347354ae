"""How sure a score is: mean, deviation and 95 % interval over folds and seeds.

The unit is the outermost thing that was repeated: the fold (seeds and head seeds are averaged within it first, every fold
weighs the same), else the seed, else the head seed. Seeds within a fold share their test recordings, so counting each of
them as a measurement of its own would make the interval too narrow.

The interval is Student's t over the units: mean ± t(97.5 %, units − 1) · sd / √units, cut where the metric ends. Over folds
it says how far the mean may lie from that over other test people like these; the folds of a cross-validation share training
recordings, so it is, if anything, too narrow (Bengio & Grandvalet 2004: no unbiased estimate of that variance exists). With
a single fold it is over seeds alone: the test set is fixed, and nothing is said about other people. One measurement has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

CONFIDENCE = 0.95

Unit = tuple[int, int, int]
"""(fold, seed, seed of the head): where one value was measured."""

LEVELS = ("folds", "seeds", "head seeds")
"""What a summary can be over, outermost first."""


@dataclass(frozen=True)
class Summary:
    """A score over everything that was repeated. Numbers are None where they don't exist.

    sd, low, high  deviation (n − 1) and 95 % interval over `units`
    units          how many measurements these rest on
    over           what they are: one of LEVELS, or "nothing" for a single measurement
    folds, seeds   how many there are of each, undefined values left out
    undefined      measurements whose value does not exist (such as the recall of a class that no test recording has)
    above          units whose value is above zero: of a difference, how often the first was higher
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    units: int
    over: str
    folds: int
    seeds: int
    undefined: int
    above: int


def summarise(values: Mapping[Unit, float | None], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Summary:
    """Mean, deviation and interval of one metric, measured at several units; `bounds` are the ends of the metric's range."""
    known = {unit: value for unit, value in values.items() if value is not None}
    undefined = len(values) - len(known)
    if not known:
        return Summary(
            mean=None,
            sd=None,
            low=None,
            high=None,
            units=0,
            over="nothing",
            folds=0,
            seeds=0,
            undefined=undefined,
            above=0,
        )
    depth = next((d for d in range(3) if len({unit[: d + 1] for unit in known}) > 1), None)
    # All units are alike above `depth`, so the means at that depth are the measurements.
    measured = list(_means(known, 0 if depth is None else depth).values())
    mean = fmean(measured)
    one = Summary(
        mean=mean,
        sd=None,
        low=None,
        high=None,
        units=len(measured),
        over="nothing",
        folds=len({unit[0] for unit in known}),
        seeds=len({unit[1] for unit in known}),
        undefined=undefined,
        above=sum(value > 0 for value in measured),
    )
    if depth is None:
        return one
    sd = stdev(measured)
    half = _quantile(len(measured) - 1) * sd / math.sqrt(len(measured))
    return replace(one, sd=sd, low=max(mean - half, bounds[0]), high=min(mean + half, bounds[1]), over=LEVELS[depth])


def difference(
    values: Mapping[Unit, float | None],
    baseline: Mapping[Unit, float | None],
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Summary:
    """How much higher `values` are than a baseline measured on the same folds and seeds, pair by pair.

    A baseline without head seeds (the majority class) counts for each of them. Units that the baseline lacks are left out.
    """
    exact = {unit: value for unit, value in baseline.items() if value is not None}
    by_seed = _means(exact, 1)
    apart: dict[Unit, float | None] = {}
    for unit, value in values.items():
        other = exact.get(unit, by_seed.get(unit[:2]))
        if unit in baseline or unit[:2] in by_seed:
            apart[unit] = None if value is None or other is None else value - other
    width = bounds[1] - bounds[0]
    return summarise(apart, (-width, width))


def bounds_of(metric: str) -> tuple[float, float]:
    """The ends of a metric's range, by its name ("happy/w_acc" is a w_acc)."""
    name = metric.rsplit("/", 1)[-1]
    if name in ("pearson", "ccc"):
        return -1.0, 1.0
    if name in ("mae", "median_rank"):
        return 0.0, math.inf
    return 0.0, 1.0


def _means(values: Mapping[Unit, float], depth: int) -> dict[tuple[int, ...], float]:
    """Means per fold (depth 0), per fold and seed (1) or per unit (2); every inner level weighs its members the same."""
    inner: Mapping[Any, float] = values  # keys grow shorter
    for level in range(2, depth, -1):
        grouped: dict[tuple[int, ...], list[float]] = {}
        for unit, value in inner.items():
            grouped.setdefault(unit[:level], []).append(value)
        inner = {unit: fmean(each) for unit, each in grouped.items()}
    return dict(inner)


def _quantile(freedom: int) -> float:
    """Student's t, the quantile that leaves (1 − CONFIDENCE) / 2 above it."""
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, without the second that importing scipy.stats takes

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


Cell = tuple[str, str, str, str, str]
"""What one score is of: (task, input, head, encoder, metric)."""


def values_of(scores: Iterable[Mapping[str, Any]]) -> dict[Cell, dict[Unit, float | None]]:
    """Every measured value by what it is of and where it was measured."""
    table: dict[Cell, dict[Unit, float | None]] = {}
    for row in scores:
        cell = (row["task"], row["input"], row["head"], row["encoder"], row["metric"])
        table.setdefault(cell, {})[row["fold"], row["seed"], row["head_seed"]] = row["value"]
    return table
