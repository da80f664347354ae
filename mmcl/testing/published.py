"""The checks of a paper's tables: every cell stands in a place of its own."""

from __future__ import annotations

from collections.abc import Iterator

from ..api.published import PublishedSpec
from .checks import Check, expect


def published_checks(spec: PublishedSpec) -> Iterator[Check]:
    """What stands in the tables of a paper."""
    yield "every cell stands in one place", lambda: _cells(spec)
    if any(table.benchmark for table in spec.tables):
        yield "every benchmark can be met by a run", lambda: _benchmarks(spec)


def _cells(spec: PublishedSpec) -> None:
    expect(bool(spec.tables), f"published '{spec.name}': has no table")
    for table in spec.tables:
        places = [(cell.row, cell.column) for cell in table.cells]
        twice = sorted({place for place in places if places.count(place) > 1})
        expect(not twice, f"published '{spec.name}', {table.name}: two cells stand at {twice[:1]}")
        expect(bool(places), f"published '{spec.name}', {table.name}: has no cell")


def _benchmarks(spec: PublishedSpec) -> None:
    for table in spec.tables:
        if (benchmark := table.benchmark) is None:
            continue
        whose = f"published '{spec.name}', {table.name}"
        groups = [group for fold in benchmark.tested for group in fold]
        expect(bool(groups) and all(benchmark.tested), f"{whose}: its benchmark tests no group, or has a fold without one")
        twice = sorted({group for group in groups if groups.count(group) > 1})
        expect(not twice, f"{whose}: its benchmark tests {twice[:1]} twice")
        expect(
            benchmark.recordings >= len(groups),
            f"{whose}: its benchmark has {benchmark.recordings} recordings of {len(groups)} groups",
        )
        other = sorted({cell.task for cell in table.cells} - {benchmark.task})
        expect(not other, f"{whose}: a cell is of task {other[:1]}; its benchmark predicts '{benchmark.task}'")
