"""The page of one recording: everything that is known of it on one time line. One file, offline, no script."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..api.raw import Audio, Pictures, Still, Table, Video, Words
from ..api.raw import Sequence as Steps
from ..review.one_recording import BINS, RecordingShown, SourceShown, StreamShown
from ..runs import write_text
from .figures.time_line import Track, time_line
from .pages import environment, finished

LONG = 100_000
"""Steps beyond which a stream's deviation is that of its blocks."""
MOST_WORDS = 400
"""Words that the page lists."""


def write_page(shown: RecordingShown, out: Path) -> Path:
    """Write the page; its path."""
    write_text(out, page(shown))
    return out


def page(shown: RecordingShown) -> str:
    """The page, as text. Equal recordings give equal bytes."""
    tracks = tracks_of(shown)
    seconds = shown.seconds or 1.0
    text = (
        environment()
        .get_template("one_recording.html.j2")
        .render(
            name=shown.id,
            shown=shown,
            seconds=shown.seconds,
            picture_of=time_line(tracks, seconds, _alt(shown)) if tracks else None,
            sources=[_source_row(one) for one in shown.sources],
            streams=[_stream_row(one) for one in shown.streams],
            words=_words_list(shown),
            version=__version__,
        )
    )
    return finished(text)


def tracks_of(shown: RecordingShown) -> list[Track]:
    """What the time line shows, from top to bottom: sources, streams, training's windows."""
    tracks = [track for one in shown.sources if (track := _of_source(one)) is not None]
    tracks += [track for one in shown.streams if (track := _of_stream(one, shown)) is not None]
    if shown.windows:
        whole = shown.seconds
        times = np.array([[one.start, one.start + (one.seconds or whole)] for one in shown.windows])
        names = [f"{one.epoch}" for one in shown.windows]
        tracks.append(
            Track(
                f"windows that pretraining cut, by epoch ({shown.trained})",
                "windows",
                whole,
                times=np.minimum(times, whole),
                texts=names,
            )
        )
    return tracks


def _of_source(one: SourceShown) -> Track | None:
    """A source's track: the sound as a wave, films as frames, words; tables and arrays are shown as streams."""
    name = f"{one.name}: {one.type}"
    if isinstance(one.raw, Audio) and one.wave:
        return Track(f"{one.name}: waveform, {one.raw.rate:,} Hz", "wave", one.seconds or 0.0, one.wave.envelope)
    if isinstance(one.raw, Video) and one.film:
        whole = len(one.film.numbers) == one.film.count
        times = None if whole else np.stack([one.film.numbers, one.film.numbers + 1], axis=1) / one.raw.rate
        return Track(
            f"{name}, {one.raw.rate:.3g} frames a second",
            "frames",
            one.seconds or 0.0,
            coloured(one.film.frames),
            times,
            gaps=one.gaps,
            points=one.points,
        )
    if isinstance(one.raw, Words) and one.raw.times is not None:
        return Track(name, "words", one.seconds or 0.0, times=one.raw.times, texts=one.raw.words)
    if isinstance(one.raw, Table) and one.gaps:
        return Track(f"{name}; where no face was seen is shaded", "empty", one.seconds or 0.0, gaps=one.gaps)
    return None


def _of_stream(one: StreamShown, shown: RecordingShown) -> Track | None:
    """A stream's track; None for vectors, which have no time, and where a source shows the same."""
    name = f"{one.name}: {one.layout}"
    if one.values is None:
        return Track(one.name, "empty", 0.0, texts=("nothing",))
    if not one.layout.timed:
        return None
    values, times = one.values, one.times
    axes = one.layout.axes
    if axes == ("time", "channel", "height", "width"):
        return Track(name, "frames", one.seconds, coloured(values), times, one.gaps)
    if axes == ("time", "joint", "channel"):
        points = np.asarray(values[:, :, :2], np.float64)
        if not str(one.layout.notes.get("graph", "")).startswith("face"):
            points = points * np.array([1.0, -1.0])  # a body's second axis points up
        return Track(name, "points", one.seconds, points, times, one.gaps)
    if axes[1:] == ("token",):
        return None
    rows = np.asarray(values).reshape(len(values), -1)
    if times is None:
        flat = blocks(rows)
    else:
        flat, times = np.asarray(rows[: BINS // 4], np.float64), times[: BINS // 4]
    if one.layout.kind != "spectrogram":
        mean, deviation = spread(rows)
        flat = (flat - mean) / np.where(deviation > 0, deviation, 1.0)
    ends = one.seconds if one.layout.rate else shown.seconds  # after the last word there is silence, and nothing is missing
    return Track(name, "heat", ends, flat, times, one.gaps)


def blocks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Means of blocks of steps, BINS at most."""
    if len(values) <= BINS:
        return np.asarray(values, np.float64)
    edges = np.linspace(0, len(values), BINS + 1).astype(int)
    means = [values[first:last].mean(axis=0, dtype=np.float64) for first, last in itertools.pairwise(edges)]
    return np.stack(means)


def spread(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each column, of long streams by the means of their blocks."""
    few = values if len(values) <= LONG else blocks(values)
    return few.mean(axis=0, dtype=np.float64), few.std(axis=0, dtype=np.float64)


def coloured(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """Frames [T, channel, height, width] as pictures [T, height, width, 3]; of other than three channels the first, in grey."""
    picked = frames if frames.shape[1] == 3 else frames[:, :1].repeat(3, axis=1)
    if picked.dtype != np.uint8:
        low, high = float(picked.min()), float(picked.max())
        picked = ((picked - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
    pixels: NDArray[np.uint8] = picked.transpose(0, 2, 3, 1)
    return pixels


def _source_row(one: SourceShown) -> dict[str, str]:
    """A row of the table of sources."""
    raw = one.raw
    if isinstance(raw, Audio) and one.wave:
        what = f"{one.wave.samples:,} samples, {raw.rate:,} a second, loudest {one.wave.loudest:.3f}"
    elif isinstance(raw, Video) and one.film:
        height, width = one.film.frames.shape[2:]
        what = f"{one.film.count:,} frames of {height} × {width}, {raw.rate:.4g} a second"
    elif isinstance(raw, Pictures):
        what = f"{len(raw.pictures):,} pictures of {' × '.join(map(str, raw.pictures.shape[2:]))}, without a clock"
    elif isinstance(raw, Still):
        what = f"{' × '.join(map(str, np.shape(raw.values))) or 'one'} numbers that hold throughout"
    elif isinstance(raw, Words):
        what = f"{len(raw.words):,} words" + ("" if raw.times is not None else ", without times")
    elif isinstance(raw, Table | Steps):
        what = f"{len(raw.values):,} steps of {' × '.join(map(str, raw.values.shape[1:])) or 'one number'}"
        what += f", {raw.rate:.4g} a second" if raw.rate else ""
    else:
        what = "could not be read"
    gaps = sum(stop - start for start, stop in one.gaps)
    return {
        "name": one.name,
        "where": one.where,
        "what": what,
        "seconds": _seconds(one.seconds),
        "gaps": f"{gaps:.2f} s" if gaps else "–",
    }


def _stream_row(one: StreamShown) -> dict[str, str]:
    """A row of the table of streams."""
    if one.values is None:
        return {"name": one.name, "features": one.features, "what": "nothing", "seconds": "–", "range": "–", "gaps": "–"}
    values = one.values
    gaps = sum(stop - start for start, stop in one.gaps)
    return {
        "name": one.name,
        "features": one.features,
        "what": f"{len(values):,} steps; {one.layout}" if one.layout.timed else str(one.layout),
        "seconds": _seconds(one.seconds) if one.layout.timed else "–",
        "range": f"{float(values.min()):.4g} to {float(values.max()):.4g}",
        "gaps": f"{gaps:.2f} s" if gaps else "–",
    }


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _words_list(shown: RecordingShown) -> list[dict[str, str]]:
    """The words with their times."""
    rows = []
    for one in shown.sources:
        if isinstance(one.raw, Words):
            times = one.raw.times
            for i, word in enumerate(one.raw.words[:MOST_WORDS]):
                rows.append({"word": word, "time": "–" if times is None else f"{times[i][0]:.2f} to {times[i][1]:.2f} s"})
    return rows


def _alt(shown: RecordingShown) -> str:
    """The time line in words."""
    parts = [f"{one.name} {_seconds(one.seconds)}" for one in shown.sources if one.seconds]
    parts += [f"{one.name} {_seconds(one.seconds)}" for one in shown.streams if one.values is not None and one.layout.timed]
    gaps = sum(len(one.gaps) for one in shown.sources) + sum(len(one.gaps) for one in shown.streams)
    return f"Time line of {shown.id}: {', '.join(parts)}; {gaps} gaps, {len(shown.windows)} windows of pretraining."
