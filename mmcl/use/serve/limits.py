"""What `mmcl serve` takes: where a file may lie, what it may be, how long it may last, how much memory one question may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...api.dataset import Header
from ...api.errors import DataError
from ...api.raw import Source
from ...media import (
    COMPRESSED_SOUNDS,
    FILMS,
    SOUNDS,
    array_shape,
    film_header,
    folder_header,
    sound_header,
)

HEAD = 4096
"""Bytes by which a file of text is told from a film."""


@dataclass(frozen=True)
class Limits:
    """What one question may take.

    bytes       of an upload
    seconds     that a recording lasts
    time        seconds until there is an answer
    memory      bytes beyond what the run itself takes; 0 for no limit
    recordings  at a time
    waiting     questions that may wait for their turn
    """

    bytes: int = 200_000_000
    seconds: float = 600.0
    time: float = 120.0
    memory: int = 8_000_000_000
    recordings: int = 64
    waiting: int = 8


class TooLong(DataError):
    """A recording lasts longer than is taken."""


class TooMany(DataError):
    """More recordings than are taken at a time."""


def require_inside(path: Path, folder: Path) -> None:
    """Raise DataError unless a file, or every picture of a folder, lies inside a folder once all links are followed."""
    whole = folder.resolve()
    for one in (path, *(path.iterdir() if path.is_dir() else ())):
        if not one.resolve().is_relative_to(whole):
            raise DataError(f"{path.name}: lies outside the folder that is served, or a link of it leads outside")


def require_media(path: Path) -> None:
    """Raise DataError for a text that is called a film or a sound: a playlist would have the decoder open other files."""
    if path.suffix.lower() not in (*FILMS, *COMPRESSED_SOUNDS, *SOUNDS) or not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head and not any(byte < 9 or 13 < byte < 27 for byte in head):
        raise DataError(f"{path}: is a text, and a film or a sound was expected")


def require_short(path: Path, source: Source, most: float) -> None:
    """Raise TooLong for a file that lasts longer than so many seconds by its head; one that has none is for its reader to refuse."""
    try:
        seconds = _header(path, source).seconds
    except DataError:
        return
    if seconds is not None and seconds > most:
        raise TooLong(f"{path}: lasts {seconds:.0f} s; {most:g} s at most are taken")


def _header(path: Path, source: Source) -> Header:
    """What the head of a file says of its length; of tables and texts, which have none, nothing."""
    if source.type == "audio" or (source.type == "words" and path.suffix.lower() in (*SOUNDS, *COMPRESSED_SOUNDS, *FILMS)):
        return sound_header(path) if path.suffix.lower() in SOUNDS else film_header(path, sound=True)
    if source.type == "video":
        return folder_header(path, source.rate or 1.0) if path.is_dir() else film_header(path)
    if source.type == "sequence" and source.rate:
        shape = array_shape(path, source.notes.get("key"))
        return Header(shape[0] / source.rate if shape else None, source.rate)
    return Header()


def limit_memory(more: int) -> None:
    """Let this process take so many bytes of memory beyond what it has; where the system knows no such limit, or for 0, as before."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    statm = Path("/proc/self/statm")
    if more <= 0 or not statm.exists():
        return
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + more
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
