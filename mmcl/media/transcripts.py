"""Transcripts: words, with their times where somebody measured them, read whole or refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ..api.errors import DataError
from ..api.raw import Words
from .files import require_file
from .listing import decode, read_listing, to_number

TRANSCRIPTS = (".txt", ".srt", ".vtt", ".json", ".csv", ".tsv")
"""Endings of the files that `read_words` reads."""

_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_CUE = re.compile(rf"^\s*{_CLOCK}\s*-->\s*{_CLOCK}", re.MULTILINE)
_Timed = tuple[str, float, float]


def read_words(path: Path) -> Words:
    """The words of a transcript.

    .txt         words without times
    .srt, .vtt   the words of a cue share its time evenly: nobody measured more
    .json        a list of {word (or text), start, end}, or such lists under `words`, or under the `words` of each of `segments`, as
                 speech recognisers write them; seconds
    .csv, .tsv   columns word (or text), start and end, in seconds

    Raises DataError, naming the file, if it is missing, empty or malformed, has no words, or has a word whose times are no span.
    """
    require_file(path, "a transcript")
    kind = path.suffix.lower()
    if kind == ".txt":
        return words_of(decode(path), str(path))
    if kind in (".srt", ".vtt"):
        timed = _cues(decode(path))
    elif kind == ".json":
        timed = _json(path)
    elif kind in (".csv", ".tsv"):
        timed = [_word(f"{path}:{line}", row) for row, line in zip(*_rows(path), strict=True)]
    else:
        raise DataError(f"{path}: a transcript ends in {', '.join(TRANSCRIPTS)}")
    if not timed:
        raise DataError(f"{path}: holds no words; a transcript with times was expected")
    for word, start, end in timed:
        if not 0 <= start <= end < float("inf"):
            raise DataError(f"{path}: the word '{word}' lasts from {start:g} to {end:g} s; a start before its end was expected")
    timed = sorted(timed, key=lambda one: one[1])
    return Words(tuple(word for word, _, _ in timed), np.array([[start, end] for _, start, end in timed], np.float64))


def words_of(text: str, place: str) -> Words:
    """The words of a text, parted by blanks, without times. Raises DataError, beginning with `place`, if there are none."""
    words = tuple(text.split())
    if not words:
        raise DataError(f"{place}: holds no words; a transcript was expected")
    return Words(words)


def _rows(path: Path) -> tuple[tuple[Mapping[str, str], ...], tuple[int, ...]]:
    listing = read_listing(path)
    return listing.rows, listing.lines


def _seconds(clock: Iterable[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in clock)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _cues(text: str) -> list[_Timed]:
    """Words of subtitles. What stands between a cue's times and the next empty line is its text; tags are left out."""
    timed: list[_Timed] = []
    for cue in _CUE.finditer(text):
        start, end = _seconds(cue.groups()[:4]), _seconds(cue.groups()[4:])
        after = text[cue.end() :].partition("\n")[2]
        lines = " ".join(takewhile(str.strip, after.split("\n")))
        words = re.sub(r"<[^>]*>|\{\\[^}]*\}", " ", lines).split()
        step = (end - start) / len(words) if words else 0.0
        timed += [(word, start + i * step, start + (i + 1) * step) for i, word in enumerate(words)]
    return timed


def _json(path: Path) -> list[_Timed]:
    try:
        content: Any = json.loads(decode(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: a transcript in JSON was expected, and it is damaged or cut short ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("segments"), list) and "words" not in content:
        parts = [part.get("words") for part in content["segments"] if isinstance(part, dict)]
        content = [word for part in parts if isinstance(part, list) for word in part]
    elif isinstance(content, dict):
        content = content.get("words")
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise DataError(f'{path}: a list of words was expected, such as [{{"word": "we", "start": 0.1, "end": 0.3}}]')
    return [
        _word(f"{path}: word {i}", {str(key): str(value) for key, value in one.items()}) for i, one in enumerate(content, 1)
    ]


def _word(place: str, row: Mapping[str, str]) -> _Timed:
    text = row.get("word", row.get("text", "")).strip()
    start, end = to_number(row.get("start", "")), to_number(row.get("end", ""))
    if not text or start is None or end is None:
        raise DataError(f"{place}: needs word, start and end (seconds); it has {', '.join(row) or 'nothing'}")
    return text, start, end
