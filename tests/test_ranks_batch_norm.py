"""Batch norms that see the rows of all ranks: value, gradient and running statistics are those of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare
from tests.ranks_of_tests import LAYERS, OF_NORMS, PATTERNS, Case, labelled, launched, layers, measure

BACKBONES = (
    "modalities.text.backbone={use: mlp, hidden: [6], width: 5, dropout: 0, norm: batch}",
    "modalities.audio.backbone={use: mlp, hidden: [6, 4], width: 5, dropout: 0, norm: batch}",
    "modalities.landmarks.backbone={use: st-gcn, channels: [4], dropout: 0}",
)
NORMED = ("pretrain.sync_batchnorm=true", *BACKBONES)
TAUGHT = (*NORMED, "pretrain.objective.momentum=0.9", "pretrain.objective.queue=12", "pretrain.objective.predictor={hidden: 5}")
STEPS = (
    *NORMED,
    "pretrain.objective={pairs: [[audio, landmarks]], loss: {use: time-nce, every: 0.1}}",
    "modalities.audio.backbone={use: conformer, units: 4, heads: 2, layers: 1, width: 5, dropout: 0, norm: batch}",
    "modalities.landmarks.backbone={use: linear-1d}",
)
PRETEXT = (
    "pretrain.sync_batchnorm=true",
    "pretrain.pretext={use: cae, steps: 12, channels: [3, 3, 3, 2]}",
    *(f"modalities.{name}.backbone=null" for name in ("text", "audio", "landmarks")),
)
LABELS = (
    *BACKBONES,
    "supervise={tasks: [emotion], inputs: [all], sync_batchnorm: true, heads: {mlp: {use: mlp}, fusion: {use: attention, dropout: 0}}}",
)
EXACT = {True: 1e-12, False: 2e-5}
CASES = [
    Case(NORMED, PATTERNS[1], 7, 2, 4),
    Case(NORMED, PATTERNS[0], 7),
    Case(NORMED, PATTERNS[2], 2),
    Case(NORMED, PATTERNS[2], 5, 1, 3, double=False),
    Case(NORMED, PATTERNS[3], 5),
    Case(TAUGHT, PATTERNS[1], 7, 1, 3),
    Case(STEPS, PATTERNS[1], 7),
    Case(PRETEXT, PATTERNS[1], 7),
    Case(PRETEXT, PATTERNS[0], 2),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A run that is prepared."""
    run = RunFolder(tmp_path_factory.mktemp("ranks") / "runs" / "ranks")
    prepare(Case((), "complete").plan, run, workers=1)
    return run.root


def test_value_gradient_and_running_statistics_are_those_of_one_process_and_planted_faults_are_seen(prepared):
    faults = (*OF_NORMS, "NoGradient", "NotAddedUp", "MeanOfRanks", "MeanOfMeans")
    measured = measure(prepared, CASES[1:2], (2, 3), faults, sound=CASES)  # all have all: else ranks would wait for each other
    measured += measure(prepared, CASES[:1], (2, 3), ("LocalRows",))
    sound = [row for row in measured if row[0] == "Ranks"]
    assert len(sound) == 2 * len(CASES)
    assert [row for row in sound if not row[3] <= EXACT[row[2].double]] == []
    largest = {kind: max(value for one, _, _, value in measured if one == kind) for kind in (*faults, "LocalRows")}
    assert min(largest.values()) > 1e-3


def test_layers_of_all_kinds_are_those_of_one_process():
    for answers in launched(layers, 3):
        assert len(answers) > 3 * len(LAYERS)
        assert {name: value for name, value in answers.items() if not value <= 1e-12} == {}


def test_labels_are_learned_as_in_one_process(prepared):
    for answers in launched(labelled, 3, prepared, LABELS):
        assert len(answers) == 8
        assert {name: value for name, value in answers.items() if not value <= 1e-12} == {}
