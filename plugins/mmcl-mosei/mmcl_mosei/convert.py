"""Turns the pickled dictionaries of the field into arrays, without running what a pickle may hold.

    python -m mmcl_mosei.convert FILE.pkl FOLDER

A pickle is a program. This reader allows what builds numpy arrays and plain values, and refuses everything else by name.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mmcl.api import DataError

SPLITS = {"train": "train", "valid": "valid", "dev": "valid", "val": "valid", "test": "test"}
ALLOWED = {
    *((module, name) for module in ("numpy.core.multiarray", "numpy._core.multiarray") for name in ("_reconstruct", "scalar")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    ("builtins", "bytes"),
    ("__builtin__", "bytes"),
    ("builtins", "bytearray"),
}
EMOTIONS_OF = {6: ("happy", "sad", "anger", "surprise", "disgust", "fear")}
"""Order of six label columns where the file does not say it: the SDK's."""


class Restricted(pickle.Unpickler):
    """Allows numpy arrays and plain values."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names in ALLOWED. Raises UnpicklingError for any other."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: Path) -> Any:
    """What a pickle of numpy arrays and plain values holds. Raises DataError for any other, naming what it asks for."""
    try:
        with path.open("rb") as file:
            return Restricted(file, encoding="latin1").load()
    except FileNotFoundError:
        raise DataError(f"{path}: is not there; a pickled dictionary was expected") from None
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: is refused, since {error}; only arrays and plain values are read, for a pickle can run anything"
        ) from error
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a pickle ({type(error).__name__}); it may be cut short") from error


def convert(path: Path, out: Path, emotions: tuple[str, ...] | None = None) -> dict[str, int]:
    """Write index.json and arrays.safetensors; rows by split.

    emotions  names of the label columns, where there are several; left out: the SDK's order for six

    Raises DataError if the pickle is refused or is none of the known forms.
    """
    splits = read_pickle(path)
    if not isinstance(splits, Mapping):
        raise DataError(f"{path}: holds a {type(splits).__name__}; a dictionary of splits was expected")
    arrays: dict[str, NDArray[Any]] = {}
    index: dict[str, Any] = {"format": 1, "from": path.name, "splits": {}}
    for name, part in splits.items():
        split = SPLITS.get(str(name))
        if split is None:
            continue
        rows = _of_list(part, path) if isinstance(part, list) else _of_arrays(part, path)
        index["splits"][split] = _write_split(split, rows, arrays, emotions)
    if not index["splits"]:
        raise DataError(
            f"{path}: has none of the splits {', '.join(SPLITS)}; its keys are {', '.join(map(str, list(splits)[:8]))}"
        )
    ids = [id for one in index["splits"].values() for id in one["ids"]]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise DataError(f"{path}: segment '{twice}' stands there twice")
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, str(out / "arrays.safetensors"))
    (out / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")
    return {split: len(one["ids"]) for split, one in index["splits"].items()}


def _text(value: Any) -> str:
    """An id, whatever it was kept as: text, bytes, or an array whose first entry is it."""
    while isinstance(value, list | tuple | np.ndarray):
        value = value[0] if len(value) else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _of_arrays(part: Any, path: Path) -> dict[str, Any]:
    """MulT's form {text, audio, vision, labels, id} and MMSA's, with regression_labels and lengths."""
    if not isinstance(part, Mapping) or "text" not in part:
        raise DataError(f"{path}: a split must hold 'text', 'audio' and 'vision'; it has {', '.join(map(str, list(part)[:8]))}")
    values = {name: np.asarray(part[name], np.float32) for name in ("text", "audio", "vision") if name in part}
    count = len(values["text"])
    labels = part.get("regression_labels", part.get("labels"))
    labels = np.asarray(labels, np.float64).reshape(count, -1) if labels is not None else np.zeros((count, 0))
    given = part.get("id", part.get("ids"))
    ids = [_text(one) for one in given] if given is not None else [f"row-{i}" for i in range(count)]
    ids = [id if ids.count(id) == 1 else f"{id}#{i}" for i, id in enumerate(ids)] if len(set(ids)) < count else ids
    lengths = {name: np.asarray(part[f"{name}_lengths"]).ravel() for name in values if f"{name}_lengths" in part}
    streams = {
        name: [_trimmed(row, None if name not in lengths else int(lengths[name][i])) for i, row in enumerate(array)]
        for name, array in values.items()
    }
    return {"ids": ids, "labels": labels, "streams": streams}


def _of_list(part: list[Any], path: Path) -> dict[str, Any]:
    """MPUC-MER's form: one dictionary a segment, {uttr_id, text_feat, OpenFace, label}."""
    for one in part:
        if not isinstance(one, Mapping) or "uttr_id" not in one or "text_feat" not in one:
            raise DataError(f"{path}: a segment must have 'uttr_id', 'text_feat' and 'label'")
    streams = {"text": [np.asarray(one["text_feat"], np.float32) for one in part]}
    if part and "OpenFace" in part[0]:
        streams["vision"] = [np.asarray(one["OpenFace"], np.float32) for one in part]
    labels = np.asarray([np.asarray(one["label"], np.float64).ravel() for one in part])
    return {"ids": [_text(one["uttr_id"]) for one in part], "labels": labels, "streams": streams}


def _trimmed(row: NDArray[np.float32], length: int | None) -> NDArray[np.float32]:
    """A row without its padding: its first `length` steps, or without the zeros before and after (readers pad on either side)."""
    if length is not None:
        return row[:length]
    real = np.flatnonzero(np.abs(row).sum(1) > 0)
    return row[real[0] : real[-1] + 1] if len(real) else row[:0]


def _write_split(
    split: str, rows: Mapping[str, Any], arrays: dict[str, NDArray[Any]], emotions: tuple[str, ...] | None
) -> dict[str, Any]:
    labels: NDArray[np.float64] = rows["labels"]
    width = labels.shape[1] if labels.ndim == 2 else 0
    names = emotions if emotions is not None else EMOTIONS_OF.get(width)
    if width == 7:  # sentiment first, as the SDK
        names = emotions or EMOTIONS_OF[6]
    about: dict[str, Any] = {
        "ids": rows["ids"],
        "groups": [_video(id) for id in rows["ids"]],
        "sentiment": labels[:, 0].tolist() if width in (1, 7) else None,
        "emotions": list(names) if names and width > 1 else None,
        "labels": labels[:, width - len(names) :].tolist() if names and width > 1 else None,
        "arrays": {},
    }
    for name, streams in rows["streams"].items():
        lengths = [len(one) for one in streams]
        arrays[f"{split}/{name}"] = np.ascontiguousarray(np.concatenate(streams)) if streams else np.zeros((0, 1), np.float32)
        about["arrays"][name] = {
            "lengths": lengths,
            "offsets": np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int).tolist(),
        }
    return about


def _video(id: str) -> str:
    """The video of a segment id: VIDEO[3], VIDEO$_$3, or VIDEO_3."""
    for sign in ("[", "$_$", "#"):
        if sign in id:
            return id.split(sign)[0]
    head, _, tail = id.rpartition("_")
    return head if head and tail.isdigit() else id


def main(arguments: list[str]) -> int:
    """The command. Exit code 2, with one sentence, for what is the user's to mend."""
    if len(arguments) < 2:
        sys.stderr.write(
            "usage: python -m mmcl_mosei.convert FILE.pkl FOLDER [names of the label columns, comma-separated]" + "\n"
        )
        return 2
    try:
        names = tuple(arguments[2].split(",")) if len(arguments) > 2 else None
        counts = convert(Path(arguments[0]), Path(arguments[1]), names)
    except DataError as error:
        sys.stderr.write(f"mmcl: {error}\n")
        return 2
    sys.stdout.write(f"{arguments[1]}: " + ", ".join(f"{count} segments of {split}" for split, count in counts.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
