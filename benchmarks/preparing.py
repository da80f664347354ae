"""Preparing wav files as log-mel spectra with the default number of processes, against this process alone and against two from the start."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare

RATE, SECONDS = 16_000, 3


def corpus(folder: Path, clips: int) -> str:
    """So many wav files with a table of them; the recipe that reads it."""
    from scipy.io import wavfile

    (folder / "wav").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["id,speaker,mood,sound"]
    for i in range(clips):
        wavfile.write(folder / "wav" / f"{i}.wav", RATE, (3000 * rng.standard_normal(RATE * SECONDS)).astype(np.int16))
        rows.append(f"{i},s{i % 12},{'ab'[i % 2]},wav/{i}.wav")
    (folder / "recordings.csv").write_text("\n".join(rows) + "\n")
    return f"""\
format: 1
name: preparing
dataset: {{use: folder, root: "{folder}"}}
modalities:
  sound: {{features: log-mel, backbone: {{use: tcn, channels: [8]}}}}
pretrain: {{objective: {{pairs: same}}, views: 2}}
protocol: {{use: k-fold, k: 2, by: group}}
"""


def seconds(text: str, folder: Path, name: str, workers: int | None) -> float:
    """Wall-clock seconds of one preparation."""
    plan = make_plan(parse_recipe(text, "preparing.yaml"))
    began = time.perf_counter()
    prepare(plan, RunFolder(folder / name / "run"), workers)
    return time.perf_counter() - began


def main() -> None:
    """Print the ratios at 300 and 1,440 files."""
    for clips in (300, 1440):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            text = corpus(folder, clips)
            seconds(text, folder, "warm", 1)
            each = {
                name: min(seconds(text, folder, f"{name} {i}", workers) for i in range(3))
                for name, workers in (("default", None), ("one process", 1), ("two from the start", 2))
            }
        words = ", ".join(f"{name} {value:.2f} s" for name, value in each.items())
        print(f"prepare {clips} wavs: {words}; default is {each['one process'] / each['default']:.2f}x one process")


if __name__ == "__main__":
    main()
