"""A picture as inline SVG that takes its colours and its type from the page.

Each is drawn twice, for a desk and for a phone, with the words that a screen reader says instead. Colours are drawn as
placeholders and become the page's CSS variables, so that one picture serves light, dark and paper; shades are opacities, so
that they fade into whatever is behind them.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context, style
from matplotlib.figure import Figure

from ..tags import TAG, in_tags

WIDE, NARROW = 760.0, 322.0
"""Width in CSS pixels of the two drawings of a picture."""

MARKED = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
"""Colours that tell classes, groups and modalities apart; beyond eight they come again with another shape."""
_NAMES = ("ink", "muted", "line", "pretrained", "random", "card", "on-strong", *MARKED)
COLOUR = {name: f"#{i:02x}{i:02x}{i:02x}" for i, name in enumerate(_NAMES, 1)}
"""Colour of the page → what it is drawn as until the SVG refers to the page's variable."""


@dataclass(frozen=True)
class Picture:
    """A picture for a desk and for a phone, and the same in words."""

    wide: Markup
    narrow: Markup
    alt: str


def picture(draw: Callable[[float], Figure], alt: str) -> Picture:
    """What `draw` gives for both widths."""
    # Names of classes are words, never formulas, whatever dollar signs they hold; texts read this setting when they are created.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "mmcl", "text.parse_math": False}
    with style.context("default", after_reset=True), rc_context(settings):  # whatever the user's matplotlibrc says
        return Picture(_svg(draw(WIDE), "wide"), _svg(draw(NARROW), "narrow"), alt)


_drop = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", re.DOTALL)
_family = re.compile(r"font-family: [^;\"]*;? ?")
_colour = re.compile(r"(?<=: )#(0[0-9a-f])\1\1\b")
_use = re.compile(r"<use href=\"([^\"]+)\" x=\"([^\"]+)\" y=\"([^\"]+)\" style=\"([^\"]*)\"/>")
_uses = re.compile(r"(?:<use [^>]*/>\s*){8,}")


def _svg(figure: Figure, size: str) -> Markup:
    """A figure as an element of the page: only the ids it refers to, no fonts, no namespaces, the page's names for colours."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The reader's browser writes the text, so glyphs that matplotlib's own font lacks are no loss.
        warnings.filterwarnings("ignore", message=r".*[Gg]lyph")
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = _drop.sub("", _drop.sub("", buffer.getvalue()))  # twice: the first pass empties some <defs>
    used = set(re.findall(r"(?:href=\"|url\()#([\w.]+)", "".join(TAG.findall(text))))
    text = in_tags(partial(_lighter, used), text)
    text = re.sub(r"\s*\n\s*", " ", text).replace('transform="rotate(-0 ', 'transform="rotate(0 ')
    text = re.sub(r" transform=\"rotate\(0 [\d. -]+\)\"", "", text)
    text = _uses.sub(_together, text)
    width = figure.get_figwidth() * 72
    head = re.search(r"<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>", text)
    assert head is not None, "matplotlib writes a viewBox"
    body = text[head.end() :].strip()
    return Markup(
        f'<svg class="{size}" viewBox="{head[1]}" style="width:{width:.0f}px" aria-hidden="true" focusable="false">{body}'
    )


def _lighter(used: Collection[str], tag: str) -> str:
    """A tag with only the ids that something refers to, without fonts, its colours the page's."""
    tag = re.sub(r" id=\"([\w.]+)\"", lambda m: m[0] if m[1] in used else "", tag)
    tag = _family.sub("", tag).replace("xlink:href", "href")
    return _colour.sub(lambda m: f"var(--{_NAMES[int(m[1], 16) - 1]})", tag)


def _together(points: re.Match[str]) -> str:
    """Many points in a row: what they have in common is written once, and their places to a tenth of a pixel."""
    parts = []
    for look, each in itertools.groupby(_use.findall(points[0]), key=lambda one: one[3]):
        parts.append(
            f'<g style="{look}">'
            + "".join(f'<use href="{h}" x="{float(x):.1f}" y="{float(y):.1f}"/>' for h, x, y, _ in each)
            + "</g>"
        )
    return "".join(parts)
