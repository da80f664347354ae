"""Training with labels: what is written, chosen on validation alone, resumed to the bit, and able to learn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmcl.api import RecipeError
from mmcl.report import run_and_report as run_all
from mmcl.runs import RunFolder, read_json, read_jsonl
from mmcl.stages.supervise import supervise
from tests.conftest import split_of

ON = (
    "supervise={heads: {late-fusion: {use: mlp, hidden: 8}, attention: {use: attention, width: 8, hidden: 8}}, "
    "inputs: [audio, all], optimizer: {use: adamw, lr: 1e-2}, batch_size: 16, epochs: 3, checkpoint_minutes: 0}"
)


@pytest.fixture
def begun(tiny_run, tmp_path) -> RunFolder:
    """A finished run without labels, to go on from."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def folder(run: RunFolder):
    return run.stage("supervise", 0, 3)


def weights(run: RunFolder, stem: str):
    return load_file(str(folder(run) / "models" / f"{stem}.safetensors"))


def test_every_head_and_input_is_trained_tested_and_reported(tiny_plan, begun):
    run_all(tiny_plan(ON), begun, workers=1)
    rows = read_jsonl(folder(begun) / "scores.jsonl")
    results = {(r["input"], r["head"], r["encoder"]) for r in rows if r["metric"] == "accuracy"}
    assert results == {(i, h, "supervised") for i in ("audio", "all") for h in ("late-fusion", "attention")}
    assert not [path for path in begun.root.rglob("*") if path.name in ("resume", "resume.old", "last.old")]
    predictions = [
        p for p in read_jsonl(folder(begun) / "predictions.jsonl") if (p["input"], p["head"]) == ("all", "attention")
    ]
    (score,) = [r for r in rows if (r["input"], r["head"], r["metric"]) == ("all", "attention", "accuracy")]
    assert score["value"] == pytest.approx(sum(p["target"] == p["prediction"] for p in predictions) / len(predictions))
    summary = read_json(begun.root / "report.json")
    assert {"supervised", "pretrained", "random", "pooled", "none"} == {row["encoder"] for row in summary["scores"]}
    page = (begun.root / "report.html").read_text()
    assert "late-fusion" in page
    assert "Trained with labels" in page
    events = [row for row in read_jsonl(begun.root / "log.jsonl") if row["event"] in ("test opened", "supervise")]
    assert [e["event"] for e in events if e.get("stage") == "supervise" or e["event"] == "supervise"] == [
        "test opened",
        "supervise",
    ]


def test_running_again_trains_nothing_and_two_runs_give_the_same_weights(tiny_plan, begun, tmp_path):
    supervise(tiny_plan(ON), begun)
    shutil.copytree(begun.root.parent, tmp_path / "again")
    again = RunFolder(tmp_path / "again" / "tiny")
    before = len(read_jsonl(again.root / "log.jsonl"))
    supervise(tiny_plan(ON), again)
    assert len(read_jsonl(again.root / "log.jsonl")) == before
    shutil.rmtree(folder(again))
    supervise(tiny_plan(ON), again)
    one, two = weights(begun, "emotion~all~attention"), weights(again, "emotion~all~attention")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_stop_between_epochs_goes_on_to_the_same_weights(tiny_plan, begun, tmp_path, monkeypatch):
    import mmcl.engine.progress as engine

    shutil.copytree(begun.root.parent, tmp_path / "again")
    again = RunFolder(tmp_path / "again" / "tiny")
    supervise(tiny_plan(ON), begun)
    real, calls = engine.save_checkpoint, []

    def stop(*args):
        real(*args)
        calls.append(1)
        if len(calls) == 4:  # in the middle of the second model
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        supervise(tiny_plan(ON), again)
    first = folder(again) / "models" / "emotion~audio~late-fusion.safetensors"
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(engine, "save_checkpoint", real)
    supervise(tiny_plan(ON), again)
    assert first.stat().st_mtime_ns == written  # what was done stays
    for stem in ("emotion~audio~attention", "emotion~all~attention"):
        one, two = weights(begun, stem), weights(again, stem)
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_test_set_is_not_read_before_every_model_is_chosen(tiny_plan, begun, monkeypatch):
    import mmcl.stages.supervise as stage

    fold = split_of(begun.root)["folds"][0]
    real, seen = stage.predict, []
    monkeypatch.setattr(
        stage,
        "predict",
        lambda plan, net, stores, rows, device: (seen.append(set(rows)), real(plan, net, stores, rows, device))[1],
    )
    supervise(tiny_plan(ON), begun)
    test = set(fold["test"])
    touched = [bool(rows & test) for rows in seen]
    assert not any(touched[:-4])
    assert all(touched[-4:])


def test_labels_are_learned_better_than_chance_on_what_was_seen(tiny_plan, begun):
    plan = tiny_plan(
        "supervise={heads: {late-fusion: {use: mlp, hidden: 32}}, inputs: [all], optimizer: {use: adamw, lr: 1e-2}, "
        "batch_size: 16, epochs: 60, keep: last}"
    )
    supervise(plan, begun)
    about = read_json(folder(begun) / "models" / "emotion~all~late-fusion.json")
    assert about["history"][-1]["train_loss"] < 0.7 * about["history"][0]["train_loss"]


def test_fine_tuning_starts_from_the_pretrained_weights(tiny_plan, begun):
    slow = "supervise={start: pretrained, heads: {mlp: {use: mlp, hidden: 4}}, inputs: [audio], optimizer: {use: sgd, lr: 1e-12}, epochs: 1}"
    supervise(tiny_plan(slow), begun)
    mine = weights(begun, "emotion~audio~mlp")
    theirs = load_file(str(begun.stage("pretrain", 0, 3) / "encoders.safetensors"))
    shared = [name for name in theirs if name.startswith("audio/backbone")]
    assert shared
    for name in shared:
        torch.testing.assert_close(mine[f"encoders.{name.replace('/', '.', 1)}"], theirs[name], rtol=0, atol=1e-6)
    assert {r["encoder"] for r in read_jsonl(folder(begun) / "scores.jsonl")} == {"fine-tuned"}


def test_the_contrastive_objective_can_be_added_and_reaches_the_projections(tiny_plan, begun):
    supervise(tiny_plan(ON, "supervise.contrast=1.0", "supervise.inputs=[all]"), begun)
    with_it = weights(begun, "emotion~all~late-fusion")
    shutil.rmtree(folder(begun))
    supervise(tiny_plan(ON, "supervise.inputs=[all]", "supervise.contrast=0"), begun)
    without = weights(begun, "emotion~all~late-fusion")
    moved = [name for name in with_it if "projection" in name and not torch.equal(with_it[name], without[name])]
    assert moved


def test_what_a_head_shows_is_kept_beside_its_weights(tiny_plan, begun):
    fused = "supervise={heads: {univa: {use: univa-fusion, prior: %s}, mlp: {use: mlp, hidden: 8}}, inputs: [audio], epochs: 1}"
    run_all(tiny_plan(fused % "'on'", "report.against=[majority]"), begun, workers=1, overwrite=True)
    facts = read_json(folder(begun) / "models" / "emotion~audio~univa.json")
    classes = list(tiny_plan().info.tasks["emotion"].classes)
    (one,) = facts["shown"]
    assert (one["title"], one["rows"], one["columns"]) == ("Correlation of emotions", classes, classes)
    assert np.shape(one["values"]) == (len(classes), len(classes))
    assert all(value == round(value, 6) for row in one["values"] for value in row)
    assert [one["values"][i][i] for i in range(len(classes))] == [1.0] * len(classes)
    assert "shown" not in read_json(folder(begun) / "models" / "emotion~audio~mlp.json")
    supervise(tiny_plan(fused % "'off'"), begun)
    assert read_json(folder(begun) / "models" / "emotion~audio~univa.json")["shown"] == []


def test_weights_of_pairs_reach_the_contrast_and_the_fingerprint(tiny_plan, begun):
    import torch.nn as nn

    from mmcl.api import Encoded, Items
    from mmcl.data.prepared import load_prepared
    from mmcl.model.contrast import build_contrast
    from mmcl.model.network import embeddings_of
    from mmcl.objective.score import Embedded, score
    from mmcl.stages.supervise import _contrast_loss, _models
    from mmcl.stages.units import pretrain_key, supervise_key

    prepared = load_prepared(begun)
    with_weights = "pretrain.objective.weights={text: 3, audio~landmarks: 0.5}"
    plain, weighed = (tiny_plan(ON, "supervise.contrast=1", *more) for more in ((), (with_weights,)))
    for key in (pretrain_key, supervise_key):
        assert key(plain, prepared, prepared.folds[0], 3) != key(weighed, prepared, prepared.folds[0], 3)
        assert key(plain, prepared, prepared.folds[0], 3) == key(
            tiny_plan(ON, "supervise.contrast=1"), prepared, prepared.folds[0], 3
        )
    torch.manual_seed(0)
    (model,) = [m for m in _models(weighed.supervised) if (m.input, m.head) == ("all", "attention")]
    encoded = {
        name: Encoded(torch.randn(6, 4), present=torch.tensor([True] * 5 + [name != "text"])) for name in model.modalities
    }
    network = nn.Module()
    network.encoders = nn.ModuleDict({name: nn.Identity() for name in model.modalities})
    for encoder in network.encoders.values():
        encoder.project = lambda one: one.vector
    items = Items(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    contrast = build_contrast(weighed, prepared.samples, model.modalities)
    got = float(_contrast_loss(contrast, embeddings_of(network, encoded), items, torch.device("cpu")))
    embedded = {name: Embedded(e.vector[e.present], e.present.nonzero().squeeze(1)) for name, e in encoded.items()}
    positives, loss = (part.spec.build(part.params) for part in (plain.positives, plain.loss))
    apart = {pair: float(score(embedded, items, [pair], positives, loss).loss) for pair in plain.pairs}
    weight = {("text", "audio"): 3.0, ("text", "landmarks"): 3.0, ("audio", "landmarks"): 0.5}
    assert got == pytest.approx(sum(weight[pair] * value for pair, value in apart.items()) / 6.5, rel=1e-6)
    (audio,) = [m for m in _models(weighed.supervised) if (m.input, m.head) == ("audio", "attention")]
    contrast = build_contrast(weighed, prepared.samples, audio.modalities)
    assert (
        float(_contrast_loss(contrast, embeddings_of(network, encoded), items, torch.device("cpu"))) == 0.0
    )  # no pair is left


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("supervise={heads: {linear: {use: linear}}}", "brings its own solver"),
        ("supervise={heads: {a: {use: mpl}}}", "unknown head 'mpl'"),
        ("supervise={heads: {a: {use: mlp}}, inputs: [voice]}", "supervise.inputs[0]: no modality is named 'voice'"),
        ("supervise={heads: {a: {use: mlp}}, tasks: [mood]}", "supervise.tasks[0]: no task is named 'mood'"),
        ("supervise={}", "supervise.heads: is missing"),
    ],
)
def test_each_mistake_has_its_sentence(tiny_plan, override, message):
    with pytest.raises(RecipeError, match="supervise") as raised:
        tiny_plan(override)
    assert message in str(raised.value)


def test_contrast_sees_as_many_windows_as_the_recipe_says(tiny_plan, run):
    from mmcl.data.prepared import load_prepared
    from mmcl.model.windows import draw_batch
    from mmcl.stages.prepare import prepare
    from mmcl.stages.supervise import _views

    sections = "supervise={heads: {mlp: {use: mlp, hidden: 8}}, epochs: 1, contrast: %s}"
    for contrast, views in (("0.5", 3), ("0.0", 1)):
        plan = tiny_plan(sections % contrast, "pretrain.views=3", "window.seconds=0.5")
        prepare(plan, run)
        batch = draw_batch(plan, load_prepared(run).stores, [4, 2], _views(plan), np.random.default_rng(0))
        assert batch.items.row.tolist() == [4, 2] * views
        assert batch.items.view.tolist() == [view for view in range(views) for _ in range(2)]


def test_what_the_contrast_reads_is_the_targets_and_says_where_one_is_missing(tiny_plan, run):
    from mmcl.data.prepared import load_prepared
    from mmcl.model.contrast import contrast_targets
    from mmcl.stages.prepare import prepare

    by_label = tiny_plan("pretrain.objective={pairs: all, positives: same-label, loss: {use: sup-con}}")
    prepare(by_label, run, workers=1)
    samples = list(load_prepared(run).samples)
    samples[2] = replace(samples[2], targets={})
    labels = contrast_targets(by_label, samples)["emotion"]
    assert labels.tolist() == [sample.targets.get("emotion", -1) for sample in samples]
    assert labels[2] == -1
    by_score = tiny_plan(*SCORES)
    scored = [replace(sample, targets={"mood": [0.5, -0.25]}) for sample in samples[:2]] + [samples[2]]
    values = contrast_targets(by_score, scored)["mood"]
    assert values[:2].tolist() == [[0.5, -0.25]] * 2
    assert bool(values[2].isnan().all())


SCORES = (
    "scores={mood: {use: va-labels, task: emotion}}",
    "pretrain.objective={pairs: same, positives: {use: valence-arousal, target: mood}, loss: {use: sup-con}}",
)


def test_scores_are_computed_once_and_steer_the_contrast(tiny_plan, run):
    plan = tiny_plan(*SCORES, "pretrain.epochs=1", "pretrain.views=2", "probe.inputs=[audio]", "probe.tasks=[emotion]")
    assert plan.needs == ("mood",)
    assert plan.uses_labels()
    run_all(plan, run, workers=1)
    summary = json.loads((run.root / "prepare.json").read_text())["scores"]["mood"]
    assert summary["values"] == ["valence", "arousal"]
    samples = split_of(run.root)["samples"]
    scored = [s for s in samples if "mood" in s["targets"]]
    assert summary["known"] == len(scored) > 0
    by_label = {}
    for sample in scored:
        by_label.setdefault(sample["targets"]["emotion"], set()).add(tuple(sample["targets"]["mood"]))
    assert all(len(places) == 1 for places in by_label.values())
    assert len(set.union(*by_label.values())) > 2
    (cached,) = run.prepared.glob("*/scores-va-labels-*.json")
    before = cached.stat().st_mtime_ns
    run_all(plan, run, workers=1)
    assert cached.stat().st_mtime_ns == before
    page = (run.root / "report.html").read_text()
    assert "Score “mood” (valence, arousal) by va-labels from labels" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("scores={mood: {use: va-lables}}", "did you mean 'va-labels'"),
        ("scores={emotion: {use: va-labels}}", "has a task of that name; take another"),
        ("scores={mood: {use: va-labels, task: nothing}}", "the corpus has no labels 'nothing'"),
        ("scores={mood: {use: va-words, source: audio}}", "'va-words' reads words: set source"),
        ("scores={mood: {use: va-labels, source: audio}}", "reads labels; leave source out"),
    ],
)
def test_mistakes_about_scores_stand_at_their_key(tiny_plan, change, words):
    with pytest.raises(RecipeError, match=words):
        tiny_plan(change)


def test_the_answer_of_a_run_without_pretraining_is_what_labels_taught(tiny_plan, run):
    run_all(
        tiny_plan("supervise={heads: {mlp: {use: mlp, hidden: 8}}, inputs: [audio, all], epochs: 1}", "pretrain.epochs=0"),
        run,
        workers=1,
    )
    page = (run.root / "report.html").read_text()
    assert "trained with labels from end to end (mlp)" in page
    assert "with labels: mlp" in page
