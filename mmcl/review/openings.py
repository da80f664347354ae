"""How often a run's test set was opened, and what was chosen when, as its log has it.

A test set that is read again tells nothing where everything was chosen before it was read the first time: `mmcl run` reads it again for
a file that was lost, or for a head that is added. What was chosen anew, or left out, after it had been read may have been chosen by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Where = tuple[str, int, int]
"""Stage, fold, seed."""


@dataclass(frozen=True)
class Openings:
    """The openings of the test set in one stage, for one fold and seed."""

    count: int
    unknown: bool = False  # whether an older mmcl wrote the log, which does not say what was chosen
    changed: tuple[str, ...] = ()  # chosen anew after a first opening, in the order of the log
    dropped: tuple[str, ...] = ()  # tested in an earlier opening, and not in the last
    added: tuple[str, ...] = ()  # tested in the last opening, and not in the first

    @property
    def fixed(self) -> bool:
        """Whether everything that is reported was chosen before the test set was opened, as far as the log says."""
        return self.count <= 1 or not (self.unknown or self.changed or self.dropped)


def openings_of(log: Iterable[Mapping[str, Any]]) -> dict[Where, Openings]:
    """Every opening that a log has, by stage, fold and seed; `log`: its lines."""
    choices: dict[Where, list[Mapping[str, str] | None]] = {}
    for row in log:
        if row["event"] == "test opened":
            tested = row.get("choices")
            where = (str(row.get("stage") or "probe"), int(row["fold"]), int(row["seed"]))
            choices.setdefault(where, []).append(tested if isinstance(tested, dict) else None)
    return {where: _compared(each) for where, each in choices.items()}


def _compared(each: list[Mapping[str, str] | None]) -> Openings:
    """The openings of one stage, fold and seed, in the order of the log."""
    if len(each) == 1:
        return Openings(1)
    known: dict[str, str] = {}
    changed: dict[str, None] = {}
    for tested in each:
        for name, one in (tested or {}).items():
            if known.setdefault(name, one) != one:
                changed[name] = None
                known[name] = one
    first, last = each[0] or {}, each[-1] or {}
    return Openings(
        count=len(each),
        unknown=None in each,
        changed=tuple(changed),
        dropped=() if each[-1] is None else tuple(name for name in known if name not in last),
        added=tuple(name for name in last if name not in first),
    )


def sentence(openings: Mapping[Where, Openings]) -> str:
    """How often the test set was opened, and whether anything was chosen after that: for the report. "" where the log does not say."""
    if not openings:
        return ""
    most = max(one.count for one in openings.values())
    if most == 1:
        return "Opened once in each stage, fold and seed, when everything was chosen."
    sentences = [f"Opened up to {most} times in a stage, fold and seed."]
    for names, words in (
        ({name for one in openings.values() for name in one.changed}, "chosen anew after it had been opened"),
        ({name for one in openings.values() for name in one.dropped}, "tested and left out later"),
        ({name for one in openings.values() for name in one.added}, "added after it had been opened"),
    ):
        if names:
            few = sorted(names)[:3]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            sentences.append(f"{words.capitalize()}: {', '.join(few)}{more}.")
    if any(one.unknown for one in openings.values()):
        sentences.append("Its log does not say whether anything was chosen in between.")
    elif all(one.fixed for one in openings.values()):
        sentences.append("Everything that was tested before was read again as it had been chosen before.")
    return " ".join(sentences)
