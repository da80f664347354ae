"""A tiny recipe that every stage can run in seconds, and its runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder

TWO_MODALITIES = """\
format: 1
name: tiny
seed: 3
dataset: {use: toy, samples: 96, speakers: 12}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [8], dropout: 0.1}}
"""
"""How both recipes begin."""

TINY = (
    TWO_MODALITIES
    + """\
  landmarks: {features: {use: face-landmarks}, backbone: {use: st-gcn, channels: [4], strides: [1]}}
window: {seconds: 0.8}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 16, epochs: 3, optimizer: {use: adamw, lr: 1e-3}, checkpoint_minutes: 0}
probe: {inputs: [audio, all], heads: {linear: {use: linear}}}
protocol: {use: official}
"""
)

SMALL = (
    TWO_MODALITIES
    + """\
window: {seconds: 0.8}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 16, epochs: 3, optimizer: {use: adamw, lr: 1e-3}}
probe: {inputs: [audio, all], heads: {linear: {use: linear}}}
worth: {few_shot: [0.2, 0.5], draws: 2, robustness: {noise: [1.0], loss: [0.5], late: [0.2]}, maps: [pca], points: 20}
protocol: {use: official}
"""
)


@pytest.fixture
def small_recipe() -> str:
    """The text of a recipe of two modalities that measures everything of `worth`."""
    return SMALL


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two finished runs of that recipe that differ in their pretraining. Tests read them and leave them as they are."""
    from mmcl.report import run_and_report as run_all

    root = tmp_path_factory.mktemp("pair") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcl.stages.WORTH_SAYING", 0.0)  # on a fast machine so small a stage would count as nothing to do
        for name, sets in (("one", ()), ("two", ("pretrain.epochs=1",))):
            run_all(make_plan(parse_recipe(SMALL, "tiny.yaml", sets), overrides=sets), RunFolder(root / name), workers=1)
    return root / "one", root / "two"


@pytest.fixture(scope="session")
def tiny_plan() -> Callable[..., Plan]:
    """The plan of the tiny recipe, with overrides."""

    def make(*overrides: str, text: str = TINY, data: Path | None = None) -> Plan:
        return make_plan(parse_recipe(text, "tiny.yaml", overrides), data, overrides=overrides)

    return make


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """An empty run folder."""
    return RunFolder(tmp_path / "runs" / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of the tiny recipe. Tests read it and leave it as it is."""
    from mmcl.report import run_and_report as run_all

    folder = RunFolder(tmp_path_factory.mktemp("session") / "runs" / "tiny")
    run_all(make_plan(parse_recipe(TINY, "tiny.yaml")), folder, workers=1)
    return folder
