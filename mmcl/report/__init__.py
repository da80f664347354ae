"""Pages of finished runs: one run, several side by side, a sweep. Pictures are drawn in figures/, sentences written in words.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..recipe.plan import Plan
    from ..recipe.search import SweepPlan
    from ..runs import RunFolder
    from ..search.results import SweepResult


def run_and_report(
    plan: Plan,
    run: RunFolder,
    workers: int | None = None,
    strict: bool = False,
    device: str = "auto",
    stop_after: str | None = None,
    overwrite: bool = False,
    more: bool = False,
    jobs: int | None = None,
    only: str | None = None,
    engine: str = "local",
    address: str | None = None,
) -> Path:
    """Every stage that is not finished yet, then the report; its path. The options are those of `mmcl.stages.run_all`."""
    from ..stages import run_all
    from .page import report

    return run_all(plan, run, workers, strict, device, stop_after, report, overwrite, more, jobs, only, engine, address)


def search_and_report(
    plan: SweepPlan,
    out: Path,
    jobs: int | None = None,
    device: str = "auto",
    final: bool = True,
    engine: str = "local",
    address: str | None = None,
) -> SweepResult:
    """Run a sweep and write its page, sweep.html in `out`. The options and errors are those of `mmcl.search.sweep.sweep`."""
    from ..search.sweep import sweep
    from .page import report
    from .search import write_page

    searched = sweep(plan, out, jobs, device, final, report, engine, address)
    write_page(searched, out)
    return searched
