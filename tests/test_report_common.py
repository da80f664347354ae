"""What a report says of recordings: common ones, the classes of each split, few groups, and what pretraining hurt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmcl.api import SampleRef
from mmcl.cli import COMMANDS
from mmcl.data.folds import Fold
from mmcl.data.predictions import key_of
from mmcl.data.prepared import load_split
from mmcl.data.recordings import Recordings
from mmcl.evaluate.statistics import summarise
from mmcl.report import card, words
from mmcl.report.common import Common, classes_of
from mmcl.report.page import _next, write_report
from mmcl.report.results import read_run
from mmcl.runs import RunFolder, read_json, read_jsonl, write_jsonl
from tests.conftest import split_of


@pytest.fixture
def copy(tiny_run, tmp_path) -> RunFolder:
    """A finished run of the tiny recipe that may be changed."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def test_inputs_are_set_against_each_other_on_recordings_that_all_of_them_have(copy):
    path = copy.stage("probe", 0, 3) / "predictions.jsonl"
    rows = read_jsonl(path)
    audio = sorted({row["id"] for row in rows if row["input"] == "audio"})
    gone = set(audio[: len(audio) // 3])
    rows = [row for row in rows if not (row["input"] == "audio" and row["id"] in gone)]
    for row in rows:  # every recording that audio lacks is right from all modalities, and every other wrong
        if row["input"] == "all" and row["encoder"] == "pretrained":
            row["prediction"] = row["target"] if row["id"] in gone else (row["target"] + 1) % 3
    write_jsonl(path, rows)
    common = Common(read_run(copy), "emotion")
    assert common.differ
    kept = set(audio) - gone
    assert set(common.keys.tolist()) == {key_of(id) for id in kept}
    assert common.score("all", "pretrained").mean == 0.0
    mine = [row["prediction"] == row["target"] for row in rows if row["input"] == "audio" and row["encoder"] == "pretrained"]
    assert common.score("audio", "pretrained").mean == pytest.approx(sum(mine) / len(mine))
    write_report(copy.root)
    page = (copy.root / "report.html").read_text()
    assert f"On the {len(kept)} that all of them have" in page
    every = len({row["id"] for row in rows if row["input"] == "all"})
    assert f"tested on {len(kept)} to {every} recordings" in page


def test_where_all_inputs_have_the_same_recordings_nothing_is_computed_anew(copy):
    path = copy.stage("probe", 0, 3) / "predictions.jsonl"
    rows = read_jsonl(path)
    audio, every = ({row["id"] for row in rows if row["input"] == name} for name in ("audio", "all"))
    write_jsonl(path, [row for row in rows if row["id"] in audio & every])
    results = read_run(copy)
    common = Common(results, "emotion")
    assert not common.differ
    assert common.shown() is None
    assert common.values("audio", "pretrained") == results.table["emotion", "audio", "linear", "pretrained", "accuracy"]
    write_report(copy.root)
    assert "that all of them have" not in (copy.root / "report.html").read_text()


def test_classes_of_each_split_are_counted_from_the_recordings(tiny_run):
    folds = split_of(tiny_run.root)
    counted = classes_of(load_split(tiny_run), read_json(tiny_run.root / "prepare.json")["tasks"])["emotion"][0]
    for split in ("train", "valid", "test"):
        targets = [folds["samples"][row]["targets"]["emotion"] for row in folds["folds"][0][split]]
        assert counted[split]["counts"] == [targets.count(i) for i in range(len(counted[split]["counts"]))]
        assert counted[split]["known"] == len(targets)
    page = (tiny_run.root / "report.html").read_text()
    assert "How often each class occurs" in page
    assert "Share of each class of emotion in each split" in page


def test_labels_that_are_unknown_or_several_are_counted_as_what_they_are():
    targets = [{"a": 1, "b": [1.0, 0.0]}, {"a": None, "b": [None, None]}, {"b": [1.0, None]}]
    samples = Recordings.of([SampleRef(str(row), "group", {}, one) for row, one in enumerate(targets)])
    tasks = {"a": {"type": "single-label", "classes": ["x", "y"]}, "b": {"type": "multi-label", "classes": ["x", "y"]}}
    counted = classes_of((samples, [Fold(0, (0, 1, 2))]), tasks)
    assert counted["a"][0]["train"] == {"counts": [0, 1], "known": 1, "unknown": 2}
    assert counted["b"][0]["train"] == {"counts": [2, 0], "known": 2, "unknown": 1}


@pytest.mark.parametrize(("units", "says"), [(1, False), (2, True), (5, True), (6, False), (24, False)])
def test_an_interval_over_fewer_than_six_is_called_a_rough_guess_everywhere(units, says):
    score = summarise({(fold, 0, 0): 0.5 + fold / 100 for fold in range(units)})
    assert ("fewer than six" in words.few(units, "speakers")) == says
    assert ("fewer than six" in words.caption("accuracy", "it", "linear", score)) == says
    assert ("fewer than six" in " ".join(card._told_apart("Pretraining adds 0.1", score))) == says


def test_few_people_in_the_test_set_are_a_banner_and_stand_in_the_comparison(tiny_run, capsys):
    from mmcl.cli import main

    tested = read_json(tiny_run.root / "prepare.json")["folds"][0]["groups"]["test"]
    assert 1 < len(tested) < 6
    assert "Few speakers were tested on" in (tiny_run.root / "report.html").read_text()
    with pytest.raises(SystemExit):
        main(["compare", str(tiny_run.root)])
    assert "fewer than six" in capsys.readouterr().out


def test_the_card_says_what_pretraining_hurt_and_how_sure_that_is():
    def behind(*values: float) -> card.Behind:
        gain = summarise(dict(zip([(fold, 0, 0) for fold in range(len(values))], values, strict=True)))
        return card.Behind("voice", 0.4, "random", 0.5, gain=gain)

    assert "Pretraining hurt voice, measured once." in card._behind("pretrained", [behind(-0.1)])
    assert "Pretraining hurt voice (95% interval" in card._behind("pretrained", [behind(-0.1, -0.11, -0.09)])
    assert "Pretraining hurt voice, as far as this run can tell" in card._behind("pretrained", [behind(-0.3, 0.1, 0.0)])
    assert "hurt" not in card._behind("pretrained", [card.Behind("voice", 0.4, "pooled", 0.5)])


def test_one_recording_of_a_class_is_no_confusion():
    assert words.worst(["a", "b"], [[0, 1], [0, 9]]) == []
    assert words.worst(["a", "b"], [[4, 2], [0, 9]]) == [("a", "b", 2, 6)]
    assert "Most mixed up" not in words.confusion_alt("it", ["a", "b"], [[0, 1], [0, 9]], [])


def test_the_next_commands_exist(tiny_run):
    commands = [command for command, _ in _next(Path("runs/tiny"))]
    assert {command.split()[1] for command in commands} <= set(COMMANDS)
    assert "mmcl audit runs/tiny" in commands
    page = (tiny_run.root / "report.html").read_text()
    assert all(command in page for command in commands)
    assert _next(Path("a b"))[-3][0] == "mmcl rerun 'runs/a b'"
