"""Made-up recordings of every type of source, and whether a recording is as its source says."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.raw import Audio, Pictures, Raw, Sequence, Source, Still, Table, Video, Words

RAW: Mapping[str, type[Any]] = {
    "audio": Audio,
    "video": Video,
    "words": Words,
    "table": Table,
    "sequence": Sequence,
    "pictures": Pictures,
    "still": Still,
}
"""`Source.type` → class of what is read from it."""


def make_sources(kind: str) -> list[Source]:
    """Made-up sources of one type, of the shapes that are usual in the field."""
    units = [f"AU{i:02d}{end}" for end in ("_r", "_c") for i in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)]
    points = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    columns = {"columns": ["timestamp", "confidence", "success", *points, *units]}
    body = {
        "shape": [20, 3],
        "axes": ["joint", "channel"],
        "graph": "kinect-20",
        "root": 3,
        "shoulders": [4, 8],
        "torso": [1, 3],
    }
    face = {"shape": [68, 2], "axes": ["joint", "channel"], "graph": "face-68"}
    sources = {
        "audio": [Source("audio", "made up", 16_000.0)],
        "video": [Source("video", "made up", 25.0, {"shape": [c, 48, 64]}) for c in (3, 1)],
        "words": [Source("words", "made up")],
        "table": [Source("table", "made up", rate, columns) for rate in (30.0, None)],
        "sequence": [Source("sequence", "made up", 30.0, notes) for notes in (body, face, {"shape": [6], "axes": ["channel"]})],
        "pictures": [Source("pictures", "made up", notes={"shape": [c, 48, 64]}) for c in (3, 1)],
        "still": [Source("still", "made up", notes={"shape": shape}) for shape in ([12], [4, 3])],
    }
    return sources[kind]


def make_raw(source: Source, seconds: float = 2.0, seed: int = 0) -> Raw:
    """A made-up recording of a source, of about so many seconds."""
    rng = np.random.default_rng(seed)
    if source.type == "audio":
        rate = int(source.rate or 16_000)
        wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
        return Audio((wave + 0.05 * rng.standard_normal(wave.shape).clip(-3, 3)).astype(np.float32), rate)
    if source.type == "words":
        edges = np.linspace(0.1, seconds, 6)
        return Words(("we", "shall", "see", "about", "that"), np.stack([edges[:-1], edges[1:]], 1))
    shape = tuple(int(n) for n in source.notes.get("shape", ()))
    steps = round(seconds * (source.rate or 25.0))
    if source.type == "video":
        return Video(rng.integers(0, 256, (steps, *(shape or (3, 48, 64))), dtype=np.uint8), float(source.rate or 25.0))
    if source.type == "pictures":
        return Pictures(rng.integers(0, 256, (5, *(shape or (3, 48, 64))), dtype=np.uint8))
    if source.type == "still":
        return Still(rng.standard_normal(shape or (12,)).astype(np.float32))
    if source.type == "table":
        columns = tuple(source.notes.get("columns", ("a", "b", "c")))
        rows = 1 if source.rate is None else steps
        values = rng.uniform(0, 4, (rows, len(columns))).astype(np.float32)
        for good in ("confidence", "success"):
            if good in columns:
                values[:, columns.index(good)] = 1
        return Table(values, columns, source.rate)
    still = rng.standard_normal((1, *(shape or (6,))))
    return Sequence((still + 0.1 * rng.standard_normal((steps, *still.shape[1:]))).astype(np.float32), source.rate or 25.0)


class SoundInPieces(Audio):
    """The same sound, of whose blocks each is a few samples; how long each is differs."""

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `Audio`."""
        return _pieces(self.samples, (1, 700, 63, 4001))


class FilmInPieces(Video):
    """The same film, of whose blocks each is a few frames; how many each has differs."""

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """See `Video`."""
        return _pieces(self.frames, (1, 7, 2, 30))


def in_pieces(raw: Raw) -> Raw | None:
    """The same sound or film, a few steps at a time; None for what has no blocks."""
    if isinstance(raw, Audio):
        return SoundInPieces(raw.samples, raw.rate)
    return FilmInPieces(raw.frames, raw.rate, raw.present) if isinstance(raw, Video) else None


def _pieces(values: NDArray[Any], lengths: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    at = 0
    for length in itertools.cycle(lengths):
        if at >= len(values):
            return
        yield values[at : at + length]
        at += length


def extreme_raws(source: Source) -> list[tuple[str, Raw]]:
    """(what it is, recording): without a step, of one, of constant values, of more than a thousand steps (films: of 90)."""
    raw = make_raw(source)
    if isinstance(raw, Words):
        one = Words(raw.words[:1], None if raw.times is None else raw.times[:1])
        empty = Words((), None if raw.times is None else raw.times[:0])
        step = 0.4
        times = np.arange(1100)[:, None] * step + np.array([[0.0, 0.3]])
        return [("no step", empty), ("one step", one), ("more than 1,000 steps", Words(("we", "see") * 550, times))]
    if isinstance(raw, Still):
        return [("constant values", Still(np.ones_like(raw.values))), ("zeros", Still(np.zeros_like(raw.values)))]
    if isinstance(raw, Pictures):
        every = raw.pictures
        named = {
            "no step": every[:0],
            "one step": every[:1],
            "constant values": np.ones_like(every),
            "many pictures": np.resize(every, (20, *every.shape[1:])),
        }
        return [(what, Pictures(part)) for what, part in named.items()]
    name = "samples" if isinstance(raw, Audio) else "frames" if isinstance(raw, Video) else "values"
    values = getattr(raw, name)
    few = [("no step", values[:0]), ("one step", values[:1])]
    if isinstance(raw, Table) and raw.rate is None:
        return [(what, dataclasses.replace(raw, **{name: part})) for what, part in few[:1]]
    times = 90 if isinstance(raw, Video) else 1100
    long = np.resize(values, (max(len(values), times), *values.shape[1:]))
    level = np.ones_like(values) if not isinstance(raw, Audio) else np.full_like(values, 0.25)
    if isinstance(raw, Table | Sequence):
        level = np.repeat(values[:1], len(values), 0)
    many = [("constant values", level), ("silence" if isinstance(raw, Audio) else "zeros", np.zeros_like(values))]
    return [(what, dataclasses.replace(raw, **{name: part})) for what, part in (*few, *many, ("more than 1,000 steps", long))]


def digest(value: Any) -> str:
    """A hash of a recording, a stream, or anything plain: equal where they are."""
    return hashlib.sha256(_bytes(value)).hexdigest()[:16]


def _bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if dataclasses.is_dataclass(value):
        return b"|".join(_bytes(getattr(value, one.name)) for one in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return b"|".join(_bytes(key) + b":" + _bytes(value[key]) for key in sorted(value, key=str))
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_bytes, value)) + b"]"
    return repr(value).encode()


def raw_problem(source: Source, raw: Any) -> str | None:
    """What is wrong with a raw recording, given its source's description; or None."""
    kind = RAW[source.type]
    if not isinstance(raw, kind):
        return f"a source of type '{source.type}' gives mmcl.api.{kind.__name__}, found {type(raw).__name__}"
    rate = None if isinstance(raw, Words | Pictures | Still) else raw.rate
    if rate is not None and not rate > 0:
        return f"its rate is above 0, found {rate}"
    if source.rate is not None and rate != source.rate:
        return f"info says {source.rate:g} a second, the recording {rate}"
    if isinstance(raw, Words):
        if not raw.words or not all(isinstance(word, str) for word in raw.words):
            return "words are texts, at least one"
        if raw.times is not None and (raw.times.shape != (len(raw.words), 2) or not np.isfinite(raw.times).all()):
            return f"times are [words, 2] in seconds, found {raw.times.shape}"
        return None
    values = values_of(raw)
    if not values.size:
        return "it is empty; raise DataError for a recording that cannot be used"
    if isinstance(raw, Audio | Video) and type(raw) not in (Audio, Video):
        parts = [block for block in raw.blocks() if len(block)]
        if not parts or not equal(np.concatenate(parts), values):
            return f"its blocks, one after the other, are not its {'samples' if isinstance(raw, Audio) else 'frames'}"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return "it holds a NaN or an infinite value; raise DataError, naming file and row"
    shape = tuple(source.notes.get("shape", ()))
    if isinstance(raw, Audio):
        if values.dtype != np.float32 or values.ndim != 1 or np.abs(values).max() > 1:
            return f"samples are float32 [n] in [-1, 1], found {values.dtype} {values.shape} up to {np.abs(values).max():.3g}"
    elif isinstance(raw, Video):
        if values.dtype != np.uint8 or values.ndim != 4:
            return f"frames are uint8 [T, channel, height, width], found {values.dtype} {values.shape}"
    elif isinstance(raw, Pictures):
        if values.dtype != np.uint8 or values.ndim != 4:
            return f"pictures are uint8 [n, channel, height, width], found {values.dtype} {values.shape}"
    elif isinstance(raw, Still):
        if shape and values.shape != shape:
            return f"info says {list(shape)}, the recording {list(values.shape)}"
        shape = ()
    elif isinstance(raw, Table):
        columns = source.notes.get("columns")
        if values.dtype != np.float32 or values.shape[1:] != (len(raw.columns),):
            return f"values are float32 [T, columns], found {values.dtype} {values.shape} for {len(raw.columns)} columns"
        if columns is not None and tuple(columns) != tuple(raw.columns):
            return "its columns are not the ones that info names"
    if shape and not isinstance(raw, Audio | Table) and values.shape[1:] != shape:
        return f"info says steps of shape {shape}, the recording has {values.shape[1:]}"
    return None


def values_of(raw: Any) -> NDArray[Any]:
    """The numbers of a recording, all of them; it is none of words."""
    name = {Audio: "samples", Video: "frames", Pictures: "pictures"}
    values: NDArray[Any] = getattr(raw, next((one for kind, one in name.items() if isinstance(raw, kind)), "values"))
    return values


def seconds_of(raw: Raw) -> float | None:
    """How long a recording lasts, where it says so."""
    if isinstance(raw, Pictures | Still):
        return None
    if isinstance(raw, Audio):
        return len(raw.samples) / raw.rate
    if isinstance(raw, Video):
        return len(raw.frames) / raw.rate
    if isinstance(raw, Words) or raw.rate is None:
        return None
    return len(raw.values) / raw.rate


def equal(one: Any, other: Any) -> bool:
    """Whether two recordings or streams hold the same, NaN being equal to itself."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return bool(one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if hasattr(one, "__dataclass_fields__") and type(one) is type(other):
        return all(equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    return bool(one == other)
