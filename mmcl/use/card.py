"""A model card: what a run learned from, how it was judged, what it scored, what it is not for. It names no recording and no path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .. import __version__
from ..api.errors import StageError
from ..runs import read_json
from .learned import Learned, network_name
from .shared import without_paths

HEADLINE = ("accuracy", "uar", "w_acc", "f1_weighted", "ccc", "mae")
"""Metrics that a card shows, where there are any."""

NOT_FOR = """\
- **Not for decisions about people**: not in hiring, at work, in school, at borders, in policing, in insurance or in medicine. An expression is no
  feeling, and the classes are those of one corpus, often acted. In the European Union inferring emotions at work and in school is prohibited
  (Regulation 2024/1689, Article 5), and elsewhere it is high-risk.
- **Not for people, languages, cameras or rooms that the data lack**: nothing is known of how it does there, and recognition is known to
  differ by age, gender, skin tone, culture and disability. Measure on people of your own before anything else.
- **Not for watching anybody without their knowledge and consent.**
- A probability says how sure the model is among its classes, not whether any of them is right; on other data it is not calibrated."""


def card_of(learned: Learned, holds: str, left_out: Sequence[str] = ()) -> str:
    """README.md of a folder that is given away.

    holds     what the folder holds, in a word or two
    left_out  what is not in it and why
    """
    plan = _plan(learned)
    name, tasks = str(learned.about.get("name", "model")), _tasks(learned)
    modalities = learned.about["modalities"]
    dataset = plan.get("dataset", {})
    text = [
        "---",
        yaml.safe_dump(_head(learned, dataset), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
    ]
    what = (
        f"A network that labels trained end to end ({network_name(learned.network)})"
        if learned.network is not None
        else f"Encoders pretrained without labels{', and heads on their frozen features' if learned.heads else ''}"
    )
    text += [f"{what}: fold {learned.fold}, seed {learned.seed} of a run of mmcl {__version__}. In this folder: {holds}.", ""]
    text += ["## Input", "", "| modality | source | features | backbone | layout |", "|---|---|---|---|---|"]
    for modality, one in modalities.items():
        backbone = one["backbone"]["use"] if one.get("backbone") else learned.about["pretext"]["use"]
        layout = one["layout"]
        rate = f", {layout['rate']:g} steps a second" if layout.get("rate") else ""
        sizes = " × ".join(f"{axis} {size}" for axis, size in layout["sizes"].items())
        text.append(
            f"| {modality} | {one['source']} | {one['features']['use']} | {backbone} | {layout['kind']} ({sizes}{rate}) |"
        )
    window = learned.about["window"]
    seen = "whole recordings" if window["seconds"] is None else f"windows of {window['seconds']:g} s ({window['embed']})"
    text += ["", f"Networks see {seen}.", ""]
    for task in tasks:
        classes = ", ".join(task.classes)
        text.append(f"Task `{task.name}` ({task.type}){f': {classes}' if classes else ''}.")
    text += ["", "## Data and protocol", "", _data(dataset, plan), ""]
    text += ["## Scores", "", *_scores(learned), ""]
    text += ["## Limits", "", *_limits(learned, dataset), *(f"- Left out: {one}." for one in left_out), ""]
    text += ["## What it must not be used for", "", NOT_FOR, ""]
    return "\n".join(text)


def _plan(learned: Learned) -> Mapping[str, Any]:
    """The run's plan, if it is there."""
    try:
        plan = without_paths(read_json(learned.root / "plan.json"))
    except StageError:
        return {}
    return dict(plan.get("plan", plan))


def _tasks(learned: Learned) -> list[Any]:
    kept = [learned.network] if learned.network is not None else list(learned.heads)
    return list({one.task.name: one.task for one in kept if one is not None}.values())


def _head(learned: Learned, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML that the hub reads."""
    head: dict[str, Any] = {
        "library_name": "mmcl",
        "tags": ["mmcl", "multimodal", "emotion-recognition", *learned.about["modalities"]],
    }
    if dataset.get("use") not in (None, "folder", "toy"):
        head["datasets"] = [dataset["use"]]
    rows, kinds = _summary(learned), {task.name: task.type for task in _tasks(learned)}
    if rows:
        results = [
            {
                "task": {
                    "type": "multimodal-regression" if kinds[row["task"]] == "regression" else "multimodal-classification",
                    "name": row["task"],
                },
                "dataset": {"name": dataset.get("use", "unknown"), "type": dataset.get("use", "unknown")},
                "metrics": [
                    {
                        "type": row["metric"],
                        "value": round(row["mean"], 4),
                        "name": f"{row['metric']} ({row['input']}, {row['head']})",
                    }
                ],
            }
            for row in rows
        ]
        head["model-index"] = [{"name": str(learned.about.get("name", "model")), "results": results}]
    return head


def _data(dataset: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    if not dataset:
        return "The run's plan is not there, so the card cannot say."
    protocol = plan.get("protocol", {})
    synthetic = " The recordings are made up: nothing that it learned is about people." if dataset.get("synthetic") else ""
    by = {
        "group": "whole groups (people, dialogues or videos) on one side",
        "sample": "single recordings, people on both sides",
    }
    sides = by.get(protocol.get("by", ""), str(protocol.get("by")))
    return (
        f"Dataset `{dataset['use']}`, protocol `{protocol.get('use')}`, {sides}; seeds {', '.join(map(str, plan.get('seed', [])))}. "
        f"Everything was chosen on validation recordings; test was opened once they were chosen. No recording is in this folder.{synthetic}"
    )


def _summary(learned: Learned) -> list[dict[str, Any]]:
    """Rows of the report about what is given away."""
    try:
        rows = read_json(learned.root / "report.json").get("summary", [])
    except StageError:
        return []
    if learned.network is not None:
        mine = {(learned.network.task.name, learned.network.input, learned.network.name, learned.network.encoder)}
    else:
        mine = {(head.task.name, head.input, head.name, head.encoder) for head in learned.heads}
    return [
        row
        for row in rows
        if (row["task"], row["input"], row["head"], row["encoder"]) in mine
        and row["metric"] in HEADLINE
        and row["mean"] is not None
    ]


def _scores(learned: Learned) -> list[str]:
    """A table of test scores with intervals, over all folds and seeds of the run."""
    rows = _summary(learned)
    if not rows:
        return ["The run has no report, so the card has no scores; `mmcl report RUN` writes one."]
    table = ["| task | input | head | metric | test score | 95 % interval | over |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        low, high = row.get("low"), row.get("high")
        interval = "none" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        table.append(
            f"| {row['task']} | {row['input']} | {row['head']} | {row['metric']} | {row['mean']:.3f} | {interval} | {row['units']} {row['over']} |"
        )
    return [
        *table,
        "",
        f"Means over the run's folds and seeds; this folder holds fold {learned.fold}, seed {learned.seed} alone.",
    ]


def _limits(learned: Learned, dataset: Mapping[str, Any]) -> list[str]:
    limits = ["- It has learned from one corpus alone, and was tested on no other."]
    if learned.network is None and learned.heads:
        limits.append(
            "- Heads were fitted on frozen features of training recordings; where a modality is missing, its mean stands for it."
        )
    if any(row.get("units", 0) < 6 for row in _summary(learned)):
        limits.append("- The intervals rest on fewer than six folds, seeds or groups, and are rough.")
    if dataset.get("synthetic"):
        limits.append("- The corpus is made up, for trying the tools; the model is of no use for real recordings.")
    return limits
