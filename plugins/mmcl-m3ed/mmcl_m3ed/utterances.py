"""Utterances of M3ED, from its annotation file, its lists of shows and the wavs."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcl.api import DataError, Raw, SampleRef, Words
from mmcl.media import read_audio, require_folder

from . import EMOTIONS, GET, M3edParams

EXPECTED = "annotation.json, splitInfo/movie_list_{train,val,test}.txt and, for the voice, SPEAKER_UTTERANCE.wav files"
LISTS = {"train": "train", "val": "valid", "test": "test"}
FPS = 25.0
"""Frames a second of the times HH:MM:SS:FF."""

_TIME = re.compile(r"(\d+):(\d{2}):(\d{2}):(\d{2})")


class M3ed:
    """The utterances below one folder, by show, dialogue and number."""

    def __init__(self, params: M3edParams, root: Path | None) -> None:
        self.params, self._root = params, root
        self._samples: tuple[SampleRef, ...] | None = None
        self._said: dict[str, str] = {}
        self._seen: Counter[str] = Counter()

    def samples(self) -> Sequence[SampleRef]:
        """Every annotated utterance of a listed show; numbers count as numbers, so that 10 comes after 9."""
        if self._samples is None:
            root = require_folder(self._root, EXPECTED, GET)
            path = next((p for name in ("annotation.json", "M3ED.json") if (p := root / name).is_file()), None)
            if path is None:
                raise DataError(f"{root}: has no annotation.json; expected: {EXPECTED}. {GET}")
            try:
                shows = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{path}: is not JSON ({error}); copy it again") from error
            splits = self._splits(root)
            wavs = _wavs(root)
            found = []
            for show in sorted(shows):
                if show not in splits:
                    self._seen["shows that stand in no list"] += 1
                    continue
                for dialogue in sorted(shows[show], key=_number):
                    found += self._of_dialogue(path, root, show, dialogue, shows[show][dialogue], splits[show], wavs)
            if not found:
                raise DataError(f"{path}: has no utterance of a show that the lists in {root / 'splitInfo'} name")
            self._samples = tuple(found)
        return self._samples

    def read(self, id: str, source: str) -> Raw:
        """The utterance's words or sound."""
        samples = {sample.id: sample for sample in self.samples()}
        root = require_folder(self._root, EXPECTED, GET)
        if id not in samples or source not in samples[id].sources:
            raise DataError(f"{root}: utterance '{id}' {'is not there' if id not in samples else f'has no {source}'}")
        if source == "audio":
            return read_audio(root / samples[id].sources[source])
        text = self._said[id]
        words = text.split() if self.params.words == "spaces" else [sign for sign in text if not sign.isspace()]
        return Words(tuple(words))

    def counts(self) -> dict[str, int]:
        """What was odd in the files."""
        return dict(self._seen)

    def _splits(self, root: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, split in LISTS.items():
            path = root / "splitInfo" / f"movie_list_{name}.txt"
            try:
                shows = path.read_text(encoding="utf-8").split()
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror}); it names the shows of a split. {GET}") from error
            for show in shows:
                if found.setdefault(show, split) != split:
                    raise DataError(f"{path}: show '{show}' stands in {found[show]} too")
        return found

    def _of_dialogue(
        self, path: Path, root: Path, show: str, dialogue: str, said: Mapping[str, Any], split: str, wavs: Mapping[str, Path]
    ) -> list[SampleRef]:
        found = []
        lines = said.get("Dialog") if isinstance(said, Mapping) else None
        if not isinstance(lines, Mapping):
            raise DataError(f"{path}: dialogue '{dialogue}' has no 'Dialog' of utterances")
        for id in sorted(lines, key=_number):
            one = lines[id]
            try:
                speaker, text, emotions = str(one["Speaker"]), str(one["Text"]).strip(), one["EmoAnnotation"]
                several, main = str(emotions["final_mul_emo"]), str(emotions["final_main_emo"])
            except (KeyError, TypeError) as error:
                raise DataError(
                    f"{path}: utterance '{id}' lacks {error}; Speaker, Text and EmoAnnotation were expected"
                ) from error
            names = [name.strip().lower() for name in several.split(",") if name.strip()]
            unknown = [name for name in [*names, main.strip().lower()] if name not in EMOTIONS]
            if unknown:
                raise DataError(
                    f"{path}: utterance '{id}' has the emotion '{unknown[0]}'; one of {', '.join(EMOTIONS)} was expected"
                )
            sources = {}
            if text:
                sources["text"] = path.name
                self._said[id] = text
            else:
                self._seen["utterances without a word"] += 1
            wav = wavs.get(f"{speaker}_{id}")
            if wav is not None:
                sources["audio"] = str(wav.relative_to(root))
            elif wavs:
                self._seen["utterances without a wav"] += 1
            seconds = self._seconds(path, id, one)
            if seconds is not None and seconds <= 0:
                self._seen["utterances that end before they begin"] += 1
            found.append(
                SampleRef(
                    id=id, group=show, sources=sources, split=split,
                    targets={"emotions": [int(name in names) for name in EMOTIONS], "emotion": EMOTIONS.index(main.strip().lower())},
                    facts={"speaker": f"{dialogue}_{speaker}", "dialogue": dialogue, **({"seconds": round(seconds, 3)} if seconds is not None else {})},
                )
            )  # fmt: skip
        return found

    def _seconds(self, path: Path, id: str, one: Mapping[str, Any]) -> float | None:
        """How long an utterance lasts by its own times; None where it has none."""
        if "StartTime" not in one or "EndTime" not in one:
            return None
        ends = []
        for key in ("StartTime", "EndTime"):
            match = _TIME.fullmatch(str(one[key]).strip())
            if match is None:
                raise DataError(f"{path}: utterance '{id}': {key} is '{one[key]}'; HH:MM:SS:FF was expected")
            hours, minutes, seconds, frames = (int(part) for part in match.groups())
            ends.append(3600 * hours + 60 * minutes + seconds + frames / FPS)
        return ends[1] - ends[0]


def _number(name: str) -> tuple[int, str]:
    """Order by the number at the end."""
    tail = re.search(r"(\d+)$", name)
    return (int(tail[1]) if tail else 0, name)


def _wavs(root: Path) -> dict[str, Path]:
    """Every wav below the folder by its name; hidden ones are passed over."""
    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(".wav") and not name.startswith("."):
                found.setdefault(name[:-4], Path(folder) / name)
    return found
