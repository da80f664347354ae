"""Whose features lie in a file, in columns; features written part by part; what an older mmcl wrote is read."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mmcl.api import SampleRef, StageError
from mmcl.data.recordings import Recordings
from mmcl.data.whose import has_whose, read_whose, write_whose
from mmcl.evaluate import answers
from mmcl.model.frozen import Features, load_features, save_features, save_in_parts
from mmcl.report import run_and_report
from mmcl.runs import RunFolder, arrays_in_parts, write_json
from mmcl.stages import embed as stage
from mmcl.use.table import features_of

SAMPLES = [
    SampleRef("a", "p", {"x": "a.wav"}, {"mood": 2, "cues": [0.5, None]}, "train", {"take": 1}),
    SampleRef("é/ü", "q", {}, {"cues": [1, 0]}),
    SampleRef("c", "p", {}, {"mood": 0, "age": 31.5}, "test", {"take": [2, "x"]}),
    SampleRef("d", "r", {}, {}),
]
ORDER = [2, 0, 3, 1]
LISTS = {
    "ids": [SAMPLES[row].id for row in ORDER],
    "groups": [SAMPLES[row].group for row in ORDER],
    "targets": [dict(SAMPLES[row].targets) for row in ORDER],
    "facts": [dict(SAMPLES[row].facts) for row in ORDER],
}


def lists(whose):
    return {name: list(values) for name, values in whose.items()}


def test_whose_features_they_are_is_read_as_it_was_written(tmp_path):
    write_whose(tmp_path, "test", Recordings.of(SAMPLES), ORDER)
    whose = read_whose(tmp_path, "test")
    assert lists(whose) == LISTS
    assert whose["ids"][1] == "a"
    assert whose["ids"][-2:] == LISTS["ids"][-2:]
    some = whose.within(np.array([True, False, False, True]))
    assert list(some["ids"]) == [LISTS["ids"][0], LISTS["ids"][3]]
    assert list(some.within(np.array([False, True]))["targets"]) == [LISTS["targets"][3]]
    with pytest.raises(IndexError):
        some["ids"][2]


def test_a_list_of_an_older_mmcl_is_read_and_one_in_columns_comes_first(tmp_path):
    assert not has_whose(tmp_path, "test")
    write_json(tmp_path / "test.json", {"format": 1, **LISTS})
    assert has_whose(tmp_path, "test")
    assert lists(read_whose(tmp_path, "test")) == LISTS
    write_whose(tmp_path, "test", Recordings.of(SAMPLES), [1])
    assert list(read_whose(tmp_path, "test")["ids"]) == ["é/ü"]


def test_what_is_missing_or_damaged_is_one_sentence(tmp_path):
    with pytest.raises(StageError, match=r"test\.safetensors: is missing; run its recipe again"):
        read_whose(tmp_path, "test")
    write_json(tmp_path / "test.json", {"format": 1, **LISTS, "groups": ["p"]})
    with pytest.raises(StageError, match=r"test\.json: does not hold what it should"):
        read_whose(tmp_path, "test")
    save_file({"id.starts": np.zeros(3, np.int64)}, str(tmp_path / "test.safetensors"))
    with pytest.raises(StageError, match=r"test\.safetensors: does not hold what it should"):
        read_whose(tmp_path, "test")
    write_whose(tmp_path, "test", Recordings.of(SAMPLES), ORDER)
    path = tmp_path / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StageError, match=r"test\.safetensors: is not a whole safetensors file"):
        read_whose(tmp_path, "test")


def features(count: int, seed: int = 0) -> dict[str, Features]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: Features(
            torch.randn(count, 5, generator=draw), torch.randn(count, width, generator=draw), torch.arange(count) % 3 > 0
        )
        for name, width in (("zeal", 3), ("é b", 0), ("a/b", 2))
    }


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_features_in_parts_have_the_bytes_of_those_in_one(tmp_path, count, at_once):
    whole = features(count)
    parts = [
        {
            name: Features(*(getattr(one, part)[k : k + at_once] for part in ("vector", "projection", "present")))
            for name, one in whole.items()
        }
        for k in range(0, max(1, count), at_once)
    ]
    save_features(tmp_path / "one.safetensors", whole)
    save_in_parts(tmp_path / "parts.safetensors", count, parts)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "parts.safetensors").read_bytes()
    assert set(load_features(tmp_path / "parts.safetensors")) == set(whole)


def test_arrays_that_do_not_get_all_their_bytes_leave_no_file(tmp_path):
    def write(path, missing):
        with arrays_in_parts(path, {"a": ("F32", (3,)), "b": ("BOOL", (2,))}) as add:
            add("a", np.zeros(3 - missing, np.float32).tobytes())
            add("b", b"\x01\x00")

    write(tmp_path / "whole.safetensors", 0)
    with pytest.raises(ValueError, match="'a' got 8 bytes by its end"):
        write(tmp_path / "short.safetensors", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.safetensors"]


def test_recordings_that_are_encoded_a_few_at_a_time_have_the_features_that_they_have_together(
    tiny_plan, tiny_run, tmp_path, monkeypatch
):
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    run = RunFolder(tmp_path / "runs" / "tiny")
    folder = run.stage("embed", 0, 3)
    before = load_features(folder / "pretrained-train.safetensors")
    shutil.rmtree(folder)
    monkeypatch.setattr(stage, "AT_ONCE", 7)
    sizes = []
    encode = stage.encode_rows
    monkeypatch.setattr(stage, "encode_rows", lambda *args, **more: (sizes.append(len(args[3])), encode(*args, **more))[1])
    stage.embed(tiny_plan(), run)
    assert max(sizes) == 7
    for name, one in load_features(folder / "pretrained-train.safetensors").items():
        torch.testing.assert_close(one.vector, before[name].vector, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.projection, before[name].projection, rtol=1e-5, atol=1e-6)
        assert bool((one.present == before[name].present).all())


def test_a_run_whose_features_an_older_mmcl_took_goes_on(tiny_plan, tiny_run, tmp_path):
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    run = RunFolder(tmp_path / "runs" / "tiny")
    folder = run.stage("embed", 0, 3)
    now = {split: features_of(run.root, split) for split in ("train", "valid", "test")}
    mark = json.loads((folder / "finished.json").read_text())
    for split in now:
        whose = read_whose(folder, split)
        write_json(folder / f"{split}.json", {"format": 1, **lists(whose)})
        (folder / f"{split}.safetensors").unlink()
        mark["files"].pop(f"{split}.safetensors")
    write_json(folder / "finished.json", mark)
    assert {split: features_of(run.root, split) for split in now} == now
    scores = (run.stage("probe", 0, 3) / "scores.jsonl").read_bytes()
    shutil.rmtree(run.stage("probe", 0, 3))
    run_and_report(tiny_plan(), run, workers=1)
    assert (run.stage("probe", 0, 3) / "scores.jsonl").read_bytes() == scores
    assert not (folder / "train.safetensors").exists()


def test_targets_are_the_same_block_by_block(monkeypatch):
    from mmcl.api import Task

    task = Task("cues", "multi-label", ("x", "y"))
    targets = [{"cues": [1, 0]}, {}, {"cues": [None, 1]}, {"cues": [0, 0]}, {"mood": 1}]
    whole, known = answers.target_of(task, targets)
    monkeypatch.setattr(answers, "BLOCK", 2)
    parts, _ = answers.target_of(task, targets)
    torch.testing.assert_close(parts, whole, equal_nan=True)
    assert known.tolist() == [True, False, True, True, False]
    output = np.arange(10.0).reshape(5, 2) - 4
    rows = list(answers.predictions_of({}, task, list("abcde"), parts, output))
    assert [row["id"] for row in rows] == list("abcde")
    assert [row["target"] for row in rows][2] == [None, 1.0]
