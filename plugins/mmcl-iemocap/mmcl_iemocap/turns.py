"""Turns of IEMOCAP's dialogues, from the evaluation files, the transcriptions, the alignments, the wavs and the films."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcl.api import Audio, DataError, Raw, SampleRef, Video, Words
from mmcl.media import Recordings, count_defects, defect, has_pictures, read_audio, read_film, read_text

from . import CODES, FOUR, GET, SIX, STRICT, IemocapParams

EXPECTED = "Session1 to Session5, each with dialog/EmoEvaluation, dialog/transcriptions, dialog/avi/DivX and sentences/wav"
FRAME = 0.01
"""Seconds of a frame of a forced alignment."""

RATE = 16_000
"""Samples a second of every wav."""
LEAST, LARGEST = 1.0, 5.0
"""Ends of the scale of valence, arousal and dominance."""

_TURN = re.compile(r"(Ses0([1-5])[FM]_(?:impro|script)\w*)_([FM])\d{3}")
_SUMMARY = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\t(\S+)\t(\w+)\t\[\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*\]")
_LINE = re.compile(r"(\S+)\s+\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]:\s*(.*)")


@dataclass(frozen=True)
class Turn:
    """One summary line of an evaluation file. Times are seconds into the dialogue."""

    id: str
    dialogue: str
    session: int
    speaker: str  # Ses01F
    start: float
    end: float
    code: str  # neu, hap, …, xxx, oth
    vad: tuple[float, float, float]


@dataclass(frozen=True)
class Defects:
    """What is odd in a copy of IEMOCAP: ids of turns, unless said otherwise.

    undecided  turns on whose emotion nobody agreed (xxx), or that have another one (oth)
    overlaps   turns that begin before an earlier one of their dialogue ends
    no_length  turns that end no later than they begin; they are left out
    beyond     turns with a valence, arousal or dominance beyond 1 to 5, as published; kept
    no_audio   turns without a wav
    no_words   turns that neither the transcription nor an alignment speaks of
    no_film    turns whose dialogue has no film, where films are looked for
    lines      "file:number" of lines in the transcriptions that have no turn's name, or the one of nobody's turn (XX)
    hidden     files whose names begin with "._", which are no data, relative to the root
    sessions   sessions that are not there
    """

    undecided: list[str] = defect("turns on whose emotion nobody agreed, or of another one")
    overlaps: list[str] = defect("turns that begin before another ends")
    no_length: list[str] = defect("turns that end before they begin")
    beyond: list[str] = defect("turns with a value beyond 1 to 5, kept as published")
    no_audio: list[str] = defect("turns without a wav")
    no_words: list[str] = defect("turns without words")
    no_film: list[str] = defect("turns without a film")
    lines: list[str] = defect("lines of transcriptions without a turn")
    hidden: list[str] = defect("hidden files that are no data")
    sessions: list[str] = defect("sessions that are not there")


class Iemocap:
    """The evaluated turns below one folder, by session, dialogue and time."""

    def __init__(self, params: IemocapParams, root: Path | None) -> None:
        self.params = params
        self._recordings = Recordings(root, EXPECTED, GET, "turn")
        self._turns: dict[str, Turn] = {}
        self._texts: dict[str, str] = {}
        self._defects = Defects()
        self._seen: Counter[str] = Counter()

    def samples(self) -> Sequence[SampleRef]:
        """Every turn with an emotion (every turn, with `undecided: keep`). Raises DataError naming file and line of what cannot be read."""
        return self._recordings.all(self._listing)

    def read(self, id: str, source: str) -> Raw:
        """The turn's words, sound or picture; the picture is the dialogue's film from the turn's beginning to its end."""
        self.samples()
        path = self._recordings.file(id, source)
        if source == "video":
            return self._picture(path, self._turns[id])
        if source == "audio":
            return _sound(path)
        if path.suffix == ".wdseg":
            return read_aligned(path)
        return Words(tuple(self._texts[id].split()))

    def defects(self) -> Defects:
        """What is not as it should be, from names and texts alone."""
        self.samples()
        return self._defects

    def counts(self) -> dict[str, int]:
        """How often each defect is there, and signs of transcriptions that could not be decoded, or were."""
        return {**count_defects(self.defects()), **self._seen}

    def _listing(self, root: Path) -> list[SampleRef]:
        base = next((p for p in (root, root / "IEMOCAP_full_release") if (p / "Session1").is_dir()), None)
        if base is None:
            raise DataError(f"{root}: has no Session1; expected: {EXPECTED}. {GET}")
        self._defects, self._turns, self._texts = Defects(), {}, {}
        samples = []
        for session in range(1, 6):
            folder = base / f"Session{session}"
            if not folder.is_dir():
                self._defects.sessions.append(folder.name)
                continue
            self._note_hidden(root, folder)
            for path in sorted((folder / "dialog" / "EmoEvaluation").glob("*.txt")):
                if not path.name.startswith("."):
                    samples += self._of_dialogue(root, folder, session, path)
        if not samples:
            raise DataError(f"{base}: has no evaluated turn; expected: {EXPECTED}. {GET}")
        return samples

    def _note_hidden(self, root: Path, folder: Path) -> None:
        dialog, sentences = folder / "dialog", folder / "sentences"
        for place in (
            dialog / "EmoEvaluation",
            dialog / "transcriptions",
            dialog / "avi" / "DivX",
            *_folders(sentences / "wav"),
        ):
            self._defects.hidden.extend(sorted(path.relative_to(root).as_posix() for path in place.glob("._*")))

    def _of_dialogue(self, root: Path, folder: Path, session: int, path: Path) -> list[SampleRef]:
        dialogue = path.stem
        turns = sorted(self._read_turns(path, session), key=lambda turn: (turn.start, turn.id))
        self._defects.overlaps.extend(overlapping(turns))
        script = folder / "dialog" / "transcriptions" / f"{dialogue}.txt"
        texts = self._transcription(root, script)
        film = _film_of(folder / "dialog" / "avi" / "DivX", dialogue) if self.params.films == "auto" else None
        samples = []
        for turn in turns:
            if turn.code not in CODES:
                self._defects.undecided.append(turn.id)
                if self.params.undecided == "drop":
                    continue
            wav = folder / "sentences" / "wav" / dialogue / f"{turn.id}.wav"
            aligned = folder / "sentences" / "ForcedAlignment" / dialogue / f"{turn.id}.wdseg"
            files: dict[str, Path] = {}
            if self.params.words == "aligned" and aligned.is_file():
                files["words"] = aligned
            elif texts.get(turn.id, "").split():
                files["words"] = script
                self._texts[turn.id] = texts[turn.id]
            else:
                self._defects.no_words.append(turn.id)
            if wav.is_file():
                files["audio"] = wav
            else:
                self._defects.no_audio.append(turn.id)
            if film is not None:
                files["video"] = film
            elif self.params.films == "auto":
                self._defects.no_film.append(turn.id)
            self._turns[turn.id] = turn
            samples.append(
                SampleRef(
                    id=turn.id,
                    group=f"session-{session}" if self.params.group == "session" else turn.speaker,
                    sources={name: file.relative_to(root).as_posix() for name, file in files.items()},
                    targets=_targets(turn, STRICT[self.params.strict]),
                    split="test" if session == 5 else "train",
                    facts={
                        "speaker": turn.speaker,
                        "session": session,
                        "dialogue": dialogue,
                        "played": "script" if "_script" in dialogue else "improvised",
                        "code": turn.code,
                        "seconds": round(turn.end - turn.start, 3),
                    },
                )
            )
        return samples

    def _read_turns(self, path: Path, session: int) -> Iterator[Turn]:
        """The summary lines of an evaluation file; the heading and the annotators' own lines below each are passed over."""
        seen: dict[str, int] = {}
        for number, line in _lines(path):
            if not line.startswith("["):
                continue
            match = _SUMMARY.match(line)
            values = _numbers(match, 1, 2, 5, 6, 7) if match else None
            if match is None or values is None:
                raise DataError(
                    f"{path}:{number}: '{line[:60]}' is no turn; [start - end], name, emotion and [V, A, D] were expected, by tabs"
                )
            name, code = match[3], match[4].lower()
            named = _TURN.fullmatch(name)
            if named is None or int(named[2]) != session or named[1] != path.stem:
                raise DataError(f"{path}:{number}: '{name}' is no turn of session {session}, dialogue {path.stem}")
            if name in seen:
                raise DataError(f"{path}:{number}: turn '{name}' stands in line {seen[name]} already")
            seen[name] = number
            if code not in CODES and code not in ("xxx", "oth"):
                raise DataError(f"{path}:{number}: the emotion '{code}' is none of {', '.join(CODES)}, xxx and oth")
            start, end, *vad = values
            if end <= start:
                self._defects.no_length.append(name)
                continue
            if not all(LEAST <= value <= LARGEST for value in vad):
                self._defects.beyond.append(name)
            yield Turn(name, path.stem, session, f"Ses0{session}{named[3]}", start, end, code, (vad[0], vad[1], vad[2]))
        if not seen:
            raise DataError(
                f"{path}: holds no turn; lines of [start - end], name, emotion and [V, A, D] were expected, by tabs"
            )

    def _transcription(self, root: Path, path: Path) -> dict[str, str]:
        """Turn → what is said in it. Lines without a turn's name, or of turns of nobody (XX), are noted and passed over."""
        texts: dict[str, str] = {}
        for number, line in _lines(path, self._seen) if path.is_file() else ():
            match = _LINE.match(line)
            if match is not None and _TURN.fullmatch(match[1]):
                texts[match[1]] = match[4].strip()
            elif line.strip():
                self._defects.lines.append(f"{path.relative_to(root).as_posix()}:{number}")
        if not texts and path.is_file():
            raise DataError(
                f"{path}: holds nothing that a turn says; lines such as '{path.stem}_F000 [006.2901-008.2357]: text' were expected"
            )
        return texts

    def _picture(self, path: Path, turn: Turn) -> Video:
        """The film between the turn's beginning and end, uint8 [T, 3, height, width]: the speaker's half, or the whole picture."""
        high, wide = self.params.video_size
        whole = self.params.side == "whole"
        try:
            film = read_film(path, (high, wide if whole else 2 * wide), self.params.picture_rate, turn.start, turn.end)
        except DataError as error:
            raise DataError(f"{error} (turn '{turn.id}')") from error
        frames = film.frames
        if not whole:
            wearer = turn.speaker[-1] == turn.dialogue[5]  # Ses01F_impro01: F wears markers
            left = wearer == (self.params.side == "markers-left")
            frames = frames[..., :wide] if left else frames[..., wide:]
        return Video(np.ascontiguousarray(frames), film.rate)


def overlapping(turns: Sequence[Turn]) -> list[str]:
    """Ids of the turns that begin before an earlier one ends. The turns stand in the order of their beginnings."""
    ids, end = [], -1.0
    for turn in turns:
        if turn.start < end:
            ids.append(turn.id)
        end = max(end, turn.end)
    return ids


def read_aligned(path: Path) -> Words:
    """Words in small letters and their times in the turn's wav, from lines of first frame, last frame, score, word.

    Silence (<s>, <sil>) and noises (++BREATHING++) are passed over, and so are the numbers of variants, as in THE(2). Raises DataError where
    no word is left or one ends before it begins.
    """
    words, times = [], []
    for number, line in _lines(path):
        parts = line.split()
        if len(parts) < 4 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            continue  # headings and the total
        word = re.sub(r"\(\d+\)$", "", parts[3])
        if not word or word.startswith(("<", "++", "[")):
            continue
        first, last = int(parts[0]), int(parts[1])
        if last < first:
            raise DataError(f"{path}:{number}: the word '{word}' ends in frame {last}, before frame {first}")
        words.append(word.lower())
        times.append((first * FRAME, (last + 1) * FRAME))
    if not words:
        raise DataError(f"{path}: holds no word; lines of first frame, last frame, score and word were expected")
    return Words(tuple(words), np.array(times, np.float64))


def _sound(path: Path) -> Audio:
    audio = read_audio(path)
    if audio.rate != RATE:
        raise DataError(f"{path}: has {audio.rate:,} samples a second; {RATE:,} were expected, as published")
    return audio


def _film_of(folder: Path, dialogue: str) -> Path | None:
    """A folder of pictures goes before the film that it came from: whoever unpacked it wants it read."""
    pictures, film = folder / dialogue, folder / f"{dialogue}.avi"
    if pictures.is_dir() and has_pictures(pictures):
        return pictures
    return film if film.is_file() else None


def _targets(turn: Turn, strict: tuple[str, ...]) -> Mapping[str, int | float | list[int] | list[float]]:
    targets: dict[str, int | float | list[int] | list[float]] = {"vad": list(turn.vad)}
    name = CODES.get(turn.code)
    if name is None:
        return targets
    joined = "happy" if name == "excited" else name
    if joined in FOUR:
        targets["emotion-4"] = FOUR.index(joined)
    if name in strict:
        targets["emotion-4-strict"] = strict.index(name)
        targets["emotions"] = [int(name == one) for one in strict]
    if name in SIX:
        targets["emotion-6"] = SIX.index(name)
    return targets


def _numbers(match: re.Match[str], *groups: int) -> list[float] | None:
    """The groups as numbers; None where one, such as 1.2.3, is none."""
    try:
        return [float(match[group]) for group in groups]
    except ValueError:
        return None


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir()) if path.is_dir() else []


def _lines(path: Path, seen: Counter[str] | None = None) -> list[tuple[int, str]]:
    """Numbered lines; `seen` counts signs that were no UTF-8. The transcriptions hold a few letters that are not UTF-8; none stands in a name or a number."""
    try:
        text = read_text(path, seen, lenient=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
    return list(enumerate(text.split("\n"), 1))
