"""One recording on one time line: track below track, what is missing shaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from .axes import LETTER, SMALL, note, number, rules, scale, title
from .picture import COLOUR, Picture, picture

_SHADES = LinearSegmentedColormap.from_list("shades", ["#f4f6fb", "#8aa2df", "#2a55c9", "#111b46"])
"""Shades of a heat map; a picture of pixels cannot take its colours from the page."""
HEIGHT = {"wave": 64.0, "heat": 96.0, "frames": 84.0, "points": 84.0, "words": 44.0, "windows": 96.0, "empty": 24.0}
"""Pixels of a track's axes by what it shows."""


@dataclass(frozen=True)
class Track:
    """One row of the time line.

    show     wave (values [bins, 2]: lowest and highest), heat ([T, channel]), frames ([T, height, width, 3], uint8),
             points ([T, point, 2], right and down), words, windows, empty
    seconds  to when its values reach
    times    start and end of each step, where steps have their own, [T, 2]
    gaps     stretches where nothing is there
    texts    words, or which window each of `times` is of
    """

    name: str
    show: str
    seconds: float
    values: NDArray[Any] | None = None
    times: NDArray[np.float64] | None = None
    gaps: Sequence[tuple[float, float]] = ()
    texts: Sequence[str] = ()
    points: NDArray[np.float64] | None = field(default=None)


def time_line(tracks: Sequence[Track], seconds: float, alt: str) -> Picture:
    """Every track over the same seconds."""

    def draw(width: float) -> Figure:
        inside = width - 52.0
        heights = [HEIGHT[track.show] for track in tracks]
        top, foot = 26.0, 34.0
        whole = sum(heights) + top * len(tracks) + foot
        figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
        level = whole
        for k, (track, height) in enumerate(zip(tracks, heights, strict=True)):
            level -= top + height
            ax = figure.add_axes((40.0 / width, level / whole, inside / width, height / whole))
            for spine in ax.spines.values():
                spine.set_visible(False)
            ax.patch.set_visible(False)
            ax.set_axisbelow(True)
            ax.tick_params(length=0, pad=5, labelsize=SMALL, labelcolor=COLOUR["muted"])
            ax.set_yticks([])
            title(ax, track.name, 5)
            _DRAW[track.show](ax, track, seconds, inside, height)
            for start, stop in _missing(track, seconds):
                ax.add_patch(
                    Rectangle(
                        (start, 0),
                        stop - start,
                        1,
                        transform=ax.get_xaxis_transform(),
                        color=COLOUR["line"],
                        linewidth=0,
                        zorder=0.5,
                    )
                )
            ax.set_xlim(0, seconds)
            scale(ax.xaxis, 10 if width > 500 else 5, number)
            rules(ax, "x")
            if k < len(tracks) - 1:
                ax.tick_params(labelbottom=False)
            else:
                note(ax, "seconds", (1, 0), (0, -28), align="right")
        return figure

    return picture(draw, alt)


def _missing(track: Track, seconds: float) -> list[tuple[float, float]]:
    """What is shaded: the gaps, and what comes after the end."""
    if track.show in ("words", "windows"):
        return list(track.gaps)
    after = [(track.seconds, seconds)] if track.seconds < seconds - 1e-6 else []
    return [*track.gaps, *after]


def _wave(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    assert track.values is not None
    at = (np.arange(len(track.values)) + 0.5) * track.seconds / len(track.values)
    ax.fill_between(at, track.values[:, 0], track.values[:, 1], color=COLOUR["c1"], linewidth=0.4)
    most = max(float(np.abs(track.values).max()), 1e-6)
    ax.set_ylim(-most, most)
    ax.set_yticks([-most, most], [number(float(f"{-most:.2g}")), number(float(f"{most:.2g}"))])


def _heat(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    assert track.values is not None
    low, high = np.percentile(track.values, [1, 99])
    settings: Any = {"cmap": _SHADES, "vmin": low, "vmax": high if high > low else low + 1, "zorder": 1}
    bands = track.values.shape[1]
    if track.times is None:
        ax.imshow(
            track.values.T,
            aspect="auto",
            origin="lower",
            extent=(0, track.seconds, 0, bands),
            interpolation="nearest",
            **settings,
        )
    else:
        for (start, stop), step in zip(track.times, track.values, strict=True):
            ax.imshow(
                step[:, None], aspect="auto", origin="lower", extent=(start, max(stop, start + 1e-3), 0, bands), **settings
            )
    ax.set_ylim(0, bands)
    ax.set_yticks([0, bands], ["0", str(bands)])


def _places(track: Track, seconds: float, width: float, side: float) -> list[tuple[int, float]]:
    """Which steps are shown as small pictures of so many pixels, and the second at which the left edge of each stands."""
    assert track.values is not None
    each = seconds * side / width
    steps = len(track.values)
    middles = track.times.mean(axis=1) if track.times is not None else (np.arange(steps) + 0.5) * track.seconds / max(1, steps)
    places = []
    for k in range(int(max(1.0, (seconds + 1e-9) // (each * 1.04)))):
        middle = (k + 0.5) * each * 1.04
        nearest = int(np.argmin(np.abs(middles - middle)))
        if abs(middles[nearest] - middle) <= max(each / 2, 1.5 * seconds / max(1, steps)):
            places.append((nearest, middle - each / 2))
    return places


def _frames(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    assert track.values is not None
    tall, wide = track.values.shape[1:3]
    side = height * wide / tall
    each = seconds * side / width
    for frame, left in _places(track, seconds, width, side):
        ax.imshow(track.values[frame], aspect="auto", extent=(left, left + each, 0, 1), zorder=1)
        if track.points is not None and np.isfinite(track.points[frame]).all():
            x, y = track.points[frame].T
            ax.plot(left + x * each, 1 - y, ".", markersize=1.8, color="#ffd400", markeredgewidth=0, zorder=2)
    ax.set_ylim(0, 1)


def _points(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    assert track.values is not None
    points = track.values.astype(np.float64)
    flat = points.reshape(-1, 2)
    low, high = np.percentile(flat, [0.5, 99.5], axis=0)
    span = float(max(*(high - low), 1e-9))
    middle = (low + high) / 2
    each = seconds * height / width
    for frame, left in _places(track, seconds, width, height):
        x, y = ((points[frame] - middle) / span * 0.92 + 0.5).T
        ax.plot(left + x * each, 1 - y, ".", markersize=2.2, color=COLOUR["c3"], markeredgewidth=0)
    ax.set_ylim(0, 1)


def _words(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    assert track.times is not None
    free = [0.0, 0.0, 0.0]
    for text, (start, stop) in zip(track.texts, track.times, strict=True):
        ax.add_patch(
            Rectangle((start, 0.0), max(stop - start, seconds / width), 0.16, color=COLOUR["c2"], linewidth=0, alpha=0.75)
        )
        at = start * width / seconds
        line = next((k for k, end in enumerate(free[:2]) if at >= end), None)
        if line is None:
            continue  # its bar is there, and the table below has the word
        free[line] = at + LETTER * len(text) + 4
        ax.text(start, 0.28 + 0.36 * line, text, fontsize=SMALL, color=COLOUR["ink"])
    ax.set_ylim(0, 1)


def _windows(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    assert track.times is not None
    rows = list(dict.fromkeys(track.texts))
    lines = [
        [(start, -rows.index(text) - 0.5 - 0.18 * (k % 2)), (stop, -rows.index(text) - 0.5 - 0.18 * (k % 2))]
        for k, (text, (start, stop)) in enumerate(zip(track.texts, track.times, strict=True))
    ]
    ax.add_collection(LineCollection(lines, colors=COLOUR["pretrained"], linewidths=2, alpha=0.75))
    ax.set_ylim(-len(rows), 0)
    ax.set_yticks([-0.5, -len(rows) + 0.5], [rows[0], rows[-1]])


def _empty(ax: Axes, track: Track, seconds: float, width: float, height: float) -> None:
    note(ax, track.texts[0] if track.texts else "", (0, 0.5), (6, 0), level="center")


_DRAW = {
    "wave": _wave,
    "heat": _heat,
    "frames": _frames,
    "points": _points,
    "words": _words,
    "windows": _windows,
    "empty": _empty,
}
