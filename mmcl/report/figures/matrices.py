"""Matrices: numbers as shades, rows named on the left and columns below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .axes import DESK, LETTER, SIZE, below, canvas, grid, left_of, minus, note, room, shorten, thousands
from .picture import COLOUR, WIDE, Picture, picture


def confusion(classes: Sequence[str], counts: Sequence[Sequence[float]], encoder: str, alt: str) -> Picture:
    """True classes down, predicted ones across: the share of each row as shade and number, the count where it fits."""
    k = len(classes)

    def draw(width: float) -> Figure:
        label = room(classes, width)
        cell = max(17.0 if k > 12 else 34.0, min(70.0, (width - label - 8) / k))
        tilt = _tilted(classes, cell)
        bottom = min(label, room(classes, WIDE)) * 0.72 + 18 if tilt else 30.0
        figure, ax = canvas(label + cell * k + 8.0, 24 + cell * k + bottom, label, 8.0, 24.0, bottom)

        def paint(i: int, j: int) -> None:
            count, whole = counts[i][j], sum(counts[i])
            share = count / whole if whole else 0.0
            _shade(ax, i, j, share, round(100 / cell) / 100, encoder)
            if cell >= 30 and count:
                two = cell >= 42
                _number(ax, i + (0.4 if two else 0.5), j, f"{100 * share:.0f}%", share, 12.5 if two else 11, i == j)
                if two:
                    _number(ax, i + 0.72, j, thousands(count), share, 9.5)
            elif 20 <= cell < 30 and share >= 0.1:
                _number(ax, i + 0.5, j, f"{100 * share:.0f}", share, 9, i == j)

        _matrix(ax, classes, classes, paint, label, 0.86 * label + 20 if tilt else cell, tilt)
        _corner(ax, "predicted →", "true ↓")
        return figure

    return picture(draw, alt)


def pair_map(names: Sequence[str], maps: Mapping[str, Mapping[tuple[str, str], float]], alt: str) -> Picture:
    """Retrieval from each modality (down) to each other one (across), one map for each encoder, on one scale from 0 to 1."""
    k = len(names)

    def draw(width: float) -> Figure:
        label = room(names, width)
        columns = len(maps) if width > DESK else 1
        space = (width - columns * label - 24) / columns if columns > 1 else width - label - 8
        cell = max(36.0, min(64.0, space / k))
        tilt = _tilted(names, cell)
        across = label + max(cell * k, 154.0)  # of two modalities the title is the wider part
        figure, axes = grid(
            len(maps),
            columns,
            across * columns + 24 * (columns - 1) + 8,
            (cell * k, cell * k),
            label,
            across + 24 - cell * k,
            top=44.0,
            bottom=label * 0.72 + 24 if tilt else 30.0,
        )
        for ax, (encoder, values) in zip(axes, maps.items(), strict=True):
            _map(ax, names, encoder, values, label, tilt)
        return figure

    return picture(draw, alt)


def _map(
    ax: Axes, names: Sequence[str], encoder: str, values: Mapping[tuple[str, str], float], label: float, tilt: bool
) -> None:
    """The map of one encoder; a dot where a pair has no value."""
    heading = f"{encoder} encoders" if encoder == "pretrained" else "random weights"
    note(ax, heading, (0, 1), (0, 26), size=SIZE, colour="ink", bold=True)
    _corner(ax, "find →", "given ↓", (0, 8))

    def paint(i: int, j: int) -> None:
        value = values.get((names[i], names[j]))
        if value is None:
            ax.plot([j + 0.5], [i + 0.5], marker="o", markersize=3, color=COLOUR["line"])
        else:
            _shade(ax, i, j, value, 0.03, encoder)
            _number(ax, i + 0.5, j, f"{value:.2f}", value, 12.5)

    _matrix(ax, names, names, paint, label, label, tilt)


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
        label = max(room(rows, width), len(f"{down} ↓") * LETTER + 12)
        cell = max(20.0, min(64.0, (width - label - 8) / len(columns)))
        tilt = _tilted(columns, cell)
        bottom = min(room(columns, width), room(columns, WIDE)) * 0.72 + 20 if tilt else 30.0
        figure, ax = canvas(label + cell * len(columns) + 8, 28 + cell * len(rows) + bottom, label, 8.0, 28.0, bottom)

        def paint(i: int, j: int) -> None:
            value = values[i][j]
            share = 0.0 if value is None else min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))
            _shade(ax, i, j, share, 0.03, "pretrained")
            if value is not None and cell >= 28:
                _number(ax, i + 0.5, j, minus(f"{value:.2f}"), share, 12 if cell >= 40 else 9.5)

        _matrix(ax, rows, columns, paint, label, 120 if tilt else cell, tilt)
        _corner(ax, f"{across} →" if across else "", f"{down} ↓" if down else "")
        return figure

    return picture(draw, alt)


def _matrix(
    ax: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    paint: Callable[[int, int], None],
    beside: float,
    under: float,
    tilt: bool,
) -> None:
    """Rows from top to bottom, each cell as `paint(row, column)` draws it; names get so many pixels beside and under it."""
    ax.set_xlim(0, len(columns))
    ax.set_ylim(len(rows), 0)
    ax.set_xticks([])
    ax.set_yticks([])
    for i, name in enumerate(rows):
        left_of(ax, i + 0.5, shorten(name, beside - 12))
        for j in range(len(columns)):
            paint(i, j)
    for j, name in enumerate(columns):
        below(ax, j + 0.5, shorten(name, under), tilt)


def _corner(ax: Axes, across: str, down: str, shift: tuple[float, float] = (2, 9)) -> None:
    """What columns and rows are, above the upper left corner."""
    if across:
        note(ax, across, (0, 1), shift)
    if down:
        note(ax, down, (0, 1), (-10, shift[1]), align="right")


def _tilted(names: Sequence[str], cell: float) -> bool:
    """Whether the columns' names must lean, since one is wider than its cell."""
    return max(len(name) for name in names) * LETTER > cell - 4


def _shade(ax: Axes, row: int, column: int, share: float, gap: float, colour: str) -> None:
    """One cell; empty ones keep a faint ground so that the grid shows."""
    size = 1 - 2 * gap
    for face, alpha in (("line", 0.5), (colour, round(0.06 + 0.94 * min(share, 1), 3))):
        if face == "line" or share > 0:
            ax.add_patch(
                Rectangle((column + gap, row + gap), size, size, facecolor=COLOUR[face], edgecolor="none", alpha=alpha)
            )


def _number(ax: Axes, y: float, column: int, text: str, share: float, size: float, bold: bool = False) -> None:
    """A number in a cell, light on a strong shade and dark on a weak one."""
    colour = COLOUR["on-strong"] if share > 0.55 else COLOUR["ink"]
    ax.text(
        column + 0.5,
        y,
        text,
        ha="center",
        va="center_baseline",
        fontsize=size,
        color=colour,
        weight="bold" if bold else "normal",
    )
