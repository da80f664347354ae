"""Several runs on one page, and the sections that a report has of what `worth` measured."""

from __future__ import annotations

import json
import re
from statistics import mean

import pytest

from mmcl.api import MmclError
from mmcl.cli import main
from mmcl.report.page import write_report
from mmcl.report.several import differences, report_runs
from mmcl.runs import read_json, read_jsonl


def rows_of(folder):
    return read_jsonl(folder / "fold-00" / "seed-3" / "worth" / "worth.jsonl")


def test_the_report_says_what_worth_measured(pair):
    page = (pair[0] / "report.html").read_text()
    for title in (
        "With few labels",
        "With modalities taken away",
        "From one modality to another",
        "On spoilt recordings",
        "The shape of the space",
        "Maps",
    ):
        assert f"<h3>{title}" in page, title
    assert "Shaded: 95% interval over 2 draws of the labels, test set fixed." in page
    assert '<i class="dash"></i>always guessing the same' in page
    few = [
        r["value"]
        for r in rows_of(pair[0])
        if r["what"] == "few-shot" and r["encoder"] == "pretrained" and r["share"] == 0.5 and r["metric"] == "accuracy"
    ]
    assert len(few) == 2
    assert f"{mean(few):.3f}" in page
    curve = [row for row in read_json(pair[0] / "report.json")["worth"] if row["what"] == "few-shot" and row["share"] == 0.5]
    assert mean(few) in [
        pytest.approx(row["mean"]) for row in curve if row["encoder"] == "pretrained" and row["metric"] == "accuracy"
    ]


def test_every_picture_can_be_read_aloud_and_takes_the_pages_colours(pair):
    for page in ((pair[0] / "report.html").read_text(), report_runs(pair).read_text()):
        pictures = re.findall(r'<div class="picture" role="img" aria-label="([^"]*)">', page)
        assert pictures
        assert all(len(alt) > 20 for alt in pictures)
        svgs = "".join(re.findall(r"<svg .*?</svg>", page, re.DOTALL))
        assert not re.findall(r"#[0-9a-f]{6}", svgs), "a colour of its own would not follow light and dark"
        assert "<script" not in page
        ids = re.findall(r' id="([^"]+)"', page)
        assert len(ids) == len(set(ids))


def test_two_runs_are_set_side_by_side(pair, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, pair), "--out", str(tmp_path / "both.html")])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    assert "pretrain.epochs" in page
    for folder in pair:
        scores = [
            r
            for r in read_json(folder / "report.json")["summary"]
            if (r["input"], r["encoder"], r["metric"]) == ("all", "pretrained", "accuracy")
        ]
        assert f"{scores[0]['mean']:.3f}" in page
    assert "PCA: all modalities together" in page


def test_differences_are_the_settings_that_are_not_alike():
    one = {
        "name": "a",
        "pretrain": {"epochs": 3, "lr": 1, "loss": {"use": "x", "params": {"temperature": 0.1}}},
        "probe": {"heads": {"linear": {"use": "linear"}}},
    }
    two = {
        "name": "b",
        "pretrain": {"epochs": 4, "lr": 1, "loss": {"use": "x", "params": {"temperature": 0.5}}},
        "probe": {"heads": {"linear": {"use": "linear"}, "mlp": {"use": "mlp", "hidden": 3}}},
    }
    assert differences({"a": one, "b": two}) == [
        ("pretrain.epochs", ["3", "4"]),
        ("pretrain.loss.temperature", ["0.1", "0.5"]),
        ("probe.heads.mlp", ["–", "there"]),
    ]


def test_the_same_runs_give_the_same_bytes(pair, tmp_path):
    first = report_runs(pair, tmp_path / "a.html").read_bytes()
    assert report_runs(pair, tmp_path / "b.html").read_bytes() == first
    before = (pair[0] / "report.html").read_bytes()
    write_report(pair[0])
    assert (pair[0] / "report.html").read_bytes() == before


def test_what_cannot_be_shown_is_one_sentence(pair, tmp_path):
    with pytest.raises(MmclError, match="is no run folder"):
        report_runs([pair[0], tmp_path])
    with pytest.raises(MmclError, match="named twice"):
        report_runs([pair[0], pair[0]])
    with pytest.raises(SystemExit) as ended:
        main(["report", str(pair[0]), "--out", str(tmp_path / "x.html")])
    assert ended.value.code == 2
    assert not (tmp_path / "x.html").exists()


def test_time_and_memory_are_logged_and_shown(pair):
    took = [row for row in read_jsonl(pair[0] / "log.jsonl") if row["event"] == "took"]
    assert {"pretrain", "worth"} <= {row["stage"] for row in took}
    assert all(row["memory_mb"] > 50 for row in took)
    page = (pair[0] / "report.html").read_text()
    assert "The process held at most" in page
    assert json.dumps(took[0]["joules"]) == "null" or "Wh meanwhile" in page


def test_unweighted_recall_stands_under_every_accuracy(pair, tmp_path):
    page = report_runs(pair, tmp_path / "both.html").read_text()
    table = page.split('aria-label="Scores of emotion"')[1].split("</table>")[0]
    for encoder in ("pretrained", "random"):
        (row,) = re.findall(rf'<tr><th scope="row">all</th><td>linear</td><td>{encoder}</td>(.*?)</tr>', table, re.DOTALL)
        expected = []
        for run in pair:
            answers = [
                (one["target"], one["prediction"])
                for one in read_jsonl(run / "fold-00/seed-3/probe/predictions.jsonl")
                if (one["input"], one["head"], one["encoder"]) == ("all", "linear", encoder)
            ]
            classes = {target for target, _ in answers}
            recalls = [mean(guess == target for target, guess in answers if target == one) for one in classes]
            expected.append(f"UAR {mean(recalls):.3f}")
        assert re.findall(r"UAR [\d.]+", row) == expected
    assert table.count("UAR") == table.count('<span class="number">')
    assert "under it unweighted average recall (UAR)" in page
