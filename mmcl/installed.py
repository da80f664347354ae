"""What is installed, whatever state it is in: an interrupted pip leaves folders of metadata that have no name, or are cut short.

The standard library lists entry points by walking over every distribution, and one that cannot be read ends the walk with a TypeError,
in pydantic and torch as much as here. Such a folder is set aside, for this process alone, before any of them looks.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from typing import Any

GROUP = "mmcl"


def set_aside_damaged() -> None:
    """Let the standard library pass over distributions that it cannot list; nothing is changed where it can list them all."""
    try:
        importlib.metadata.entry_points(group=GROUP)
    except Exception:  # noqa: BLE001 - a damaged file may raise anything
        every = importlib.metadata.distributions

        def distributions(**narrowed: Any) -> Iterator[Distribution]:
            return (one for one in every(**narrowed) if _listed(one))

        vars(importlib.metadata)["distributions"] = distributions


def _listed(one: Distribution) -> bool:
    """Whether the standard library can list a distribution's entry points."""
    try:
        return bool(getattr(one, "_normalized_name", one.name)) and one.entry_points is not None
    except Exception:  # noqa: BLE001 - as above
        return False


def entry_points() -> Iterator[EntryPoint]:
    """Every entry point of the group `mmcl`, those of damaged distributions among them, where their list can be read."""
    for one in Distribution.discover():
        try:
            points = one.entry_points
        except Exception:  # noqa: BLE001 - as above
            continue
        yield from (point for point in points if point.group == GROUP)


def damage(one: Distribution) -> str | None:
    """Why a distribution is no whole one, with its folder; None for a whole one."""
    try:
        if one.name:
            return None
        why = "has no METADATA with a name"
    except Exception as error:  # noqa: BLE001 - as above
        why = f"has METADATA that cannot be read ({type(error).__name__})"
    folder = getattr(one, "_path", None) or one.locate_file("")
    return f"{folder}: {why}, as an interrupted installation leaves it; install the package again, or remove the folder"
