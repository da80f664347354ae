"""What a run folder holds: finished work is never replaced without a word, what adds is added, more epochs go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.recipe.slots import Section
from mmcl.report import run_and_report
from mmcl.report.page import write_report
from mmcl.review.compare import compare_runs
from mmcl.runs import RunFolder, digest, read_json, read_jsonl, read_tensors, write_json, write_tensors
from mmcl.stages.earlier import changes_of
from tests.conftest import keep_split, split_of


@pytest.fixture
def copy(tiny_run, tmp_path) -> RunFolder:
    """A finished run of the tiny recipe that may be changed."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def contents(run: RunFolder) -> dict[str, bytes]:
    names = [path for path in run.root.rglob("*") if path.is_file() and path.name not in (".lock", "log.jsonl")]
    return {str(path.relative_to(run.root)): path.read_bytes() for path in names}


def go(plan, run: RunFolder, **more) -> None:
    run_and_report(plan, run, workers=1, **more)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["pretrain.epochs=2"], "pretrain.epochs was 3 and is 2"),
        (["pretrain.epochs=4"], "--continue"),
        (["pretrain.optimizer.lr=0.5"], "pretrain.optimizer.lr was 0.001 and is 0.5"),
        (["seed=4"], "seed was [3] and is [4]"),
        (["seed=[4, 3]"], "seed was [3] and is [4, 3]"),
        (["dataset.samples=90"], "dataset.params.samples was 96 and is 90"),
        (["modalities.audio.backbone.dropout=0.2"], "(pretrain, embed, probe)"),
        (["modalities.audio.augment.speed=0.2"], "modalities.audio.augment.speed is 0.2 now"),
        (["modalities.landmarks="], "modalities.landmarks was"),
        (["probe.inputs=[all]"], '(probe): the first of probe.inputs was "audio" and is "all"; probe.inputs.audio was'),
        (["probe.heads={mlp: mlp}"], "probe.heads.linear was"),
        (["probe.heads.linear.l2=[0.5]"], "probe.heads.linear.params.l2"),
        (["probe.clip=2"], "(probe): probe.clip was 4.0 and is 2.0"),
        (["report.against=[random]"], "report.against"),
        (["window.seconds=0.4"], "window.seconds was 0.8 and is 0.4"),
        (["protocol={use: hold-out}"], "protocol.use"),
        (["limit=50"], "limit is 50 now"),
    ],
)
def test_what_would_replace_finished_work_is_refused_and_nothing_is_touched(tiny_plan, tiny_run, sets, words):
    before = contents(tiny_run)
    with pytest.raises(StageError) as error:
        go(tiny_plan(*sets), tiny_run)
    assert words in str(error.value)
    assert "--out" in str(error.value)
    assert "--overwrite" in str(error.value)
    assert contents(tiny_run) == before


def test_a_head_an_input_a_seed_and_a_measure_of_worth_are_added(tiny_plan, copy):
    weights = (copy.stage("pretrain", 0, 3) / "encoders.safetensors").read_bytes()
    old = read_jsonl(copy.stage("probe", 0, 3) / "scores.jsonl")
    go(
        tiny_plan(
            "seed=[3, 4]",
            "probe.heads.mlp={use: mlp, hidden: 4}",
            "probe.inputs=[audio, all, text]",
            "worth={few_shot: [0.5], maps: []}",
        ),
        copy,
    )
    assert (copy.stage("pretrain", 0, 3) / "encoders.safetensors").read_bytes() == weights
    new = read_jsonl(copy.stage("probe", 0, 3) / "scores.jsonl")
    assert all(row in new for row in old)
    assert {row["head"] for row in new} == {"linear", "mlp", "majority"}
    assert len(copy.units("pretrain")) == 2
    with pytest.raises(StageError, match=r"seed was \[3, 4\] and is \[3\]"):
        go(
            tiny_plan(
                "probe.heads.mlp={use: mlp, hidden: 4}", "probe.inputs=[audio, all, text]", "worth={few_shot: [0.5], maps: []}"
            ),
            copy,
        )
    with pytest.raises(StageError, match="worth was .* and is left out now"):
        go(tiny_plan("seed=[3, 4]", "probe.heads.mlp={use: mlp, hidden: 4}", "probe.inputs=[audio, all, text]"), copy)


def test_with_overwrite_the_work_is_replaced_and_a_smaller_seed_list_leaves_nothing(tiny_plan, copy, capsys):
    shutil.copytree(copy.root / "fold-00" / "seed-3", copy.root / "fold-00" / "seed-9")
    go(tiny_plan("pretrain.epochs=1"), copy, overwrite=True)
    assert read_json(copy.stage("pretrain", 0, 3) / "finished.json")["epochs"] == 1
    assert not (copy.root / "fold-00" / "seed-9").exists()
    assert "fold-00/seed-9 was removed" in capsys.readouterr().err
    go(tiny_plan("pretrain.epochs=1"), copy)  # and that plan is the one that stands there now


def test_folders_of_an_earlier_plan_are_read_by_nobody_and_the_report_says_so(copy):
    shutil.copytree(copy.root / "fold-00" / "seed-3", copy.root / "fold-00" / "seed-9")
    for path in (copy.root / "fold-00" / "seed-9" / "probe").glob("*.jsonl"):
        path.write_text("not JSON\n")
    write_report(copy.root)
    page = (copy.root / "report.html").read_text()
    assert "Folders of an earlier plan" in page
    assert "fold-00/seed-9" in page
    assert {row["seed"] for row in read_json(copy.root / "report.json")["scores"]} == {3}
    assert compare_runs([copy.root], "emotion", ["audio", "all"]).rows
    assert [seed for _, seed, _ in copy.units("pretrain")] == [3]


def test_other_recordings_are_refused_before_folds_json_is_written(tiny_plan, copy):
    kept = split_of(copy.root)
    plan = tiny_plan()
    for key, change, words in (
        ("samples", lambda all: [{**all[0], "id": "other"}, *all[1:]], "1 recordings are gone, 1 new, 0 changed"),
        ("samples", lambda all: [{**all[0], "group": "somebody"}, *all[1:]], "1 changed, the first"),
        ("stores", lambda all: {**all, "audio": {**all["audio"], "key": "0"}}, "the files of audio"),
        ("folds", lambda all: [{**all[0], "train": all[0]["train"][1:]}], "fold 0 has other recordings on its sides"),
    ):
        keep_split(copy.root, {**kept, key: change(kept[key])})
        before = contents(copy)
        with pytest.raises(StageError, match="of other recordings") as error:
            go(plan, copy)
        assert words in str(error.value)
        assert contents(copy) == before
    whole = [path for path in sorted(contents(copy)) if path.endswith((".safetensors", "scores.jsonl"))]
    whole.remove("recordings.safetensors")
    weights = [(copy.root / path).read_bytes() for path in whole]
    go(plan, copy, overwrite=True)  # what the sentence offers: the recordings are those of the recipe again, and so is the work
    assert split_of(copy.root) == kept
    assert [(copy.root / path).read_bytes() for path in whole] == weights


def test_work_of_another_mmcl_is_not_replaced_either(tiny_plan, copy):
    about = read_json(copy.root / "plan.json")
    write_json(copy.root / "plan.json", {**about, "mmcl": "0.0.1"})
    with pytest.raises(StageError, match='mmcl was "0.0.1"'):
        go(tiny_plan(), copy)


def test_a_plan_json_of_before_a_key_was_there_still_opens(tiny_plan, copy):
    about = read_json(copy.root / "plan.json")
    for section, name in (("pretrain", "choose"), ("pretrain", "micro_batch"), ("probe", "floor"), ("window", "share")):
        about["plan"][section].pop(name)
    about["plan"].pop("limit")
    write_json(copy.root / "plan.json", about)
    before = (copy.stage("probe", 0, 3) / "finished.json").read_bytes()
    go(tiny_plan(), copy)
    assert (copy.stage("probe", 0, 3) / "finished.json").read_bytes() == before


def test_every_key_of_a_plan_is_compared_or_known_to_change_no_result(tiny_plan):
    """Whatever a recipe may say: a change of any key is noticed, except where no result depends on it."""
    plan = json.loads(json.dumps(tiny_plan("worth={}", "supervise.heads.it=mlp").to_json()))
    unread = {"name", "about", "overrides", "track", "sweep", "departs", "format", "checkpoint_minutes", "root"}

    def leaves(value, key=()):
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from leaves(inner, (*key, name))
        else:
            yield key

    for key in leaves(plan):
        other = json.loads(json.dumps(plan))
        inner = other
        for name in key[:-1]:
            inner = inner[name]
        inner[key[-1]] = "something else"
        assert bool(list(changes_of(plan, other))) != bool(unread & set(key)), key


@pytest.mark.parametrize("schedule", ["constant", "{use: step, every: 2, gamma: 0.5}"])
def test_more_epochs_go_on_to_the_weights_of_one_go(tiny_plan, copy, tmp_path, schedule):
    sets = (f"pretrain.schedule={schedule}", "probe.inputs=[audio]", "report.against=[]")
    one, other = RunFolder(tmp_path / "runs" / "one"), RunFolder(tmp_path / "runs" / "other")
    go(tiny_plan(*sets, "pretrain.epochs=5"), one)
    go(tiny_plan(*sets, "pretrain.epochs=2"), other)
    go(tiny_plan(*sets, "pretrain.epochs=5"), other, more=True)
    same = [(run.stage("pretrain", 0, 3) / "encoders.safetensors").read_bytes() for run in (one, other)]
    assert same[0] == same[1]
    facts = read_json(other.stage("pretrain", 0, 3) / "finished.json")
    assert (facts["epochs"], facts["continued"]) == (5, [2])
    about = read_json(other.root / "plan.json")
    assert about["continued"] == [{"epochs": 2, "patience": None}]
    sentence = about["going_on"][0]
    assert sentence.startswith("pretraining went on from the end of 2 epochs to 5")
    assert "in one go" in sentence
    assert sentence[1:] in (other.root / "report.html").read_text()
    assert any(row.get("going_on") == [sentence] for row in read_jsonl(other.root / "log.jsonl"))
    before = contents(other)
    go(tiny_plan(*sets, "pretrain.epochs=5"), other)  # without the flag: nothing is left to do, and what was said stays
    assert contents(other)["fold-00/seed-3/pretrain/finished.json"] == before["fold-00/seed-3/pretrain/finished.json"]
    assert read_json(other.root / "plan.json")["continued"] == about["continued"]


def test_a_schedule_that_decays_is_stretched_and_the_screen_shows_it(tiny_plan, tmp_path, capsys):
    sets = ("pretrain.schedule.use=cosine", "probe.inputs=[audio]", "report.against=[]")
    run = RunFolder(tmp_path / "runs" / "it")
    go(tiny_plan(*sets, "pretrain.epochs=2"), run)
    go(tiny_plan(*sets, "pretrain.epochs=4"), run, more=True)
    err = capsys.readouterr().err
    assert "the schedule cosine, which had ended at a rate of" in err
    assert "not those of 4 epochs in one go" in err
    rates = [row["lr"] for row in read_jsonl(run.stage("pretrain", 0, 3) / "history.jsonl")]
    assert len(rates) == 4
    assert rates[2] > rates[1]


def test_a_training_that_was_killed_while_it_went_on_goes_on_without_being_asked_again(tiny_plan, tmp_path, monkeypatch):
    sets = ("probe.inputs=[audio]", "report.against=[]")
    one, other = RunFolder(tmp_path / "runs" / "one"), RunFolder(tmp_path / "runs" / "other")
    go(tiny_plan(*sets, "pretrain.epochs=4"), one)
    go(tiny_plan(*sets, "pretrain.epochs=2"), other)
    longer = tiny_plan(*sets, "pretrain.epochs=4")
    with monkeypatch.context() as patch:
        patch.setattr("mmcl.engine.progress.Progress.due", lambda self, minutes: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(longer, other, more=True)
    go(tiny_plan(*sets, "pretrain.epochs=4"), other)
    same = [(run.stage("pretrain", 0, 3) / "encoders.safetensors").read_bytes() for run in (one, other)]
    assert same[0] == same[1]
    assert read_json(other.stage("pretrain", 0, 3) / "finished.json")["continued"] == [2]


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["pretrain.epochs=2"], "--continue goes on with more"),
        (["pretrain.epochs=5", "pretrain.optimizer.lr=0.5"], "pretrain.optimizer.lr was"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(tiny_plan, tiny_run, sets, words):
    with pytest.raises(StageError, match=words):
        go(tiny_plan(*sets), tiny_run, more=True)


def test_without_a_last_checkpoint_or_after_patience_a_sentence_says_what_to_do(tiny_plan, copy, tmp_path):
    last = copy.stage("pretrain", 0, 3) / "last"
    facts = read_json(last.parent / "finished.json")
    write_json(last.parent / "finished.json", {**facts, "stopped": "patience"})
    with pytest.raises(StageError, match="was stopped by patience after epoch 3"):
        go(tiny_plan("pretrain.epochs=5"), copy, more=True)
    write_json(last.parent / "finished.json", facts)
    shutil.rmtree(last)
    with pytest.raises(StageError, match="has no checkpoint of its last epoch.*--overwrite trains from the beginning"):
        go(tiny_plan("pretrain.epochs=5"), copy, more=True)
    go(tiny_plan("pretrain.epochs=5"), copy, overwrite=True, stop_after="pretrain")
    assert read_json(last.parent / "finished.json")["epochs"] == 5


def test_a_last_checkpoint_that_is_of_other_networks_is_one_sentence_and_overwrite_trains_from_the_beginning(
    tiny_plan, copy, tmp_path
):
    last = copy.stage("pretrain", 0, 3) / "last"
    tensors = read_tensors(last / "state.safetensors")
    write_tensors(last / "state.safetensors", {f"{name}s": value for name, value in tensors.items()})
    write_json(last / "state.json", {**read_json(last / "state.json"), "sha256": digest(last / "state.safetensors")})
    longer = tiny_plan("pretrain.epochs=4")
    with pytest.raises(StageError, match="do not fit the networks.*give --overwrite .and no --continue."):
        go(longer, copy, more=True)
    go(longer, copy, overwrite=True, stop_after="pretrain")
    go(longer, (other := RunFolder(tmp_path / "other" / "tiny")), stop_after="pretrain")
    ours, theirs = ((run.stage("pretrain", 0, 3) / "encoders.safetensors").read_bytes() for run in (copy, other))
    assert ours == theirs


def test_where_nothing_can_be_gone_on_with_a_sentence_tells_it(tiny_plan, tmp_path):
    with pytest.raises(StageError, match="holds no pretraining to go on with"):
        go(tiny_plan(), RunFolder(tmp_path / "runs" / "new"), more=True)


def test_the_command_line_says_it_with_exit_code_2(copy, tmp_path, capsys):
    recipe = copy.root / "recipe.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["run", str(recipe), "--out", str(copy.root), "--set", "pretrain.epochs=9"])
    assert ended.value.code == 2
    assert "--continue to go on from the last epoch" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["run", str(recipe), "--out", str(copy.root), "--overwrite", "--continue"])
    assert ended.value.code == 2
    assert Path(copy.root).exists()


@pytest.mark.parametrize(
    "later",
    [
        "pretrain.copies=2",
        "pretrain.objective.combine=sum",
        "projection=none",
        "modalities.text.backbone.skip=true",
        "pretrain.objective.loss.hardness=0.5",
    ],
)
def test_a_key_that_plans_leave_out_at_its_default_is_compared_too(tiny_plan, later):
    plain, other = (json.loads(json.dumps(tiny_plan(*sets).to_json())) for sets in ((), (later,)))
    for old, new in ((plain, other), (other, plain)):
        changes = [one for one in changes_of(old, new) if not one.adds]
        name = "use" if later == "projection=none" else later.split("=")[0].rpartition(".")[2]
        assert name in [one.key[-1] for one in changes]


def test_every_later_key_of_the_schema_is_compared():
    """By what sections and plug-ins say of themselves: a new one needs no list to be kept."""
    for section in every_section(Section):
        for name in section.LATER:
            assert list(changes_of({"pretrain": {}}, {"pretrain": {name: 7}})), f"{section.__name__}.{name}"
    assert list(
        changes_of({"dataset": {"params": {"sources": {"a": {}}}}}, {"dataset": {"params": {"sources": {"a": {"new": 1}}}}})
    )


def every_section(kind: type[Section]) -> list[type[Section]]:
    return [one for inner in kind.__subclasses__() for one in (inner, *every_section(inner))]
