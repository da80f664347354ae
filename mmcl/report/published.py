"""Figures that others have published on the very data and split of a run, each with its source and with what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evaluate.statistics import Summary
from ..runs import JsonObject
from . import words
from .results import Results

COMPLETE = 0.95
"""Share of a benchmark's test recordings that a run must test, for figures on all of them to stand beside its own."""


def published(results: Results) -> list[JsonObject]:
    """Each paper's table that was measured as this run is: task, source, protocol, rows of figures, and how this run departs.

    Empty where nothing was published on the same dataset, task, classes and test groups; a limited run, synthetic recordings and a
    split within groups show nothing.
    """
    return [
        {
            "name": paper["name"],
            "paper": paper["paper"],
            "task": table["benchmark"]["task"],
            "caption": table["caption"],
            "protocol": table["benchmark"]["protocol"],
            "departs": departures(results, table["benchmark"]),
            "rows": [_row(results, cell) for cell in table["cells"] if cell["value"] is not None],
        }
        for paper in results.about.get("published", ())
        for table in paper["tables"]
        if fits(results, table["benchmark"])
    ]


def fits(results: Results, benchmark: Mapping[str, Any]) -> bool:
    """Whether a run tests what a benchmark tests: every fold of the run is one of the benchmark's, with (nearly) all recordings."""
    prepare, task = results.prepare, results.tasks.get(benchmark["task"])
    if task is None or prepare["synthetic"] or prepare["crosses_groups"] or benchmark["task"] not in results.predicted:
        return False
    folds = _folds(benchmark)
    expected = benchmark["recordings"] * len(prepare["folds"]) / max(1, len(folds))
    return (
        len(task.get("classes") or ()) == benchmark["classes"]
        and bool(prepare["folds"])
        and {frozenset(fold["groups"]["test"]) for fold in prepare["folds"]} <= folds
        and sum(fold["test"] for fold in prepare["folds"]) >= COMPLETE * expected
    )


def departures(results: Results, benchmark: Mapping[str, Any]) -> list[str]:
    """What of this run differs from the benchmark though it fits, a sentence each."""
    folds, wanted = results.prepare["folds"], len(_folds(benchmark))
    tested = sum(fold["test"] for fold in folds)
    departs = []
    if len(folds) < wanted:
        departs.append(f"This run tests {len(folds)} of the {wanted} folds.")
    elif tested != benchmark["recordings"]:
        departs.append(
            f"This run tests {words.whole(tested)} recordings, the published figures {words.whole(benchmark['recordings'])}."
        )
    probe = results.plan["probe"]
    if probe["heads"][results.head].get("standardise", probe.get("standardise")) == "group":
        departs.append(
            f"This run standardises each {results.prepare['group']}\u2019s features by all of that {results.prepare['group']}\u2019s recordings."
        )
    if results.plan["pretrain"].get("transductive"):
        departs.append("This run contrasts inputs of test recordings too.")
    return departs


def _folds(benchmark: Mapping[str, Any]) -> set[frozenset[str]]:
    return {frozenset(groups) for groups in benchmark["tested"]}


def _row(results: Results, cell: Mapping[str, Any]) -> JsonObject:
    """A published figure in the unit of our scores, and ours of the same sources where the run has it."""
    ours, input = _ours(results, cell)
    return {
        "method": cell["row"],
        "read": cell["column"],
        "value": cell["value"] / cell["scale"],
        "metric": words.METRICS.get(cell["metric"], (cell["metric"], ""))[0],
        "ours": ours,
        "input": input,
        "note": cell["note"],
    }


def _ours(results: Results, cell: Mapping[str, Any]) -> tuple[Summary | None, str]:
    """The score of the first head on the input that reads the same sources, and that input's name."""
    source_of = {name: modality["source"] for name, modality in results.plan["modalities"].items()}
    for input, modalities in results.plan["probe"]["inputs"].items():
        if cell["sources"] and sorted(source_of[name] for name in modalities) == sorted(cell["sources"]):
            score = results.summary.get((cell["task"], input, results.head, results.subject, cell["metric"]))
            if score is not None:
                return score, input
    return None, ""
