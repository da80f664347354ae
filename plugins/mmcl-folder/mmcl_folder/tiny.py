"""Writes a tiny folder of recordings, made up, with one source of every sort."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from mmcl.api import Audio
from mmcl.media import nodding_oval, write_audio, write_film

RATE = 8000
MOODS = {"calm": (220.0, "all is well here today"), "tense": (330.0, "come here at once please")}


def write(root: Path, n: int, seed: int) -> None:
    """About n recordings of two moods by up to six speakers, four of them in training; the last lacks its film."""
    draw = np.random.default_rng(seed)
    rows = []
    count = max(n, 6)
    for i in range(count):
        mood = tuple(MOODS)[i // 3 % 2]
        pitch, words = MOODS[mood]
        speaker, name = i % 6, f"r{i:03d}"
        t = np.arange(RATE) / RATE
        wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + 0.05 * speaker) * t) + draw.normal(0, 0.01, RATE)
        write_audio(root / f"sound/{name}.wav", wave, RATE)
        film = f"film/{name}.mp4" if i < count - 1 else ""
        if film:
            frames = nodding_oval(20, 20, 14 + 4 * (mood == "tense"), 1 + (mood == "tense"), 32, (200, 150, 130), (90, 90, 95))
            if not write_film(root / film, frames, 20, Audio(wave.astype(np.float32), RATE)):
                film = ""  # without PyAV: pictures in a folder, whose rate a recipe would have to say
        _write_table(root / f"hand/{name}.csv", pitch / 100 + draw.normal(0, 0.1, (25, 3)))
        rows.append(
            {
                "id": name,
                "speaker": f"s{speaker}",
                "split": ("train", "train", "train", "train", "valid", "test")[speaker],
                "mood": mood,
                "tags": ("slow;low", "fast;high", "slow;high")[i % 3],
                "valence": f"{draw.uniform(-1, 1):.3f}",
                "sound": f"sound/{name}.wav",
                "film": film,
                "hand": f"hand/{name}.csv",
                "text": words,
            }
        )
    with (root / "recordings.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, fieldnames=list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def _write_table(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{i / 25:.2f},{','.join(f'{v:.4f}' for v in row)}" for i, row in enumerate(values)]
    path.write_text("\n".join(["timestamp,x,y,z", *lines]) + "\n", encoding="utf-8")
