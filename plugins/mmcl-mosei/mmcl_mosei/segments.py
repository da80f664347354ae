"""CMU-MOSEI and CMU-MOSI from the SDK's computational sequences (.csd, HDF5) and the folders of the raw archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Audio, DataError, Raw, SampleRef, Table, Video, Words
from mmcl.api import Sequence as RawSequence
from mmcl.media import Recordings, decoded, read_audio, read_film

from . import EMOTIONS, FRAME_RATE, GET, POINTS, MoseiParams
from .csd import Sequences, in_time
from .films import Films, Segment, Shown
from .folds import read_folds
from .labels import targets, within_scale

EXPECTED = "computational sequences (*.csd): labels, words and at least one of GloVe, COVAREP, FACET, OpenFace 2"
_PAUSE = {"sp", ""}


class Segments:
    """The labelled segments below one folder, by video and by row of the label file."""

    def __init__(self, params: MoseiParams, root: Path | None, emotions: bool) -> None:
        self.params, self._root, self._emotions = params, root, emotions
        self._recordings = Recordings(root, EXPECTED, GET, "segment")
        self._segments: dict[str, Segment] = {}
        self._shown: dict[str, Shown] = {}
        self._sequences: Sequences | None = None
        self._seen: Counter[str] = Counter()

    def samples(self) -> Sequence[SampleRef]:
        """Every labelled segment of the standard folds (all segments with `folds: none`), ordered by video and row."""
        return self._recordings.all(self._listing)

    def read(self, id: str, source: str) -> Raw:
        """One stream of one segment, cut to its span."""
        if id not in self._segments:
            self.samples()
        segment = self._segments.get(id)
        if segment is None:
            raise DataError(f"{self._root}: there is no segment '{id}'")
        root = self._recordings.folder()
        if source == "audio":
            return self._audio(self._voice(root, segment.video), segment)
        if source == "video":
            return self._video(root, id, segment)
        if source == "words":
            return self._words(segment)
        values, intervals = self._rows(source, segment)
        path = self._opened().files[source]
        if source == "openface":
            values = self._landmarks(values, path)
        values = self._finite(values, source)
        if source == "covarep" and not values.any():
            self._seen["segments whose COVAREP is all zeros"] += 1
        if self.params.align == "words":
            values = self._by_word(values, intervals, segment, source)
        else:
            if not len(values):
                raise DataError(f"{path}: has no row of segment '{id}', {segment.start:.2f} to {segment.end:.2f} seconds")
            self._same_rate(intervals, self.params.rate(source), path)
            values, lost = in_time(values, intervals, (segment.start, segment.end), self.params.rate(source))
            if lost.any():
                self._seen[f"steps of {source} without a row, filled in"] += int(lost.sum())
            if source == "openface":
                values[lost] = 0  # what a frame without a face has
        if source == "openface":
            return Table(values, POINTS, self.params.rate(source))
        if values.shape[1] != (width := self.params.width(source)):
            raise DataError(
                f"{path}: has {values.shape[1]} features in video '{segment.video}'; {width} were expected; set dataset.sequences: "
                f"{{{source}: {{name: {self._opened().names[source]}, width: {values.shape[1]}}}}}"
            )
        return RawSequence(values, self.params.rate(source))

    def counts(self) -> dict[str, int]:
        """What was odd in what has been read so far."""
        return dict(self._seen)

    # ------------------------------------------------------------------------------------------------------- what is there

    def _opened(self) -> Sequences:
        if self._sequences is None:
            self._sequences = Sequences(
                self._recordings.folder(), {source: asked.name for source, asked in self.params.sequences.items()}
            )
        return self._sequences

    def _listing(self, root: Path) -> list[SampleRef]:
        sequences = self._opened()
        if "labels" not in sequences.files:
            raise DataError(f"{root}: has no .csd file of labels; expected: {EXPECTED}. {GET}")
        if sequences.unread:
            name = f"computational sequences that no source reads: {', '.join(sequences.unread)}"
            self._seen[name] = len(sequences.unread)
        folds = None
        if self.params.folds != "none":
            folds = read_folds(root / self.params.folds, "mosei" if self._emotions else "mosi")
        there = {name: set(sequences.videos(name)) for name in sequences.files if name != "labels"}
        films = Films(root) if self.params.video == "frames" and self.params.align == "none" else None
        refs = []
        for video in sorted(sequences.videos("labels")):
            if folds is not None and video not in folds:
                self._seen["segments outside the standard folds"] += len(sequences.read("labels", video)[1])
                continue
            refs += self._of_video(root, video, None if folds is None else folds[video], there, films)
        if films is not None:
            self._seen.update(films.counts)
        if not refs:
            raise DataError(
                f"{sequences.files['labels']}: no labelled video stands in {self.params.folds}; are they of one dataset?"
            )
        return refs

    def _of_video(
        self, root: Path, video: str, split: str | None, there: dict[str, set[str]], films: Films | None
    ) -> list[SampleRef]:
        sequences = self._opened()
        (features, intervals), numbers = sequences.read("labels", video)
        if len(set(numbers)) < len(numbers):
            raise DataError(
                f"{sequences.files['labels']}: video '{video}' has several rows in one aligned segment; labels as downloaded, or aligned to "
                "themselves, were expected"
            )
        names = self._label_names(features.shape[1] if features.ndim == 2 else 0)
        labels = dict(zip(numbers, np.asarray(features, np.float64), strict=True))
        present = {name: str(sequences.files[name].relative_to(root)) for name, videos in there.items() if video in videos}
        if self.params.align == "words" and not {"words", "glove"} & set(present):
            self._seen["videos without the times of words"] += 1
            present = {}
        elif self.params.align == "none":
            present.pop("glove", None)
            if (voice := self._voice(root, video)) is not None:
                present["audio"] = str(voice.relative_to(root))
        segments = self._spans(video, dict(zip(numbers, intervals, strict=True)))
        shown = {} if films is None else films.of_video(segments)
        refs = []
        for segment in segments:
            id = f"{video}[{segment.number}]"
            self._segments[id] = segment
            row = dict(zip(names, labels[segment.number].tolist(), strict=True))
            strong = [row[name] for name in EMOTIONS if name in row] if self._emotions else []
            sentiment, held = within_scale(row.get("sentiment"), strong if len(strong) == len(EMOTIONS) else None, self._seen)
            own = dict(present)
            if (film := shown.get(segment.number)) is not None:
                self._shown[id] = film
                own["video"] = str(film.path.relative_to(root))
            refs.append(
                SampleRef(
                    id=id,
                    group=video,
                    sources=own,
                    split=split,
                    targets=targets(sentiment, held, self.params.min_intensity),
                    facts={"seconds": round(segment.end - segment.start, 3)},
                )
            )
        return refs

    def _spans(self, video: str, intervals: Mapping[int, NDArray[np.float64]]) -> list[Segment]:
        """The labelled segments of a video, each within the recording; what has no length is left out and counted."""
        segments = []
        for number, (start, end) in intervals.items():
            if not end > max(start, 0.0):
                self._seen["segments that end before they begin"] += 1
                continue
            if start < 0:
                self._seen["segments that begin before the recording, taken from its beginning"] += 1
            segments.append(Segment(video, number, max(0.0, float(start)), float(end)))
        return segments

    def _label_names(self, width: int) -> list[str]:
        """Names of the label columns: from the file where it says them, else the SDK's order."""
        names = [name.lower() for name in self._opened().column_names("labels")]
        if len(names) == width and "sentiment" in names:
            return [{"happiness": "happy", "sadness": "sad", "angry": "anger"}.get(name, name) for name in names]
        if width not in (1, 7):
            raise DataError(
                f"{self._opened().files['labels']}: has {width} labels a segment; 7 (sentiment, six emotions) or 1 (sentiment) were expected"
            )
        return ["sentiment", *EMOTIONS][:width]

    # ---------------------------------------------------------------------------------------------------------- reading it

    def _rows(self, kind: str, segment: Segment) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The rows of a sequence whose middle lies in the segment, in order of time."""
        (features, intervals), numbers = self._opened().read(kind, segment.video)
        middle = intervals.mean(1)
        here = np.flatnonzero((middle >= segment.start) & (middle < segment.end))
        here = here[np.argsort(intervals[here, 0], kind="stable")]
        if len(here) > 1 and len(set(numbers)) < len(
            numbers
        ):  # overlapping segments that the SDK aligned hold the same rows twice
            again = (np.diff(intervals[here], axis=0) == 0).all(1) & (np.diff(np.asarray(numbers)[here]) != 0)
            here = here[np.concatenate([[True], ~again])]
        return features[here], intervals[here]

    def _landmarks(self, values: NDArray[Any], path: Path) -> NDArray[Any]:
        """x_0 … x_67, y_0 … y_67 out of OpenFace 2's columns: by name where the file says them, else by its known widths."""
        width = values.shape[1] if values.ndim == 2 else 0
        names = self._opened().column_names("openface")
        if len(names) == width and set(POINTS) <= set(names):
            place = {name: i for i, name in enumerate(names)}
            return values[:, [place[name] for name in POINTS]]
        # Without names: 713 columns are a full table without its first one, so x_0 stands at 298 (714: at 299; 712: at 297).
        first = {712: 297, 713: 298, 714: 299, 136: 0}.get(width)
        if first is None:
            raise DataError(
                f"{path}: has {width} columns and no names of them; 712, 713 or 714 of OpenFace 2, or 136 points, were expected"
            )
        return values[:, first : first + 136]

    def _finite(self, values: NDArray[Any], kind: str) -> NDArray[np.float32]:
        """What is no number takes the column's least finite value in this segment (0 where there is none), and is counted."""
        finite = np.asarray(values, np.float32)
        bad = ~np.isfinite(finite)
        if bad.any():
            self._seen[f"values of {kind} that were no numbers"] += int(bad.sum())
            least = np.where(bad, np.inf, finite).min(0)
            finite = np.where(bad, np.where(np.isfinite(least), least, 0.0), finite).astype(np.float32)
        return finite

    def _by_word(
        self, values: NDArray[np.float32], intervals: NDArray[np.float64], segment: Segment, kind: str
    ) -> NDArray[np.float32]:
        """The mean of each word's rows [words, D]; zeros for a word without any."""
        _, words = self._rows("words" if "words" in self._opened().files else "glove", segment)
        if not len(words):
            raise DataError(f"{self._opened().files[kind]}: no word of segment '{segment.video}[{segment.number}]' has a time")
        if kind == "glove" and words.shape == intervals.shape and np.allclose(words, intervals, atol=1e-3):
            return values
        middle = intervals.mean(1)
        means = np.zeros((len(words), values.shape[1]), np.float32)
        for i, (start, end) in enumerate(words):
            here = (middle >= start) & (middle < end)
            if here.any():
                means[i] = values[here].mean(0)
            else:
                self._seen[f"words without {kind}"] += 1
        return means

    def _same_rate(self, intervals: NDArray[np.float64], rate: float, path: Path) -> None:
        """Refuse a stream that is clearly not of the rate that `info` promises."""
        if len(intervals) > 4:
            step = float(np.median(np.diff(intervals[:, 0])))
            if step > 0 and not 0.8 < step * rate < 1.25:
                raise DataError(f"{path}: has {1 / step:.1f} rows a second; {rate:g} were expected")

    def _words(self, segment: Segment) -> Words:
        values, intervals = self._rows("words", segment)
        words = [
            decoded(value[0], self._seen, lenient=True) if isinstance(value[0], bytes) else str(value[0]) for value in values
        ]
        kept = [(word, span) for word, span in zip(words, intervals, strict=True) if word.strip().lower() not in _PAUSE]
        if not kept:
            raise DataError(
                f"{self._opened().files['words']}: segment '{segment.video}[{segment.number}]' has no word but pauses"
            )
        times = np.array([span for _, span in kept], np.float64) - segment.start
        return Words(tuple(word for word, _ in kept), np.maximum(times, 0.0))

    def _voice(self, root: Path, video: str) -> Path | None:
        for folder in ("Raw/Audio/Full/WAV_16000", "Audio/Full/WAV_16000", "Raw/Audio/WAV_16000/Full", "wav"):
            path = root / folder / f"{video}.wav"
            if path.is_file():
                return path
        return None

    def _audio(self, path: Path | None, segment: Segment) -> Audio:
        if path is None:
            raise DataError(f"{self._root}: has no wav of video '{segment.video}'")
        whole = read_audio(path)
        first, last = round(segment.start * whole.rate), round(segment.end * whole.rate)
        if len(whole.samples) < last - whole.rate // 2:
            raise DataError(
                f"{path}: lasts {len(whole.samples) / whole.rate:.1f} s; segment {segment.number} ends at {segment.end:.1f} s"
            )
        return Audio(np.ascontiguousarray(whole.samples[first:last]), whole.rate)

    def _video(self, root: Path, id: str, segment: Segment) -> Video:
        shown = self._shown.get(id)
        if shown is None:
            raise DataError(f"{root}: has no pictures and no film that are proven to show segment '{id}'")
        part = (segment.start, segment.end) if shown.whole else (None, None)
        video = read_film(shown.path, self.params.video_size, shown.rate or FRAME_RATE, *part)
        return Video(self._at_rate(video.frames, video.rate), FRAME_RATE)

    def _at_rate(self, frames: NDArray[np.uint8], rate: float) -> NDArray[np.uint8]:
        """The frames at 30 a second: the nearest of those that are there."""
        if abs(rate / FRAME_RATE - 1) < 0.01:
            return frames
        self._seen["films of another rate than 30 frames a second"] += 1
        count = max(1, round(len(frames) / rate * FRAME_RATE))
        place = np.minimum((np.arange(count) * rate / FRAME_RATE).round().astype(int), len(frames) - 1)
        return np.ascontiguousarray(frames[place])
