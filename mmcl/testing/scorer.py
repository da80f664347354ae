"""The checks of a scorer: a task of several values, and as many numbers, or None, for every recording."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..api.dataset import SampleRef, Task
from ..api.errors import DataError
from ..api.raw import Raw
from ..api.scorer import ScorerSpec
from .checks import Check, NotTried, expect, run_checks
from .general import general_checks, process_check
from .raw import RAW, make_raw, make_sources


def check_scorer(spec: ScorerSpec, params: Any = None, tasks: Mapping[str, Task] | None = None) -> None:
    """A scorer adds a task of several values, and gives as many numbers, or None, the same every time.

    tasks  what the corpus has, for a scorer of labels; made up if left out
    """
    run_checks(scorer_checks(spec, params, tasks))


def scorer_checks(spec: ScorerSpec, params: Any = None, tasks: Mapping[str, Task] | None = None) -> Iterator[Check]:
    """What a scorer promises of every recording."""
    params = spec.params() if params is None else params
    known = {"emotion": Task("emotion", "single-label", ("happy", "sad", "angry", "neutral"))} if tasks is None else tasks

    def trial(options: Any, moved: Callable[[Any], None]) -> None:
        try:
            spec.task(options, known)
            scorer = spec.build(options, known)
        except (ValueError, DataError) as error:
            raise NotTried(f"scorer '{spec.name}' needs options or tasks that nothing made up here gives ({error})") from error
        scorer(*_asked(spec, known)[0])

    yield process_check(spec, f"scorer '{spec.name}'", params, trial)
    yield "it scores what it says", lambda: _scores(spec, params, known)
    yield from general_checks(f"scorer '{spec.name}'", params, trial, tensors=False)


def _asked(spec: ScorerSpec, tasks: Mapping[str, Task]) -> list[tuple[SampleRef, Raw | None]]:
    """Made-up recordings to be scored."""
    targets: dict[str, Any] = {
        t.name: 0 if t.type == "single-label" else [1, *[0] * (len(t.classes) - 1)] for t in tasks.values()
    }
    ref = SampleRef("a", "g", {}, targets)
    if not spec.takes:
        return [(ref, None)]
    return [(ref, make_raw(source, seed=seed)) for kind in spec.takes for source in make_sources(kind)[:1] for seed in (0, 1)]


def _scores(spec: ScorerSpec, params: Any, tasks: Mapping[str, Task]) -> None:
    subject = f"scorer '{spec.name}'"
    wrong = [t for t in spec.takes if t not in RAW]
    expect(not wrong, f"{subject}: takes names types of source ({', '.join(RAW)}); found {list(spec.takes)}")
    try:
        task, scorer = spec.task(params, tasks), spec.build(params, tasks)
    except (ValueError, DataError) as error:
        raise NotTried(
            f"{subject} needs options or tasks that nothing made up here gives ({error}); give params= and tasks="
        ) from error
    expect(
        isinstance(task, Task) and task.type == "regression" and bool(task.classes),
        f"{subject}: task gives a regression Task with a name for each value; found {task}",
    )
    first: list[Any] = []
    for ref, raw in _asked(spec, tasks):
        one, other = scorer(ref, raw), scorer(ref, raw)
        expect(
            one is None or (isinstance(one, list) and len(one) == len(task.classes) and all(math.isfinite(v) for v in one)),
            f"{subject}: gives one finite number for each of {', '.join(task.classes)}, or None; found {one!r}",
        )
        expect(one == other, f"{subject}: scores one recording differently when asked twice")
        first.append(one)
    again = [scorer(ref, raw) for ref, raw in reversed(_asked(spec, tasks))]
    expect(
        first == again[::-1],
        f"{subject}: scores a recording otherwise once others have been scored; recordings come in any order, so keep nothing between calls",
    )
