"""Lists the sequences of REACT-Nao, cut into pieces, and reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, SampleRef, Table
from mmcl.api import Sequence as Steps
from mmcl.media import read_text, require_folder

from . import CONDITIONS, GAZE_POSE, GENDERS, GET, RATE, UNITS, ReactParams
from .arrays import Ragged

EXPECTED = "sequences.csv, and landmarks.npz, action_units.npz, gaze_pose.npz (any of the three)"
FILES = {
    "landmarks": ("landmarks.npz", (68, 2), ()),
    "action-units": ("action_units.npz", (len(UNITS),), UNITS),
    "gaze-pose": ("gaze_pose.npz", (len(GAZE_POSE),), GAZE_POSE),
}
"""Source → its file, the shape of a frame, and the names of its columns."""


@dataclass(frozen=True)
class Piece:
    """Frames `start` to `stop` of one sequence."""

    sequence: str
    start: int
    stop: int


class React:
    """The sequences below one folder, or the pieces of them that the options ask for."""

    def __init__(self, params: ReactParams, root: Path | None) -> None:
        self.params, self._root = params, root
        self._samples: tuple[SampleRef, ...] | None = None
        self._pieces: dict[str, Piece] = {}
        self._arrays: dict[str, Ragged] = {}

    def samples(self) -> Sequence[SampleRef]:
        """Every piece, in the order of sequences.csv and of time."""
        if self._samples is None:
            root = require_folder(self._root, EXPECTED, GET, holds=("sequences.csv",))
            self._arrays = {
                source: Ragged(root / name, step, columns)
                for source, (name, step, columns) in FILES.items()
                if (root / name).exists()
            }
            if not self._arrays:
                raise DataError(f"{root}: has no .npz file of a source; expected: {EXPECTED}. {GET}")
            rows = read_rows(root / "sequences.csv")
            self._samples = tuple(sample for row in rows for sample in self._cut(root, row))
            if not self._samples:
                raise DataError(f"{root}: no sequence is {self.params.seconds:g} s long; set seconds to less")
        return self._samples

    def read(self, id: str, source: str) -> Raw:
        """Points [T, 68, 2], or a table of 35 action units or 14 columns of gaze and pose, at 10 frames a second."""
        self.samples()
        piece = self._pieces.get(id)
        if piece is None or source not in self._arrays or piece.sequence not in self._arrays[source].spans:
            raise DataError(f"{self._root}: recording '{id}' {'is not there' if piece is None else f'has no {source}'}")
        values = self._arrays[source].read(piece.sequence, piece.start, piece.stop)
        columns = FILES[source][2]
        return Table(values, columns, RATE) if columns else Steps(values, RATE)

    def _cut(self, root: Path, row: Mapping[str, str]) -> Iterator[SampleRef]:
        """The pieces of one sequence."""
        name, frames = row["id"], int(row["n_frames"])
        sources = {source: FILES[source][0] for source, array in self._arrays.items() if name in array.spans}
        for source, file in sources.items():
            if (length := self._arrays[source].length(name)) != frames:
                raise DataError(f"{root / file}: '{name}' has {length} frames; sequences.csv says {frames}")
        seen = None
        if "action-units" in sources:
            seen = self._arrays["action-units"].read(name, 0, frames)[
                :, [UNITS.index(f"{u}_c") for u in dict.fromkeys(self.params.units)]
            ]
        known = known_of(root / "sequences.csv", row)
        facts = facts_of(row)
        for k, (start, stop) in enumerate(pieces(frames, self.params)):
            targets: dict[str, int | float | list[int] | list[float]] = {**known}
            if seen is not None:
                targets["units"] = self._present(seen[start:stop])
                if self.params.seconds is not None and 2 * stop - start <= frames:
                    targets["units-next"] = self._present(seen[stop : 2 * stop - start])
            id = name if self.params.seconds is None else f"{name}#{k}"
            self._pieces[id] = Piece(name, start, stop)
            yield SampleRef(id, row["participant"], sources, targets, row["split"] or None, {**facts, "piece": k})

    def _present(self, seen: NDArray[np.float32]) -> list[int]:
        """1 for each unit that is seen in enough of the frames."""
        return [int(share >= self.params.present) for share in seen.mean(axis=0, dtype=np.float64)]


def pieces(frames: int, params: ReactParams) -> list[tuple[int, int]]:
    """First and last frame (not included) of every piece of a sequence."""
    if params.seconds is None:
        return [(0, frames)]
    length = round(params.seconds * RATE)
    hop = length if params.hop is None else round(params.hop * RATE)
    return [(start, start + length) for start in range(0, frames - length + 1, hop)]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of sequences.csv. Raises DataError if it lacks a column, or a row says what cannot be."""
    try:
        with io.StringIO(read_text(path), newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: a CSV file in UTF-8 was expected, and it is not text") from error
    needed = ("id", "participant", "game", "n_frames", "condition", "gender", "split")
    lacking = [name for name in needed if not rows or name not in rows[0]]
    if lacking:
        raise DataError(
            f"{path}: {'has no rows' if not rows else f'lacks the column {lacking[0]}'}; a row a sequence was expected"
        )
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise DataError(f"{path}: line {number} has not as many cells as the header")
        if not row["n_frames"].isdigit() or not row["participant"] or row["split"] not in ("train", "valid", ""):
            raise DataError(
                f"{path}: line {number}: a participant, a number of frames and the split train or valid were expected"
            )
        if row["id"] in seen:
            raise DataError(f"{path}: line {number}: sequence '{row['id']}' is listed twice")
        seen.add(row["id"])
    return rows


def known_of(path: Path, row: Mapping[str, str]) -> dict[str, int]:
    """What the table says of a person; what it leaves empty is left out."""
    known = {}
    for task, classes, label in (
        ("gender", GENDERS, row["gender"].lower()),
        ("condition", CONDITIONS, row["condition"].upper()),
    ):
        if label and label not in classes:
            raise DataError(
                f"{path}: sequence '{row['id']}' has the {task} '{label}'; {', '.join(classes)} or nothing was expected"
            )
        if label:
            known[task] = classes.index(label)
    return known


def facts_of(row: Mapping[str, str]) -> dict[str, str | int | float]:
    """What a report may colour by."""
    facts: dict[str, str | int | float] = {"game": row["game"]}
    facts |= {name: row[name] for name in ("framing", "timing") if row.get(name)}
    if row.get("age", "").isdigit():
        facts["age"] = int(row["age"])
    return facts
