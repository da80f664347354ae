"""report: report.json and report.html, from the run folder's files alone.

Reads plan.json, recipe.yaml, prepare.json and what pretrain, embed and probe left for every fold and seed of the plan.
Writes report.json (every score, and how sure it is) and report.html (one file, offline, no script). Equal files give equal
bytes.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..api.errors import MmclError
from ..evaluate.statistics import Cell, Summary
from ..recipe.plan import Plan
from ..review.compare import compare_runs
from ..runs import JsonObject, RunFolder, distrusting, write_json, write_text
from ..stages.mending import seal_report
from . import words
from .banners import banners
from .comparison import shown as shown_comparison
from .pages import environment, finished
from .pretraining import learning, retrieval
from .published import published
from .results import Results, baselines_of, read_run
from .tasks import task_section
from .worth import summaries, worth_section

SHOWN = 20
"""Skipped recordings that the page lists; report.json has them all."""


def report(plan: Plan, run: RunFolder) -> None:
    """Write report.json and report.html. Raises StageError if a file that they are made of is missing or broken."""
    write_report(run.root)


@distrusting
def write_report(root: Path) -> None:
    """Write the report of a run folder, without its recipe or any plug-in."""
    results = read_run(RunFolder(root))
    write_json(root / "report.json", report_json(results))
    write_text(root / "report.html", report_html(results, _people(root, results), root))
    seal_report(root)


def report_json(results: Results) -> JsonObject:
    """What report.json says."""
    keys = ("task", "input", "head", "encoder", "protocol", "fold", "seed", "metric", "value", "n", "head_seed")
    prepare = results.prepare
    return {
        "format": 1,
        "name": results.plan["name"],
        "synthetic": prepare["synthetic"],
        "scores": [{key: row[key] for key in keys} for row in results.scores],
        "summary": [_summary_json(results, cell, score) for cell, score in results.summary.items()],
        "retrieval": results.retrieval,
        "worth": summaries(results.worth),
        "published": [_published_json(table) for table in published(results)],
        "skipped": {
            "count": len(skipped_of(prepare)),
            "streams": [{"modality": name, **one} for name, m in prepare["modalities"].items() for one in m["skipped"]],
            "recordings": prepare["skipped"],
        },
    }


def _published_json(table: JsonObject) -> JsonObject:
    """One published table, with our scores as plain values."""
    rows = [{**row, "ours": None if row["ours"] is None else _plain(row["ours"], "over")} for row in table["rows"]]
    return {**table, "rows": rows}


def _summary_json(results: Results, cell: Cell, score: Summary) -> JsonObject:
    """One score over everything that was repeated, and against its baselines."""
    against = {}
    for name in baselines_of(cell):
        gain = results.gain(cell, name)
        if gain is not None and gain.mean is not None:
            against[name] = _plain(gain, "units") | {"higher": gain.above}
    return {
        **dict(zip(("task", "input", "head", "encoder", "metric"), cell, strict=True)),
        **_plain(score, "units", "over", "folds", "seeds", "undefined"),
        "against": against,
    }


def _plain(score: Summary, *more: str) -> JsonObject:
    return {key: getattr(score, key) for key in ("mean", "sd", "low", "high", *more)}


def counted_of(prepare: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What the dataset, the modalities and `prepare` counted: (what, how often)."""
    counts = [(what, count) for what, count in prepare.get("counts", {}).items() if count]
    if recordings := prepare.get("uneven", {}).get("recordings"):
        counts.append(("recordings whose modalities differ in length by more than a tenth", recordings))
    return counts + [
        (f"{name}: {what}", count) for name, m in prepare["modalities"].items() for what, count in m.get("counts", {}).items()
    ]


def skipped_of(prepare: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every skipped stream and recording: (recording, modality or "", reason)."""
    streams = [(one["id"], name, one["reason"]) for name, m in prepare["modalities"].items() for one in m["skipped"]]
    return streams + [(one["id"], "", one["reason"]) for one in prepare["skipped"]]


def odd_of(prepare: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every recording that is odd, and in what; once, however many modalities are made of the source that is."""
    return list(dict.fromkeys((one["id"], one["reason"]) for m in prepare["modalities"].values() for one in m.get("odd", ())))


def _people(root: Path, results: Results) -> list[JsonObject]:
    """Each task's ways of predicting, set against each other over groups; nothing where there are fewer than two of them."""
    comparisons: list[JsonObject] = []
    for task in results.tasks:
        kinds = {(row["input"], row["encoder"]) for row in results.scores if row["task"] == task}
        inputs = [results.main] + [
            name for name, encoder in sorted(kinds) if encoder in ("supervised", "fine-tuned") and name != results.main
        ]
        reference = f"{root.resolve().name}: {results.subject} {results.main} {results.head}"
        try:
            comparison = compare_runs([root], task, inputs, reference=reference)
        except MmclError:
            continue
        if len(comparison.rows) > 1 and comparison.rows[0].score.groups > 1:
            comparisons.append(shown_comparison(comparison))
    return comparisons


def report_html(results: Results, people: Sequence[JsonObject] = (), root: Path = Path("RUN")) -> str:
    """The page."""
    plan, prepare, about = results.plan, results.prepare, results.about
    skipped, odd = skipped_of(prepare), odd_of(prepare)
    # A constant guess has no correlation by its nature; that is no news.
    undefined = sum(1 for row in results.scores if row["value"] is None and row["encoder"] != "none")
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            name=plan["name"],
            about=plan["about"],
            facts=_facts(results),
            banners=banners(
                about,
                prepare,
                len(skipped),
                results.missing,
                undefined,
                [one.facts for one in results.pretraining],
                results.stale,
            ),
            tasks=[task_section(results, name, f"task-{n}") for n, name in enumerate(results.tasks, 1)],
            compared=words.compared(about, prepare),
            learning=learning(results),
            retrieval=retrieval(results),
            worth=worth_section(results),
            people=people,
            openings=results.openings,
            published=published(results),
            subject=results.subject,
            head=results.head,
            prepare=prepare,
            group=words.plural(prepare["group"]),
            skipped=skipped[:SHOWN],
            counted=counted_of(prepare),
            skipped_count=len(skipped),
            odd=odd[:SHOWN],
            odd_count=len(odd),
            effort=_effort(results),
            recipe=results.recipe,
            overrides=plan["overrides"],
            versions=about["versions"],
            surroundings=words.surroundings(about),
            machine=about.get("machine", {}),
            device=about.get("device", ""),
            plugins=_plugins(plan),
            next=_next(root, list(results.tasks), _sets(plan)),
        )
    )
    return finished(page)


def _facts(results: Results) -> list[tuple[str, str]]:
    """The line under the title."""
    plan, prepare = results.plan, results.prepare
    facts = [
        ("Dataset", plan["dataset"]["use"]),
        ("Recordings", f"{words.whole(prepare['samples'])} from {words.many(prepare['groups'], prepare['group'])}"),
        ("Protocol", prepare["protocol"]),
        ("Repeated", words.repeats(len({f for f, _ in results.units}), len({s for _, s in results.units}))),
    ]
    if results.finished is not None:
        facts.append(("Finished", f"{datetime.fromtimestamp(results.finished, UTC):%Y-%m-%d %H:%M} UTC"))
    return facts


def _next(root: Path, tasks: Sequence[str] = (), sets: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Commands that go on from here: (command, what it does). Those that need a part of mmcl that is not there are left out.

    tasks  those of the run; of several, one at a time is compared
    sets   what makes the recipe in the run's folder that of the run
    """
    run = shlex.quote(f"runs/{root.resolve().name}")
    commands = [(f"mmcl predict {run} FILE", "what the run says of recordings that it has never seen")] if _answers() else []
    one = f" --task {shlex.quote(tasks[0])}" if len(tasks) > 1 else ""
    laid = "".join(f" --set {shlex.quote(each)}" for each in sets)
    return [
        *commands,
        (f"mmcl compare {run} OTHER-RUN{one}", "this run beside another, on the same recordings, with intervals over groups"),
        (f"mmcl audit {run}", "look for leaks: recordings, people or statistics on both sides of a split"),
        (f"mmcl rerun {run}", "repeat the run from its folder, and see what comes out differently"),
        (
            f"mmcl sweep {run}/recipe.yaml{laid}",
            "try other values, judged on validation recordings alone (needs a section sweep)",
        ),
        ("mmcl runs", "all runs, their states, scores and sizes"),
    ]


def _sets(plan: Mapping[str, Any]) -> list[str]:
    """What was laid over the recipe that stands in a run's folder, and the folds of a file, which are there too."""
    return [*plan["overrides"], *(["protocol.file=folds.csv"] if plan["protocol"]["use"] == "folds" else [])]


def _answers() -> bool:
    """Whether a finished run can be asked about other recordings."""
    return importlib.util.find_spec("mmcl.use") is not None


def _effort(results: Results) -> JsonObject:
    """What it took: time, memory, energy."""
    usage, totals = results.usage, {stage: sum(each) for stage, each in results.seconds.items() if each}
    whole = sum(totals.values())
    joules = [row["joules"] for row in usage]
    return {
        "stages": [
            {
                "name": stage,
                "seconds": total,
                "share": total / whole if whole else 0.0,
                "times": len(results.seconds[stage]),
                "memory": max((row["memory_mb"] for row in usage if row["stage"] == stage), default=None),
            }
            for stage, total in totals.items()
        ],
        "whole": whole,
        "parameters": results.pretraining[0].facts["parameters"] if results.pretraining else {},
        "memory": max((row["memory_mb"] for row in usage), default=None),
        "gpu": max((row["gpu_memory_mb"] for row in usage if row["gpu_memory_mb"] is not None), default=None),
        "joules": sum(joules) if joules and None not in joules else None,
        "measured": bool(usage),
    }


def _plugins(plan: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Every plug-in that was used: (what, for what, name, package and version, options)."""
    used = [("dataset", "", plan["dataset"])]
    for name, modality in plan["modalities"].items():
        used += [("features", name, modality["features"])]
        used += [("backbone", name, modality["backbone"])] if modality["backbone"] else []
    objective = plan["pretrain"]["objective"]
    used += [("loss", "", objective["loss"])] if objective["pairs"] or "group" not in objective else []
    used += [("group loss", "", objective["group"])] if "group" in objective else []
    used += [("positives", "", objective["positives"])]
    used += [("head", name, head) for name, head in plan["probe"]["heads"].items()]
    return [
        (
            what,
            where,
            part["use"],
            f"{part['package']} {part['version']}",
            ", ".join(f"{k}: {_short(json.dumps(v, ensure_ascii=False))}" for k, v in part["params"].items()),
        )
        for what, where, part in used
    ]


def _short(text: str, most: int = 1000) -> str:
    """An option's value as the page shows it: the 700 columns of a table stand in plan.json."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters, whole in plan.json)"
