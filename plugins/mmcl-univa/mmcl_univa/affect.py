"""Valence and arousal of emotions by name, in [−1, 1]. Imports no torch: `mmcl check` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmcl.api import DataError, Task
from mmcl.media import is_number, read_text

OWN: Mapping[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "calm": (0.4, -0.6),
    "happy": (0.8, 0.4),
    "joy": (0.8, 0.5),
    "excited": (0.7, 0.8),
    "sad": (-0.7, -0.4),
    "sadness": (-0.7, -0.4),
    "anger": (-0.7, 0.7),
    "angry": (-0.7, 0.7),
    "frustrated": (-0.6, 0.4),
    "frustration": (-0.6, 0.4),
    "surprise": (0.3, 0.8),
    "surprised": (0.3, 0.8),
    "disgust": (-0.7, 0.3),
    "disgusted": (-0.7, 0.3),
    "fear": (-0.7, 0.6),
    "fearful": (-0.7, 0.6),
    "positive": (0.7, 0.2),
    "negative": (-0.7, 0.2),
}
"""Our own table, chosen by us after the usual picture of the circumplex (Russell 1980); no value is measured."""


def read_lexicon(path: Path) -> dict[str, tuple[float, float]]:
    """Word → (valence, arousal) in [−1, 1] of an NRC-VAD file, whose values go from 0 to 1 (a newer one's, from −1 to 1).

    Raises DataError if the file is missing or a line is malformed.
    """
    try:
        lines = read_text(path).split("\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); the NRC-VAD lexicon was expected, https://saifmohammad.com/WebPages/nrc-vad.html"
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
    """Valence and arousal of each name. Raises DataError if the lexicon lacks one, ValueError if our own table does."""
    if lexicon:
        path = Path(lexicon).expanduser()
        known = read_lexicon(path)
        missing = [name for name in names if name.lower() not in known and name.lower() != "neutral"]
        if missing:
            raise DataError(f"{path}: has no word '{missing[0]}'")
        return [known.get(name.lower(), (0.0, 0.0)) for name in names]  # the authors set neutral by hand, in the middle
    missing = [name for name in names if name.lower() not in OWN]
    if missing:
        raise ValueError(
            f"our own table has no valence and arousal of '{missing[0]}'; give the NRC-VAD lexicon (lexicon:). It has {', '.join(OWN)}"
        )
    return [OWN[name.lower()] for name in names]


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
