"""Clouds of points: maps of embeddings, predicted against true values, scores over the values that a search tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from .axes import DASHED, DESK, axis_name, grid, note, number, padded, rules, scale, shorten, specks, title
from .picture import COLOUR, MARKED, Picture, picture

SHAPES = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Cloud:
    """Points of a map and what each is; `names` in the order of their colours."""

    title: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Sequence[int | None]  # index into names; None: not known
    names: Sequence[str]


def clouds(panels: Sequence[Cloud], alt: str) -> Picture:
    """Maps side by side, the same or other points coloured by what they are, with a legend below each."""

    def draw(width: float) -> Figure:
        columns, gap = min(len(panels), 3 if width > DESK else 1), 14.0
        side = (width - gap * (columns - 1)) / columns
        legends = [_legend(panel, side) for panel in panels]
        bottom = 16.0 + 15.0 * max(len(each) for each in legends)
        figure, axes = grid(len(panels), columns, width, (side, side), 0.0, gap, top=26.0, bottom=bottom)
        for ax, panel, legend in zip(axes, panels, legends, strict=True):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlim(-1.06, 1.06)
            ax.set_ylim(-1.06, 1.06)
            ax.add_patch(Rectangle((-1.06, -1.06), 2.12, 2.12, fill=False, edgecolor=COLOUR["line"], linewidth=1))
            for kind in (None, *range(len(panel.names))):
                mine = [i for i, k in enumerate(panel.kind) if k == kind]
                if mine:
                    x, y = [panel.x[i] for i in mine], [panel.y[i] for i in mine]
                    colour, marker = _look(kind)
                    specks(ax, x, y, 4.2, colour, 0.8, marker)
            title(ax, panel.title)
            _write_legend(ax, legend, side)
        return figure

    return picture(draw, alt)


def _look(kind: int | None) -> tuple[str, str]:
    """Colour and shape of a kind of points."""
    return ("line", "o") if kind is None else (MARKED[kind % len(MARKED)], SHAPES[kind // len(MARKED) % len(SHAPES)])


def _legend(panel: Cloud, side: float, most: int = 32) -> list[list[tuple[int, float, str]]]:
    """Lines of a legend: (kind, how far from the left, name). Too many names have none."""
    used = [k for k in range(len(panel.names)) if k in set(panel.kind)]
    if len(used) > most:
        return [[]]
    lines: list[list[tuple[int, float, str]]] = [[]]
    at = 0.0
    for kind in used:
        name = shorten(panel.names[kind], 110)
        space = 24.0 + 6.2 * len(name)
        if at + space > side and lines[-1]:
            lines.append([])
            at = 0.0
        lines[-1].append((kind, at, name))
        at += space
    return lines


def _write_legend(ax: Axes, legend: Sequence[Sequence[tuple[int, float, str]]], side: float) -> None:
    for i, entries in enumerate(legend):
        for kind, at, name in entries:
            down = -14.0 - 15.0 * i
            colour, marker = _look(kind)
            ax.plot(
                [(at + 5) / side],
                [(down + 0.5) / side],
                transform=ax.transAxes,
                linestyle="none",
                marker=marker,
                markersize=5.5,
                color=COLOUR[colour],
                markeredgewidth=0,
                clip_on=False,
            )
            note(ax, name, (0, 0), (at + 12, down), level="center_baseline")


def scatter(names: Sequence[str], points: Sequence[tuple[Sequence[float], Sequence[float]]], alt: str) -> Picture:
    """Predicted against true value, a panel for each output, with the line on which they are equal."""

    def draw(width: float) -> Figure:
        columns = min(len(names), 3 if width > DESK else 1)
        left, gap = 48.0, 40.0
        side = min((width - left - 10 - gap * (columns - 1)) / columns, 270.0)
        whole = left + columns * side + gap * (columns - 1) + 10
        figure, axes = grid(len(names), columns, whole, (side, side), left, gap, top=26.0, bottom=42.0)
        for n, (ax, name, (truth, guess)) in enumerate(zip(axes, names, points, strict=True)):
            low, high = min((*truth, *guess), default=0.0), max((*truth, *guess), default=1.0)
            pad = 0.05 * (high - low) or 0.5
            ax.set_xlim(low - pad, high + pad)
            ax.set_ylim(low - pad, high + pad)
            scale(ax.xaxis, 4)
            scale(ax.yaxis, 4)
            rules(ax, "both")
            ax.plot([low, high], [low, high], color=COLOUR["muted"], linewidth=1.2, linestyle=DASHED)
            specks(ax, truth, guess, 4.5, "pretrained", 0.45)
            title(ax, name)
            axis_name(ax, "true")
            if n % columns == 0:
                axis_name(ax, "predicted", up=True)
        return figure

    return picture(draw, alt)


def slices(keys: Mapping[str, Sequence[float | str]], scores: Sequence[float], metric: str, alt: str) -> Picture:
    """A panel for each key: the score of every trial over its value; numbers on an axis, anything else side by side."""

    def draw(width: float) -> Figure:
        columns = min(len(keys), 2 if width > DESK else 1)
        left, gap = 52.0, 58.0
        inside = (width - left - 14 - gap * (columns - 1)) / columns
        figure, axes = grid(len(keys), columns, width, (inside, 170.0), left, gap, top=34.0, bottom=40.0)
        limits = padded(scores, 0.08)
        for n, (ax, (name, values)) in enumerate(zip(axes, keys.items(), strict=True)):
            ax.set_ylim(*limits)
            scale(ax.yaxis, 4, number)
            rules(ax, "y")
            specks(ax, _places(ax, values, inside), scores, 6, "pretrained", 0.6, cut=False)
            title(ax, shorten(name, inside), 8)
            if n % columns == 0:
                axis_name(ax, metric, up=True)
        return figure

    return picture(draw, alt)


def _places(ax: Axes, values: Sequence[float | str], inside: float) -> list[float]:
    """Where values stand on the horizontal axis, which becomes logarithmic, linear or a list of names."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        names = list(dict.fromkeys(str(value) for value in values))
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_xticks(range(len(names)), [shorten(one, inside / len(names)) for one in names])
        return [float(names.index(str(value))) for value in values]
    if min(numbers) > 0 and max(numbers) >= 30 * min(numbers):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        scale(ax.xaxis, 4, number)
    return numbers
