"""Utterances of M3ED, from its annotation file, its lists of shows, the wavs and the films of dialogues."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcl.api import DataError, Raw, SampleRef, Video, Words
from mmcl.media import Recordings, count_defects, defect, has_pictures, read_audio, read_film, read_text, walk_folders

from . import EMOTIONS, GET, M3edParams

EXPECTED = "annotation.json, splitInfo/movie_list_{train,val,test}.txt and, for voice and picture, SPEAKER_UTTERANCE.wav files and DIALOGUE.mp4 files"
LISTS = {"train": "train", "val": "valid", "test": "test"}
FPS = 25
"""Frames a second of the times HH:MM:SS:FF."""

_TIME = re.compile(r"(\d+):(\d+):(\d+):(\d+)")
_SIGN = re.compile(r"[A-Za-z0-9]+(?:['.][A-Za-z0-9]+)*|\S")


@dataclass(frozen=True)
class Utterance:
    """One entry of a dialogue. Times are seconds into the dialogue's film; None where the annotation has none, or one that cannot be."""

    id: str  # anjia_1_12
    show: str
    dialogue: str
    speaker: str  # A or B
    text: str
    several: tuple[str, ...]
    main: str
    start: float | None
    end: float | None


@dataclass(frozen=True)
class Defects:
    """What is odd in a copy of M3ED: ids of utterances, unless said otherwise.

    unlisted   shows that no list names; their utterances are left out
    absent     shows that a list names and the annotation lacks
    no_words   utterances without a word
    no_audio   utterances without a wav, where there are any wavs
    no_film    utterances whose dialogue has no film, or of which no time tells where they are in it, where there are any films
    no_length  utterances that end no later than they begin
    times      utterances with a time that cannot be, such as frame 142 of 25
    main       utterances whose strongest emotion is not among those agreed on
    """

    unlisted: list[str] = defect("shows that stand in no list")
    absent: list[str] = defect("shows of the lists without an annotation")
    no_words: list[str] = defect("utterances without a word")
    no_audio: list[str] = defect("utterances without a wav")
    no_film: list[str] = defect("utterances without a film")
    no_length: list[str] = defect("utterances that end before they begin")
    times: list[str] = defect("utterances with a time that cannot be")
    main: list[str] = defect("utterances whose strongest emotion is not among the agreed ones")


class M3ed:
    """The utterances below one folder, by show, dialogue and number."""

    def __init__(self, params: M3edParams, root: Path | None) -> None:
        self.params = params
        self._recordings = Recordings(root, EXPECTED, GET, "utterance")
        self._utterances: dict[str, Utterance] = {}
        self._defects = Defects()

    def samples(self) -> Sequence[SampleRef]:
        """Every annotated utterance of a listed show; numbers count as numbers, so that 10 comes after 9.

        Raises DataError naming the file and the utterance of what cannot be read.
        """
        return self._recordings.all(self._listing)

    def read(self, id: str, source: str) -> Raw:
        """The utterance's words, sound or picture; the picture is the dialogue's film from the utterance's beginning to its end."""
        self.samples()
        path = self._recordings.file(id, source)
        if source == "audio":
            return read_audio(path)
        one = self._utterances[id]
        if source == "video":
            return self._picture(path, one)
        return Words(divided(one.text, self.params.words))

    def defects(self) -> Defects:
        """What is not as it should be, from the annotation and names alone."""
        self.samples()
        return self._defects

    def counts(self) -> dict[str, int]:
        """How often each defect is there."""
        return count_defects(self.defects())

    def _listing(self, root: Path) -> list[SampleRef]:
        path = next((p for name in ("annotation.json", "M3ED.json") if (p := root / name).is_file()), None)
        if path is None:
            raise DataError(f"{root}: has no annotation.json; expected: {EXPECTED}. {GET}")
        shows = _json(path)
        splits = _splits(root)
        episodes = _episodes(root / "relation_annotation_release.json")
        wavs, films = _clips(root) if self.params.clips == "auto" else ({}, {})
        self._defects, self._utterances = Defects(absent=[show for show in sorted(splits) if show not in shows]), {}
        samples = []
        for show in sorted(shows):
            if show not in splits:
                self._defects.unlisted.append(show)
                continue
            if not isinstance(shows[show], Mapping):
                raise DataError(f"{path}: show '{show}' is no table of dialogues")
            for dialogue in sorted(shows[show], key=_number):
                annotation = shows[show][dialogue]
                people = annotation.get("SpeakerInfo") if isinstance(annotation, Mapping) else None
                for one in self._of_dialogue(path, show, dialogue, annotation):
                    if one.id in self._utterances:
                        raise DataError(f"{path}: utterance '{one.id}' stands in two dialogues")
                    self._utterances[one.id] = one
                    facts = _facts(one, people, episodes.get(dialogue))
                    samples.append(self._sample(path, root, one, splits[show], facts, wavs, films))
        if not samples:
            raise DataError(f"{path}: has no utterance of a show that the lists in {root / 'splitInfo'} name")
        return samples

    def _of_dialogue(self, path: Path, show: str, dialogue: str, annotation: Any) -> list[Utterance]:
        """The utterances of one dialogue by their numbers."""
        lines = annotation.get("Dialog") if isinstance(annotation, Mapping) else None
        if not isinstance(lines, Mapping):
            raise DataError(f"{path}: dialogue '{dialogue}' has no 'Dialog' of utterances")
        utterances = []
        for id in sorted(lines, key=_number):
            one = lines[id]
            try:
                speaker, text, emotions = str(one["Speaker"]).strip(), str(one["Text"]).strip(), one["EmoAnnotation"]
                several, main = str(emotions["final_mul_emo"]), str(emotions["final_main_emo"]).strip().lower()
            except (KeyError, TypeError) as error:
                lack = f"lacks {error}" if isinstance(error, KeyError) else "is no table"
                raise DataError(
                    f"{path}: utterance '{id}' {lack}; Speaker, Text and EmoAnnotation with final_mul_emo and final_main_emo were expected"
                ) from error
            names = tuple(name.strip().lower() for name in several.split(",") if name.strip())
            unknown = [name for name in [*names, main] if name not in EMOTIONS]
            if unknown:
                raise DataError(
                    f"{path}: utterance '{id}' has the emotion '{unknown[0]}'; one of {', '.join(EMOTIONS)} was expected"
                )
            start, end = (self._seconds(path, id, key, one[key]) if key in one else None for key in ("StartTime", "EndTime"))
            utterances.append(Utterance(id, show, dialogue, speaker, text, names, main, start, end))
        return utterances

    def _sample(
        self,
        path: Path,
        root: Path,
        one: Utterance,
        split: str,
        facts: Mapping[str, str | int | float],
        wavs: Mapping[str, Path],
        films: Mapping[str, Path],
    ) -> SampleRef:
        files: dict[str, Path] = {}
        if one.text:
            files["text"] = path
        else:
            self._defects.no_words.append(one.id)
        wav, film = wavs.get(f"{one.speaker}_{one.id}"), films.get(one.dialogue)
        if wav is not None:
            files["audio"] = wav
        elif wavs:
            self._defects.no_audio.append(one.id)
        long = one.start is not None and one.end is not None and one.end > one.start
        if film is not None and long:
            files["video"] = film
        elif films:
            self._defects.no_film.append(one.id)
        if one.start is not None and one.end is not None and not long:
            self._defects.no_length.append(one.id)
        if one.main not in one.several:
            self._defects.main.append(one.id)
        return SampleRef(
            id=one.id,
            group=one.show,
            sources={name: file.relative_to(root).as_posix() for name, file in files.items()},
            targets={"emotions": [int(name in one.several) for name in EMOTIONS], "emotion": EMOTIONS.index(one.main)},
            split=split,
            facts=facts,
        )

    def _seconds(self, path: Path, id: str, key: str, value: Any) -> float | None:
        """A time as seconds; None, and noted, where its minutes, seconds or frames are more than there can be."""
        match = _TIME.fullmatch(str(value).strip())
        if match is None:
            raise DataError(f"{path}: utterance '{id}': {key} is '{value}'; HH:MM:SS:FF was expected")
        hours, minutes, seconds, frames = (int(part) for part in match.groups())
        if minutes >= 60 or seconds >= 60 or frames >= FPS:
            if id not in self._defects.times:
                self._defects.times.append(id)
            return None
        return 3600 * hours + 60 * minutes + seconds + frames / FPS

    def _picture(self, path: Path, one: Utterance) -> Video:
        """The film between the utterance's beginning and end, uint8 [T, 3, height, width]."""
        assert one.start is not None
        assert one.end is not None
        try:
            return read_film(path, self.params.video_size, self.params.picture_rate, one.start, one.end)
        except DataError as error:
            raise DataError(f"{error} (utterance '{one.id}')") from error


def divided(text: str, way: str) -> tuple[str, ...]:
    """The words of a text, by `characters` or `spaces` (see `M3edParams.words`)."""
    return tuple(text.split() if way == "spaces" else _SIGN.findall(text))


def _facts(one: Utterance, people: Any, episode: Any) -> dict[str, str | int | float]:
    """Who speaks, where, and for how long; age and gender as the annotators judged them."""
    facts: dict[str, str | int | float] = {"speaker": f"{one.dialogue}_{one.speaker}", "dialogue": one.dialogue}
    person = people.get(one.speaker) if isinstance(people, Mapping) else None
    for key in ("Gender", "Age"):
        value = person.get(key) if isinstance(person, Mapping) else None
        if isinstance(value, str) and value.strip():
            facts[key.lower()] = value.strip().lower()
    if isinstance(episode, int):
        facts["episode"] = episode
    if one.start is not None and one.end is not None:
        facts["seconds"] = round(one.end - one.start, 3)
    return facts


def _json(path: Path) -> Mapping[str, Any]:
    """A table in JSON. Raises DataError naming the file if it is none."""
    try:
        table = json.loads(read_text(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise DataError(f"{path}: is not JSON in UTF-8 ({error}); copy it again") from error
    if not isinstance(table, Mapping):
        raise DataError(f"{path}: is no table of shows")
    return table


def _splits(root: Path) -> dict[str, str]:
    """Show → split, from the three lists."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        path = root / "splitInfo" / f"movie_list_{name}.txt"
        try:
            shows = read_text(path).split()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); it names the shows of a split. {GET}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not text in UTF-8; one name of a show in each line was expected") from error
        for show in shows:
            if splits.setdefault(show, split) != split:
                raise DataError(f"{path}: show '{show}' stands in {splits[show]} too")
    return splits


def _episodes(path: Path) -> dict[str, Any]:
    """Dialogue → number of its episode, where the file that tells it is there."""
    if not path.is_file():
        return {}
    return {
        dialogue: one.get("episode")
        for dialogues in _json(path).values()
        if isinstance(dialogues, Mapping)
        for dialogue, one in dialogues.items()
        if isinstance(one, Mapping)
    }


def _number(name: str) -> tuple[int, str]:
    """Order by the number at the end."""
    tail = re.search(r"(\d+)$", name)
    return (int(tail[1]) if tail else 0, name)


def _clips(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Name → file of every wav, and of every mp4 or folder of pictures; hidden ones are passed over.

    Raises DataError if two have one name. A folder of pictures goes before the mp4 that it came from.
    """
    wavs: dict[str, Path] = {}
    films: dict[str, Path] = {}
    for folder, folders, files in walk_folders(root):
        for file in files:
            stem, _, ending = file.rpartition(".")
            if ending.lower() not in ("wav", "mp4"):
                continue
            kept = wavs if ending.lower() == "wav" else films
            if stem in kept and kept[stem].is_file():
                raise DataError(f"{folder / file}: {kept[stem]} has the same name; leave one of the two")
            kept.setdefault(stem, folder / file)
        for child in folders:
            if re.search(r"_\d+$", child) and has_pictures(folder / child):
                films[child] = folder / child
    return wavs, films
