"""Writes a tiny made-up M3ED in the true format: words, voices and pictures lean with the emotion.

Films are mp4 files where PyAV is installed; elsewhere each is a folder of pictures.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mmcl.media import lit_wall, write_audio, write_film

from . import EMOTIONS

RATE = 16_000
FPS = 25
_WORDS = ("高兴太好了", "我们去那里", "难过他走了", "恶心真臭", "你住口生气", "害怕救命", "什么真的吗")
_SHOWS = {"train": ("anjia", "bianjing", "fendou", "jia"), "val": ("huanle", "nihao"), "test": ("qingchun", "zheli")}


def write(root: Path, n: int, seed: int) -> None:
    """About n utterances over eight shows (96 at least), with what a reader must cope with.

    More than nine utterances in a dialogue, several emotions, a strongest emotion that is not among them, one without a word, Latin letters
    and digits, one without a wav, one that ends before it begins, a time that cannot be, a dialogue without a film, a show in no list, a
    listed show that nobody annotated, a hidden file.
    """
    shows = [show for names in _SHOWS.values() for show in names]
    each = max(12, round(n / len(shows)))
    annotation: dict[str, dict[str, object]] = {}
    relations: dict[str, dict[str, object]] = {}
    for number, show in enumerate([*shows, "nowhere"]):
        rng = np.random.default_rng((seed, number))
        lines: dict[str, object] = {}
        shown: list[tuple[int, int, int]] = []  # first frame, frame after the last, emotion
        clock = 1
        for i in range(each if show != "nowhere" else 2):
            id = f"{show}_1_{i + 1}"
            speaker = "AB"[i % 2]
            main = (i + number) % 7
            several = [main] if i % 3 else [main, (main + 3) % 7]
            if (number, i) == (2, 4):
                several = [(main + 1) % 7]
            first, after = clock, clock + int(rng.integers(10, 18))
            clock = after + 2
            text = "" if (number, i) == (1, 2) else "OK，给我300块" if (number, i) == (2, 1) else _WORDS[main]
            end = f"00:00:{after // FPS:02d}:142" if (number, i) == (3, 5) else _time(0 if (number, i) == (0, 7) else after)
            emotions = [EMOTIONS[e].capitalize() for e in several]
            lines[id] = {
                "StartTime": _time(first),
                "EndTime": end,
                "Text": text,
                "Speaker": speaker,
                "EmoAnnotation": {
                    **{f"EmoAnnotator{k}": EMOTIONS[main].capitalize() for k in (1, 2, 3)},
                    "final_mul_emo": ",".join(emotions),
                    "final_main_emo": EMOTIONS[main].capitalize(),
                },
            }
            shown.append((first, after, main))
            if (number, i) != (0, 4):
                t = np.arange((after - first) * RATE // FPS) / RATE
                wave = (0.1 + 0.05 * main) * np.sin(2 * np.pi * (120 + 30 * main) * t) + rng.normal(0, 0.003, len(t))
                write_audio(root / "audio" / f"{speaker}_{id}.wav", wave, RATE)
        people = {
            name: {"Name": name, "Age": age, "Gender": gender, "OtherName": []}
            for name, age, gender in (("A", "mid", "female"), ("B", "young", "male"))
        }
        annotation[show] = {
            f"{show}_1": {"SpeakerInfo": people, "Dialog": dict(sorted(lines.items()))}
        }  # as strings: _10 before _2
        relations[show] = {f"{show}_1": {"episode": number + 2, "start_time": "00:23:48:04", "end_time": "00:24:15:08"}}
        if show not in ("nihao", "nowhere"):
            # A wall that is bright while somebody speaks, by the emotion, and dark in between.
            lit = [(first, after, slice(None), 110 + 15 * emotion) for first, after, emotion in shown]
            write_film(root / show / f"{show}_1.mp4", lit_wall(clock, 24, 32, lit), FPS)
    for name, content in (("annotation.json", annotation), ("relation_annotation_release.json", relations)):
        (root / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    (root / "audio" / "._A_anjia_1_1.wav").write_bytes(b"\x00")
    (root / "splitInfo").mkdir(exist_ok=True)
    for split, names in _SHOWS.items():
        listed = [*names, "zuozhe"] if split == "test" else names
        (root / "splitInfo" / f"movie_list_{split}.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")


def _time(frames: int) -> str:
    return f"00:{frames // 1500:02d}:{frames // FPS % 60:02d}:{frames % FPS:02d}"
