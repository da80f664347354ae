"""Several runs on one page: what differs between their recipes, and what each was worth, side by side.

Reads the run folders alone. Writes one offline file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api.errors import DataError, MmclError, StageError
from ..evaluate.metrics import HEADLINE
from ..evaluate.statistics import Cell, Summary, bounds_of, summarise, values_of
from ..review.compare import compare_runs, short_names
from ..runs import JsonObject, RunFolder, write_text
from . import figures, words
from .comparison import shown as shown_comparison
from .page import Found, read_run
from .pages import environment
from .worth import METHODS, clouds_of, few_shot_of

PASSED = ("name", "about", "overrides", "format", "report", "track", "worth", "sweep")
"""Parts of a plan that are no difference between two experiments."""


def report_runs(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page and return its path: `out`, or A+B+C.html beside the first run. Raises MmclError with a sentence."""
    for folder in folders:
        if not (folder / "plan.json").is_file():
            raise StageError(f"{folder}: is no run folder; name runs such as runs/NAME, that `mmcl run` has finished")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError("a run is named twice; name each once")
    names = list(short_names(folders).values())
    found = {name: read_run(RunFolder(folder)) for name, folder in zip(names, folders, strict=True)}
    summary = {name: _summary(one) for name, one in found.items()}
    tasks = [
        task
        for task in next(iter(found.values())).prepare["tasks"]
        if all(task in one.prepare["tasks"] for one in found.values())
    ]
    page = (
        environment()
        .get_template("several.html.j2")
        .render(
            title=words.listed(names),
            runs=[_run(name, one) for name, one in found.items()],
            differences=differences({name: one.plan for name, one in found.items()}),
            names=names,
            tasks=[_task(task, found, summary, folders) for task in tasks],
            maps=_maps(found),
            retrieval=_retrieval(found),
            subject="pretrained",
            versions=next(iter(found.values())).about["versions"],
        )
    )
    path = out or folders[0].resolve().parent / f"{'+'.join(name.replace('/', '-') for name in names)[:120]}.html"
    write_text(path, figures.distinct_ids(page))
    return path


def _summary(one: Found) -> dict[Cell, Summary]:
    return {cell: summarise(values, bounds_of(cell[-1])) for cell, values in values_of(one.scores).items()}


def _run(name: str, one: Found) -> JsonObject:
    plan, prepare = one.plan, one.prepare
    return {
        "name": name,
        "about": plan["about"],
        "dataset": plan["dataset"]["use"],
        "protocol": prepare["protocol"],
        "recordings": prepare["samples"],
        "groups": words.many(prepare["groups"], prepare["group"]),
        "repeats": words.repeats(len({f for f, _ in one.units}), len({s for _, s in one.units})),
        "missing": len(one.missing),
        "synthetic": prepare["synthetic"],
        "seconds": sum(sum(each) for each in one.seconds.values()),
    }


def differences(plans: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Settings in which the plans are not all alike: (key, its value in each)."""
    flat = [dict(_flat({k: v for k, v in plan.items() if k not in PASSED})) for plan in plans.values()]
    has = [
        {key[:i] for key in each for i in range(1, len(key) + 1) if key[i : i + 1] in ("", ".")} for each in flat
    ]  # sections too
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key, "–") for each in flat]
        if len(set(values)) == 1 or key.endswith((".version", ".package")):
            continue
        # Of a section that one run has and another lacks there is one line, not thirty: the outermost that is lacking.
        sections = [key[:i] for i, letter in enumerate(key) if letter == "."]
        lacking = next((section for section in sections if not all(section in each for each in has)), None)
        if lacking is None:
            found[key] = values
        else:
            found[lacking] = ["there" if lacking in each else "–" for each in has]
    return [(key.replace(".params.", "."), values) for key, values in found.items()]  # as the recipe has it


def _flat(value: Any, at: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{at}.{key}" if at else str(key))]
    return [(at, json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)]


def _task(
    task: str, found: Mapping[str, Found], summary: Mapping[str, Mapping[Cell, Summary]], folders: Sequence[Path]
) -> JsonObject:
    kind = next(iter(found.values())).prepare["tasks"][task]["type"]
    metric = HEADLINE[kind]
    rows: dict[tuple[str, str, str], dict[str, Summary]] = {}
    for name, each in summary.items():
        for cell, said in each.items():
            if cell[0] == task and cell[4] == metric:
                rows.setdefault((cell[1], cell[2], cell[3]), {})[name] = said
    people: JsonObject | None = None
    trouble = ""
    try:
        people = shown_comparison(compare_runs(folders, task))
    except MmclError as error:
        trouble = str(error)
    lines = []
    for i, (name, one) in enumerate(found.items()):
        curve = few_shot_of(one.worth, task, metric, one.subject)
        whole = summary[name].get((task, one.main, one.head, one.subject, metric))
        if curve:
            points = [(x, s.mean or 0.0, s.low, s.high) for x, s in curve.items()]
            points += [(1.0, whole.mean, whole.low, whole.high)] if whole is not None and whole.mean is not None else []
            lines.append(figures.Line(name, figures.MARKED[i % len(figures.MARKED)], points))
    told = "; ".join(
        f"{line.name}: " + ", ".join(f"{100 * p[0]:g}% {words.plain(p[1], 2)}" for p in line.points) for line in lines
    )
    return {
        "name": task,
        "metric": words.metric(metric),
        "people": people,
        "trouble": trouble,
        "rows": [{"input": k[0], "head": k[1], "encoder": k[2], "said": each} for k, each in sorted(rows.items(), key=_order)],
        "few": figures.lines(
            {"": lines}, "share of the labels", words.metric(metric), None, f"Few labels. {told}.", shares=True
        )
        if len(lines) > 1
        else None,
    }


def _order(row: tuple[tuple[str, str, str], Mapping[str, Summary]]) -> tuple[Any, ...]:
    (input, head, encoder), said = row
    return (encoder == "none", -len(said), encoder == "random", -max((s.mean or 0.0) for s in said.values()), input, head)


def _maps(found: Mapping[str, Found]) -> list[JsonObject]:
    """Maps of the runs, next to each other: of each space that several have, by the first task."""
    by_space: dict[tuple[str, str], dict[str, figures.Cloud]] = {}
    for name, one in found.items():
        labels = [each["encoder"] for each in one.maps if each["encoder"] not in ("random", "pretrained")]
        wanted = labels[0] if labels else one.subject
        for cloud_method, of, cloud in clouds_of(one.maps, one.prepare["tasks"], wanted):
            by_space.setdefault((cloud_method, of), {})[name] = figures.Cloud(name, cloud.x, cloud.y, cloud.kind, cloud.names)
    rank = {"tsne": 0, "umap": 1, "pca": 2}
    shown = []
    for (method, of), clouds in sorted(by_space.items(), key=lambda item: rank[item[0][0]]):
        if len(clouds) > 1:
            what = "all modalities together" if of == "shared" else of
            alt = f"{METHODS[method]} of {what} in {words.listed(list(clouds))}; colours are classes."
            shown.append({"title": f"{METHODS[method]}: {what}", "picture": figures.clouds(list(clouds.values()), alt)})
    return shown


def _retrieval(found: Mapping[str, Found]) -> JsonObject | None:
    """R@1 of every direction among the same number of recordings, where all runs have it."""
    sizes = set.intersection(*({row["among"] for row in one.retrieval} for one in found.values()))
    if not sizes:
        return None
    among = min(sizes)
    rows: dict[tuple[str, str], dict[str, Summary]] = {}
    for name, one in found.items():
        mine = [r for r in one.retrieval if r["among"] == among and r["encoder"] == one.subject and r["metric"] == "R@1"]
        for pair in dict.fromkeys((r["from"], r["to"]) for r in mine):
            values = {(r["fold"], r["seed"], 0): r["value"] for r in mine if (r["from"], r["to"]) == pair}
            rows.setdefault(pair, {})[name] = summarise(values, (0.0, 1.0))
    return {"among": among, "rows": [{"pair": " → ".join(pair), "said": said} for pair, said in rows.items()]}
