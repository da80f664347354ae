"""Docstrings as the reference of the Python API shows them: plain prose, of which columns and code keep their lines.

A docstring here has no markup but backticks. Where lines of a paragraph are set in columns (two or more spaces inside a line, as in a
list of options) or are indented, Markdown would run them together or guess at what they are: such a paragraph is shown as it stands. The comment behind an
attribute of a class, where shapes and units stand, is shown as its docstring.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

COLUMNS = re.compile(r"(?m)\S {2,}\S|^ +\S")
MARKUP = re.compile(r"([*_<\[\]|])")


def shown(docstring: str) -> str:
    """A docstring as Markdown that reads as the docstring does."""
    paragraphs = re.split(r"\n\s*\n", docstring.strip("\n"))
    return "\n\n".join(f"```text\n{one}\n```" if COLUMNS.search(one) else _plain(one) for one in paragraphs)


def _plain(paragraph: str) -> str:
    """Prose in which nothing but backticks is markup."""
    parts = paragraph.split("`")
    return "`".join(MARKUP.sub(r"\\\1", part) if number % 2 == 0 else part for number, part in enumerate(parts))


def _comment(attribute: griffe.Object) -> str:
    """What stands behind an attribute on its line, such as the shape of a tensor; "" for nothing."""
    lines = attribute.lines
    return lines[0].partition("  # ")[2].strip() if lines else ""


class Prose(griffe.Extension):
    """Lays every docstring out as it is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute, once its docstring is known."""
        if obj.docstring:
            obj.docstring.value = shown(obj.docstring.value)
        elif obj.is_attribute and (comment := _comment(obj)):
            obj.docstring = griffe.Docstring(_plain(comment), parent=obj)
        elif obj.is_attribute and obj.parent is not None and "Protocol" in map(str, getattr(obj.parent, "bases", ())):
            obj.docstring = griffe.Docstring("Needed.", parent=obj)
