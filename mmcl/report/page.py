"""report: report.json and report.html, from the run folder's files alone.

Reads plan.json, recipe.yaml, prepare.json and what pretrain, embed and probe left for every fold and seed of the plan.
Writes report.json (every score, and how sure it is) and report.html (one file, offline, no script). Equal files give equal
bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..api.errors import MmclError
from ..evaluate.metrics import HEADLINE
from ..evaluate.statistics import Cell, Summary, Unit, bounds_of, difference, summarise, values_of
from ..recipe.plan import Plan, main_input
from ..review.compare import compare_runs
from ..runs import JsonObject, RunFolder, read_json, read_jsonl, write_json, write_text
from . import figures, words
from .comparison import shown as shown_comparison
from .pages import environment
from .worth import read_shown, read_worth, section, summaries

SHOWN = 20
"""Skipped recordings that the page lists; report.json has them all."""
POINTS = 1000
"""Points of a scatter plot above which only every k-th is drawn."""


@dataclass(frozen=True)
class Trained:
    """One fold and seed of pretraining."""

    fold: int
    seed: int
    history: list[JsonObject]
    facts: JsonObject  # finished.json


@dataclass(frozen=True)
class Found:
    """Everything that a report is made of."""

    about: JsonObject  # plan.json
    prepare: JsonObject
    recipe: str
    units: list[tuple[int, int]]  # (fold, seed) whose probe has finished
    missing: list[tuple[int, int]]  # … and has not, though the plan asks for it
    scores: list[JsonObject]
    predictions: list[JsonObject]  # of the first head, from the main input
    retrieval: list[JsonObject]
    worth: list[JsonObject]
    maps: list[JsonObject]
    shown: list[JsonObject]  # tables that heads trained with labels have to show
    trained: list[Trained]
    seconds: dict[str, list[float]]  # stage → one number for each fold and seed
    took: list[JsonObject]  # what each stage used, every time it ran
    finished: float | None  # time at which the last probe ended

    @property
    def plan(self) -> JsonObject:
        """The plan with every default."""
        plan: JsonObject = self.about["plan"]
        return plan

    @property
    def subject(self) -> str:
        """The encoders that the report is about: the pretrained ones, or the random ones where nothing was pretrained."""
        return "pretrained" if self.plan["pretrain"]["epochs"] else "random"

    @property
    def main(self) -> str:
        """The input that the report is about, chosen by the recipe and never by its score: the one with most modalities."""
        return main_input(self.plan["probe"]["inputs"])

    @property
    def head(self) -> str:
        """The head that the report is about: the first of the recipe."""
        return str(next(iter(self.plan["probe"]["heads"])))


def report(plan: Plan, run: RunFolder) -> None:
    """Write report.json and report.html. Raises StageError if a file that they are made of is missing or broken."""
    write_report(run.root)


def write_report(root: Path) -> None:
    """Write the report of a run folder, without its recipe or any plug-in."""
    found = read_run(RunFolder(root))
    table = values_of(found.scores)
    summary = {cell: summarise(values, bounds_of(cell[-1])) for cell, values in table.items()}
    write_json(root / "report.json", report_json(found, table, summary))
    write_text(root / "report.html", report_html(found, table, summary, _people(root, found)))


def read_run(run: RunFolder) -> Found:
    """The files of a run, only those of folds and seeds that its plan names: older ones may lie beside them."""
    about, prepare = read_json(run.root / "plan.json"), read_json(run.root / "prepare.json")
    plan = about["plan"]
    asked = list(itertools.product((fold["fold"] for fold in prepare["folds"]), plan["seed"]))
    probed = {(fold, seed): folder for fold, seed, folder in run.units("probe") if (fold, seed) in asked}
    main, head = main_input(plan["probe"]["inputs"]), next(iter(plan["probe"]["heads"]))
    scores, predictions, retrieval = [], [], []
    for folder in probed.values():
        scores += read_jsonl(folder / "scores.jsonl")
        predictions += [r for r in read_jsonl(folder / "predictions.jsonl") if (r["input"], r["head"]) == (main, head)]
        retrieval += read_jsonl(folder / "retrieval.jsonl") if (folder / "retrieval.jsonl").exists() else []
    with_labels = [folder for fold, seed, folder in run.units("supervise") if plan.get("supervise") and (fold, seed) in asked]
    for folder in with_labels:
        scores += read_jsonl(folder / "scores.jsonl")
    trained = [
        Trained(fold, seed, read_jsonl(folder / "history.jsonl"), read_json(folder / "finished.json"))
        for fold, seed, folder in run.units("pretrain")
        if plan["pretrain"]["epochs"] and (fold, seed) in asked
    ]
    marks = {
        stage: [read_json(folder / "finished.json") for fold, seed, folder in run.units(stage) if (fold, seed) in asked]
        for stage in ("embed", "probe")
    }
    recipe = run.root / "recipe.yaml"
    worth, maps = read_worth(run, asked) if plan.get("worth") else ([], [])
    return Found(
        about=about,
        prepare=prepare,
        recipe=recipe.read_text(encoding="utf-8") if recipe.exists() else "",
        units=list(probed),
        missing=[unit for unit in asked if unit not in probed],
        scores=scores,
        predictions=predictions,
        retrieval=retrieval,
        worth=worth,
        maps=maps,
        shown=read_shown(run, asked) if plan.get("supervise") else [],
        trained=trained,
        seconds={
            "prepare": [prepare["seconds"]],
            "pretrain": [one.facts["seconds"] for one in trained],
            **{stage: [mark["seconds"] for mark in each] for stage, each in marks.items()},
            **({"supervise": [read_json(f / "finished.json")["seconds"] for f in with_labels]} if with_labels else {}),
            **({"worth": spent} if worth and (spent := _spent(run, "worth", asked)) else {}),
        },
        took=_took(run),
        finished=max((mark["time"] for mark in marks["probe"] if "time" in mark), default=None),
    )


def _took(run: RunFolder) -> list[JsonObject]:
    path = run.root / "log.jsonl"
    return [row for row in read_jsonl(path) if row["event"] == "took" and row["stage"] != "report"] if path.exists() else []


def _spent(run: RunFolder, stage: str, asked: Sequence[tuple[int, int]]) -> list[float]:
    return [read_json(folder / "finished.json")["seconds"] for fold, seed, folder in run.units(stage) if (fold, seed) in asked]


def baselines_of(cell: Cell) -> dict[str, Cell]:
    """What a score is to be compared with: the same with random encoders, and the majority class."""
    task, input, head, encoder, metric = cell
    found = {"random": (task, input, head, "random", metric)} if encoder == "pretrained" else {}
    return found | ({"majority": (task, "none", "majority", "none", metric)} if encoder != "none" else {})


def gain(table: Mapping[Cell, Mapping[Unit, float | None]], cell: Cell, baseline: str) -> Summary | None:
    """How much higher a score is than a baseline on the same folds and seeds; None where the baseline was not measured."""
    other = baselines_of(cell).get(baseline)
    if cell not in table or other is None or other not in table:
        return None
    return difference(table[cell], table[other], bounds_of(cell[-1]))


def report_json(found: Found, table: Mapping[Cell, Mapping[Unit, float | None]], summary: Mapping[Cell, Summary]) -> JsonObject:
    """What report.json says."""
    keys = ("task", "input", "head", "encoder", "protocol", "fold", "seed", "metric", "value", "n", "head_seed")
    rows = []
    for cell, said in summary.items():
        against = {}
        for name in baselines_of(cell):
            by = gain(table, cell, name)
            if by is not None and by.mean is not None:
                against[name] = {
                    "mean": by.mean,
                    "sd": by.sd,
                    "low": by.low,
                    "high": by.high,
                    "units": by.units,
                    "higher": by.above,
                }
        rows.append(
            {
                "task": cell[0],
                "input": cell[1],
                "head": cell[2],
                "encoder": cell[3],
                "metric": cell[4],
                "mean": said.mean,
                "sd": said.sd,
                "low": said.low,
                "high": said.high,
                "units": said.units,
                "over": said.over,
                "folds": said.folds,
                "seeds": said.seeds,
                "undefined": said.undefined,
                "against": against,
            }
        )
    prepare = found.prepare
    return {
        "format": 1,
        "name": found.plan["name"],
        "synthetic": prepare["synthetic"],
        "scores": [{key: row[key] for key in keys} for row in found.scores],
        "summary": rows,
        "retrieval": found.retrieval,
        "worth": summaries(found.worth),
        "skipped": {
            "count": len(skipped_of(prepare)),
            "streams": [{"modality": name, **one} for name, m in prepare["modalities"].items() for one in m["skipped"]],
            "recordings": prepare["skipped"],
        },
    }


def counted_of(prepare: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What the dataset and the modalities counted while they read: (what, how often)."""
    found = [(what, count) for what, count in prepare.get("counts", {}).items() if count]
    return found + [
        (f"{name}: {what}", count) for name, m in prepare["modalities"].items() for what, count in m.get("counts", {}).items()
    ]


def skipped_of(prepare: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every skipped stream and recording: (recording, modality or "", reason)."""
    streams = [(one["id"], name, one["reason"]) for name, m in prepare["modalities"].items() for one in m["skipped"]]
    return streams + [(one["id"], "", one["reason"]) for one in prepare["skipped"]]


def _people(root: Path, found: Found) -> list[JsonObject]:
    """Each task's ways of predicting, set against each other over groups; nothing where there are fewer than two of them."""
    shown_ones: list[JsonObject] = []
    for task in found.prepare["tasks"]:
        kinds = {(row["input"], row["encoder"]) for row in found.scores if row["task"] == task}
        inputs = [found.main] + [
            name for name, encoder in sorted(kinds) if encoder in ("supervised", "fine-tuned") and name != found.main
        ]
        mine = f"{root.resolve().name}: {found.subject} {found.main} {found.head}"
        try:
            one = compare_runs([root], task, inputs, reference=mine)
        except MmclError:
            continue
        if len(one.rows) > 1 and one.rows[0].score.groups > 1:
            shown_ones.append(shown_comparison(one))
    return shown_ones


def report_html(
    found: Found,
    table: Mapping[Cell, Mapping[Unit, float | None]],
    summary: Mapping[Cell, Summary],
    people: Sequence[JsonObject] = (),
) -> str:
    """The page."""
    plan, prepare = found.plan, found.prepare
    skipped = skipped_of(prepare)
    # A constant guess has no correlation by its nature; that is no news.
    undefined = sum(1 for row in found.scores if row["value"] is None and row["encoder"] != "none")
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            name=plan["name"],
            about=plan["about"],
            facts=_facts(found),
            banners=words.banners(
                found.about, prepare, len(skipped), found.missing, undefined, [t.facts for t in found.trained]
            ),
            tasks=[_task(found, table, summary, name, task, n) for n, (name, task) in enumerate(prepare["tasks"].items(), 1)],
            compared=words.compared(found.about, prepare),
            learning=_learning(found),
            retrieval=_retrieval(found),
            worth=_worth(found, summary),
            people=people,
            subject=found.subject,
            prepare=prepare,
            group=words.plural(prepare["group"]),
            skipped=skipped[:SHOWN],
            counted=counted_of(prepare),
            skipped_count=len(skipped),
            effort=_effort(found),
            recipe=found.recipe,
            overrides=plan["overrides"],
            versions=found.about["versions"],
            surroundings=words.surroundings(found.about),
            machine=found.about.get("machine", {}),
            device=found.about.get("device", ""),
            plugins=_plugins(plan),
        )
    )
    return figures.distinct_ids(page)


def _facts(found: Found) -> list[tuple[str, str]]:
    """The line under the title."""
    plan, prepare = found.plan, found.prepare
    facts = [
        ("Dataset", plan["dataset"]["use"]),
        ("Recordings", f"{words.whole(prepare['samples'])} from {words.many(prepare['groups'], prepare['group'])}"),
        ("Protocol", prepare["protocol"]),
        ("Repeated", words.repeats(len({f for f, _ in found.units}), len({s for _, s in found.units}))),
    ]
    if found.finished is not None:
        facts.append(("Finished", f"{datetime.fromtimestamp(found.finished, UTC):%Y-%m-%d %H:%M} UTC"))
    return facts


def _worth(found: Found, summary: Mapping[Cell, Summary]) -> JsonObject | None:
    """What the representation is worth beyond one score."""
    tasks = {name: found.prepare["tasks"][name] for name in found.plan["probe"]["tasks"]}
    whole = {
        (name, kind): said
        for name, task in tasks.items()
        for kind in ("pretrained", "random")
        if (said := summary.get((name, found.main, found.head, kind, HEADLINE[task["type"]]))) is not None
    }
    floors = {
        name: f.mean if (f := summary.get((name, "none", "majority", "none", HEADLINE[t["type"]]))) else None
        for name, t in tasks.items()
    }
    return section(
        found.worth,
        found.maps,
        found.shown,
        tasks,
        list(found.plan["modalities"]),
        found.subject,
        whole,
        floors,
        found.prepare["group"],
    )


def _task(
    found: Found,
    table: Mapping[Cell, Mapping[Unit, float | None]],
    summary: Mapping[Cell, Summary],
    name: str,
    task: Mapping[str, Any],
    number: int,
) -> JsonObject:
    """One task's answer, scores and mistakes."""
    metric = HEADLINE[task["type"]]
    plan = found.plan
    cell: Cell = (name, found.main, found.head, found.subject, metric)
    floor = summary.get((name, "none", "majority", "none", metric))
    answer = words.answer(
        found.about,
        found.prepare,
        name,
        task["type"],
        metric,
        found.main,
        found.subject,
        summary.get(cell),
        summary.get(baselines_of(cell).get("random", cell)) if found.subject == "pretrained" else None,
        floor,
        gain(table, cell, "random"),
        _alone(found, summary, name, metric),
        _labelled(found, summary, name, metric),
    )
    tested: dict[Cell, dict[int, int]] = {}  # recordings in each fold's test set
    for row in found.scores:
        tested.setdefault((row["task"], row["input"], row["head"], row["encoder"], row["metric"]), {})[row["fold"]] = row["n"]
    heads = []
    for head in plan["probe"]["heads"]:
        rows = []
        for input in plan["probe"]["inputs"]:
            mine: Cell = (name, input, head, found.subject, metric)
            if mine in summary:
                by = gain(table, mine, "random")
                rows.append(
                    {
                        "input": input,
                        "main": (input, head) == (found.main, found.head),
                        "mine": summary[mine],
                        "random": summary.get((name, input, head, "random", metric)),
                        "gain": by,
                        "n": sum(tested[mine].values()),
                    }
                )
        if rows:
            heads.append(
                {
                    "name": head,
                    "caption": words.caption(words.metric(metric), name, head, rows[0]["mine"]),
                    "use": plan["probe"]["heads"][head]["use"],
                    "rows": rows,
                    "picture": _dots(found, table, summary, name, metric, head, floor),
                }
            )
    everything: list[JsonObject] = [
        {"input": c[1], "head": c[2], "encoder": c[3], "metric": c[4], "said": said}
        for c, said in summary.items()
        if c[0] == name
    ]
    return {
        "id": f"task-{number}",
        "name": name,
        "type": task["type"],
        "metric": metric,
        "metric_words": words.metric(metric),
        "answer": answer,
        "floor": floor,
        "floor_words": words.FLOOR[task["type"]],
        "heads": heads,
        "supervised": _supervised(found, table, summary, name, metric, tested),
        "everything": everything,
        "glossary": [
            (m, words.METRICS[m][1]) for m in words.METRICS if any(row["metric"].rsplit("/", 1)[-1] == m for row in everything)
        ],
        "over": words.over(summary.get(cell)),
        "spread": cell in summary and summary[cell].sd is not None,
        "has_random": found.subject == "pretrained" and any(c[3] == "random" for c in summary),
        "mistakes": _mistakes(found, table, summary, name, task),
    }


def _supervised(
    found: Found,
    table: Mapping[Cell, Mapping[Unit, float | None]],
    summary: Mapping[Cell, Summary],
    task: str,
    metric: str,
    tested: Mapping[Cell, Mapping[int, int]],
) -> list[JsonObject]:
    """Models trained with labels, beside the first head on frozen features of the same input."""
    rows = []
    for cell, said in summary.items():
        if cell[0] != task or cell[4] != metric or cell[3] not in ("supervised", "fine-tuned"):
            continue
        frozen: Cell = (task, cell[1], found.head, found.subject, metric)
        by = difference(table[frozen], table[cell], bounds_of(metric)) if frozen in table else None
        rows.append(
            {
                "input": cell[1],
                "head": cell[2],
                "encoder": cell[3],
                "mine": said,
                "frozen": summary.get(frozen),
                "gain": by,
                "n": sum(tested[cell].values()),
            }
        )
    return rows


def _labelled(found: Found, summary: Mapping[Cell, Summary], task: str, metric: str) -> list[tuple[str, Summary]]:
    """Models trained with labels on the input with most modalities, in the order of the recipe: (head, score)."""
    section = found.plan.get("supervise")
    if not section:
        return []
    main = main_input(section["inputs"])
    return [
        (head, said)
        for head in section["heads"]
        for kind in ("supervised", "fine-tuned")
        if (said := summary.get((task, main, head, kind, metric))) is not None and said.mean is not None
    ]


def _alone(found: Found, summary: Mapping[Cell, Summary], task: str, metric: str) -> tuple[str, Summary] | None:
    """The single modality that does best alone, where the main input has several."""
    inputs = found.plan["probe"]["inputs"]
    if len(inputs[found.main]) < 2:
        return None
    single = [
        (name, said)
        for name, modalities in inputs.items()
        if len(modalities) == 1
        and (said := summary.get((task, name, found.head, found.subject, metric)))
        and said.mean is not None
    ]
    return max(single, key=lambda one: one[1].mean or 0.0) if single else None


def _dots(
    found: Found,
    table: Mapping[Cell, Mapping[Unit, float | None]],
    summary: Mapping[Cell, Summary],
    task: str,
    metric: str,
    head: str,
    floor: Summary | None,
    names: Sequence[tuple[str, str, str]] | None = None,
) -> figures.Picture:
    """Dots of several inputs, or of several metrics: `names` are (label, input, metric)."""
    rows: dict[str, dict[str, figures.Measured]] = {}
    for label, input, what in names or [(input, input, metric) for input in found.plan["probe"]["inputs"]]:
        for encoder in dict.fromkeys((found.subject, "random")):
            cell: Cell = (task, input, head, encoder, what)
            if cell in summary:
                values = [v for v in table[cell].values() if v is not None]
                rows.setdefault(label, {})[encoder] = figures.Measured(summary[cell], values)
    said = {label: {encoder: one.summary for encoder, one in row.items()} for label, row in rows.items()}
    level = None if floor is None else floor.mean
    return figures.dots(
        rows, level, words.metric(metric), bounds_of(metric), words.dots_alt(task, words.metric(metric), said, level)
    )


def _mistakes(
    found: Found,
    table: Mapping[Cell, Mapping[Unit, float | None]],
    summary: Mapping[Cell, Summary],
    name: str,
    task: Mapping[str, Any],
) -> JsonObject | None:
    """Where the main input with the first head is right and wrong, over all test sets together."""
    mine = [row for row in found.predictions if row["task"] == name]
    kinds = [kind for kind in dict.fromkeys((found.subject, "random")) if any(row["encoder"] == kind for row in mine)]
    if found.subject not in kinds:
        return None
    times = len({(row["seed"], row["head_seed"]) for row in mine})
    rows = [row for row in mine if row["encoder"] == found.subject]
    whence = words.inputs(found.plan["probe"]["inputs"][found.main], len(found.plan["modalities"]))
    common = {
        "kind": task["type"],
        "input": whence,
        "head": found.head,
        "rows": len(rows),
        "ids": len({r["id"] for r in rows}),
        "times": times,
    }
    classes = task["classes"]
    if task["type"] == "single-label":
        counts = {kind: confusion_of(len(classes), (r for r in mine if r["encoder"] == kind)) for kind in kinds}
        recall = {
            kind: [row[i] / sum(row) if sum(row) else None for i, row in enumerate(matrix)] for kind, matrix in counts.items()
        }
        matrix = counts[found.subject]
        worst = words.worst(classes, matrix)
        return common | {
            "classes": classes,
            "matrix": matrix,
            "recall": recall,
            "totals": [sum(row) for row in matrix],
            "worst": worst,
            "picture": figures.confusion(classes, matrix, found.subject, words.confusion_alt(name, classes, matrix, worst)),
            "bars": figures.recalls(classes, recall, [sum(row) for row in matrix], words.recall_alt(classes, recall)),
        }
    metric = HEADLINE[task["type"]]
    if task["type"] == "multi-label":
        names = [(c, found.main, f"{c}/{metric}") for c in classes]
        truth = {r["id"]: r["target"] for r in rows}.values()
        shown = ("w_acc", "f1_binary", "f1_weighted", "auroc", "average_precision")
        per_class = [
            {
                "class": c,
                "metrics": {m: summary.get((name, found.main, found.head, found.subject, f"{c}/{m}")) for m in shown},
                "positive": sum(t[i] is not None and t[i] > 0.5 for t in truth),
                "known": sum(t[i] is not None for t in truth),
            }
            for i, c in enumerate(classes)
        ]
        return common | {
            "per_class": per_class,
            "metric_words": words.metric(metric),
            "picture": _dots(found, table, summary, name, metric, found.head, None, names),
        }
    outputs = classes or [name]
    step = max(1, -(-len(rows) // POINTS))
    points = []
    for i in range(len(outputs)):
        known = [row for row in rows[::step] if row["target"][i] is not None]
        points.append(([row["target"][i] for row in known], [row["prediction"][i] for row in known]))
    said = summary.get((name, found.main, found.head, found.subject, metric))
    return common | {
        "step": step,
        "picture": figures.scatter(outputs, points, words.scatter_alt(name, outputs, len(rows), said)),
    }


def confusion_of(classes: int, rows: Iterable[Mapping[str, Any]]) -> list[list[int]]:
    """Counts by true class (down) and predicted class (across)."""
    counts = [[0] * classes for _ in range(classes)]
    for row in rows:
        counts[row["target"]][row["prediction"]] += 1
    return counts


def _learning(found: Found) -> JsonObject | None:
    """Loss curves, and what each pair of modalities had come to at the kept epoch."""
    trained = [one for one in found.trained if one.history]
    if not trained:
        return None
    last = found.plan["pretrain"].get("keep") == "last"
    kept_of = {(one.fold, one.seed): one.facts["epochs" if last else "best_epoch"] for one in trained}
    drawn = [
        figures.Curve(
            one.fold,
            one.seed,
            [row["epoch"] for row in one.history],
            [row["train_loss"] for row in one.history],
            [row["valid_loss"] for row in one.history],
            kept_of[one.fold, one.seed],
        )
        for one in trained
    ]
    pairs: dict[str, dict[str, list[float]]] = {}
    for one in trained:
        kept = next((row for row in one.history if row["epoch"] == kept_of[one.fold, one.seed]), one.history[-1])
        for pair, values in kept["pairs"].items():
            for key, value in values.items():
                if value is not None:
                    pairs.setdefault(pair, {}).setdefault(key, []).append(value)
    runs = [
        {
            "fold": one.fold,
            "seed": one.seed,
            "epochs": one.facts["epochs"],
            "best": kept_of[one.fold, one.seed],
            "lowest": one.facts["best_epoch"],
            "stopped": one.facts["stopped"],
            "seconds": one.facts["seconds"],
            **next(
                (
                    {"train": r["train_loss"], "valid": r["valid_loss"]}
                    for r in one.history
                    if r["epoch"] == kept_of[one.fold, one.seed]
                ),
                {"train": None, "valid": None},
            ),
        }
        for one in trained
    ]
    skipped: dict[str, int] = {}
    for one in trained:
        for pair, count in one.facts.get("skipped_pairs", {}).items():
            skipped[pair] = skipped.get(pair, 0) + count
    return {
        "picture": figures.curves(drawn, words.curves_alt(runs)),
        "pairs": {pair: {key: sum(v) / len(v) for key, v in values.items()} for pair, values in pairs.items()},
        "runs": runs,
        "skipped": skipped,
        "valid": any(run["valid"] is not None for run in runs),
        "said": words.learning(runs, found.plan["pretrain"]["patience"], last),
    }


def _retrieval(found: Found) -> JsonObject | None:
    """Retrieval between modalities: a map of R@1, and a table of everything, for each size of the search."""
    if not found.retrieval:
        return None
    names = list(found.plan["modalities"])
    companies = []
    for among, rows in companies_of(found.retrieval):
        table: dict[tuple[str, str, str, str], Summary] = {}
        chance: dict[tuple[str, str, str], float] = {}
        grouped: dict[tuple[str, str, str, str], list[JsonObject]] = {}
        for row in rows:
            grouped.setdefault((row["from"], row["to"], row["encoder"], row["metric"]), []).append(row)
        for key, each in grouped.items():
            bounds = bounds_of(key[3]) if key[3] != "median_rank" else (1.0, float("inf"))
            table[key] = summarise({(r["fold"], r["seed"], 0): r["value"] for r in each}, bounds)
            chance[key[0], key[1], key[3]] = sum(r["chance"] for r in each) / len(each)
        kinds = [kind for kind in dict.fromkeys((found.subject, "random")) if any(key[2] == kind for key in table)]
        maps = {
            kind: {
                (a, b): said.mean for (a, b, k, m), said in table.items() if k == kind and m == "R@1" and said.mean is not None
            }
            for kind in kinds
        }
        levels = sorted({round(value, 4) for (_, _, m), value in chance.items() if m == "R@1"})
        directions = [(a, b) for a in names for b in names if any((a, b, kind, "R@1") in table for kind in kinds)]
        companies.append(
            {
                "among": among,
                "kinds": kinds,
                "levels": levels,
                "metrics": ("R@1", "R@5", "R@10", "median_rank"),
                "rows": [
                    {
                        "from": a,
                        "to": b,
                        "n": max(r["n"] for r in rows if (r["from"], r["to"]) == (a, b)),
                        "said": {
                            kind: {m: table.get((a, b, kind, m)) for m in ("R@1", "R@5", "R@10", "median_rank")}
                            for kind in kinds
                        },
                        "chance": {m: chance.get((a, b, m)) for m in ("R@1", "R@5", "R@10", "median_rank")},
                    }
                    for a, b in directions
                ],
                "guessing": _uniform(chance),
                "picture": figures.pair_map(names, maps, words.retrieval_alt(maps, levels)),
                "said": words.retrieval(maps, levels, among),
            }
        )
    return {"companies": companies}


def _uniform(chance: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
    """What guessing gives for each metric, where that is one number for all pairs."""
    levels: dict[str, set[float]] = {}
    for (_, _, metric), value in chance.items():
        levels.setdefault(metric, set()).add(round(value, 9))
    return {metric: each.pop() for metric, each in levels.items() if len(each) == 1}


def companies_of(rows: Sequence[JsonObject]) -> list[tuple[int | None, list[JsonObject]]]:
    """Searches of one size together: among the same number for every pair, fold and seed; then among all (None).

    R@k depends on how many recordings there are to choose from, so different sizes are never averaged into one number, except
    where the whole test set is searched and folds differ in size.
    """

    def spot(row: JsonObject) -> tuple[Any, ...]:
        return row["from"], row["to"], row["encoder"], row["fold"], row["seed"]

    spots = {spot(row) for row in rows}
    sizes = sorted({row["among"] for row in rows})
    shared = [size for size in sizes if {spot(row) for row in rows if row["among"] == size} == spots]
    found: list[tuple[int | None, list[JsonObject]]] = []
    # Where all test sets are equally large, their size is shared too; that search comes last, as the one among all.
    asked = [size for size in shared if any(row["n"] > size for row in rows)]
    for size in asked:
        found.append((size, [row for row in rows if row["among"] == size]))
    found.append((None, [row for row in rows if row["among"] == row["n"]]))
    return [(size, each) for size, each in found if each]


def _effort(found: Found) -> JsonObject:
    """What it took."""
    totals = {stage: sum(each) for stage, each in found.seconds.items() if each}
    whole = sum(totals.values())
    stages = [
        {"name": stage, "seconds": total, "share": total / whole if whole else 0.0, "times": len(found.seconds[stage])}
        for stage, total in totals.items()
    ]
    joules = [row["joules"] for row in found.took]
    memory = {stage: max((r["memory_mb"] for r in found.took if r["stage"] == stage), default=None) for stage in totals}
    return {
        "stages": [{**stage, "memory": memory[str(stage["name"])]} for stage in stages],
        "whole": whole,
        "parameters": found.trained[0].facts["parameters"] if found.trained else {},
        "memory": max((row["memory_mb"] for row in found.took), default=None),
        "gpu": max((row["gpu_memory_mb"] for row in found.took if row["gpu_memory_mb"] is not None), default=None),
        "joules": sum(joules) if joules and None not in joules else None,
        "measured": bool(found.took),
    }


def _plugins(plan: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Every plug-in that was used: (what, for what, name, package and version, options)."""
    used = [("dataset", "", plan["dataset"])]
    for name, modality in plan["modalities"].items():
        used += [("features", name, modality["features"])]
        used += [("backbone", name, modality["backbone"])] if modality["backbone"] else []
    objective = plan["pretrain"]["objective"]
    used += [("loss", "", objective["loss"]), ("positives", "", objective["positives"])]
    used += [("head", name, head) for name, head in plan["probe"]["heads"].items()]
    return [
        (
            what,
            where,
            part["use"],
            f"{part['package']} {part['version']}",
            ", ".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in part["params"].items()),
        )
        for what, where, part in used
    ]
