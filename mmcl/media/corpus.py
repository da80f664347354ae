"""What the reader of a corpus stands on: recordings that are listed once, folders that are walked once, defects that are counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from ..api.dataset import SampleRef
from ..api.errors import DataError
from .files import require_folder


class Recordings:
    """The recordings below one folder: listed the first time they are asked for, then known by their ids.

    `all` is what a dataset's `samples` gives; its `read` calls that, then `file` or `one`.
    """

    def __init__(self, root: Path | None, expected: str, get: str, noun: str = "recording", holds: Sequence[str] = ()) -> None:
        """Nothing is read yet.

        expected, get, holds  of the folder, as in `require_folder`; holds is asked for when it is listed
        noun                  what a recording is called in messages: "utterance"
        """
        self._root, self._expected, self._get, self._noun, self._holds = root, expected, get, noun, holds
        self._samples: tuple[SampleRef, ...] | None = None
        self._by_id: dict[str, SampleRef] = {}

    def all(self, listing: Callable[[Path], Iterable[SampleRef]]) -> tuple[SampleRef, ...]:
        """Every recording, in the order of the listing (the folder → its recordings), which is called once.

        Raises DataError as `require_folder` does, or as the listing does.
        """
        # The listing is not kept: a method of the dataset would keep the dataset, and the files that it holds open, alive.
        if self._samples is None:
            self._samples = tuple(listing(require_folder(self._root, self._expected, self._get, self._holds)))
            self._by_id = {sample.id: sample for sample in self._samples}
        return self._samples

    def folder(self) -> Path:
        """The folder, which is there."""
        return require_folder(self._root, self._expected, self._get)

    def one(self, id: str, source: str, why: str = "") -> SampleRef:
        """The listed recording of an id. Raises DataError if there is none, or if it lacks the source, `why` behind it."""
        root = self.folder()
        sample = self._by_id.get(id)
        if sample is None or source not in sample.sources:
            raise DataError(f"{root}: {self._noun} '{id}' {'is not there' if sample is None else f'has no {source}{why}'}")
        return sample

    def file(self, id: str, source: str, why: str = "") -> Path:
        """The file that holds a recording's source. Raises DataError as `one` does."""
        sample = self.one(id, source, why)
        return self.folder() / sample.sources[source]


OF_FILES = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".mp3",
        ".m4a",
        ".mp4",
        ".avi",
        ".mov",
        ".mkv",
        ".webm",
        ".mpg",
        ".mat",
        ".csv",
        ".tsv",
        ".npy",
        ".npz",
        ".srt",
        ".vtt",
    ]
)
"""Endings by which a folder is taken for a recording that is none."""


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder below the root once, with the names of its folders and of its files, in a stable order, the root first.

    Names that begin with a dot are passed over (._clip.mp4 is what macOS leaves behind). Links are followed, but never back up.
    Whoever takes a name out of the list of folders has it left out, as with `os.walk`. A folder that is called as a file is (x.wav) stands
    among the files, so that whoever reads it says what it is, unless it holds pictures, which may be a film.
    """
    walked = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(folder)) in walked:
            folders.clear()
            continue
        walked.add(real)
        called = [one for one in folders if Path(one).suffix.lower() in OF_FILES and not _pictures(Path(folder) / one)]
        folders[:] = [name for name in folders if name not in called]
        yield Path(folder), folders, sorted([*called, *(name for name in files if not name.startswith("."))])


def _pictures(folder: Path) -> bool:
    from .film import has_pictures

    try:
        return has_pictures(folder)
    except OSError:  # a folder that may not be read
        return False


def defect(counted_as: str, kind: Callable[[], Any] = list) -> Any:
    """A field of a dataclass of defects: what has the defect (a list, or what `kind` makes), under its name on the data card."""
    return field(default_factory=kind, metadata={"counted as": counted_as})


def count_defects(defects: Any, leave_out: Collection[str] = ()) -> dict[str, int]:
    """How often each defect is there, by the names that `defect` gave them: what a dataset's `counts` says.

    leave_out  fields that these options of the dataset do not look at
    """
    counted = [one for one in fields(defects) if one.name not in leave_out]
    return {one.metadata["counted as"]: len(getattr(defects, one.name)) for one in counted}
