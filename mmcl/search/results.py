"""What a sweep gives to its page and its caller: every trial, the best one, and what it came to on test recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .. import __version__
from ..recipe.search import Value
from ..runs import JsonObject

DONE, EARLY, FAILED = "done", "ended early", "failed"
"""How a trial came out, in words."""


@dataclass(frozen=True)
class TrialResult:
    """One trial, finished in one way or another."""

    number: int
    state: str  # DONE, EARLY or FAILED
    values: Mapping[str, Value]  # by key of the recipe
    score: float | None  # on validation recordings
    seconds: float
    sentence: str  # why it failed


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep."""

    name: str
    metric: str
    less: bool  # whether less of the metric is better
    about: str  # what is scored, in words
    trials: tuple[TrialResult, ...]
    best: TrialResult
    importance: Mapping[str, float]  # share of the scores' variance, by key; empty where it is not known
    importance_says: str  # how it was computed, or why it was not
    final: Mapping[str, Any] | None  # the test score of the best values, run in full
    opened: tuple[int, ...]  # trials whose values have been tested so far

    def to_json(self) -> JsonObject:
        """Plain values."""
        return {"format": 1, "mmcl": __version__, **asdict(self)}
