"""Turns of IEMOCAP's dialogues, from the evaluation files, the transcriptions and the wavs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcl.api import DataError, Raw, SampleRef, Words
from mmcl.media import read_audio, require_folder

from . import CODES, FOUR, GET, SIX, IemocapParams

EXPECTED = "Session1 to Session5, each with dialog/EmoEvaluation, dialog/transcriptions and sentences/wav"
FRAME = 0.01
"""Seconds of a frame of a forced alignment."""

_TURN = re.compile(r"Ses0([1-5])([FM])_(impro|script)\w*_([FM])\d{3}")
_SUMMARY = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\t(\S+)\t(\w+)\t\[\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*\]")
_LINE = re.compile(r"(\S+)\s+\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]:\s*(.*)")


@dataclass(frozen=True)
class Turn:
    """One line of an evaluation file."""

    id: str
    session: int
    speaker: str
    start: float
    end: float
    code: str
    vad: tuple[float, float, float]


class Iemocap:
    """The evaluated turns below one folder, by session and dialogue."""

    def __init__(self, params: IemocapParams, root: Path | None) -> None:
        self.params, self._root = params, root
        self._samples: tuple[SampleRef, ...] | None = None
        self._words: dict[str, str] = {}
        self._seen: Counter[str] = Counter()

    def samples(self) -> Sequence[SampleRef]:
        """Every turn with an emotion (every turn, with `undecided: keep`)."""
        if self._samples is None:
            root = require_folder(self._root, EXPECTED, GET)
            base = next((p for p in (root, root / "IEMOCAP_full_release") if (p / "Session1").is_dir()), None)
            if base is None:
                raise DataError(f"{root}: has no Session1; expected: {EXPECTED}. {GET}")
            found = []
            for session in range(1, 6):
                for path in sorted((base / f"Session{session}" / "dialog" / "EmoEvaluation").glob("*.txt")):
                    if not path.name.startswith("._"):
                        found += self._of_dialogue(root, base, session, path)
            if not found:
                raise DataError(f"{base}: has no evaluated turn; expected: {EXPECTED}. {GET}")
            self._samples = tuple(found)
        return self._samples

    def read(self, id: str, source: str) -> Raw:
        """The turn's sound, or its words."""
        samples = {sample.id: sample for sample in self.samples()}
        root = require_folder(self._root, EXPECTED, GET)
        if id not in samples or source not in samples[id].sources:
            raise DataError(f"{root}: turn '{id}' {'is not there' if id not in samples else f'has no {source}'}")
        where = root / samples[id].sources[source]
        if source == "audio":
            return read_audio(where)
        if where.suffix == ".wdseg":
            return self._aligned(where)
        return Words(tuple(self._words[id].split()))

    def counts(self) -> dict[str, int]:
        """What was odd in the files."""
        return dict(self._seen)

    def _of_dialogue(self, root: Path, base: Path, session: int, path: Path) -> list[SampleRef]:
        dialogue = path.stem
        said = self._transcription(base / f"Session{session}" / "dialog" / "transcriptions" / f"{dialogue}.txt")
        found = []
        last: dict[str, float] = {}
        for turn in self._turns(path, session):
            if any(turn.start < end for speaker, end in last.items() if speaker != turn.speaker):
                self._seen["turns that begin before the other's ends"] += 1
            last[turn.speaker] = turn.end
            if turn.code not in CODES:
                self._seen["turns on whose emotion nobody agreed, or of another one"] += 1
                if self.params.undecided == "drop":
                    continue
            sources = {}
            folder = base / f"Session{session}" / "sentences"
            wav, aligned = (
                folder / "wav" / dialogue / f"{turn.id}.wav",
                folder / "ForcedAlignment" / dialogue / f"{turn.id}.wdseg",
            )
            if wav.is_file():
                sources["audio"] = str(wav.relative_to(root))
            else:
                self._seen["turns without a wav"] += 1
            if aligned.is_file():
                sources["words"] = str(aligned.relative_to(root))
            elif said.get(turn.id):
                sources["words"] = str(
                    (base / f"Session{session}" / "dialog" / "transcriptions" / f"{dialogue}.txt").relative_to(root)
                )
                self._words[turn.id] = said[turn.id]
            else:
                self._seen["turns without words"] += 1
            found.append(
                SampleRef(
                    id=turn.id,
                    group=f"session-{session}" if self.params.group == "session" else turn.speaker,
                    sources=sources,
                    targets=_targets(turn),
                    split="test" if session == 5 else "train",
                    facts={
                        "speaker": turn.speaker,
                        "session": session,
                        "dialogue": dialogue,
                        "seconds": round(turn.end - turn.start, 3),
                    },
                )
            )
        return found

    def _turns(self, path: Path, session: int) -> list[Turn]:
        """The summary lines of an evaluation file; the annotators' own lines below each are passed over."""
        found = []
        for number, line in enumerate(_lines(path), 1):
            if not line.startswith("["):
                continue
            match = _SUMMARY.match(line)
            if match is None:
                if "turn" in line.lower():  # the heading: % [START_TIME - END_TIME] TURN_NAME …
                    continue
                raise DataError(
                    f"{path}:{number}: '{line[:60]}' is no turn; [start - end], name, emotion and [V, A, D] were expected, by tabs"
                )
            start, end, name, code, *vad = match.groups()
            named = _TURN.fullmatch(name)
            if named is None or int(named[1]) != session:
                raise DataError(f"{path}:{number}: '{name}' is no turn of session {session}")
            if float(end) <= float(start):
                self._seen["turns that end before they begin"] += 1
                continue
            a, b, c = (float(v) for v in vad)
            found.append(Turn(name, session, f"Ses0{session}{named[4]}", float(start), float(end), code.lower(), (a, b, c)))
        return found

    def _transcription(self, path: Path) -> dict[str, str]:
        """What is said in each turn. Lines without a turn's name, or of turns of nobody (XX), are counted and passed over."""
        if not path.is_file():
            return {}
        found = {}
        for line in _lines(path):
            match = _LINE.match(line)
            if match is None or not _TURN.fullmatch(match[1]):
                self._seen["lines of transcriptions without a turn"] += bool(line.strip())
                continue
            found[match[1]] = match[4].strip()
        return found

    def _aligned(self, path: Path) -> Words:
        """Words and their times from a forced alignment: first frame, last frame, score, word."""
        words, times = [], []
        for number, line in enumerate(_lines(path), 1):
            parts = line.split()
            if len(parts) < 4 or not (parts[0].isdigit() and parts[1].isdigit()):
                continue  # headings and the total
            word = re.sub(r"\(\d+\)$", "", parts[3])
            if word.startswith("<") or word.startswith("++"):
                continue  # silence, breath
            first, last = int(parts[0]), int(parts[1])
            if last < first:
                raise DataError(f"{path}:{number}: the word '{word}' ends in frame {last}, before frame {first}")
            words.append(word)
            times.append((first * FRAME, (last + 1) * FRAME))
        if not words:
            raise DataError(f"{path}: holds no word; lines of first frame, last frame, score and word were expected")
        return Words(tuple(words), np.array(times, np.float64))


def _targets(turn: Turn) -> dict[str, int | float | list[int] | list[float]]:
    found: dict[str, int | float | list[int] | list[float]] = {"vad": list(turn.vad)}
    name = CODES.get(turn.code)
    if name is None:
        return found
    joined = "happy" if name == "excited" else name
    if joined in FOUR:
        found["emotion-4"] = FOUR.index(joined)
    if name in FOUR:
        found["emotion-4-strict"] = FOUR.index(name)
        found["emotions"] = [int(name == one) for one in FOUR]
    if name in SIX:
        found["emotion-6"] = SIX.index(name)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
