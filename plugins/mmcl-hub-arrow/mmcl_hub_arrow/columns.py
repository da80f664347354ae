"""What the options leave open and the folder says: which columns are sources, labels, groups and splits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from mmcl.api import DataError
from mmcl.media import IDS, PEOPLE, SPLIT_WORDS

from . import HubArrowParams, LabelOptions, SourceOptions
from .shards import Folder, Part

TEXTS = ("text", "sentence", "transcript", "transcription", "utterance", "words")
NATURAL = {"sound": "sound", "image": "pictures", "images": "pictures", "text": "words"}
"""Kind of column → how it is read unless the recipe says otherwise."""
FITTING: Mapping[str, tuple[str, ...]] = {
    "sound": ("sound", "samples", "numbers"),
    "pictures": ("image", "images"),
    "words": ("text",),
    "sequence": ("numbers",),
    "still": ("numbers", "number", "whole"),
}
"""How a source is read → the kinds of column that can be read so."""


def kind_of(feature: Any) -> str:
    """What a column holds, in one of our words; "" for what is read by nothing here."""
    name, dtype = type(feature).__name__, str(getattr(feature, "dtype", ""))
    if name in ("Audio", "Image", "ClassLabel"):
        return {"Audio": "sound", "Image": "image", "ClassLabel": "class"}[name]
    if name == "Value":
        if dtype in ("string", "large_string", "string_view"):
            return "text"
        return (
            "number" if dtype.startswith(("float", "double")) else "whole" if dtype.startswith(("int", "uint", "bool")) else ""
        )
    if name.startswith("Array") and dtype:
        return "numbers"
    if isinstance(feature, dict):
        return "samples" if {"array", "sampling_rate"} <= set(feature) else ""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    within = kind_of(inner) if inner is not None else ""
    return {
        "image": "images",
        "class": "classes",
        "text": "texts",
        "number": "numbers",
        "whole": "numbers",
        "numbers": "numbers",
    }.get(within, "")


def require_column(folder: Folder, column: str, option: str) -> str:
    """What a column holds. Raises DataError if it is not there."""
    if column not in folder.features:
        close = difflib.get_close_matches(column, folder.features, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise DataError(f"{folder.root}: has no column '{column}' ({option}){hint}; it has {', '.join(folder.features)}")
    return kind_of(folder.features[column])


def completed(params: HubArrowParams, folder: Folder) -> HubArrowParams:
    """The options with everything filled in that the folder says. Raises DataError for what does not fit it."""
    update: dict[str, Any] = {"group": _role(folder, params.group, PEOPLE, "group"), "id": _role(folder, params.id, (), "id")}
    if params.id is None and (ids := _role(folder, None, IDS, "id")) is not None and _names_rows(folder, ids):
        update["id"] = ids
    splits: Iterable[str | None] = [part.split for part in folder.parts]
    if params.split is not None:
        _require(folder, params.split, "dataset.split", ("text", "class"))
        splits = {split_of(folder, params.split, cell) for cell in set(folder.cells(params.split))}
    else:
        update["parts"] = {part.name: part.split for part in folder.parts if part.split is not None} or None
    update["splits"] = tuple(name for name in ("train", "valid", "test") if name in set(splits))
    sources, labels = _sources(params, folder), _labels(params, folder)
    return params.model_copy(update={**update, "sources": sources, "labels": labels})


def split_of(folder: Folder, column: str, cell: Any) -> str | None:
    """The split that a cell says; None where it is empty. Raises DataError for a word that says none."""
    feature = folder.features[column]
    word = feature.names[cell] if kind_of(feature) == "class" and cell is not None and cell >= 0 else cell
    if word in (None, "", -1):
        return None
    if str(word).lower() not in SPLIT_WORDS:
        raise DataError(f"{folder.root}: '{word}' in column '{column}' is no split; splits are train, valid and test")
    return SPLIT_WORDS[str(word).lower()]


def _require(folder: Folder, column: str, option: str, kinds: Sequence[str]) -> str:
    kind = require_column(folder, column, option)
    if kind not in kinds:
        raise DataError(f"{folder.root}: the column '{column}' is {folder.features[column]!r:.200}, which {option} cannot be")
    return kind


def _role(folder: Folder, given: str | None, usual: Sequence[str], option: str) -> str | None:
    """The column that plays a part: the one given, or the first of its usual names that is one of words or whole numbers."""
    fitting = ("text", "class", "whole")
    if given is not None:
        _require(folder, given, f"dataset.{option}", fitting)
        return given
    return next((name for name in usual if name in folder.features and kind_of(folder.features[name]) in fitting), None)


def _names_rows(folder: Folder, column: str) -> bool:
    """Whether a column names each row, and no two alike."""
    cells = list(folder.cells(column))
    return not any(cell in (None, "") for cell in cells) and len(set(cells)) == len(cells)


# -------------------------------------------------------------------------------------------------------------- sources


def _sources(params: HubArrowParams, folder: Folder) -> dict[str, SourceOptions]:
    given = params.sources
    if given is None:
        kinds = {name: kind_of(feature) for name, feature in folder.features.items()}
        names = [name for name, kind in kinds.items() if kind in ("sound", "samples", "image", "images")]
        names += [name for name in TEXTS if kinds.get(name) == "text"][:1]
        given = {name: SourceOptions() for name in names}
    if not given:
        raise DataError(
            f"{folder.root}: none of its columns is Audio, Image or text; name what is read (dataset.sources): {', '.join(folder.features)}"
        )
    return {name: _source(name, one, folder) for name, one in given.items()}


def _source(name: str, one: SourceOptions, folder: Folder) -> SourceOptions:
    """One source with its options filled in."""
    column, option = one.column or name, f"dataset.sources.{name}"
    kind = require_column(folder, column, option)
    reads = one.reads or {**NATURAL, "samples": "sound"}.get(kind) or ("sequence" if one.rate and kind == "numbers" else None)
    if reads is None and kind in ("numbers", "number", "whole"):
        reads = "still" if kind != "numbers" else None
        if reads is None:
            raise DataError(
                f"{folder.root}: the column '{column}' holds numbers; {option} needs their rate (steps a second), or reads: still if they have no clock"
            )
    if reads is None or kind not in FITTING[reads]:
        what = f"read as {reads}" if reads else "a source"
        raise DataError(
            f"{folder.root}: the column '{column}' is {folder.features[column]!r:.200}, which cannot be {what} ({option})"
        )
    if one.rate is None and (reads == "sequence" or (reads == "sound" and kind == "numbers")):
        raise DataError(f"{folder.root}: numbers do not say how many there are a second; {option}.rate must")
    update: dict[str, Any] = {"reads": reads}
    if reads in ("sequence", "still") and one.shape is None:
        update["shape"] = _first_shape(folder, column, reads)
    return one.model_copy(update=update)


def _first_shape(folder: Folder, column: str, reads: str) -> tuple[int, ...]:
    """The shape of the first row that has the column."""
    for part in folder.parts:
        for row in range(len(part)):
            shard, at = part.at(row)
            if shard.column(column)[at].is_valid:
                values = numbers_of(folder, part, row, column)
                if values.size:
                    return (values.shape or (1,)) if reads == "still" else (values.shape[1:] or (1,))
    raise DataError(f"{folder.root}: the column '{column}' is empty in every row; numbers were expected")


def numbers_of(folder: Folder, part: Part, row: int, column: str) -> NDArray[Any]:
    """The numbers of a cell as an array, which may hold none. Raises DataError if they are none, or of unequal lengths."""
    shard, at = part.at(row)
    try:
        values = shard.numbers(column, at)
    except ValueError as error:
        raise DataError(
            f"{folder.place(part, row, column)}: is no array of numbers; steps of one shape were expected"
        ) from error
    if values.size and values.dtype.kind not in "fiub":
        raise DataError(f"{folder.place(part, row, column)}: is no array of numbers; steps of one shape were expected")
    return values


# --------------------------------------------------------------------------------------------------------------- labels


def _labels(params: HubArrowParams, folder: Folder) -> dict[str, LabelOptions]:
    given = params.labels
    if given is None:
        roles = {params.group, params.split, params.id}
        usual = _role(folder, params.group, PEOPLE, "group")
        names = [name for name, feature in folder.features.items() if kind_of(feature) in ("class", "classes")]
        given = {name: LabelOptions() for name in names if name not in {*roles, usual}}
    return {name: _label(name, one, folder) for name, one in given.items()}


def _label(name: str, one: LabelOptions, folder: Folder) -> LabelOptions:
    """One label with its options filled in."""
    option = f"dataset.labels.{name}"
    if one.columns is not None:
        for column in one.columns:
            _require(folder, column, option, ("number", "whole"))
        if one.type not in (None, "regression") or one.column is not None or one.classes is not None:
            raise DataError(f"{folder.root}: {option} takes several columns for regression alone")
        return one.model_copy(update={"type": "regression"})
    column = one.column or name
    kind = _require(folder, column, option, ("class", "classes", "text", "texts", "number", "whole"))
    natural = {
        "class": "single-label",
        "text": "single-label",
        "classes": "multi-label",
        "texts": "multi-label",
        "number": "regression",
    }
    if one.type is None and kind == "whole":
        raise DataError(
            f"{folder.root}: the column '{column}' holds whole numbers; {option}.type says whether they are classes (single-label) or amounts (regression)"
        )
    kinds = {"single-label": ("class", "text", "whole"), "multi-label": ("classes", "texts"), "regression": ("number", "whole")}
    type_ = one.type or natural[kind]
    if kind not in kinds[type_]:
        raise DataError(
            f"{folder.root}: the column '{column}' is {folder.features[column]!r:.200}, which is not {type_} ({option})"
        )
    if type_ == "regression":
        return one.model_copy(update={"type": type_})
    classes = one.classes or _classes(folder, column, kind)
    if len(classes) < 2:
        raise DataError(f"{folder.root}: the column '{column}' holds fewer than two classes; {option} needs two")
    return one.model_copy(update={"type": type_, "classes": classes})


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names of a ClassLabel, or of a list of these."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return tuple(map(str, names)) if names else None


def _classes(folder: Folder, column: str, kind: str) -> tuple[str, ...]:
    """The classes of a column, of a ClassLabel in its order, else sorted."""
    if (names := class_names(folder.features[column])) is not None:
        return names
    cells: set[Any] = set()
    for cell in folder.cells(column):
        cells.update(cell or () if kind == "texts" else (cell,))
    return tuple(str(cell) for cell in sorted(cell for cell in cells if cell not in (None, "")))
