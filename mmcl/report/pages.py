"""Where pages find their templates."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import words


def environment() -> Environment:
    """Where pages find their templates, and how they write numbers."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"plain": words.plain, "signed": words.signed, "duration": words.duration, "whole": words.whole}
    return templates
