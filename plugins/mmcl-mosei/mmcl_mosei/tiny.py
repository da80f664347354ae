"""Writes a tiny made-up CMU-MOSEI or CMU-MOSI in the true format: .csd files, folds, voices and pictures that lean with the labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import EMOTIONS, POINTS

RATE = 16_000
SEGMENTS = 2
SIDE = 24
_WORDS = (
    ("great", "love", "wonderful"),
    ("sad", "alone", "lost"),
    ("stop", "hate", "wrong"),
    ("what", "wow", "suddenly"),
    ("gross", "awful", "smell"),
    ("afraid", "dark", "help"),
)
_PLAIN = ("the", "film", "is", "and", "it", "was", "about", "people")


def write(root: Path, n: int, seed: int, emotions: bool) -> None:
    """About n segments, two a video, over three splits, with what a reader must cope with.

    Root names that differ from file names, pauses among the words, values of COVAREP that are −∞ or NaN, an emotion beyond the
    scale, segments out of order, a video that no fold names, a video without OpenFace, a segment without emotion.
    """
    videos = [f"vid{i:03d}" for i in range(max(9, n // SEGMENTS))]
    rng = np.random.default_rng(seed)
    folds = {"train": [v for i, v in enumerate(videos) if i % 3 == 0 or i % 9 in (1, 4)], "valid": [], "test": []}
    rest = [v for v in videos if v not in folds["train"]]
    folds["valid"], folds["test"] = rest[::2], rest[1::2]
    streams: dict[str, dict[str, tuple[NDArray[np.generic], NDArray[np.float64]]]] = {
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
        "labels": ["sentiment", *(("happy", "sad", "anger", "surprise", "disgust", "fear") if emotions else ())],
        "OpenFace_2": _columns(),
    }
    for name, (group, file) in files.items():
        _csd(root / file, group, streams[name], names.get(name))


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
    streams: dict[str, dict[str, tuple[NDArray[np.generic], NDArray[np.float64]]]],
    emotions: bool,
) -> None:
    """One video of two segments of about a second and a half."""
    spans, labels = [], []
    words: list[tuple[str, float, float]] = []
    present = [0] * 6
    seconds = 0.3
    loud, faces, voice = [], [], []
    strong = []
    for k in range(SEGMENTS):
        length = 1.4 + 0.3 * rng.random()
        place = number * SEGMENTS + k
        present = [1 - p for p in present] if k else [int(p) for p in rng.random(6) < 0.4]  # both in every video
        if place % 11 == 10:
            strong.append([0] * 6)
        else:
            strong.append(present)
        felt_here = strong[-1]
        row = np.array([float(p) * (1 + rng.integers(0, 3) / 3) for p in felt_here])
        feeling = float(np.clip(row[0] - row[1] - 0.5 * row[2] + 0.3 * (place % 3 - 1), -3, 3))
        if place == 3:
            row[0] = 3.5  # as early releases have it
        spans.append((seconds, seconds + length))
        labels.append([feeling, *row] if emotions else [feeling])
        choices = [w for e in range(6) if felt_here[e] for w in _WORDS[e]] or list(_PLAIN)
        times = np.linspace(seconds, seconds + length, 6)
        for i in range(5):
            word = "sp" if i == 2 else str(rng.choice(choices if rng.random() < 0.7 else _PLAIN))
            words.append((word, float(times[i]), float(times[i + 1])))
        loud.append((seconds, seconds + length, 0.1 + 0.15 * felt_here[2], 180 + 60 * felt_here[3] - 30 * felt_here[1]))
        seconds += length + 0.2
    order = np.argsort([-start for start, _ in spans]) if number % 4 == 1 else np.arange(SEGMENTS)
    streams["labels"][video] = (np.array(labels, np.float32)[order], np.array(spans)[order])
    spoken = np.array([[word.encode()] for word, _, _ in words], dtype="S20")
    intervals = np.array([(start, end) for _, start, end in words])
    streams["words"][video] = (spoken, intervals)
    vectors = np.array([np.random.default_rng([ord(c) for c in word]).normal(size=300) for word, _, _ in words], np.float32)
    streams["glove_vectors"][video] = (vectors, intervals)

    def steps(rate: float) -> NDArray[np.float64]:
        starts = np.arange(0, seconds, 1 / rate)
        return np.stack([starts, starts + 1 / rate], 1)

    def feelings(times: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros((len(times), 6))
        for (start, end), present in zip(spans, strong, strict=True):
            found[(times.mean(1) >= start) & (times.mean(1) < end)] = present
        return found

    for name, rate, width in (("COVAREP", 100.0, 74), ("FACET 4.2", 30.0, 35)):
        times = steps(rate)
        values = rng.normal(size=(len(times), width)).astype(np.float32)
        values[:, :6] += feelings(times).astype(np.float32)
        if name == "COVAREP":
            values[::17, 3] = -np.inf
            values[5, 8] = np.nan
        streams[name][video] = (values, times)
    times = steps(30.0)
    face = rng.normal(scale=0.3, size=(len(times), 713)).astype(np.float32)
    felt = feelings(times)
    circle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    first = len(_columns()) - 713 + 298
    face[:, first : first + 68] += (200 + 40 * np.cos(circle)[None, :]).astype(np.float32)
    face[:, first + 68 : first + 136] += (
        150 + 50 * np.sin(circle)[None, :] + 6 * felt[:, :1] * (np.arange(68) > 47)[None, :]
    ).astype(np.float32)
    face[:, 2:4] = 1
    streams["OpenFace_2"][video] = (face, times)
    faces.append(felt)

    clock = np.arange(round((seconds + 0.2) * RATE)) / RATE
    wave = 0.01 * rng.normal(size=len(clock))
    for start, end, level, pitch in loud:
        here = (clock >= start) & (clock < end)
        wave[here] += level * np.sin(2 * np.pi * pitch * clock[here])
    voice.append(wave)
    _wav(root / "Raw/Audio/Full/WAV_16000" / f"{video}.wav", wave)
    for k, row in enumerate(order):
        _pictures(root / "Frames" / f"{video}_{k}", spans[int(row)], strong[int(row)], rng)


def _wav(path: Path, wave: NDArray[np.float64]) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave.clip(-1, 1), RATE)


def _pictures(folder: Path, span: tuple[float, float], present: list[int], rng: np.random.Generator) -> None:
    """A face as grey shapes: brightness and the height of the mouth lean with two emotions."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(max(2, round((span[1] - span[0]) * 10))):
        picture = rng.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
        picture[4:20, 5:19] = 150 + 40 * present[0]
        picture[14 + 2 * present[1] : 16 + 2 * present[1], 8:16] = 60
        Image.fromarray(picture).save(folder / f"{i + 1:04d}.png")


def _csd(
    path: Path, group: str, videos: dict[str, tuple[NDArray[np.generic], NDArray[np.float64]]], names: list[str] | None
) -> None:
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
        said = {"root name": group, "computational sequence version": "1.0", "creator": "mmcl, made up"}
        if names is not None:
            said["dimension names"] = names  # type: ignore[assignment]  # JSON holds lists too
        for key, value in said.items():
            metadata.create_dataset(key, data=np.array([json.dumps(value)], dtype=object), dtype=h5py.string_dtype("utf-8"))


__all__ = ["EMOTIONS", "write"]
