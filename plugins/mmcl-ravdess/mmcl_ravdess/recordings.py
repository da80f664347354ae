"""Finds RAVDESS's takes by the names of their files, and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcl.api import DataError, Raw, SampleRef, Table
from mmcl.media import read_audio, read_table, require_folder

from . import AVERAGED_COLUMNS, EMOTIONS, FRAME_COLUMNS, FRAME_RATE, GET, RavdessParams, classes_of

EXPECTED = "Actor_01/03-01-01-01-01-01-01.wav … Actor_24/03-01-08-02-02-02-24.wav and, for the face, any folder of 01-….csv"
NAMING = (
    "names are MM-VV-EE-II-SS-RR-AA: modality 01–03, channel 01–02, emotion 01–08, intensity, statement and repetition 01–02, "
    "actor 01–24"
)
_NAME = re.compile(r"(0[123])-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4]))")
_NAME_LIKE = re.compile(r"\d\d(-\d\d){6}")
_FOLDER = re.compile(r"Actor_(\d\d)")


@dataclass(frozen=True)
class Take:
    """One take of one actor. All files of a take share the fields after the first, which are its id."""

    id: str
    modality: str  # 01 audio and video, 02 video, 03 audio
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: str
    actor: str

    @classmethod
    def from_name(cls, stem: str) -> Take | None:
        """The take that a file's name tells of; None if that is no name of RAVDESS's."""
        found = _NAME.fullmatch(stem)
        if found is None:
            return None
        modality, id, *fields = found.groups()
        return cls(id, modality, *fields)


class Ravdess:
    """The recordings below one folder. Only wav files of modality 03 count as audio: 01 and 02 are the same takes again."""

    def __init__(self, params: RavdessParams, root: Path | None) -> None:
        self.params, self._root = params, root
        self._samples: tuple[SampleRef, ...] | None = None
        self._by_id: dict[str, SampleRef] = {}

    def samples(self) -> Sequence[SampleRef]:
        """Every take that has a wav or a CSV, ordered by actor and name."""
        if self._samples is None:
            root = require_folder(self._root, EXPECTED, GET)
            wanted = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}[self.params.channel]
            takes: dict[str, Take] = {}
            sources: dict[str, dict[str, str]] = {}
            searched = {"audio": _wavs(root)}
            if self.params.visual == "auto":
                searched["openface"] = _csvs(root)
            for source, found in searched.items():
                for path, take in found:
                    if take.channel not in wanted:
                        continue
                    takes[take.id] = take
                    files = sources.setdefault(take.id, {})
                    if source in files:
                        raise DataError(f"{path}: {root / files[source]} is the same take; leave one of the two")
                    files[source] = path.relative_to(root).as_posix()
            if not takes:
                what = "speech or song" if self.params.channel == "both" else self.params.channel
                raise DataError(f"{root}: has no recording of {what}; expected: {EXPECTED}. {GET}")
            in_order = sorted(takes.values(), key=lambda take: (take.actor, take.id))
            self._samples = tuple(self._sample(take, sources[take.id]) for take in in_order)
            self._by_id = {sample.id: sample for sample in self._samples}
        return self._samples

    def read(self, id: str, source: str) -> Raw:
        """The voice, or the OpenFace columns that `info` promises, in its order."""
        self.samples()
        root = require_folder(self._root, EXPECTED, GET)
        sample = self._by_id.get(id)
        if sample is None or source not in sample.sources:
            raise DataError(f"{root}: recording '{id}' {'is not there' if sample is None else f'has no {source}'}")
        path = root / sample.sources[source]
        if source == "audio":
            return read_audio(path)
        return self._table(path)

    def _sample(self, take: Take, sources: dict[str, str]) -> SampleRef:
        emotion = EMOTIONS[int(take.emotion) - 1]
        if self.params.merge_calm and emotion == "calm":
            emotion = "neutral"
        return SampleRef(
            id=take.id,
            group=f"actor-{take.actor}",
            sources=sources,
            targets={"emotion": classes_of(self.params).index(emotion)},
            facts={
                "channel": {"01": "speech", "02": "song"}[take.channel],
                "intensity": {"01": "normal", "02": "strong"}[take.intensity],
                "statement": {"01": "kids", "02": "dogs"}[take.statement],
                "repetition": int(take.repetition),
                "sex": "male" if int(take.actor) % 2 else "female",
            },
        )

    def _table(self, path: Path) -> Table:
        """A CSV cut down to the promised columns, found by name: releases of OpenFace order and pad them differently."""
        table = read_table(path)
        rows, averaged = len(table.values), self.params.openface == "averaged"
        if averaged and rows > 1:
            raise DataError(f"{path}: has {rows} rows, not the one that `openface: averaged` means; set `openface: frames`")
        if not averaged and rows == 1:
            raise DataError(
                f"{path}: has one row, not the one per frame that `openface: frames` means; set `openface: averaged`"
            )
        wanted = AVERAGED_COLUMNS if averaged else FRAME_COLUMNS
        place = {name: i for i, name in enumerate(table.columns)}
        missing = [name for name in wanted if name not in place]
        if missing:
            raise DataError(
                f"{path}: lacks {len(missing)} of the {len(wanted)} columns that `openface: {self.params.openface}` means, "
                f"the first being '{missing[0]}'"
            )
        if not averaged and table.rate is not None and abs(table.rate / FRAME_RATE - 1) > 0.02:
            raise DataError(f"{path}: has {table.rate:.2f} frames per second by its timestamps; {FRAME_RATE:.2f} were expected")
        values = np.ascontiguousarray(table.values[:, [place[name] for name in wanted]])
        return Table(values, wanted, None if averaged else FRAME_RATE)


def _wavs(root: Path) -> Iterator[tuple[Path, Take]]:
    """The wav files of modality 03 in the actors' folders. Raises DataError if any wav there is misnamed or misplaced."""
    # The folders may stand in the folder of their zip. Some mirrors hold every file twice, here and one level down: here wins.
    folders = _actor_folders(root.glob("Actor_*")) or _actor_folders(root.glob("*/Actor_*"))
    misnamed: list[Path] = []
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() != ".wav" or path.name.startswith("."):  # ._03-… is what macOS leaves behind
                continue
            take = Take.from_name(path.stem)
            if take is None:
                misnamed.append(path)
            elif take.actor != folder.name.removeprefix("Actor_"):
                raise DataError(f"{path}: its name says actor {take.actor}, its folder {folder.name}; move or rename it")
            elif take.modality == "03":
                yield path, take
    _refuse(misnamed)


def _csvs(root: Path) -> Iterator[tuple[Path, Take]]:
    """The CSV files of OpenFace, in whatever folder. Raises DataError if one has a field out of range."""
    misnamed: list[Path] = []
    for path in sorted(root.rglob("01-*.csv")):
        take = Take.from_name(path.stem)
        if take is not None:
            yield path, take
        elif _NAME_LIKE.fullmatch(path.stem):
            misnamed.append(path)
    _refuse(misnamed)


def _actor_folders(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if _FOLDER.fullmatch(path.name) and path.is_dir())


def _refuse(misnamed: list[Path]) -> None:
    if misnamed:
        more = f" (and {len(misnamed) - 1} more)" if len(misnamed) > 1 else ""
        raise DataError(f"{misnamed[0]}: is misnamed{more}; {NAMING}")
