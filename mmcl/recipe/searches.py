"""The section of a recipe that says what a search tries, and by what it is judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .slots import Section


class Range(Section):
    """From low to high, both included; whole numbers alone where low, high and step are whole."""

    low: int | float = Field(description="lowest value")
    high: int | float = Field(description="highest value")
    step: int | float | None = Field(None, gt=0, description="distance between values; left out: any value between")
    log: bool = Field(False, description="draw evenly on a logarithmic scale")


def _choice(value: Any) -> Any:
    if isinstance(value, tuple) and not value:
        raise ValueError("is an empty list; name the values to try")
    if isinstance(value, tuple):
        return _distinct_values(value)
    if isinstance(value, dict | Range):
        return value
    raise ValueError("must be a list of values, or a range such as {low: 1e-4, high: 1e-2, log: true}")


def _distinct_values(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"names {twice[0]} twice")
    return values


class SweepScore(Section):
    """The validation score that a sweep makes as good as it can."""

    task: str | None = Field(None, description="task of the dataset; left out: the first")
    input: str | None = Field(
        None,
        description="what is predicted from, or whose modalities find each other; left out: the input with most modalities, of retrieval all",
    )
    head: str | None = Field(None, description="name of the head; left out: the first")
    metric: str | None = Field(None, description="left out: the metric that a report puts first; of retrieval R@1")
    stage: Literal["probe", "supervise", "retrieval"] | None = Field(
        None,
        description="whose scores; retrieval: how often a recording in one modality finds itself in another among 32, the mean over all "
        "pairs and both directions, for which no label is needed; left out: probe, supervise where nothing is pretrained and supervise is "
        "there, or retrieval where there is no task",
    )


class Sweep(Section):
    """A search over values of this recipe, judged on validation recordings alone: `mmcl sweep`. `mmcl run` leaves it alone."""

    space: dict[str, Annotated[tuple[Any, ...] | Range, BeforeValidator(_choice)]] = Field(
        min_length=1, description="what is tried: keys as in --set, each with a list of values or a range"
    )
    score: SweepScore = Field(default_factory=lambda: SweepScore(), description="what is made as good as it can be")
    trials: int | None = Field(None, ge=1, description="how many settings are tried; a grid tries all")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="tpe: learns from earlier trials where to look; random; grid: every combination"
    )
    prune: Literal["median", "none"] = Field(
        "none",
        description="median: a trial that does worse than the median of earlier ones at the same epoch, on validation "
        "recordings, is ended",
    )
    validation: Annotated[int, Field(ge=2)] | Literal["fold", "each-group"] = Field(
        "fold",
        description="which recordings judge a trial. fold: the validation rows of the protocol; a number: the groups of training and "
        "validation rows are dealt into so many parts, each of which judges once while the rest trains; each-group: every group is a part",
    )
    startup: int = Field(5, ge=1, description="random trials before tpe learns, and whole ones before any is ended early")
    folds: int = Field(1, ge=1, description="folds of the protocol, the first ones, on which each trial is run")
    seeds: int = Field(1, ge=1, description="seeds of the recipe, the first ones, with which each trial is run")
    seed: int = Field(0, description="seed of the search itself")
