"""The report's pictures, as inline SVG that takes its colours and its type from the page.

Each is drawn twice, for a desk and for a phone, with the words that a screen reader says instead. Colours are drawn as
placeholders and become the page's CSS variables, so that one picture serves light, dark and paper; shades are opacities, so
that they fade into whatever is behind them.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ..evaluate.statistics import Summary

WIDE, NARROW = 760.0, 322.0
"""Width in CSS pixels of the two drawings of a picture."""

PANELS = 12
"""Folds beyond which the curves of all share one panel."""
MARKED = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
"""Colours that tell classes, groups and modalities apart; beyond eight they come again with another shape."""
COLOURS = ("ink", "muted", "line", "pretrained", "random", "card", "on-strong", *MARKED)
SHAPES = ("o", "s", "^", "D", "v", "P")
_PLACE = {name: f"#{i:02x}{i:02x}{i:02x}" for i, name in enumerate(COLOURS, 1)}
_LETTER = 7.0  # pixels, a generous mean width of a letter at the size of labels
_SIZE = 12.0


@dataclass(frozen=True)
class Picture:
    """A picture for a desk and for a phone, and the same in words."""

    wide: Markup
    narrow: Markup
    alt: str


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
        label = _room(rows, width)
        value = 126.0 if width > 500 else 62.0
        step = 24.0 + 16.0 * len(encoders)
        top, bottom = 30.0, 42.0
        figure, ax = _canvas(width, top + step * len(rows) + bottom, label, value, top, bottom)
        low, high = _span(reach, bounds)
        ax.set_xlim(low, high)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.xaxis.set_major_locator(MaxNLocator(4 if width < 500 else 6, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _number(x)))
        ax.grid(axis="x", color=_PLACE["line"], linewidth=1)
        ax.set_yticks([])
        ax.set_xlabel(f"{metric}", color=_PLACE["muted"], fontsize=_SIZE, labelpad=6)
        for y, (name, row) in enumerate(rows.items()):
            if y:
                ax.axhline(y - 0.5, color=_PLACE["line"], linewidth=1, zorder=0)
            _beside(ax, y, _shorten(name, label - 12))
            for encoder in encoders:
                if encoder not in row:
                    continue
                shift = 0.0 if len(encoders) == 1 else (-8.5 if encoder == "pretrained" else 8.5) / step
                _dot(ax, y + shift, encoder, row[encoder], bounds, width > 500)
        if floor is not None:
            ax.axvline(floor, color=_PLACE["ink"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            right = (floor - low) / (high - low) > 0.6
            ax.annotate(
                f"baseline {floor:.2f}",
                (floor, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(4 if not right else -4, 7),
                textcoords="offset pixels",
                ha="right" if right else "left",
                fontsize=11,
                color=_PLACE["muted"],
            )
        return figure

    return _picture(draw, alt)


def _dot(ax: Axes, y: float, encoder: str, measured: Measured, bounds: tuple[float, float], wide: bool) -> None:
    """One encoder's mean, interval, single measurements and number."""
    said, colour = measured.summary, _PLACE[encoder]
    number = "undefined"
    if said.mean is not None:
        if len(measured.values) > 1:
            ax.plot(
                measured.values,
                [y] * len(measured.values),
                linestyle="none",
                marker="o",
                markersize=4.5,
                color=colour,
                alpha=0.28,
                markeredgewidth=0,
                clip_on=False,
            )
        if said.low is not None and said.high is not None:
            ax.plot([said.low, said.high], [y, y], color=colour, linewidth=2.5, solid_capstyle="round", clip_on=True)
        # Shape and filling tell the encoders apart where colours don't.
        marker, size, face = ("o", 10, colour) if encoder == "pretrained" else ("D", 7.5, _PLACE["card"])
        ax.plot(
            [said.mean],
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
        number = f"{said.mean:.3f}".replace("-", "−") + (f" ± {said.sd:.3f}" if wide and said.sd is not None else "")
    ax.annotate(
        number,
        (1, y),
        xycoords=ax.get_yaxis_transform(),
        xytext=(14, 0),
        textcoords="offset pixels",
        va="center_baseline",
        fontsize=_SIZE,
        color=_PLACE["ink"] if encoder == "pretrained" else _PLACE["muted"],
        weight=700 if encoder == "pretrained" else 400,
    )


@dataclass(frozen=True)
class Curve:
    """The losses of one fold and seed, one value an epoch."""

    fold: int
    seed: int
    epochs: Sequence[int]
    train: Sequence[float]
    valid: Sequence[float | None]
    best: int  # epoch whose weights were kept


def curves(found: Sequence[Curve], alt: str) -> Picture:
    """Training and validation loss over epochs, the kept epoch as a dot; a panel for each fold, one for all beyond PANELS."""
    folds = sorted({c.fold for c in found})
    panels = [[c for c in found if c.fold == fold] for fold in folds] if len(folds) <= PANELS else [list(found)]
    values = [v for c in found for v in (*c.train, *c.valid) if v is not None]
    last = max(c.epochs[-1] for c in found)

    def draw(width: float) -> Figure:
        columns = min(len(panels), 2)
        if width > 500 and len(panels) > 2:
            columns = min((3, 4), key=lambda c: (-len(panels) % c, -c))  # few empty places, then few lines
        lines = math.ceil(len(panels) / columns)
        left, right, top, bottom, gap = 44.0, 10.0, 34.0, 40.0, 22.0
        inside = (width - left - right - gap * (columns - 1)) / columns
        height = min(inside * 0.75, 250.0)
        whole = lines * (height + top) + bottom
        figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
        low, high = min(values), max(values)
        pad = (high - low) * 0.06 or 0.05 * abs(high) or 0.1
        for i, panel in enumerate(panels):
            line, column = divmod(i, columns)
            x, y = left + column * (inside + gap), whole - (line + 1) * (height + top)
            ax = figure.add_axes((x / width, y / whole, inside / width, height / whole))
            _plain(ax)
            ax.set_xlim(0.5 if last == 1 else 1 - 0.02 * last, (1.5 if last == 1 else last) + 0.02 * last)
            ax.set_ylim(low - pad, high + pad)
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.xaxis.set_major_locator(MaxNLocator(3 if inside < 200 else 6, integer=True))
            ax.grid(axis="y", color=_PLACE["line"], linewidth=1)
            if column:
                ax.set_yticklabels([])
            # Labels of the axis below the lowest panel of each column only.
            if i + columns < len(panels):
                ax.set_xticklabels([])
            else:
                ax.set_xlabel("epoch", color=_PLACE["muted"], fontsize=_SIZE, labelpad=4)
            if len(panels) > 1:
                ax.set_title(f"fold {panel[0].fold}", loc="left", fontsize=_SIZE, color=_PLACE["ink"], pad=6)
            alpha = max(0.25, 1 / math.sqrt(len(panel)))
            for curve in panel:
                alone = "o" if len(curve.epochs) == 1 else ""
                ax.plot(
                    curve.epochs, curve.train, color=_PLACE["muted"], linewidth=1.3, alpha=alpha, marker=alone, markersize=4
                )
                known = [(e, v) for e, v in zip(curve.epochs, curve.valid, strict=True) if v is not None]
                if known:
                    ax.plot(*zip(*known, strict=True), color=_PLACE["pretrained"], linewidth=2, alpha=max(alpha, 0.6))
                kept = dict(known or zip(curve.epochs, curve.train, strict=True)).get(curve.best)
                if kept is not None:
                    ax.plot(
                        [curve.best],
                        [kept],
                        marker="o",
                        markersize=7,
                        color=_PLACE["card"],
                        markeredgecolor=_PLACE["pretrained"],
                        markeredgewidth=2,
                        linestyle="none",
                        clip_on=False,
                        zorder=5,
                    )
        return figure

    return _picture(draw, alt)


def confusion(classes: Sequence[str], counts: Sequence[Sequence[float]], encoder: str, alt: str) -> Picture:
    """True classes down, predicted ones across: the share of each row as shade and number, the count where it fits."""
    k = len(classes)

    def draw(width: float) -> Figure:
        label = _room(classes, width)
        cell = max(17.0 if k > 12 else 34.0, min(70.0, (width - label - 8) / k))
        tilt = max(len(c) for c in classes) * _LETTER > cell - 4
        bottom = min(label, _room(classes, WIDE)) * 0.72 + 18 if tilt else 30.0
        lean = 8.0
        figure, ax = _canvas(label + cell * k + lean, 24 + cell * k + bottom, label, lean, 24.0, bottom)
        ax.set_xlim(0, k)
        ax.set_ylim(k, 0)
        ax.set_xticks([])
        ax.set_yticks([])
        for i, row in enumerate(counts):
            whole = sum(row)
            _beside(ax, i + 0.5, _shorten(classes[i], label - 12))
            for j, count in enumerate(row):
                share = count / whole if whole else 0.0
                _cell(ax, j, i, share, round(100 / cell) / 100, encoder)
                if cell >= 30 and count:
                    two = cell >= 42
                    _inside(ax, j + 0.5, i + (0.4 if two else 0.5), f"{100 * share:.0f}%", share, 12.5 if two else 11, i == j)
                    if two:
                        _inside(ax, j + 0.5, i + 0.72, _count(count), share, 9.5, False)
                elif 20 <= cell < 30 and share >= 0.1:
                    _inside(ax, j + 0.5, i + 0.5, f"{100 * share:.0f}", share, 9, i == j)
        for j, name in enumerate(classes):
            ax.annotate(
                _shorten(name, 0.86 * label + 20 if tilt else cell),
                (j + 0.5, 0),
                xycoords=ax.get_xaxis_transform(),
                xytext=(4 if tilt else 0, -9 if tilt else -16),
                textcoords="offset pixels",
                ha="right" if tilt else "center",
                va="top" if tilt else "baseline",
                rotation=45 if tilt else 0,
                rotation_mode="anchor",
                fontsize=_SIZE,
                color=_PLACE["ink"],
            )
        ax.annotate(
            "predicted →",
            (0, 1),
            xycoords="axes fraction",
            xytext=(2, 9),
            textcoords="offset pixels",
            fontsize=11,
            color=_PLACE["muted"],
        )
        ax.annotate(
            "true ↓",
            (0, 1),
            xycoords="axes fraction",
            xytext=(-10, 9),
            textcoords="offset pixels",
            ha="right",
            fontsize=11,
            color=_PLACE["muted"],
        )
        return figure

    return _picture(draw, alt)


def recalls(classes: Sequence[str], found: Mapping[str, Sequence[float | None]], counts: Sequence[float], alt: str) -> Picture:
    """One bar for each class: the share of its recordings that was recognised; the random encoders' share as a mark."""
    main = "pretrained" if "pretrained" in found else "random"

    def draw(width: float) -> Figure:
        label, value, step = _room(classes, width), 96.0 if width > 500 else 52.0, 26.0 if len(classes) <= 12 else 20.0
        figure, ax = _canvas(width, 10 + step * len(classes) + 42, label, value, 10.0, 42.0)
        ax.set_xlim(0, 1)
        ax.set_ylim(len(classes) - 0.5, -0.5)
        ax.set_yticks([])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f}%"))
        ax.grid(axis="x", color=_PLACE["line"], linewidth=1)
        ax.set_xlabel("recall", color=_PLACE["muted"], fontsize=_SIZE, labelpad=6)
        for y, name in enumerate(classes):
            _beside(ax, y, _shorten(name, label - 12))
            share = found[main][y]
            if share is not None:
                ax.add_patch(
                    Rectangle((0, y - 0.31), share, 0.62, facecolor=_PLACE[main], edgecolor="none", alpha=0.85, zorder=2)
                )
            other = found["random"][y] if main == "pretrained" and "random" in found else None
            if other is not None:
                ax.plot(
                    [other],
                    [y],
                    marker="D",
                    markersize=7,
                    color=_PLACE["card"],
                    markeredgecolor=_PLACE["random"],
                    markeredgewidth=2,
                    linestyle="none",
                    clip_on=False,
                    zorder=4,
                )
            text = "none" if share is None else f"{100 * share:.0f}%" + (f" of {_count(counts[y])}" if width > 500 else "")
            ax.annotate(
                text,
                (1, y),
                xycoords=ax.get_yaxis_transform(),
                xytext=(12, 0),
                textcoords="offset pixels",
                va="center_baseline",
                fontsize=_SIZE,
                color=_PLACE["ink"],
            )
        return figure

    return _picture(draw, alt)


def pair_map(names: Sequence[str], found: Mapping[str, Mapping[tuple[str, str], float]], alt: str) -> Picture:
    """Retrieval from each modality (down) to each other one (across), one map for each encoder, on one scale from 0 to 1."""
    k = len(names)

    def draw(width: float) -> Figure:
        label = _room(names, width)
        side = width > 500 and len(found) > 1
        room = (width - len(found) * label - 24) / len(found) if side else width - label - 8
        cell = max(36.0, min(64.0, room / k))
        tilt = max(len(n) for n in names) * _LETTER > cell - 4
        top, bottom = 44.0, (label * 0.72 + 24 if tilt else 30.0)
        one_w, one_h = label + max(cell * k, 154.0), top + cell * k + bottom  # of two modalities the title is the wider part
        across = len(found) if side else 1
        whole_w, whole_h = one_w * across + 24 * (across - 1) + 8, one_h * (1 if side else len(found))
        figure = Figure(figsize=(whole_w / 72, whole_h / 72), dpi=72)
        for n, (encoder, values) in enumerate(found.items()):
            x = (n * (one_w + 24) if side else 0) + label
            y = whole_h - (0 if side else n * one_h) - top - cell * k
            ax = figure.add_axes((x / whole_w, y / whole_h, cell * k / whole_w, cell * k / whole_h))
            _plain(ax)
            ax.set_xlim(0, k)
            ax.set_ylim(k, 0)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.annotate(
                f"{encoder} encoders" if encoder == "pretrained" else "random weights",
                (0, 1),
                xycoords="axes fraction",
                xytext=(0, 26),
                textcoords="offset pixels",
                fontsize=_SIZE,
                weight=700,
                color=_PLACE["ink"],
            )
            ax.annotate(
                "find →",
                (0, 1),
                xycoords="axes fraction",
                xytext=(0, 8),
                textcoords="offset pixels",
                fontsize=11,
                color=_PLACE["muted"],
            )
            ax.annotate(
                "given ↓",
                (0, 1),
                xycoords="axes fraction",
                xytext=(-10, 8),
                textcoords="offset pixels",
                ha="right",
                fontsize=11,
                color=_PLACE["muted"],
            )
            for i, a in enumerate(names):
                _beside(ax, i + 0.5, _shorten(a, label - 12))
                for j, b in enumerate(names):
                    if (a, b) in values:
                        _cell(ax, j, i, values[a, b], 0.03, encoder)
                        _inside(ax, j + 0.5, i + 0.5, f"{values[a, b]:.2f}", values[a, b], 12.5, False)
                    else:
                        ax.plot([j + 0.5], [i + 0.5], marker="o", markersize=3, color=_PLACE["line"])
            for j, b in enumerate(names):
                ax.annotate(
                    _shorten(b, label),
                    (j + 0.5, 0),
                    xycoords=ax.get_xaxis_transform(),
                    xytext=(4 if tilt else 0, -9 if tilt else -16),
                    textcoords="offset pixels",
                    ha="right" if tilt else "center",
                    va="top" if tilt else "baseline",
                    rotation=45 if tilt else 0,
                    rotation_mode="anchor",
                    fontsize=_SIZE,
                    color=_PLACE["ink"],
                )
        return figure

    return _picture(draw, alt)


def ranked(rows: Sequence[tuple[str, float, float, float]], reference: str, across: str, alt: str) -> Picture:
    """Scores with intervals, one below the other: (name, mean, low, high). The reference stands out, and its mean is a line."""

    def draw(width: float) -> Figure:
        label, step = min(width * 0.5, max(len(row[0]) for row in rows) * _LETTER + 20), 26.0
        # The words under the axis stand at its middle, and may reach to the nearer edge of the picture on both sides.
        under = fill(across, int((width - abs(label - 56.0) - 8) / _LETTER))
        bottom = 42.0 + 16 * under.count("\n")
        figure, ax = _canvas(width, 12 + step * len(rows) + bottom, label, 56.0, 12.0, bottom)
        low, high = _span([v for row in rows for v in row[1:]], (-math.inf, math.inf))
        ax.set_xlim(low, high)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_yticks([])
        ax.xaxis.set_major_locator(MaxNLocator(4 if width < 500 else 6, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _number(x)))
        ax.grid(axis="x", color=_PLACE["line"], linewidth=1)
        ax.set_xlabel(under, color=_PLACE["muted"], fontsize=_SIZE, labelpad=6)
        for y, (name, mean, left, right) in enumerate(rows):
            mine = name == reference
            colour = _PLACE["pretrained" if mine else "muted"]
            if mine:
                ax.axvline(mean, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            _beside(ax, y, _shorten(name, label - 12))
            ax.plot([left, right], [y, y], color=colour, linewidth=2.5, solid_capstyle="round")
            ax.plot([mean], [y], marker="o", markersize=9 if mine else 7, color=colour, markeredgewidth=0, zorder=4)
            ax.annotate(
                f"{mean:.3f}".replace("-", "−"),
                (1, y),
                xycoords=ax.get_yaxis_transform(),
                xytext=(10, 0),
                textcoords="offset pixels",
                va="center_baseline",
                fontsize=_SIZE,
                color=_PLACE["ink"],
                weight=700 if mine else 400,
            )
        return figure

    return _picture(draw, alt)


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, how it looks, and (x, mean, low, high) from left to right."""

    name: str
    style: str  # pretrained, random, or one of MARKED
    points: Sequence[tuple[float, float, float | None, float | None]]


def lines(
    panels: Mapping[str, Sequence[Line]], across: str, up: str, floor: float | None, alt: str, shares: bool = False
) -> Picture:
    """Curves with their intervals, a panel for each title; names stand at the right ends where a panel has several.

    shares  x is a share of the labels, on a logarithmic axis in percent
    """
    values = [v for panel in panels.values() for line in panel for point in line.points for v in point[1:] if v is not None]
    values += [] if floor is None else [floor]

    def draw(width: float) -> Figure:
        columns = min(len(panels), 3 if width > 500 else 1)
        rows = math.ceil(len(panels) / columns)
        named = any(len({line.name for line in panel} - {"pretrained", "random"}) > 1 for panel in panels.values())
        left, right, top, bottom, gap = 44.0, 76.0 if named else 14.0, 30.0, 44.0, 18.0
        inside = (width - (left + right) * columns - gap * (columns - 1)) / columns
        height = min(max(inside * 0.66, 170.0), 250.0)
        whole = rows * (height + top + bottom)
        figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
        low, high = min(0.0, *values), max(values) if values else 1.0
        high += 0.06 * (high - low) or 0.1
        for i, (title, panel) in enumerate(panels.items()):
            row, column = divmod(i, columns)
            x, y = left + column * (inside + left + right + gap), whole - row * (height + top + bottom) - top - height
            ax = figure.add_axes((x / width, y / whole, inside / width, height / whole))
            _plain(ax)
            ax.set_ylim(low, high)
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _number(v)))
            ax.grid(axis="y", color=_PLACE["line"], linewidth=1)
            ticks = sorted({point[0] for line in panel for point in line.points})
            if shares:
                ax.set_xscale("log")
                ax.minorticks_off()
                ax.set_xlim(ticks[0] * 0.8, max(ticks) * 1.25)
            ax.set_xticks(ticks, [f"{100 * v:g}%" if shares else _number(v) for v in ticks])
            ax.set_xlabel(across if len(panels) == 1 else title, color=_PLACE["muted"], fontsize=_SIZE, labelpad=4)
            if column == 0:
                ax.annotate(
                    up,
                    (0, 1),
                    xycoords="axes fraction",
                    xytext=(-30, 10),
                    textcoords="offset pixels",
                    fontsize=11,
                    color=_PLACE["muted"],
                )
            ends: list[tuple[float, Line]] = []
            for line in panel:
                xs, means = [p[0] for p in line.points], [p[1] for p in line.points]
                known = [p for p in line.points if p[2] is not None and p[3] is not None]
                main = line.style == "pretrained"
                if known and line.style in ("pretrained", "random"):
                    ax.fill_between(
                        [p[0] for p in known],
                        [p[2] or 0.0 for p in known],
                        [p[3] or 0.0 for p in known],
                        color=_PLACE[line.style],
                        alpha=0.16,
                        linewidth=0,
                    )
                ax.plot(
                    xs,
                    means,
                    color=_PLACE[line.style],
                    linewidth=2.2 if main else 1.6,
                    marker="D" if line.style == "random" else "o",
                    markersize=7 if main else 5,
                    markerfacecolor=_PLACE["card"] if line.style == "random" else _PLACE[line.style],
                    linestyle="-" if line.style != "random" else (0, (5, 2)),
                    clip_on=False,
                    zorder=4 if main else 3,
                )
                ends.append((means[-1], line))
            if named:
                _name_ends(ax, ends, height, high - low)
            if floor is not None:
                ax.axhline(floor, color=_PLACE["ink"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        return figure

    return _picture(draw, alt)


def _name_ends(ax: Axes, ends: Sequence[tuple[float, Line]], height: float, span: float) -> None:
    """Names right of the lines' ends, pushed apart where they would lie on each other."""
    step = 13.0 * span / height
    at = -math.inf
    for value, line in sorted(ends, key=lambda end: end[0]):
        at = max(value, at + step)
        ax.annotate(
            _shorten(line.name, 70),
            (1, at),
            xycoords=ax.get_yaxis_transform(),
            xytext=(8, 0),
            textcoords="offset pixels",
            va="center_baseline",
            fontsize=11,
            color=_PLACE[line.style],
        )


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    down: str,
    across: str,
    alt: str,
    ends: tuple[float, float] = (0.0, 1.0),
) -> Picture:
    """A table of numbers as shades, from the first of `ends` (empty) to the second (full)."""
    low, high = ends

    def draw(width: float) -> Figure:
        label = max(_room(rows, width), len(f"{down} ↓") * _LETTER + 12)
        cell = max(20.0, min(64.0, (width - label - 8) / len(columns)))
        tilt = max(len(c) for c in columns) * _LETTER > cell - 4
        bottom = min(_room(columns, width), _room(columns, WIDE)) * 0.72 + 20 if tilt else 30.0
        figure, ax = _canvas(label + cell * len(columns) + 8, 28 + cell * len(rows) + bottom, label, 8.0, 28.0, bottom)
        ax.set_xlim(0, len(columns))
        ax.set_ylim(len(rows), 0)
        ax.set_xticks([])
        ax.set_yticks([])
        for i, name in enumerate(rows):
            _beside(ax, i + 0.5, _shorten(name, label - 12))
            for j, value in enumerate(values[i]):
                share = 0.0 if value is None else min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))
                _cell(ax, j, i, share, 0.03, "pretrained")
                if value is not None and cell >= 28:
                    _inside(ax, j + 0.5, i + 0.5, f"{value:.2f}".replace("-", "−"), share, 12 if cell >= 40 else 9.5, False)
        for j, name in enumerate(columns):
            ax.annotate(
                _shorten(name, 120 if tilt else cell),
                (j + 0.5, 0),
                xycoords=ax.get_xaxis_transform(),
                xytext=(4 if tilt else 0, -9 if tilt else -16),
                textcoords="offset pixels",
                ha="right" if tilt else "center",
                va="top" if tilt else "baseline",
                rotation=45 if tilt else 0,
                rotation_mode="anchor",
                fontsize=_SIZE,
                color=_PLACE["ink"],
            )
        for text, at, side in ((f"{across} →", (2, 9), "left"), (f"{down} ↓", (-10, 9), "right")):
            if text.strip(" →↓"):
                ax.annotate(
                    text,
                    (0, 1),
                    xycoords="axes fraction",
                    xytext=at,
                    textcoords="offset pixels",
                    ha=side,
                    fontsize=11,
                    color=_PLACE["muted"],
                )
        return figure

    return _picture(draw, alt)


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
        columns = min(len(panels), 3 if width > 500 else 1)
        rows = math.ceil(len(panels) / columns)
        gap, top = 14.0, 26.0
        side = (width - gap * (columns - 1)) / columns
        fitting = [_legend(panel, side) for panel in panels]
        bottom = 16.0 + 15.0 * max(len(each) for each in fitting)
        whole = rows * (side + top + bottom)
        figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
        for n, panel in enumerate(panels):
            row, column = divmod(n, columns)
            x, y = column * (side + gap), whole - row * (side + top + bottom) - top - side
            ax = figure.add_axes((x / width, y / whole, side / width, side / whole))
            _plain(ax)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlim(-1.06, 1.06)
            ax.set_ylim(-1.06, 1.06)
            ax.add_patch(Rectangle((-1.06, -1.06), 2.12, 2.12, fill=False, edgecolor=_PLACE["line"], linewidth=1))
            for kind in (None, *range(len(panel.names))):
                mine = [i for i, k in enumerate(panel.kind) if k == kind]
                if mine:
                    ax.plot(
                        [panel.x[i] for i in mine],
                        [panel.y[i] for i in mine],
                        linestyle="none",
                        marker=_shape(kind),
                        markersize=4.2,
                        markeredgewidth=0,
                        color=_PLACE["line" if kind is None else MARKED[kind % len(MARKED)]],
                        alpha=0.8,
                    )
            ax.set_title(panel.title, loc="left", fontsize=_SIZE, color=_PLACE["ink"], pad=6)
            for i, entries in enumerate(fitting[n]):
                for kind, at, name in entries:
                    down = -14.0 - 15.0 * i
                    colour = _PLACE[MARKED[kind % len(MARKED)]]
                    ax.plot(
                        [(at + 5) / side],
                        [(down + 0.5) / side],
                        transform=ax.transAxes,
                        linestyle="none",
                        marker=_shape(kind),
                        markersize=5.5,
                        color=colour,
                        markeredgewidth=0,
                        clip_on=False,
                    )
                    ax.annotate(
                        name,
                        (0, 0),
                        xycoords="axes fraction",
                        xytext=(at + 12, down),
                        textcoords="offset pixels",
                        va="center_baseline",
                        fontsize=11,
                        color=_PLACE["muted"],
                    )
        return figure

    return _picture(draw, alt)


def _shape(kind: int | None) -> str:
    return "o" if kind is None else SHAPES[kind // len(MARKED) % len(SHAPES)]


def _legend(panel: Cloud, side: float, most: int = 32) -> list[list[tuple[int, float, str]]]:
    """Lines of a legend: (kind, how far from the left, name). Too many names have none."""
    used = [k for k in range(len(panel.names)) if k in set(panel.kind)]
    if len(used) > most:
        return [[]]
    found: list[list[tuple[int, float, str]]] = [[]]
    at = 0.0
    for kind in used:
        name = _shorten(panel.names[kind], 110)
        room = 24.0 + 6.2 * len(name)
        if at + room > side and found[-1]:
            found.append([])
            at = 0.0
        found[-1].append((kind, at, name))
        at += room
    return found


def scatter(names: Sequence[str], points: Sequence[tuple[Sequence[float], Sequence[float]]], alt: str) -> Picture:
    """Predicted against true value, a panel for each output, with the line on which they are equal."""

    def draw(width: float) -> Figure:
        columns = min(len(names), 3 if width > 500 else 1)
        lines = math.ceil(len(names) / columns)
        left, top, bottom, gap = 48.0, 26.0, 42.0, 40.0
        side = min((width - left - 10 - gap * (columns - 1)) / columns, 270.0)
        whole_w, whole_h = left + columns * side + gap * (columns - 1) + 10, lines * (side + top + bottom)
        figure = Figure(figsize=(whole_w / 72, whole_h / 72), dpi=72)
        for n, (name, (truth, guess)) in enumerate(zip(names, points, strict=True)):
            line, column = divmod(n, columns)
            x, y = left + column * (side + gap), whole_h - line * (side + top + bottom) - top - side
            ax = figure.add_axes((x / whole_w, y / whole_h, side / whole_w, side / whole_h))
            _plain(ax)
            low, high = min((*truth, *guess), default=0.0), max((*truth, *guess), default=1.0)
            pad = 0.05 * (high - low) or 0.5
            ax.set_xlim(low - pad, high + pad)
            ax.set_ylim(low - pad, high + pad)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.grid(color=_PLACE["line"], linewidth=1)
            ax.plot([low, high], [low, high], color=_PLACE["muted"], linewidth=1.2, linestyle=(0, (4, 3)))
            ax.plot(
                truth,
                guess,
                linestyle="none",
                marker="o",
                markersize=4.5,
                markeredgewidth=0,
                color=_PLACE["pretrained"],
                alpha=0.45,
            )
            ax.set_title(name, loc="left", fontsize=_SIZE, color=_PLACE["ink"], pad=6)
            ax.set_xlabel("true", color=_PLACE["muted"], fontsize=_SIZE, labelpad=4)
            if column == 0:
                ax.set_ylabel("predicted", color=_PLACE["muted"], fontsize=_SIZE, labelpad=4)
        return figure

    return _picture(draw, alt)


def climb(scores: Mapping[int, float], ended: Sequence[int], less: bool, metric: str, alt: str) -> Picture:
    """The score of each trial as a dot, the best so far as a line; trials without a score as ticks below.

    less  whether less is better
    """
    best: list[float] = []
    for number in sorted(scores):
        best.append(scores[number] if not best else (min if less else max)(best[-1], scores[number]))
    low, high = min(scores.values()), max(scores.values())
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.1
    last = max((*scores, *ended))

    def draw(width: float) -> Figure:
        figure, ax = _canvas(width, 260.0, 52.0, 12.0, 14.0, 42.0)
        ax.set_xlim(-0.6, last + 0.6)
        ax.set_ylim(low - pad, high + pad)
        ax.xaxis.set_major_locator(MaxNLocator(4 if width < 500 else 10, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _number(y)))
        ax.grid(axis="y", color=_PLACE["line"], linewidth=1)
        ax.set_xlabel("trial", color=_PLACE["muted"], fontsize=_SIZE, labelpad=4)
        ax.set_title(metric, loc="left", fontsize=11, color=_PLACE["muted"], pad=2)
        ax.step([*sorted(scores), last], [*best, best[-1]], where="post", color=_PLACE["pretrained"], linewidth=2)
        ax.plot(
            list(scores),
            list(scores.values()),
            linestyle="none",
            marker="o",
            markersize=5.5,
            color=_PLACE["ink"],
            alpha=0.55,
            markeredgewidth=0,
            clip_on=False,
        )
        ax.plot(
            list(ended),
            [0.02] * len(ended),
            transform=ax.get_xaxis_transform(),
            linestyle="none",
            marker="|",
            markersize=8,
            color=_PLACE["muted"],
            clip_on=False,
        )
        return figure

    return _picture(draw, alt)


def slices(keys: Mapping[str, Sequence[float | str]], scores: Sequence[float], metric: str, alt: str) -> Picture:
    """A panel for each key: the score of every trial over its value; numbers on an axis, anything else side by side."""

    def draw(width: float) -> Figure:
        columns = min(len(keys), 2 if width > 500 else 1)
        lines = math.ceil(len(keys) / columns)
        left, top, bottom, gap, height = 52.0, 34.0, 40.0, 58.0, 170.0
        inside = (width - left - 14 - gap * (columns - 1)) / columns
        whole = lines * (height + top + bottom)
        figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
        low, high = min(scores), max(scores)
        pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.1
        for n, (name, values) in enumerate(keys.items()):
            line, column = divmod(n, columns)
            x, y = left + column * (inside + gap), whole - line * (height + top + bottom) - top - height
            ax = figure.add_axes((x / width, y / whole, inside / width, height / whole))
            _plain(ax)
            ax.set_ylim(low - pad, high + pad)
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _number(v)))
            ax.grid(axis="y", color=_PLACE["line"], linewidth=1)
            places: list[float] = [value for value in values if not isinstance(value, str)]
            if len(places) == len(values):
                if min(places) > 0 and max(places) >= 30 * min(places):
                    ax.set_xscale("log")
                    ax.xaxis.set_minor_locator(NullLocator())
                    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
                else:
                    ax.xaxis.set_major_locator(MaxNLocator(4))
                    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _number(v)))
            else:
                names = list(dict.fromkeys(str(value) for value in values))
                places = [float(names.index(str(value))) for value in values]
                ax.set_xlim(-0.5, len(names) - 0.5)
                ax.set_xticks(range(len(names)), [_shorten(one, inside / len(names)) for one in names])
            ax.plot(
                places,
                scores,
                linestyle="none",
                marker="o",
                markersize=6,
                markeredgewidth=0,
                color=_PLACE["pretrained"],
                alpha=0.6,
                clip_on=False,
            )
            ax.set_title(_shorten(name, inside), loc="left", fontsize=_SIZE, color=_PLACE["ink"], pad=8)
            if column == 0:
                ax.set_ylabel(metric, color=_PLACE["muted"], fontsize=_SIZE, labelpad=4)
        return figure

    return _picture(draw, alt)


def shares(found: Mapping[str, float], alt: str) -> Picture:
    """One bar for each name, which stands above it: a share from 0 to 1."""

    def draw(width: float) -> Figure:
        step, value = 46.0, 52.0
        figure, ax = _canvas(width, 8 + step * len(found) + 8, 4.0, value, 8.0, 8.0)
        ax.set_xlim(0, 1)
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.set_xticks([])
        ax.set_yticks([])
        for y, (name, share) in enumerate(found.items()):
            ax.text(0, y - 0.12, _shorten(name, width - value), fontsize=_SIZE, color=_PLACE["ink"], va="bottom")
            for size, alpha, colour in ((1.0, 0.6, "line"), (share, 0.85, "pretrained")):
                ax.add_patch(Rectangle((0, y), size, 0.26, facecolor=_PLACE[colour], edgecolor="none", alpha=alpha))
            ax.annotate(
                f"{100 * share:.0f}%",
                (1, y + 0.13),
                xycoords=ax.get_yaxis_transform(),
                xytext=(12, 0),
                textcoords="offset pixels",
                va="center_baseline",
                fontsize=_SIZE,
                color=_PLACE["ink"],
            )
        return figure

    return _picture(draw, alt)


def _cell(ax: Axes, x: float, y: float, share: float, gap: float, colour: str) -> None:
    """One cell of a map; empty ones keep a faint ground so that the grid shows."""
    size = 1 - 2 * gap
    ax.add_patch(Rectangle((x + gap, y + gap), size, size, facecolor=_PLACE["line"], edgecolor="none", alpha=0.5))
    if share > 0:
        ax.add_patch(
            Rectangle(
                (x + gap, y + gap),
                size,
                size,
                facecolor=_PLACE[colour],
                edgecolor="none",
                alpha=round(0.06 + 0.94 * min(share, 1), 3),
            )
        )


def _inside(ax: Axes, x: float, y: float, text: str, share: float, size: float, bold: bool) -> None:
    """A number in a cell, light on a strong shade and dark on a weak one."""
    colour = _PLACE["on-strong"] if share > 0.55 else _PLACE["ink"]
    ax.text(x, y, text, ha="center", va="center_baseline", fontsize=size, color=colour, weight=700 if bold else 400)


def _beside(ax: Axes, y: float, text: str) -> None:
    """A row's label, left of the axes."""
    ax.annotate(
        text,
        (0, y),
        xycoords=ax.get_yaxis_transform(),
        xytext=(-12, 0),
        textcoords="offset pixels",
        ha="right",
        va="center_baseline",
        fontsize=_SIZE,
        color=_PLACE["ink"],
    )


def _canvas(width: float, height: float, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """A figure of so many pixels with one bare pair of axes inside the margins."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    ax = figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
    _plain(ax)
    return figure, ax


def _plain(ax: Axes) -> None:
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, pad=7, labelsize=11, labelcolor=_PLACE["muted"])
    ax.patch.set_visible(False)


def _room(labels: Sequence[str] | Mapping[str, object], width: float) -> float:
    """Pixels that row labels take, at most a third of the picture."""
    longest = max((len(label) for label in labels), default=4)
    return max(58.0, min(longest * _LETTER + 20, width * 0.34))


def _shorten(label: str, room: float) -> str:
    letters = max(3, int(room / _LETTER))
    return label if len(label) <= letters else label[: letters - 1] + "…"


def _span(values: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float]:
    """The stretch of the axis: from zero (or below, where values are) to a little above the highest value."""
    low, high = min((0.0, *values)), max((*values, 0.0))
    high = high + 0.06 * (high - low) or 1.0
    low = low - 0.06 * (high - low) if low < 0 else low
    return max(low, bounds[0]), min(high, bounds[1])


def _number(value: float) -> str:
    return f"{value:.10g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _picture(draw: Callable[[float], Figure], alt: str) -> Picture:
    # Names of classes are words, never formulas, whatever dollar signs they hold; texts read this setting when they are made.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "mmcl", "text.parse_math": False}
    with style.context("default", after_reset=True), rc_context(settings):  # whatever the user's matplotlibrc says
        return Picture(_svg(draw(WIDE), "wide"), _svg(draw(NARROW), "narrow"), alt)


def distinct_ids(page: str) -> str:
    """The page with ids that no two pictures share."""
    count = itertools.count(1)

    def rename(svg: re.Match[str]) -> str:
        mine = next(count)
        names = {id: f"p{mine}-{k}" for k, id in enumerate(dict.fromkeys(re.findall(r" id=\"([^\"]+)\"", svg[0])), 1)}
        return re.sub(r"(?<= id=\")[^\"]+(?=\")|(?<=href=\"#)[^\"]+|(?<=url\(#)[^)]+", lambda m: names[m[0]], svg[0])

    return re.sub(r"<svg .*?</svg>", rename, page, flags=re.DOTALL)


_drop = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", re.DOTALL)
_family = re.compile(r"font-family: [^;\"]*;? ?")
_colour = re.compile(r"(?<=: )#(0[0-9a-f])\1\1\b")


_use = re.compile(r"<use href=\"([^\"]+)\" x=\"([^\"]+)\" y=\"([^\"]+)\" style=\"([^\"]*)\"/>")
_uses = re.compile(r"(?:<use [^>]*/>\s*){8,}")


def _together(found: re.Match[str]) -> str:
    """Many points in a row: what they have in common is said once, and their places to a tenth of a pixel."""
    parts = []
    for look, each in itertools.groupby(_use.findall(found[0]), key=lambda one: one[3]):
        parts.append(
            f'<g style="{look}">'
            + "".join(f'<use href="{h}" x="{float(x):.1f}" y="{float(y):.1f}"/>' for h, x, y, _ in each)
            + "</g>"
        )
    return "".join(parts)


def _svg(figure: Figure, size: str) -> Markup:
    """A figure as an element of the page: only the ids it refers to, no fonts, no namespaces, the page's names for colours."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The reader's browser writes the text, so glyphs that matplotlib's own font lacks are no loss.
        warnings.filterwarnings("ignore", message=r".*[Gg]lyph")
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = _drop.sub("", _drop.sub("", buffer.getvalue()))  # twice: the first pass empties some <defs>
    used = set(re.findall(r"(?:href=\"|url\()#([\w.]+)", text))
    text = re.sub(r" id=\"([\w.]+)\"", lambda m: m[0] if m[1] in used else "", text)
    text = _family.sub("", text).replace("xlink:href", "href")
    text = _colour.sub(lambda m: f"var(--{COLOURS[int(m[1], 16) - 1]})", text)
    text = re.sub(r"\s*\n\s*", " ", text).replace('transform="rotate(-0 ', 'transform="rotate(0 ')
    text = re.sub(r" transform=\"rotate\(0 [\d. -]+\)\"", "", text)
    text = _uses.sub(_together, text)
    width = figure.get_figwidth() * 72
    head = re.search(r"<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>", text)
    assert head is not None, "matplotlib writes a viewBox"
    body = text[head.end() :].strip()
    return Markup(
        f'<svg class="{size}" viewBox="{head[1]}" style="width:{width:.0f}px" aria-hidden="true" focusable="false">{body}'
    )
