"""A comparison of runs as pages and the terminal show it: plain values and pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..review.compare import Comparison


def shown(comparison: Comparison) -> dict[str, Any]:
    """A comparison as report pages show it: plain values, a picture, and names without the run's where there is one run."""
    from .figures import ranked
    from .words import few, plain, plural

    runs = {row.name.split(": ", 1)[0] for row in comparison.rows}
    short = {row.name: row.name.split(": ", 1)[1] if len(runs) == 1 else row.name for row in comparison.rows}
    rows = []
    for row in comparison.rows:
        rows.append(
            {
                "name": short[row.name],
                "reference": row.name == comparison.reference,
                "score": asdict(row.score),
                "difference": row.against and asdict(row.against.difference),
                "effect": row.against and row.against.effect,
                "better": row.against and row.against.better,
                "groups": row.against and row.against.difference.groups,
                "p": p_words(row.corrected),
            }
        )
    rows.sort(key=lambda row: not row["reference"])
    alt = "; ".join(
        f"{short[r.name]} {plain(r.score.mean)}, {plain(r.score.low)} to {plain(r.score.high)}" for r in comparison.rows
    )
    across = f"{comparison.measure} of {comparison.task}, 95% interval over {plural(comparison.group)}"
    return {
        "task": comparison.task,
        "measure": comparison.measure,
        "recordings": comparison.recordings,
        "groups": comparison.rows[0].score.groups,
        "group": plural(comparison.group),
        "few": few(comparison.rows[0].score.groups, plural(comparison.group)),
        "tests": sum(row.corrected is not None for row in comparison.rows),
        "rows": rows,
        "picture": ranked(
            [(short[r.name], r.score.mean, r.score.low, r.score.high) for r in comparison.rows],
            short[comparison.reference],
            across,
            f"{across}: {alt}.",
        ),
    }


def p_words(value: float | None) -> str:
    """A p value as people write it."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def picture(comparison: Comparison) -> str:
    """Scores with their intervals, the best on top, as an SVG file."""
    from .figures import file_of_scores

    group, recordings = comparison.group, comparison.recordings
    return file_of_scores(
        [(row.name, row.score.mean, row.score.low, row.score.high) for row in reversed(comparison.rows)],
        comparison.reference,
        f"{comparison.measure} of {comparison.task}, 95 % interval over {group}s ({recordings} recordings)",
    )
