"""Line charts: losses over epochs, scores over shares of labels or over disturbances, the best so far of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .axes import (
    DASHED,
    DESK,
    SMALL,
    axis_name,
    canvas,
    grid,
    note,
    number,
    padded,
    right_of,
    ring,
    rules,
    scale,
    shorten,
    specks,
    title,
)
from .picture import COLOUR, Picture, picture

PANELS = 12
"""Folds beyond which the curves of all share one panel."""


@dataclass(frozen=True)
class Curve:
    """The losses of one fold and seed, or another figure on validation recordings, one value an epoch."""

    fold: int
    seed: int
    epochs: Sequence[int]
    train: Sequence[float]  # (): there is none
    valid: Sequence[float | None]
    best: int  # epoch whose weights were kept


def curves(losses: Sequence[Curve], alt: str) -> Picture:
    """Training and validation loss over epochs, the kept epoch as a dot; a panel for each fold, one for all beyond PANELS."""
    folds = sorted({c.fold for c in losses})
    panels = [[c for c in losses if c.fold == fold] for fold in folds] if len(folds) <= PANELS else [list(losses)]
    limits = padded([v for c in losses for v in (*c.train, *c.valid) if v is not None], 0.06)
    last = max(c.epochs[-1] for c in losses)

    def draw(width: float) -> Figure:
        columns = min(len(panels), 2)
        if width > DESK and len(panels) > 2:
            columns = min((3, 4), key=lambda c: (-len(panels) % c, -c))  # few empty places, then few lines
        left, right, gap = 44.0, 10.0, 22.0
        inside = (width - left - right - gap * (columns - 1)) / columns
        figure, axes = grid(
            len(panels), columns, width, (inside, min(inside * 0.75, 250.0)), left, gap, top=34.0, bottom=0.0, foot=40.0
        )
        for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            ax.set_xlim(0.5 if last == 1 else 1 - 0.02 * last, (1.5 if last == 1 else last) + 0.02 * last)
            ax.set_ylim(*limits)
            scale(ax.yaxis, 4)
            scale(ax.xaxis, 3 if inside < 200 else 6, whole=True)
            rules(ax, "y")
            if i % columns:
                ax.set_yticklabels([])
            # Labels of the axis below the lowest panel of each column only.
            if i + columns < len(panels):
                ax.set_xticklabels([])
            else:
                axis_name(ax, "epoch")
            if len(panels) > 1:
                title(ax, f"fold {panel[0].fold}")
            for curve in panel:
                _losses(ax, curve, max(0.25, 1 / math.sqrt(len(panel))))
        return figure

    return picture(draw, alt)


def _losses(ax: Axes, curve: Curve, alpha: float) -> None:
    """Both losses of one fold and seed, and a ring at the epoch that was kept."""
    alone = "o" if len(curve.epochs) == 1 else ""
    if curve.train:
        ax.plot(curve.epochs, curve.train, color=COLOUR["muted"], linewidth=1.3, alpha=alpha, marker=alone, markersize=4)
    known = [(e, v) for e, v in zip(curve.epochs, curve.valid, strict=True) if v is not None]
    if known:
        ax.plot(*zip(*known, strict=True), color=COLOUR["pretrained"], linewidth=2, alpha=max(alpha, 0.6))
    kept = dict(known or zip(curve.epochs, curve.train, strict=True)).get(curve.best)
    if kept is not None:
        ring(ax, curve.best, kept, "o", "pretrained", 5)


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
    low, high = min(0.0, *values), max(values) if values else 1.0
    high += 0.06 * (high - low) or 0.1
    named = any(len({line.name for line in panel} - {"pretrained", "random"}) > 1 for panel in panels.values())

    def draw(width: float) -> Figure:
        columns = min(len(panels), 3 if width > DESK else 1)
        left, right, gap = 44.0, 76.0 if named else 14.0, 18.0
        inside = (width - (left + right) * columns - gap * (columns - 1)) / columns
        height = min(max(inside * 0.66, 170.0), 250.0)
        figure, axes = grid(len(panels), columns, width, (inside, height), left, left + right + gap, top=30.0, bottom=44.0)
        for i, (ax, (name, panel)) in enumerate(zip(axes, panels.items(), strict=True)):
            ax.set_ylim(low, high)
            scale(ax.yaxis, 4, number)
            rules(ax, "y")
            ticks = sorted({point[0] for line in panel for point in line.points})
            if shares:
                ax.set_xscale("log")
                ax.minorticks_off()
                ax.set_xlim(ticks[0] * 0.8, max(ticks) * 1.25)
            ax.set_xticks(ticks, [f"{100 * v:g}%" if shares else number(v) for v in ticks])
            axis_name(ax, across if len(panels) == 1 else name)
            if i % columns == 0:
                note(ax, up, (0, 1), (-30, 10))
            for line in panel:
                _line(ax, line)
            if named:
                _name_ends(ax, panel, height, high - low)
            if floor is not None:
                ax.axhline(floor, color=COLOUR["ink"], linewidth=1.2, linestyle=DASHED, zorder=1)
        return figure

    return picture(draw, alt)


def _line(ax: Axes, line: Line) -> None:
    """One line with its dots; of encoders, its interval as a shade."""
    main, random, colour = line.style == "pretrained", line.style == "random", COLOUR[line.style]
    known = [(x, low, high) for x, _, low, high in line.points if low is not None and high is not None]
    if known and (main or random):
        x, low, high = zip(*known, strict=True)
        ax.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    ax.plot(
        [p[0] for p in line.points],
        [p[1] for p in line.points],
        color=colour,
        linewidth=2.2 if main else 1.6,
        marker="D" if random else "o",
        markersize=7 if main else 5,
        markerfacecolor=COLOUR["card"] if random else colour,
        linestyle=(0, (5, 2)) if random else "-",
        clip_on=False,
        zorder=4 if main else 3,
    )


def _name_ends(ax: Axes, panel: Sequence[Line], height: float, span: float) -> None:
    """Names right of the lines' ends, pushed apart where they would lie on each other."""
    step = 13.0 * span / height
    at = -math.inf
    for line in sorted(panel, key=lambda line: line.points[-1][1]):
        at = max(line.points[-1][1], at + step)
        right_of(ax, at, shorten(line.name, 70), 8, size=SMALL, colour=line.style)


def climb(scores: Mapping[int, float], ended: Sequence[int], less: bool, metric: str, alt: str) -> Picture:
    """The score of each trial as a dot, the best so far as a line; trials without a score as ticks below.

    less  whether less is better
    """
    best: list[float] = []
    for trial in sorted(scores):
        best.append(scores[trial] if not best else (min if less else max)(best[-1], scores[trial]))
    limits = padded(list(scores.values()), 0.08)
    last = max((*scores, *ended))

    def draw(width: float) -> Figure:
        figure, ax = canvas(width, 260.0, 52.0, 12.0, 14.0, 42.0)
        ax.set_xlim(-0.6, last + 0.6)
        ax.set_ylim(*limits)
        scale(ax.xaxis, 4 if width < DESK else 10, whole=True)
        scale(ax.yaxis, 5, number)
        rules(ax, "y")
        axis_name(ax, "trial")
        ax.set_title(metric, loc="left", fontsize=SMALL, color=COLOUR["muted"], pad=2)
        ax.step([*sorted(scores), last], [*best, best[-1]], where="post", color=COLOUR["pretrained"], linewidth=2)
        specks(ax, list(scores), list(scores.values()), 5.5, "ink", 0.55, cut=False)
        ax.plot(
            list(ended),
            [0.02] * len(ended),
            transform=ax.get_xaxis_transform(),
            linestyle="none",
            marker="|",
            markersize=8,
            color=COLOUR["muted"],
            clip_on=False,
        )
        return figure

    return picture(draw, alt)
