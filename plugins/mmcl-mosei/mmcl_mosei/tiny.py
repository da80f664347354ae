"""Writes a tiny made-up CMU-MOSEI or CMU-MOSI in the true format: .csd files, folds, voices and pictures that lean with the labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.media import write_audio, write_film

from . import EMOTIONS, POINTS

RATE = 16_000
SEGMENTS = 2
PAUSE = 0.2
"""Seconds between two segments."""
UNLABELLED = 0.8
"""Seconds of what the archive cut and nobody labelled."""
FILM_RATE = 10
SIDE = 24
_WORDS = (
    ("great", "love", "wonderful"),
    ("sad", "alone", "lost"),
    ("stop", "hate", "wrong"),
    ("what", "wow", "suddenly"),
    ("gross", "awful", "smell"),
    ("afraid", "dark", "help"),
)
Rows = tuple[NDArray[np.generic], NDArray[np.float64]]
"""Features and intervals of one video in one stream."""

_PLAIN = ("the", "film", "is", "and", "it", "was", "about", "people")


def write(root: Path, n: int, seed: int, emotions: bool) -> None:
    """About n segments, two a video, over three splits, with what a reader must cope with.

    Root names that differ from file names, pauses among the words, values of COVAREP that are −∞ or NaN, an emotion beyond the
    scale, a video that no fold names, a video without OpenFace, a segment without emotion; rows out of order of time, a start before
    the recording, and what the raw archive cut: numbered by time, with numbers that skip, and segments that nobody labelled.
    """
    videos = [f"vid{i:03d}" for i in range(max(9, n // SEGMENTS))]
    rng = np.random.default_rng(seed)
    folds = {"train": [v for i, v in enumerate(videos) if i % 3 == 0 or i % 9 in (1, 4)], "valid": [], "test": []}
    rest = [v for v in videos if v not in folds["train"]]
    folds["valid"], folds["test"] = rest[::2], rest[1::2]
    streams: dict[str, dict[str, Rows]] = {
        name: {} for name in ("labels", "words", "glove_vectors", "COVAREP", "FACET 4.2", "OpenFace_2")
    }
    for number, video in enumerate([*videos, "outside"]):
        _video(root, video, number, rng, streams, emotions)
    del streams["OpenFace_2"][videos[0]]
    root.mkdir(parents=True, exist_ok=True)
    (root / "folds.json").write_text(json.dumps(folds, indent=1) + "\n", encoding="utf-8")
    which = "MOSEI" if emotions else "MOSI"
    files = {
        "labels": ("All Labels" if emotions else "Opinion Segment Labels", f"CMU_{which}_Labels.csd"),
        "words": ("words", f"CMU_{which}_TimestampedWords.csd"),
        "glove_vectors": ("glove_vectors", f"CMU_{which}_TimestampedWordVectors.csd"),
        "COVAREP": ("COVAREP", f"CMU_{which}_COVAREP.csd"),
        "FACET 4.2": ("FACET 4.2", f"CMU_{which}_VisualFacet42.csd"),
        "OpenFace_2": ("OpenFace_2", f"CMU_{which}_VisualOpenFace2.csd"),
    }
    names = {
        "labels": ["sentiment", *(EMOTIONS if emotions else ())],
        "OpenFace_2": _columns(),
    }
    for name, (group, file) in files.items():
        write_csd(root / file, group, streams[name], names.get(name))


def _columns() -> list[str]:
    """713 names: gaze, eyes and pose before the points, the rest after them, with the blanks that OpenFace leaves."""
    before = [
        "face_id",
        "timestamp",
        "confidence",
        "success",
        *(f"gaze_{i}" for i in range(8)),
        *(f"eye_{i}" for i in range(280)),
        *(f"pose_{i}" for i in range(6)),
    ]
    names = [*before, *POINTS]
    return [f" {name}" for name in [*names, *(f"rest_{i}" for i in range(713 - len(names)))]]


def _video(
    root: Path,
    video: str,
    number: int,
    rng: np.random.Generator,
    streams: dict[str, dict[str, Rows]],
    emotions: bool,
) -> None:
    """One video of two labelled segments of about a second and a half, and one without a label after them."""
    segments = _segments(number, rng)
    order = sorted(range(SEGMENTS), key=lambda k: -segments[k].start) if number % 2 else list(range(SEGMENTS))
    labels = [[one.sentiment, *one.intensities] if emotions else [one.sentiment] for one in segments]
    spans = [(one.start, one.end) for one in segments]
    streams["labels"][video] = (np.array(labels, np.float32)[order], np.array(spans)[order])
    words = [word for one in segments for word in one.words]
    spoken = np.array([[word.encode()] for word, _, _ in words], dtype="S20")
    intervals = np.array([(start, end) for _, start, end in words])
    streams["words"][video] = (spoken, intervals)
    vectors = np.array([np.random.default_rng([ord(c) for c in word]).normal(size=300) for word, _, _ in words], np.float32)
    streams["glove_vectors"][video] = (vectors, intervals)
    seconds = segments[-1].end + 2 * PAUSE + UNLABELLED
    for name, rate, width in (("COVAREP", 100.0, 74), ("FACET 4.2", 30.0, 35)):
        times = _steps(seconds, rate)
        values = rng.normal(size=(len(times), width)).astype(np.float32)
        values[:, :6] += _present(segments, times).astype(np.float32)
        if name == "COVAREP":
            values[::17, 3] = -np.inf
            values[5, 8] = np.nan
        streams[name][video] = (values, times)
    streams["OpenFace_2"][video] = _landmarks(segments, _steps(seconds, 30.0), rng)
    write_audio(root / "Raw/Audio/Full/WAV_16000" / f"{video}.wav", _voice(segments, seconds + 0.2, rng), RATE)
    _archive(root, video, number, segments, seconds, rng)


def _archive(root: Path, video: str, number: int, segments: list[_Segment], seconds: float, rng: np.random.Generator) -> None:
    """What the raw archive has of a video, numbered by time with numbers that skip; the last segment has no label.

    By turns: pictures and a transcript with times; the film of the whole video, and pictures whose numbers look like rows; films of
    segments, which their lengths tell apart; pictures that nothing proves.
    """
    last = segments[-1].end + PAUSE
    spans = [*((one.start, one.end) for one in segments), (last, last + UNLABELLED)]
    faces = [*(one.present for one in segments), [0] * 6]
    numbers = (0, 1, 2) if number % 4 in (1, 3) else (2, 3, 10)
    if number % 4 == 0:
        path = root / "Raw/Transcript/Segmented/Combined" / f"{video}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [" ".join(word for word, _, _ in one.words) for one in segments] + ["um"]
        lines = [f"{video}___{n}___{a:.6f}___{b:.6f}___{text}" for n, (a, b), text in zip(numbers, spans, texts, strict=True)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if number % 4 == 1:
        whole = np.zeros((round(seconds * FILM_RATE), SIDE, SIDE, 3), np.uint8)
        for (start, end), face in zip(spans, faces, strict=True):
            first = max(0, round(start * FILM_RATE))
            part = _faces(face, round(end * FILM_RATE) - first, rng)
            whole[first : first + len(part)] = part
        write_film(root / "Raw/Videos/Full/Combined" / f"{video}.mp4", whole, FILM_RATE)
    for n, (start, end), face in zip(numbers, spans, faces, strict=True):
        pictures = _faces(face, max(2, round((end - max(0.0, start)) * FILM_RATE)), rng)
        if number % 4 == 2:
            write_film(root / "Raw/Videos/Segmented/Combined" / f"{video}_{n}.mp4", pictures, FILM_RATE)
        elif number % 4 == 0 or n != 1:
            _pictures(root / "Frames" / f"{video}_{n}", pictures)


@dataclass(frozen=True)
class _Segment:
    """What happens between two times, in seconds."""

    start: float
    end: float
    present: list[int]  # each emotion: 0 or 1
    intensities: NDArray[np.float64]
    sentiment: float
    words: list[tuple[str, float, float]]


def _segments(number: int, rng: np.random.Generator) -> list[_Segment]:
    """The segments of a video: every emotion is in one of the two, but for a segment without any."""
    segments: list[_Segment] = []
    drawn = [0] * 6
    start = -0.1 if number % 9 == 6 else 0.3
    for k in range(SEGMENTS):
        length = (1.3, 1.7)[(number + k) % 2] + 0.1 * rng.random()
        place = number * SEGMENTS + k
        drawn = [1 - p for p in drawn] if k else [int(p) for p in rng.random(6) < 0.4]  # both in every video
        present = [0] * 6 if place % 11 == 10 else drawn
        intensities = np.array([float(p) * (1 + rng.integers(0, 3) / 3) for p in present])
        sentiment = float(np.clip(intensities[0] - intensities[1] - 0.5 * intensities[2] + 0.3 * (place % 3 - 1), -3, 3))
        if place == 3:
            present, intensities[0] = [1, *present[1:]], 3.5  # as early releases have it
        choices = [w for e in range(6) if present[e] for w in _WORDS[e]] or list(_PLAIN)
        times = np.linspace(start, start + length, 6)
        words = []
        for i in range(5):
            word = "sp" if i == 2 else str(rng.choice(choices if rng.random() < 0.7 else _PLAIN))
            words.append((word, float(times[i]), float(times[i + 1])))
        segments.append(_Segment(start, start + length, present, intensities, sentiment, words))
        start += length + PAUSE
    return segments


def _steps(seconds: float, rate: float) -> NDArray[np.float64]:
    """Begin and end of each step [T, 2]."""
    starts = np.arange(0, seconds, 1 / rate)
    return np.stack([starts, starts + 1 / rate], 1)


def _present(segments: list[_Segment], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which emotions are there at each step [T, 6]."""
    present = np.zeros((len(times), 6))
    middle = times.mean(1)
    for one in segments:
        present[(middle >= one.start) & (middle < one.end)] = one.present
    return present


def _landmarks(segments: list[_Segment], times: NDArray[np.float64], rng: np.random.Generator) -> Rows:
    """OpenFace's 713 columns: points on a circle, of which the mouth leans with the first emotion, and noise."""
    face = rng.normal(scale=0.3, size=(len(times), 713)).astype(np.float32)
    circle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    first = len(_columns()) - 713 + 298
    face[:, first : first + 68] += (200 + 40 * np.cos(circle)[None, :]).astype(np.float32)
    face[:, first + 68 : first + 136] += (
        150 + 50 * np.sin(circle)[None, :] + 6 * _present(segments, times)[:, :1] * (np.arange(68) > 47)[None, :]
    ).astype(np.float32)
    face[:, 2:4] = 1
    return face, times


def _voice(segments: list[_Segment], seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A tone in each segment whose pitch and loudness lean with the emotions, and some noise."""
    clock = np.arange(round(seconds * RATE)) / RATE
    wave = 0.01 * rng.normal(size=len(clock))
    for one in segments:
        here = (clock >= one.start) & (clock < one.end)
        level, pitch = 0.1 + 0.15 * one.present[2], 180 + 60 * one.present[3] - 30 * one.present[1]
        wave[here] += level * np.sin(2 * np.pi * pitch * clock[here])
    return wave


def _faces(present: Sequence[int], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A face as grey shapes [count, SIDE, SIDE, 3]: brightness and the height of the mouth lean with two emotions."""
    pictures = rng.integers(0, 40, (count, SIDE, SIDE, 3), dtype=np.uint8)
    pictures[:, 4:20, 5:19] = 150 + 40 * present[0]
    pictures[:, 14 + 2 * present[1] : 16 + 2 * present[1], 8:16] = 60
    return pictures


def _pictures(folder: Path, pictures: NDArray[np.uint8]) -> None:
    """A folder of numbered pictures."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i + 1:04d}.png")


def write_csd(path: Path, group: str, videos: dict[str, Rows], names: list[str] | None) -> None:
    """One computational sequence, as the SDK writes it."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group(group)
        data = root.create_group("data")
        for video, (features, intervals) in videos.items():
            one = data.create_group(video)
            one.create_dataset("features", data=features, compression="gzip", compression_opts=9)
            one.create_dataset("intervals", data=intervals, compression="gzip", compression_opts=9)
        metadata = root.create_group("metadata")
        notes: dict[str, object] = {"root name": group, "computational sequence version": "1.0", "creator": "mmcl, made up"}
        if names is not None:
            notes["dimension names"] = names
        for key, value in notes.items():
            metadata.create_dataset(key, data=np.array([json.dumps(value)], dtype=object), dtype=h5py.string_dtype("utf-8"))
