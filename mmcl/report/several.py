"""Several runs on one page: what differs between their recipes, and what each was worth, side by side.

Reads the run folders alone. Writes one offline file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..api.errors import DataError, MmclError, StageError
from ..evaluate.metrics import HEADLINE
from ..evaluate.statistics import Summary, summarise
from ..review.compare import compare_runs, short_names
from ..runs import JsonObject, RunFolder, distrusting, refuse_links, write_text
from . import figures, words
from .comparison import shown as shown_comparison
from .pages import environment, finished
from .results import Results, read_run
from .worth import METHODS, clouds_of, few_shot_of

PASSED = ("name", "about", "overrides", "format", "report", "track", "worth", "sweep")
"""Parts of a plan that are no difference between two experiments."""


@distrusting
def report_runs(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page and return its path: `out`, or A+B+C.html beside the first run. Raises MmclError with a sentence."""
    for folder in folders:
        refuse_links(folder)
        if not (folder / "plan.json").is_file():
            raise StageError(f"{folder}: is no run folder; name runs such as runs/NAME, that `mmcl run` has finished")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError("a run is named twice; name each once")
    names = list(short_names(folders).values())
    runs = {name: read_run(RunFolder(folder)) for name, folder in zip(names, folders, strict=True)}
    first = next(iter(runs.values()))
    page = (
        environment()
        .get_template("several.html.j2")
        .render(
            title=words.listed(names),
            runs=[_run(name, results) for name, results in runs.items()],
            differences=differences({name: results.plan for name, results in runs.items()}),
            names=names,
            tasks=[
                _task(task, runs, folders) for task in first.tasks if all(task in results.tasks for results in runs.values())
            ],
            maps=_maps(runs),
            retrieval=_retrieval(runs),
            subject="pretrained",
            versions=first.about["versions"],
        )
    )
    path = out or folders[0].resolve().parent / f"{'+'.join(name.replace('/', '-') for name in names)[:120]}.html"
    write_text(path, finished(page))
    return path


def _run(name: str, results: Results) -> JsonObject:
    plan, prepare = results.plan, results.prepare
    return {
        "name": name,
        "about": plan["about"],
        "dataset": plan["dataset"]["use"],
        "protocol": prepare["protocol"],
        "recordings": prepare["samples"],
        "groups": words.many(prepare["groups"], prepare["group"]),
        "repeats": words.repeats(len({f for f, _ in results.units}), len({s for _, s in results.units})),
        "missing": len(results.missing),
        "synthetic": prepare["synthetic"],
        "seconds": sum(sum(each) for each in results.seconds.values()),
    }


def differences(plans: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Settings in which the plans are not all alike: (key, its value in each)."""
    flat = [dict(_flat({k: v for k, v in plan.items() if k not in PASSED})) for plan in plans.values()]
    has = [
        {key[:i] for key in each for i in range(1, len(key) + 1) if key[i : i + 1] in ("", ".")} for each in flat
    ]  # sections too
    unlike: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key, "–") for each in flat]
        if len(set(values)) == 1 or key.endswith((".version", ".package", ".code")):
            continue
        # Of a section that one run has and another lacks there is one line, not thirty: the outermost that is lacking.
        sections = [key[:i] for i, letter in enumerate(key) if letter == "."]
        lacking = next((section for section in sections if not all(section in each for each in has)), None)
        if lacking is None:
            unlike[key] = values
        else:
            unlike[lacking] = ["there" if lacking in each else "–" for each in has]
    return [(key.replace(".params.", "."), values) for key, values in unlike.items()]  # as the recipe has it


def _flat(value: Any, at: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{at}.{key}" if at else str(key))]
    return [(at, json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)]


def _task(task: str, runs: Mapping[str, Results], folders: Sequence[Path]) -> JsonObject:
    metric = HEADLINE[next(iter(runs.values())).tasks[task]["type"]]
    rows: dict[tuple[str, str, str], dict[str, Summary]] = {}
    recall: dict[tuple[str, str, str], dict[str, Summary]] = {}  # beside accuracy
    for name, results in runs.items():
        for cell, score in results.summary.items():
            if cell[0] == task and cell[4] == metric:
                rows.setdefault((cell[1], cell[2], cell[3]), {})[name] = score
            if cell[0] == task and metric == "accuracy" and cell[4] == "uar" and score.mean is not None:
                recall.setdefault((cell[1], cell[2], cell[3]), {})[name] = score
    people: JsonObject | None = None
    trouble = ""
    try:
        people = shown_comparison(compare_runs(folders, task))
    except MmclError as error:
        trouble = str(error)
    return {
        "name": task,
        "metric": words.metric(metric),
        "people": people,
        "trouble": trouble,
        "rows": [
            {"input": input, "head": head, "encoder": encoder, "scores": each, "recall": recall.get((input, head, encoder), {})}
            for (input, head, encoder), each in sorted(rows.items(), key=_order)
        ],
        "few": _few(task, metric, runs),
        "recall": bool(recall),
    }


def _order(row: tuple[tuple[str, str, str], Mapping[str, Summary]]) -> tuple[Any, ...]:
    (input, head, encoder), scores = row
    best = max((score.mean or 0.0) for score in scores.values())
    return (encoder == "none", -len(scores), encoder == "random", -best, input, head)


def _few(task: str, metric: str, runs: Mapping[str, Results]) -> figures.Picture | None:
    """The curves with few labels of all runs that have one, if these are several."""
    lines = []
    for i, (name, results) in enumerate(runs.items()):
        curve = few_shot_of(results.worth, task, metric, results.subject)
        with_all = results.summary.get(results.main_cell(task, metric))
        if curve:
            points = [(share, score.mean or 0.0, score.low, score.high) for share, score in curve.items()]
            if with_all is not None and with_all.mean is not None:
                points.append((1.0, with_all.mean, with_all.low, with_all.high))
            lines.append(figures.Line(name, figures.MARKED[i % len(figures.MARKED)], points))
    if len(lines) < 2:
        return None
    alt = "; ".join(
        f"{line.name}: " + ", ".join(f"{100 * p[0]:g}% {words.plain(p[1], 2)}" for p in line.points) for line in lines
    )
    across, up = "share of the labels", words.metric(metric)
    return figures.lines({"": lines}, across, up, None, f"Few labels. {alt}.", shares=True)


def _maps(runs: Mapping[str, Results]) -> list[JsonObject]:
    """Maps of the runs, next to each other: of each space that several have, by the first task."""
    by_space: dict[tuple[str, str], dict[str, figures.Cloud]] = {}
    for name, results in runs.items():
        with_labels = [one["encoder"] for one in results.maps if one["encoder"] not in ("random", "pretrained")]
        wanted = with_labels[0] if with_labels else results.subject
        for method, of, cloud in clouds_of(results.maps, results.tasks, wanted):
            by_space.setdefault((method, of), {})[name] = replace(cloud, title=name)
    order = list(METHODS)
    pictures = []
    for (method, of), clouds in sorted(by_space.items(), key=lambda item: order.index(item[0][0])):
        if len(clouds) > 1:
            what = "all modalities together" if of == "shared" else of
            alt = f"{METHODS[method]} of {what} in {words.listed(list(clouds))}; colours are classes."
            pictures.append({"title": f"{METHODS[method]}: {what}", "picture": figures.clouds(list(clouds.values()), alt)})
    return pictures


def _retrieval(runs: Mapping[str, Results]) -> JsonObject | None:
    """R@1 of every direction among the same number of recordings, where all runs have it."""
    sizes = set.intersection(*({row["among"] for row in results.retrieval} for results in runs.values()))
    if not sizes:
        return None
    among = min(sizes)
    scores: dict[tuple[str, str], dict[str, Summary]] = {}
    for name, results in runs.items():
        values: dict[tuple[str, str], dict[tuple[int, int, int], float | None]] = {}
        for r in results.retrieval:
            if r["among"] == among and r["encoder"] == results.subject and r["metric"] == "R@1":
                values.setdefault((r["from"], r["to"]), {})[r["fold"], r["seed"], 0] = r["value"]
        for pair, each in values.items():
            scores.setdefault(pair, {})[name] = summarise(each, (0.0, 1.0))
    return {"among": among, "rows": [{"pair": " → ".join(pair), "scores": each} for pair, each in scores.items()]}
