"""Turns the pickled dictionaries of the field into arrays, without running what a pickle may hold.

    python -m mmcl_mosei.convert FILE.pkl FOLDER [names of the label columns, comma-separated]
    python -m mmcl_mosei.convert train=A.pkl valid=B.pkl test=C.pkl FOLDER

What is not read, and what is missing, is said and stays in the folder's index, for the data card.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mmcl.api import DataError

from .pickles import read_pickle

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
STREAMS = ("text", "audio", "vision")
EMOTIONS_OF = {6: ("happy", "sad", "anger", "surprise", "disgust", "fear")}
"""Order of six label columns where the file does not say it: the SDK's."""
SPELLINGS = {"happiness": "happy", "sadness": "sad", "angry": "anger"}
NO_VIDEO = "segments whose video is not known: each is a group of its own"
UNREAD = "keys that are not read"

_READ = {*STREAMS, *(f"{name}_lengths" for name in STREAMS), "text_bert", "labels", "regression_labels", "id", "ids"}
_READ_OF_ROW = {"uttr_id", "text_feat", "OpenFace", "label"}


@dataclass
class Part:
    """One split of a pickle."""

    ids: list[str]
    groups: list[str]
    streams: dict[str, list[NDArray[np.float32]]]
    sentiment: list[float] | None = None
    names: tuple[str, ...] = ()
    labels: NDArray[np.float64] | None = None
    unread: set[str] = field(default_factory=set)


def convert(paths: Path | Mapping[str, Path], out: Path, names: tuple[str, ...] | None = None) -> dict[str, int]:
    """Write index.json and arrays.safetensors; rows by split.

    paths  a pickle of all splits, or one for each split
    names  of the label columns; left out: the SDK's order for six, and for seven, of which the first is then sentiment

    Raises DataError if a pickle is refused or is none of the known forms, or a part of it is not understood.
    """
    splits, name, beside = _splits(paths)
    arrays: dict[str, NDArray[Any]] = {}
    remarks: Counter[str] = Counter()
    unread = list(beside)
    index: dict[str, Any] = {"format": 1, "from": name, "splits": {}}
    for split, (where, rows) in splits.items():
        try:
            part = _of_list(rows, where, names) if isinstance(rows, list) else _of_arrays(rows, where, split, names)
            index["splits"][split] = _write_split(split, part, arrays)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise DataError(f"{where}: holds no segments as a form that is known has them ({first})") from error
        own = sum(id == group for id, group in zip(part.ids, part.groups, strict=True))
        alone = own == len(part.ids) == len(set(part.groups))
        remarks[NO_VIDEO] += own if alone else 0
        remarks["segments without labels"] += len(part.ids) if part.labels is None and part.sentiment is None else 0
        remarks["streams without a step"] += sum(not len(one) for stream in part.streams.values() for one in stream)
        unread += [f"{split}/{key}" for key in part.unread]
    index["unread"] = sorted(unread)
    index["remarks"] = {text: count for text, count in remarks.items() if count}
    counted = Counter(id for one in index["splits"].values() for id in one["ids"])
    if twice := [id for id, count in counted.items() if count > 1]:
        raise DataError(f"{name}: segment '{twice[0]}' stands there twice")
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, str(out / "arrays.safetensors"))
    (out / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")
    return {split: len(one["ids"]) for split, one in index["splits"].items()}


Splits = dict[str, tuple[str, Any]]
"""Split → where its rows stand, for messages, and the rows."""


def _splits(paths: Path | Mapping[str, Path]) -> tuple[Splits, str, list[str]]:
    """The splits in our names, in the order of the file; the name of what they come from; keys that stand beside them."""
    if isinstance(paths, Mapping):
        given = {key: (str(path), _only(read_pickle(path), path)) for key, path in paths.items()}
        where = ", ".join(path.name for path in paths.values())
    else:
        loaded, where = read_pickle(paths), paths.name
        if isinstance(loaded, list):
            raise DataError(
                f"{paths}: holds one list of segments and does not say of which split; give the file of each: train=A.pkl valid=B.pkl test=C.pkl"
            )
        if not isinstance(loaded, Mapping):
            raise DataError(f"{paths}: holds a {type(loaded).__name__}; a dictionary of splits was expected")
        given = {str(key): (f"{paths}: {key}", part) for key, part in loaded.items()}
    splits: Splits = {}
    from_name: dict[str, str] = {}
    beside = []
    for key, (place, part) in given.items():
        split = SPLITS.get(key.strip().lower())
        if split is None:
            if _is_split(part):
                raise DataError(f"{place}: '{key}' holds segments and is no split that is known; {', '.join(SPLITS)} are")
            beside.append(key)
            continue
        if split in splits:
            raise DataError(f"{place}: '{from_name[split]}' and '{key}' are both of {split}; one of them was expected")
        splits[split], from_name[split] = (place, part), key
    if not splits:
        raise DataError(f"{where}: has none of the splits {', '.join(SPLITS)}; its keys are {', '.join(list(given)[:8])}")
    return splits, where, beside


def _only(loaded: Any, path: Path) -> Any:
    """The rows of a file of one split."""
    if isinstance(loaded, Mapping) and not _is_split(loaded) and len(loaded) == 1:
        return next(iter(loaded.values()))
    if not isinstance(loaded, list | Mapping):
        raise DataError(f"{path}: holds a {type(loaded).__name__}; the segments of a split were expected")
    return loaded


def _is_split(part: Any) -> bool:
    if isinstance(part, Mapping):
        return bool({"text", "audio", "vision"} & set(map(str, part)))
    return isinstance(part, list) and bool(part) and isinstance(part[0], Mapping)


def _text(value: Any) -> str:
    """An id, whatever it was kept as: text, bytes, or an array whose first entry is it."""
    for _ in range(8):  # a list in a pickle may hold itself
        if isinstance(value, list | tuple | np.ndarray):
            value = value[0] if len(value) else ""
    if isinstance(value, list | tuple | dict):
        raise DataError(f"an id is text or a number; a {type(value).__name__} was given")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _of_arrays(part: Any, where: str, split: str, names: tuple[str, ...] | None) -> Part:
    """MulT's form {text, audio, vision, labels, id} and MMSA's, with regression_labels and lengths."""
    if not isinstance(part, Mapping) or not set(STREAMS) & set(part):
        has = ", ".join(map(str, list(part)[:8])) if isinstance(part, Mapping | list) else type(part).__name__
        raise DataError(f"{where}: a split must hold 'text', 'audio' and 'vision'; it has {has}")
    values = {name: _rows(part[name], name, where) for name in STREAMS if name in part}
    first = next(iter(values))
    count = len(values[first])
    for key in sorted(_READ & set(map(str, part)) - {first}):
        if part[key] is not None and len(part[key]) != count:
            raise DataError(f"{where}: has {count} segments of {first} and {len(part[key])} of {key}")
    ids, groups = _named(part.get("id", part.get("ids")), split, count)
    lengths = {name: np.asarray(part[f"{name}_lengths"]).ravel().astype(int) for name in values if f"{name}_lengths" in part}
    if "text_bert" in part and "text" in values and "text_lengths" not in part:
        masks = np.asarray(part["text_bert"])
        if masks.ndim == 3 and masks.shape[1] == 3:  # token ids, mask, segment ids
            lengths["text"] = masks[:, 1].sum(1).astype(int)
    streams = {
        name: [row[: lengths[name][i]] if name in lengths else row for i, row in enumerate(rows)]
        for name, rows in values.items()
    }
    streams = _without_padding(streams, given=set(lengths))
    columns, sentiment = _label_columns(part, count, names, where)
    unread = {str(key) for key in part if str(key) not in _READ}
    return Part(ids, groups, streams, sentiment, columns[0], columns[1], unread)


def _rows(values: Any, name: str, where: str) -> list[NDArray[np.float32]]:
    """One array [steps, features] a segment, whether they are padded to one length or not."""
    try:
        rows = [np.asarray(row, np.float32) for row in values]
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: {name} is no array of numbers a segment ({error})") from error
    wrong = next((i for i, row in enumerate(rows) if row.ndim != 2), None)
    if wrong is not None:
        raise DataError(
            f"{where}: {name} of segment {wrong} has the shape {list(rows[wrong].shape)}; steps and features were expected"
        )
    return rows


def _named(given: Any, split: str, count: int) -> tuple[list[str], list[str]]:
    """Ids and videos of the segments: of their own, or by split and number where there are none."""
    if given is None:
        ids = [f"{split}/row-{i}" for i in range(count)]
        return ids, list(ids)
    ids = [_text(one) for one in given]
    counted = Counter(ids)
    if len(counted) == count:
        return ids, [video_of(id) for id in ids]
    # As MulT has them: the video alone, with its start and end beside it. The rows of a video are then told apart by their number.
    return [id if counted[id] == 1 else f"{id}#{i}" for i, id in enumerate(ids)], ids


def _without_padding(streams: dict[str, list[NDArray[np.float32]]], given: set[str]) -> dict[str, list[NDArray[np.float32]]]:
    """Rows without the zeros before and after them (files pad on either side), where no lengths are given.

    Streams of one length in every segment are aligned step by step, so they are cut alike: a step that is zero in one of them stays.
    """
    left = {name: rows for name, rows in streams.items() if name not in given}
    aligned = not given and all(len({len(row) for row in rows}) == 1 for rows in zip(*left.values(), strict=True))
    if aligned:
        spans = [_span(rows) for rows in zip(*left.values(), strict=True)]
        return {name: [row[span] for row, span in zip(rows, spans, strict=True)] for name, rows in left.items()}
    return streams | {name: [row[_span([row])] for row in rows] for name, rows in left.items()}


def _span(rows: Sequence[NDArray[np.float32]]) -> slice:
    """From the first to the last step at which any of the streams is not zero."""
    real = np.flatnonzero(np.stack([(row != 0).any(1) for row in rows]).any(0))
    return slice(int(real[0]), int(real[-1]) + 1) if len(real) else slice(0, 0)


Columns = tuple[tuple[str, ...], "NDArray[np.float64] | None"]


def _label_columns(
    part: Mapping[str, Any], count: int, names: tuple[str, ...] | None, where: str
) -> tuple[Columns, list[float] | None]:
    """Named columns of labels, and sentiment."""
    sentiment: list[float] | None = None
    if (given := part.get("regression_labels")) is not None:
        values = np.asarray(given, np.float64).reshape(count, -1)
        if values.shape[1] != 1:
            raise DataError(f"{where}: regression_labels has {values.shape[1]} numbers a segment; one was expected")
        sentiment = values[:, 0].tolist()
    if (given := part.get("labels")) is None:
        return ((), None), sentiment
    try:
        labels = np.asarray(given, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: labels are no numbers of one shape a segment ({error})") from error
    return _columns(labels, names, sentiment, where)


def _columns(
    labels: NDArray[np.float64], names: tuple[str, ...] | None, sentiment: list[float] | None, where: str
) -> tuple[Columns, list[float] | None]:
    """Label columns by name; the column of sentiment apart. Pairs (no, yes) become the greater one's number."""
    count, shape = len(labels), list(labels.shape[1:])
    if len(shape) == 2 and shape[1] == 2 and names is not None and len(names) == shape[0]:
        labels = labels.argmax(2).astype(np.float64)
    labels = labels.reshape(count, -1)
    width = labels.shape[1]
    if names is None and len([n for n in shape if n > 1]) <= 1:
        names = {1: ("sentiment",), 6: EMOTIONS_OF[6], 7: ("sentiment", *EMOTIONS_OF[6])}.get(width)
    elif names is not None and len(names) == width - 1 and "sentiment" not in names:
        names = ("sentiment", *names)  # sentiment first, as the SDK has it
    if names is None or len(names) != width:
        raise DataError(
            f"{where}: labels of the shape {shape} a segment, {width} columns, are not understood; name the columns as the third argument, "
            f"as in happy,sad,anger,surprise,disgust,fear ('sentiment' may be one){'' if names is None else f'; {len(names)} names were given'}"
        )
    names = tuple(SPELLINGS.get(name.strip().lower(), name.strip().lower()) for name in names)
    if "sentiment" in names:
        place = names.index("sentiment")
        sentiment = labels[:, place].tolist() if sentiment is None else sentiment
        labels, names = np.delete(labels, place, axis=1), tuple(name for name in names if name != "sentiment")
    return ((names, labels) if names else ((), None)), sentiment


def _of_list(part: list[Any], where: str, names: tuple[str, ...] | None) -> Part:
    """MPUC-MER's form: one dictionary a segment, {uttr_id, text_feat, OpenFace, label}."""
    for one in part:
        if not isinstance(one, Mapping) or not {"uttr_id", "text_feat", "label"} <= set(one):
            raise DataError(f"{where}: a segment must have 'uttr_id', 'text_feat' and 'label'")
    streams = {"text": _rows([one["text_feat"] for one in part], "text_feat", where)}
    with_face = [i for i, one in enumerate(part) if "OpenFace" in one]
    if with_face:
        width = np.asarray(part[with_face[0]]["OpenFace"]).shape[-1]
        faces = [one.get("OpenFace", np.zeros((0, width), np.float32)) for one in part]
        streams["vision"] = _rows(faces, "OpenFace", where)
    labels = np.asarray([np.asarray(one["label"], np.float64).ravel() for one in part])
    (columns, values), sentiment = _columns(labels, names, None, where)
    ids = [_text(one["uttr_id"]) for one in part]
    unread = {str(key) for one in part for key in one} - _READ_OF_ROW
    return Part(ids, [video_of(id) for id in ids], streams, sentiment, columns, values, unread)


def _write_split(split: str, part: Part, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    about: dict[str, Any] = {
        "ids": part.ids,
        "groups": part.groups,
        "sentiment": part.sentiment,
        "emotions": list(part.names) or None,
        "labels": None if part.labels is None else part.labels.tolist(),
        "arrays": {},
    }
    for name, streams in part.streams.items():
        lengths = [len(one) for one in streams]
        arrays[f"{split}/{name}"] = np.ascontiguousarray(np.concatenate(streams)) if streams else np.zeros((0, 1), np.float32)
        about["arrays"][name] = {
            "lengths": lengths,
            "offsets": np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int).tolist(),
        }
    return about


def video_of(id: str) -> str:
    """The video of a segment's id: VIDEO[3], VIDEO$_$3, VIDEO_3, VIDEO/0003, and any of them behind a folder."""
    end = max(id.rfind("/"), id.rfind("\\")) + 1
    before, name = id[:end], id[end:]
    name = re.sub(r"\.(mp4|avi|mkv|wav|npy|pkl)$", "", name)
    if before and name.isdigit():
        return before[:-1]
    for sign in ("[", "$_$", "#"):
        if sign in name:
            return before + name.split(sign)[0]
    head, _, tail = name.rpartition("_")
    return before + (head if head and tail.isdigit() else name)


def main(arguments: list[str]) -> int:
    """The command. Exit code 2, with one sentence, for what is the user's to mend."""
    of_split = dict(one.split("=", 1) for one in arguments if "=" in one and not Path(one).exists())
    plain = [one for one in arguments if one.split("=", 1)[0] not in of_split]
    if len(plain) < (1 if of_split else 2):
        sys.stderr.write(
            "usage: python -m mmcl_mosei.convert FILE.pkl FOLDER [names of the label columns, comma-separated]\n"
            "       python -m mmcl_mosei.convert train=A.pkl valid=B.pkl test=C.pkl FOLDER [names]\n"
        )
        return 2
    source = {split: Path(path) for split, path in of_split.items()} if of_split else Path(plain.pop(0))
    out, names = Path(plain[0]), tuple(plain[1].split(",")) if len(plain) > 1 else None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of files that a terminal cannot show end nothing
    try:
        counts = convert(source, out, names)
    except (DataError, OSError) as error:
        sys.stderr.write(f"mmcl: {error}\n")
        return 2
    index = json.loads((out / "index.json").read_text(encoding="utf-8"))
    sys.stdout.write(f"{out}: " + ", ".join(f"{count} segments of {split}" for split, count in counts.items()) + "\n")
    for text, count in index["remarks"].items():
        sys.stdout.write(f"  {count} {text}\n")
    if index["unread"]:
        sys.stdout.write(f"  {UNREAD}: {', '.join(index['unread'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
