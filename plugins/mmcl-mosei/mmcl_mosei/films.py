"""Which film or pictures show a labelled segment: proven by times, never by a number of ours.

The archive numbers what it cut by time and skips numbers; the rows of the label file are in no order. So a file called VIDEO_3 is not
the segment of row 3. A segment is cut from the film of the whole video by its own interval. A file of its own is taken where
Transcript/Segmented gives that file's number the label's times, or where the lengths of a video's files fit the lengths of its
labelled segments, both in order of time, in one way alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcl.api import DataError
from mmcl.media import film_length, read_text

from . import FRAME_RATE

FULL = ("Raw/Videos/Full/Combined", "Raw/Video/Full/Combined", "Raw/Video/Full", "Raw/Videos/Full")
SEGMENTED = ("Raw/Videos/Segmented/Combined", "Raw/Video/Segmented/Combined", "Raw/Video/Segmented", "Raw/Videos/Segmented")
PICTURES = ("Frames", "Frames_resize")
TRANSCRIPTS = (
    "Raw/Transcript/Segmented/Combined",
    "Raw/Transcript/Segmented",
    "Transcript/Segmented/Combined",
    "Transcript/Segmented",
)
ENDINGS = (".mp4", ".avi", ".mkv")

SAME_TIME = 0.05
"""Seconds by which the times of a label and of the transcript may differ and still be the same."""
SAME_LENGTH = 0.2
"""Seconds by which a file may last longer or shorter than the segment that it is taken for on its length alone."""
CLEARLY_OTHER = 0.5
"""Seconds of difference from which a file does not show what its times say."""

CUT = "segments cut from the full film"
BY_TIMES = "segments whose own film or pictures have the label's times in Transcript/Segmented"
BY_LENGTHS = "segments whose own film or pictures are proven by the lengths of the video's segments"
_REFUSED = "segments whose own film or pictures were refused"
UNPROVEN = f"{_REFUSED}: neither times nor lengths prove what they show"
NOT_LISTED = f"{_REFUSED}: Transcript/Segmented has no number with the label's times"
OTHER_LENGTH = f"{_REFUSED}: they do not last as long as their times say"
DAMAGED = "segmented films that cannot be read"


@dataclass(frozen=True)
class Segment:
    """One labelled stretch of a video: its row in the label file, and its seconds."""

    video: str
    number: int
    start: float
    end: float


@dataclass(frozen=True)
class Shown:
    """Where the pictures of a segment are.

    whole  the film is of the whole video, and the segment is to be cut from it
    rate   pictures a second of a folder, which cannot say it; None for video files
    """

    path: Path
    whole: bool = False
    rate: float | None = None


class Films:
    """The films and pictures below a dataset's folder. Folders are listed once."""

    def __init__(self, root: Path) -> None:
        self._full = {
            path.stem: path for folder in reversed(FULL) for path in _entries(root / folder) if path.suffix.lower() in ENDINGS
        }
        self._films: dict[str, dict[int, Path]] = {}
        self._pictures: dict[str, dict[int, Path]] = {}
        for kinds, folders in ((self._films, SEGMENTED), (self._pictures, PICTURES)):
            for folder in reversed(folders):
                for path in _entries(root / folder):
                    wanted = path.is_dir() if kinds is self._pictures else path.suffix.lower() in ENDINGS
                    if wanted and (name := re.fullmatch(r"(.+)_(\d+)", path.name if path.is_dir() else path.stem)):
                        kinds.setdefault(name[1], {})[int(name[2])] = path
        self._root = root
        self.counts: Counter[str] = Counter()

    def of_video(self, segments: Sequence[Segment]) -> dict[int, Shown]:
        """Row → where its pictures are, for the segments of one video. What is cut, matched and refused is counted.

        Proven pictures come first, for they are of the face alone; then the film of the whole video, then a proven segmented film.
        """
        if not segments:
            return {}
        video = segments[0].video
        shown: dict[int, Shown] = {}
        refused: dict[int, str] = {}
        folders = self._pictures.get(video, {})
        if pictures := {number: count for number, path in folders.items() if (count := _count(path))}:
            self._match(video, segments, folders, shown, refused, pictures)
        if (film := self._full.get(video)) is not None:
            for segment in segments:
                if segment.number not in shown:
                    shown[segment.number] = Shown(film, whole=True)
                    self.counts[CUT] += 1
        elif films := self._films.get(video):
            left = [segment for segment in segments if segment.number not in shown]
            self._match(video, segments, films, shown, refused, None, left)
        for row, why in refused.items():
            if row not in shown:
                self.counts[why] += 1
        return shown

    def _match(
        self,
        video: str,
        segments: Sequence[Segment],
        files: Mapping[int, Path],
        shown: dict[int, Shown],
        refused: dict[int, str],
        pictures: Mapping[int, int] | None,
        wanted: Sequence[Segment] | None = None,
    ) -> None:
        """Add to `shown` what is proven, and to `refused` why not. pictures: number → how many; None for films."""
        times = self._times(video)
        lengths = {n: count / FRAME_RATE for n, count in pictures.items()} if pictures is not None else self._lengths(files)
        by_length = {} if times else _by_length(segments, {n: s for n, s in lengths.items() if s is not None})
        rate = _usual_rate(segments, times, pictures) if times and pictures is not None else None
        for segment in segments if wanted is None else wanted:
            row = segment.number
            if times:
                number = _with_times(segment, times, files if pictures is None else pictures)
                if number is None:
                    refused[row] = NOT_LISTED
                    continue
                lasts = pictures[number] / rate if pictures is not None and rate else lengths.get(number)
                if lasts is not None and abs(lasts - (segment.end - segment.start)) > CLEARLY_OTHER:
                    refused[row] = OTHER_LENGTH
                    continue
                shown[row] = Shown(files[number], rate=rate)
                self.counts[BY_TIMES] += 1
            elif (number := by_length.get(row)) is not None:
                shown[row] = Shown(files[number], rate=None if pictures is None else FRAME_RATE)
                self.counts[BY_LENGTHS] += 1
            else:
                refused[row] = UNPROVEN

    def _lengths(self, films: Mapping[int, Path]) -> dict[int, float | None]:
        """Number → seconds of a film; what is damaged is counted, and has none."""
        lengths: dict[int, float | None] = {}
        for number, path in films.items():
            try:
                lengths[number] = film_length(path)
            except DataError:
                self.counts[DAMAGED] += 1
        return lengths

    def _times(self, video: str) -> dict[int, tuple[float, float]]:
        """The archive's number → start and end of what it cut, from lines VIDEO___NUMBER___START___END___TEXT; none without a file."""
        for folder in TRANSCRIPTS:
            path = self._root / folder / f"{video}.txt"
            if not path.is_file():
                continue
            times = {}
            for line in read_text(path, self.counts, lenient=True).split("\n"):
                fields = line.removeprefix(f"{video}___").split("___", 3)
                try:
                    times[int(fields[0])] = (max(0.0, float(fields[1])), float(fields[2]))
                except (ValueError, IndexError):
                    if line.strip():
                        self.counts["lines of Transcript/Segmented without times"] += 1
            return times
        return {}


def _entries(folder: Path) -> list[Path]:
    """What stands in a folder, in order; nothing where there is none. Names that begin with a dot are passed over."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _count(folder: Path) -> int:
    """How many pictures a folder holds."""
    return sum(path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in _entries(folder))


def _with_times(segment: Segment, times: Mapping[int, tuple[float, float]], files: Mapping[int, object]) -> int | None:
    """The number of a file that the transcript gives the label's times."""
    same = [
        number
        for number, (start, end) in times.items()
        if number in files and max(abs(start - segment.start), abs(end - segment.end)) <= SAME_TIME
    ]
    return min(same, default=None)


def _usual_rate(
    segments: Sequence[Segment], times: Mapping[int, tuple[float, float]], pictures: Mapping[int, int]
) -> float | None:
    """Pictures a second of a video's folders: the middle of what their times and numbers of pictures give."""
    rates = sorted(
        pictures[number] / (end - start) for number, (start, end) in times.items() if pictures.get(number) and end > start
    )
    return rates[len(rates) // 2] if rates else None


def _by_length(segments: Sequence[Segment], lengths: Mapping[int, float]) -> dict[int, int]:
    """Row → number of the file, where lengths leave one way alone to give each segment its own file, both in order of time.

    Where there are fewer files than segments, each file is given a segment. A film of a segment without a label, or a segment
    whose film is missing, is allowed for; both at once are not, and then nothing fits or more than one way does.
    """
    labelled = [(one.number, one.end - one.start) for one in sorted(segments, key=lambda one: (one.start, one.end))]
    numbered = sorted(lengths.items())
    swapped = len(numbered) < len(labelled)
    few, many = (numbered, labelled) if swapped else (labelled, numbered)
    fits = [[abs(a - b) <= SAME_LENGTH for _, b in many] for _, a in few]
    before = _reachable(fits)
    after = [row[::-1] for row in _reachable([row[::-1] for row in fits[::-1]])][::-1]
    proven = {}
    for i, (one, _) in enumerate(few):
        ways = [j for j in range(len(many)) if before[i][j] and after[i][j]]
        if len(ways) == 1:
            other = many[ways[0]][0]
            proven.update({other: one} if swapped else {one: other})
    return proven


def _reachable(fits: Sequence[Sequence[bool]]) -> list[list[bool]]:
    """Whether the first i + 1 can all be placed in order with the last of them at j."""
    table: list[list[bool]] = []
    for i, row in enumerate(fits):
        earlier = [True] * len(row) if i == 0 else [any(table[-1][:j]) for j in range(len(row))]
        table.append([fit and possible for fit, possible in zip(row, earlier, strict=True)])
    return table
