"""Lengths in the head of a wav file, and files whose head was never finished: written into a pipe, or by a recorder that was stopped."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.errors import DataError

UNKNOWN = 0xFFFFFFFF
"""What a program that writes a wav into a pipe puts where the length belongs; RF64 keeps it in a chunk of its own then."""
_PLACEHOLDERS = (range(0x7FFFF000, 0x80000001), range(0xFFFFF000, UNKNOWN + 1), (2_000_000_000,))
"""Other such lengths, with or without the head's own bytes: sox's, those of 31 and 32 bits, and those that servers of speech write."""


@dataclass(frozen=True)
class WavHead:
    """Where the sound of a wav begins, and how long it is.

    promised  bytes of sound by the head; None where the head was never finished
    there     bytes from the beginning of the sound to the end of the file
    frame     bytes of one sample of all channels; 0 where the head does not say
    long      whether lengths stand in a chunk of their own (RF64)
    """

    begin: int
    promised: int | None
    there: int
    frame: int
    long: bool = False


def wav_head(path: Path) -> WavHead | None:
    """The head of a wav file; None for other formats, and where no sound begins."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return None
        long, frame = None, 0
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":
                begin, there = file.tell(), size - file.tell()
                promised = long if long is not None and length == UNKNOWN else length
                whole = struct.unpack("<I", head[4:8])[0] + 8 == size  # then no length is a placeholder, and the sound is empty
                unfinished = long is None and (any(length in one for one in _PLACEHOLDERS) or (length == 0 and not whole))
                if unfinished and length and there >= length:
                    unfinished = False  # as long as it says
                return WavHead(begin, None if unfinished else promised, there, frame, long is not None)
            after = file.tell() + length + length % 2  # chunks begin at even places
            if name == b"fmt " and len(form := file.read(16)) == 16:
                frame = struct.unpack("<HHIIHH", form)[4]
            elif name == b"ds64" and len(sizes := file.read(16)) == 16:
                long = struct.unpack("<QQ", sizes)[1]
            file.seek(after)
    return None


def finished(path: Path, head: WavHead | None) -> Path | io.BufferedReader:
    """The file itself, or what it would be with its head finished: all that is there belongs to the sound.

    Raises DataError if it does not end on a whole frame, so that nobody can say what is sound.
    """
    if head is None or head.promised is not None or not head.there:
        return path
    if not head.frame or head.there % head.frame:
        raise DataError(
            f"{path}: its head was never finished (a recorder or a pipe that was stopped), and its {head.there:,} bytes of sound are no "
            f"whole frames of {head.frame} bytes; write it again, as with `sox --ignore-length {path.name} mended.wav`"
        )
    whole = struct.pack("<I", min(UNKNOWN, head.begin + head.there - 8))
    return io.BufferedReader(_Mended(path, {4: whole, head.begin - 4: struct.pack("<I", min(UNKNOWN, head.there))}))


class _Mended(io.RawIOBase):
    """A file some of whose bytes read otherwise; the file itself stays as it is.

    mended  place → the bytes that stand there
    """

    def __init__(self, path: Path, mended: Mapping[int, bytes]) -> None:
        self._file, self._mended = path.open("rb", buffering=0), mended

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        begin = self._file.tell()
        count = self._file.readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for place, bytes_there in self._mended.items():
            for k, byte in enumerate(bytes_there, place - begin):
                if 0 <= k < count:
                    view[k] = byte
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
