"""Dots and bars: one row a name, its score as a dot with an interval or its share as a bar."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...evaluate.statistics import Summary
from .axes import (
    DASHED,
    DESK,
    LETTER,
    SIZE,
    axis_name,
    canvas,
    from_zero,
    left_of,
    minus,
    note,
    number,
    percent,
    right_of,
    ring,
    room,
    rules,
    scale,
    shorten,
    specks,
    thousands,
)
from .picture import COLOUR, Picture, picture


@dataclass(frozen=True)
class Measured:
    """One dot of a dot plot: its summary, and the single measurements behind it."""

    summary: Summary
    values: Sequence[float]


def dots(
    rows: Mapping[str, Mapping[str, Measured]], floor: float | None, metric: str, bounds: tuple[float, float], alt: str
) -> Picture:
    """Mean and interval of every row, one dot for each encoder; single measurements behind it, the baseline as a dashed line.

    rows   label → encoder ("pretrained", "random") → what was measured
    floor  what the majority class (or the mean) reaches
    """
    encoders = [name for name in ("pretrained", "random") if any(name in row for row in rows.values())]
    reach = [
        v
        for row in rows.values()
        for m in row.values()
        for v in (m.summary.mean, m.summary.low, m.summary.high, *m.values)
        if v is not None
    ]
    reach += [] if floor is None else [floor]

    def draw(width: float) -> Figure:
        label, value, step = room(rows, width), 126.0 if width > DESK else 62.0, 24.0 + 16.0 * len(encoders)
        figure, ax = canvas(width, 30.0 + step * len(rows) + 42.0, label, value, 30.0, 42.0)
        low, high = from_zero(reach, bounds)
        _scores_across(ax, len(rows), (low, high), metric, width)
        for y, (name, row) in enumerate(rows.items()):
            if y:
                ax.axhline(y - 0.5, color=COLOUR["line"], linewidth=1, zorder=0)
            left_of(ax, y, shorten(name, label - 12))
            for encoder in encoders:
                if encoder in row:
                    shift = 0.0 if len(encoders) == 1 else (-8.5 if encoder == "pretrained" else 8.5) / step
                    _dot(ax, y + shift, encoder, row[encoder], width > DESK)
        if floor is not None:
            ax.axvline(floor, color=COLOUR["ink"], linewidth=1.2, linestyle=DASHED, zorder=1)
            shift, side = (-4, "right") if (floor - low) / (high - low) > 0.6 else (4, "left")
            note(ax, f"baseline {floor:.2f}", (floor, 1), (shift, 7), along="x", align=side)
        return figure

    return picture(draw, alt)


def _dot(ax: Axes, y: float, encoder: str, measured: Measured, wide: bool) -> None:
    """One encoder's mean, interval, single measurements and number."""
    score, colour, main = measured.summary, COLOUR[encoder], encoder == "pretrained"
    text = "undefined"
    if score.mean is not None:
        if len(measured.values) > 1:
            specks(ax, measured.values, [y] * len(measured.values), 4.5, encoder, 0.28, cut=False)
        if score.low is not None and score.high is not None:
            ax.plot([score.low, score.high], [y, y], color=colour, linewidth=2.5, solid_capstyle="round", clip_on=True)
        # Shape and filling tell the encoders apart where colours don't.
        marker, size, face = ("o", 10, colour) if main else ("D", 7.5, COLOUR["card"])
        ax.plot(
            [score.mean],
            [y],
            color=colour,
            marker=marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=colour,
            markeredgewidth=2,
            clip_on=False,
            zorder=4,
        )
        text = minus(f"{score.mean:.3f}") + (f" ± {score.sd:.3f}" if wide and score.sd is not None else "")
    right_of(ax, y, text, 14, colour="ink" if main else "muted", bold=main)


def recalls(classes: Sequence[str], recall: Mapping[str, Sequence[float | None]], counts: Sequence[float], alt: str) -> Picture:
    """One bar for each class: the share of its recordings that was recognised; the random encoders' share as a mark."""
    main = "pretrained" if "pretrained" in recall else "random"

    def draw(width: float) -> Figure:
        label, value, step = room(classes, width), 96.0 if width > DESK else 52.0, 26.0 if len(classes) <= 12 else 20.0
        figure, ax = canvas(width, 10 + step * len(classes) + 42, label, value, 10.0, 42.0)
        _rows(ax, len(classes), (0, 1), "recall")
        scale(ax.xaxis, 4, percent)
        for y, name in enumerate(classes):
            left_of(ax, y, shorten(name, label - 12))
            share = recall[main][y]
            if share is not None:
                ax.add_patch(
                    Rectangle((0, y - 0.31), share, 0.62, facecolor=COLOUR[main], edgecolor="none", alpha=0.85, zorder=2)
                )
            other = recall["random"][y] if main == "pretrained" and "random" in recall else None
            if other is not None:
                ring(ax, other, y, "D", "random", 4)
            of = f" of {thousands(counts[y])}" if width > DESK else ""
            right_of(ax, y, "none" if share is None else percent(share) + of)
        return figure

    return picture(draw, alt)


def ranked(rows: Sequence[tuple[str, float, float, float]], reference: str, across: str, alt: str) -> Picture:
    """Scores with intervals, one below the other: (name, mean, low, high). The reference stands out, and its mean is a line."""

    def draw(width: float) -> Figure:
        label, step = min(width * 0.5, max(len(row[0]) for row in rows) * LETTER + 20), 26.0
        # The words under the axis stand at its middle, and may reach to the nearer edge of the picture on both sides.
        under = fill(across, int((width - abs(label - 56.0) - 8) / LETTER))
        bottom = 42.0 + 16 * under.count("\n")
        figure, ax = canvas(width, 12 + step * len(rows) + bottom, label, 56.0, 12.0, bottom)
        _scores_across(ax, len(rows), from_zero([v for row in rows for v in row[1:]]), under, width)
        for y, (name, mean, left, right) in enumerate(rows):
            mine = name == reference
            colour = COLOUR["pretrained" if mine else "muted"]
            if mine:
                ax.axvline(mean, color=colour, linewidth=1.2, linestyle=DASHED, zorder=1)
            left_of(ax, y, shorten(name, label - 12))
            ax.plot([left, right], [y, y], color=colour, linewidth=2.5, solid_capstyle="round")
            ax.plot([mean], [y], marker="o", markersize=9 if mine else 7, color=colour, markeredgewidth=0, zorder=4)
            right_of(ax, y, minus(f"{mean:.3f}"), 10, bold=mine)
        return figure

    return picture(draw, alt)


def file_of_scores(rows: Sequence[tuple[str, float, float, float]], reference: str, across: str) -> str:
    """The same scores as an SVG file that stands alone, with colours of its own; the last row on top."""
    figure = Figure(figsize=(8.5, 0.9 + 0.32 * len(rows)), layout="constrained")
    ax = figure.add_subplot()
    for y, (name, mean, low, high) in enumerate(rows):
        mine = name == reference
        colour = "#0b6e66" if mine else "#444444"
        ax.plot([low, high], [y, y], color=colour, linewidth=2)
        ax.plot([mean], [y], "o", color=colour, markersize=7 if mine else 5)
    ax.set_yticks(range(len(rows)), [row[0] for row in rows])
    ax.set_xlabel(across)
    ax.grid(axis="x", color="#dddddd")
    ax.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def shares(share_of: Mapping[str, float], alt: str) -> Picture:
    """One bar for each name, which stands above it: a share from 0 to 1."""

    def draw(width: float) -> Figure:
        step, value = 46.0, 52.0
        figure, ax = canvas(width, 8 + step * len(share_of) + 8, 4.0, value, 8.0, 8.0)
        ax.set_xlim(0, 1)
        ax.set_ylim(len(share_of) - 0.5, -0.5)
        ax.set_xticks([])
        ax.set_yticks([])
        for y, (name, share) in enumerate(share_of.items()):
            ax.text(0, y - 0.12, shorten(name, width - value), fontsize=SIZE, color=COLOUR["ink"], va="bottom")
            for size, alpha, colour in ((1.0, 0.6, "line"), (share, 0.85, "pretrained")):
                ax.add_patch(Rectangle((0, y), size, 0.26, facecolor=COLOUR[colour], edgecolor="none", alpha=alpha))
            right_of(ax, y + 0.13, percent(share))
        return figure

    return picture(draw, alt)


def halves(values: Mapping[str, tuple[float, float]], names: tuple[str, str], unit: str, alt: str) -> Picture:
    """For each name one bar of two stretches, one after the other, the second paler; what both are called stands below."""
    fading = (0.9, 0.45)

    def draw(width: float) -> Figure:
        label, value, step = room(values, width), 60.0, 30.0
        figure, ax = canvas(width, 10 + step * len(values) + 62, label, value, 10.0, 62.0)
        _rows(ax, len(values), (0, max(sum(both) for both in values.values()) * 1.02), unit)
        scale(ax.xaxis, 4, thousands)
        for y, (name, both) in enumerate(values.items()):
            left_of(ax, y, shorten(name, label - 12))
            for start, long, alpha in zip((0.0, both[0]), both, fading, strict=True):
                ax.add_patch(
                    Rectangle((start, y - 0.3), long, 0.6, facecolor=COLOUR["pretrained"], edgecolor="none", alpha=alpha)
                )
            right_of(ax, y, thousands(round(sum(both))))
        for k, (alpha, name) in enumerate(zip(fading, names, strict=True)):
            across, high = width - label - value, step * len(values)
            left, top = k * 110.0 / across, -52 / high
            block = Rectangle((left, top), 9 / across, 9 / high, facecolor=COLOUR["pretrained"], edgecolor="none", alpha=alpha)
            block.set_transform(ax.transAxes)
            block.set_clip_on(False)
            ax.add_patch(block)
            ax.text(left + 14 / across, top, name, transform=ax.transAxes, fontsize=SIZE, color=COLOUR["ink"], va="bottom")
        return figure

    return picture(draw, alt)


def splits(classes: Sequence[str], share_of: Mapping[str, Sequence[float]], alt: str) -> Picture:
    """For each class one bar a split, training the widest: the share of the split's recordings that are of the class."""
    fading = (0.9, 0.55, 0.28)

    def draw(width: float) -> Figure:
        bar = 9.0 if len(classes) <= 12 else 6.0
        label, value, step = room(classes, width), 56.0, bar * len(share_of) + 12
        figure, ax = canvas(width, 34 + step * len(classes) + 42, label, value, 34.0, 42.0)
        highest = max((share for each in share_of.values() for share in each), default=1.0)
        _rows(ax, len(classes), (0, max(highest * 1.05, 0.01)), "share of the split’s recordings")
        scale(ax.xaxis, 4, percent)
        for y, name in enumerate(classes):
            left_of(ax, y, shorten(name, label - 12))
            for k, (alpha, each) in enumerate(zip(fading, share_of.values(), strict=False)):
                top = y + (k - len(share_of) / 2) * bar / step
                ax.add_patch(
                    Rectangle(
                        (0, top), each[y], bar / step * 0.9, facecolor=COLOUR["pretrained"], edgecolor="none", alpha=alpha
                    )
                )
            right_of(ax, y, percent(next(iter(share_of.values()))[y]))
        for k, (alpha, name) in enumerate(zip(fading, share_of, strict=False)):
            at = k * min(96.0, (width - label - value) / max(1, len(share_of)))
            left, high = at / (width - label - value), 1 + 18 / (step * len(classes))
            side = 9 / (width - label - value), 9 / (step * len(classes))
            block = Rectangle((left, high), *side, facecolor=COLOUR["pretrained"], edgecolor="none", alpha=alpha, clip_on=False)
            block.set_transform(ax.transAxes)
            ax.add_patch(block)
            ax.text(left + 1.5 * side[0], high, name, fontsize=SIZE, color=COLOUR["muted"], va="bottom", transform=ax.transAxes)
        return figure

    return picture(draw, alt)


def _scores_across(ax: Axes, rows: int, limits: tuple[float, float], across: str, width: float) -> None:
    """So many rows over an axis of scores."""
    _rows(ax, rows, limits, across)
    scale(ax.xaxis, 4 if width < DESK else 6, number, round_steps=True)


def _rows(ax: Axes, rows: int, limits: tuple[float, float], across: str) -> None:
    """So many rows, the first on top, over one ruled axis."""
    ax.set_xlim(*limits)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_yticks([])
    rules(ax, "x")
    axis_name(ax, across, 6)
