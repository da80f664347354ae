"""Valence and arousal, in [−1, 1], from labels, from text, or from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, SampleRef, Task, Words
from mmcl.media import read_text

from . import LabelsParams, TableParams, WordsParams
from .affect import classes_of, of_names

PENALTIES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Ridge penalties tried; valence and arousal choose each its own, on EmoBank's dev split."""


class Labels:
    """The place of the label's name in the plane of valence and arousal; of several labels the mean, of none nothing."""

    def __init__(self, params: LabelsParams, tasks: Mapping[str, Task]) -> None:
        self.task = tasks[params.task]
        self.places = of_names(classes_of(params.task, params.lexicon, tasks), params.lexicon)
        self.facts: dict[str, str | int | float] = {"of": params.lexicon or "NRC-VAD's published ratings of six emotions"}

    def __call__(self, ref: SampleRef, raw: Raw | None) -> list[float] | None:
        """Valence and arousal, or None for a recording without a label."""
        label: Any = ref.targets.get(self.task.name)
        if label is None:
            return None
        if isinstance(label, int):
            return list(self.places[label])
        present = [place for place, there in zip(self.places, label, strict=True) if there]
        return [float(np.mean(axis)) for axis in zip(*present, strict=True)] if present else None


class TableScores:
    """What a file says of each recording, brought to [−1, 1]."""

    def __init__(self, params: TableParams) -> None:
        path = Path(params.file).expanduser()
        if not params.high > params.low:
            raise DataError(f"scorer va-table: high ({params.high:g}) must be above low ({params.low:g})")
        self.facts: dict[str, str | int | float] = {"of": path.name}
        self._known: dict[str, list[float]] = {}
        for number, row in _rows(path, ("id", "valence", "arousal")):
            values = [_number(row[name], path, number, name) for name in ("valence", "arousal")]
            if not all(params.low <= value <= params.high for value in values):
                raise DataError(
                    f"{path}:{number}: {values} lies outside the scale of {params.low:g} to {params.high:g} (low, high)"
                )
            if row["id"] in self._known:
                raise DataError(f"{path}:{number}: names '{row['id']}' a second time; one row a recording was expected")
            self._known[row["id"]] = [2 * (value - params.low) / (params.high - params.low) - 1 for value in values]
        self.facts["recordings that it names"] = len(self._known)

    def __call__(self, ref: SampleRef, raw: Raw | None) -> list[float] | None:
        """Valence and arousal, or None for a recording that the file does not name."""
        return self._known.get(ref.id)


class TextRegressor:
    """Ridge regression of TF-IDF weights of words (1 to 3) and of letters within them (3 to 6), trained on EmoBank.

    Penalties are chosen on EmoBank's dev split; its test split is read once, for `facts`: "r valence", "r arousal".
    """

    def __init__(self, params: WordsParams) -> None:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge

        path = Path(params.corpus).expanduser()
        texts, values = read_emobank(path)
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 3), min_df=2, token_pattern=r"(?u)\b\w+\b|[!?]")
        letters = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 6), min_df=3)
        try:
            words.fit(texts["train"])
            letters.fit(texts["train"])
        except ValueError as error:
            raise DataError(f"{path}: its training texts are too few to learn from ({error})") from error
        self._features = lambda given: hstack([words.transform(given), letters.transform(given)]).tocsr()
        x = {split: self._features(given) for split, given in texts.items()}
        self._models = []
        self.facts: dict[str, str | int | float] = {"trained on": f"{len(texts['train'])} sentences of {path.name}"}
        for axis, name in enumerate(("valence", "arousal")):
            tried = [Ridge(alpha=penalty).fit(x["train"], values["train"][:, axis]) for penalty in PENALTIES]
            best = max(tried, key=lambda model: correlation(model.predict(x["dev"]), values["dev"][:, axis]))
            self._models.append(best)
            self.facts[f"r {name}"] = round(correlation(best.predict(x["test"]), values["test"][:, axis]), 4)
            self.facts[f"penalty {name}"] = float(best.alpha)

    def __call__(self, ref: SampleRef, raw: Raw | None) -> list[float] | None:
        """Valence and arousal of what is said, within [−1, 1]."""
        assert isinstance(raw, Words)
        text = " ".join(raw.words)
        return self.score([text])[0].tolist() if text.strip() else None

    def score(self, texts: list[str]) -> NDArray[np.float64]:
        """[n, 2]: from EmoBank's 1 to 5 brought to [−1, 1]."""
        features = self._features(texts)
        return np.clip((np.stack([model.predict(features) for model in self._models], 1) - 3) / 2, -1, 1)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's; 0 where either never changes."""
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and np.std(a) > 0 and np.std(b) > 0 else 0.0


def read_emobank(path: Path) -> tuple[dict[str, list[str]], dict[str, NDArray[np.float64]]]:
    """Texts and [n, 2] of valence and arousal (1 to 5) of each split. Raises DataError for a missing or malformed file."""
    texts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    values: dict[str, list[list[float]]] = {"train": [], "dev": [], "test": []}
    for number, row in _rows(path, ("split", "V", "A", "text")):
        if row["split"] not in texts:
            raise DataError(f"{path}:{number}: has the split '{row['split']}'; train, dev or test was expected")
        texts[row["split"]].append(row["text"])
        values[row["split"]].append([_number(row[name], path, number, name) for name in "VA"])
        if not all(1 <= value <= 5 for value in values[row["split"]][-1]):
            raise DataError(f"{path}:{number}: {values[row['split']][-1]} lies outside EmoBank's scale of 1 to 5")
    empty = [split for split, rows in texts.items() if not rows]
    if empty:
        raise DataError(f"{path}: has no row of the split '{empty[0]}'")
    return texts, {split: np.array(rows) for split, rows in values.items()}


def _rows(path: Path, wanted: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    try:
        with io.StringIO(read_text(path), newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: has no column '{missing[0]}'; {', '.join(wanted)} were expected")
            return [
                (reader.line_num, {k: v or "" for k, v in row.items() if isinstance(k, str) and not isinstance(v, list)})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); a CSV with {', '.join(wanted)} was expected"
        ) from error


def _number(text: str, path: Path, number: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{path}:{number}: column '{column}' is '{text}'; a number was expected")
    return value
