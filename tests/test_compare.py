"""Intervals cover what they should, tests are neither blind nor rash, and the command says what the files hold."""

from __future__ import annotations

import itertools
import json
import math
import shutil

import numpy as np
import pytest

from mmcl.api import DataError, StageError
from mmcl.cli import main
from mmcl.evaluate.paired import compare, estimate, holm
from mmcl.report import run_and_report as run_all
from mmcl.review.compare import compare_runs
from mmcl.runs import RunFolder, read_jsonl
from tests.conftest import keep_split, split_of


def people(rng, groups, each, spread=0.15, level=0.6):
    """Right or wrong for clips of people who differ: (values, group of each)."""
    own = np.clip(level + spread * rng.standard_normal(groups), 0.02, 0.98)
    values = (rng.random((groups, each)) < own[:, None]).astype(float).ravel()
    return values, [f"p{i}" for i in range(groups) for _ in range(each)]


@pytest.mark.parametrize("groups", [8, 24])
def test_intervals_cover_the_true_value_in_95_of_100_worlds(groups):
    rng = np.random.default_rng(groups)
    truth = np.clip(0.6 + 0.15 * np.random.default_rng(1).standard_normal(200_000), 0.02, 0.98).mean()
    covered, naive = 0, 0
    for world in range(1000):
        values, names = people(rng, groups, 30)
        one = estimate(values, names, seed=world, draws=600)
        covered += one.low <= truth <= one.high
        half = 1.96 * values.std() / math.sqrt(len(values))
        naive += abs(values.mean() - truth) <= half
    assert 0.93 <= covered / 1000 <= 0.97
    assert naive / 1000 < 0.9  # counting clips is too sure of itself, or this test would show nothing


def test_the_test_rejects_a_true_hypothesis_in_5_of_100_worlds_and_finds_what_is_there():
    rng = np.random.default_rng(0)
    false, true = 0, 0
    for world in range(400):
        a, names = people(rng, 10, 20)
        shift = rng.normal(0, 0.1, 10).repeat(20)  # people differ in what the second does for them, on average nothing
        b = (rng.random(200) < np.clip(0.6 + shift, 0, 1)).astype(float)
        c = (rng.random(200) < 0.6).astype(float)
        false += (compare(b, c, names, seed=world).p or 1) < 0.05
        true += (compare((rng.random(200) < 0.8).astype(float), c, names, seed=world).p or 1) < 0.05
        del a
    assert false / 400 < 0.08
    assert true / 400 > 0.95


def test_a_difference_is_paired_and_exact_for_few_groups():
    first = np.array([1.0, 1, 1, 1, 0, 1])
    second = np.array([0.0, 1, 0, 1, 0, 0])
    one = compare(first, second, ["a", "a", "b", "b", "c", "c"])
    assert one.difference.mean == pytest.approx(0.5)
    assert one.p == pytest.approx(2 / 8)  # of the eight ways of turning three signs, two are as far from zero
    assert one.better == 3
    assert one.effect is None  # every group differs by the same
    assert compare(first, second, ["a"] * 6).p is None


def test_unknown_values_are_left_out():
    values = np.array([1.0, math.nan, 0.0, 1.0])
    assert estimate(values, list("aabb")).recordings == 3
    assert compare(values, np.zeros(4), list("aabb")).difference.mean == pytest.approx(2 / 3)


def test_holm_is_its_definition():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None}) == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),
        "c": pytest.approx(0.06),
        "d": None,
    }


@pytest.fixture(scope="module")
def other_run(tiny_plan, tmp_path_factory):
    """A finished run of another seed, nothing pretrained. Tests read it and leave it as it is."""
    other = RunFolder(tmp_path_factory.mktemp("other") / "runs" / "other")
    run_all(tiny_plan("pretrain.epochs=0", "seed=4"), other, workers=1)
    return other


@pytest.fixture
def two(tiny_run, other_run, tmp_path):
    """The session's run, and a copy of that run that may be changed."""
    shutil.copytree(other_run.root, tmp_path / "runs" / "other")
    return tiny_run, RunFolder(tmp_path / "runs" / "other")


def test_rows_are_what_the_predictions_hold(two):
    tiny, other = two
    comparison = compare_runs([tiny.root, other.root])
    names = {row.name for row in comparison.rows}
    mine = {f"tiny: {encoder} all linear" for encoder in ("pretrained", "random", "pooled")}
    assert names == mine | {f"other: {encoder} all linear" for encoder in ("random", "pooled")}
    assert comparison.reference in mine
    ((_, _, folder),) = tiny.units("probe")
    rows = [r for r in read_jsonl(folder / "predictions.jsonl") if (r["encoder"], r["input"]) == ("pretrained", "all")]
    mine = next(row for row in comparison.rows if row.name == "tiny: pretrained all linear")
    ids = {r["id"] for r in rows}
    if comparison.recordings == len(ids):
        assert mine.score.mean == pytest.approx(np.mean([r["target"] == r["prediction"] for r in rows]))
    assert [row.score.mean for row in comparison.rows] == sorted((row.score.mean for row in comparison.rows), reverse=True)


def test_the_command_prints_a_table_and_draws_a_picture(two, tmp_path, capsys):
    tiny, other = two
    for extra in ([], ["--json"], ["--picture", str(tmp_path / "a" / "b.svg"), "--against", "tiny: random"]):
        with pytest.raises(SystemExit) as done:
            main(["compare", str(tiny.root), str(other.root), *extra])
        assert done.value.code == 0
        text = capsys.readouterr().out
        if extra == ["--json"]:
            assert json.loads(text)["measure"] == "accuracy"
        else:
            assert "compared with" in text
            assert "tiny: pretrained all linear" in text
    svg = (tmp_path / "a" / "b.svg").read_text()
    assert svg.count("<path") > 5
    assert "</svg>" in svg


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "mood"}, "no task is named 'mood' in all of these runs; they have emotion"),
        ({"inputs": ["faces"]}, "nothing is left to compare; .* the runs have the inputs .*all.* and the heads .*linear"),
        ({"reference": "tiny: "}, "is the beginning of 3 names"),
    ],
)
def test_what_cannot_be_compared_is_refused(two, options, words):
    with pytest.raises(DataError, match=words):
        compare_runs([r.root for r in two], **options)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StageError, match="is no run folder"):
        compare_runs([tmp_path])


def test_retrieval_is_compared_search_by_search_over_groups(two):
    comparison = compare_runs([two[0].root], "retrieval")
    pairs = [f"{a}~{b}" for a, b in itertools.permutations(("text", "audio", "landmarks"), 2)]
    assert {row.name for row in comparison.rows} == {
        f"tiny: {encoder} {pair}" for encoder in ("pretrained", "random", "pooled") for pair in pairs
    }
    assert comparison.measure == "R@1 among 32"
    ((_, _, folder),) = two[0].units("probe")
    means = {
        (row["encoder"], f"{row['from']}~{row['to']}"): row["value"]
        for row in read_jsonl(folder / "retrieval.jsonl")
        if row["metric"] == "R@1" and row["among"] == min(32, row["n"])
    }
    for pair in pairs:
        for row in compare_runs([two[0].root], "retrieval", [pair]).rows:
            encoder = row.name.removeprefix("tiny: ").split(" ")[0]
            assert row.score.mean == pytest.approx(means[encoder, pair])
            assert row.score.groups > 1
    rows = compare_runs([two[0].root], "retrieval", ["text~audio"], reference="tiny: random").rows
    one = next(row for row in rows if row.name.startswith("tiny: pretrained"))
    assert one.name == "tiny: pretrained text~audio"
    assert one.against.difference.mean == pytest.approx(means["pretrained", "text~audio"] - means["random", "text~audio"])
    with pytest.raises(DataError, match="retrieval has the inputs audio~landmarks, audio~text, .* and no heads"):
        compare_runs([two[0].root], "retrieval", ["audio"])


def test_runs_without_predictions_are_compared_by_retrieval(two):
    ((_, _, folder),) = two[1].units("probe")
    (folder / "predictions.jsonl").write_text("")
    assert compare_runs([two[1].root]).task == "retrieval"
    (folder / "searches.jsonl").unlink()
    with pytest.raises(StageError, match="has no predictions yet"):
        compare_runs([two[1].root])


def test_runs_whose_recordings_have_the_same_names_by_chance_are_not_mixed(two, tmp_path):
    tiny, other = two
    foreign = tmp_path / "foreign"
    shutil.copytree(other.root, foreign)
    plan = json.loads((foreign / "plan.json").read_text())
    plan["plan"]["dataset"]["use"] = "ravdess"
    (foreign / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(DataError, match=r"other corpora \(ravdess, toy\), .*; compare runs of one$"):
        compare_runs([tiny.root, foreign])
    (foreign / "plan.json").write_text((other.root / "plan.json").read_text())
    of_one = compare_runs([tiny.root, foreign])
    assert {row.name.partition(":")[0] for row in of_one.rows} == {"tiny", "foreign"}
    assert of_one.recordings > 0
    folds = split_of(foreign)
    keep_split(foreign, folds | {"samples": [one | {"group": "somebody"} for one in folds["samples"]]})
    with pytest.raises(DataError, match="has another group or label of .*; compare runs of the same data"):
        compare_runs([tiny.root, foreign])
    keep_split(foreign, folds)
    assert compare_runs([tiny.root, foreign]) == of_one
