"""Writes a tiny made-up IEMOCAP in the true format: words and voices lean with the emotion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

RATE = 16_000
_WAYS = {
    "neu": ("the paper is on the table", 0.10, 150, (3.0, 2.5, 3.0)), "hap": ("great that is wonderful", 0.30, 230, (4.5, 3.6, 3.2)),
    "exc": ("wow yes we won it", 0.40, 260, (4.6, 4.2, 3.6)), "sad": ("she is gone and I miss her", 0.08, 120, (1.8, 2.0, 2.2)),
    "ang": ("stop it now I told you", 0.50, 200, (1.7, 4.2, 4.3)), "fru": ("not again this never works", 0.35, 180, (2.0, 3.5, 3.4)),
    "xxx": ("well I do not know", 0.15, 160, (2.8, 2.9, 2.9)), "oth": ("hm so so", 0.12, 150, (3.1, 2.8, 2.7)),
}  # fmt: skip


def write(root: Path, n: int, seed: int) -> None:
    """About n turns, two dialogues a session, with what a reader must cope with.

    Annotators' lines below each turn, turns on which nobody agreed, a turn of nobody (XX) and a line without a name in the transcriptions, a
    hidden copy of a file, turns that overlap, one without a wav, one without words, some with forced alignments.
    """
    import soundfile

    each = max(8, round(n / 10))
    for session in range(1, 6):
        base = root / f"Session{session}"
        for which, dialogue in enumerate((f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1")):
            rng = np.random.default_rng((seed, session, which))
            lines, said = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            clock = 6.0
            for i in range(each):
                code = list(_WAYS)[(i + 3 * which + session) % len(_WAYS)]
                text, loud, pitch, vad = _WAYS[code]
                speaker = "FM"[i % 2]
                turn = f"{dialogue}_{speaker}{i:03d}"
                length = 0.8 + 0.4 * rng.random()
                start = clock - (0.3 if i == 3 else 0)
                clock = start + length + 0.1
                values = ", ".join(f"{v + rng.normal(0, 0.2):.4f}" for v in vad)
                lines += [
                    f"[{start:.4f} - {start + length:.4f}]\t{turn}\t{code}\t[{values}]",
                    f"C-E2:\t{code};\t()",
                    "A-E3:\tval 3; act 2; dom  2;\t()",
                    "",
                ]
                if i != 5 or session != 1:
                    said.append(f"{turn} [{start:08.4f}-{start + length:08.4f}]: {text.capitalize()}.")
                if i != 4 or session != 2:
                    t = np.arange(round(length * RATE)) / RATE
                    wave = loud * np.sin(2 * np.pi * pitch * (1.3 if speaker == "F" else 1) * t) + rng.normal(0, 0.003, len(t))
                    path = base / "sentences" / "wav" / dialogue / f"{turn}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, wave.clip(-1, 1), RATE)
                if i % 3 == 0:
                    _align(base / "sentences" / "ForcedAlignment" / dialogue / f"{turn}.wdseg", text.split(), length)
            said += [f"{dialogue}_XX000 [{clock:08.4f}-{clock + 1:08.4f}]: Hm.", "M: (breathing)"]
            for folder, rows in (("EmoEvaluation", lines), ("transcriptions", said)):
                path = base / "dialog" / folder / f"{dialogue}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        (base / "dialog" / "EmoEvaluation" / "._Ses0xF_impro01.txt").write_bytes(b"\x00\x05\x16\x07")


def _align(path: Path, words: list[str], seconds: float) -> None:
    """A forced alignment: a heading, silence, words with a variant's number, silence, a total."""
    path.parent.mkdir(parents=True, exist_ok=True)
    step = int(100 * seconds / (len(words) + 2))
    rows = ["     SFrm  EFrm    SegAScr Word", f"        0 {step - 1:5d}     -10000 <s>"]
    rows += [
        f"{step * (i + 1):9d} {step * (i + 2) - 1:5d}    -200000 {word.upper()}{'(2)' if i == 1 else ''}"
        for i, word in enumerate(words)
    ]
    rows += [f"{step * (len(words) + 1):9d} {step * (len(words) + 2):5d}     -10000 </s>", " Total score:     -1000000"]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
