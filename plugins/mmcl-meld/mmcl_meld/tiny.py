"""Writes a tiny made-up MELD in the true format: words, voices and faces lean with the emotion.

Clips are mp4 files where PyAV is installed; elsewhere each is a wav and a folder of pictures.
"""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.api import Audio
from mmcl.media import nodding_oval, write_audio, write_film

from . import EMOTIONS
from .utterances import COLUMNS, FOLDERS

SPEAKERS = ("Ana", "Ben", "Cleo", "Dov", "The Waiter")
RATE = 48000
FPS = Fraction(24000, 1001)

# In the order of EMOTIONS: words that lean with it, sentiment, pitch in semitones, loudness in [0, 1].
_WAYS = (
    ("table tomorrow the paper is there", "neutral", 0, 0.2),
    ("sorry gone I miss him alone", "negative", -4, 0.1),
    ("stop it out now you never", "negative", 6, 0.6),
    ("great love it happy yes wow", "positive", 4, 0.4),
    ("what really oh my God how", "positive", 9, 0.5),
    ("help no dark please run careful", "negative", 8, 0.3),
    ("ew gross smell yuck that thing", "negative", -1, 0.25),
)


def write(root: Path, n: int, seed: int) -> None:
    """About n utterances, six of ten for training (12, 4 and 4 of 20), with what a reader must cope with.

    Lines that end in CR and LF, curly quotes, commas in what is said, a gap in the ids of utterances, a number of rows given
    twice, the same dialogue ids in every split, a time of two digits after the comma, a row without length, a clip that is
    missing, one known to be broken, one that no row speaks of, and files that are no clips.
    """
    rows = {"train": max(8, round(0.6 * n)), "dev": max(4, round(0.2 * n)), "test": max(4, round(0.2 * n))}
    for which, (split, count) in enumerate(rows.items()):
        lines = []
        for i in range(count):
            rng = np.random.default_rng((seed, which, i))
            dialogue, number = i // 4, i % 4 + (i % 4 > 1)  # 0, 1, 3, 4
            if split == "train" and i == count - 1:
                dialogue, number = 125, 3
            emotion = (i + 2 * which) % len(EMOTIONS)
            seconds = 0.6 + 0.6 * rng.random()
            without_length = split == "test" and i == count - 1
            start = 600 + 4 * i + 0.044
            end = start if without_length else start + seconds
            lines.append(
                [
                    max(1, i),  # 1, 1, 2, 3, …
                    _sentence(emotion, rng),
                    SPEAKERS[int(rng.integers(len(SPEAKERS)))],
                    EMOTIONS[emotion],
                    _WAYS[emotion][1],
                    dialogue,
                    number,
                    which + 1,
                    i // 4 + 1,
                    _clock(start, short=i == 1),
                    _clock(end),
                ]
            )
            stem = root / FOLDERS[split] / f"dia{dialogue}_utt{number}"
            stem.parent.mkdir(parents=True, exist_ok=True)
            if dialogue == 125:
                stem.with_suffix(".mp4").write_bytes(b"no film")
            elif not (split == "dev" and i == count - 1):
                _write_clip(stem, emotion, seconds, rng)
        with (root / f"{split}_sent_emo.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(("Sr No.", *COLUMNS))
            out.writerows(lines)
    (root / FOLDERS["dev"] / "dia66_utt9.mp4").write_bytes(b"no row speaks of it")
    (root / FOLDERS["test"] / "._dia0_utt0.mp4").write_bytes(b"\x00\x05\x16\x07")
    (root / FOLDERS["test"] / "final_videos_testdia0_utt0.mp4").write_bytes(b"the same clip once more")
    (root / "README.txt").write_text("Made-up data in the format of MELD, written by mmcl. Nobody was recorded.\n")


def _sentence(emotion: int, rng: np.random.Generator) -> str:
    """Words that lean with the emotion, a comma and a curly quote among them."""
    words = _WAYS[emotion][0].split()
    picked = [words[int(rng.integers(len(words)))] for _ in range(3)]
    return f"Well, {' '.join(picked)}, that’s how it is."


def _clock(seconds: float, short: bool = False) -> str:
    """Hours, minutes, seconds and thousandths, as subtitles write them; short: without the zeros after the comma."""
    thousandths = round(1000 * seconds)
    rest = f"{thousandths % 1000}" if short else f"{thousandths % 1000:03d}"
    return f"{thousandths // 3_600_000:02d}:{thousandths // 60_000 % 60:02d}:{thousandths // 1000 % 60:02d},{rest}"


def _write_clip(stem: Path, emotion: int, seconds: float, rng: np.random.Generator) -> None:
    """Sound and picture of one utterance: an mp4, or without PyAV a wav and a folder of pictures."""
    wave = _voice(emotion, seconds, rng)
    # How high the face stands, and how fast it nods, lean with the emotion.
    place, frames = rng.integers(20, 44), max(2, round(seconds * float(FPS)))
    film = nodding_oval(frames, float(FPS), 12 + 2 * emotion, 1 + 0.3 * emotion, place, skin=(210, 160, 140), wall=(60, 70, 90))
    if not write_film(stem.with_suffix(".mp4"), film, FPS, Audio(wave.astype(np.float32), RATE)):
        write_audio(stem.with_suffix(".wav"), wave, RATE)


def _voice(emotion: int, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A buzz of eight harmonics whose pitch and loudness lean with the emotion, and some noise."""
    _, _, semitones, loudness = _WAYS[emotion]
    pitch = 160 * 2 ** ((semitones + rng.normal(0, 1)) / 12)
    t = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 9))
    wave = 0.4 * loudness * rng.uniform(0.8, 1.2) * np.clip(np.minimum(t, seconds - t) / 0.05, 0, 1) * buzz
    return np.asarray(np.clip(wave + rng.normal(0, 0.003, len(t)), -1, 1))
