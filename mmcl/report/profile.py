"""Where a step's time and memory go, in words and on a page of one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..recipe.plan import Plan
from ..runs import RunFolder, write_json, write_text
from .figures.dots_and_bars import halves
from .pages import environment, finished

if TYPE_CHECKING:
    from ..stages.profile import Part, Profile


def profile_and_report(
    plan: Plan, run: RunFolder, workers: int | None = None, device: str = "auto", steps: int = 5, compiling: bool = False
) -> tuple[Profile, Path]:
    """Prepare what is not there yet, measure a step, write profile.json and profile.html; what was measured, and the page's path."""
    from ..stages.prepare import prepare
    from ..stages.profile import profile

    run.claim()
    with run.held():
        prepare(plan, run, workers)
        measured = profile(plan, run, device, steps, compiling)
        write_json(run.root / "profile.json", measured.to_json())
        write_text(run.root / "profile.html", page(measured))
    return measured, run.root / "profile.html"


def head(one: Profile) -> str:
    """What was measured, in a line."""
    views = "" if one.views == 1 else f" × {one.views} windows"
    threads = f"{one.threads} thread{'' if one.threads == 1 else 's'}"
    return (
        f"{one.name}: a step of {one.recordings} recordings{views} takes {one.step:,.0f} ms on {one.device} ({threads}, "
        f"{one.precision}); the process needed {one.peak:,.0f} MB at most"
    )


def rows_of(one: Profile) -> list[tuple[str, str, str, str]]:
    """Name, milliseconds forward and backward, share of the step, MB: a row for each part, as strings."""
    total = sum(_time(part) for part in one.parts if part.kind != "reading")
    rows = []
    for part in one.parts:
        both = f"{part.forward:,.1f} + {part.backward:,.1f} ms" if part.backward else f"{part.forward:,.1f} ms"
        share = "beside" if part.kind == "reading" else f"{_time(part) / total:.0%}"
        rows.append((part.name, both, share, f"{part.memory:,.1f} MB" if part.memory else ""))
    return rows


def page(one: Profile) -> str:
    """The page, as text."""
    parts = [part for part in one.parts if part.kind != "reading"]
    alt = "; ".join(f"{part.name} {_time(part):.0f} ms" for part in one.parts)
    picture = halves(
        {part.name: (part.forward, part.backward) for part in parts},
        ("forward", "backward"),
        "milliseconds a step",
        f"Milliseconds of each part of a step: {alt}.",
    )
    text = (
        environment()
        .get_template("profile.html.j2")
        .render(
            name=one.name,
            head=head(one).partition(": ")[2],
            picture_of=picture,
            rows=rows_of(one),
            advice=one.advice(),
            version=__version__,
        )
    )
    return finished(text)


def _time(part: Part) -> float:
    return part.forward + part.backward
