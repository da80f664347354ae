"""Writes a tiny made-up dataset of the hub's Arrow format, with one column of every sort."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from mmcl.api import DataError

from .shards import INSTALL

RATE = 8000
MOODS = ("calm", "tense")
SENTENCES = ("all is well here today", "come here at once please")


def write(root: Path, n: int, seed: int) -> None:
    """About n recordings of two moods by six speakers in parts train, validation and test; the last lacks its picture."""
    try:
        import datasets
        from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
    except ImportError as error:
        raise DataError(f"{root}: writing it needs the library datasets, which is not installed: {INSTALL}") from error
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "speaker": datasets.Value("string"),
            "audio": datasets.Audio(),
            "image": datasets.Image(),
            "text": datasets.Value("string"),
            "wrist": datasets.Array2D((None, 3), "float32"),
            "mood": datasets.ClassLabel(names=list(MOODS)),
        }
    )
    draw = np.random.default_rng(seed)
    count = max(n, 6)
    rows = [_row(i, draw, last=i == count - 1) for i in range(count)]
    parts = {"train": (0, 1, 2, 3), "validation": (4,), "test": (5,)}
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        datasets.DatasetDict(
            {
                name: rows_of(datasets, features, [row for i, row in enumerate(rows) if i % 6 in speakers])
                for name, speakers in parts.items()
            }
        ).save_to_disk(str(root))
    finally:
        if shown:
            enable_progress_bar()


def rows_of(datasets: Any, features: Any, rows: list[dict[str, Any]]) -> Any:
    """Rows as a datasets.Dataset. Sound and pictures come as bytes: no encoder of the library is needed."""
    import pyarrow

    schema = features.arrow_schema
    columns = []
    for field in schema:
        cells, storage = [row[field.name] for row in rows], getattr(field.type, "storage_type", None)
        array = pyarrow.array(cells, storage or field.type)
        columns.append(array if storage is None else pyarrow.ExtensionArray.from_storage(field.type, array))
    return datasets.Dataset(pyarrow.Table.from_arrays(columns, schema=schema))


def _row(i: int, draw: np.random.Generator, last: bool) -> dict[str, Any]:
    import soundfile
    from PIL import Image

    mood = i // 3 % 2
    t = np.arange(RATE) / RATE
    wave = 0.3 * np.sin(2 * np.pi * (220 + 110 * mood) * (1 + 0.05 * (i % 6)) * t) + draw.normal(0, 0.01, RATE)
    sound, picture = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, wave.clip(-1, 1), RATE, format="WAV", subtype="PCM_16")
    Image.fromarray(draw.integers(80 * mood, 80 * mood + 90, (24, 32, 3), np.uint8)).save(picture, "PNG")
    return {
        "id": f"r{i:03d}",
        "speaker": f"s{i % 6}",
        "audio": {"bytes": sound.getvalue(), "path": f"r{i:03d}.wav"},
        "image": None if last else {"bytes": picture.getvalue(), "path": None},
        "text": SENTENCES[mood],
        "wrist": (mood + draw.normal(0, 0.1, (25, 3))).round(4).tolist(),
        "mood": mood,
    }
