"""What one clip is about, and how its expression and its speech go over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """What one clip is about; rendering adds what the camera and the microphone add."""

    number: int
    speaker: int
    sentence: int
    emotion: int
    label: int
    cues: NDArray[np.float64]  # [6], as corpus.CUES
    seconds: float
    missing: tuple[str, ...]


def syllables(clip: Clip, times: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """How open the mouth is while speaking, in [0, 1], at some times: one bump a word."""
    middle, width = times.mean(1), np.maximum(times[:, 1] - times[:, 0], 0.05) / 3
    return np.exp(-(((at[:, None] - middle) / width) ** 2)).sum(1).clip(0, 1)


def course(clip: Clip, at: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """How far the expression has come at some times: rises to its apex and falls a little, in [0.3, 1]."""
    apex = clip.seconds * rng.uniform(0.35, 0.65)
    return 0.3 + 0.7 * np.exp(-(((at - apex) / (0.45 * clip.seconds)) ** 2))
