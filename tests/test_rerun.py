"""A run can be repeated from its folder alone, to the same bits; what differs is said score by score."""

from __future__ import annotations

import json
import shutil

import pytest

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.report import run_and_report as run_all
from mmcl.review.rerun import differences, plan_of
from mmcl.runs import RunFolder, read_json, write_json


def call(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return done.value.code


def test_a_run_repeats_to_the_bit_and_says_so(tiny_plan, run, capsys):
    run_all(tiny_plan("pretrain.epochs=2", "probe.inputs=[audio]", "seed=5"), run, workers=1)
    assert call("rerun", run.root, "--workers", 1) == 0
    again = run.root.with_name("tiny-again")
    assert "0 of them different; 1 file of weights, 0 of them different" in capsys.readouterr().out
    comparison = differences(run.root, again)
    assert comparison.scores > 4
    assert comparison.differences == ()
    assert comparison.surroundings == {}
    assert (comparison.weights, comparison.other_weights) == (1, ())
    assert read_json(again / "plan.json")["plan"]["seed"] == [5]
    stores = [one["folder"] for one in read_json(again / "folds.json")["stores"].values()]
    assert stores  # prepared anew, not taken from beside the run
    assert all(one.startswith("prepared/") and (again / one / "store.json").is_file() for one in stores)
    assert call("audit", again) == 0


READ = """\
format: 1
name: read
dataset: ravdess
modalities:
  audio: {features: {use: log-mel}, backbone: {use: tcn, channels: [4]}}
  units: {features: action-units, backbone: {use: mlp, hidden: [4], width: 4}}
protocol: {use: hold-out}
"""


@pytest.mark.parametrize("root", ["d #1", "d: v2", "[d", "null", "1e3", "{d}", "d'\"", "~/d", " d "])
def test_a_folder_of_any_name_is_taken_by_its_name(root, tiny_plan, tmp_path):
    plan, folder = tiny_plan(text=READ, data=tmp_path), tmp_path / "a: #1" / "tiny"
    stated = plan.to_json()
    stated["dataset"]["root"] = str(tmp_path / root)
    write_json(folder / "plan.json", {"plan": stated})
    (folder / "recipe.yaml").write_text(plan.text, encoding="utf-8")
    assert plan_of(folder).root == tmp_path / root


def test_a_relative_folder_is_kept_as_it_was_meant(tiny_plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tiny_plan("dataset.root=d", text=READ).to_json()["dataset"]["root"] == str(tmp_path / "d")


def test_what_differs_is_listed_score_by_score(tiny_plan, run, capsys, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    run_all(tiny_plan("pretrain.epochs=1", "probe.inputs=[audio]"), run, workers=1)
    report, plan = read_json(run.root / "report.json"), read_json(run.root / "plan.json")
    changed = report["scores"][0]
    changed["value"] = 0.123456
    write_json(run.root / "report.json", report)
    plan["versions"]["torch"] = "1.0"
    plan["hardware"]["cores"] = 999
    plan["determinism"]["threads"] = 77
    plan["determinism"]["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    write_json(run.root / "plan.json", plan)
    weights = next(path for _, _, path in run.units("pretrain")) / "encoders.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert call("rerun", run.root, "--workers", 1, "--out", run.root.with_name("other")) == 1
    text = capsys.readouterr().out
    assert "1 of them different; 1 file of weights, 1 of them different" in text
    assert "version of torch: 1.0 then" in text
    assert "  cores: 999 then, " in text
    assert "  threads: 77 then, " in text
    assert "  CUBLAS_WORKSPACE_CONFIG: :4096:8 then, not set now" in text
    assert "cudnn" not in text  # what is the same is not said
    assert f"{changed['metric']}: 0.123456 then" in text
    assert call("rerun", run.root, "--workers", 1, "--out", run.root.with_name("other"), "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["differences"][0]["old"] == 0.123456


def test_a_run_from_before_its_surroundings_were_written_is_compared_all_the_same(tiny_run, tmp_path):
    folders = [tmp_path / name for name in ("old", "new")]
    for folder in folders:
        shutil.copytree(tiny_run.root, folder)
    plan = read_json(folders[0] / "plan.json")
    write_json(folders[0] / "plan.json", {k: v for k, v in plan.items() if k not in ("git", "hardware", "determinism")})
    assert differences(*folders).surroundings == {}


def test_folds_from_a_file_travel_with_the_run(tiny_plan, run, tmp_path):
    plan = tiny_plan()
    from mmcl.stages.prepare import open_dataset

    groups = sorted({sample.group for sample in open_dataset(plan).samples()})
    (tmp_path / "folds.csv").write_text("group,fold\n" + "".join(f"{g},{i % 3}\n" for i, g in enumerate(groups)))
    chosen = f"protocol={{use: folds, file: {tmp_path / 'folds.csv'}, only: [1]}}"
    run_all(tiny_plan(chosen, "pretrain.epochs=0", "probe.inputs=[audio]"), run, workers=1)
    (tmp_path / "folds.csv").unlink()
    again = RunFolder(run.root.with_name("again"))
    run_all(plan_of(run.root), again, workers=1)
    assert differences(run.root, again.root).differences == ()
    (run.root / "folds.csv").unlink()
    with pytest.raises(StageError, match="it holds the folds of the run's recipe"):
        plan_of(run.root)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StageError, match="is no run folder"):
        plan_of(tmp_path)
