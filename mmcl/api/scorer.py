"""Scorer: gives every recording numbers that its corpus lacks, such as valence and arousal, to be used as a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .dataset import SampleRef, Task
from .params import Params
from .raw import Raw


@runtime_checkable
class Scorer(Protocol):
    """Scores one recording at a time, while a corpus is prepared.

    facts  what a data card should say of it, such as {"r valence": 0.61, "trained on": "EmoBank"}
    """

    facts: Mapping[str, str | int | float]

    def __call__(self, ref: SampleRef, raw: Raw | None) -> list[float] | None:
        """The values in the order of the task's classes, or None where it cannot tell. `raw` is None for a scorer of labels."""
        ...


@dataclass(frozen=True)
class ScorerSpec:
    """What a scorer plug-in registers.

    takes  types of source that it reads ("words", "audio", …); () for one that reads labels
    task   (params, tasks of the corpus) → the task that it adds; raises ValueError with one sentence where the corpus lacks
           what it needs
    build  (params, tasks of the corpus) → Scorer; heavy imports and training happen here. A relative path is taken as given
    """

    name: str
    summary: str
    params: type[Params]
    takes: tuple[str, ...]
    task: Callable[[Any, Mapping[str, Task]], Task]
    build: Callable[[Any, Mapping[str, Task]], Scorer]
    paper: str = ""
