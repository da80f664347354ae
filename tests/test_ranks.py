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
        "valence-arousal-weights": "{use: valence-arousal-weights, target: mood}",
    }.get(name, name)
    for name, _ in plugins().all("positives")
    if name != "shared-labels"  # which weighs as the other soft rule does, and by labels that the toy corpus has not
}
LOSSES = [name for name, one in plugins().all("loss") if not one.spec.sequences]
GROUPS = [{"comm": "{use: comm, heads: 2}"}.get(name, name) for name, _ in plugins().all("group-loss")]
LEARNED = "pretrain.objective.loss={use: info-nce, learn_temperature: true}"
WEIGHTS = "pretrain.objective.weights={text: 3, audio~landmarks: 0.5}"
PREDICTOR = "pretrain.objective.predictor={hidden: 5}"
QUEUE, TEACHER = "pretrain.objective.queue=12", "pretrain.objective.momentum=0.9"
SIDES = [
    (QUEUE,),
    (TEACHER,),
    (QUEUE, TEACHER, LEARNED),
    (QUEUE, TEACHER, PREDICTOR, WEIGHTS),
    (TEACHER, PREDICTOR, "pretrain.objective.loss=cosine"),
    (QUEUE, TEACHER, "pretrain.objective.positives=" + POSITIVES["same-label"]),
    (QUEUE, "pretrain.objective.pairs=all+same", "pretrain.copies=2"),
]
SECONDS = (
    "pretrain.objective={pairs: [[audio, landmarks]], loss: {use: time-nce, every: 0.1}}",
    "modalities.audio.backbone={use: linear-1d}",
)
SIZES = (1, 2, 3, 4)
EXACT = {True: 1e-12, False: 1e-6}
"""Of the largest gradient, in float64 and float32; in the latter of one process that encodes the same shares."""


def objectives() -> list[tuple[str, ...]]:
    """Every loss with every rule of positives, those that weigh with losses that read weights, and every loss of groups."""
    soft = {what: {name for name, one in plugins().all(what) if one.spec.soft} for what in ("loss", "positives")}
    pairs = [
        (f"pretrain.objective.loss={loss}", f"pretrain.objective.positives={POSITIVES[name]}")
        for loss, name in itertools.product(LOSSES, POSITIVES)
        if name not in soft["positives"] or loss in soft["loss"]
    ]
    pairs = [(*one, PREDICTOR) if one[0].endswith("=cosine") else one for one in pairs]
    groups = [(f"pretrain.objective.group={name}",) for name in GROUPS]
    return [
        *pairs,
        *groups,
        (LEARNED,),
        (WEIGHTS,),
        ("pretrain.objective.pairs=all+same", "pretrain.copies=2"),
        *SIDES,
        SECONDS,
    ]


def ways() -> list[Case]:
    """Every objective with every pattern, everything else in turns."""
    cases = []
    for k, (sets, pattern) in enumerate(itertools.product(objectives(), PATTERNS)):
        views = 2 if "cross-window" in str(sets) or "comm" in str(sets) else 1 + k // 2 % 2
        views = 1 if sets == SECONDS else views
        cases.append(Case(sets, pattern, (7, 9, 2, 5, 7)[k % 5], views, 3 if k % 3 == 0 else None, double=k % 7 < 4))
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


@pytest.mark.slow
def test_value_and_gradient_are_those_of_one_process(prepared):
    measured = measure(prepared, ways(), SIZES, turns=True)
    assert len(measured) == len(ways()) > 200
    assert {size for _, size, _, _ in measured} == set(SIZES)
    assert too_far(measured) == []


def test_a_planted_fault_is_seen_and_queues_teachers_and_predictors_are_those_of_one_process(prepared):
    cases = [Case((LEARNED, "pretrain.objective.positives=" + POSITIVES["same-label"]), pattern) for pattern in PATTERNS[:2]]
    faults = [name for name in KINDS if name != "Ranks"]
    sound = [Case(sets, PATTERNS[k % 2], views=2, micro_batch=(None, 3)[k % 2]) for k, sets in enumerate(SIDES)]
    sound += [Case(SECONDS, pattern, micro_batch=size) for pattern, size in zip(PATTERNS, (None, 2, 3, None), strict=True)]
    measured = measure(prepared, cases, (3,), tuple(faults), sound=sound)
    assert too_far([row for row in measured if row[0] == "Ranks"]) == []
    assert len(measured) == len(faults) * len(cases) + len(sound)
    seen = [row for row in measured if row[0] != "Ranks"]
    largest = {name: max(value for kind, _, _, value in seen if kind == name) for name in faults}
    assert {name for name, value in largest.items() if value < 1e-3} == set()
