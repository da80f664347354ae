"""A sweep never reads a test recording, gives the same trials every time, goes on where it ended, and says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean, median

import pytest
import torch

from mmcl.api import DataError, RecipeError, StageError
from mmcl.cli import main
from mmcl.data.folds import Fold
from mmcl.data.prepared import load_prepared
from mmcl.data.store import Store
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import as_yaml, parse_recipe
from mmcl.recipe.search import Source, SweepPlan, make_sweep, settings
from mmcl.report import run_and_report as run_all
from mmcl.report import search_and_report
from mmcl.review.runs import runs_in
from mmcl.runs import RunFolder, read_json, read_jsonl, write_json
from mmcl.search import metric, sweep, trial
from mmcl.search.study import open_study
from mmcl.stages import pretrain as pretrain_stage
from mmcl.stages import probe
from mmcl.stages import supervise as supervise_stage
from mmcl.stages.embed import embed, read_features
from mmcl.stages.prepare import prepare
from mmcl.stages.probe import validation_scores
from mmcl.stages.supervise import validation_scores as supervised_scores
from mmcl.stages.units import embed_key, pretrain_key, probe_key, supervise_key

pytest.importorskip("optuna")

RECIPE = """\
format: 1
name: tiny
seed: [3, 4]
dataset: {use: toy, samples: 96, speakers: 12}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [8], dropout: 0.1}}
window: {seconds: 0.8}
projection: {hidden: 8, width: 4}
pretrain:
  objective: {loss: {use: info-nce}}
  batch_size: 16
  epochs: 3
  optimizer: {use: adamw, lr: 1e-3}
  checkpoint_minutes: 0
probe: {inputs: [audio, all], heads: {linear: {use: linear, l2: [1.0]}}}
protocol: {use: k-fold, k: 3, only: [1, 2]}
sweep:
  space:
    pretrain.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
    modalities.audio.backbone.channels: [[4], [8]]
  trials: 3
  startup: 2
"""
LABELS = "supervise={heads: {late: {use: mlp, hidden: 8}}, optimizer: {use: adamw, lr: 1e-2}, batch_size: 16, epochs: 3, contrast: 0.1}"


def plan(*overrides: str, text: str = RECIPE, trials: int | None = None) -> SweepPlan:
    return make_sweep(Source(text, "tiny.yaml", Path(), overrides, None, trials))


def refusal(*overrides: str, text: str = RECIPE) -> str:
    with pytest.raises(RecipeError) as error:
        plan(*overrides, text=text)
    return str(error.value)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Where the streams of all sweeps of this file are kept: written once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def out(prepared, request):
    return prepared / re.sub(r"\W+", "-", request.node.name)


@pytest.fixture(scope="module")
def searched(prepared):
    """A finished sweep with its best values run in full. Tests read it and leave it as it is."""
    folder = prepared / "whole"
    return search_and_report(plan(), folder), folder


@pytest.fixture
def run_of_best(searched):
    """The full run of the best values, and its plan."""
    _, folder = searched
    return make_plan(parse_recipe((folder / "best.yaml").read_text(), "best.yaml")), RunFolder(folder / "best")


def test_a_sweep_changes_no_fingerprint_of_a_run_and_stands_in_its_plan(run_of_best):
    _, run = run_of_best
    with_sweep = make_plan(
        parse_recipe((run.root / "recipe.yaml").read_text(), "r", ["sweep={space: {projection.width: [2]}}", LABELS])
    )
    without = make_plan(parse_recipe((run.root / "recipe.yaml").read_text(), "r", [LABELS]))
    prepared = load_prepared(run)
    for key in (pretrain_key, embed_key, supervise_key):
        assert key(with_sweep, prepared, prepared.folds[0], 3) == key(without, prepared, prepared.folds[0], 3)
    assert probe_key(with_sweep, "x") == probe_key(without, "x")
    assert with_sweep.to_json()["sweep"]["space"] == {"projection.width": [2]}
    assert without.to_json()["sweep"] is None


@pytest.mark.parametrize("labels", [False, True], ids=["probe", "supervise"])
def test_no_test_recording_is_embedded_or_scored_in_a_trial(out, monkeypatch, labels):
    search = plan("sweep.trials=1", *([LABELS, "pretrain.epochs=0"] if labels else []))
    assert search.stage == ("supervise" if labels else "probe")
    first = sweep._prepare_once
    closed: set[int] = set()
    opened: set[int] = set()

    def prepare_then_close(search, out, prepared, *more):
        first(search, out, prepared, *more)
        (fold,) = load_prepared(RunFolder(out / "trials" / "recipe", prepared)).folds
        assert fold.number == 1  # the first of those that the recipe runs
        closed.update(fold.test)
        opened.update((*fold.train, *fold.valid))

    read = Store.values
    seen: set[int] = set()

    def values(self, row, start=0, stop=None):
        assert row not in closed, f"test recording {row} was read"
        seen.add(row)
        return read(self, row, start, stop)

    monkeypatch.setattr(sweep, "_prepare_once", prepare_then_close)
    monkeypatch.setattr(Store, "values", values)
    done = search_and_report(search, out, final=False)
    assert [one.state for one in done.trials] == ["done"]
    assert closed
    assert seen <= opened
    assert seen
    names = [path.name for path in out.rglob("*")]
    assert not [name for name in names if "test" in name]
    # a trial's features are removed, with whose they are; its mark has their names
    took = [name for mark in out.rglob("embed/finished.json") for name in read_json(mark)["files"]]
    assert "valid.safetensors" in took or labels
    assert not [name for name in took if "test" in name]
    assert "test opened" not in [row["event"] for row in read_jsonl(out / "trials" / "0000" / "log.jsonl")]
    assert done.final is None
    assert not (out / "best").exists()


@pytest.mark.parametrize("how", ["held", "last", "supervise"])
def test_with_parts_every_group_judges_once_and_nothing_is_learned_or_chosen_on_it(out, monkeypatch, how):
    """What is read while a part's encoders are trained, and while its heads are fitted, holds no recording of the part."""
    sets = {"held": [], "last": ["pretrain.keep=last"], "supervise": [LABELS, "pretrain.epochs=0"]}[how]
    search = plan("sweep.trials=1", "sweep.validation=4", "seed=3", *sets)
    assert search.holds == (how != "last")
    first, fitting, read = sweep._prepare_once, probe.fit_head, Store.values
    folds: list[Fold] = []
    outer: list[Fold] = []
    now: list[Fold] = []  # whose encoders are being trained
    fitted: list[set[int]] = []

    def prepare_and_look(search, out, prepared, *more):
        first(search, out, prepared, *more)
        folds.extend(load_prepared(RunFolder(out / "trials" / "recipe", prepared)).folds)
        prepare(search.plan, RunFolder(out / "outer", prepared), first=1)
        outer.extend(load_prepared(RunFolder(out / "outer", prepared)).folds)

    def values(self, row, start=0, stop=None):
        assert row not in outer[0].test, f"test recording {row} was read"
        assert not now or row not in now[0].valid, f"recording {row} judges fold {now[0].number}"
        return read(self, row, start, stop)

    def training(stage, name):
        real = getattr(stage, name)

        def train(unit, *args, **more):
            now.append(unit.fold)
            try:
                return real(unit, *args, **more)
            finally:
                now.pop()

        monkeypatch.setattr(stage, name, train)

    def counted(part, task, train, valid, *args):
        fitted.append({len(train.target), len(valid.target)})
        return fitting(part, task, train, valid, *args)

    monkeypatch.setattr(sweep, "_prepare_once", prepare_and_look)
    monkeypatch.setattr(Store, "values", values)
    monkeypatch.setattr(probe, "fit_head", counted)
    if how == "held":
        training(pretrain_stage, "_train")
    elif how == "supervise":
        training(supervise_stage, "_train_all")
    done = search_and_report(search, out, final=False)
    assert [one.state for one in done.trials] == ["done"], done.trials[0].sentence
    assert "every group of training and validation once (in 4 parts), mean over 1 fold and 1 seed" in done.about
    samples = load_prepared(RunFolder(out / "trials" / "recipe", out.parent / "prepared")).samples
    judging = [{samples[row].group for row in fold.valid} for fold in folds]
    assert sorted(group for each in judging for group in each) == sorted(
        {samples[row].group for row in (*outer[0].train, *outer[0].valid)}
    )
    if how != "supervise":
        for fold, sizes in zip(folds, fitted, strict=True):
            assert sizes == {len(fold.train), len(fold.held)} if how == "held" else sum(sizes) == len(fold.train)
    rows = read_json(out / "trials" / "0000" / "scores.json")["scores"]
    values_of = [row["value"] for row in rows if row["metric"] == "accuracy" and row["encoder"] in ("pretrained", "supervised")]
    assert [row["n"] for row in rows if row["metric"] == "accuracy"][:1] == [len(folds[0].valid)]
    assert len(values_of) == 4
    assert done.best.score == pytest.approx(sum(values_of) / 4)


def test_parts_are_another_search_and_have_their_refusals(out):
    search_and_report(plan("sweep.trials=1", "pretrain.epochs=1"), out, final=False)
    with pytest.raises(StageError, match="was begun with another way of searching"):
        search_and_report(plan("sweep.trials=1", "pretrain.epochs=1", "sweep.validation=each-group"), out, final=False)
    with pytest.raises(
        DataError, match="sweep.validation: 9 parts of the 8 groups of training and validation in fold 1; use 8 at most"
    ):
        search_and_report(plan("sweep.validation=9"), out.with_name("nine"), final=False)
    words = "sweep.validation: each-group needs protocol.by: group; give a number of parts, such as 5"
    assert words in refusal("sweep.validation=each-group", "protocol.by=sample")
    assert "sweep.validation: must be" in refusal("sweep.validation=1")


def test_rows_are_held_out_wherever_the_validation_rows_of_a_fold_choose_an_epoch():
    parts = "sweep.validation=4"
    assert not plan().holds
    assert plan(parts).holds
    assert not plan(parts, "pretrain.keep=last").holds
    assert plan(parts, "pretrain.keep=last", "pretrain.patience=2").holds
    assert plan(parts, "pretrain.keep=last", "pretrain.transductive=[valid]").holds
    assert plan(parts, "pretrain.keep=last", "sweep.space={pretrain.patience: [1, 2]}").holds
    labels = LABELS.replace("epochs: 3", "epochs: 3, keep: last")
    assert not plan(parts, labels, "pretrain.epochs=0").holds
    assert plan(parts, labels, "sweep.score={stage: supervise}", "pretrain.keep=last").holds is False
    assert plan(parts, labels.replace("{heads", "{start: pretrained, heads"), "sweep.score={stage: supervise}").holds


def test_validation_scores_are_those_of_the_heads_that_a_run_tests(run_of_best, tmp_path):
    """By hand: the head's own guesses on validation features, counted."""
    import torch

    from mmcl.evaluate.answers import target_of
    from mmcl.model.frozen import save_features
    from mmcl.model.scale import any_present, encoded_of
    from mmcl.stages.embed import read_features
    from mmcl.stages.probe import _fit_unit

    best, run = run_of_best
    rows = validation_scores(best, run)
    folder = run.stage("embed", 1, 4)
    fitted, chosen, _ = _fit_unit(best, folder, 1, 4, lambda done, text: None, judged=True)
    head = next(one for one in fitted if (one.input, one.encoder) == ("all", "pretrained"))
    features, who = read_features(folder, "pretrained", "valid")
    target, known = target_of(head.task, who["targets"])
    here = known & any_present(features, head.modalities)
    with torch.inference_mode():
        guess = head.head(encoded_of(best, head.scale, features, head.modalities, here)).argmax(1)
    (mine,) = [
        r
        for r in rows
        if (r["fold"], r["seed"], r["input"], r["encoder"], r["metric"]) == (1, 4, "all", "pretrained", "accuracy")
    ]
    assert mine["value"] == pytest.approx(float((guess == target[here]).double().mean()))
    assert mine["n"] == int(here.sum())
    spoilt = features | {name: replace(one, vector=one.vector + 100) for name, one in features.items()}
    shutil.copytree(folder, tmp_path / "spoilt")
    save_features(tmp_path / "spoilt" / "pretrained-valid.safetensors", spoilt)
    _, chosen_again, _ = _fit_unit(best, tmp_path / "spoilt", 1, 4, lambda done, text: None, judged=True)
    assert chosen_again == chosen, "no head is fitted or chosen on the rows that judge it"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_validation_scores_with_labels_are_those_of_the_kept_epoch(searched, out, keep):
    _, folder = searched
    labels = LABELS.replace("epochs: 3", f"inputs: [audio], epochs: 4, choose: score, keep: {keep}")
    kept = make_plan(parse_recipe((folder / "best.yaml").read_text(), "best.yaml", [labels, "seed=3"]))
    run = RunFolder(out)
    prepare(kept, run, first=1)
    accuracies: list[float] = []
    rows = supervised_scores(kept, run, "cpu", lambda epoch, metrics: accuracies.append(metrics["accuracy"]))
    (value,) = [r["value"] for r in rows if r["metric"] == "accuracy"]
    about = read_json(run.stage("supervise", 1, 3) / "models" / "emotion~audio~late.json")
    assert accuracies == [row["valid_accuracy"] for row in about["history"]]
    assert value == pytest.approx(accuracies[-1] if keep == "last" else max(accuracies))


def test_the_best_is_run_in_full_and_best_yaml_gives_it_again(searched, tmp_path):
    result, folder = searched
    assert result.final is not None
    assert result.best.score == max(one.score for one in result.trials)
    assert (result.final["folds"], result.final["seeds"]) == (2, 2)  # all of the recipe's, where a trial has one of each
    opened = [row for row in read_jsonl(folder / "best" / "log.jsonl") if row["event"] == "test opened"]
    assert [(row["fold"], row["seed"]) for row in opened] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    text = (folder / "best.yaml").read_text()
    best = make_plan(parse_recipe(text, "best.yaml"))
    assert best.recipe.sweep is None
    assert best.recipe.pretrain.optimizer.lr == result.best.values["pretrain.optimizer.lr"]
    again = make_plan(parse_recipe(text, "best.yaml", ("seed=3", "protocol.only=[1]")))
    run = RunFolder(tmp_path / "again", folder.parent / "prepared")
    run_all(again, run)
    for name in ("pretrain/encoders.safetensors", "embed/pretrained-test.safetensors"):
        stage, file = name.split("/")
        assert (run.stage(stage, 1, 3) / file).read_bytes() == (
            RunFolder(folder / "best").stage(stage, 1, 3) / file
        ).read_bytes()


def test_the_same_trials_come_again_also_where_a_killed_sweep_goes_on(searched, out, monkeypatch):
    result, _ = searched
    real, calls = trial.validation_score, []

    def killed_in_the_second(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(trial, "validation_score", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        search_and_report(plan(), out, final=False)
    with (out / "study.jsonl").open("a") as file:
        file.write('{"half')  # and the machine stopped while it wrote
    again = search_and_report(plan(), out, final=False)
    assert len(calls) == 4  # the killed one was run again, the first was not
    assert [replace(one, seconds=0.0) for one in again.trials] == [replace(one, seconds=0.0) for one in result.trials]
    more = search_and_report(plan(trials=4), out, final=False)
    assert len(more.trials) == 4
    assert len(calls) == 5
    monkeypatch.undo()
    search_and_report(plan(trials=4), out, final=False)
    with pytest.raises(StageError, match="was begun with another space; give another --out, or delete the folder"):
        search_and_report(plan("sweep.space={projection.width: [2, 4]}"), out)
    with pytest.raises(
        StageError, match=r"was begun with another score and another recipe \(projection.width was 4 and is 6\)"
    ):
        search_and_report(plan("sweep.score={input: audio}", "projection.width=6"), out)
    about = json.loads((out / "sweep.json").read_text())
    about["recipe"]["modalities"]["audio"]["backbone"]["code"] = about["keys"]["recipe"] = "0" * 64
    (out / "sweep.json").write_text(json.dumps(about))
    changed = r"another recipe \(the code of plug-in 'tcn' \(modalities.audio.backbone; package mmcl-?\w* [\d.]+\) has changed\); give"
    with pytest.raises(StageError, match=changed):
        search_and_report(plan(trials=4), out, final=False)


def test_a_trial_that_fails_has_its_sentence_and_the_sweep_goes_on(out, capsys):
    search = plan(
        "sweep={space: {pretrain.optimizer.lr: [1e-3, 1e30]}, sampler: grid}", "pretrain.optimizer.use=sgd", "pretrain.epochs=2"
    )
    done = search_and_report(search, out, final=False)
    assert [one.state for one in done.trials] == ["done", "failed"]
    assert "the loss became" in done.trials[1].sentence
    assert "trial 1 (pretrain.optimizer.lr=1.0e+30) failed: pretrain: the loss became" in capsys.readouterr().err
    assert "the loss became" in (out / "sweep.html").read_text()
    assert "There is one key" in done.importance_says


def test_where_all_fail_the_sweep_ends_with_the_sentence(out):
    search = plan("sweep={space: {pretrain.optimizer.lr: [1e30]}, sampler: grid}", "pretrain.optimizer.use=sgd")
    with pytest.raises(StageError, match="none of 1 trials has a score; the first ended with: pretrain: the loss became"):
        search_and_report(search, out)
    assert read_json(out / "trials.json")["trials"][0]["state"] == "failed"


def test_a_grid_is_every_combination(out, monkeypatch):
    search = plan(
        "sweep={space: {pretrain.optimizer.lr: {low: 0.1, high: 0.3, step: 0.1}, projection.width: [2, 4]}, sampler: grid, "
        "score: {metric: f1_macro}}"
    )
    monkeypatch.setattr(trial, "validation_score", lambda *args: 0.5)
    done = search_and_report(search, out, final=False)
    pairs = [(one.values["pretrain.optimizer.lr"], one.values["projection.width"]) for one in done.trials]
    assert pairs == [(lr, width) for lr in (0.1, 0.2, 0.3) for width in ("2", "4")]
    assert done.best.number == 0
    assert done.importance_says == "All trials have the same score: no key matters here."


def test_of_an_error_less_is_better(out, monkeypatch):
    assert metric.less_is_better("mae")
    assert metric.less_is_better("joy/mae")
    assert not metric.less_is_better("accuracy")
    scores = iter([0.5, 0.4, 0.6])
    monkeypatch.setattr(metric, "LESS_IS_BETTER", {"accuracy"})
    monkeypatch.setattr(trial, "validation_score", lambda *args: next(scores))
    done = search_and_report(plan(), out, final=False)
    assert (done.best.number, done.best.score, done.less) == (1, 0.4, True)


def test_what_pretraining_reports_of_each_epoch_is_its_validation_loss(searched):
    _, folder = searched
    for one in open_study(folder, "accuracy").get_trials():
        history = read_jsonl(RunFolder(folder / "trials" / f"{one.number:04d}").stage("pretrain", 1, 3) / "history.jsonl")
        assert one.intermediate_values == {row["epoch"]: -row["valid_loss"] for row in history}


def test_a_trial_is_ended_where_its_validation_figures_are_worse_than_the_median(out, monkeypatch):
    """Trial 2 does worse at every epoch than both before it: it is ended after a third of the epochs."""
    text = RECIPE.replace("startup: 2", "startup: 2\n  prune: median\n  sampler: random")
    losses = iter([1.0, 2.0, 9.0])
    reported: list[tuple[float, int]] = []

    def score(search, plan, run, device, watch):
        loss = next(losses)
        for epoch in range(1, 4):
            reported.append((loss, epoch))
            watch.loss(epoch, loss - 0.1 * epoch)
        return 1 / loss

    monkeypatch.setattr(trial, "validation_score", score)
    done = search_and_report(plan(text=text), out, final=False)
    assert [one.state for one in done.trials] == ["done", "done", "ended early"]
    assert reported[-1] == (9.0, 1)
    assert done.best.number == 0
    assert "ended early" in (out / "sweep.html").read_text()


def test_two_workers_run_every_trial_once(out):
    done = search_and_report(plan(trials=2), out, jobs=2, final=False)
    assert [(one.number, one.state) for one in done.trials] == [(0, "done"), (1, "done")]
    assert all(one.score is not None for one in done.trials)


class Reader(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_offline_warns_of_selection_and_says_its_pictures_in_words(searched):
    result, folder = searched
    text = (folder / "sweep.html").read_text()
    tags = Reader(text).tags
    assert not [tag for tag, _ in tags if tag in ("script", "img", "iframe")]
    assert not re.search(r"(?:href|src)=\"(?!#|data:|best/report\.html)", text)
    pictures = [attrs["aria-label"] for tag, attrs in tags if attrs.get("role") == "img"]
    assert len(pictures) == 3
    assert f"the best, {result.best.score:.3f}, is trial {result.best.number}" in pictures[0]
    assert "Mean validation accuracy by modalities.audio.backbone.channels: " in pictures[1]
    assert "explains: " in pictures[2]
    assert "The scores of the trials are too high." in text
    assert f"<strong>{result.final['mean']:.3f}</strong>" in text
    ids = [attrs["id"] for _, attrs in tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    kept = read_json(folder / "trials.json")
    assert [one["number"] for one in kept["trials"]] == [0, 1, 2]
    assert sum(kept["importance"].values()) == pytest.approx(1)


def test_one_trial_says_that_importance_cannot_be_known(out, monkeypatch):
    monkeypatch.setattr(trial, "validation_score", lambda *args: 0.5)
    done = search_and_report(plan(trials=1), out, final=False)
    assert done.importance_says == "One trial has a score; how much a key matters shows from two on."
    assert done.importance_says in (out / "sweep.html").read_text()


LR = "    pretrain.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            LR,
            "    pretrain.optimzer.lr: [1e-3]\n",
            "tiny.yaml:20: sweep.space.pretrain.optimzer.lr: with 0.001: pretrain.optimzer: is not a key here; did you mean 'optimizer'?",
        ),
        (
            LR,
            "    pretrain.optimizer.lr: [1e-3, -1.0]\n",
            "tiny.yaml:20: sweep.space.pretrain.optimizer.lr: with -1.0: must be greater than 0, got -1.0",
        ),
        ("high: 1e-1", "high: 1e-5", "tiny.yaml:20: sweep.space.pretrain.optimizer.lr: low 0.0001 must be below high 1e-05"),
        (
            "low: 1e-4",
            "low: 0",
            "tiny.yaml:20: sweep.space.pretrain.optimizer.lr: a logarithmic scale needs low above 0, got 0",
        ),
        (
            LR,
            "    pretrain.optimizer.lr: 1e-3\n",
            "tiny.yaml:20: sweep.space.pretrain.optimizer.lr: must be a list of values, or a range such as",
        ),
        (LR, "    seed: [1, 2]\n", "tiny.yaml:20: sweep.space.seed: decides which recordings are scored, or by what luck"),
        (LR, "    report.against: [[random]]\n", "sweep.space.report.against: changes no validation score"),
        (LR, "    probe.heads: [{mlp: mlp}]\n", "with {mlp: mlp}: takes probe's 'linear' away, which is scored"),
        (
            LR,
            "    pretrain.transductive: [[test]]\n",
            "pretrain.transductive contrasts test recordings, which no trial may read",
        ),
        (
            "startup: 2",
            "startup: 2\n  sampler: grid",
            "sweep.space.pretrain.optimizer.lr: a grid needs a list of values, or a step",
        ),
        ("  trials: 3\n", "", "tiny.yaml:18: sweep.trials: is missing"),
        (
            LR,
            "    projection.width: [2, 4]\n  prune: median\n",
            "tiny.yaml:21: sweep.prune: median compares validation losses, and 'projection.width' changes what the loss means; set prune: none",
        ),
        ("startup: 2", "seeds: 3", "sweep.seeds: asks for 3 seeds, the recipe has 2"),
        (
            "startup: 2",
            "score: {task: mood, input: faces}",
            "sweep.score.task: there is no task 'mood' in probe; there are emotion",
        ),
        ("startup: 2", "score: {stage: supervise}", "sweep.score.stage: the recipe has no supervise section"),
        (RECIPE[RECIPE.index("sweep:") :], "", "tiny.yaml:1: sweep: is missing; it says what is tried"),
    ],
)
def test_each_mistake_has_its_sentence_and_its_line(old, new, words):
    assert old in RECIPE
    text = RECIPE.replace(old, new)
    if "prune: median" in new:
        text = text.replace("    modalities.audio.backbone.channels: [[4], [8]]\n", "")
    assert words in refusal(text=text)


def test_a_metric_that_the_task_has_not_is_refused_with_those_it_has(out):
    with pytest.raises(
        RecipeError, match=r"tiny.yaml:23: sweep.score.metric: task 'emotion' has no metric 'acc'; it has accuracy, uar"
    ):
        search_and_report(plan(text=RECIPE.replace("startup: 2", "score: {metric: acc}")), out)


def test_more_folds_than_there_are_is_refused(out):
    with pytest.raises(StageError, match="3 folds are asked for, where 'k-fold' gives 2"):
        search_and_report(plan("sweep.folds=3"), out)


@pytest.mark.parametrize(
    "value",
    ["no", "12:30", "1e-3", "true", "", 1e-5, 3, None, True, ("a", ("b", 2)), {"use": "x", "file": "a: b", "n": (1.5,)}],
)
def test_values_are_written_so_that_they_read_back(value):
    assert parse_recipe(as_yaml({"a": value}), "x").values == {"a": value}
    assert parse_recipe("format: 1", "x", [f"a={as_yaml(value, flow=True)}"]).values["a"] == value


def test_files_of_somebody_elses_in_a_sweeps_folder_survive_it(searched, prepared, tmp_path):
    """A thesis in best/ is not removed with a run of other values; when it is moved away, as the message says, the sweep goes on."""
    thesis = tmp_path / "new" / "best" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("mine")
    with pytest.raises(StageError, match=r"new: holds best, which no sweep of mmcl wrote; give another --out"):
        search_and_report(plan(), tmp_path / "new")
    assert thesis.read_text() == "mine"
    result, folder = searched
    shutil.copytree(folder, prepared / "again")
    thesis = prepared / "again" / "best" / "thesis.tex"
    thesis.write_text("mine")
    (prepared / "again" / "best.yaml").write_text("# of other values, which were the best before\n")
    with pytest.raises(StageError, match=r"best: would be removed, and holds thesis.tex, which mmcl did not write; move that"):
        search_and_report(plan(), prepared / "again")
    assert thesis.read_text() == "mine"
    assert (thesis.parent / "report.html").exists(), "nothing of the run was taken away either"
    thesis.rename(tmp_path / "thesis.tex")
    assert search_and_report(plan(), prepared / "again").best == result.best
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_damaged_file_is_deleted_as_it_says_and_the_sweep_keeps_its_trials_and_what_opened_the_test_set(searched, prepared):
    result, folder = searched
    again = shutil.copytree(folder, prepared / "lost")
    for name in ("sweep.json", "trials.json"):
        about = read_json(again / name)
        write_json(again / name, {**about, "opened": [*about["opened"], 1000]})
    (again / "sweep.json").write_text("{")
    with pytest.raises(StageError, match=r"sweep.json: cannot be read as JSON .*; delete it and run the sweep again$"):
        search_and_report(plan(), again)
    (again / "sweep.json").unlink()
    after = search_and_report(plan(), again)
    assert (after.trials, after.final) == (result.trials, result.final)
    assert after.opened == (*result.opened, 1000)
    (again / "trials.json").write_text("{")
    assert "; delete it and run the sweep again" in next(one.state for one in runs_in(prepared) if one.folder == "lost")
    (again / "trials.json").unlink()
    search_and_report(plan(), again)
    assert next(one.state for one in runs_in(prepared) if one.folder == "lost") == f"{len(result.trials)} trials"


def test_a_journal_larger_than_any_sweeps_is_refused_before_it_is_read(searched, prepared):
    _, folder = searched
    shutil.copytree(folder, prepared / "large")
    with (prepared / "large" / "study.jsonl").open("r+b") as file:
        file.truncate(100_000_000)
    with pytest.raises(StageError, match=r"study.jsonl: has 100,000,000 bytes, where at most 67,108,864 are expected"):
        search_and_report(plan(), prepared / "large")


def test_the_best_recipe_finds_its_folds_from_another_folder(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    rows = "".join(f"s{i:02d},{i % 3}\n" for i in range(12))
    (folder / "folds.csv").write_text(f"group,fold\n{rows}")
    text = RECIPE.replace("{use: k-fold, k: 3, only: [1, 2]}", "{use: folds, file: folds.csv}")
    search = make_sweep(Source(text, "tiny.yaml", folder, ("about=12:30",), None))
    written = search.recipe_of({"pretrain.optimizer.lr": 0.01, "modalities.audio.backbone.channels": "[4]"}, "best", "one\ntwo")
    best = make_plan(parse_recipe(written, "best.yaml", folder=tmp_path / "there"))
    assert best.fold_of == search.plan.fold_of
    assert best.recipe.modalities["audio"].backbone.options["channels"] == (4,)
    assert (best.name, best.recipe.sweep, best.recipe.about) == ("best", None, "12:30")
    assert written.startswith("# one\n# two\nformat: 1\n")


def test_numbers_of_a_range_go_through_set_to_the_bit():
    values = {"a": 1e-5 / 3, "b": 7, "c": "[1, 2]"}
    read = parse_recipe("format: 1", "x", settings(values)).values
    assert (read["a"], read["b"], read["c"]) == (1e-5 / 3, 7, (1, 2))


def test_the_command_prints_the_best_ten_and_the_path_of_the_page(searched, tmp_path, capsys):
    result, folder = searched
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(recipe), "--out", str(folder)])
    assert not ended.value.code
    text = capsys.readouterr().out
    assert re.search(r"^trial +accuracy +pretrain\.optimizer\.lr +modalities\.audio\.backbone\.channels +state$", text, re.M)
    assert f"  pretrain.optimizer.lr={result.best.values['pretrain.optimizer.lr']}" in text
    assert text.rstrip().endswith("sweep.html")


def test_without_optuna_one_sentence_says_how_to_get_it(tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    code = f"import sys\nsys.modules['optuna'] = None\nfrom mmcl.cli import main\nmain(['sweep', {str(recipe)!r}, '--out', {str(tmp_path / 's')!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "mmcl: a sweep needs Optuna: pip install 'mmcl[sweep]'"


RETRIEVAL = "sweep.score={stage: retrieval}"


def test_a_sweep_over_retrieval_scores_every_pair_both_ways_without_a_head(out):
    search = plan(RETRIEVAL, "sweep.trials=1")
    assert (search.task, search.head, search.input) == (None, "", "all")
    done = search_and_report(search, out)
    trial = RunFolder(out / "trials" / "0000")
    assert done.metric == "R@1"
    assert "between the modalities of all, in both directions" in done.about
    rows = read_json(trial.root / "scores.json")["scores"]
    assert {(row["from"], row["to"]) for row in rows} == {("text", "audio"), ("audio", "text")}
    assert {row["among"] for row in rows} == {min(32, len(load_prepared(trial).folds[0].valid))}
    assert done.best.score == pytest.approx(fmean(row["value"] for row in rows if row["metric"] == "R@1"))
    tested = [
        row["value"]
        for _, _, folder in RunFolder(out / "best").units("probe")
        for row in read_jsonl(folder / "retrieval.jsonl")
        if row["encoder"] == "pretrained" and row["metric"] == "R@1" and row["among"] == min(32, row["n"])
    ]
    assert done.final is not None
    assert done.final["mean"] == pytest.approx(fmean(tested))
    assert (done.final["folds"], done.final["seeds"]) == (2, 2)


def test_retrieval_on_validation_rows_is_that_of_their_projections(out):
    search = plan(RETRIEVAL, "sweep.trials=1", "sweep.score.metric=median_rank")
    chosen, run = search.plan_of({}), RunFolder(out / "trial", out)
    assert metric.less_is_better(metric.metric_of(search))
    prepare(chosen, run, workers=1, first=1)
    pretrain_stage.pretrain(chosen, run, "cpu")
    embed(chosen, run, "cpu", splits=("train", "valid"))
    rows = {(r["from"], r["metric"]): r["value"] for r in probe.validation_retrieval(chosen, run, ("text", "audio"))}
    features, who = read_features(run.stage("embed", 1, 3), "pretrained", "valid")
    assert len(who["ids"]) < 32
    for a, b in (("text", "audio"), ("audio", "text")):
        ranks = []
        for i, query in enumerate(features[a].projection):
            similar = [float(torch.cosine_similarity(query, other, dim=0)) for other in features[b].projection]
            ranks.append(1 + sum(one > similar[i] for one in similar))
        assert rows[a, "median_rank"] == pytest.approx(median(ranks), abs=0.5)
        assert rows[a, "R@1"] == pytest.approx(fmean(rank == 1 for rank in ranks))


def test_without_a_task_retrieval_is_what_a_sweep_scores():
    assert plan("probe.tasks=[]").stage == "retrieval"
    assert plan().stage == "probe"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sweep.score={stage: retrieval, head: linear}"], "sweep.score.head: is 'linear', and retrieval has no head"),
        (["sweep.score={stage: retrieval, task: emotion}"], "sweep.score.task: is 'emotion', and retrieval has no task"),
        (["sweep.score={stage: retrieval, input: audio}"], "'audio' has one modality, and retrieval needs two"),
        (["sweep.score={stage: retrieval, input: faces}"], "there is no input 'faces' in probe; there are audio, all"),
        ([RETRIEVAL, "sweep.space={probe.clip: [2.0, 4.0]}"], "probe.clip: changes heads, and retrieval has none"),
        ([RETRIEVAL, "sweep.space={window.seconds: [0.4, 0.8]}", "sweep.prune=median"], "median compares validation losses"),
    ],
)
def test_what_retrieval_cannot_score_is_refused(overrides, words):
    assert words in refusal(*overrides)


def test_a_metric_that_retrieval_lacks_is_refused():
    with pytest.raises(RecipeError, match=re.escape("retrieval has no metric 'accuracy'; it has R@1, R@5, R@10, median_rank")):
        metric.metric_of(plan("sweep.score={stage: retrieval, metric: accuracy}"))


@pytest.mark.parametrize(
    ("sets", "held"),
    [
        (("pretrain.keep=last",), False),
        (("pretrain.keep=best",), True),
        (("pretrain.keep=best", "pretrain.epochs=0"), False),
        (("pretrain.keep=best", "pretrain.epochs=0", "sweep.space={pretrain.epochs: [0, 2]}"), True),
        ((LABELS, "sweep.score={stage: supervise}", "supervise.keep=last", "pretrain.keep=best"), False),
        (
            (
                LABELS,
                "sweep.score={stage: supervise}",
                "supervise.keep=last",
                "sweep.space={supervise.start: [scratch, pretrained]}",
            ),
            True,
        ),
    ],
)
def test_rows_are_held_out_wherever_any_trial_would_choose_an_epoch_on_those_that_judge(sets, held):
    assert plan("sweep.validation=3", *sets).holds is held


def test_a_dry_run_of_a_sweep_is_another_search(out):
    assert "sweep.space.limit: decides which recordings are scored" in refusal("sweep.space={limit: [10, 20]}")
    search_and_report(plan("sweep.trials=1", "pretrain.epochs=1", "limit=40"), out, final=False)
    with pytest.raises(StageError, match="was begun with another recipe"):
        search_and_report(plan("sweep.trials=1", "pretrain.epochs=1"), out, final=False)
