"""Writes a tiny made-up RAVDESS in the true format: voices are buzzing tones, faces are numbers that lean with the emotion.

Films are mp4 files where PyAV is installed, folders of pictures elsewhere.
"""

from __future__ import annotations

import csv
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Audio
from mmcl.media import nodding_oval, write_audio, write_film

from . import AVERAGED_COLUMNS, EMOTIONS, FRAME_COLUMNS, FRAME_RATE

RATE = 48000
# How each emotion sounds, in the order of EMOTIONS: (pitch in semitones above the actor's own, loudness in [0, 1]).
_VOICES = ((0, 0.15), (-1, 0.12), (5, 0.35), (-3, 0.10), (7, 0.55), (8, 0.30), (1, 0.22), (10, 0.40))


def write(root: Path, n: int, seed: int, whole: bool = False) -> None:
    """About n takes of at least six actors (as far as n goes), with what a reader must cope with.

    One stereo wav, one of 22.05 kHz, one of 0.4 s, one song, one file of modality 02, every eighth take without a CSV, blanks
    in the CSVs' headers, and files that are no recordings. The song's CSV has a row per frame, three of them failed. Films of
    2 s: the first take has one of 01, the second one of 02, the third both, and one more take has nothing else.

    whole  every take has a film of 01, and its CSV has a row per frame, for recipes that read both
    """
    n = max(1, min(n, 24 * 60))
    actors = min(n, 24, max(6, n // 16))
    for i in range(n):
        actor, k = i % actors + 1, i // actors
        name = f"01-{_takes(actor)[k]}-{actor:02d}"
        rng = np.random.default_rng((seed, i))
        emotion = int(name[3:5]) - 1
        wave = _voice(emotion, actor, 0.4 if i == 3 else 1.0 + 0.2 * rng.random(), rng)
        folder = root / f"Actor_{actor:02d}"
        if i == 1:
            write_audio(folder / f"03-{name}.wav", np.stack([wave, 0.5 * wave], axis=1), RATE)
        elif i == 2:
            write_audio(folder / f"03-{name}.wav", _voice(emotion, actor, 1.0, rng, 22050), 22050)
        else:
            write_audio(folder / f"03-{name}.wav", wave, RATE)
        if whole:
            _write_frames(root / "OpenFace" / f"01-{name}.csv", rng)
            _write_film(folder / f"01-{name}", emotion, actor, wave)
        elif i % 8 != 5:
            _write_csv(root / "OpenFace" / f"01-{name}.csv", _face(emotion, rng))
        for modality in ("01", "02")[i == 1 : 1 + (i > 0)] if i < 3 and not whole else ():
            _write_film(folder / f"{modality}-{name}", emotion, actor, wave if modality == "01" else None)
    if (k := -(-n // actors)) < len(_takes(1)):  # the first actor's next take
        name = f"01-{_takes(1)[k]}-01"
        emotion, rng = int(name[3:5]) - 1, np.random.default_rng((seed, n, 1))
        _write_film(root / "Actor_01" / f"01-{name}", emotion, 1, _voice(emotion, 1, 1.0, rng))
    rng = np.random.default_rng((seed, n))
    write_audio(root / "Actor_01" / "03-02-03-01-01-01-01.wav", _voice(2, 1, 1.0, rng), RATE)
    _write_frames(root / "OpenFace" / "01-02-03-01-01-01-01.csv", np.random.default_rng((seed, n, 2)))
    write_audio(root / "Actor_01" / "02-01-03-01-01-01-01.wav", np.zeros(RATE // 10), RATE)
    (root / "Actor_01" / "._03-01-01-01-01-01-01.wav").write_bytes(b"\x00\x05\x16\x07")
    (root / "README.txt").write_text("Made-up data in the format of RAVDESS, written by mmcl. Nobody was recorded.\n")


def _takes(actor: int) -> list[str]:
    """EE-II-SS-RR of an actor's 60 takes of speech; emotions follow each other, beginning elsewhere for each actor."""
    order = [(e + 3 * actor) % len(EMOTIONS) for e in range(len(EMOTIONS))]
    return [
        f"{emotion + 1:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}"
        for intensity, repetition, statement in itertools.product((1, 2), (1, 2), (1, 2))
        for emotion in order
        if not (emotion == 0 and intensity == 2)  # nobody is strongly neutral
    ]


def _voice(emotion: int, actor: int, seconds: float, rng: np.random.Generator, rate: int = RATE) -> NDArray[np.float64]:
    """A buzz of ten harmonics between two silences; its pitch and loudness lean with the emotion."""
    semitones, loudness = _VOICES[emotion]
    own = (110 if actor % 2 else 200) * 2 ** ((actor % 5 - 2) / 24)
    pitch = own * 2 ** ((semitones + rng.normal(0, 1.5)) / 12)
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * (pitch * t - 0.02 * pitch / 5 * np.cos(2 * np.pi * 5 * t) / (2 * np.pi))
    buzz = sum(np.sin(k * phase) / k for k in range(1, 11))
    envelope = np.clip(np.minimum(t, seconds - t) / (0.15 * seconds) - 0.5, 0, 1) * (0.7 + 0.3 * np.sin(2 * np.pi * 3 * t))
    wave = 0.5 * loudness * rng.uniform(0.7, 1.3) * envelope * buzz
    return np.clip(wave + rng.normal(0, 0.003, len(t)), -1, 1)


def _face(emotion: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """35 action units whose means lean with the emotion, within OpenFace's ranges."""
    habit = np.random.default_rng(emotion).normal(0, 0.6, len(AVERAGED_COLUMNS))  # an emotion keeps its face, whatever the seed
    values = 0.8 + habit + rng.normal(0, 0.5, len(AVERAGED_COLUMNS))
    intensity = np.array([name.endswith("_r") for name in AVERAGED_COLUMNS])
    return np.where(intensity, np.clip(values, 0, 5), np.clip(values / 2, 0, 1))


def _write_csv(path: Path, values: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["frame", *(f" {name}" for name in ("timestamp", "confidence", "success", *AVERAGED_COLUMNS))])
        out.writerow([1, "0.000", "0.98", 1, *(f"{v:.4f}" for v in values)])


def _write_frames(path: Path, rng: np.random.Generator) -> None:
    """A CSV as OpenFace 2.1 writes it of 90 frames: numbers in the ranges of its columns, zeros where the face was lost."""
    n, lost = 90, range(40, 43)
    column = {name: rng.normal(0, 0.2, n) for name in FRAME_COLUMNS}
    x, y = 300 * rng.random(68), 300 * rng.random(68)
    column |= {f"x_{i}": 490 + x[i] + rng.normal(0, 1, n) for i in range(68)}
    column |= {f"y_{i}": 210 + y[i] + rng.normal(0, 1, n) for i in range(68)}
    column |= {name: np.clip(rng.normal(0.8, 0.6, n), 0, 5) for name in AVERAGED_COLUMNS if name.endswith("_r")}
    column |= {name: (rng.random(n) < 0.3).astype(float) for name in AVERAGED_COLUMNS if name.endswith("_c")}
    column |= {"confidence": np.full(n, 0.98), "success": np.ones(n)}
    values = np.stack([column[name] for name in FRAME_COLUMNS], axis=1)
    values[lost] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["frame", *(f" {name}" for name in ("face_id", "timestamp", *FRAME_COLUMNS))])
        for i, row in enumerate(values):
            out.writerow([i + 1, 0, f"{i / FRAME_RATE:.3f}", *(f"{v:.3f}" for v in row)])


def _write_film(path: Path, emotion: int, actor: int, wave: NDArray[np.float64] | None) -> None:
    """2 s as an mp4, with sound if there is a wave; without PyAV a folder of pictures, which has none.

    How high the face stands, and how fast it nods, lean with the emotion.
    """
    skin, wall = (200, 150 + 2 * actor, 130), (90, 90, 95)
    film = nodding_oval(round(2 * FRAME_RATE), FRAME_RATE, 12 + 1.5 * emotion, 0.5 + 0.2 * emotion, 32, skin, wall)
    sound = None if wave is None else Audio(wave.astype(np.float32), RATE)
    write_film(path.with_suffix(".mp4"), film, Fraction(30000, 1001), sound)
