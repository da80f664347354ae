"""Writes a tiny made-up EmoBank in the true format: words lean with valence, exclamation with arousal."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from . import COLUMNS
from .sentences import TABLE

WORDS = ("awful", "sad", "plain", "good", "splendid")
"""From low to high valence."""


def write(root: Path, n: int, seed: int) -> None:
    """n sentences of documents of five, six of ten for training; documents stand in several splits, as in the corpus."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for i in range(max(n, 10)):
            rng = np.random.default_rng((seed, i))
            valence, arousal, dominance = rng.uniform(1.5, 4.5, 3).round(2)
            lean = [WORDS[int(np.clip(round(rng.normal(valence - 1, 0.4)), 0, 4))] for _ in range(4)]
            text = " ".join(["It", "was,", *lean]) + ("!" if arousal > 3 else ".")
            split = ("train", "train", "train", "dev", "train", "test", "train", "dev", "train", "test")[i % 10]
            rows.writerow([f"letter{i // 5}_{40 * i}_{40 * i + 39}", split, valence, arousal, dominance, text])
