"""The run folder: where files go, what is finished, and the log. Nothing is half written, and no file of it is trusted.

runs/NAME/
  .mmcl                                  this folder is mmcl's: nothing is written over or removed where it is missing
  recipe.yaml plan.json log.jsonl        what was asked, what was resolved, what happened
  prepare.json folds.json recordings.safetensors
                                         what was skipped and why; which streams; which recordings, who is on which side
  fold-00/seed-17/pretrain/              encoders.safetensors encoders.json history.jsonl last/ finished.json (resume/ meanwhile)
                                         lost.json lost.safetensors, where a loss was no number
  fold-00/seed-17/embed/                 pretrained-train.safetensors train.safetensors …
  fold-00/seed-17/probe/                 heads.safetensors heads.json scores.jsonl predictions.{jsonl,safetensors}
                                         retrieval.jsonl searches.jsonl chosen.jsonl finished.json
  fold-00/seed-17/supervise/             models/ scores.jsonl predictions.{jsonl,safetensors} chosen.jsonl finished.json
                                         (work.json, resume/ meanwhile)
  fold-00/seed-17/worth/                 worth.jsonl finished.json; maps.json in the first
  report.html report.json written.json   the pages, and digests of what lies here
  .lock .turn fold-00/seed-17/.lock      who is at work: in all of it, at its beginning or end, in one fold and seed
runs/prepared/                           prepared streams, shared by all runs beside it

A run folder may come from a stranger. Every file of one is opened and written here: regular files alone, no link followed, sizes
looked at before anything is read, and new files under names that nobody can foresee, put in place when they are whole and on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ..api.errors import StageError
from ..screen import say
from .files import (
    PART,
    TEXT_BYTES,
    JsonObject,
    _flock,
    _opened,
    arrays_in_parts,
    digest,
    each_jsonl,
    folder_in_place_of,
    in_place_of,
    lines_in_parts,
    locked,
    open_file,
    read_arrays,
    read_json,
    read_jsonl,
    read_tensors,
    read_text,
    tidy,
    to_disk,
    write_arrays,
    write_json,
    write_jsonl,
    write_tensors,
    write_text,
)

__all__ = [
    "PART",
    "TEXT_BYTES",
    "JsonObject",
    "arrays_in_parts",
    "digest",
    "each_jsonl",
    "folder_in_place_of",
    "in_place_of",
    "lines_in_parts",
    "locked",
    "open_file",
    "read_arrays",
    "read_json",
    "read_jsonl",
    "read_tensors",
    "read_text",
    "tidy",
    "to_disk",
    "write_arrays",
    "write_json",
    "write_jsonl",
    "write_tensors",
    "write_text",
]  # of files, for whoever asks here

P = ParamSpec("P")
R = TypeVar("R")

MARKER = ".mmcl"
"""The file by which a folder says that it is mmcl's."""
PREPARED = "MMCL_PREPARED"
"""The variable with the URL of prepared streams."""
WRITTEN = "written.json"
"""Digests of the files of a finished run that no stage answers for."""


class RunFolder:
    """One run's files.

    prepared  where prepared streams are kept; left out: beside the run
    remote    the URL below which they lie, if they are not kept here; left out: that of MMCL_PREPARED, unless `prepared` says where they are

    Raises StageError if anything in the folder is a link, or neither a file nor a folder.
    """

    def __init__(self, root: Path, prepared: Path | None = None, remote: str | None = None) -> None:
        self.root, self._prepared = root, prepared
        self.remote = remote or (os.environ.get(PREPARED) if prepared is None else None) or None
        refuse_links(root)

    @property
    def prepared(self) -> Path:
        """Where prepared streams are kept: beside the runs that share them, but in a run that has its own, as a repetition has."""
        if self._prepared is not None:
            return self._prepared
        return next((own for own in (self.root / "prepared",) if own.is_dir()), self.root.parent / "prepared")

    def stage(self, name: str, fold: int, seed: int) -> Path:
        """The folder of one stage, for one fold and seed."""
        return self.root / f"fold-{fold:02d}" / f"seed-{seed}" / name

    def units(self, stage: str) -> list[tuple[int, int, Path]]:
        """Every (fold, seed, folder) for which a stage has finished; of a run that is prepared those alone that its plan names."""
        planned = self.planned()
        units = []
        for mark in self.root.glob(f"fold-*/seed-*/{stage}/finished.json"):
            folder = mark.parent
            fold, seed = int(folder.parts[-3].removeprefix("fold-")), int(folder.parts[-2].removeprefix("seed-"))
            if planned is None or (fold, seed) in planned:
                units.append((fold, seed, folder))
        return sorted(units)

    def planned(self) -> set[tuple[int, int]] | None:
        """Every (fold, seed) that the plan names; None where there is no plan yet, or no recordings are prepared."""
        if not (self.root / "plan.json").is_file() or not (self.root / "prepare.json").is_file():
            return None
        seeds = read_json(self.root / "plan.json").get("plan", {}).get("seed")
        folds = read_json(self.root / "prepare.json").get("folds")
        return None if seeds is None or folds is None else {(one["fold"], seed) for one in folds for seed in seeds}

    def stale(self) -> list[Path]:
        """The folders of folds and seeds that lie in the run and that its plan does not name: an earlier plan made them."""
        planned = self.planned()
        named = {self.stage("", fold, seed) for fold, seed in planned or ()}
        return [] if planned is None else [one for one in sorted(self.root.glob("fold-*/seed-*")) if one not in named]

    def log(self, event: str, **values: Any) -> None:
        """Add one line to log.jsonl, whole, whoever else adds to it."""
        import fcntl

        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, allow_nan=False, default=str)
        self.root.mkdir(parents=True, exist_ok=True)
        with _opened(self.root / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, "a") as file:
            _flock(file, fcntl.LOCK_EX)  # a file of a network is not appended to at once
            file.write(line + "\n")
            file.flush()

    def claim(self, kind: str = "run") -> None:
        """Make the folder mmcl's: a new or an empty one, or one that is already. Raises StageError if it holds somebody's files."""
        claim(self.root, kind)

    @contextmanager
    def held(self, otherwise: str = ", or give another --out") -> Iterator[None]:
        """Keep a second process out of this folder. Raises StageError, which says to wait, or otherwise, if one is at work in it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".lock", wait=False) as mine:
            if not mine:
                raise StageError(f"{self.root}: another mmcl process is writing this run; wait for it{otherwise}")
            tidy(self.root)
            yield

    @contextmanager
    def shared(self) -> Iterator[bool]:
        """Work in this folder beside processes that write other folds and seeds of it; whether nobody else is at work in it yet.

        Raises StageError if a process holds all of it.
        """
        import fcntl

        with _opened(self.root / ".lock", os.O_RDWR | os.O_CREAT, "r+") as file:
            alone = _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                raise StageError(
                    f"{self.root}: another mmcl process is writing all of this run; wait for it, or give another --out"
                )
            if alone:
                tidy(self.root)
            yield alone

    @contextmanager
    def turn(self, waiting: Callable[[], None]) -> Iterator[None]:
        """The only process of those that share this folder; another one's turn is waited for, of which `waiting` is told."""
        with locked(self.root / ".turn", wait=False) as mine:
            if mine:
                yield
                return
        waiting()
        with locked(self.root / ".turn"):
            yield

    @contextmanager
    def held_unit(self, fold: int, seed: int) -> Iterator[None]:
        """Keep a second process out of one fold and seed. Raises StageError if one is at work in it."""
        with locked(self.stage(".lock", fold, seed), wait=False) as mine:
            if not mine:
                raise StageError(f"{self.root}: another mmcl process is writing fold {fold}, seed {seed}; wait for it")
            yield


def claim(folder: Path, kind: str) -> None:
    """Write `.mmcl` into a new or an empty folder; one that has it, or is such a folder of an older mmcl, is as good.

    kind  what the folder is: run, sweep

    Raises StageError if the folder holds anything else, or is one of another kind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageError(f"{folder}: cannot be made a folder ({error.strerror}); give another --out") from None
    marker = folder / MARKER
    if os.path.lexists(marker):
        is_one = read_text(marker, 100).strip()
        if is_one != kind:
            raise StageError(f"{folder}: is the folder of a {is_one}, and not of a {kind}; give another --out")
        return
    inside = sorted(entry.name for entry in os.scandir(folder) if entry.name not in LOCKS and not entry.name.endswith(PART))
    if os.path.lexists(marker):  # another process has claimed it meanwhile
        return claim(folder, kind)
    if inside and not (set(inside) & _OLDER[kind] and _names_mmcl(folder, kind)):
        few = ", ".join(inside[:3]) + (f" and {len(inside) - 3} more" if len(inside) > 3 else "")
        raise StageError(f"{folder}: holds {few}, which no {kind} of mmcl wrote; give another --out, or an empty folder")
    write_text(marker, f"{kind}\n")


LOCKS = {".lock", ".turn"}
"""Files that hold nothing and are locked."""
_OLDER = {"run": {"plan.json"}, "sweep": {"sweep.json"}}
"""What marks a folder that was written before there was a `.mmcl`."""


def _names_mmcl(folder: Path, kind: str) -> bool:
    """Whether the file that marks an older folder was written by mmcl."""
    try:
        about = read_json(folder / next(iter(_OLDER[kind])))
    except StageError:
        return False
    return about.get("format") == 1 and ("versions" in about or "mmcl" in about)


def refuse_links(root: Path) -> None:
    """Raise StageError if anything below a folder is a link, a pipe or a device, so that nothing in it leads elsewhere."""
    folders = [root] if root.is_dir() else []
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
            kinds = [stat.S_IFMT(os.lstat(entry.path).st_mode) for entry in entries]
        except FileNotFoundError:  # another process is at work in it
            continue
        except OSError as error:
            raise StageError(f"{folder}: cannot be read ({error.strerror})") from None
        for entry, kind in zip(entries, kinds, strict=True):
            if kind == stat.S_IFDIR:
                folders.append(Path(entry.path))
            elif kind != stat.S_IFREG:
                what = "a link" if kind == stat.S_IFLNK else "neither a file nor a folder"
                raise StageError(
                    f"{entry.path}: is {what}, which a run folder may not hold; take it away, or copy what it stands for"
                )


def fingerprint(value: Any, streamed: bool = False) -> str:
    """A short hash of JSON values: equal values, equal hash.

    streamed  the text is hashed as it grows, and never held: slower, for what holds an `Each`
    """
    hashed, part = hashlib.sha256(), ""
    encoder = json.JSONEncoder(sort_keys=True, default=_plain, ensure_ascii=True)
    for chunk in encoder.iterencode(value) if streamed else (encoder.encode(value),):
        part += chunk
        if len(part) > HASHED:
            hashed.update(part.encode())
            part = ""
    hashed.update(part.encode())
    return hashed.hexdigest()[:16]


def _plain(value: Any) -> Any:
    """What is no JSON value: rows of a fold as the numbers that they are, anything else as text."""
    return value.tolist() if isinstance(value, Listing) else str(value)


class Listing(ABC):
    """Stands for a list of plain values; in a fingerprint it is that list."""

    __slots__ = ()

    @abstractmethod
    def tolist(self) -> list[Any]:
        """The list."""


class Each(list[Any]):
    """A list that JSON's encoder goes through value by value, each made when its turn comes; nothing else can be done with it."""

    def __init__(self, values: Callable[[], Iterator[Any]]) -> None:
        super().__init__()
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return self._values()

    def __bool__(self) -> bool:
        return next(self._values(), None) is not None


HASHED = 2**20
"""Characters that are hashed together."""


_OURS = {
    "run": {MARKER, *LOCKS, "recipe.yaml", "folds.csv", "plan.json", "log.jsonl", "prepare.json", "folds.json"}
    | {"recordings.safetensors", WRITTEN, "scores.json", "report.html", "report.json", "tensorboard", "search", "prepared"},
    "sweep": {MARKER, ".lock", "sweep.json", "sweep.html", "trials.json", "log.jsonl", "trials", "best", "best.yaml"},
}
"""Names that mmcl writes into the folder of a run or of a sweep, beside the folders of folds and a sweep's journal."""


def kind_of(folder: Path) -> str | None:
    """What a folder of mmcl's is, run or sweep, one of an older mmcl too; None for any other. Nothing is written."""
    marker = folder / MARKER
    try:
        if os.path.lexists(marker):
            kind = read_text(marker, 100).strip()
            return kind if kind in _OURS else None
    except StageError:
        return None
    return next((kind for kind in _OLDER if (folder / min(_OLDER[kind])).is_file() and _names_mmcl(folder, kind)), None)


def remove_run(folder: Path, really: bool = True) -> None:
    """Remove the folder of a run or a sweep; without `really`, only look whether that may be.

    Raises StageError, and removes nothing, if it is none or holds what mmcl did not write.
    """
    kind = kind_of(folder)
    if kind is None:
        claim(folder, "run")  # says what is there
        kind = "run"
    begun = ("fold-",) if kind == "run" else ("study.",)
    strange = sorted(path.name for path in folder.iterdir() if path.name not in _OURS[kind] and not path.name.startswith(begun))
    if strange:
        raise StageError(f"{folder}: would be removed, and holds {strange[0]}, which mmcl did not write; move that elsewhere")
    refuse_links(folder)
    if really:
        shutil.rmtree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder that holds no links. Raises StageError if it does."""
    refuse_links(folder)
    shutil.rmtree(folder)


def finished(folder: Path, key: str, mark: str = "finished.json") -> bool:
    """Whether a stage has finished in this folder, with this key, and what it wrote is there as it was written.

    Says what is not: whoever asks makes it again.
    """
    if not os.path.lexists(folder / mark):
        return False
    try:
        about = read_json(folder / mark)
    except StageError as error:
        say(f"{str(error).split(';')[0]}; it is made again")
        return False
    if about.get("key") != key:
        return False
    bad = spoilt(folder, about)
    for name, what in bad.items():
        say(f"{folder / name}: {what}; it is made again")
    return not bad


def spoilt(folder: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """What a stage wrote, as its mark says, and what has become of it: is missing, is not what was written; nothing where all is well."""
    bad = {}
    for name, known in about.get("files", {}).items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            bad[name] = "does not lie in the stage's folder"
        elif not os.path.lexists(path):
            bad[name] = "is missing"
        elif digest(path) != known:
            bad[name] = "is not what was written"
    return bad


def finish(folder: Path, key: str, mark: str = "finished.json", names: Iterable[str] | None = None, **facts: Any) -> None:
    """Mark a stage finished: written last, so that a folder with this file is whole. The mark has a digest of what the stage wrote.

    names  the files that it wrote; left out: all that are there but checkpoints and the batch that was lost
    """
    paths = sorted(folder.rglob("*")) if names is None else [folder / name for name in names]
    files = {
        path.relative_to(folder).as_posix(): digest(path)
        for path in paths
        if path.is_file() and path.name != mark and not path.relative_to(folder).parts[0].startswith(_BESIDE)
    }
    write_json(folder / mark, {"format": 1, "key": key, "time": round(time.time(), 3), **facts, "files": files})


_BESIDE = ("resume", "last", "lost.", "work.json", ".")
"""How names in the folder of a stage begin that no result rests on."""


def restart(folder: Path) -> None:
    """An empty folder for a stage that begins anew."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


_OF_FILES = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    StopIteration,
    MemoryError,
)
"""What reading ends in where files contradict each other, though each of them holds what such a file may hold."""


@contextmanager
def distrust(folder: Path) -> Iterator[None]:
    """Within it, errors that come of what a run's files say are StageErrors that name the folder."""
    try:
        yield
    except _OF_FILES as error:
        if isinstance(error, MemoryError) or (changed := _changed(folder)) == []:
            raise  # memory is no matter of files; and what they say when nobody touched them is a fault of ours
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
        which = f"; {changed[0]}{f' and {len(changed) - 1} more' if len(changed) > 1 else ''}" if changed else ""
        raise StageError(
            f"{folder}: its files do not fit together ({words}; {Path(last.filename).name} line {last.lineno}){which}; they were changed or damaged: "
            "run its recipe again. If nobody touched them, please report it, with what --traceback shows"
        ) from error


def _changed(folder: Path) -> list[str] | None:
    """A sentence for each file of a run that is not what was written; None where not all of them have a digest, or a mark is no mark."""
    marks = [*folder.glob("fold-*/seed-*/*/finished.json"), *folder.glob("fold-*/seed-*/embed/pooled.json"), folder / WRITTEN]
    try:
        known = [(mark.parent, read_json(mark)) for mark in marks]
        bad = [f"{where / name} {what}" for where, about in known for name, what in spoilt(where, about).items()]
    except StageError:
        return None
    return bad if bad or all(about.get("files") for _, about in known) else None


def distrusting(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose first argument is the folder of a run, or a list of such, which reads in `distrust`."""

    @wraps(function)
    def reads(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0] if args else next(iter(kwargs.values()))
        if isinstance(first, list | tuple) and first:
            first = first[0]
        with distrust(first.root if isinstance(first, RunFolder) else Path(first)):
            return function(*args, **kwargs)

    return reads
