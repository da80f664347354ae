"""The page of a sweep: one file, offline, no script. It looks as a run's report does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..recipe.read import scalar
from ..runs import write_text
from . import figures
from .pages import environment, finished

FEW = 8
"""Values of a key up to which a screen reader hears each one's mean."""

if TYPE_CHECKING:
    from ..search.results import SweepResult, TrialResult


def write_page(searched: SweepResult, out: Path) -> Path:
    """Write the page of a sweep into its folder; its path."""
    write_text(out / "sweep.html", page(searched))
    return out / "sweep.html"


def page(searched: SweepResult) -> str:
    """The page, as text. Equal trials give equal bytes."""
    templates = environment()
    templates.filters["value"] = shown
    scores = {one.number: one.score for one in searched.trials if one.score is not None}
    ended = [one.number for one in searched.trials if one.score is None]
    text = templates.get_template("search.html.j2").render(
        name=searched.name,
        search=searched,
        trials=ranked(searched),
        climb=figures.climb(scores, ended, searched.less, searched.metric, _climb_words(searched, scores, ended)),
        slices=_slices(searched),
        shares=figures.shares(searched.importance, _share_words(searched)) if searched.importance else None,
        ended=len(ended),
        whole=sum(one.seconds for one in searched.trials),
        version=__version__,
    )
    return finished(text)


def _slices(searched: SweepResult) -> figures.Picture:
    """The score of every trial that has one, over each key's values."""
    whole = [one for one in searched.trials if one.score is not None]
    keys = {key: [_number_or_word(one.values[key]) for one in whole] for key in searched.best.values}
    sentences = []
    for key, values in keys.items():
        by: dict[float | str, list[float]] = {}
        for value, one in zip(values, whole, strict=True):
            by.setdefault(value, []).append(one.score or 0.0)
        if len(by) <= FEW:
            means = ", ".join(
                f"{sum(each) / len(each):.3f} at {shown(value)}"
                for value, each in sorted(by.items(), key=lambda one: (isinstance(one[0], str), one[0]))
            )
            sentences.append(f"Mean validation {searched.metric} by {key}: {means}.")
        else:
            sentences.append(f"Validation {searched.metric} by {key}, best at {shown(searched.best.values[key])}.")
    return figures.slices(keys, [one.score or 0.0 for one in whole], searched.metric, " ".join(sentences))


def _number_or_word(value: str | int | float) -> float | str:
    """A value of a list as the number that it says, if it says one."""
    read = scalar(value) if isinstance(value, str) else value
    return float(read) if isinstance(read, int | float) and not isinstance(read, bool) else str(value)


def ranked(searched: SweepResult) -> list[TrialResult]:
    """Every trial, the best first; those without a score at the end, in their order."""
    return sorted(
        searched.trials,
        key=lambda one: (
            one.score is None,
            0.0 if one.score is None else one.score if searched.less else -one.score,
            one.number,
        ),
    )


def shown(value: str | int | float) -> str:
    """A swept value in few letters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _climb_words(searched: SweepResult, scores: dict[int, float], ended: list[int]) -> str:
    best = searched.best
    low, high = min(scores.values()), max(scores.values())
    text = f"Validation {searched.metric} of {len(scores)} trials, between {low:.3f} and {high:.3f}; the best, {best.score:.3f}, is trial {best.number}."
    return text + (f" {len(ended)} trials have no score: they failed or were ended early." if ended else "")


def _share_words(searched: SweepResult) -> str:
    each = ", ".join(f"{key} {100 * share:.0f} %" for key, share in searched.importance.items())
    return f"How much of the scores' variance each key explains: {each}."
