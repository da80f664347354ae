"""What all pictures are drawn with: bare axes laid out in pixels, their scales, words and marks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Transform

from .picture import COLOUR

LETTER = 7.0
"""Pixels: a generous mean width of a letter at the size of labels."""
SIZE, SMALL = 12.0, 11.0
"""Pixels: height of labels, and of the words that matter less."""
DASHED = (0, (4, 3))
DESK = 500
"""Pixels: wider drawings are for a desk, the others for a phone."""


def canvas(width: float, height: float, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """A figure of so many pixels with one bare pair of axes inside the margins."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    ax = figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
    _bare(ax)
    return figure, ax


def grid(
    count: int,
    columns: int,
    width: float,
    inside: tuple[float, float],
    left: float,
    gap: float,
    top: float,
    bottom: float,
    foot: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many bare panels, line by line.

    inside         width and height of a panel's axes
    left           of the first column's axes, from the left edge
    gap            between the axes of two columns
    top, bottom    above and below the axes of each panel
    foot           below the last line of panels
    """
    lines = math.ceil(count / columns)
    side, height = inside
    whole = lines * (height + top + bottom) + foot
    figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
    panels = []
    for n in range(count):
        line, column = divmod(n, columns)
        x, y = left + column * (side + gap), whole - line * (height + top + bottom) - top - height
        panels.append(figure.add_axes((x / width, y / whole, side / width, height / whole)))
        _bare(panels[-1])
    return figure, panels


def _bare(ax: Axes) -> None:
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, pad=7, labelsize=SMALL, labelcolor=COLOUR["muted"])
    ax.patch.set_visible(False)


def scale(
    axis: Axis, most: int, write: Callable[[float], str] | None = None, round_steps: bool = False, whole: bool = False
) -> None:
    """At most so many ticks, each written by `write`; `round_steps`: 1, 2, 2.5, 5 apart; `whole`: only at whole numbers."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10] if round_steps else None, integer=whole))
    if write is not None:
        axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def rules(ax: Axes, along: Literal["x", "y", "both"]) -> None:
    """Thin lines at the ticks of one axis ("x", "y") or of "both"."""
    ax.grid(axis=along, color=COLOUR["line"], linewidth=1)


def axis_name(ax: Axes, text: str, pad: float = 4, up: bool = False) -> None:
    """What the horizontal axis counts, or the vertical one with `up`."""
    write = ax.set_ylabel if up else ax.set_xlabel
    write(text, color=COLOUR["muted"], fontsize=SIZE, labelpad=pad)


def title(ax: Axes, text: str, pad: float = 6) -> None:
    """The name of a panel, above its left end."""
    ax.set_title(text, loc="left", fontsize=SIZE, color=COLOUR["ink"], pad=pad)


def note(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    shift: tuple[float, float],
    along: str = "",
    align: str = "left",
    level: str = "baseline",
    size: float = SMALL,
    colour: str = "muted",
    bold: bool = False,
    tilt: bool = False,
) -> None:
    """Words so many pixels from a place: in shares of the axes, or along "x" or "y" in that axis's own numbers."""
    frames: dict[str, str | Transform] = {"": "axes fraction", "x": ax.get_xaxis_transform(), "y": ax.get_yaxis_transform()}
    ax.annotate(
        text,
        at,
        xycoords=frames[along],
        xytext=shift,
        textcoords="offset pixels",
        ha=align,
        va=level,
        fontsize=size,
        color=COLOUR[colour],
        weight="bold" if bold else "normal",
        rotation=45 if tilt else 0,
        rotation_mode="anchor",
    )


def left_of(ax: Axes, y: float, text: str) -> None:
    """A row's label, left of the axes."""
    note(ax, text, (0, y), (-12, 0), along="y", align="right", level="center_baseline", size=SIZE, colour="ink")


def right_of(
    ax: Axes, y: float, text: str, away: float = 12, size: float = SIZE, colour: str = "ink", bold: bool = False
) -> None:
    """A row's number, right of the axes."""
    note(ax, text, (1, y), (away, 0), along="y", level="center_baseline", size=size, colour=colour, bold=bold)


def below(ax: Axes, x: float, text: str, tilt: bool) -> None:
    """A column's label, below the axes."""
    shift, align, level = ((4, -9), "right", "top") if tilt else ((0, -16), "center", "baseline")
    note(ax, text, (x, 0), shift, along="x", align=align, level=level, size=SIZE, colour="ink", tilt=tilt)


def specks(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    size: float,
    colour: str,
    alpha: float,
    marker: str = "o",
    cut: bool = True,
) -> None:
    """Points without an edge; `cut` at the border of the axes, or whole beyond it."""
    ax.plot(
        x,
        y,
        linestyle="none",
        marker=marker,
        markersize=size,
        color=COLOUR[colour],
        alpha=alpha,
        markeredgewidth=0,
        clip_on=cut,
    )


def ring(ax: Axes, x: float, y: float, marker: str, colour: str, zorder: float) -> None:
    """A hollow mark: it tells itself apart also where colours don't."""
    ax.plot(
        [x],
        [y],
        linestyle="none",
        marker=marker,
        markersize=7,
        color=COLOUR["card"],
        markeredgecolor=COLOUR[colour],
        markeredgewidth=2,
        clip_on=False,
        zorder=zorder,
    )


def room(labels: Sequence[str] | Mapping[str, object], width: float) -> float:
    """Pixels that row labels take, at most a third of the picture."""
    longest = max((len(label) for label in labels), default=4)
    return max(58.0, min(longest * LETTER + 20, width * 0.34))


def shorten(label: str, space: float) -> str:
    """A label cut to so many pixels."""
    letters = max(3, int(space / LETTER))
    return label if len(label) <= letters else label[: letters - 1] + "…"


def padded(values: Sequence[float], share: float) -> tuple[float, float]:
    """From a little below the lowest value to a little above the highest: by that share of their distance."""
    low, high = min(values), max(values)
    pad = share * (high - low) or 0.05 * abs(high) or 0.1
    return low - pad, high + pad


def from_zero(values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
    """From zero (or below, where values are) to a little above the highest value, within the bounds."""
    low, high = min((0.0, *values)), max((*values, 0.0))
    high = high + 0.06 * (high - low) or 1.0
    low = low - 0.06 * (high - low) if low < 0 else low
    return max(low, bounds[0]), min(high, bounds[1])


def number(value: float) -> str:
    """A tick's number with a true minus."""
    return minus(f"{value:.10g}") if abs(value) > 1e-12 else "0"


def percent(value: float) -> str:
    """A share as percent."""
    return f"{100 * value:.0f}%"


def minus(text: str) -> str:
    """A number's text with a true minus."""
    return text.replace("-", "−")


def thousands(value: float) -> str:
    """A count with its thousands apart."""
    return f"{value:,.0f}"
