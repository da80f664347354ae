"""audit finds nothing in an honest run, and each of the leaks that are planted in one. tests/test_recipes.py audits shipped recipes.

1  a recording in two splits                        10  predictions of training recordings
2  a speaker in two splits                          11  something chosen after test was opened, or nobody knows when
3  a clip copied to another split                   12  test inputs, or labels, in pretraining (called asked for)
4  copied louder, noisier, cut short                13  a supervised epoch that validation did not choose
5  copied pictures, brighter or darker              14  an l2, or number of neighbours, that validation did not choose
6  statistics of all splits                         15  a probe fitted on test recordings
7  an epoch that validation did not choose          16  thresholds from test recordings: of a probe, of a trained head
8  a test recording among training features         17  thresholds from test recordings, of a model trained with labels
9  a head chosen by a test figure                   18  few-shot heads with more labels than their share
"""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from mmcl.api import Audio, Layout, StageError
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.data.store import Store, StoreWriter
from mmcl.data.whose import write_whose
from mmcl.plugins import plugins
from mmcl.report import run_and_report as run_all
from mmcl.review.audit import audit, audit_folder
from mmcl.review.audit.copies import near_duplicates
from mmcl.runs import RunFolder, read_json, read_jsonl, write_json, write_jsonl
from mmcl.stages.prepare import open_dataset
from tests.conftest import keep_split, split_of

OPENED = "nothing chosen after the test set was opened"


@pytest.fixture
def copy(tiny_run, tmp_path):
    """The session's run and its prepared streams, to be tampered with."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def findings(run):
    return {one.check: one for one in audit(run).findings}


def test_an_honest_run_has_none(tiny_run, capsys):
    assert audit(tiny_run).findings == ()
    assert audit(tiny_run).left_out == {}
    with pytest.raises(SystemExit) as done:
        main(["audit", str(tiny_run.root)])
    assert done.value.code == 0
    assert "LEAK" not in capsys.readouterr().out


def refold(run, change):
    folds = split_of(run.root)
    change(folds)
    keep_split(run.root, folds)


def test_a_recording_in_two_splits(copy):
    refold(copy, lambda folds: folds["folds"][0]["train"].append(folds["folds"][0]["test"][0]))
    assert "stand in train and test" in findings(copy)["no recording in two splits"].evidence


def test_a_speaker_in_two_splits(copy):
    def change(folds):
        a, b = folds["folds"][0]["train"][0], folds["folds"][0]["test"][0]
        folds["samples"][b]["group"] = folds["samples"][a]["group"]

    refold(copy, change)
    one = findings(copy)["no group in two splits"]
    assert "groups stand in train and test" in one.evidence
    assert not one.asked


def rewrite(run, name, change):
    """Change one prepared stream in place."""
    prepared = load_prepared(run)
    store, fold = prepared.stores[name], prepared.folds[0]
    a = next(row for row in fold.train if row in store)
    b = next(row for row in fold.test if row in store and row != a)
    shard = store.folder / "shard-00000.safetensors"
    arrays = {k: np.array(v) for k, v in load_arrays(str(shard)).items()}
    where = {int(r): (int(s), int(o), int(n)) for r, s, o, n in load_arrays(str(store.folder / "index.safetensors"))["index"]}
    (_, first, n), (_, other, m) = where[a], where[b]
    steps = min(n, m)
    index = np.array([[r, s, o, steps if r in (a, b) else k] for r, (s, o, k) in sorted(where.items())], np.int64)
    arrays["values"][other : other + steps] = change(arrays["values"][first : first + steps])
    save_arrays(arrays, str(shard))
    about = read_json(store.folder / "store.json")  # somebody who copies a clip leaves no checksum that tells
    write_json(store.folder / "store.json", {name: value for name, value in about.items() if name not in ("sha256", "blocks")})
    save_arrays({"index": index}, str(store.folder / "index.safetensors"))


def test_a_clip_copied_to_another_split(copy):
    rewrite(copy, "audio", lambda values: values)
    assert "have the same audio" in findings(copy)["no recording twice under two names, across splits"].evidence


def planted(run, name, row, values):
    """The prepared streams of a run, those of one recording replaced."""
    store = load_prepared(run).stores[name]
    streams = {r: np.array(store.values(r)) for r in store.rows} | {row: values}
    writer = StoreWriter(store.folder, store.layout)
    for r, one in sorted(streams.items()):
        writer.add(r, one)
    writer.close({"key": store.key, "skipped": []})


CHANGES = {
    "louder": lambda wave: 4 * wave,
    "quieter": lambda wave: 0.1 * wave,
    "1 % noise": lambda wave: wave + 0.01 * wave.std() * np.random.default_rng(0).standard_normal(len(wave)),
    "2 % cut off": lambda wave: wave[: round(0.98 * len(wave))],
    "louder and cut": lambda wave: 3 * wave[: round(0.98 * len(wave))],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", [0, 7, 21])
def test_a_clip_copied_after_a_change_of_its_sound(copy, tiny_plan, change, which):
    plan, prepared = tiny_plan(), load_prepared(copy)
    (modality,) = [m for m in plan.modalities if m.name == "audio"]
    extract = modality.features.spec.build(modality.features.params, plan.info.sources["audio"]).extract
    store, fold = prepared.stores["audio"], prepared.folds[0]
    a, b = [row for row in fold.train if row in store][which], next(row for row in fold.test if row in store)
    raw = open_dataset(plan).read(prepared.samples[a].id, "audio")
    planted(copy, "audio", b, extract(Audio(CHANGES[change](raw.samples).astype(np.float32), raw.rate)))
    evidence = findings(copy)["no recording twice under two names, across splits"].evidence
    assert evidence.startswith("fold 0: 1 pairs of recordings in different splits have almost the same audio")
    assert f"'{prepared.samples[a].id}' (train)" in evidence
    assert f"'{prepared.samples[b].id}' (test)" in evidence


@pytest.fixture(scope="module")
def pictures():
    """Faces of the toy corpus: speaker and frames of every clip."""
    spec = plugins().get("dataset", "toy").spec
    corpus = spec.build(spec.params(samples=96, speakers=6), None)
    return [(one.group, corpus.read(one.id, "faces").frames) for one in corpus.samples() if "faces" in one.sources]


FRAMES = Layout("video", ("time", "channel", "height", "width"), {"channel": 1, "height": 32, "width": 32}, 10.0, scale=1 / 255)


def store_of(folder, layout, streams):
    writer = StoreWriter(folder, layout)
    for row, stream in enumerate(streams):
        writer.add(row, stream)
    writer.close({"key": "k", "skipped": []})
    return Store(folder)


@pytest.mark.parametrize("which", [0, 30, 60])
@pytest.mark.parametrize(
    "change",
    [
        lambda v: 0.7 * v,
        lambda v: 1.2 * v,
        lambda v: v + 40,
        lambda v: 255 * (v / 255) ** 0.7,
        lambda v: v[: int(0.98 * len(v))],
        lambda v: v + 0.01 * v.std() * np.random.default_rng(0).standard_normal(v.shape),
    ],
    ids=["darker", "brighter", "lighter", "gamma", "cut", "noise"],
)
def test_pictures_copied_after_a_change_of_their_light(pictures, tmp_path, which, change):
    frames = [f for _, f in pictures]
    frames.append(change(frames[which].astype(float)).round().clip(0, 255).astype(np.uint8))
    store = store_of(tmp_path / "s", FRAMES, frames)
    assert near_duplicates(store, store.rows) == [(which, len(frames) - 1)]


def test_nobodys_own_recordings_are_called_copies_of_each_other(pictures, tiny_run, tmp_path):
    """Different recordings by one speaker, in pictures, sound and landmarks: alike, and not the same."""
    store = store_of(tmp_path / "s", FRAMES, [f for _, f in pictures])
    assert len(store.rows) - len({speaker for speaker, _ in pictures}) > 60
    assert near_duplicates(store, store.rows) == []
    for name in ("audio", "landmarks"):
        store = load_prepared(tiny_run).stores[name]
        assert near_duplicates(store, store.rows) == []


def test_repetitions_of_one_movement_are_no_copies(tmp_path):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 90)[:, None]
    movement = np.sin(2 * np.pi * (t + np.arange(6) / 6))
    layout = Layout("signal", ("time", "channel"), {"channel": 6}, 30.0)
    takes = [
        (movement * (1 + 0.05 * rng.normal(size=6)) + 0.03 * rng.normal(size=(90, 6))).astype(np.float32) for _ in range(12)
    ]
    store = store_of(tmp_path / "s", layout, takes)
    assert near_duplicates(store, store.rows) == []
    again = store_of(tmp_path / "again", layout, [*takes, 2 * takes[3] + 1])
    assert near_duplicates(again, again.rows) == [(3, 12)]


def test_a_clip_copied_with_a_little_noise(copy):
    rng = np.random.default_rng(0)
    rewrite(copy, "audio", lambda values: values + rng.normal(0, 0.01 * values.std(), values.shape).astype(values.dtype))
    assert "have almost the same audio" in findings(copy)["no recording twice under two names, across splits"].evidence


def test_statistics_of_all_splits(copy):
    prepared = load_prepared(copy)
    ((_, _, folder),) = copy.units("pretrain")
    weights = load_file(str(folder / "encoders.safetensors"))
    values = np.concatenate([prepared.stores["audio"].values(row) for row in prepared.stores["audio"].rows])
    weights["audio/normalise.mean"] = torch.tensor(values.astype(np.float64).mean(0)).float()
    weights["audio/normalise.deviation"] = torch.tensor(values.astype(np.float64).std(0)).float()
    save_file(weights, str(folder / "encoders.safetensors"))
    assert (
        "mean and deviation of 'audio' are those of all splits together"
        in findings(copy)["normalisation from training rows alone"].evidence
    )


def test_an_epoch_that_validation_did_not_choose(copy):
    ((_, _, folder),) = copy.units("pretrain")
    facts = read_json(folder / "finished.json")
    write_json(folder / "finished.json", {**facts, "best_epoch": facts["best_epoch"] % 3 + 1})
    assert "was best; the lowest validation loss" in findings(copy)["epochs chosen by validation loss"].evidence


def test_an_epoch_that_retrieval_did_not_choose(tiny_plan, run):
    run_all(tiny_plan("pretrain.choose=retrieval"), run, workers=1)
    assert "epochs chosen by validation loss" not in findings(run)
    ((_, _, folder),) = run.units("pretrain")
    facts = read_json(folder / "finished.json")
    write_json(folder / "finished.json", {**facts, "best_epoch": facts["best_epoch"] % 3 + 1})
    assert "was best; the best validation retrieval" in findings(run)["epochs chosen by validation loss"].evidence


def test_a_test_recording_among_training_features(copy):
    ((_, _, folder),) = copy.units("embed")
    prepared = load_prepared(copy)
    fold, samples = prepared.folds[0], prepared.samples
    write_whose(folder, "train", samples, [*fold.train, fold.test[0]])
    assert samples.id(fold.test[0]) in findings(copy)["features of each split are of that split"].evidence


def test_a_head_chosen_by_a_test_figure(copy):
    ((_, _, folder),) = copy.units("probe")
    rows = read_jsonl(folder / "chosen.jsonl")
    rows[0]["test_accuracy"] = 0.9
    write_jsonl(folder / "chosen.jsonl", rows)
    assert "was chosen by 'test_accuracy'" in findings(copy)["heads chosen on validation rows"].evidence


def test_predictions_of_training_recordings(copy):
    ((_, _, folder),) = copy.units("probe")
    prepared = load_prepared(copy)
    rows = read_jsonl(folder / "predictions.jsonl")
    rows[0]["id"] = prepared.samples[prepared.folds[0].train[0]].id
    write_jsonl(folder / "predictions.jsonl", rows)
    assert "are of no test recording" in findings(copy)["predictions are of test recordings"].evidence


def opened(run):
    return [row for row in read_jsonl(run.root / "log.jsonl") if row["event"] == "test opened"]


def test_a_test_set_opened_twice_by_an_mmcl_that_does_not_say_what_was_chosen(copy):
    copy.log("test opened", fold=0, seed=3, heads=1)
    assert "was opened 2 times (log.jsonl); nothing says what was chosen in between" in findings(copy)[OPENED].evidence


def test_a_test_set_that_is_read_again_for_what_was_chosen_before_is_no_leak(copy, tiny_plan):
    """A file that was lost is made again; a head, an input and a task are added: the documented ways of running again."""
    first = opened(copy)[0]["choices"]
    (copy.stage("probe", 0, 3) / "predictions.jsonl").unlink()
    run_all(tiny_plan(), copy, workers=1)
    more = ("probe.heads={linear: {use: linear, l2: [0.1, 1.0]}, near: {use: knn}}", "probe.inputs=[audio, all, text]")
    run_all(tiny_plan(*more), copy, workers=1)
    choices = [row["choices"] for row in opened(copy)]
    assert choices[0] == choices[1] == first
    assert choices[2] | first == choices[2] != first
    assert audit(copy).findings == ()
    page = (copy.root / "report.html").read_text(encoding="utf-8")
    assert "The test set: opened up to 3 times" in page
    assert "Added after it had been opened: emotion~all~near" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("probe.heads={linear: {use: linear, l2: [7.0]}}", "and .*~linear.* were chosen anew after it"),
        ("probe.heads={near: {use: knn}}", "and .*~linear.* were left out after it"),
        ("pretrain.epochs=1", "were chosen anew after it"),
    ],
)
def test_what_was_chosen_or_left_out_after_a_first_look_is_a_leak(change, words, copy, tiny_plan):
    run_all(tiny_plan(change), copy, workers=1, overwrite=True)
    assert re.search(words, findings(copy)[OPENED].evidence)
    page = (copy.root / "report.html").read_text(encoding="utf-8")
    assert ("Chosen anew after it had been opened" in page) == ("anew" in words)


def test_what_a_recipe_asks_for_is_reported_and_called_so(tiny_plan, run):
    run_all(
        tiny_plan(
            "pretrain={epochs: 1, batch_size: 16, transductive: [test]}",
            "protocol={use: hold-out, by: sample}",
            "probe.inputs=[audio]",
        ),
        run,
        workers=1,
    )
    leaks = audit(run).findings
    assert {one.check for one in leaks} == {"no group in two splits", "pretraining saw training inputs alone, and no labels"}
    assert all(one.asked for one in leaks)


def test_labels_in_pretraining_are_reported(tiny_plan, run):
    run_all(tiny_plan("pretrain={epochs: 1, batch_size: 16, balance: emotion}", "probe.inputs=[audio]"), run, workers=1)
    assert "labels or scores of training recordings were read" in audit(run).findings[0].evidence


def test_supervised_epochs_are_derived_again(tiny_plan, run):
    run_all(
        tiny_plan("supervise={heads: {mlp: {use: mlp, hidden: 8}}, inputs: [audio], epochs: 3}", "pretrain.epochs=0"),
        run,
        workers=1,
    )
    assert audit(run).findings == ()
    ((_, _, folder),) = run.units("supervise")
    (path,) = (folder / "models").glob("*.json")
    facts = read_json(path)
    write_json(path, {**facts, "best_epoch": facts["best_epoch"] % 3 + 1})
    assert "on validation rows" in findings(run)["epochs chosen by validation loss"].evidence


PROBES = "probes fitted on training rows and chosen on validation rows"


def evidence_of(run, check):
    return [one.evidence for one in audit(run).findings if one.check == check]


@pytest.mark.parametrize(("use", "choice"), [("linear", "l2"), ("knn", "k"), ("late", "audio l2")])
def test_a_choice_that_validation_rows_do_not_make(copy, tiny_plan, use, choice):
    if use != "linear":
        shutil.rmtree(copy.root)  # a run of its own, on the same streams
        run_all(tiny_plan(f"probe.heads={{it: {{use: {use}}}}}", "pretrain.epochs=0", "probe.inputs=[all]"), copy, workers=1)
        assert audit(copy).findings == ()
    ((_, _, folder),) = copy.units("probe")
    rows = read_jsonl(folder / "chosen.jsonl")
    rows[0][choice] = 7 * rows[0][choice]
    write_jsonl(folder / "chosen.jsonl", rows)
    (evidence,) = evidence_of(copy, PROBES)
    assert f"{choice} was {rows[0][choice]}; fitted on training rows and chosen on validation rows it is" in evidence


@pytest.mark.parametrize("leak", ["fitted on test", "chosen on test", "scaled by test"])
def test_a_probe_that_has_seen_test_recordings(copy, tiny_plan, monkeypatch, leak):
    from mmcl.stages import probe as stage

    ((_, _, folder),) = copy.units("probe")
    shutil.rmtree(folder)
    log = (copy.root / "log.jsonl").read_text().splitlines()
    read, scale = stage.read_features, stage.scale_of
    if leak == "scaled by test":
        encoded, pooled = (read(copy.stage("embed", 0, 3), kind, "test")[0] for kind in ("pretrained", "pooled"))

        def scale_by_test(plan, train):
            learned = train["audio"].vector.shape[1] == encoded["audio"].vector.shape[1]
            return scale(plan, encoded if learned else pooled)

        with monkeypatch.context() as m:
            m.setattr(stage, "scale_of", scale_by_test)
            stage.probe(tiny_plan(), copy)
    else:
        instead = {"fitted on test": "train", "chosen on test": "valid"}[leak]
        with monkeypatch.context() as m:
            m.setattr(stage, "read_features", lambda f, kind, split: read(f, kind, "test" if split == instead else split))
            stage.probe(tiny_plan(), copy)
    opened = (copy.root / "log.jsonl").read_text().splitlines()[len(log) :]  # the first opening is forgotten
    kept = [line for line in log if '"test opened"' not in line]
    (copy.root / "log.jsonl").write_text("\n".join([*kept, *opened]) + "\n")
    evidence = evidence_of(copy, PROBES)
    assert {one.check for one in audit(copy).findings} == {PROBES}
    if leak == "chosen on test":
        assert any("fitted on training rows and chosen on validation rows it is" in one for one in evidence)
    else:
        assert any("predictions are not those of a head fitted on training rows" in one for one in evidence)


MOSEI = """\
format: 1
name: tiny
dataset: cmu-mosei
modalities:
  audio: {source: covarep, features: {use: signals, rate: 10}, backbone: {use: mlp, hidden: [8], width: 8}}
  video: {source: facet, features: {use: signals, rate: 10}, backbone: {use: mlp, hidden: [8], width: 8}}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 8, epochs: 0}
probe: {tasks: [emotions], inputs: [all], heads: {linear: {use: linear, l2: [0.1, 1]}, mlp: {use: mlp, hidden: 4}}, training: {epochs: 2}, threshold: valid}
supervise: {tasks: [emotions], inputs: [all], heads: {mlp: {use: mlp, hidden: 8}}, epochs: 2, batch_size: 16, threshold: valid}
"""


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run of a task of several labels, with thresholds."""
    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe

    root = tmp_path_factory.mktemp("several")
    plugins().get("dataset", "cmu-mosei").spec.sample(root / "cmu-mosei", 80, 0)
    run = RunFolder(root / "runs" / "tiny")
    run_all(make_plan(parse_recipe(MOSEI, "tiny.yaml"), root), run, workers=1)
    return run


def of_several(run, tmp_path):
    shutil.copytree(run.root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def test_thresholds_of_honest_runs_are_those_of_validation_rows(several):
    audited = audit(several)
    assert audited.findings == ()
    assert audited.left_out == {}
    ((_, _, folder),) = several.units("probe")
    assert {row["head"]: len(row["thresholds"]) for row in read_jsonl(folder / "chosen.jsonl")} == {"linear": 6, "mlp": 6}


def test_a_probes_threshold_that_is_not_of_validation_rows(several, tmp_path):
    run = of_several(several, tmp_path)
    ((_, _, folder),) = run.units("probe")
    rows = read_jsonl(folder / "chosen.jsonl")
    for row in rows:
        row["thresholds"][0] += 5.0 if row["head"] == "linear" else 0.0
    write_jsonl(folder / "chosen.jsonl", rows)
    evidence = evidence_of(run, PROBES)
    assert any("head 'linear' on all" in one and "the threshold of 'happy' was" in one for one in evidence)
    assert not any("head 'mlp'" in one for one in evidence)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda thresholds: thresholds[:-1], "5 thresholds are written for 6 classes"),
        (lambda thresholds: None, "0 thresholds are written for 6 classes"),
    ],
    ids=["one lacks", "all lack"],
)
def test_thresholds_of_a_trained_head_that_cannot_be_applied(several, tmp_path, change, words):
    run = of_several(several, tmp_path)
    ((_, _, folder),) = run.units("probe")
    rows = read_jsonl(folder / "chosen.jsonl")
    for row in rows:
        row["thresholds"] = change(row["thresholds"]) if row["head"] == "mlp" else row["thresholds"]
    write_jsonl(folder / "chosen.jsonl", rows)
    evidence = evidence_of(run, PROBES)
    assert evidence
    assert all("head 'mlp'" in one and words in one for one in evidence)


def test_a_threshold_where_validation_rows_show_nothing(several, tmp_path):
    """A trained head is not kept: what it chose cannot be derived again, but a choice without any ground shows."""
    run = of_several(several, tmp_path)

    def change(folds):
        for row in folds["folds"][0]["valid"]:
            folds["samples"][row]["targets"]["emotions"][2] = 0.0

    refold(run, change)
    ((_, _, folder),) = run.units("probe")
    rows = read_jsonl(folder / "chosen.jsonl")
    for row in rows:
        row["thresholds"][2] = 0.4
    write_jsonl(folder / "chosen.jsonl", rows)
    evidence = evidence_of(run, PROBES)
    assert any("head 'mlp'" in one and "was 0.4, though validation rows have it one way only" in one for one in evidence)


def test_thresholds_of_a_model_trained_with_labels_are_derived_from_its_weights(several, tmp_path):
    run = of_several(several, tmp_path)
    ((_, _, folder),) = run.units("supervise")
    (path,) = (folder / "models").glob("*.json")
    facts = read_json(path)
    write_json(path, {**facts, "thresholds": [facts["thresholds"][0] - 9.0, *facts["thresholds"][1:]]})
    (evidence,) = evidence_of(run, "thresholds of trained models from validation rows")
    assert "emotions~all~mlp: the threshold of 'happy' was" in evidence


def test_few_labels_that_were_more(copy, tiny_plan):
    run_all(tiny_plan("worth={few_shot: [0.2], draws: 1, maps: []}"), copy, workers=1)
    assert audit(copy).findings == ()
    ((_, _, folder),) = copy.units("worth")
    rows = read_jsonl(folder / "worth.jsonl")
    for row in rows:
        if row["what"] == "few-shot":
            row["labels"] += 1
    write_jsonl(folder / "worth.jsonl", rows)
    evidence = findings(copy)["few labels were few, and of training rows"].evidence
    assert "with 0.2 of the labels was fitted on 13 recordings; 12 of 56 labelled training recordings were expected" in evidence


def test_results_of_a_test_set_that_nobody_opened(copy):
    log = (copy.root / "log.jsonl").read_text().splitlines()
    (copy.root / "log.jsonl").write_text("\n".join(line for line in log if '"test opened"' not in line) + "\n")
    assert "log.jsonl does not say when" in findings(copy)[OPENED].evidence


def test_few_shot_opened_twice(copy, tiny_plan):
    run_all(tiny_plan("worth={few_shot: [0.2], draws: 1, maps: []}"), copy, workers=1)
    run_all(tiny_plan("worth={few_shot: [0.3], draws: 1, maps: []}"), copy, workers=1, overwrite=True)
    assert findings(copy)[OPENED].evidence.startswith("worth, fold 0, seed 3: the test set was opened 2 times")


def test_what_an_earlier_recipe_left_behind_is_not_looked_at(copy, tiny_plan):
    earlier = copy.root / "fold-00" / "seed-3"
    shutil.copytree(earlier, copy.root.parent / "kept")
    run_all(tiny_plan("seed=4", "pretrain.epochs=0", "probe.inputs=[audio]"), copy, workers=1, overwrite=True)
    shutil.move(copy.root.parent / "kept", earlier)  # as a run of an older mmcl left it
    assert len(list(copy.root.glob("fold-*/seed-*/probe/finished.json"))) == 2
    assert audit(copy).findings == ()


def test_what_cannot_be_looked_at_is_named_and_is_not_called_sound(copy, capsys):
    shutil.rmtree(copy.stage("embed", 0, 3))
    audited = audit(copy)
    assert audited.findings == ()
    assert "has no features; what rests on them cannot be derived again" in audited.left_out[PROBES]
    with pytest.raises(SystemExit):
        main(["audit", str(copy.root)])
    assert f"?     {PROBES}: could not be looked at" in capsys.readouterr().out


def test_the_command_exits_with_1_and_the_evidence(copy, capsys):
    copy.log("test opened", fold=0, seed=3, heads=1)
    with pytest.raises(SystemExit) as done:
        main(["audit", str(copy.root)])
    assert done.value.code == 1
    assert f"LEAK  {OPENED}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["audit", str(copy.root), "--json"])
    assert json.loads(capsys.readouterr().out)["findings"][0]["check"] == OPENED


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StageError, match="is no run folder"):
        audit_folder(tmp_path)
