"""Valence and arousal of emotions by name, in [−1, 1]. Imports no torch: `mmcl check` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmcl.api import DataError, Task
from mmcl.media import is_number, read_text

GET = "free for research, from https://saifmohammad.com/WebPages/nrc-vad.html"
"""How to get the lexicon, which may not be handed on."""

_RATED: Mapping[str, tuple[float, float]] = {
    "happy": (1.0, 0.735),
    "sad": (0.225, 0.333),
    "anger": (0.167, 0.865),
    "surprise": (0.875, 0.875),
    "disgust": (0.052, 0.775),
    "fear": (0.073, 0.840),
}
"""Valence and arousal of six words, from 0 to 1, as people rated them: NRC-VAD (Mohammad, ACL 2018), the figures that UniVA publishes."""

_SAME = {
    "joy": "happy",
    "happiness": "happy",
    "sadness": "sad",
    "angry": "anger",
    "surprised": "surprise",
    "disgusted": "disgust",
    "fearful": "fear",
}
"""Other names of these six emotions; their own ratings differ a little, and are read where the lexicon is given."""

NEUTRAL = (0.0, 0.0)
"""Where UniVA's authors put `neutral` by hand: in the middle of both scales, whatever the lexicon says of the word."""

PUBLISHED: Mapping[str, tuple[float, float]] = {
    "neutral": NEUTRAL,
    **{name: (2 * v - 1, 2 * a - 1) for name, (v, a) in _RATED.items()},
    **{name: (2 * _RATED[one][0] - 1, 2 * _RATED[one][1] - 1) for name, one in _SAME.items()},
}
"""Valence and arousal of emotions in [−1, 1] that are known without the lexicon."""


def read_lexicon(path: Path) -> dict[str, tuple[float, float]]:
    """Word → (valence, arousal) in [−1, 1] of an NRC-VAD file, whose values go from 0 to 1 (a newer one's, from −1 to 1).

    Raises DataError if the file is missing or a line is malformed.
    """
    try:
        lines = read_text(path).split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); the NRC-VAD lexicon was expected, {GET}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not text in UTF-8 (byte {error.start:,}); the NRC-VAD lexicon was expected, {GET}"
        ) from error
    places: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(lines, 1):
        parts = line.split("\t")
        if len(parts) < 3 or (number == 1 and not is_number(parts[1])):
            if line.strip() and number > 1:
                raise DataError(
                    f"{path}:{number}: has {len(parts)} columns; word, valence, arousal and dominance were expected, by tabs"
                )
            continue
        if not (is_number(parts[1]) and is_number(parts[2])):
            raise DataError(f"{path}:{number}: '{parts[1]}' or '{parts[2]}' is no number")
        places[parts[0].strip().lower()] = float(parts[1]), float(parts[2])
    if not places:
        raise DataError(f"{path}: holds no word; word, valence, arousal and dominance were expected, by tabs")
    if min(min(pair) for pair in places.values()) >= 0:
        places = {word: (2 * v - 1, 2 * a - 1) for word, (v, a) in places.items()}
    return places


def of_names(names: tuple[str, ...], lexicon: str) -> list[tuple[float, float]]:
    """Valence and arousal of each name. Raises DataError if the lexicon lacks one, ValueError if no figure of it is published here."""
    if lexicon:
        path = Path(lexicon).expanduser()
        known = read_lexicon(path)
        missing = [name for name in names if name.lower() not in known and name.lower() != "neutral"]
        if missing:
            raise DataError(f"{path}: has no word '{missing[0]}'")
        return [NEUTRAL if name.lower() == "neutral" else known[name.lower()] for name in names]
    missing = [name for name in names if name.lower() not in PUBLISHED]
    if missing:
        raise ValueError(
            f"valence and arousal of '{missing[0]}' are not known without the NRC-VAD lexicon (lexicon: FILE; {GET}); known are "
            f"{', '.join(PUBLISHED)}"
        )
    return [PUBLISHED[name.lower()] for name in names]


def classes_of(name: str, lexicon: str, tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """The classes of a task that has names with values. Raises ValueError with a sentence otherwise."""
    task = tasks.get(name)
    if task is None or task.type == "regression":
        raise ValueError(
            f"the corpus has no labels '{name}'; it has {', '.join(t.name for t in tasks.values() if t.type != 'regression') or 'none'}"
        )
    if not lexicon:
        of_names(task.classes, "")
    return task.classes


def correlation(places: list[tuple[float, float]]) -> list[list[float]]:
    """Eq. 8: cosine of every two emotions' valence and arousal, each axis first stretched over these emotions to [−1, 1].

    Without stretching, as in the authors' code, all values would lie on one side. An emotion in the middle has cosine 0 with all.
    """
    stretched = []
    axes = list(zip(*places, strict=True))
    for place in places:
        stretched.append(
            [
                2 * (value - min(axis)) / (max(axis) - min(axis)) - 1 if max(axis) > min(axis) else 0.0
                for value, axis in zip(place, axes, strict=True)
            ]
        )
    norms = [(v * v + a * a) ** 0.5 for v, a in stretched]
    return [
        [
            (x[0] * y[0] + x[1] * y[1]) / (norms[i] * norms[j]) if norms[i] > 0 and norms[j] > 0 else 0.0
            for j, y in enumerate(stretched)
        ]
        for i, x in enumerate(stretched)
    ]
