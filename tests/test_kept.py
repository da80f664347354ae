"""Heads on disk: rebuilt without the recipe, they give the run's own answers; probabilities are fitted on validation rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mmcl.api import DataError, Labelled, PluginError, Task
from mmcl.evaluate.answers import target_of
from mmcl.model.frozen import Features
from mmcl.model.heads import fit_head
from mmcl.model.kept import KeptHead, load_heads, save_heads
from mmcl.model.scale import any_present, fitted_scale
from mmcl.plugins import plugins
from mmcl.recipe.plan import Part
from mmcl.recipe.schema import Probe
from mmcl.runs import read_jsonl
from mmcl.stages.embed import read_features

TASKS = {
    "single-label": Task("emotion", "single-label", ("happy", "sad", "angry")),
    "multi-label": Task("emotions", "multi-label", ("happy", "sad", "angry"), extra=()),
    "regression": Task("valence", "regression", ("valence", "arousal"), extra=("sentiment",)),
}
EVERY = [(name, kind) for name, offer in plugins().all("head") for kind in offer.spec.tasks]


def features_of(rows: int, seed: int) -> dict[str, Features]:
    """Two modalities, of which the second is missing now and then."""
    draw = torch.Generator().manual_seed(seed)
    present = torch.rand(rows, generator=draw) > 0.3
    audio, text = torch.randn(rows, 6, generator=draw), torch.randn(rows, 4, generator=draw)
    every = torch.ones(rows, dtype=torch.bool)
    empty = torch.zeros(rows, 0)
    return {"audio": Features(audio, empty, every), "text": Features(text * present[:, None], empty, present)}


def fitted(name: str, kind: str, standardise: str = "train") -> KeptHead:
    """A head fitted on drawn features, with thresholds and a temperature that matter."""
    offer, task = plugins().get("head", name), TASKS[kind]
    part = Part("head", name, offer.spec, offer.spec.params(), offer.package, offer.version, standardise)
    sides = {}
    features = features_of(60, 1)
    scale = fitted_scale({m: one.vector[one.present] for m, one in features.items()}, 0.1, 2.0)
    for split, seed in (("train", 1), ("valid", 2)):
        features = features_of(60, seed)
        encoded = scale.encoded(
            {m: f.vector for m, f in features.items()},
            {m: f.present for m, f in features.items()},
            torch.ones(60, dtype=torch.bool),
        )
        draw = torch.Generator().manual_seed(seed)
        target = (
            torch.arange(60) % 3 if kind == "single-label" else (torch.randn(60, len(task.classes), generator=draw) > 0).float()
        )
        sides[split] = Labelled(encoded, target, torch.arange(60) % 6)
    training = Probe().training.model_copy(update={"epochs": 3})
    head, _ = fit_head(part, task, sides["train"], sides["valid"], training, (0,))
    shift = np.array([0.1, -0.2, 0.3]) if kind == "multi-label" else 0.0
    divisor = None if kind == "regression" else 1.7
    return KeptHead(task, "all", ("audio", "text"), "mine", "pretrained", 0, head, part, scale, "vector", shift, divisor)


@pytest.mark.parametrize(("name", "kind"), EVERY)
@pytest.mark.parametrize("standardise", ["train", "group"])
def test_a_kept_head_answers_as_it_did(name, kind, standardise, tmp_path):
    head, test, groups = fitted(name, kind, standardise), features_of(40, 3), torch.arange(40) % 4
    save_heads(tmp_path, [fitted("linear", kind), head])
    _, again = load_heads(tmp_path)
    np.testing.assert_allclose(again.outputs(test, groups), head.outputs(test, groups), atol=1e-6, rtol=0)
    assert np.ptp(head.outputs(test, groups)) > 0
    assert again.task == head.task
    assert (again.part.params, again.temperature) == (head.part.params, head.temperature)
    if kind == "regression":
        assert again.probabilities(test, groups) is None
    else:
        np.testing.assert_allclose(again.probabilities(test, groups), head.probabilities(test, groups), atol=1e-6, rtol=0)


def test_a_head_standardised_by_group_says_that_a_recording_needs_its_group(tmp_path):
    save_heads(tmp_path, [fitted("linear", "single-label", "group")])
    about = json.loads((tmp_path / "heads.json").read_text())["heads"][0]
    assert "needs all recordings of its group" in about["standardise"]["note"]
    with pytest.raises(DataError, match="needs all recordings of its group"):
        load_heads(tmp_path)[0].outputs(features_of(4, 0))


def test_a_run_s_heads_give_its_own_predictions_and_those_of_random_encoders_are_not_kept(tiny_run):
    folder = tiny_run.stage("probe", 0, 3)
    heads = load_heads(folder)
    assert {(one.input, one.encoder) for one in heads} == {("audio", "pretrained"), ("all", "pretrained")}
    features, who = read_features(tiny_run.stage("embed", 0, 3), "pretrained", "test")
    for one in heads:
        _, known = target_of(one.task, who["targets"])
        rows = (known & any_present(features, one.modalities)).tolist()
        mine = {
            id: int(output.argmax()) for id, output, here in zip(who["ids"], one.outputs(features), rows, strict=True) if here
        }
        written = {
            row["id"]: row["prediction"]
            for row in read_jsonl(folder / "predictions.jsonl")
            if (row["input"], row["encoder"]) == (one.input, "pretrained")
        }
        assert mine == written


def test_heads_that_cannot_be_had_are_told(tmp_path):
    with pytest.raises(DataError, match="holds no heads; name the 'probe' folder"):
        load_heads(tmp_path)
    save_heads(tmp_path, [fitted("mlp", "single-label")])
    about = json.loads((tmp_path / "heads.json").read_text())
    about["heads"][0]["head"]["params"]["hidden"] = 5
    (tmp_path / "heads.json").write_text(json.dumps(about))
    with pytest.raises(PluginError, match="do not fit the head 'mlp'"):
        load_heads(tmp_path)
