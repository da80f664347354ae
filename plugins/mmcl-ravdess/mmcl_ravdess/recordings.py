"""Finds RAVDESS's takes by the names of their files, and reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcl.api import DataError, Raw, SampleRef, Table, Video
from mmcl.media import Recordings, has_pictures, read_audio, read_film, read_sound, read_table, walk_folders

from . import AVERAGED_COLUMNS, EMOTIONS, FRAME_COLUMNS, FRAME_RATE, GET, RavdessParams, classes_of

EXPECTED = "Actor_01/03-01-01-01-01-01-01.wav … Actor_24/03-01-08-02-02-02-24.wav and, for the face, any folder of 01-….csv"
NAMING = (
    "names are MM-VV-EE-II-SS-RR-AA: modality 01–03, channel 01–02, emotion 01–08, intensity, statement and repetition 01–02, "
    "actor 01–24"
)
_NAME = re.compile(r"(0[123])-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4]))")
_NAME_LIKE = re.compile(r"\d\d(-\d\d){6}")
_FOLDER = re.compile(r"Actor_(\d\d)")
_RATE_TOLERANCE = 0.02
PUBLISHED_RATE = 48000
"""Hz of the wavs on Zenodo."""


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
        match = _NAME.fullmatch(stem)
        if match is None:
            return None
        modality, id, *fields = match.groups()
        return cls(id, modality, *fields)


@dataclass(frozen=True)
class Defects:
    """What is wrong with a copy of RAVDESS, by the ids of takes; nothing of it keeps a take from being read.

    stereo         wavs of two channels, which are mixed to one
    other_rate     id → Hz, where it is not the 48 kHz of the published files: a resampled mirror
    failed_rows    id → rows of the CSV without a face (success 0)
    without        source → takes that lack it
    absent_actors  actors, of 01 to 24, without any recording; nobody misses actor 18 in song
    """

    stereo: tuple[str, ...]
    other_rate: Mapping[str, int]
    failed_rows: Mapping[str, int]
    without: Mapping[str, tuple[str, ...]]
    absent_actors: tuple[str, ...]


class Ravdess:
    """The recordings below one folder. Only wav files of modality 03 count as audio: 01 and 02 are the same takes again."""

    def __init__(self, params: RavdessParams, root: Path | None) -> None:
        self.params = params
        self._recordings = Recordings(root, EXPECTED, GET)
        self._seen: Counter[str] = Counter()

    def samples(self) -> Sequence[SampleRef]:
        """Every take that has a file of one of the sources, ordered by actor and name. All files of a take are one sample."""
        return self._recordings.all(self._listing)

    def read(self, id: str, source: str) -> Raw:
        """The voice, or the OpenFace columns that `info` promises, in its order."""
        self.samples()
        path = self._recordings.file(id, source)
        if source == "audio":
            if path.suffix.lower() == ".mp4":
                return read_sound(path)
            channels, rate = _wav_head(path)
            self._seen["wavs of two channels, mixed to one"] += channels > 1
            self._seen["wavs resampled by whoever copied them"] += rate != PUBLISHED_RATE
            return read_audio(path)
        if source == "video":
            video = read_film(path, self.params.video_size, FRAME_RATE)
            if abs(video.rate / FRAME_RATE - 1) > _RATE_TOLERANCE:
                raise DataError(f"{path}: has {video.rate:.2f} frames per second; {FRAME_RATE:.2f} were expected")
            return Video(video.frames, FRAME_RATE)
        return self._table(path)

    def counts(self) -> dict[str, int]:
        """What was odd in the files read so far, and how many of the 24 actors are not there at all."""
        absent = 24 - len({sample.group for sample in self.samples()})
        expected = 1 if self.params.channel == "song" else 0  # actor 18 sings nothing, in the published files too
        return {**self._seen, "actors absent": max(0, absent - expected)}

    def defects(self) -> Defects:
        """What is known to be wrong with copies of RAVDESS, found in the files of every recording listed.

        Reads the head of each wav and the column `success` of each CSV: seconds for audio, minutes for frames of all actors.
        """
        samples = self.samples()
        root = self._recordings.folder()
        stereo, rates, failed = [], {}, {}
        for sample in samples:
            voice, face = sample.sources.get("audio", ""), sample.sources.get("openface")
            if voice.lower().endswith(".wav"):
                channels, rate = _wav_head(root / voice)
                if channels > 1:
                    stereo.append(sample.id)
                if rate != PUBLISHED_RATE:
                    rates[sample.id] = rate
            if face is not None and (rows := _failed_rows(root / face)):
                failed[sample.id] = rows
        singers = {f"{i:02d}" for i in range(1, 25)}
        if self.params.channel == "song":
            singers.remove("18")  # who sings nothing, in the published files too
        return Defects(
            stereo=tuple(stereo),
            other_rate=rates,
            failed_rows=failed,
            without={
                source: tuple(sample.id for sample in samples if source not in sample.sources)
                for source in sorted({name for sample in samples for name in sample.sources})
            },
            absent_actors=tuple(sorted(singers - {sample.id[-2:] for sample in samples})),
        )

    def _listing(self, root: Path) -> list[SampleRef]:
        wanted = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}[self.params.channel]
        takes: dict[str, Take] = {}
        sources: dict[str, dict[str, str]] = {}
        for source, files in self._find(root, wanted).items():
            for path, take in files:
                takes[take.id] = take
                sources.setdefault(take.id, {})[source] = path.relative_to(root).as_posix()
        if not takes:
            what = "speech or song" if self.params.channel == "both" else self.params.channel
            raise DataError(f"{root}: has no recording of {what}; expected: {EXPECTED}. {GET}")
        in_order = sorted(takes.values(), key=lambda take: (take.actor, take.id))
        return [self._sample(take, sources[take.id]) for take in in_order]

    def _find(self, root: Path, channels: tuple[str, ...]) -> dict[str, list[tuple[Path, Take]]]:
        """The file of each source for each take of these channels, searched by name in every folder below the root."""
        paths = list(_paths(root))
        files_of = {"audio": _nearest(root, _named(paths, ".wav", channels), "03")}
        if self.params.visual == "auto":
            files_of["openface"] = _csvs(paths, channels)
        if self.params.video == "auto":
            films, folders = list(_named(paths, ".mp4", channels)), list(_named(paths, "", channels))
            seen, unseen = _nearest(root, films, "01"), _nearest(root, films, "02")
            # Pictures first: whoever unpacked a film wants them read. Then 01 before 02, which has the same pictures and no sound.
            best: dict[str, tuple[Path, Take]] = {}
            for files in (unseen, seen, _nearest(root, folders, "02"), _nearest(root, folders, "01")):
                best.update({take.id: (path, take) for path, take in files})
            files_of["video"] = list(best.values())
            with_wav = {take.id for _, take in files_of["audio"]}
            files_of["audio"] += [(path, take) for path, take in seen if take.id not in with_wav]
        return files_of

    def _sample(self, take: Take, sources: dict[str, str]) -> SampleRef:
        emotion = EMOTIONS[int(take.emotion) - 1]
        if self.params.calm_is_neutral and emotion == "calm":
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
        table = read_table(path, seen=self._seen)
        rows, averaged = len(table.values), self.params.openface == "averaged"
        if averaged and rows > 1:
            raise DataError(f"{path}: has {rows} rows, not the one that `openface: averaged` means; set `openface: frames`")
        if not averaged and rows == 1:
            raise DataError(
                f"{path}: has one row, not the one per frame that `openface: frames` means; set `openface: averaged`"
            )
        wanted = AVERAGED_COLUMNS if averaged else FRAME_COLUMNS
        place = {name: i for i, name in enumerate(table.columns)}
        there = tuple(name for name in wanted if name in place)
        if not there or there == ("confidence", "success"):
            raise DataError(
                f"{path}: has none of the {len(wanted)} columns that `openface: {self.params.openface}` means, such as '{wanted[-1]}'"
            )
        if len(there) < len(wanted):  # OpenFace writes what it was asked for (-aus, -2Dfp); features refuse what they lack
            self._seen["tables without some of OpenFace's columns"] += 1
        if not averaged and table.rate is not None and abs(table.rate / FRAME_RATE - 1) > _RATE_TOLERANCE:
            raise DataError(f"{path}: has {table.rate:.2f} frames per second by its timestamps; {FRAME_RATE:.2f} were expected")
        values = np.ascontiguousarray(table.values[:, [place[name] for name in there]])
        if "success" in place:
            self._seen["frames in which OpenFace found no face"] += int((table.values[:, place["success"]] == 0).sum())
        return Table(values, there, None if averaged else FRAME_RATE)


def _paths(root: Path) -> Iterator[Path]:
    """Every file, and every folder named like a recording, in a stable order; what begins with a dot is passed over."""
    for folder, folders, files in walk_folders(root):
        yield from (folder / name for name in files)
        yield from (folder / name for name in folders if _NAME_LIKE.fullmatch(name))


def _named(paths: Sequence[Path], suffix: str, channels: tuple[str, ...]) -> Iterator[tuple[Path, Take]]:
    """The files with this suffix that are named like a recording of these channels; with no suffix, the folders of pictures.

    Raises DataError if one has a field out of range, is misnamed in an actor's folder, or stands in another actor's.
    """
    misnamed: list[Path] = []
    for path in paths:
        if path.suffix.lower() != suffix or (not suffix and not (path.is_dir() and has_pictures(path))):
            continue
        take, folder = Take.from_name(path.stem), _FOLDER.fullmatch(path.parent.name)
        if take is None:
            if folder or _NAME_LIKE.fullmatch(path.stem):
                misnamed.append(path)
        elif folder and take.actor != folder[1]:
            raise DataError(f"{path}: its name says actor {take.actor}, its folder {path.parent.name}; move or rename it")
        elif take.channel in channels:
            yield path, take
    _refuse(misnamed)


def _nearest(root: Path, files: Iterable[tuple[Path, Take]], modality: str) -> list[tuple[Path, Take]]:
    """For each take, its file of one modality. Some mirrors hold every file twice, here and further down: the nearest counts.

    Raises DataError if two files of a take are equally near, for then nobody can say which is meant.
    """
    best: dict[str, tuple[Path, Take]] = {}
    for path, take in sorted(files, key=lambda file: (len(file[0].relative_to(root).parts), file[0])):
        if take.modality != modality:
            continue
        if take.id not in best:
            best[take.id] = (path, take)
        elif len((other := best[take.id][0]).parts) == len(path.parts):
            raise DataError(f"{path}: {other} is the same take; leave one of the two")
    return list(best.values())


def _csvs(paths: Sequence[Path], channels: tuple[str, ...]) -> list[tuple[Path, Take]]:
    """The CSV files of OpenFace, in whatever folder. Raises DataError if one has a field out of range, or two are of one take."""
    misnamed: list[Path] = []
    csvs: dict[str, tuple[Path, Take]] = {}
    for path in sorted(paths):
        if path.suffix != ".csv" or not path.name.startswith("01-"):
            continue
        take = Take.from_name(path.stem)
        if take is None:
            if _NAME_LIKE.fullmatch(path.stem):
                misnamed.append(path)
        elif take.id in csvs:
            raise DataError(f"{path}: {csvs[take.id][0]} is the same take; leave one of the two")
        elif take.channel in channels:
            csvs[take.id] = (path, take)
    _refuse(misnamed)
    return list(csvs.values())


def _wav_head(path: Path) -> tuple[int, int]:
    """Channels and rate in Hz, from the head of a wav alone."""
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: is {'not a file' if path.exists() else 'not there'}; a sound file was expected")
    try:
        head = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: a sound file was expected, and its head cannot be read; copy it again") from error
    return int(head.channels), int(head.samplerate)


def _failed_rows(path: Path) -> int:
    """Rows of a CSV in which OpenFace found no face; 0 where it does not say."""
    table = read_table(path)
    if "success" not in table.columns:
        return 0
    return int((table.values[:, table.columns.index("success")] < 0.5).sum())


def _refuse(misnamed: list[Path]) -> None:
    if misnamed:
        more = f" (and {len(misnamed) - 1} more)" if len(misnamed) > 1 else ""
        raise DataError(f"{misnamed[0]}: is misnamed{more}; {NAMING}")
