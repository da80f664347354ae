"""Lists the takes of FACEGOOD, cut into pieces, and reads the same seconds of voice and face."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Audio, DataError, Raw, SampleRef
from mmcl.api import Sequence as Steps
from mmcl.media import read_text, require_folder

from . import BLENDSHAPES, FACE_RATE, GET, MOVING, VOICE_RATE, FacegoodParams

EXPECTED = "takes.csv, and voice_pcm16k.npz, face_blendshapes.npz (either of the two)"
FILES = {"voice": "voice_pcm16k.npz", "face": "face_blendshapes.npz"}


@dataclass(frozen=True)
class Take:
    """One take by the table: how long its voice is, and how many frames of the face go with it at which measured rate."""

    id: str
    seconds: float
    frames: int
    rate: float


@dataclass(frozen=True)
class Piece:
    """So many seconds of a take, from `start` on."""

    take: Take
    start: float
    seconds: float


class Facegood:
    """The takes below one folder, or the pieces of them that the options ask for."""

    def __init__(self, params: FacegoodParams, root: Path | None) -> None:
        self.params, self._root = params, root
        self._samples: tuple[SampleRef, ...] | None = None
        self._pieces: dict[str, Piece] = {}
        self._arrays: dict[str, dict[str, NDArray[Any]]] = {}

    def samples(self) -> Sequence[SampleRef]:
        """Every piece, in the order of takes.csv and of time."""
        if self._samples is None:
            root = require_folder(self._root, EXPECTED, GET, holds=("takes.csv",))
            sources = {source: file for source, file in FILES.items() if (root / file).exists()}
            if not sources:
                raise DataError(f"{root}: has neither {' nor '.join(FILES.values())}; expected: {EXPECTED}. {GET}")
            takes = read_takes(root / "takes.csv")
            samples = []
            for number, take in enumerate(takes):
                for k, (start, seconds) in enumerate(pieces(take, self.params)):
                    placed = side(take, number, len(takes), start, seconds, self.params)
                    if placed is None:
                        continue
                    id = take.id if self.params.seconds is None else f"{take.id}#{k}"
                    self._pieces[id] = Piece(take, start, seconds)
                    group, split = placed
                    samples.append(SampleRef(id, group, sources, {}, split, {"take": take.id, "second": round(start, 3)}))
            if not samples:
                raise DataError(f"{root}: no take is {self.params.seconds:g} s long; set seconds to less")
            self._samples = tuple(samples)
        return self._samples

    def read(self, id: str, source: str) -> Raw:
        """Voice at 16 kHz, or blendshapes [T, 25 or 116] at 30 frames a second, of one piece."""
        self.samples()
        piece = self._pieces.get(id)
        path = require_folder(self._root, EXPECTED, GET) / FILES.get(source, source)
        if piece is None or source not in FILES:
            raise DataError(f"{self._root}: recording '{id}' {'is not there' if piece is None else f'has no {source}'}")
        if source not in self._arrays:
            self._arrays[source] = read_voices(path) if source == "voice" else read_faces(path, self.params)
        if (whole := self._arrays[source].get(piece.take.id)) is None:
            raise DataError(f"{path}: has no take '{piece.take.id}'; it has {', '.join(self._arrays[source])}")
        if source == "voice":
            first, count, rate = round(piece.start * VOICE_RATE), round(piece.seconds * VOICE_RATE), float(VOICE_RATE)
        else:  # where it begins, by the take's own clock: over two minutes 29.994 frames a second are 20 ms
            first, count, rate = round(piece.start * piece.take.rate), round(piece.seconds * FACE_RATE), FACE_RATE
        cut = whole[first : first + count]
        if self.params.seconds is not None and len(cut) < count:
            raise DataError(
                f"{path}: take '{piece.take.id}' ends {count - len(cut)} steps before its piece {id}; takes.csv says more"
            )
        if source == "voice":
            return Audio(np.asarray(cut / 32768, np.float32), VOICE_RATE)
        return Steps(np.ascontiguousarray(cut, np.float32), rate)


def pieces(take: Take, params: FacegoodParams) -> list[tuple[float, float]]:
    """Where each piece of a take begins, and how long it is, in seconds."""
    length = min(take.seconds, take.frames / take.rate)
    if params.seconds is None:
        return [(0.0, length)]
    hop = params.seconds if params.hop is None else params.hop
    room = length - params.seconds - 1 / FACE_RATE  # a frame less, as beginnings are rounded to frames
    return [(k * hop, params.seconds) for k in range(int(room / hop + 1e-9) + 1)] if room >= 0 else []


def side(take: Take, number: int, takes: int, start: float, seconds: float, params: FacegoodParams) -> tuple[str, str] | None:
    """Group and official split of a piece; None where it lies in a gap between two splits."""
    if number == takes - 1:
        return take.id, "test"
    if params.valid == "take" or params.seconds is None:
        return take.id, "valid" if number == takes - 2 else "train"
    border = 0.8 * take.seconds
    if start >= border:
        return f"{take.id}-end", "valid"
    return (take.id, "train") if start + 2 * seconds <= border else None


def read_takes(path: Path) -> list[Take]:
    """The rows of takes.csv. Raises DataError if it lacks a column, or a row says what cannot be."""
    try:
        with io.StringIO(read_text(path), newline="") as file:
            rows = list(csv.DictReader(file))
        takes = [Take(row["id"], float(row["duration_s"]), int(row["n_face"]), float(row["face_fps"])) for row in rows]
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: a CSV file with the columns id, duration_s, n_face and face_fps was expected ({error})"
        ) from error
    good = all(t.id and t.seconds > 0 and t.frames > 0 and abs(t.rate / FACE_RATE - 1) < 0.01 for t in takes)
    if not takes or not good or len({t.id for t in takes}) < len(takes):
        raise DataError(f"{path}: different takes of some length, with about {FACE_RATE:g} frames a second, were expected")
    return takes


def read_voices(path: Path) -> dict[str, NDArray[Any]]:
    """Samples int16 of each take."""
    return _split(path, _arrays(path, ("x", "offsets", "ids")), np.dtype(np.int16), ())


def read_faces(path: Path, params: FacegoodParams) -> dict[str, NDArray[Any]]:
    """The blendshapes that the options ask for, of each take."""
    arrays = _arrays(path, ("x", "offsets", "ids", "names"))
    if tuple(str(name) for name in arrays["names"]) != BLENDSHAPES:
        raise DataError(f"{path}: its blendshapes are not FACEGOOD's {len(BLENDSHAPES)} ('{BLENDSHAPES[0]}', …) in their order")
    faces = _split(path, arrays, np.dtype(np.float16), (len(BLENDSHAPES),))
    if params.blendshapes == "all":
        return faces
    return {id: face[:, [BLENDSHAPES.index(name) for name in MOVING]] for id, face in faces.items()}


def _arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: an .npz with {', '.join(names)} was expected, whole ({type(error).__name__})") from error


def _split(path: Path, arrays: dict[str, NDArray[Any]], kind: np.dtype[Any], step: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """The takes of an array in which they stand end to end."""
    values, offsets = arrays["x"], arrays["offsets"]
    if values.dtype != kind or values.shape[1:] != step or len(offsets) != len(arrays["ids"]) + 1 or offsets[-1] != len(values):
        shape = ", ".join(["steps", *map(str, step)])
        raise DataError(
            f"{path}: 'x' is {values.dtype} {list(values.shape)}; {kind} [{shape}] up to the last offset was expected"
        )
    if kind.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"{path}: step {int(np.argwhere(~np.isfinite(values))[0][0])} is NaN or infinite; finite numbers were expected"
        )
    return {str(id): values[a:b] for id, a, b in zip(arrays["ids"], offsets[:-1], offsets[1:], strict=True)}
