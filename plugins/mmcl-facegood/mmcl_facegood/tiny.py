"""Writes a tiny made-up FACEGOOD in the true format: a buzzing voice, and a mouth that opens with its loudness and rounds with its colour."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import BLENDSHAPES, MOVING, VOICE_RATE

TAKES = ("2_01", "2_02", "2_03")


def write(root: Path, n: int, seed: int) -> None:
    """About n pieces of a second in three takes; the face is recorded at 29.99 frames a second, as it truly was."""
    root.mkdir(parents=True, exist_ok=True)
    seconds = max(2, -(-n // len(TAKES))) + 0.4
    rows, voices, faces = [], [], []
    for number, take in enumerate(TAKES):
        voice, face = _take(seconds, np.random.default_rng((seed, number)))
        voices.append(voice)
        faces.append(face)
        rows.append((number, take, seconds, round(seconds * 50), len(face), 29.99, len(MOVING)))
    with (root / "takes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("row", "id", "duration_s", "n_mel", "n_face", "face_fps", "active"), *rows])
    _save(root / "voice_pcm16k.npz", voices)
    _save(root / "face_blendshapes.npz", faces, names=BLENDSHAPES)


def _save(path: Path, arrays: Sequence[NDArray[Any]], names: Sequence[str] = ()) -> None:
    offsets = np.cumsum([0, *(len(array) for array in arrays)])
    named = {"names": np.array(names)} if names else {}
    np.savez_compressed(path, allow_pickle=False, x=np.concatenate(arrays), offsets=offsets, ids=np.array(TAKES), **named)


def _take(seconds: float, rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.float16]]:
    """Voice and face of one take: syllables of different loudness and vowel."""
    knots = np.arange(0, seconds + 1, 0.2)
    loud = np.where(rng.random(len(knots)) < 0.3, 0.0, rng.uniform(0.3, 1.0, len(knots)))
    round_lips = rng.random(len(knots))
    t = np.arange(round(seconds * VOICE_RATE)) / VOICE_RATE
    level, vowel = np.interp(t, knots, loud), np.interp(t, knots, round_lips)
    phase = 2 * np.pi * np.cumsum(120 * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * t))) / VOICE_RATE
    harmonics = sum(np.sin(k * phase) * np.exp(-k * (0.08 + 0.4 * vowel)) for k in range(1, 20))
    voice = 0.15 * level * harmonics + rng.normal(0, 0.001, len(t))
    at = np.arange(round(seconds * 29.99)) / 29.99
    openness, rounding = np.interp(at, knots, loud), np.interp(at, knots, round_lips)
    face = np.zeros((len(at), len(BLENDSHAPES)))
    for name in MOVING:
        if "funnel" in name or "pucker" in name or "_oo_" in name:
            course = 0.5 * rounding * openness
        elif "stretch" in name or "Depress" in name or "_oh_" in name:
            course = 0.6 * openness
        else:
            course = 0.3 * openness * (1 - rounding)
        face[:, BLENDSHAPES.index(name)] = np.clip(course + rng.normal(0, 0.01, len(at)), 0, 1)
    return np.asarray(np.clip(voice, -1, 1) * 32767, np.int16), face.astype(np.float16)
