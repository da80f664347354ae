"""The report's section on what the representation is worth: few labels, missing modalities, transfer, spoilt recordings, geometry, maps.

Its numbers are those that the stage `worth` wrote; its last tables are those that heads trained with labels have to show.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluate.metrics import HEADLINE
from ..evaluate.statistics import Summary, bounds_of, summarise
from ..runs import JsonObject
from . import figures, words
from .results import Results

CHANGES = {
    "noise": "noise, in deviations of a channel",
    "loss": "share of the steps that are lost",
    "late": "seconds by which streams begin late",
}
METHODS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
"""Method of a map → its name, in the order in which they are shown."""
KEYS = ("what", "task", "encoder", "head", "input", "share", "left", "from", "to", "change", "level", "of", "metric")
"""What a row of worth.jsonl is of; the rest says where it was measured."""
POINTS = 600
"""Points that one picture of a map shows; maps.json has all."""
FREE = {"uniformity": (-float("inf"), 0.0), "effective_rank": (0.0, float("inf")), "alignment": (0.0, 4.0), "gap": (0.0, 2.0)}


def summaries(rows: Iterable[Mapping[str, Any]]) -> list[JsonObject]:
    """Every result over folds, seeds and draws, for report.json."""
    return [
        {
            **dict(zip(KEYS, _plain(key), strict=True)),
            "mean": score.mean,
            "sd": score.sd,
            "low": score.low,
            "high": score.high,
            "units": score.units,
        }
        for key, score in _table(rows).items()
    ]


def _plain(key: tuple[Any, ...]) -> list[Any]:
    return [list(part) if isinstance(part, tuple) else part for part in key]


def _table(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Summary]:
    grouped: dict[tuple[Any, ...], dict[tuple[int, int, int], float | None]] = {}
    for row in rows:
        key = tuple(tuple(v) if isinstance(v := row.get(name), list) else v for name in KEYS)
        grouped.setdefault(key, {})[row["fold"], row["seed"], row.get("draw", 0)] = row["value"]
    return {key: summarise(each, FREE.get(key[-1], bounds_of(str(key[-1])))) for key, each in grouped.items()}


Rows = Sequence[tuple[Mapping[str, Any], Summary]]
"""Scores of one task, each with what it is of, by KEYS."""


@dataclass(frozen=True)
class TaskWorth:
    """What `worth` measured of one task, by its headline metric."""

    task: str
    metric: str
    rows: Rows
    floor: float | None  # what the majority class (or the mean) reaches
    subject: str
    modalities: Sequence[str]

    @property
    def name(self) -> str:
        """The metric's name in words."""
        return words.metric(self.metric)

    def of(self, what: str) -> Rows:
        """The rows of one kind of measurement."""
        return [(key, score) for key, score in self.rows if key["what"] == what]


def worth_section(results: Results) -> JsonObject | None:
    """What the representation is worth beyond one score, for the template; None where there is nothing."""
    if not results.worth and not results.maps and not results.shown:
        return None
    table = {key: score for key, score in _table(results.worth).items() if score.mean is not None}
    modalities, group = list(results.plan["modalities"]), results.prepare["group"]
    probed = {name: results.tasks[name] for name in results.plan["probe"]["tasks"]}
    tasks = []
    for name, task in probed.items():
        metric = HEADLINE[task["type"]]
        rows = [
            (dict(zip(KEYS, key, strict=True)), score) for key, score in table.items() if key[1] == name and key[-1] == metric
        ]
        floor = results.floor(name, metric)
        measured = TaskWorth(
            task=name,
            metric=metric,
            rows=rows,
            floor=None if floor is None else floor.mean,
            subject=results.subject,
            modalities=modalities,
        )
        parts = {
            "few": _few(measured, results, group),
            "missing": _missing(measured),
            "transfer": _transfer(measured),
            "robust": _robust(measured),
        }
        if any(parts.values()):
            tasks.append({"name": name, "metric": words.metric(metric), **parts})
    return {
        "tasks": tasks,
        "geometry": _geometry(table, modalities),
        "maps": _maps(results.maps, probed, modalities, results.subject, group),
        "shown": [_shown(one) for one in results.shown],
    }


def _shown(one: Mapping[str, Any]) -> JsonObject:
    """A table that a head has to show, as shades from its lowest to its highest value."""
    known = [v for row in one["values"] for v in row if v is not None]
    cells = "; ".join(
        f"{a} and {b} {words.plain(v, 2)}"
        for a, row in zip(one["rows"], one["values"], strict=True)
        for b, v in zip(one["columns"], row, strict=True)
    )
    alt = f"{one['title']} ({one['of']}): {cells}."
    ends = min(known, default=0.0), max(known, default=1.0)
    picture = figures.heat(one["rows"], one["columns"], one["values"], "", "", alt, ends)
    return {"title": one["title"], "of": one["of"], "picture": picture}


def _point(x: float, score: Summary) -> tuple[float, float, float | None, float | None]:
    return x, score.mean or 0.0, score.low, score.high


def few_shot_of(rows: Sequence[JsonObject], task: str, metric: str, encoder: str) -> dict[float, Summary]:
    """Share of the labels → the score of one kind of encoders."""
    scores = {}
    for key, score in _table(row for row in rows if row["what"] == "few-shot").items():
        one = dict(zip(KEYS, key, strict=True))
        if (one["task"], one["metric"], one["encoder"]) == (task, metric, encoder) and score.mean is not None:
            scores[float(one["share"])] = score
    return dict(sorted(scores.items()))


def _kinds(there: Container[str]) -> list[str]:
    """Kinds of encoders that were measured, the pretrained ones first."""
    return [kind for kind in ("pretrained", "random") if kind in there]


def _few(measured: TaskWorth, results: Results, group: str) -> JsonObject | None:
    """With few labels: curves over the share of labels, up to the main head's score with all of them."""
    subject = measured.subject
    by_kind: dict[str, dict[float, Summary]] = {}
    for key, score in measured.of("few-shot"):
        by_kind.setdefault(key["encoder"], {})[key["share"]] = score
    if subject not in by_kind:
        return None
    for kind, scores in by_kind.items():
        with_all = results.summary.get((measured.task, results.main, results.head, kind, measured.metric))
        if kind in ("pretrained", "random") and with_all is not None and with_all.mean is not None:
            scores[1.0] = with_all
    kinds = _kinds(by_kind)
    lines = [figures.Line(kind, kind, [_point(x, score) for x, score in sorted(by_kind[kind].items())]) for kind in kinds]
    labels = _labels(measured, results.worth)
    alt = [
        f"with {100 * share:g}% of the labels "
        + " and ".join(
            f"{kind} encoders {words.plain(by_kind[kind][share].mean, 2)}" for kind in kinds if share in by_kind[kind]
        )
        for share in sorted(by_kind[subject])
    ]
    middle = sorted(labels)[len(labels) // 2]
    return {
        "sentence": _few_sentence(by_kind, subject, middle, labels, group),
        "picture": figures.lines(
            {"": lines},
            "share of the labels",
            measured.name,
            measured.floor,
            f"{measured.name} of {measured.task} by share of labels: {'; '.join(alt)}.",
            shares=True,
        ),
        "kinds": kinds,
        "over": _over(by_kind[subject][middle]),
        "rows": [
            {"share": share, "labels": labels.get(share), "scores": {kind: by_kind[kind].get(share) for kind in kinds}}
            for share in sorted(by_kind[subject])
        ],
    }


def _labels(measured: TaskWorth, rows: Iterable[JsonObject]) -> dict[float, tuple[int, int]]:
    """Share of the labels → how many recordings and groups that is, on average."""
    counts: dict[float, list[tuple[int, int]]] = {}
    wanted = (measured.task, measured.subject, measured.metric)
    for row in rows:
        if row["what"] == "few-shot" and (row["task"], row["encoder"], row["metric"]) == wanted:
            counts.setdefault(row["share"], []).append((row["labels"], row["groups"]))
    return {
        share: (round(sum(n for n, _ in each) / len(each)), round(sum(g for _, g in each) / len(each)))
        for share, each in counts.items()
    }


def _few_sentence(
    by_kind: Mapping[str, Mapping[float, Summary]],
    subject: str,
    middle: float,
    labels: Mapping[float, tuple[int, int]],
    group: str,
) -> str:
    """What the middle share of the labels reaches, and from which share on pretrained encoders make up for the rest."""
    n, groups = labels[middle]
    sentence = (
        f"With {100 * middle:g}% of the labels ({words.many(n, 'recording')} of {words.many(groups, group)}), "
        f"{subject} encoders reach {words.plain(by_kind[subject][middle].mean, 2)}"
    )
    random = by_kind.get("random", {})
    if subject == "pretrained" and middle in random:
        sentence += f", random ones {words.plain(random[middle].mean, 2)}"
    if subject == "pretrained" and 1.0 in random:
        ceiling = random[1.0].mean or 0
        enough = [share for share in sorted(labels) if (by_kind[subject][share].mean or 0) >= ceiling]
        if enough:
            sentence += (
                f". On average, pretrained encoders with {100 * enough[0]:g}% of the labels "
                "are where random ones are with all of them"
            )
    return sentence + "."


def _over(score: Summary) -> str:
    """What a few-label interval is over; "" where there is none."""
    if score.low is None:
        return ""
    what = {"head seeds": "draws of the labels"}.get(score.over, score.over)
    return f"{score.units} {what}" + ("" if score.over == "folds" else ", test set fixed")


def _missing(measured: TaskWorth) -> JsonObject | None:
    """With modalities taken away: the mean over all sets of so many modalities, and every set."""
    subject, every = measured.subject, tuple(measured.modalities)
    by_kind: dict[str, dict[tuple[str, ...], Summary]] = {}
    for key, score in measured.of("missing"):
        by_kind.setdefault(key["encoder"], {})[key["left"]] = score
    if subject not in by_kind:
        return None
    kinds = _kinds(by_kind)
    counts = sorted({len(left) for left in by_kind[subject]})

    def mean(kind: str, count: int) -> float:
        each = [score.mean or 0.0 for left, score in by_kind[kind].items() if len(left) == count]
        return sum(each) / len(each)

    lines = [figures.Line(kind, kind, [(float(n), mean(kind, n), None, None) for n in counts]) for kind in kinds]
    dropped = {
        next(iter(set(every) - set(left)), ""): (by_kind[subject][every].mean or 0.0) - (score.mean or 0.0)
        for left, score in by_kind[subject].items()
        if len(left) == max(counts) - 1 and every in by_kind[subject]
    }
    worst = max(dropped, key=lambda name: dropped[name]) if dropped else None
    sentence = ""
    if worst:
        sentence = "The head was fitted on all of them. "
        if dropped[worst] > 0:
            sentence += f"On average it loses most without {worst}: {words.plain(dropped[worst], 2)}. "
        sentence += f"Left with one modality it keeps {words.plain(mean(subject, min(counts)), 2)} on average."
    alt = [
        f"{words.many(n, 'modality')} left: " + ", ".join(f"{kind} {words.plain(mean(kind, n), 2)}" for kind in kinds)
        for n in counts
    ]
    across = "modalities left at test, mean over all sets"
    return {
        "sentence": sentence,
        "picture": figures.lines({"": lines}, across, measured.name, measured.floor, "; ".join(alt) + "."),
        "kinds": kinds,
        "rows": [{"left": left, "scores": {kind: by_kind[kind].get(left) for kind in kinds}} for left in by_kind[subject]],
    }


def _transfer(measured: TaskWorth) -> JsonObject | None:
    """From one modality to another: labels of each modality (down), tested on each (across)."""
    subject, columns, floor = measured.subject, list(measured.modalities), measured.floor
    scores = {(key["encoder"], key["from"], key["to"]): score.mean for key, score in measured.of("transfer")}
    names = [name for name in columns if any(key[1] == name for key in scores)]
    kinds = _kinds({key[0] for key in scores})
    if not names or subject not in kinds:
        return None
    values = {kind: [[scores.get((kind, a, b)) for b in columns] for a in names] for kind in kinds}
    mean: dict[str, float] = {}
    for kind in kinds:
        across = [v for a in names for b in columns if a != b and (v := scores.get((kind, a, b))) is not None]
        if across:
            mean[kind] = sum(across) / len(across)
    sentence = ""
    if mean:
        sentence = f"A head that has seen labels of one modality only reaches {words.plain(mean.get(subject), 2)} on another, on average"
        if subject == "pretrained" and "random" in mean:
            sentence += f" (random encoders {words.plain(mean['random'], 2)})"
        sentence += f"; always guessing the same gives {words.plain(floor, 2)}." if floor is not None else "."
    known = [v for row in values[subject] for v in row if v is not None]
    alt = "; ".join(f"from {a} to {b} {words.plain(scores.get((subject, a, b)), 2)}" for a in names for b in columns)
    ends = min(floor or 0.0, *known), max(known, default=1.0)
    return {
        "sentence": sentence,
        "picture": figures.heat(names, columns, values[subject], "labels of", "tested on", f"{alt}.", ends),
        "random": values.get("random") if subject == "pretrained" else None,
        "names": names,
        "columns": columns,
    }


def _robust(measured: TaskWorth) -> JsonObject | None:
    """On spoilt recordings: a panel for each change, a line for all modalities and for each alone."""
    by_change: dict[str, dict[str, dict[float, Summary]]] = {}
    clean: Summary | None = None
    for key, score in measured.of("robustness"):
        if key["encoder"] != measured.subject:
            continue
        if key["change"] == "none":
            clean = score
        else:
            by_change.setdefault(key["change"], {}).setdefault(key["of"], {})[key["level"]] = score
    if not by_change:
        return None
    panels: dict[str, list[figures.Line]] = {}
    alt, rows = [], []
    for change, by_name in by_change.items():
        lines = panels[CHANGES[change]] = []
        for of, by_level in by_name.items():
            levels = sorted(by_level.items())
            points = [_point(0.0, clean)] if clean is not None else []
            points += [_point(level, score) for level, score in levels]
            lines.append(figures.Line(of, _style(of, measured), points))
            alt.append(
                f"{change} in {of}: " + ", ".join(f"{level:g} gives {words.plain(score.mean, 2)}" for level, score in levels)
            )
            rows += [{"change": CHANGES[change], "of": of, "level": level, "score": score} for level, score in levels]
    return {
        "sentence": f"Undisturbed: {words.plain(clean.mean, 2)}." if clean is not None else "",
        "picture": figures.lines(panels, next(iter(panels)), measured.name, measured.floor, "; ".join(alt) + "."),
        "rows": rows,
    }


def _style(of: str, measured: TaskWorth) -> str:
    """The colour of a line: of all modalities the encoders' own, of one its place among them."""
    if of == "all":
        return measured.subject
    return figures.MARKED[(1 + list(measured.modalities).index(of)) % len(figures.MARKED)]


def _geometry(table: Mapping[tuple[Any, ...], Summary], modalities: Sequence[str]) -> JsonObject | None:
    """The shape of the space: a table of pairs of modalities and one of each for itself."""
    rows = [(dict(zip(KEYS, key, strict=True)), score) for key, score in table.items() if key[0] == "geometry"]
    if not rows:
        return None
    tables: dict[str, list[JsonObject]] = {"single": [], "pair": []}
    place = {name: i for i, name in enumerate(modalities)}
    for of in sorted(dict.fromkeys(key["of"] for key, _ in rows), key=lambda names: [place.get(name, -1) for name in names]):
        scores = {(key["encoder"], key["metric"]): score for key, score in rows if key["of"] == of}
        tables["single" if len(of) == 1 else "pair"].append({"of": " ~ ".join(of), "scores": scores})
    return {"kinds": _kinds({key["encoder"] for key, _ in rows}), **tables}


def clouds_of(
    maps: Sequence[JsonObject], tasks: Mapping[str, Mapping[str, Any]], encoder: str
) -> list[tuple[str, str, figures.Cloud]]:
    """(method, space, map coloured by the first task) of one kind of encoders."""
    return [
        (one["method"], one["of"], _cloud(one["of"], one, *_classes(one, name, task)))
        for one in map(thinned, maps)
        for name, task in list(tasks.items())[:1]
        if one["encoder"] == encoder
    ]


def _maps(
    maps: Sequence[JsonObject],
    tasks: Mapping[str, Mapping[str, Any]],
    modalities: Sequence[str],
    subject: str,
    group: str,
) -> list[JsonObject]:
    """One picture for each encoder, method and space: the shared one in three colourings, the others in one of each."""
    pictures: list[JsonObject] = []
    keyed: dict[tuple[str, str], list[JsonObject]] = {}
    for one in maps:
        keyed.setdefault((one["encoder"], one["method"]), []).append(one)
    kinds = list(dict.fromkeys(encoder for encoder, _ in keyed))
    order = list(METHODS)
    first = min((method for _, method in keyed), key=order.index, default="")
    place = {name: i for i, name in enumerate(modalities)}
    for kind, method in sorted(keyed, key=lambda k: (k[0] == "random", kinds.index(k[0]), order.index(k[1]))):
        if kind == "random" and subject != "random" and method != first:
            continue  # one look at random encoders is enough; maps.json has the rest
        panels = [
            panel
            for one in sorted(keyed[kind, method], key=lambda one: place.get(one["of"], -1))
            for panel in _panels(thinned(one), tasks, list(modalities), group)
        ]
        if panels:
            name = f"{METHODS[method]}, {kind}"
            alt = (
                f"{METHODS[method]} of {'training' if keyed[kind, method][0].get('side') == 'train' else 'test'} recordings in {len(panels)} panels: {', '.join(p.title for p in panels)}. "
                "Points near each other have like embeddings."
            )
            pictures.append(
                {
                    "title": f"{name} encoders" if kind in ("pretrained", "random") else name,
                    "picture": figures.clouds(panels, alt),
                }
            )
    return pictures


def _panels(one: JsonObject, tasks: Mapping[str, Mapping[str, Any]], modalities: list[str], group: str) -> list[figures.Cloud]:
    """A map, coloured by the first task; the shared one also by modality and by group."""
    space = {"shared": "all modalities, ", "joint": ""}.get(one["of"], f"{one['of']}, ")
    panels = [_cloud(f"{space}by {name}", one, *_classes(one, name, task)) for name, task in list(tasks.items())[:1]]
    if one["of"] != "shared":
        return panels
    groups = sorted(set(one["group"]))
    return [
        _cloud("all modalities, by modality", one, [modalities.index(m) for m in one["modality"]], modalities),
        *panels,
        _cloud(f"all modalities, by {group}", one, [groups.index(g) for g in one["group"]], groups),
    ]


def _cloud(title: str, one: Mapping[str, Any], kind: Sequence[int | None], names: Sequence[str]) -> figures.Cloud:
    return figures.Cloud(title=title, x=one["x"], y=one["y"], kind=kind, names=names)


def thinned(one: JsonObject) -> JsonObject:
    """A map of at most POINTS points, evenly many of each modality."""
    step = -(-len(one["x"]) // POINTS)
    kept = {key: one[key][::step] for key in ("x", "y", "modality", "id", "group")}
    return {**one, **kept, "targets": {name: each[::step] for name, each in one["targets"].items()}}


def _classes(one: Mapping[str, Any], name: str, task: Mapping[str, Any]) -> tuple[list[int | None], list[str]]:
    """What each point is in a task: its class, its first label, or the third in which its value lies."""
    targets = one["targets"].get(name, [])
    if task["type"] == "single-label":
        return list(targets), list(task["classes"])
    if task["type"] == "multi-label":
        return [
            None if t is None else next((i for i, v in enumerate(t) if v is not None and v > 0.5), None) for t in targets
        ], list(task["classes"])
    values = [None if t is None else t[0] if isinstance(t, list) else t for t in targets]
    known = sorted(v for v in values if v is not None)
    if not known:
        return [None] * len(values), []
    low, high = known[len(known) // 3], known[2 * len(known) // 3]
    return [None if v is None else int(v >= low) + int(v >= high) for v in values], [
        f"below {low:.2g}",
        "between",
        f"from {high:.2g}",
    ]
