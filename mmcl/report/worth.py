"""The report's section on what the representation is worth: few labels, missing modalities, transfer, spoilt recordings, geometry, maps.

Reads what the stage `worth` wrote, and the tables that heads trained with labels have to show.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..evaluate.metrics import HEADLINE
from ..evaluate.statistics import Summary, bounds_of, summarise
from ..runs import JsonObject, RunFolder, read_json, read_jsonl
from . import figures, words

CHANGES = {
    "noise": "noise, in deviations of a channel",
    "loss": "share of the steps that are lost",
    "late": "seconds by which streams begin late",
}
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
KEYS = ("what", "task", "encoder", "head", "input", "share", "left", "from", "to", "change", "level", "of", "metric")
"""What a row of worth.jsonl is of; the rest says where it was measured."""
POINTS = 600
"""Points that one picture of a map shows; maps.json has all."""
FREE = {"uniformity": (-float("inf"), 0.0), "effective_rank": (0.0, float("inf")), "alignment": (0.0, 4.0), "gap": (0.0, 2.0)}


def read_worth(run: RunFolder, asked: Sequence[tuple[int, int]]) -> tuple[list[JsonObject], list[JsonObject]]:
    """Rows of all folds and seeds that the plan asks for, and the maps."""
    rows: list[JsonObject] = []
    maps: list[JsonObject] = []
    for fold, seed, folder in run.units("worth"):
        if (fold, seed) in asked:
            rows += read_jsonl(folder / "worth.jsonl")
            if (folder / "maps.json").exists():
                maps = read_json(folder / "maps.json")["maps"]
    return rows, maps


def read_shown(run: RunFolder, asked: Sequence[tuple[int, int]]) -> list[JsonObject]:
    """Tables that heads have to show, of the first fold and seed: title, rows, columns, values, whose."""
    found: list[JsonObject] = []
    for fold, seed, folder in run.units("supervise"):
        if (fold, seed) in asked:
            for path in sorted((folder / "models").glob("*.json")):
                about = read_json(path)
                found += [
                    {**table, "of": f"{about['task']}, {about['input']}, {about['head']}"} for table in about.get("shown", ())
                ]
            break
    return found


def summaries(rows: Iterable[Mapping[str, Any]]) -> list[JsonObject]:
    """Every result over folds, seeds and draws, for report.json."""
    return [
        {
            **dict(zip(KEYS, _plain(key), strict=True)),
            "mean": said.mean,
            "sd": said.sd,
            "low": said.low,
            "high": said.high,
            "units": said.units,
        }
        for key, said in _table(rows).items()
    ]


def _plain(key: tuple[Any, ...]) -> list[Any]:
    return [list(part) if isinstance(part, tuple) else part for part in key]


def _table(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Summary]:
    grouped: dict[tuple[Any, ...], dict[tuple[int, int, int], float | None]] = {}
    for row in rows:
        key = tuple(tuple(v) if isinstance(v := row.get(name), list) else v for name in KEYS)
        grouped.setdefault(key, {})[row["fold"], row["seed"], row.get("draw", 0)] = row["value"]
    return {key: summarise(each, FREE.get(key[-1], bounds_of(str(key[-1])))) for key, each in grouped.items()}


def section(
    rows: Sequence[JsonObject],
    maps: Sequence[JsonObject],
    shown: Sequence[JsonObject],
    tasks: Mapping[str, Mapping[str, Any]],
    modalities: Sequence[str],
    subject: str,
    whole: Mapping[tuple[str, str], Summary],
    floors: Mapping[str, float | None],
    group: str,
) -> JsonObject | None:
    """What the template shows; None where there is nothing.

    whole   (task, encoder) → the main head's score with all labels
    floors  task → what the majority class reaches
    """
    if not rows and not maps and not shown:
        return None
    table = {key: said for key, said in _table(rows).items() if said.mean is not None}
    found: JsonObject = {
        "tasks": [],
        "geometry": _geometry(table, modalities),
        "maps": _maps(maps, tasks, modalities, subject, group),
    }
    found["shown"] = [
        {
            "title": one["title"],
            "of": one["of"],
            "picture": figures.heat(
                one["rows"],
                one["columns"],
                one["values"],
                "",
                "",
                f"{one['title']} ({one['of']}): {_cells(one)}.",
                _ends(one["values"]),
            ),
        }
        for one in shown
    ]
    for name, task in tasks.items():
        metric = HEADLINE[task["type"]]
        mine = [
            (dict(zip(KEYS, key, strict=True)), said) for key, said in table.items() if key[1] == name and key[-1] == metric
        ]
        one = {
            "name": name,
            "metric": words.metric(metric),
            "few": _few(mine, rows, name, metric, subject, whole, floors.get(name), group),
            "missing": _missing(mine, subject, metric, modalities, floors.get(name)),
            "transfer": _transfer(mine, subject, metric, modalities, floors.get(name)),
            "robust": _robust(mine, subject, metric, modalities, floors.get(name)),
        }
        if any(one[key] for key in ("few", "missing", "transfer", "robust")):
            found["tasks"].append(one)
    return found


Rows = Sequence[tuple[Mapping[str, Any], Summary]]


def _point(x: float, said: Summary) -> tuple[float, float, float | None, float | None]:
    return x, said.mean or 0.0, said.low, said.high


def few_shot_of(rows: Sequence[JsonObject], task: str, metric: str, encoder: str) -> dict[float, Summary]:
    """Share of the labels → the score of one kind of encoders."""
    found = {}
    for key, said in _table(row for row in rows if row["what"] == "few-shot").items():
        one = dict(zip(KEYS, key, strict=True))
        if (one["task"], one["metric"], one["encoder"]) == (task, metric, encoder) and said.mean is not None:
            found[float(one["share"])] = said
    return dict(sorted(found.items()))


def clouds_of(
    maps: Sequence[JsonObject], tasks: Mapping[str, Mapping[str, Any]], encoder: str
) -> list[tuple[str, str, figures.Cloud]]:
    """(method, space, map coloured by the first task) of one kind of encoders."""
    found = []
    for one in maps:
        for name, task in list(tasks.items())[:1]:
            if one["encoder"] == encoder:
                thin = thinned(one)
                each, names = _classes(thin, name, task)
                found.append((one["method"], one["of"], figures.Cloud(one["of"], thin["x"], thin["y"], each, names)))
    return found


def _few(
    mine: Rows,
    rows: Sequence[JsonObject],
    task: str,
    metric: str,
    subject: str,
    whole: Mapping[tuple[str, str], Summary],
    floor: float | None,
    group: str,
) -> JsonObject | None:
    by_kind: dict[str, dict[float, Summary]] = {}
    for key, said in mine:
        if key["what"] == "few-shot":
            by_kind.setdefault(key["encoder"], {})[key["share"]] = said
    if subject not in by_kind:
        return None
    for kind, each in by_kind.items():
        if (task, kind) in whole and whole[task, kind].mean is not None:
            each[1.0] = whole[task, kind]
    kinds = [kind for kind in ("pretrained", "random") if kind in by_kind]
    drawn = [figures.Line(kind, kind, [_point(x, said) for x, said in sorted(by_kind[kind].items())]) for kind in kinds]
    counts: dict[float, list[tuple[int, int]]] = {}
    for row in rows:
        if row["what"] == "few-shot" and row["task"] == task and row["encoder"] == subject and row["metric"] == metric:
            counts.setdefault(row["share"], []).append((row["labels"], row["groups"]))
    labels = {share: tuple(round(sum(part) / len(part)) for part in zip(*each, strict=True)) for share, each in counts.items()}
    lines = [
        f"with {100 * share:g}% of the labels "
        + " and ".join(
            f"{kind} encoders {words.plain(by_kind[kind][share].mean, 2)}" for kind in kinds if share in by_kind[kind]
        )
        for share in sorted(by_kind[subject])
    ]
    middle = sorted(labels)[len(labels) // 2]
    n, people = labels[middle]
    sentence = f"With {100 * middle:g}% of the labels ({words.many(n, 'recording')} of {words.many(people, group)}), {subject} encoders reach {words.plain(by_kind[subject][middle].mean, 2)}"
    if subject == "pretrained" and middle in by_kind.get("random", {}):
        sentence += f", random ones {words.plain(by_kind['random'][middle].mean, 2)}"
    enough = [
        share
        for share in sorted(labels)
        if len(kinds) > 1
        and 1.0 in by_kind["random"]
        and (by_kind[subject][share].mean or 0) >= (by_kind["random"][1.0].mean or 0)
    ]
    if enough and subject == "pretrained":
        sentence += f". On average, pretrained encoders with {100 * enough[0]:g}% of the labels are where random ones are with all of them"
    return {
        "said": sentence + ".",
        "picture": figures.lines(
            {"": drawn},
            "share of the labels",
            words.metric(metric),
            floor,
            f"{words.metric(metric)} of {task} by share of labels: {'; '.join(lines)}.",
            shares=True,
        ),
        "kinds": kinds,
        "over": _over(by_kind[subject][middle]),
        "rows": [
            {"share": share, "labels": labels.get(share), "said": {kind: by_kind[kind].get(share) for kind in kinds}}
            for share in sorted(by_kind[subject])
        ],
    }


def _over(said: Summary) -> str:
    """What a few-label interval is over; "" where there is none."""
    if said.low is None:
        return ""
    what = {"head seeds": "draws of the labels"}.get(said.over, said.over)
    return f"{said.units} {what}" + ("" if said.over == "folds" else ", test set fixed")


def _missing(mine: Rows, subject: str, metric: str, modalities: Sequence[str], floor: float | None) -> JsonObject | None:
    by_kind: dict[str, dict[tuple[str, ...], Summary]] = {}
    for key, said in mine:
        if key["what"] == "missing":
            by_kind.setdefault(key["encoder"], {})[key["left"]] = said
    if subject not in by_kind:
        return None
    kinds = [kind for kind in ("pretrained", "random") if kind in by_kind]
    counts = sorted({len(left) for left in by_kind[subject]})

    def mean(kind: str, count: int) -> float:
        each = [said.mean or 0.0 for left, said in by_kind[kind].items() if len(left) == count]
        return sum(each) / len(each)

    drawn = [figures.Line(kind, kind, [(float(n), mean(kind, n), None, None) for n in counts]) for kind in kinds]
    full = max(counts)
    dropped = {
        next(iter(set(modalities) - set(left)), ""): (by_kind[subject][tuple(modalities)].mean or 0.0) - (said.mean or 0.0)
        for left, said in by_kind[subject].items()
        if len(left) == full - 1 and tuple(modalities) in by_kind[subject]
    }
    worst = max(dropped, key=lambda name: dropped[name]) if dropped else None
    sentence = ""
    if worst:
        sentence = "The head was fitted on all of them. "
        if dropped[worst] > 0:
            sentence += f"On average it loses most without {worst}: {words.plain(dropped[worst], 2)}. "
        sentence += f"Left with one modality it keeps {words.plain(mean(subject, min(counts)), 2)} on average."
    lines = [
        f"{words.many(n, 'modality')} left: " + ", ".join(f"{kind} {words.plain(mean(kind, n), 2)}" for kind in kinds)
        for n in counts
    ]
    return {
        "said": sentence,
        "picture": figures.lines(
            {"": drawn}, "modalities left at test, mean over all sets", words.metric(metric), floor, "; ".join(lines) + "."
        ),
        "kinds": kinds,
        "rows": [{"left": left, "said": {kind: by_kind[kind].get(left) for kind in kinds}} for left in by_kind[subject]],
    }


def _transfer(mine: Rows, subject: str, metric: str, modalities: Sequence[str], floor: float | None) -> JsonObject | None:
    found = {(key["encoder"], key["from"], key["to"]): said for key, said in mine if key["what"] == "transfer"}
    names = [name for name in modalities if any(key[1] == name for key in found)]
    if not names or not any(key[0] == subject for key in found):
        return None
    values: dict[str, list[list[float | None]]] = {}
    kinds = [kind for kind in ("pretrained", "random") if any(key[0] == kind for key in found)]
    for kind in kinds:
        values[kind] = [[found[kind, a, b].mean if (kind, a, b) in found else None for b in modalities] for a in names]
    across = {
        kind: [
            v
            for a, row in zip(names, values[kind], strict=True)
            for b, v in zip(modalities, row, strict=True)
            if a != b and v is not None
        ]
        for kind in kinds
    }
    mean = {kind: sum(each) / len(each) for kind, each in across.items() if each}
    sentence = ""
    if mean:
        sentence = f"A head that has seen labels of one modality only reaches {words.plain(mean.get(subject), 2)} on another, on average"
        if subject == "pretrained" and "random" in mean:
            sentence += f" (random encoders {words.plain(mean['random'], 2)})"
        sentence += f"; always guessing the same gives {words.plain(floor, 2)}." if floor is not None else "."
    top = max((v for row in values[subject] for v in row if v is not None), default=1.0)
    low = min(floor or 0.0, *(v for row in values[subject] for v in row if v is not None))
    return {
        "said": sentence,
        "picture": figures.heat(
            names,
            list(modalities),
            values[subject],
            "labels of",
            "tested on",
            _alt_transfer(names, modalities, values[subject]),
            (low, top),
        ),
        "random": values.get("random") if subject == "pretrained" else None,
        "names": names,
        "columns": list(modalities),
    }


def _alt_transfer(names: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]]) -> str:
    return (
        "; ".join(
            f"from {a} to {b} {words.plain(v, 2)}"
            for a, row in zip(names, values, strict=True)
            for b, v in zip(columns, row, strict=True)
        )
        + "."
    )


def _robust(mine: Rows, subject: str, metric: str, modalities: Sequence[str], floor: float | None) -> JsonObject | None:
    found: dict[str, dict[str, dict[float, Summary]]] = {}
    clean: Summary | None = None
    for key, said in mine:
        if key["what"] != "robustness" or key["encoder"] != subject:
            continue
        if key["change"] == "none":
            clean = said
        else:
            found.setdefault(key["change"], {}).setdefault(key["of"], {})[key["level"]] = said
    if not found:
        return None
    panels: dict[str, list[figures.Line]] = {}
    told, rows = [], []
    for change, by_name in found.items():
        lines = []
        for of, levels in by_name.items():
            points = ([_point(0.0, clean)] if clean is not None else []) + [
                _point(level, said) for level, said in sorted(levels.items())
            ]
            style = subject if of == "all" else figures.MARKED[(1 + list(modalities).index(of)) % len(figures.MARKED)]
            lines.append(figures.Line(of, style, points))
            told.append(
                f"{change} in {of}: "
                + ", ".join(f"{level:g} gives {words.plain(said.mean, 2)}" for level, said in sorted(levels.items()))
            )
            rows += [
                {"change": CHANGES[change], "of": of, "level": level, "said": said} for level, said in sorted(levels.items())
            ]
        panels[CHANGES[change]] = lines
    return {
        "said": f"Undisturbed: {words.plain(clean.mean, 2)}." if clean is not None else "",
        "picture": figures.lines(panels, next(iter(panels)), words.metric(metric), floor, "; ".join(told) + "."),
        "rows": rows,
    }


def _geometry(table: Mapping[tuple[Any, ...], Summary], modalities: Sequence[str]) -> JsonObject | None:
    rows = [(dict(zip(KEYS, key, strict=True)), said) for key, said in table.items() if key[0] == "geometry"]
    if not rows:
        return None
    kinds = [kind for kind in ("pretrained", "random") if any(key["encoder"] == kind for key, _ in rows)]
    found: dict[str, list[JsonObject]] = {"single": [], "pair": []}
    place = {name: i for i, name in enumerate(modalities)}
    for of in sorted(dict.fromkeys(key["of"] for key, _ in rows), key=lambda names: [place.get(name, -1) for name in names]):
        said = {(key["encoder"], key["metric"]): one for key, one in rows if key["of"] == of}
        found["single" if len(of) == 1 else "pair"].append({"of": " ~ ".join(of), "said": said})
    return {"kinds": kinds, **found}


def _maps(
    maps: Sequence[JsonObject], tasks: Mapping[str, Mapping[str, Any]], modalities: Sequence[str], subject: str, group: str
) -> list[JsonObject]:
    """One picture for each encoder, method and space: the shared one in three colourings, the others in one of each."""
    found: list[JsonObject] = []
    keyed: dict[tuple[str, str], list[JsonObject]] = {}
    for one in maps:
        keyed.setdefault((one["encoder"], one["method"]), []).append(one)
    order = {"tsne": 0, "umap": 1, "pca": 2}
    kinds = list(dict.fromkeys(encoder for encoder, _ in keyed))
    first = min((method for _, method in keyed), key=lambda m: order[m], default="")
    for kind, method in sorted(keyed, key=lambda k: (k[0] == "random", kinds.index(k[0]), order[k[1]])):
        if kind == "random" and subject != "random" and method != first:
            continue  # one look at random encoders is enough; maps.json has the rest
        panels: list[figures.Cloud] = []
        for one in sorted(
            keyed[kind, method], key=lambda one: -1 if one["of"] not in modalities else list(modalities).index(one["of"])
        ):
            one = thinned(one)
            classed = [(name, *_classes(one, name, task)) for name, task in tasks.items()]
            if one["of"] == "shared":
                panels.append(
                    figures.Cloud(
                        "all modalities, by modality",
                        one["x"],
                        one["y"],
                        [list(modalities).index(m) for m in one["modality"]],
                        list(modalities),
                    )
                )
                for name, each, names in classed[:1]:
                    panels.append(figures.Cloud(f"all modalities, by {name}", one["x"], one["y"], each, names))
                groups = sorted(set(one["group"]))
                panels.append(
                    figures.Cloud(
                        f"all modalities, by {group}", one["x"], one["y"], [groups.index(g) for g in one["group"]], groups
                    )
                )
                continue
            for name, each, names in classed[:1]:
                panels.append(
                    figures.Cloud(
                        f"{one['of']}, by {name}" if one["of"] != "joint" else f"by {name}", one["x"], one["y"], each, names
                    )
                )
        if panels:
            found.append(
                {
                    "title": f"{METHODS[method]}, {kind} encoders"
                    if kind in ("pretrained", "random")
                    else f"{METHODS[method]}, {kind}",
                    "picture": figures.clouds(
                        panels,
                        f"{METHODS[method]} of test recordings in {len(panels)} panels: {', '.join(p.title for p in panels)}. Points near each other have like embeddings.",
                    ),
                }
            )
    return found


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


def _ends(values: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    each = [v for v in itertools.chain.from_iterable(values) if v is not None]
    return min(each, default=0.0), max(each, default=1.0)


def _cells(one: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{a} and {b} {words.plain(v, 2)}"
        for a, row in zip(one["rows"], one["values"], strict=True)
        for b, v in zip(one["columns"], row, strict=True)
    )
