"""The report: its numbers against slow computations, its warnings, and that it is one safe, offline, unchanging file."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

from mmcl.api import Benchmark, Cell, PublishedTable, StageError
from mmcl.evaluate.metrics import evaluate
from mmcl.report.page import write_report
from mmcl.report.pretraining import searches_of
from mmcl.runs import RunFolder, read_json, read_jsonl, write_json, write_jsonl, write_text

EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
PARTS = {"package": "mmcl", "version": "0.1.0"}


def make_run(
    root: Path,
    folds: int = 3,
    seeds: tuple[int, ...] = (0, 1),
    modalities: tuple[str, ...] = ("text", "audio", "faces"),
    kind: str = "single-label",
    classes: list[str] = EMOTIONS,
    epochs: int = 12,
    against: tuple[str, ...] = ("random", "majority"),
    heads: tuple[str, ...] = ("linear", "mlp"),
    head_seeds: tuple[int, ...] = (0,),
    name: str = "emotions",
    recipe: str = "format: 1\nname: emotions\n",
    synthetic: bool = False,
    uses_labels: bool = False,
    crosses: bool = False,
    skipped: int = 0,
    per_fold: int = 43,  # a prime: no mean falls on the edge between two roundings
    about: str = "Four modalities of emotional clips, contrasted in all six pairs, frozen and probed.",
) -> Path:
    """A run folder as the stages write it. Made-up: more modalities know more, pretrained encoders more than random ones."""
    random = np.random.default_rng(5)
    inputs = {m: [m] for m in modalities}
    if len(modalities) > 1:
        inputs |= {"+".join(modalities[:2]): list(modalities[:2]), "all": list(modalities)}
    pairs = [[a, b] for i, a in enumerate(modalities) for b in modalities[i + 1 :]]
    protocol = f"k-fold (k={folds}, by group)" if folds > 1 else "official (by group)"
    write_text(root / "recipe.yaml", recipe)
    plan = {
        "format": 1,
        "name": name,
        "about": about,
        "seed": list(seeds),
        "overrides": ["pretrain.epochs=12"],
        "dataset": {"use": "toy", "params": {}, **PARTS, "root": None, "synthetic": synthetic},
        **_plan(modalities, pairs, epochs),
        "probe": {
            "inputs": inputs,
            "heads": {h: {"use": h, "params": {}, **PARTS} for h in heads},
            "tasks": ["emotion"],
            "seeds": list(head_seeds),
            "features": "backbone",
        },
        "protocol": {"use": "k-fold" if folds > 1 else "official", "by": "group", "only": None},
        "report": {"against": list(against)},
        "track": [],
    }
    write_json(root / "plan.json", _about(plan, uses_labels))
    prepared = {"synthetic": synthetic, "protocol": protocol, "crosses_groups": crosses}
    prepared |= {"tasks": {"emotion": {"type": kind, "classes": classes}}}
    write_json(root / "prepare.json", _prepared(modalities, folds, per_fold, skipped) | prepared)
    encoders = (["pretrained"] if epochs else []) + (["random"] if "random" in against or not epochs else [])
    encoders += ["pooled"] if "pooled" in against else []
    for fold in range(folds):
        hard = random.normal(0, 0.25)
        target = _targets(kind, max(1, len(classes)), per_fold, random)
        for seed in seeds:
            run = RunFolder(root)
            if epochs:
                parameters = {m: 10000 + 500 * i for i, m in enumerate(modalities)}
                _pretrained(run.stage("pretrain", fold, seed), epochs, pairs, random, parameters)
            write_json(
                run.stage("embed", fold, seed) / "finished.json",
                {"format": 1, "key": "k", "time": 1.0, "seconds": 1.5, "encoders": encoders},
            )
            folder = run.stage("probe", fold, seed)
            ways = [(e, i, h, s) for e in encoders for i in inputs.items() for h in heads for s in head_seeds]
            row = {"task": "emotion", "protocol": protocol, "fold": fold, "seed": seed}
            _probed(folder, row, ways, "majority" in against, kind, classes, target, hard, random)
            write_jsonl(folder / "retrieval.jsonl", _retrieval(modalities, encoders, fold, seed, per_fold, random))
            write_json(
                folder / "finished.json", {"format": 1, "key": "k", "time": 1795218269.0 + fold, "seconds": 2.5, "heads": 10}
            )
    return root


def _plan(modalities: tuple[str, ...], pairs: list[list[str]], epochs: int) -> dict[str, Any]:
    """The sections of a plan that say what is pretrained, and how."""
    return {
        "modalities": {
            m: {
                "source": m,
                "features": {"use": "log-mel", "params": {"bands": 40}, **PARTS},
                "layout": {},
                "backbone": {"use": "tcn", "params": {"channels": [64, 64]}, **PARTS},
                "normalise": "channel",
                "augment": {},
            }
            for m in modalities
        },
        "window": {"seconds": 1.5, "place": "random", "embed": "sliding", "hop": None},
        "projection": {"hidden": 256, "width": 64},
        "pretrain": {
            "objective": {
                "pairs": pairs,
                "positives": {"use": "same-sample", "params": {}, **PARTS},
                "loss": {"use": "info-nce", "params": {"temperature": 0.1}, **PARTS},
            },
            "epochs": epochs,
            "patience": 4,
            "batch_size": 64,
        },
    }


def _about(plan: dict[str, Any], uses_labels: bool) -> dict[str, Any]:
    """What plan.json holds beside the plan."""
    return {
        "format": 1,
        "mmcl": "0.1.0",
        "versions": {"python": "3.11.7", "mmcl": "0.1.0", "torch": "2.12.1"},
        "machine": {"system": "Linux", "processor": "x86_64"},
        "device": "auto",
        "uses_labels": uses_labels,
        "protocol": "k-fold by group",
        "plan": plan,
    }


def _prepared(modalities: tuple[str, ...], folds: int, per_fold: int, skipped: int) -> dict[str, Any]:
    """What `prepare` counts of so many recordings; of the first modality some are lost."""
    groups = [f"actor-{i:02d}" for i in range(1, 25)]
    lost = [
        {"id": f"clip-{i:03d}", "where": f"{i}.wav", "reason": f"{i}.wav: ends in the middle of its header"}
        for i in range(skipped)
    ]
    return {
        "format": 1,
        "samples": folds * per_fold,
        "usable": folds * per_fold,
        "groups": 24,
        "group": "actor",
        "licence": "CC BY 4.0",
        "modalities": {
            m: {
                "layout": f"{m} (time × channel 40, 50 steps/s)",
                "present": folds * per_fold - 3 * i - (skipped if i == 0 else 0),
                "missing": 3 * i + (skipped if i == 0 else 0),
                "hours": 0.2 + 0.01 * i,
                "skipped": lost if i == 0 else [],
            }
            for i, m in enumerate(modalities)
        },
        "skipped": [],
        "folds": [
            {
                "fold": f,
                "train": 2 * per_fold,
                "valid": per_fold // 2,
                "test": per_fold,
                "groups": {"train": groups[8:], "valid": groups[6:8], "test": groups[:6]},
            }
            for f in range(folds)
        ],
        "seconds": 8.25,
    }


def _targets(kind: str, width: int, n: int, random: np.random.Generator) -> Any:
    if kind == "single-label":
        return random.integers(0, width, n).astype(float)
    return (random.random((n, width)) < 0.35).astype(float) if kind == "multi-label" else random.normal(0, 1, (n, width))


def _probed(
    folder: Path,
    row: dict[str, Any],
    ways: list[tuple[str, tuple[str, list[str]], str, int]],
    majority: bool,
    kind: str,
    classes: list[str],
    target: Any,
    hard: float,
    random: np.random.Generator,
) -> None:
    """Scores and predictions of each way: (encoder, input and its modalities, head, its seed)."""
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    n, width = len(target), max(1, len(classes))
    for encoder, (input, used), head, head_seed in ways:
        strength = (0.55 + 0.42 * len(used)) * (1.0 if encoder == "pretrained" else 0.5) * (1.1 if head == "mlp" else 1.0)
        strength += 0.3 * hard
        truth = {"single-label": lambda: np.eye(width)[target.astype(int)], "multi-label": lambda: 2 * target - 1}
        output = truth.get(kind, lambda: target)() * max(strength, 0.1) + random.normal(0, 0.75, (n, width))
        one = {**row, "input": input, "head": head, "encoder": encoder, "head_seed": head_seed}
        scores += _scores(one, kind, classes, target, output)
        for i in range(n):
            predicted: Any = output[i].tolist()
            if kind != "regression":
                predicted = int(output[i].argmax()) if kind == "single-label" else [int(v > 0) for v in output[i]]
            aim: Any = int(target[i]) if kind == "single-label" else target[i].tolist()
            fold = row["fold"]
            predictions.append({**one, "id": f"clip-{fold}-{i:03d}", "target": aim, "prediction": predicted})
    if majority:
        constant = {"single-label": np.eye(width)[0], "multi-label": -np.ones(width)}.get(kind, np.zeros(width))
        one = {**row, "input": "none", "head": "majority", "encoder": "none", "head_seed": 0}
        scores += _scores(one, kind, classes, target, np.repeat(constant[None], n, 0))
    write_jsonl(folder / "scores.jsonl", scores)
    write_jsonl(folder / "predictions.jsonl", predictions)


def _scores(row: dict[str, Any], kind: str, classes: list[str], target: Any, output: Any) -> list[dict[str, Any]]:
    measured = evaluate(kind, classes, target, output)
    return [{**row, "metric": m, "value": float(v) if math.isfinite(v) else None, "n": n} for m, (v, n) in measured.items()]


def _pretrained(
    folder: Path, epochs: int, pairs: list[list[str]], random: np.random.Generator, parameters: dict[str, int]
) -> None:
    names = [f"{a}~{b}" for a, b in pairs] or ["audio~audio"]
    rows = []
    for e in range(1, epochs + 1):
        train, valid = (
            4.1 * math.exp(-0.09 * e) + random.normal(0, 0.03),
            3.9 * math.exp(-0.07 * e) + 0.004 * e * e + random.normal(0, 0.05),
        )
        each = {
            n: {"loss": train + 0.02 * i, "accuracy": 0.02 * e, "valid_loss": valid + 0.02 * i, "valid_accuracy": 0.015 * e}
            for i, n in enumerate(names)
        }
        rows.append(
            {
                "epoch": e,
                "train_loss": train,
                "valid_loss": valid,
                "lr": 1e-3,
                "seconds": 0.8,
                "waited": 0.0,
                "pairs": each,
                "skipped_pairs": {},
            }
        )
    best = min(rows, key=lambda r: r["valid_loss"])["epoch"]
    write_jsonl(folder / "history.jsonl", rows)
    write_json(
        folder / "finished.json",
        {
            "format": 1,
            "key": "k",
            "time": 1.0,
            "epochs": epochs,
            "best_epoch": best,
            "stopped": "epochs",
            "seconds": 9.5,
            "parameters": parameters,
            "skipped_pairs": {},
            "labels": ["emotion"],
        },
    )


def _retrieval(
    modalities: tuple[str, ...], encoders: list[str], fold: int, seed: int, n: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    rows = []
    for encoder in encoders:
        for a in modalities:
            for b in modalities:
                for among in (32, n) if a != b else ():
                    level = (0.42 if encoder == "pretrained" else 0.05) * random.uniform(0.6, 1.6)
                    for metric, k in (("R@1", 1), ("R@5", 5), ("R@10", 10), ("median_rank", 0)):
                        value, chance = (
                            (min(1.0, level * k**0.4), k / among) if k else (among * 0.5 * (1 - level) + 1, (among + 1) / 2)
                        )
                        rows.append(
                            {
                                "encoder": encoder,
                                "fold": fold,
                                "seed": seed,
                                "from": a,
                                "to": b,
                                "metric": metric,
                                "value": value,
                                "chance": chance,
                                "n": n,
                                "among": among,
                            }
                        )
    return rows


class Page(HTMLParser):
    """What a browser would make of the page: its tags in balance, its ids, its links, its tables by name, its words."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[tuple[str, str, str]] = []
        self.pictures: list[str] = []
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self.tags: set[str] = set()
        self._region = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = {key: value or "" for key, value in attrs}
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        self.loads += [
            (tag, key, values[key]) for key in ("src", "href", "xlink:href", "srcset", "data", "action") if key in values
        ]
        if values.get("role") == "img":
            self.pictures.append(values["aria-label"])
        if values.get("role") == "region":
            self._region = values["aria-label"]
            self.tables[self._region] = []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)
        if tag == "tr":
            self.tables[self._region].append([])
        if tag in ("td", "th"):
            self.tables[self._region][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if ("td" in self.open or "th" in self.open) and self.tables[self._region]:
            row = self.tables[self._region][-1]
            row[-1] = " ".join((row[-1] + " " + data).split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(root: Path) -> Page:
    write_report(root)
    return Page((root / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three folds and two seeds with its report. Tests read it and leave it as it is."""
    root = make_run(tmp_path_factory.mktemp("report") / "runs" / "emotions")
    write_report(root)
    return root


@pytest.fixture(scope="module")
def page(default: Path) -> Page:
    return Page((default / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def page_with(tmp_path: Path) -> Callable[..., Page]:
    """The page of a small run with some things changed."""

    def make(**changes: Any) -> Page:
        small = {"folds": 2, "seeds": (0,), "modalities": ("text", "audio"), "heads": ("linear",), "per_fold": 37}
        return page_of(make_run(tmp_path / "run", **(small | changes)))

    return make


def rows_of(root: Path, name: str = "scores.jsonl") -> list[dict[str, Any]]:
    return [row for file in sorted(root.glob(f"fold-*/seed-*/probe/{name}")) for row in read_jsonl(file)]


def by_fold(
    rows: list[dict[str, Any]], input: str, encoder: str, head: str = "linear", metric: str = "accuracy"
) -> list[float]:
    """The mean over seeds of each fold, slowly."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if (row["input"], row["encoder"], row["head"], row["metric"]) == (input, encoder, head, metric):
            values.setdefault(row["fold"], []).append(row["value"])
    return [mean(values[fold]) for fold in sorted(values)]


# --- numbers --------------------------------------------------------------------------------------------------------------


def test_report_json_has_every_score_as_it_was_measured(default):
    report = read_json(default / "report.json")
    assert list(report) == ["format", "name", "synthetic", "scores", "summary", "retrieval", "worth", "published", "skipped"]
    assert (report["format"], report["name"], report["synthetic"]) == (1, "emotions", False)
    assert sorted(map(json.dumps, report["scores"])) == sorted(
        json.dumps({k: row[k] for k in report["scores"][0]}) for row in rows_of(default)
    )
    assert set(report["scores"][0]) == {
        "task",
        "input",
        "head",
        "encoder",
        "protocol",
        "fold",
        "seed",
        "metric",
        "value",
        "n",
        "head_seed",
    }
    assert report["retrieval"] == rows_of(default, "retrieval.jsonl")


def test_report_json_says_what_a_slow_computation_says(default):
    rows = rows_of(default)
    summary = read_json(default / "report.json")["summary"]
    assert len(summary) == len({(r["task"], r["input"], r["head"], r["encoder"], r["metric"]) for r in rows})
    for one in summary:
        folds = by_fold(rows, one["input"], one["encoder"], one["head"], one["metric"])
        assert one["mean"] == pytest.approx(mean(folds))
        assert one["sd"] == pytest.approx(stdev(folds))
        assert (one["units"], one["over"]) == (3, "folds")
        if one["encoder"] == "pretrained":
            gains = [
                a - b for a, b in zip(folds, by_fold(rows, one["input"], "random", one["head"], one["metric"]), strict=True)
            ]
            assert one["against"]["random"]["mean"] == pytest.approx(mean(gains))
            assert one["against"]["random"]["higher"] == sum(g > 0 for g in gains)
            floor = by_fold(rows, "none", "none", "majority", one["metric"])
            assert one["against"]["majority"]["mean"] == pytest.approx(mean(a - b for a, b in zip(folds, floor, strict=True)))


def spread(folds: list[float]) -> str:
    interval = stats.ttest_1samp(folds, 0).confidence_interval(0.95)
    return f"{mean(folds):.3f} ± {stdev(folds):.3f} {max(0, interval.low):.3f} to {min(1, interval.high):.3f}"


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_table_says_what_a_slow_computation_says(default, page, head):
    rows = rows_of(default)
    head_row, *table = page.tables[f"Scores of emotion, head {head}"]
    assert head_row == ["Predicted from", "Pretrained", "Random weights", "Difference", "UAR", "Folds × seeds", "Tested on"]
    for input, line in zip(("text", "audio", "faces", "text+audio", "all"), table[:-1], strict=True):
        mine, random = by_fold(rows, input, "pretrained", head), by_fold(rows, input, "random", head)
        gains = [a - b for a, b in zip(mine, random, strict=True)]
        interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
        change = f"{mean(gains):+.3f} {interval.low:+.3f} to {interval.high:+.3f}".replace("-", "−")
        recall = by_fold(rows, input, "pretrained", head, metric="uar")
        uar = f"{mean(recall):.3f} ± {stdev(recall):.3f}"
        assert line == [input, spread(mine), spread(random), change, uar, "3 × 2", "129"]
    assert table[-1][:2] == [
        "nothing (always guessing the most frequent class)",
        spread(by_fold(rows, "none", "none", "majority")),
    ]


def test_the_answer_comes_first_and_in_numbers(default, page):
    rows = rows_of(default)
    mine, random, floor = (
        by_fold(rows, *who) for who in (("all", "pretrained"), ("all", "random"), ("none", "none", "majority"))
    )
    lead = (
        f"Predicting emotion from all three modalities: {mean(mine):.2f} ± {stdev(mine):.2f} accuracy, "
        f"{mean(by_fold(rows, 'all', 'pretrained', metric='uar')):.2f} unweighted average recall (3 folds × 2 seeds); "
        f"the same encoders with random weights {mean(random):.2f}; always guessing the most frequent class {mean(floor):.2f}."
    )
    assert page.text.index(lead) < page.text.index("Every metric of emotion")
    gains = [a - b for a, b in zip(mine, random, strict=True)]
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert f"Pretraining adds {mean(gains):.2f} (95% interval {interval.low:+.2f} to {interval.high:+.2f})" in page.text
    assert "129 recordings of 24 actors" in page.text


def exchanged(root: Path, one: tuple[str, str], other: tuple[str, str]) -> None:
    """Let two ways of predicting, each an input and its encoder, change their scores."""
    names = {one: other, other: one}
    for file in root.glob("fold-*/seed-*/probe/*.jsonl"):
        rows = read_jsonl(file)
        for row in rows:
            if row.get("head") == "linear" and (row["input"], row["encoder"]) in names:
                row["input"], row["encoder"] = names[row["input"], row["encoder"]]
        write_jsonl(file, rows)


def test_the_card_compares_with_the_highest_baseline(tmp_path):
    root = make_run(tmp_path / "run", against=("random", "pooled", "majority"), heads=("linear",))
    exchanged(root, ("all", "pretrained"), ("all", "pooled"))
    mine, pooled = (by_fold(rows_of(root), "all", encoder) for encoder in ("pretrained", "pooled"))
    assert mean(pooled) > max(mean(mine), mean(by_fold(rows_of(root), "all", "random")))
    text = page_of(root).text
    differences = [a - b for a, b in zip(mine, pooled, strict=True)]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    low, high = (f"{value:+.2f}".replace("-", "−") for value in interval)
    assert (
        f"The highest baseline is no encoder at all, the streams' own statistics ({mean(pooled):.2f}): the answer lies "
        f"{-mean(differences):.2f} below it (95% interval {low} to {high}); it was ahead in 0 of 3 folds."
    ) in text
    assert f"no encoder at all, the streams' own statistics {mean(pooled):.2f}" in text
    assert "Mean, deviation, minimum, maximum and slope of the very streams, under the same heads." in text


def test_the_card_says_how_far_frozen_features_are_from_the_same_encoders_with_labels(tmp_path):
    root = make_run(tmp_path / "run", heads=("linear",), modalities=("text", "audio", "faces"))
    assert "With labels from end to end" not in page_of(root).text
    plan = read_json(root / "plan.json")
    plan["plan"]["supervise"] = {
        "heads": {"late": {"use": "mlp"}, "attention": {"use": "attention"}},
        "inputs": {"all": ["text", "audio", "faces"], "text+audio": ["text", "audio"]},
    }
    write_json(root / "plan.json", plan)
    run, shift = RunFolder(root), {("late", "all"): 0.02, ("attention", "all"): 0.01, ("late", "text+audio"): 0.03}
    for fold, seed, folder in run.units("probe"):
        frozen = [r for r in read_jsonl(folder / "scores.jsonl") if (r["input"], r["encoder"]) == ("all", "pretrained")]
        rows = [
            {**row, "input": input, "head": head, "encoder": "supervised", "value": row["value"] + more * (1 + fold)}
            for (head, input), more in shift.items()
            for row in frozen
            if row["metric"] == "accuracy"
        ]
        write_jsonl(run.stage("supervise", fold, seed) / "scores.jsonl", rows)
        write_json(run.stage("supervise", fold, seed) / "finished.json", {"format": 1, "key": "k", "time": 1.0, "seconds": 1.0})
    text = page_of(root).text
    mine = by_fold(rows_of(root), "all", "pretrained")
    bound = mean(value + 0.02 * (1 + fold) for fold, value in enumerate(mine))
    interval = stats.ttest_1samp([-0.02, -0.04, -0.06], 0).confidence_interval(0.95)
    low, high = (f"{value:+.2f}".replace("-", "−").replace("−0.00", "0.00").replace("+0.00", "0.00") for value in interval)
    assert (
        f"The same encoders, trained with labels from scratch, reach {bound:.2f} (late): frozen, they lie 0.04 below that "
        f"(95% interval {low} to {high}); they were ahead in 0 of 3 folds."
    ) in text


def test_the_card_names_every_input_that_falls_behind_and_no_other(tmp_path):
    root = make_run(tmp_path / "run", against=("random", "pooled", "majority"), heads=("linear",))
    assert "Where it falls behind" not in page_of(root).text
    exchanged(root, ("faces", "pretrained"), ("faces", "random"))
    exchanged(root, ("text", "pretrained"), ("text+audio", "pretrained"))
    rows = rows_of(root)
    score = {
        (input, encoder): mean(by_fold(rows, input, encoder))
        for input in ("text", "audio", "faces", "text+audio", "all")
        for encoder in ("pretrained", "random", "pooled")
    }
    text = page_of(root).text
    note = text[text.index("Where it falls behind") :]
    below = {
        than: [
            f"{input} ({score[input, 'pretrained']:.3f} against {score[input, than]:.3f})"
            for input in ("text", "audio", "faces", "text+audio", "all")
            if score[input, "pretrained"] < score[input, than]
        ]
        for than in ("random", "pooled")
    }
    assert [one.split()[0] for one in below["random"]] == ["faces"]
    assert f"Pretrained encoders score below random weights from {below['random'][0]}." in note
    assert ("Pretrained encoders score below the streams' own statistics from" in note) == bool(below["pooled"])
    joint, part = score["text+audio", "pretrained"], score["text", "pretrained"]
    assert f"text+audio ({joint:.3f}) scores below its part text alone ({part:.3f})." in note
    assert note.count("scores below its part") == 1


def test_the_confusion_counts_are_those_of_the_predictions(default, page):
    rows = [
        r
        for r in rows_of(default, "predictions.jsonl")
        if (r["input"], r["head"], r["encoder"]) == ("all", "linear", "pretrained")
    ]
    table = page.tables["Confusion counts of emotion"]
    assert table[0] == ["true", *EMOTIONS, "all", "recall"]
    for i, line in enumerate(table[1:]):
        of_class = [r for r in rows if r["target"] == i]
        counts = [sum(r["prediction"] == j for r in of_class) for j in range(len(EMOTIONS))]
        assert line == [EMOTIONS[i], *map(str, counts), str(len(of_class)), f"{counts[i] / len(of_class):.3f}"]


@pytest.mark.parametrize(("among", "size"), [("32", 32), ("all", 43)])
def test_retrieval_is_averaged_over_searches_of_one_size_only(default, page, among, size):
    rows = [
        r
        for r in rows_of(default, "retrieval.jsonl")
        if (r["from"], r["to"], r["encoder"], r["among"]) == ("audio", "text", "pretrained", size)
    ]
    table = page.tables[f"Retrieval among {among} recordings, both directions"]
    line = next(line for line in table if line[0] == "audio → text")
    for column, (metric, digits) in enumerate((("R@1", 3), ("R@5", 3), ("R@10", 3), ("median_rank", 1)), 2):
        folds = [mean(r["value"] for r in rows if r["metric"] == metric and r["fold"] == f) for f in range(3)]
        assert line[column] == f"{mean(folds):.{digits}f} ± {stdev(folds):.{digits}f}"
    assert table[0][2] == f"R@1 guessing {1 / size:.3f}"


def test_searches_of_different_sizes_are_never_mixed():
    def row(fold: int, among: int, n: int) -> dict[str, Any]:
        return {"from": "a", "to": "b", "encoder": "pretrained", "fold": fold, "seed": 0, "among": among, "n": n}

    both = [row(0, 32, 60), row(0, 60, 60), row(1, 32, 50), row(1, 50, 50)]
    assert searches_of(both) == [(32, [both[0], both[2]]), (None, [both[1], both[3]])]
    small = [row(0, 32, 60), row(0, 60, 60), row(1, 20, 20)]  # one fold has too few for the search among 32
    assert searches_of(small) == [(None, [small[1], small[2]])]


def test_seeds_that_the_plan_no_longer_names_are_left_out(tmp_path, default):
    root = tmp_path / "runs" / "emotions"
    shutil.copytree(default, root)
    shutil.copytree(root / "fold-00" / "seed-1", root / "fold-00" / "seed-9")
    shutil.copytree(root / "fold-00", root / "fold-07")
    write_report(root)
    assert (root / "report.json").read_bytes() == (default / "report.json").read_bytes()
    page = (root / "report.html").read_text()
    (banner,) = re.findall(r'<div class="banners".*?</div>\n', page, re.DOTALL)
    for folder in ("fold-00/seed-9", "fold-07/seed-0", "fold-07/seed-1"):
        assert folder in banner
    assert page.replace(banner, "") == (default / "report.html").read_text(), "nothing else of them is on the page"


# --- one safe, offline, unchanging file ---------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes_whatever_matplotlib_is_set_to(default, tmp_path):
    root = tmp_path / "runs" / "emotions"
    shutil.copytree(default, root)
    with mpl.rc_context(
        {"axes.grid": True, "lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}
    ):
        write_report(root)
    assert (root / "report.html").read_bytes() == (default / "report.html").read_bytes()
    assert not list(root.rglob("*.tmp"))


def test_nothing_is_loaded_from_anywhere_and_no_script_runs(default, page):
    text = (default / "report.html").read_text()
    for tag, key, value in page.loads:
        assert value.startswith(("#", "data:,")), f"<{tag} {key}={value}>"
    assert not page.tags & {"script", "iframe", "object", "embed", "img", "base", "form"}
    assert all(ref.startswith("#") for ref in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "default-src 'none'" in text


def test_the_page_is_whole_and_can_be_read_aloud(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {value[1:] for _, _, value in page.loads if value.startswith("#")} <= set(page.ids)
    assert page.headings[0] == "h1"
    assert page.headings.count("h1") == 1
    for above, here in zip(page.headings, page.headings[1:], strict=False):
        assert int(here[1]) <= int(above[1]) + 1, "a level of headings is skipped"
    assert len(page.pictures) >= 5
    assert all(len(alt) > 30 for alt in page.pictures)


def test_pictures_say_their_numbers_and_take_their_colours_from_the_page(default, page):
    mine = by_fold(rows_of(default), "all", "pretrained")
    dots = next(alt for alt in page.pictures if alt.startswith("Dot plot"))
    assert f"all: pretrained {mean(mine):.3f}" in dots
    svgs = re.findall(r"<svg.*?</svg>", (default / "report.html").read_text(), re.DOTALL)
    assert len(svgs) == 2 * len(page.pictures), "each picture is drawn for a desk and for a phone"
    for svg in svgs:
        assert "var(--" in svg
        assert not re.search(r"(?:fill|stroke): #", svg), "a colour that does not follow light and dark"
        assert "font-family" not in svg


def test_names_and_the_recipe_are_text_and_never_markup(page_with, tmp_path):
    evil = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> & $x^2$"
    recipe = f"# {evil}\nformat: 1\n"
    page = page_with(
        name=evil,
        about=evil,
        recipe=recipe,
        classes=["<b>joy</b>", "$a_b$", 'an"ger', "x&y"],
        modalities=("<i>text</i>", "audio"),
        skipped=2,
    )
    assert not page.tags & {"script", "img", "b<", "i<"}
    assert page.open == []
    assert evil in page.text
    text = (tmp_path / "run" / "report.html").read_text()
    assert html.escape(recipe, quote=False).replace("'", "&#39;") in text.replace("&#34;", '"')
    assert ">$a_b$</text>" in text, "a dollar sign is no formula"
    assert page.tables["Confusion counts of emotion"][0][1:5] == ["<b>joy</b>", "$a_b$", 'an"ger', "x&y"]


def test_making_a_report_needs_no_torch(default, tmp_path):
    shutil.copytree(default, tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from mmcl.report.page import write_report; write_report(Path(sys.argv[1])); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- warnings, and what may be missing ------------------------------------------------------------------------------------

BANNERS = {
    "Synthetic data": {"synthetic": True},
    "Pretraining saw labels": {"uses_labels": True},
    "The same actor is trained on and tested on": {"crosses": True},
    "3 skipped streams or recordings": {"skipped": 3},
    "Without its usual baseline": {"against": ("random",)},
    "Nothing was pretrained": {"epochs": 0},
}


def test_a_run_without_reproach_has_no_warning(page, default):
    assert 'class="banner' not in (default / "report.html").read_text()
    assert not [title for title in BANNERS if title in page.text]


@pytest.mark.parametrize("title", list(BANNERS))
def test_what_limits_the_result_stands_above_the_answer(page_with, title):
    page = page_with(**BANNERS[title])
    assert [t for t in BANNERS if f"{t}." in page.text] == [title]
    assert page.text.index(f"{title}.") < page.text.index("The answer")


def test_labels_in_pretraining_are_never_called_no_labels(page_with):
    assert "without a single label" not in page_with(uses_labels=True).text


def test_twenty_skipped_recordings_are_listed_and_the_rest_counted(page_with, tmp_path):
    page = page_with(skipped=23)
    table = page.tables["What was skipped and why"]
    assert [line[0] for line in table[1:]] == [f"clip-{i:03d}" for i in range(20)]
    assert table[1][2] == "0.wav: ends in the middle of its header"
    assert "and 3 more in report.json" in page.text
    skipped = read_json(tmp_path / "run" / "report.json")["skipped"]
    assert (skipped["count"], len(skipped["streams"]), skipped["streams"][22]["modality"]) == (23, 23, "text")


def test_a_single_fold_says_that_its_test_set_is_fixed(page_with):
    page = page_with(folds=1, seeds=(0, 1, 2))
    assert "over three seeds, test set fixed" in page.text
    assert "other actors in the test set could move it further" in page.text


def test_a_single_measurement_has_no_interval_and_says_why(page_with, tmp_path):
    page = page_with(folds=1, seeds=(0,))
    (one,) = [
        r
        for r in read_json(tmp_path / "run" / "report.json")["summary"]
        if (r["input"], r["encoder"], r["metric"]) == ("all", "pretrained", "accuracy")
    ]
    assert (one["sd"], one["low"], one["units"], one["over"]) == (None, None, 1, "nothing")
    assert page.tables["Scores of emotion, head linear"][-2][1] == f"{one['mean']:.3f}"
    assert "One fold and one seed: nothing says how far chance could have moved these numbers" in page.text


def test_without_pretraining_the_report_is_about_random_encoders(page_with):
    page = page_with(epochs=0, modalities=("audio",))
    assert page.tables["Scores of emotion, head linear"][0][:2] == ["Predicted from", "Random weights"]
    assert "pretrained" not in page.text.lower().replace("nothing was pretrained", "")
    assert "Learning" not in page.text
    assert "Finding a recording in another modality" not in page.text


def test_several_labels_are_judged_by_weighted_accuracy_each_for_itself(page_with, tmp_path):
    page = page_with(kind="multi-label")
    rows = rows_of(tmp_path / "run")
    table = page.tables["Metrics of each label of emotion"]
    for name, line in zip(EMOTIONS, table[1:], strict=True):
        folds = by_fold(rows, "all", "pretrained", metric=f"{name}/w_acc")
        assert line[0] == name
        assert line[2] == f"{mean(folds):.3f} ± {stdev(folds):.3f}"
    assert "weighted accuracy (2 folds × 1 seed)" in page.text


def test_values_are_judged_by_concordance(page_with, tmp_path):
    page = page_with(kind="regression", classes=["valence", "arousal"])
    folds = by_fold(rows_of(tmp_path / "run"), "all", "pretrained", metric="ccc")
    assert f"{mean(folds):.2f} ± {stdev(folds):.2f} concordance correlation" in page.text
    assert "Predicted against true" in page.text


def test_an_undefined_metric_is_counted_and_left_out_of_the_mean(tmp_path):
    root = make_run(tmp_path / "run", folds=3, seeds=(0,), modalities=("audio",), heads=("linear",), kind="multi-label")
    file = root / "fold-01" / "seed-0" / "probe" / "scores.jsonl"
    rows = [r | ({"value": None} if r["metric"] == "w_acc" and r["encoder"] == "pretrained" else {}) for r in read_jsonl(file)]
    write_jsonl(file, rows)
    page = page_of(root)
    kept = [
        r["value"] for r in rows_of(root) if (r["metric"], r["encoder"]) == ("w_acc", "pretrained") and r["value"] is not None
    ]
    assert len(kept) == 2
    line = page.tables["Scores of emotion, head linear"][1]
    assert line[1].startswith(f"{mean(kept):.3f} ± {stdev(kept):.3f}")
    assert line[4] == "2 × 1 1 undefined"
    assert "1 score undefined." in page.text


def test_a_metric_that_is_never_defined_is_no_number(tmp_path):
    root = make_run(tmp_path / "run", folds=2, seeds=(0,), modalities=("audio",), heads=("linear",))
    for file in root.glob("fold-*/seed-0/probe/scores.jsonl"):
        write_jsonl(file, [r | {"value": None} for r in read_jsonl(file)])
    page = page_of(root)
    assert "no score yet" in page.text
    assert page.tables["Scores of emotion, head linear"][1][1] == "undefined"


def test_an_unfinished_run_is_reported_as_far_as_it_came(tmp_path):
    root = make_run(tmp_path / "run", folds=2, seeds=(0, 1), modalities=("text", "audio"), heads=("linear",))
    (root / "fold-01" / "seed-1" / "probe" / "finished.json").unlink()
    page = page_of(root)
    assert "The run is not finished. 1 unit of the plan has no scores yet: fold 1, seed 1." in page.text
    for mark in root.glob("fold-*/seed-*/probe/finished.json"):
        mark.unlink()
    page = page_of(root)
    assert "No probe has finished yet." in page.text
    assert read_json(root / "report.json")["scores"] == []


def test_a_run_without_retrieval_or_recipe_still_has_a_report(tmp_path):
    root = make_run(tmp_path / "run", folds=2, seeds=(0,), modalities=("text", "audio"), heads=("linear",))
    (root / "recipe.yaml").unlink()
    for file in root.glob("fold-*/seed-*/probe/retrieval.jsonl"):
        file.unlink()
    page = page_of(root)
    assert "Finding a recording in another modality" not in page.text
    assert "recipe.yaml is not in this folder" in page.text


def test_a_missing_file_is_named(tmp_path):
    root = make_run(tmp_path / "run", folds=1, seeds=(0,), modalities=("audio",), heads=("linear",))
    (root / "prepare.json").unlink()
    with pytest.raises(StageError, match=r"prepare\.json: is missing"):
        write_report(root)
    assert not (root / "report.html").exists()


def test_a_recipe_that_keeps_the_last_epoch_is_not_reported_to_keep_the_best(tmp_path):
    root = make_run(tmp_path / "run", folds=1, seeds=(0,))
    plan = read_json(root / "plan.json")
    plan["plan"]["pretrain"]["keep"] = "last"
    write_json(root / "plan.json", plan)
    ((_, _, folder),) = RunFolder(root).units("pretrain")
    facts = read_json(folder / "finished.json")
    assert facts["best_epoch"] < facts["epochs"]
    write_report(root)
    page = (root / "report.html").read_text()
    assert f"{facts['epochs']} epochs were run and the weights of the last kept, as the recipe asks" in page
    assert f"the validation loss was lowest in epoch {facts['best_epoch']}" in page
    assert "The last epoch is kept, and frozen" in page
    assert "lowest validation loss is kept" not in page


def test_a_run_chosen_by_retrieval_says_so_and_shows_how_it_went(tmp_path):
    root = make_run(tmp_path / "run", folds=1, seeds=(0,))
    plan = read_json(root / "plan.json")
    plan["plan"]["pretrain"]["choose"] = "retrieval"
    write_json(root / "plan.json", plan)
    ((_, _, folder),) = RunFolder(root).units("pretrain")
    history = read_jsonl(folder / "history.jsonl")
    best = 1 + min(range(len(history)), key=lambda i: abs(i - 4))
    for row in history:
        row["valid_retrieval"] = 0.7 - 0.02 * abs(row["epoch"] - best)
    write_jsonl(folder / "history.jsonl", history)
    write_json(folder / "finished.json", {**read_json(folder / "finished.json"), "best_epoch": best})
    page = page_of(root)
    assert f"the weights of epoch {best} kept, where retrieval among validation recordings was best" in page.text
    assert "The epoch with the best retrieval among validation recordings is kept, and frozen" in page.text
    assert "without a better retrieval among validation recordings" in page.text
    assert any(f"fold 0, seed 0: 0.700 at the kept epoch {best}" in alt for alt in page.pictures)
    table = page.tables["Pretraining of every fold and seed"]
    assert table[1][table[0].index("Validation retrieval")] == "0.700"


def test_a_head_that_is_standardised_by_group_has_its_banner():
    from mmcl.report.banners import _of_standardising

    plan = {"probe": {"heads": {"linear": {"use": "linear"}, "person": {"use": "linear", "standardise": "group"}}}}
    ((tone, title, sentence),) = _of_standardising(plan)
    assert (tone, title) == ("strong", "Test recordings of a group are read together")
    assert "the head “person” sees" in sentence
    assert "linear" not in sentence
    del plan["probe"]["heads"]["person"]["standardise"]
    assert _of_standardising(plan) == []


ACTORS = tuple(f"actor-{i:02d}" for i in range(1, 7))
BENCHMARK = Benchmark("toy", "emotion", 6, (ACTORS,), 43, "six actors test")
CELLS = (
    Cell("their way", "words and voice", 61.8, task="emotion", note="Reads films too.", sources=("audio", "text")),
    Cell("their way", "films", 70.25, task="emotion"),
)
PAPER = {"name": "tiny", "paper": "Nobody 2020", "tables": [asdict(PublishedTable("Table I", "accuracy", CELLS, BENCHMARK))]}


def measured(root, benchmark=BENCHMARK, **options):
    """A run that tests the first six actors, on whose corpus one table was published."""
    make_run(root, folds=1, **options)
    stated = read_json(root / "plan.json")
    table = {**PAPER["tables"][0], "benchmark": asdict(benchmark)}
    write_json(root / "plan.json", {**stated, "published": [{**PAPER, "tables": [table]}]})
    return root


def reported(root):
    write_report(root)
    return read_json(root / "report.json"), (root / "report.html").read_text()


def test_a_report_sets_published_figures_beside_its_own_of_the_same_sources(tmp_path):
    report, page = reported(measured(tmp_path / "run"))
    (table,) = report["published"]
    assert (table["paper"], table["protocol"], table["departs"]) == ("Nobody 2020", "six actors test", [])
    (ours,) = [
        row["mean"]
        for row in report["summary"]
        if (row["input"], row["head"], row["encoder"], row["metric"]) == ("text+audio", "linear", "pretrained", "accuracy")
    ]
    assert [(row["value"], row["input"]) for row in table["rows"]] == [(0.618, "text+audio"), (0.7025, "")]
    assert table["rows"][0]["ours"]["mean"] == pytest.approx(ours)
    assert table["rows"][1]["ours"] is None
    section = page[page.index('<section id="published">') :].split("</section>")[0]
    for text in ("0.618", f"{ours:.3f}", "Reads films too.", "Nobody 2020", "six actors test"):
        assert text in section
    assert '<a href="#published">' in page


@pytest.mark.parametrize(
    ("benchmark", "options"),
    [
        (replace(BENCHMARK, classes=8), {}),
        (replace(BENCHMARK, task="sentiment"), {}),
        (replace(BENCHMARK, tested=(ACTORS[:5],)), {}),
        (replace(BENCHMARK, recordings=400), {}),
        (BENCHMARK, {"synthetic": True}),
        (BENCHMARK, {"crosses": True}),
    ],
    ids=["other classes", "other task", "other people", "too few recordings", "synthetic", "split within groups"],
)
def test_a_run_that_tests_something_else_shows_nothing(tmp_path, benchmark, options):
    root = measured(tmp_path / "run", benchmark, **options)
    report, page = reported(root)
    assert report["published"] == []
    assert 'id="published"' not in page


def test_a_fitting_run_names_what_it_does_otherwise(tmp_path):
    two = replace(BENCHMARK, tested=(ACTORS, ("actor-07",)), recordings=86)
    root = measured(tmp_path / "run", two)
    assert reported(root)[0]["published"][0]["departs"] == ["This run tests 1 of the 2 folds."]
    fewer = measured(tmp_path / "fewer", replace(BENCHMARK, recordings=44))
    stated = read_json(fewer / "plan.json")
    stated["plan"]["probe"]["heads"]["linear"]["standardise"] = "group"
    stated["plan"]["pretrain"]["transductive"] = ["test"]
    write_json(fewer / "plan.json", stated)
    assert reported(fewer)[0]["published"][0]["departs"] == [
        "This run tests 43 recordings, the published figures 44.",
        "This run standardises each actor\u2019s features by all of that actor\u2019s recordings.",
        "This run contrasts inputs of test recordings too.",
    ]


def test_a_report_of_a_run_before_this_opens_as_it_did(tmp_path):
    report, page = reported(make_run(tmp_path / "run"))
    assert report["published"] == []
    assert 'id="published"' not in page
