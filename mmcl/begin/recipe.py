"""A recipe for a table: features and networks by the type of each source, every line with its reason."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.dataset import DatasetInfo
from ..api.errors import MmclError, StageError
from ..api.raw import Source
from ..plugins import Plugins, plugins
from ..recipe.planner import make_plan
from ..recipe.read import as_yaml, parse_recipe
from ..review.recordings import described


@dataclass(frozen=True)
class Choice:
    """Features and a network that suit a type of source, and why.

    of  what was searched for in the source's files, where the choice is for that alone: faces, landmarks
    """

    type: str
    features: Mapping[str, Any]
    backbone: Mapping[str, Any]
    reason: str
    of: str | None = None


CHOICES = (
    Choice(
        "audio",
        {"use": "log-mel", "bands": 64, "window": 0.04, "hop": 0.02},
        {"use": "tcn", "channels": [64, 64, 128], "readout": "mean+std"},
        "50 spectra a second (window and hop in seconds), convolutions over time",
    ),
    Choice(
        "video",
        {"use": "face-clip", "size": [48, 48], "grey": True, "rate": 8},
        {"use": "frame-cnn", "channels": [8, 16, 32]},
        "the main face upright, 8 grey pictures a second of 48 × 48 pixels; frames without it are no steps",
        of="faces",
    ),
    Choice(
        "table",
        {"use": "face-landmarks"},
        {"use": "st-gcn", "channels": [16, 32]},
        "68 points of the main face, their graph known; their weights are for research alone (iBUG 300-W)",
        of="landmarks",
    ),
    Choice(
        "video",
        {"use": "frames", "size": [48, 64], "grey": True, "rate": 8},
        {"use": "frame-cnn", "channels": [8, 16, 32]},
        "8 grey pictures a second of 48 × 64 pixels, light enough for two cores",
    ),
    Choice(
        "words",
        {"use": "hashed-words", "dim": 64},
        {"use": "transformer", "layers": 1, "heads": 4, "width": 64, "feedforward": 128},
        "a fixed vector a word, no download; glove or hf-text know what words mean",
    ),
    Choice(
        "table",
        {"use": "action-units"},
        {"use": "mlp"},
        "OpenFace's action units; face-landmarks and landmarks-motion read its points",
    ),
    Choice("table", {"use": "signals"}, {"use": "tcn", "channels": [32, 64]}, "the columns as they are, at their own rate"),
    Choice("sequence", {"use": "signals"}, {"use": "tcn", "channels": [32, 64]}, "channels as they are, at their own rate"),
    Choice(
        "sequence", {"use": "face-landmarks"}, {"use": "st-gcn", "channels": [16, 32]}, "68 points of a face, their graph known"
    ),
    Choice(
        "sequence",
        {"use": "skeleton", "centre": "none", "turn": False, "scale": "none"},
        {"use": "resnet-1d"},
        "points as they are: which are hip and shoulders is not known",
    ),
    Choice("still", {"use": "vectors"}, {"use": "mlp"}, "numbers that hold for the whole recording, as they are"),
)
"""Tried in this order; the first that fits the source is taken."""

_OFFER = "mmcl new-recipe {} --faces follows the main face and its 68 points (pip install 'mmcl[faces]'; for research alone)"

_PROBE = [
    ("probe:", "what the frozen features are worth"),
    ("  heads: {linear: {use: linear}}", "one layer, its penalty chosen on training groups"),
]

BOOKKEEPING = ("frame", "face_id", "timestamp", "time", "confidence", "success")
"""Columns of a table that count or vouch, and measure nothing."""


def recipe_of(table: Path, faces: bool = False, out: Path | None = None) -> tuple[str, list[str]]:
    """A runnable recipe for a table, as text, and what had to be left out of it.

    out    where it will be written, for the commands that it names; left out: a file of the folder's name
    faces  whether the main face is looked for in films: its pictures take the place of the films', and its 68 points stand beside

    Raises DataError if the table is wrong; StageError if nothing fits any of its sources.
    """
    if table.is_dir():
        raise StageError(f"{table}: is a folder; name the table in it, such as {table / 'recordings.csv'}")
    root, file = table.parent, shlex.quote(str(out or f"{_name(table)}.yaml"))
    spec, options = described(root, table=table.name)
    films = [name for name, source in spec.info(options).sources.items() if source.type == "video"]
    if faces:
        options = _with_faces(table, spec, options, films)
    info: DatasetInfo = spec.info(options)
    known, notes = plugins(), []
    modalities: dict[str, tuple[Choice, Mapping[str, Any]]] = {}
    for name, source in info.sources.items():
        fitting = _fitting(source, known)
        if fitting is None:
            notes.append(
                f"source '{name}' ({source.type}) is left out: no features of those that come with mmcl fit it as it is"
            )
        else:
            modalities[name] = fitting
    if not modalities:
        raise StageError(f"{table}: no features fit any of its sources; " + "; ".join(notes))
    if not info.tasks:
        notes.append(
            f"{table}: no column is a label (numbers, or a few words that come again and again), so the recipe predicts nothing: what is "
            "learned can be embedded and searched; fill in a column such as `emotion` for more"
        )
    groups = {sample.group for sample in spec.build(options, root).samples()}
    text = _text(table, file, spec.name, options, info, modalities, faces) + _line(*_protocol(info, len(groups)))
    make_plan(parse_recipe(text, "the recipe"))  # it is right, or this is our bug
    return text, notes


def _with_faces(table: Path, spec: Any, options: Any, films: list[str]) -> Any:
    """The options with sources of faces and landmarks in place of each of the films."""
    if not films:
        raise StageError(
            f"{table}: names no films and no folders of pictures to look for faces in; leave --faces out, or name films in the table"
        )
    sources: dict[str, Any] = {}
    for name, one in options.sources.items():
        given = one.model_dump()
        if name not in films:
            sources[name] = given
            continue
        rate = given.get("rate")
        for reads in ("faces", "landmarks"):
            asked = {"column": given["column"], "reads": reads, **({"rate": rate} if rate else {})}
            sources[reads if len(films) == 1 else f"{name}-{reads}"] = asked
    whole = spec.params.model_validate({**options.model_dump(), "sources": sources})
    return spec.complete(whole, table.parent)


def _fitting(source: Source, known: Plugins) -> tuple[Choice, Mapping[str, Any]] | None:
    """The first choice that fits a source, and its features with the columns to take."""
    for choice in (one for one in CHOICES if one.type == source.type and one.of in (None, source.notes.get("of"))):
        features = dict(choice.features)
        if choice.type == "table" and features["use"] == "signals":
            columns = [str(name) for name in source.notes.get("columns", ())]
            features["columns"] = [name for name in columns if name.lower() not in BOOKKEEPING] or columns
        try:
            spec = known.get("modality", features["use"]).spec
            given = {key: tuple(value) if isinstance(value, list) else value for key, value in features.items() if key != "use"}
            layout = spec.layout(spec.params.model_validate(given), source)
            backbone = (
                {"use": "tcn", "channels": [32, 64]} if features["use"] == "action-units" and layout.timed else choice.backbone
            )
            network = known.get("backbone", str(backbone["use"])).spec
            own = {key: tuple(value) if isinstance(value, list) else value for key, value in backbone.items() if key != "use"}
            if tuple(layout.axes) not in network.accepts:
                continue
            network.fits(network.params.model_validate(own), layout)
        except (ValueError, MmclError):
            continue
        return Choice(choice.type, features, backbone, choice.reason), features
    return None


def _text(
    table: Path,
    file: str,
    use: str,
    options: Any,
    info: DatasetInfo,
    modalities: Mapping[str, tuple[Choice, Mapping[str, Any]]],
    faces: bool,
) -> str:
    """The recipe with a reason behind every line."""
    name = _name(table)
    group = (f"  group: {_yaml(options.group)}", "never on both sides of a split")
    films = [name for name, source in info.sources.items() if source.type == "video"]
    unknown = ("", "group: speaker; no column says who is in them, so one person may stand on both sides of a split")
    lines = [
        ("", f"Written for {table}; everything in it may be changed. First:"),
        ("", f"  mmcl check {file}, then mmcl run {file} --limit 20, a dry run on a few recordings"),
        *(
            []
            if faces or not films
            else [("", f"Films of people who look into the camera? {_OFFER.format(shlex.quote(str(table)))}")]
        ),
        ("format: 1", ""),
        (f"name: {name}", f"of the run folder, runs/{name}"),
        ("seed: 0", "[0, 1, 2] repeats everything, and says how much chance is in a score"),
        ("dataset:", ""),
        (f"  use: {use}", ""),
        (f"  root: {_yaml(table.parent.as_posix())}", "from the current folder, or from --data DIR"),
        (f"  table: {_yaml(table.name)}", ""),
        group if options.group else unknown,
        *([("  labels:", "what is predicted, classes in this order")] if options.labels else []),
        *((f"    {_yaml(label)}: {_yaml(_stated(one))}", "") for label, one in options.labels.items()),
    ]
    if faces:  # the others are found again from the table, these are not
        lines += [
            ("  sources:", "all that are used; faces and landmarks are searched for, once"),
            *((f"    {_yaml(name)}: {_yaml(_source_stated(one))}", "") for name, one in options.sources.items()),
        ]
    lines.append(("modalities:", "names of your choice"))
    for source, (choice, features) in modalities.items():
        lines += [
            (f"  {source if source not in ('all', 'none') else f'{source}-of-it'}:", choice.reason),
            (f"    source: {_yaml(source)}", ""),
            (f"    features: {_yaml(dict(features))}", ""),
            (f"    backbone: {_yaml(dict(choice.backbone))}", ""),
        ]
    lines += _learning(len(modalities), bool(info.tasks))
    return "".join(_line(code, comment) for code, comment in lines)


def _protocol(info: DatasetInfo, groups: int) -> tuple[str, str]:
    """Who is tested, and why so."""
    if {"train", "test"} <= set(info.official):
        return "protocol: official", "the table's own splits"
    if groups >= 6:
        return "protocol: {use: k-fold, k: 5}", f"each {info.group} is tested once; a column `split` would fix who"
    if groups >= 3:
        return "protocol: leave-one-group-out", f"each {info.group} is tested once; few of them say little"
    return "protocol: {use: k-fold, k: 5, by: sample}", f"too few to keep each {info.group} apart: says nothing of new ones"


def _learning(modalities: int, labels: bool) -> list[tuple[str, str]]:
    """What is learned, and how it is judged."""
    pairs = [("  objective: {pairs: all}", "every two modalities of a recording belong together")]
    if modalities == 1:
        pairs = [
            ("  objective: {pairs: same}", "one modality: two windows of a recording belong together"),
            ("  views: 2", "windows cut of each recording"),
        ]
    return [
        ("window: {seconds: 2.0}", "the same seconds, at random, of every modality; shorter recordings are taken whole"),
        ("projection: {hidden: 256, width: 64}", "between network and loss, thrown away afterwards"),
        ("pretrain:", "without labels"),
        *pairs,
        ("  optimizer: {use: adamw, lr: 1e-3}", "learning rate"),
        ("  schedule: {use: cosine, warmup: 1}", "epochs in which the rate rises"),
        ("  batch_size: 32", "recordings; each has the others as negatives"),
        ("  epochs: 20", "times that every recording is seen"),
        *(_PROBE if labels else []),
    ]


def _line(code: str, comment: str) -> str:
    """A line of the recipe, its comment in the column of the others."""
    return f"# {comment}\n" if not code else f"{code:<37} # {comment}\n" if comment else f"{code}\n"


def _name(table: Path) -> str:
    """The name of the run: that of the folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", table.resolve().parent.name).strip("-_") or "study"


def _yaml(value: Any) -> str:
    return as_yaml(value, flow=True).strip()


def _source_stated(source: Any) -> dict[str, Any]:
    """What a recipe must say of a source: the rest is read from the table again."""
    kept = ("column", "reads", "rate") if source.reads in ("faces", "landmarks") else ("column", "reads")
    return {key: value for key, value in source.model_dump(mode="json").items() if key in kept and value is not None}


def _stated(label: Any) -> dict[str, Any]:
    """What is known of a label."""
    return {key: value for key, value in label.model_dump(mode="json").items() if value is not None}
