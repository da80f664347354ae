"""Writes a tiny made-up IEMOCAP in the true format: words, voices and faces lean with the emotion.

Films are avi files where PyAV is installed; elsewhere each is a folder of pictures.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmcl.media import lit_wall, write_audio, write_film

RATE = 16_000
FPS = Fraction(30000, 1001)
_WAYS = {
    "neu": ("the paper is on the table", 0.10, 150, (3.0, 2.5, 3.0)),
    "hap": ("great that is wonderful", 0.30, 230, (4.5, 3.6, 3.2)),
    "exc": ("wow yes we won it", 0.40, 260, (4.6, 4.2, 3.6)),
    "sad": ("she is gone and I miss her", 0.08, 120, (1.8, 2.0, 2.2)),
    "ang": ("stop it now I told you", 0.50, 200, (1.7, 4.2, 4.3)),
    "fru": ("not again this never works", 0.35, 180, (2.0, 3.5, 3.4)),
    "xxx": ("well I do not know", 0.15, 160, (2.8, 2.9, 2.9)),
    "oth": ("hm so so", 0.12, 150, (3.1, 2.8, 2.7)),
}
_BESIDE = ("fea", "sur", "dis")


def write(root: Path, n: int, seed: int) -> None:
    """About n turns (80 at least), two dialogues a session, one for each actor who wears markers, with what a reader must cope with.

    Annotators' lines below each turn, turns on which nobody agreed, emotions outside every task, a turn of nobody (XX) and a line without a
    name in the transcriptions, hidden copies of files, a letter that is not UTF-8, turns that overlap, one without length, one without a wav,
    one without words, a dialogue without a film, and forced alignments of every third turn, with silences, noises and variants.
    """
    each = max(8, round(n / 10))
    for session in range(1, 6):
        base = root / f"Session{session}"
        for which, dialogue in enumerate((f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1{'b' * (session == 5)}")):
            rng = np.random.default_rng((seed, session, which))
            lines, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            shown: list[tuple[float, float, str, str]] = []  # start, end, speaker, code
            clock = 0.5
            for i in range(each):
                code = list(_WAYS)[(i + 3 * which + session) % len(_WAYS)]
                text, loud, pitch, vad = _WAYS[code]
                if (session, which) == (4, 1) and i < len(_BESIDE):
                    code = _BESIDE[i]
                speaker = "FM"[i % 2]
                turn = f"{dialogue}_{speaker}{i:03d}"
                length = 0.4 + 0.3 * rng.random()
                start = clock - (0.3 if i == 3 else 0)
                clock = start + length + 0.1
                shown.append((start, start + length, speaker, code))
                values = ", ".join(f"{v + rng.normal(0, 0.2):.4f}" for v in vad)
                lines += _evaluated(turn, start, start + length, code, values)
                if i != 5 or session != 1:
                    texts.append(f"{turn} [{start:08.4f}-{start + length:08.4f}]: {text.capitalize()}.")
                if i != 4 or session != 2:
                    t = np.arange(round(length * RATE)) / RATE
                    wave = loud * np.sin(2 * np.pi * pitch * (1.3 if speaker == "F" else 1) * t) + rng.normal(0, 0.003, len(t))
                    write_audio(base / "sentences" / "wav" / dialogue / f"{turn}.wav", wave, RATE)
                if i % 3 == 0:
                    _align(base / "sentences" / "ForcedAlignment" / dialogue / f"{turn}.wdseg", text.split(), length)
            if (session, which) == (3, 0):
                lines += _evaluated(f"{dialogue}_F{each:03d}", clock, clock, "neu", "3.0000, 3.0000, 3.0000")
            texts += [f"{dialogue}_XX000 [{clock:08.4f}-{clock + 1:08.4f}]: Hm.", "M: (breathing)", ""]
            for folder, rows in (("EmoEvaluation", lines), ("transcriptions", texts)):
                path = base / "dialog" / folder / f"{dialogue}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(rows) + "\n", encoding="utf-8")
            if (session, which) != (2, 1):
                write_film(base / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", _film(dialogue, shown, clock + 0.2), FPS)
        with (base / "dialog" / "transcriptions" / f"Ses0{session}F_impro01.txt").open("ab") as file:
            file.write(b"M: caf\xe9\n")
        (base / "dialog" / "EmoEvaluation" / f"._Ses0{session}F_impro01.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav").write_bytes(b"\x00\x05\x16\x07")


def _evaluated(turn: str, start: float, end: float, code: str, values: str) -> list[str]:
    """A turn's lines of an evaluation file: the summary, then what each annotator said."""
    return [
        f"[{start:.4f} - {end:.4f}]\t{turn}\t{code}\t[{values}]",
        f"C-E2:\t{code};\t()",
        "A-E3:\tval 3; act 2; dom  2;\t()",
        "",
    ]


def _align(path: Path, words: list[str], seconds: float) -> None:
    """A forced alignment: a heading, silence, words with a variant's number, a noise, silence, a total."""
    path.parent.mkdir(parents=True, exist_ok=True)
    step = int(100 * seconds / (len(words) + 3))
    names = ["<s>", *(f"{word.upper()}{'(2)' if i == 1 else ''}" for i, word in enumerate(words)), "++BREATHING++", "</s>"]
    rows = ["\t SFrm  EFrm    SegAScr Word"]
    rows += [f"\t{step * i:5d} {step * (i + 1) - 1:5d} {-1000 * (i + 1):10d} {name}" for i, name in enumerate(names)]
    path.write_text("\n".join([*rows, f" Total score: {-1000 * len(names):11d}"]) + "\n", encoding="utf-8")


def _film(dialogue: str, shown: list[tuple[float, float, str, str]], seconds: float) -> NDArray[np.uint8]:
    """Two actors side by side, uint8 [T, 32, 48, 3]: who wears markers on the left; the half of who speaks is bright, by the emotion."""
    lit = []
    for start, end, speaker, code in shown:
        half = slice(0, 24) if speaker == dialogue[5] else slice(24, 48)
        bright = 110 + 12 * list(_WAYS).index(code) if code in _WAYS else 105
        lit.append((round(start * float(FPS)), round(end * float(FPS)), half, bright))
    return lit_wall(round(seconds * float(FPS)), 32, 48, lit)
