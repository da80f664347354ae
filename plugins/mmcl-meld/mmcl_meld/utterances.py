"""Reads MELD's three tables, and finds the clip of each utterance."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcl.api import DataError, Raw, SampleRef, Words
from mmcl.media import (
    Recordings,
    count_defects,
    defect,
    has_pictures,
    read_audio,
    read_film,
    read_sound,
    read_text,
    walk_folders,
)

from . import BROKEN, EMOTIONS, GET, SENTIMENTS, SPLITS, MeldParams

EXPECTED = (
    "train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv (or meld_train.csv …) and, for voice and picture, the folders "
    "train_splits, dev_splits_complete and output_repeated_splits_test of dia0_utt0.mp4 …"
)
COLUMNS = (
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
)
"""What every table must have, by name. Numbers of rows (`Sr No.`) repeat, and are not read."""

FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
"""Split → the folder of its clips."""

_CLIP = re.compile(r"dia(\d+)_utt(\d+)")
_TIME = re.compile(r"(\d+):([0-5]\d):([0-5]\d),(\d{1,3})")


@dataclass(frozen=True)
class Utterance:
    """One row of a table."""

    split: str  # train, dev or test
    dialogue: int
    number: int  # an id, with gaps, and not always from 0
    text: str
    speaker: str
    emotion: str
    sentiment: str
    season: int
    episode: int
    start: float  # seconds into the episode
    end: float

    @property
    def id(self) -> str:
        """Dialogue ids begin at 0 in every split, so the split is a part of the id."""
        return f"{self.split}_dia{self.dialogue}_utt{self.number}"


@dataclass(frozen=True)
class Defects:
    """What is wrong with a copy of MELD, by the ids of utterances.

    no_words     rows without a word
    broken       clips that are not offered though they may be there → why: those known to be wrongly cut or damaged, and rows
                 that end no later than they begin
    absent       utterances whose clip is neither there nor known to be broken; all of them without the clips
    without_row  clips that no table speaks of, relative to the root
    """

    no_words: tuple[str, ...] = defect("rows without a word", tuple)
    broken: Mapping[str, str] = defect("clips known to be broken", dict)
    absent: tuple[str, ...] = defect("clips absent", tuple)
    without_row: tuple[str, ...] = defect("clips without a row", tuple)


class Meld:
    """The utterances of the three tables below one folder, in the tables' order."""

    def __init__(self, params: MeldParams, root: Path | None) -> None:
        self.params = params
        self._recordings = Recordings(root, EXPECTED, GET, "utterance")
        self._utterances: dict[str, Utterance] = {}
        self._defects = Defects()
        self._mended: dict[str, int] = {}

    def samples(self) -> Sequence[SampleRef]:
        """Every row of train, dev and test, in this order. Raises DataError naming the line of a row that cannot be read."""
        return self._recordings.all(self._listing)

    def read(self, id: str, source: str) -> Raw:
        """The words of an utterance, or the sound or the picture of its clip."""
        reason = self.defects().broken.get(id)
        path = self._recordings.file(id, source, f" (its clip {reason})" if reason and source != "text" else "")
        if source == "text":
            return Words(tuple(self._utterances[id].text.split()))
        if source == "video":
            return read_film(path, self.params.video_size, self.params.picture_rate)
        return read_audio(path) if path.suffix.lower() == ".wav" else read_sound(path)

    def defects(self) -> Defects:
        """Rows and clips that are not as they should be, from tables and names alone."""
        self.samples()
        return self._defects

    def counts(self) -> dict[str, int]:
        """How much of each defect this copy has."""
        unseen = () if self.params.clips == "auto" else ("broken", "absent", "without_row")
        return {**count_defects(self.defects(), leave_out=unseen), **self._mended}

    def _listing(self, root: Path) -> list[SampleRef]:
        tables, clips = _find(root, self.params.clips == "auto")
        mended: Counter[str] = Counter()
        rows = [row for split, path in tables.items() for row in read_rows(path, split, mended)]
        broken = {}
        for row in rows:
            if (reason := BROKEN.get((row.split, row.dialogue, row.number))) is not None:
                broken[row.id] = reason
            elif row.end <= row.start:
                broken[row.id] = "has no length by its own times"
        sources: dict[str, dict[str, str]] = {}
        for row in rows:
            sources[row.id] = {"text": tables[row.split].relative_to(root).as_posix()} if row.text.split() else {}
            if row.id not in broken:
                sources[row.id] |= {name: path.relative_to(root).as_posix() for name, path in clips.get(row.id, {}).items()}
        self._defects = Defects(
            broken=broken,
            absent=tuple(row.id for row in rows if row.id not in clips and row.id not in broken),
            without_row=tuple(
                sorted(
                    next(iter(files.values())).relative_to(root).as_posix() for id, files in clips.items() if id not in sources
                )
            ),
            no_words=tuple(row.id for row in rows if not row.text.split()),
        )
        self._utterances = {row.id: row for row in rows}
        self._mended = dict(mended)
        return [self._sample(row, sources[row.id]) for row in rows]

    def _sample(self, row: Utterance, sources: dict[str, str]) -> SampleRef:
        facts: dict[str, str | int | float] = {
            "speaker": row.speaker,
            "dialogue": row.dialogue,
            "utterance": row.number,
            "season": row.season,
            "episode": row.episode,
            "seconds": round(row.end - row.start, 3),
        }
        if self.params.clips == "auto":
            present = "audio" in sources or "video" in sources
            facts["clip"] = "there" if present else "broken" if row.id in self._defects.broken else "absent"
        return SampleRef(
            id=row.id,
            group=f"{row.split}_dia{row.dialogue}",
            sources=sources,
            targets={"emotion": EMOTIONS.index(row.emotion), "sentiment": SENTIMENTS.index(row.sentiment)},
            split=SPLITS[row.split],
            facts=facts,
        )


def read_rows(path: Path, split: str, mended: Counter[str] | None = None) -> Iterator[Utterance]:
    """The utterances of one table, columns found by name; `mended` counts signs of its text that were decoded. Raises DataError naming line and column of what is wrong."""
    try:
        text = read_text(path, mended)
    except OSError as error:
        raise DataError(f"{path}: cannot be read; MELD's table of {split} was expected") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 (byte {error.start:,}); MELD's table of {split} was expected") from error
    if not text.strip():
        raise DataError(f"{path}: is empty; MELD's table of {split} was expected")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise DataError(f"{path}: lacks the column '{missing[0]}'; MELD's columns are Sr No., {', '.join(COLUMNS)}")
        seen: dict[tuple[int, int], int] = {}
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}: line {reader.line_num}"
            if len(cells) != len(header):
                raise DataError(f"{where} has {len(cells)} cells and the header {len(header)}; as many were expected")
            row = _row(where, split, dict(zip(header, cells, strict=True)))
            if (key := (row.dialogue, row.number)) in seen:
                raise DataError(f"{where}: dialogue {key[0]}, utterance {key[1]} stands in line {seen[key]} already")
            seen[key] = reader.line_num
            yield row
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num} is no line of a CSV file ({error}), as if the file were cut short"
        ) from error
    if not seen:
        raise DataError(f"{path}: has a header and no rows; MELD's table of {split} was expected")


def _row(where: str, split: str, cells: Mapping[str, str]) -> Utterance:
    emotion, sentiment = cells["Emotion"].strip().lower(), cells["Sentiment"].strip().lower()
    for name, value, known in (("Emotion", emotion, EMOTIONS), ("Sentiment", sentiment, SENTIMENTS)):
        if value not in known:
            raise DataError(f"{where}, column '{name}': {cells[name]!r} is none of {', '.join(known)}")
    speaker = cells["Speaker"].strip()
    if not speaker:
        raise DataError(f"{where}, column 'Speaker': is empty")
    return Utterance(
        split=split,
        dialogue=_whole(where, "Dialogue_ID", cells),
        number=_whole(where, "Utterance_ID", cells),
        text=cells["Utterance"],
        speaker=speaker,
        emotion=emotion,
        sentiment=sentiment,
        season=_whole(where, "Season", cells),
        episode=_whole(where, "Episode", cells),
        start=_seconds(where, "StartTime", cells),
        end=_seconds(where, "EndTime", cells),
    )


def _whole(where: str, name: str, cells: Mapping[str, str]) -> int:
    value = cells[name].strip()
    if not re.fullmatch(r"\d{1,9}", value):
        raise DataError(f"{where}, column '{name}': a whole number was expected, not {cells[name]!r}")
    return int(value)


def _seconds(where: str, name: str, cells: Mapping[str, str]) -> float:
    match = _TIME.fullmatch(cells[name].strip())
    if match is None:
        raise DataError(f"{where}, column '{name}': a time such as 00:16:16,059 was expected, not {cells[name]!r}")
    hours, minutes, seconds, thousandths = map(int, match.groups())  # three rows write ",28" for ",028"
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _find(root: Path, with_clips: bool) -> tuple[dict[str, Path], dict[str, dict[str, Path]]]:
    """The table of each split, and id → source → file of every clip, searched by name in all folders below the root.

    Raises DataError if a table is missing or two are equally near, or two folders hold one clip.
    """
    tables: dict[str, Path] = {}
    clips: dict[str, dict[str, Path]] = {}
    split_of = {folder: split for split, folder in FOLDERS.items()}
    walked: list[tuple[Path, list[str]]] = []
    for folder, folders, files in walk_folders(root):
        if folder.name in split_of:
            folders.clear()  # below clips there is nothing
        walked.append((folder, files))
    for folder, names in sorted(walked, key=lambda one: (len(one[0].parts), one[0])):
        for split in SPLITS:
            for name in (f"{split}_sent_emo.csv", f"meld_{split}.csv"):
                if name not in names:
                    continue
                if split not in tables:
                    tables[split] = folder / name
                elif len(tables[split].parts) == len(folder.parts) + 1:
                    raise DataError(f"{folder / name}: {tables[split]} is the table of {split} too; leave one of the two")
        if with_clips and folder.name in split_of:
            split = split_of[folder.name]
            for id, sources in _clips(folder, split):
                if id in clips:
                    other = next(iter(clips[id].values()))
                    raise DataError(f"{folder}: {other} is the clip of '{id}' too; leave one of the two folders")
                clips[id] = sources
    if missing := [split for split in SPLITS if split not in tables]:
        raise DataError(f"{root}: has no {missing[0]}_sent_emo.csv; expected: {EXPECTED}. {GET}")
    return {split: tables[split] for split in SPLITS}, clips


def _clips(folder: Path, split: str) -> Iterator[tuple[str, dict[str, Path]]]:
    """Id → source → file of one folder. `._dia…` and `final_videos_test…` are no clips and are passed over.

    A wav beside the mp4 is its sound, a folder of pictures of the same name its frames: whoever unpacked them wants them read.
    """
    clips: dict[str, dict[str, Path]] = {}
    paths = sorted(folder.iterdir(), key=lambda path: (path.suffix.lower() != ".mp4", path.name))
    for path in paths:
        named = _CLIP.fullmatch(path.stem)
        if named is None or path.suffix.lower() not in (".mp4", ".wav", ""):
            continue
        files = clips.setdefault(f"{split}_dia{int(named[1])}_utt{int(named[2])}", {})
        if path.suffix.lower() == ".mp4":
            files |= {"audio": path, "video": path}
        elif path.suffix.lower() == ".wav":
            files["audio"] = path
        elif path.is_dir() and has_pictures(path):
            files["video"] = path
    for id, files in clips.items():
        if files:
            yield id, dict(sorted(files.items()))
