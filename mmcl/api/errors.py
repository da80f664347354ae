"""Errors that are the user's to mend.

MmclError            printed as one clear sentence, exit code 2 (a traceback only with --traceback)
├── RecipeError      every problem of a recipe at once, each with file, line and key
├── UnknownNameError a name nobody offers, with the nearest names and the plug-ins that failed to load
├── PluginError      a plug-in that breaks the contract, or two that claim one name
├── DataError        a file or clip that is missing, cut short or not what its format says
└── StageError       a stage cannot go on: what it lacks and which command makes it

Anything else that escapes is our bug and ends with exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class MmclError(Exception):
    """An error whose message tells the user what, where, and what would be right."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: the key it concerns (dotted), what is wrong, and the line, once known."""

    key: str
    text: str
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.key}: {self.text}" if self.key else f"{place}{self.text}"


LISTED = 100
"""Problems of one recipe that are written out; the others are counted."""


class RecipeError(MmclError):
    """All problems of one recipe, in the order of their lines; those of a second file, its base, after those of the first."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("", problems)]
        files = list(dict.fromkeys(p.file for p in problems))
        self.problems = tuple(sorted(problems, key=lambda p: (p.line is None, files.index(p.file), p.line or 0)))
        more = [f"and {len(self.problems) - LISTED:,} problems more"] if len(self.problems) > LISTED else []
        super().__init__("\n".join([*map(str, self.problems[:LISTED]), *more]))


WORDS = {"published": "paper"}
"""What people call a kind of plug-in, where its name in the code is no noun."""


class UnknownNameError(MmclError):
    """`what` named `name` is offered by nobody.

    known, failed  names that are offered; plug-ins that could not be loaded
    advice         what to do where no known name is near and no plug-in failed
    """

    def __init__(self, what: str, name: str, known: Iterable[str], failed: Iterable[str] = (), advice: str = "") -> None:
        self.what, self.name, self.known = what, name, tuple(sorted(known))
        near = difflib.get_close_matches(name, self.known, n=2, cutoff=0.6)
        text = f"unknown {WORDS.get(what, what)} '{name}'"
        if near:
            text += "; did you mean " + " or ".join(f"'{n}'" for n in near) + "?"
        text += f" Known: {', '.join(self.known)}." if near else f"; known: {', '.join(self.known) or 'none'}."
        failed = tuple(failed)
        if failed:
            text += f" Plug-ins that failed to load: {', '.join(failed)} (see 'mmcl plugins')."
        elif not near:
            text += advice
        super().__init__(text)


class PluginError(MmclError):
    """A plug-in breaks the contract, or two plug-ins claim one name."""


class DataError(MmclError):
    """A file or a clip is missing, cut short, or not what its format says."""


class StageError(MmclError):
    """A stage cannot go on."""
