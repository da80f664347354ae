"""Preparing wav files as log-mel spectra with the default number of processes, against a plain loop of librosa in one process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.side_by_side import Row, cpu_seconds, gather
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


def ours(text: str, folder: Path, workers: int | None) -> None:
    """The toolkit's stage, as a run begins with it."""
    prepare(make_plan(parse_recipe(text, "preparing.yaml")), RunFolder(folder / "run"), workers)


def theirs(corpus: Path, clips: int, folder: Path) -> None:
    """Read, transform by librosa with the options of `log-mel`, and save, one clip after the other."""
    import librosa
    import soundfile
    from threadpoolctl import threadpool_limits

    folder.mkdir(parents=True)
    with threadpool_limits(torch.get_num_threads()):
        for i in range(clips):
            sound, rate = soundfile.read(corpus / "wav" / f"{i}.wav", dtype="float32")
            mel = librosa.feature.melspectrogram(y=sound, sr=rate, n_fft=400, hop_length=160, win_length=400, n_mels=80)
            np.save(folder / f"{i}.npy", librosa.power_to_db(mel, ref=np.max).T.astype(np.float32))


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of CPU time, children's included, and of the clock."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    work()
    return cpu_seconds() - cpu, time.perf_counter() - wall


def preparing() -> Iterator[Row]:
    """300 and 1,440 files, by time on the clock: readers are processes of their own, whose CPU time nobody here is told."""
    for clips in (300, 1440):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            text = corpus(folder, clips)
            theirs(folder, 3, folder / "warm")
            for name, workers in (("default", None), ("one process", 1)):
                measured = []
                for turn in range(3):
                    a = timed(partial(ours, text, folder / f"{name} {turn}", workers))
                    b = timed(partial(theirs, folder, clips, folder / f"plain {name} {turn}"))
                    measured.append((a, b))
                yield Row(f"prepare-audio, {clips} wavs, {name}", gather(measured, "clock"), 2.5, 4.0)


WORKLOADS = {"prepare-audio": preparing}
