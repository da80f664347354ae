"""Networks that labels trained: rebuilt without the recipe, they give the run's own answers, and their encoders come with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mmcl
from mmcl.api import DataError, PluginError, StageError
from mmcl.data.prepared import load_prepared
from mmcl.evaluate.answers import target_of
from mmcl.evaluate.calibration import temperature
from mmcl.model.kept_network import KeptNetwork
from mmcl.model.windows import windows_of
from mmcl.runs import RunFolder, read_json, read_jsonl
from mmcl.stages.supervise import supervise

ON = (
    "supervise={heads: {late-fusion: {use: mlp, hidden: 8}, attention: {use: attention, width: 8, hidden: 8}}, "
    "inputs: [audio, all], optimizer: {use: adamw, lr: 1e-2}, batch_size: 16, epochs: 2}"
)
SLIDING = "window={seconds: 0.8, embed: sliding, hop: 0.4}"


@pytest.fixture(params=[(), (SLIDING,)], ids=["whole", "sliding"])
def supervised(request, tiny_run, tiny_plan, tmp_path):
    """A run's plan and folder, with networks trained with labels in it."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    run, plan = RunFolder(tmp_path / "runs" / "tiny"), tiny_plan(ON, *request.param)
    supervise(plan, run)
    return plan, run


def answers(plan, run, one: KeptNetwork, rows) -> np.ndarray:
    stores = {name: load_prepared(run).stores[name] for name in one.modalities}
    return one.outputs(windows_of(plan, stores, rows, by_length=False), len(rows))


def test_a_kept_network_gives_the_run_s_predictions_without_the_recipe(supervised):
    plan, run = supervised
    folder = run.stage("supervise", 0, 3)
    (run.root / "recipe.yaml").unlink(missing_ok=True)
    (run.root / "plan.json").unlink(missing_ok=True)
    prepared = load_prepared(run)
    rows = list(prepared.folds[0].test)
    networks = mmcl.load_heads(folder)
    assert {(one.input, one.name) for one in networks} == {
        (i, h) for i in ("audio", "all") for h in ("late-fusion", "attention")
    }
    for one in networks:
        mine = dict(zip([prepared.samples[row].id for row in rows], answers(plan, run, one, rows).argmax(1), strict=True))
        written = {
            row["id"]: row["prediction"]
            for row in read_jsonl(folder / "predictions.jsonl")
            if (row["input"], row["head"]) == (one.input, one.name)
        }
        assert written
        assert {id: mine[id] for id in written} == written


def test_the_temperature_is_that_of_validation_rows(supervised):
    plan, run = supervised
    prepared = load_prepared(run)
    rows = list(prepared.folds[0].valid)
    for one in mmcl.load_heads(run.stage("supervise", 0, 3)):
        targets, known = target_of(one.task, [dict(prepared.samples[row].targets) for row in rows])
        stores = [prepared.stores[name] for name in one.modalities]
        here = torch.tensor([any(row in store for store in stores) for row in rows]) & known
        output = answers(plan, run, one, rows)
        expected = temperature(one.task, targets[here].double().numpy(), output[here.numpy()])
        assert one.temperature == pytest.approx(expected, rel=1e-4)
        logits = output / one.temperature
        chances = one.probabilities(windows_of(plan, {n: prepared.stores[n] for n in one.modalities}, rows, False), len(rows))
        np.testing.assert_allclose(chances, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-6)


def test_a_network_s_encoders_are_those_that_labels_trained(supervised):
    _, run = supervised
    folder = run.stage("supervise", 0, 3)
    encoders = mmcl.load_encoders(folder / "models" / "emotion~all~attention")
    weights = load_file(str(folder / "models" / "emotion~all~attention.safetensors"))
    assert set(encoders) == {"audio", "landmarks", "text"}
    for name, encoder in encoders.items():
        assert not encoder.training
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, weights[f"encoders.{name}.{key}"])
    with pytest.raises(DataError, match="holds 4 networks"):
        mmcl.load_encoders(folder)


def test_thresholds_are_taken_from_a_network_s_outputs(supervised):
    plan, run = supervised
    path = run.stage("supervise", 0, 3) / "models" / "emotion~audio~attention.json"
    rows = list(load_prepared(run).folds[0].test)
    (before,) = mmcl.load_heads(path)
    facts = read_json(path)
    path.write_text(json.dumps(facts | {"thresholds": [0.5] + [0.0] * (len(before.task.classes) - 1)}))
    (after,) = mmcl.load_heads(path)
    apart = answers(plan, run, before, rows) - answers(plan, run, after, rows)
    np.testing.assert_allclose(apart, np.array([0.5] + [0.0] * (len(before.task.classes) - 1)) + 0 * apart, atol=1e-9)


def test_networks_that_cannot_be_had_are_told(supervised):
    _, run = supervised
    path = run.stage("supervise", 0, 3) / "models" / "emotion~all~attention.json"
    facts = read_json(path)
    for broken, error, sentence in (
        ({key: value for key, value in facts.items() if key != "network"}, DataError, "older mmcl"),
        (facts | {"network": {"task": 3}}, StageError, "does not hold what it should .network.task"),
        (
            facts | {"network": facts["network"] | {"projection": {"hidden": 8, "width": 5}}},
            PluginError,
            "do not fit the plug-ins",
        ),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(error, match=sentence):
            mmcl.load_heads(path)
    path.write_text(json.dumps(facts))
    path.with_suffix(".safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(DataError, match="not a whole safetensors file"):
        mmcl.load_heads(path)
    with pytest.raises(DataError, match="holds no heads"):
        mmcl.load_heads(path.parent / "emotion~all~none")
