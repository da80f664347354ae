"""Writes a tiny made-up M3ED in the true format: words and voices lean with the emotion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from . import EMOTIONS

RATE = 16_000
_WORDS = ("高兴太好了", "我们去那里", "难过他走了", "恶心真臭", "你住口生气", "害怕救命", "什么真的吗")
_SHOWS = {"train": ("anjia", "bianjing", "fendou", "jia"), "val": ("huanle", "nihao"), "test": ("qingchun", "zheli")}


def write(root: Path, n: int, seed: int) -> None:
    """About n utterances over eight shows, with what a reader must cope with.

    More than nine utterances in a dialogue, several emotions, one without a word, one without a wav, one that ends before it begins, a show in no
    list, a hidden file.
    """
    import soundfile

    shows = [show for names in _SHOWS.values() for show in names]
    each = max(12, round(n / len(shows)))
    said: dict[str, dict[str, object]] = {}
    for number, show in enumerate([*shows, "nowhere"]):
        rng = np.random.default_rng((seed, number))
        lines: dict[str, object] = {}
        for i in range(each if show != "nowhere" else 2):
            id = f"{show}_1_{i + 1}"
            speaker = "AB"[i % 2]
            main = (i + number) % 7
            several = [main] if i % 3 else [main, (main + 3) % 7]
            start, seconds = 2 * i, 0.8 + 0.4 * rng.random()
            end = start - 1 if (number, i) == (0, 7) else start + seconds
            text = "" if (number, i) == (1, 2) else _WORDS[main]
            lines[id] = {
                "StartTime": _time(start), "EndTime": _time(max(0.0, end)), "Text": text, "Speaker": speaker,
                "EmoAnnotation": {"EmoAnnotator1": EMOTIONS[main].capitalize(), "final_mul_emo": ",".join(EMOTIONS[e].capitalize() for e in several), "final_main_emo": EMOTIONS[main].capitalize()},
            }  # fmt: skip
            if (number, i) != (0, 4):
                t = np.arange(round(seconds * RATE)) / RATE
                wave = (0.1 + 0.05 * main) * np.sin(2 * np.pi * (120 + 30 * main) * t) + rng.normal(0, 0.003, len(t))
                path = root / "audio" / show / f"{speaker}_{id}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, wave.clip(-1, 1), RATE)
        people = {name: {"Name": name, "Age": "Young", "Gender": "Female", "OtherName": []} for name in "AB"}
        said[show] = {f"{show}_1": {"SpeakerInfo": people, "Dialog": lines}}
    (root / "annotation.json").write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
    (root / "audio" / "._A_anjia_1_1.wav").write_bytes(b"\x00")
    (root / "splitInfo").mkdir(exist_ok=True)
    for split, names in _SHOWS.items():
        (root / "splitInfo" / f"movie_list_{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _time(seconds: float) -> str:
    frames = round(seconds * 25)
    return f"00:{frames // 1500:02d}:{frames // 25 % 60:02d}:{frames % 25:02d}"
