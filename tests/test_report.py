"""The report: its numbers against slow computations, its warnings, and that it is one safe, offline, unchanging file."""

from __future__ import annotations

import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mmcl.api import StageError
from mmcl.evaluate.metrics import concordance, evaluate
from mmcl.evaluate.statistics import bounds_of, difference, summarise
from mmcl.runs import RunFolder, read_json, read_jsonl, write_json, write_jsonl, write_text
from mmcl.stages.report import companies_of, confusion_of, read_run, write_report

EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
PARTS = {"package": "mmcl", "version": "0.1.0"}


def make_run(
    root: Path,
    folds: int = 3,
    seeds: tuple[int, ...] = (0, 1, 2),
    modalities: tuple[str, ...] = ("text", "audio", "faces", "landmarks"),
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
    per_fold: int = 60,
    about: str = "Four modalities of emotional clips, contrasted in all six pairs, frozen and probed.",
) -> Path:
    """A run folder as the stages write it, with made-up numbers: more modalities know more, pretrained encoders more than random ones."""
    random = np.random.default_rng(5)
    inputs = {m: [m] for m in modalities}
    if len(modalities) > 1:
        inputs |= {"+".join(modalities[:2]): list(modalities[:2]), "all": list(modalities)}
    pairs = [[a, b] for i, a in enumerate(modalities) for b in modalities[i + 1 :]]
    protocol = f"k-fold (k={folds}, by group)" if folds > 1 else "official (by group)"
    groups = [f"actor-{i:02d}" for i in range(1, 25)]
    plan = {
        "format": 1,
        "name": name,
        "about": about,
        "seed": list(seeds),
        "overrides": ["pretrain.epochs=12"],
        "dataset": {"use": "toy", "params": {}, **PARTS, "root": None, "synthetic": synthetic},
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
    write_text(root / "recipe.yaml", recipe)
    write_json(
        root / "plan.json",
        {
            "format": 1,
            "mmcl": "0.1.0",
            "versions": {"python": "3.11.7", "mmcl": "0.1.0", "torch": "2.12.1"},
            "machine": {"system": "Linux", "processor": "x86_64"},
            "device": "auto",
            "uses_labels": uses_labels,
            "protocol": "k-fold by group",
            "plan": plan,
        },
    )
    lost = [
        {"id": f"clip-{i:03d}", "where": f"{i}.wav", "reason": f"{i}.wav: ends in the middle of its header"}
        for i in range(skipped)
    ]
    write_json(
        root / "prepare.json",
        {
            "format": 1,
            "samples": folds * per_fold,
            "usable": folds * per_fold,
            "groups": 24,
            "group": "actor",
            "synthetic": synthetic,
            "licence": "CC BY 4.0",
            "tasks": {"emotion": {"type": kind, "classes": classes}},
            "protocol": protocol,
            "crosses_groups": crosses,
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
        },
    )
    encoders = (["pretrained"] if epochs else []) + (["random"] if "random" in against or not epochs else [])
    width = max(1, len(classes))
    for fold in range(folds):
        hard = random.normal(0, 0.25)
        if kind == "single-label":
            target = random.integers(0, width, per_fold).astype(float)
        elif kind == "multi-label":
            target = (random.random((per_fold, width)) < 0.35).astype(float)
        else:
            target = random.normal(0, 1, (per_fold, width))
        for seed in seeds:
            run = RunFolder(root)
            base = {"protocol": protocol, "fold": fold, "seed": seed}
            if epochs:
                _pretrained(
                    run.stage("pretrain", fold, seed),
                    epochs,
                    pairs,
                    random,
                    {m: 10000 + 500 * i for i, m in enumerate(modalities)},
                )
            write_json(
                run.stage("embed", fold, seed) / "finished.json",
                {"format": 1, "key": "k", "time": 1.0, "seconds": 1.5, "encoders": encoders},
            )
            scores: list[dict[str, Any]] = []
            predictions: list[dict[str, Any]] = []
            for encoder in encoders:
                for task_input, used in inputs.items():
                    for h in heads:
                        for head_seed in head_seeds:
                            strength = (0.55 + 0.42 * len(used)) * (1.0 if encoder == "pretrained" else 0.5) * (
                                1.1 if h == "mlp" else 1.0
                            ) + 0.3 * hard
                            truth = (
                                np.eye(width)[target.astype(int)]
                                if kind == "single-label"
                                else 2 * target - 1
                                if kind == "multi-label"
                                else target
                            )
                            output = truth * max(strength, 0.1) + random.normal(0, 0.75, (per_fold, width))
                            row = {
                                "task": "emotion",
                                "input": task_input,
                                "head": h,
                                "encoder": encoder,
                                **base,
                                "head_seed": head_seed,
                            }
                            scores += _scores(row, kind, classes, target, output)
                            for i in range(per_fold):
                                said: Any = (
                                    int(output[i].argmax())
                                    if kind == "single-label"
                                    else [int(v > 0) for v in output[i]]
                                    if kind == "multi-label"
                                    else output[i].tolist()
                                )
                                aim: Any = int(target[i]) if kind == "single-label" else target[i].tolist()
                                predictions.append({**row, "id": f"clip-{fold}-{i:03d}", "target": aim, "prediction": said})
            if "majority" in against:
                row = {"task": "emotion", "input": "none", "head": "majority", "encoder": "none", **base, "head_seed": 0}
                constant = (
                    np.eye(width)[0]
                    if kind == "single-label"
                    else -np.ones(width)
                    if kind == "multi-label"
                    else np.zeros(width)
                )
                scores += _scores(row, kind, classes, target, np.repeat(constant[None], per_fold, 0))
            folder = run.stage("probe", fold, seed)
            write_jsonl(folder / "scores.jsonl", scores)
            write_jsonl(folder / "predictions.jsonl", predictions)
            write_jsonl(folder / "retrieval.jsonl", _retrieval(modalities, encoders, fold, seed, per_fold, random))
            write_json(
                folder / "finished.json", {"format": 1, "key": "k", "time": 1795218269.0 + fold, "seconds": 2.5, "heads": 10}
            )
    return root


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
