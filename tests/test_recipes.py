"""Every shipped recipe is sound, and the small ones run on format-faithful samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmcl.plugins import plugins
from mmcl.recipe.plan import load_plan
from mmcl.runs import RunFolder, read_json, read_jsonl

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_has_no_problem_and_is_named_after_its_file(path):
    assert load_plan(path, data=Path("data")).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_begins_with_how_to_run_it(path):
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"mmcl run {path.stem}" in line for line in comment)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_is_plain_yaml_too(path):
    """A stranger's YAML reader sees the same keys."""
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) >= {"format", "name", "dataset", "modalities"}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_runs_end_to_end_on_a_sample_of_its_data(path, tmp_path):
    from mmcl.stages import run_all

    name = load_plan(path, data=tmp_path).dataset.spec.name
    small = ["pretrain.epochs=1", "seed=0", "pretrain.batch_size=8"]
    if name == "toy":
        small.append("dataset.samples=96")
    else:
        plugins().get("dataset", name).spec.sample(tmp_path / name, 64, 0)
    if load_plan(path, data=tmp_path).recipe.protocol.use != "official":
        small.append("protocol={use: hold-out, test: 0.3, valid: 0.3}")
    run = RunFolder(tmp_path / "runs" / path.stem)
    report = run_all(load_plan(path, small, tmp_path), run)
    assert report.stat().st_size > 10_000
    assert {r["encoder"] for r in read_json(run.root / "report.json")["scores"]} == {"pretrained", "random", "none"}
    ((_, _, folder),) = run.units("pretrain")
    assert all(r["train_loss"] is not None for r in read_jsonl(folder / "history.jsonl"))
