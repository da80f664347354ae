"""audit finds nothing in an honest run, and each of twelve leaks that are planted in one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.runs import RunFolder, fingerprint, read_json, read_jsonl, write_json, write_jsonl
from mmcl.stages import run_all
from mmcl.stages.audit import audit, audit_folder
from mmcl.stages.prepare import load_prepared


@pytest.fixture
def copy(tiny_run, tmp_path):
    """The session's run and its prepared streams, to be tampered with."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def found(run):
    return {one.check: one for one in audit(run).findings}


def test_an_honest_run_has_none(tiny_run, capsys):
    assert audit(tiny_run).findings == ()
    with pytest.raises(SystemExit) as done:
        main(["audit", str(tiny_run.root)])
    assert done.value.code == 0
    assert "LEAK" not in capsys.readouterr().out


def refold(run, change):
    path = run.root / "folds.json"
    said = read_json(path)
    change(said)
    said.pop("key")
    write_json(path, {**said, "key": fingerprint(said)})


def test_a_recording_in_two_splits(copy):
    refold(copy, lambda said: said["folds"][0]["train"].append(said["folds"][0]["test"][0]))
    assert "stand in train and test" in found(copy)["no recording in two splits"].evidence


def test_a_speaker_in_two_splits(copy):
    def change(said):
        a, b = said["folds"][0]["train"][0], said["folds"][0]["test"][0]
        said["samples"][b]["group"] = said["samples"][a]["group"]

    refold(copy, change)
    one = found(copy)["no group in two splits"]
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
    save_arrays({"index": index}, str(store.folder / "index.safetensors"))


def test_a_clip_copied_to_another_split(copy):
    rewrite(copy, "audio", lambda values: values)
    assert "have the same audio" in found(copy)["no recording twice under two names, across splits"].evidence


def test_a_clip_copied_with_a_little_noise(copy):
    rng = np.random.default_rng(0)
    rewrite(copy, "audio", lambda values: values + rng.normal(0, 0.01 * values.std(), values.shape).astype(values.dtype))
    assert "have almost the same audio" in found(copy)["no recording twice under two names, across splits"].evidence


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
        in found(copy)["normalisation from training rows alone"].evidence
    )


def test_an_epoch_that_validation_did_not_choose(copy):
    ((_, _, folder),) = copy.units("pretrain")
    facts = read_json(folder / "finished.json")
    write_json(folder / "finished.json", {**facts, "best_epoch": facts["best_epoch"] % 3 + 1})
    assert "was best; the lowest validation loss" in found(copy)["epochs chosen by validation loss"].evidence


def test_a_test_recording_among_training_features(copy):
    ((_, _, folder),) = copy.units("embed")
    train, test = read_json(folder / "train.json"), read_json(folder / "test.json")
    write_json(folder / "train.json", {**train, "ids": [*train["ids"], test["ids"][0]]})
    assert test["ids"][0] in found(copy)["features of each split are of that split"].evidence


def test_a_head_chosen_by_a_test_figure(copy):
    ((_, _, folder),) = copy.units("probe")
    rows = read_jsonl(folder / "chosen.jsonl")
    rows[0]["test_accuracy"] = 0.9
    write_jsonl(folder / "chosen.jsonl", rows)
    assert "was chosen by 'test_accuracy'" in found(copy)["heads chosen on validation rows"].evidence


def test_predictions_of_training_recordings(copy):
    ((_, _, folder),) = copy.units("probe")
    prepared = load_prepared(copy)
    rows = read_jsonl(folder / "predictions.jsonl")
    rows[0]["id"] = prepared.samples[prepared.folds[0].train[0]].id
    write_jsonl(folder / "predictions.jsonl", rows)
    assert "are of no test recording" in found(copy)["predictions are of test recordings"].evidence


def test_a_test_set_opened_twice(copy):
    copy.log("test opened", fold=0, seed=3, heads=1)
    assert "was opened 2 times" in found(copy)["the test set opened once"].evidence


def test_what_a_recipe_asks_for_is_found_and_called_so(tiny_plan, run):
    run_all(
        tiny_plan(
            "pretrain={epochs: 1, batch_size: 16, transductive: [test]}",
            "protocol={use: hold-out, by: sample}",
            "probe.inputs=[audio]",
        ),
        run,
        workers=1,
    )
    findings = audit(run).findings
    assert {one.check for one in findings} == {"no group in two splits", "pretraining saw training inputs alone, and no labels"}
    assert all(one.asked for one in findings)


def test_labels_in_pretraining_are_found(tiny_plan, run):
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
    assert "on validation rows" in found(run)["epochs chosen by validation loss"].evidence


def test_the_command_exits_with_1_and_the_evidence(copy, capsys):
    copy.log("test opened", fold=0, seed=3, heads=1)
    with pytest.raises(SystemExit) as done:
        main(["audit", str(copy.root)])
    assert done.value.code == 1
    assert "LEAK  the test set opened once" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["audit", str(copy.root), "--json"])
    assert json.loads(capsys.readouterr().out)["findings"][0]["check"] == "the test set opened once"


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(StageError, match="is no run folder"):
        audit_folder(tmp_path)
