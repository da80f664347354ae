"""The checks of a paper's tables: every cell stands in a place of its own."""

from __future__ import annotations

from collections.abc import Iterator

from ..api.published import PublishedSpec
from .checks import Check, expect


def published_checks(spec: PublishedSpec) -> Iterator[Check]:
    """What stands in the tables of a paper."""
    yield "every cell stands in one place", lambda: _cells(spec)


def _cells(spec: PublishedSpec) -> None:
    expect(bool(spec.tables), f"published '{spec.name}': has no table")
    for table in spec.tables:
        places = [(cell.row, cell.column) for cell in table.cells]
        twice = sorted({place for place in places if places.count(place) > 1})
        expect(not twice, f"published '{spec.name}', {table.name}: two cells stand at {twice[:1]}")
        expect(bool(places), f"published '{spec.name}', {table.name}: has no cell")
