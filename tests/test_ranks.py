"""Several processes train as one: value and gradient are those of one process, whoever lacks what."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmcl.plugins import plugins
from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare
from tests.ranks_of_tests import KINDS, PATTERNS, Case, measure

POSITIVES = {
    name: {
        "same-label": "{use: same-label, target: emotion}",
        "valence-arousal": "{use: valence-arousal, target: mood, threshold: 0.4}",
    }.get(name, name)
    for name, _ in plugins().all("positives")
}
LOSSES = [name for name, _ in plugins().all("loss")]
GROUPS = [{"comm": "{use: comm, heads: 2}"}.get(name, name) for name, _ in plugins().all("group-loss")]
LEARNED = "pretrain.objective.loss={use: info-nce, learn_temperature: true}"
WEIGHTS = "pretrain.objective.weights={text: 3, audio~landmarks: 0.5}"
SIZES = (1, 2, 3, 4)
EXACT = {True: 1e-12, False: 1e-6}


def objectives() -> list[tuple[str, ...]]:
    """Every loss with every rule of positives, and every loss of groups."""
    pairs = [
        (f"pretrain.objective.loss={loss}", f"pretrain.objective.positives={positives}")
        for loss, positives in itertools.product(LOSSES, POSITIVES.values())
    ]
    groups = [(f"pretrain.objective.group={name}",) for name in GROUPS]
    return [*pairs, *groups, (LEARNED,), (WEIGHTS,), ("pretrain.objective.pairs=all+same", "pretrain.copies=2")]


def few() -> list[Case]:
    """Every objective, with everything else in turns."""
    cases = []
    for k, sets in enumerate(objectives()):
        rows, views, micro = (7, 5, 2)[k % 3], 2 if "cross-window" in str(sets) else 1 + k % 2, 3 if k % 5 == 0 else None
        cases.append(Case(sets, PATTERNS[k % 4], rows, views, micro, double=k % 3 < 2))
        cases.append(Case(sets, PATTERNS[(k + 1) % 2], 7, views, None, double=k % 3 > 0))
    return cases


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A run that is prepared."""
    run = RunFolder(tmp_path_factory.mktemp("ranks") / "runs" / "ranks")
    prepare(Case((), "complete").plan, run, workers=1)
    return run.root


def too_far(rows: Sequence[tuple[str, int, Case, float]]) -> list[str]:
    """The cases that are not what one process has."""
    return [f"{size} ranks, {case}: {value:.1e}" for _, size, case, value in rows if not value <= EXACT[case.double]]


def test_value_and_gradient_are_those_of_one_process(prepared):
    measured = measure(prepared, few(), SIZES[1:], turns=True)
    assert len(measured) == len(few()) > 30
    assert too_far(measured) == []


@pytest.mark.slow
def test_value_and_gradient_are_those_of_one_process_in_every_way(prepared):
    ways = itertools.product(objectives(), PATTERNS, (9, 7, 2), (1, 2), (None, 2), (True, False))
    assert too_far(measure(prepared, [Case(*way) for way in ways], SIZES)) == []


def test_a_planted_fault_is_seen(prepared):
    cases = [Case((LEARNED, "pretrain.objective.positives=" + POSITIVES["same-label"]), pattern) for pattern in PATTERNS[:2]]
    faults = [name for name in KINDS if name != "Ranks"]
    seen = measure(prepared, cases, (3,), tuple(faults))
    largest = {name: max(value for kind, _, _, value in seen if kind == name) for name in faults}
    assert {name for name, value in largest.items() if value < 1e-3} == set()
