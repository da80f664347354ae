"""The run folder: where files go, what is finished, and the log. Nothing is half written.

runs/NAME/
  recipe.yaml plan.json log.jsonl        what was asked, what was resolved, what happened
  prepare.json folds.json                which recordings, what was skipped and why, who is on which side
  fold-00/seed-17/pretrain/              encoders.safetensors encoders.json history.jsonl finished.json (resume/ meanwhile)
  fold-00/seed-17/embed/                 pretrained-train.safetensors pretrained-train.json …
  fold-00/seed-17/probe/                 heads.safetensors heads.json scores.jsonl predictions.jsonl
                                         retrieval.jsonl chosen.jsonl finished.json
  fold-00/seed-17/supervise/             models/ scores.jsonl predictions.jsonl chosen.jsonl finished.json (work.json, resume/ meanwhile)
  fold-00/seed-17/worth/                 worth.jsonl finished.json; maps.json in the first
  report.html report.json
runs/prepared/                           prepared streams, shared by all runs beside it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .api.errors import StageError

JsonObject = dict[str, Any]


class RunFolder:
    """One run's files.

    prepared  where prepared streams are kept; left out: beside the run
    """

    def __init__(self, root: Path, prepared: Path | None = None) -> None:
        self.root, self._prepared = root, prepared

    @property
    def prepared(self) -> Path:
        """Where prepared streams are kept, beside the runs that share them."""
        return self.root.parent / "prepared" if self._prepared is None else self._prepared

    def stage(self, name: str, fold: int, seed: int) -> Path:
        """The folder of one stage, for one fold and seed."""
        return self.root / f"fold-{fold:02d}" / f"seed-{seed}" / name

    def units(self, stage: str) -> list[tuple[int, int, Path]]:
        """Every (fold, seed, folder) for which a stage has finished."""
        units = []
        for mark in self.root.glob(f"fold-*/seed-*/{stage}/finished.json"):
            folder = mark.parent
            units.append((int(folder.parts[-3].removeprefix("fold-")), int(folder.parts[-2].removeprefix("seed-")), folder))
        return sorted(units)

    def log(self, event: str, **values: Any) -> None:
        """Add one line to log.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, allow_nan=False, default=str)
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a second process out of this folder. Raises StageError if one is at work in it."""
        import fcntl

        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StageError(
                    f"{self.root}: another mmcl process is writing this run; wait for it, or give another --out"
                ) from None
            yield


def fingerprint(value: Any) -> str:
    """A short hash of JSON values: equal values, equal hash."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def finished(folder: Path, key: str) -> bool:
    """Whether a stage has finished in this folder, with this key."""
    mark = folder / "finished.json"
    return mark.exists() and read_json(mark).get("key") == key


def finish(folder: Path, key: str, **facts: Any) -> None:
    """Mark a stage finished: written last, so that a folder with this file is whole."""
    write_json(folder / "finished.json", {"format": 1, "key": key, "time": round(time.time(), 3), **facts})


def restart(folder: Path) -> None:
    """An empty folder for a stage that begins anew."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.tmp")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all. NaN is refused: say null where there is no number."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, allow_nan=False, default=str) + "\n" for row in rows))


def read_json(path: Path) -> JsonObject:
    """A JSON file's object. Raises StageError, naming the file, if it is missing or not JSON."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path}: is missing; `mmcl run` writes it") from None
    except (OSError, ValueError) as error:
        raise StageError(f"{path}: cannot be read as JSON ({error}); delete it and run again") from error
    if not isinstance(value, dict):
        raise StageError(f"{path}: holds {type(value).__name__}, not an object; delete it and run again")
    return value


def read_jsonl(path: Path) -> list[JsonObject]:
    """The objects of a file with one a line."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        raise StageError(f"{path}: is missing; `mmcl run` writes it") from None
    except ValueError as error:
        raise StageError(f"{path}: cannot be read as JSON lines ({error}); delete it and run again") from error
