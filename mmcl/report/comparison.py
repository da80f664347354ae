"""A comparison of runs as pages and the terminal show it: plain values and pictures."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

from ..review.compare import Comparison


def shown(found: Comparison) -> dict[str, Any]:
    """A comparison as report pages show it: plain values, a picture, and names without the run's where there is one run."""
    from .figures import ranked
    from .words import plain, plural

    runs = {row.name.split(": ", 1)[0] for row in found.rows}
    short = {row.name: row.name.split(": ", 1)[1] if len(runs) == 1 else row.name for row in found.rows}
    rows = []
    for row in found.rows:
        one = row.against
        rows.append(
            {
                "name": short[row.name],
                "reference": row.name == found.reference,
                "score": asdict(row.score),
                "difference": one and asdict(one.difference),
                "effect": one and one.effect,
                "better": one and one.better,
                "groups": one and one.difference.groups,
                "p": p_words(row.corrected),
            }
        )
    rows.sort(key=lambda row: not row["reference"])
    alt = "; ".join(f"{short[r.name]} {plain(r.score.mean)}, {plain(r.score.low)} to {plain(r.score.high)}" for r in found.rows)
    across = f"{found.measure} of {found.task}, 95% interval over {plural(found.group)}"
    return {
        "task": found.task,
        "measure": found.measure,
        "recordings": found.recordings,
        "groups": found.rows[0].score.groups,
        "group": plural(found.group),
        "tests": sum(row.corrected is not None for row in found.rows),
        "rows": rows,
        "picture": ranked(
            [(short[r.name], r.score.mean, r.score.low, r.score.high) for r in found.rows],
            short[found.reference],
            across,
            f"{across}: {alt}.",
        ),
    }


def p_words(value: float | None) -> str:
    """A p value as people write it."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def picture(found: Comparison) -> str:
    """Scores with their intervals, the best on top, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib.figure import Figure

    rows = list(reversed(found.rows))
    figure = Figure(figsize=(8.5, 0.9 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        mine = row.name == found.reference
        colour = "#0b6e66" if mine else "#444444"
        axes.plot([row.score.low, row.score.high], [y, y], color=colour, linewidth=2)
        axes.plot([row.score.mean], [y], "o", color=colour, markersize=7 if mine else 5)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_xlabel(f"{found.measure} of {found.task}, 95 % interval over {found.group}s ({found.recordings} recordings)")
    axes.grid(axis="x", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format="svg")
    return out.getvalue()
