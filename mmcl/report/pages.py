"""Where pages find their templates."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import words

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
