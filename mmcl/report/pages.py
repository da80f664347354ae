"""Where pages find their templates, and how they are finished."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..screen import plain
from . import words
from .tags import distinct_ids

TEMPLATES = Path(__file__).parent / "templates"


def style() -> str:
    """The style sheet of every page."""
    return (TEMPLATES / "style.css").read_text(encoding="utf-8")


def environment() -> Environment:
    """Where pages find their templates, and how they write numbers."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"plain": words.plain, "signed": words.signed, "duration": words.duration, "whole": words.whole}
    return templates


def finished(page: str) -> str:
    """A page as it is written: no two of its pictures share an id, and names that somebody chose bring no signs into it that XML does not
    have, or that turn the words around them round.
    """
    return distinct_ids(plain(page))
