"""Values of a text, such as valence and arousal, by ridge regression on what a frozen text model makes of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmcl.api import DataError, Raw, SampleRef, Words
from mmcl.media import read_text

from . import HfRegressorParams
from .features import load, tokenizer_of

PENALTIES = (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
"""Ridge penalties tried; each value chooses its own, on the corpus's dev split."""

BATCH = 32
"""Texts of about one length that are read together while the scorer is trained."""

CLIP = 6.0
"""Largest standardised feature, either side of 0."""


class Regressor:
    """Ridge regression of the mean of every hidden layer over a text's tokens, standardised on training texts.

    Penalties are chosen on the corpus's dev split; its test split is read once, for `facts`: "r valence", …
    """

    def __init__(self, params: HfRegressorParams) -> None:
        self.params = params
        self._model: Any = load(params.model, "hf-regressor").requires_grad_(False)
        self._tokenizer: Any = tokenizer_of(params.model)
        path = Path(params.corpus).expanduser()
        texts, values = read_corpus(path, params)
        x = {split: self._hidden(given) for split, given in texts.items()}
        self._mean, deviation = x["train"].mean(0), x["train"].std(0)
        self._deviation = np.maximum(deviation, 0.05 * float(np.median(deviation)) + 1e-12)
        x = {split: self._standardised(given) for split, given in x.items()}
        tried = ridges(x["train"], values["train"])
        self.facts: dict[str, str | int | float] = {"trained on": f"{len(texts['train'])} texts of {path.name}"}
        self._weights: list[tuple[NDArray[np.float64], float]] = []
        for axis, name in enumerate(params.names):

            def near(penalty: float, split: str, axis: int = axis) -> float:
                weight, bias = tried[penalty]
                return correlation(x[split] @ weight[:, axis] + bias[axis], values[split][:, axis])

            best = max(PENALTIES, key=lambda penalty: near(penalty, "dev"))
            self._weights.append((tried[best][0][:, axis], float(tried[best][1][axis])))
            self.facts[f"r {name}"] = round(near(best, "test"), 4)
            self.facts[f"penalty {name}"] = best

    def __call__(self, ref: SampleRef, raw: Raw | None) -> list[float] | None:
        """The values of what is said, the corpus's scale brought to [−1, 1]; None where nothing is said."""
        assert isinstance(raw, Words)
        text = " ".join(raw.words)
        if not text.strip():
            return None
        x = self._standardised(self._hidden([text]))
        predicted = np.array([float(x[0] @ weight) + bias for weight, bias in self._weights])
        low, high = self.params.low, self.params.high
        scaled: list[float] = np.clip(2 * (predicted - low) / (high - low) - 1, -1, 1).tolist()
        return scaled

    def _standardised(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip((x - self._mean) / self._deviation, -CLIP, CLIP)

    def _hidden(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[n, layers · width]: the mean of each hidden layer over each text's tokens, special ones included."""
        rows: list[NDArray[np.float64]] = [np.zeros(0)] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            words = [texts[i].split() for i in chosen]
            given = self._tokenizer(
                words,
                is_split_into_words=True,
                truncation=True,
                max_length=self.params.longest,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                names = ("input_ids", "attention_mask")
                hidden = self._model(**{name: given[name] for name in names}, output_hidden_states=True).hidden_states
            real = given["attention_mask"][..., None].float()
            means = torch.cat([(layer * real).sum(1) / real.sum(1) for layer in hidden], 1)
            for i, mean in zip(chosen, means.double().numpy(), strict=True):
                rows[i] = mean
        return np.stack(rows)


def ridges(x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Weights [D, values] and bias [values] of least squares with each of PENALTIES on ‖W‖², which all share one Gram matrix."""
    from scipy.linalg import solve

    centre, middle = x.mean(0), y.mean(0)
    gram, product = (x - centre).T @ (x - centre), (x - centre).T @ (y - middle)
    fitted = {}
    for penalty in PENALTIES:
        weight = solve(gram + penalty * np.eye(len(gram)), product, assume_a="pos")
        fitted[penalty] = weight, middle - centre @ weight
    return fitted


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's; 0 where either never changes."""
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and np.std(a) > 0 and np.std(b) > 0 else 0.0


def read_corpus(path: Path, params: HfRegressorParams) -> tuple[dict[str, list[str]], dict[str, NDArray[np.float64]]]:
    """Texts and values [n, columns] of each split; rows without a word are passed over.

    Raises DataError for a missing or malformed file, another split than train, dev and test, and a split without a row.
    """
    texts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    values: dict[str, list[list[float]]] = {"train": [], "dev": [], "test": []}
    wanted = ("split", "text", *params.columns)
    try:
        with io.StringIO(read_text(path), newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: has no column '{missing[0]}'; {', '.join(wanted)} were expected")
            for row in reader:
                split, text = row["split"] or "", row["text"] or ""
                if split not in texts:
                    raise DataError(f"{path}:{reader.line_num}: has the split '{split}'; train, dev or test was expected")
                if text.strip():
                    texts[split].append(text)
                    values[split].append([_number(row[name] or "", path, reader.line_num, name) for name in params.columns])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); a CSV with {', '.join(wanted)} was expected") from error
    empty = [split for split, rows in texts.items() if not rows]
    if empty:
        raise DataError(f"{path}: has no row of the split '{empty[0]}'")
    return texts, {split: np.array(rows) for split, rows in values.items()}


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{path}:{line}: column '{column}' is '{text}'; a number was expected")
    return value
