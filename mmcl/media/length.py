"""How long a file says it is: many decoders read one that was cut short without a word."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

TAIL = 2**16 + 512
"""Bytes at the end of a file among which its last page or packet begins: neither is longer than 64 KB and a head."""
UNKNOWN = 0xFFFFFFFF
"""What a length of four bytes says that nobody wrote down."""
MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Kilobits a second of frames of layer III, by the number in their head, from 1 on (ISO 11172-3 and 13818-3)."""
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""How Matroska's head and its only segment begin."""


def missing_bytes(path: Path) -> int:
    """How many bytes a file of sound or film lacks at its end by the lengths that stand in it; 0 for whole files.

    Known are mp4, mov and m4a, AVI, Matroska and WebM, MPEG programs, Ogg (Vorbis, Opus), AIFF, AU and mp3. It is 0 for other formats, for files
    whose length was never written down, as of a recording that was not ended, and for Ogg and MPEG files (mp3 too) cut exactly
    between two pages, packets or frames.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            end = 8 + int(struct.unpack("<I", head[4:8])[0])  # a second RIFF of very long films is not looked at
        elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            end = 8 + _known(">I", head[4:8])
        elif head[:4] == b".snd" and len(head) == 12:
            end = _au_end(head)
        elif head[:4] == b"OggS":
            end = _last_page(file, size)
        elif head[:4] == EBML:
            end = _segment_end(file)
        elif head[:4] == b"\x00\x00\x01\xba":
            end = _last_packet(file, size)
        elif head[:3] == b"ID3" or head[:1] == b"\xff":
            end = 0
            if path.suffix.lower() == ".mp3" and not _says_frames(file):
                _, end = _frames(file, _first_frame(file), size)
        else:
            end = _boxes_end(file, size)
    return max(0, end - size)


def followed_samples(path: Path) -> int | None:
    """How many samples an mp3 file has whose head does not say it, its frames counted one by one: decoders guess it from the first of them.

    None where the head says it, and where the frames cannot be followed.
    """
    with path.open("rb") as file:
        if _says_frames(file):
            return None
        file.seek(at := _first_frame(file))
        first = file.read(2)
        count, _ = _frames(file, at, path.stat().st_size)
    return count * (1152 if len(first) == 2 and first[1] >> 3 & 3 == 3 else 576) or None


def _says_frames(file: BinaryIO) -> bool:
    file.seek(_first_frame(file))
    first = file.read(256)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _first_frame(file: BinaryIO) -> int:
    """Where the tags at the beginning of an mp3 file end."""
    file.seek(0)
    tag = file.read(10)
    if tag[:3] != b"ID3" or len(tag) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(reversed(tag[6:10])))


def _frames(file: BinaryIO, at: int, size: int) -> tuple[int, int]:
    """How many frames of an mp3 file follow each other from a place on, and where the last of them ends; 0 where they stop long before the end."""
    count = 0
    while at < size:
        file.seek(at)
        length = _frame_length(head := file.read(4))
        if length is None:  # a tag at the end, or what is left of the next frame's head
            return (count, at) if len(head) < 4 or size - at <= TAIL else (0, 0)
        count, at = count + 1, at + length
    return count, at


def _frame_length(head: bytes) -> int | None:
    """Bytes of a frame of layer III; None where there is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, rate, bits = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate == 3 or bits in (0, 15):
        return None
    kilobits = (MPEG_1 if version == 3 else MPEG_2)[bits - 1]
    samples = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144_000 if version == 3 else 72_000) * kilobits // samples + (head[2] >> 1 & 1)


def _known(form: str, four: bytes) -> int:
    """A length of four bytes; 0 where it was never written down."""
    length = int(struct.unpack(form, four)[0])
    return 0 if length >= UNKNOWN - 1 else length


def _au_end(head: bytes) -> int:
    """Where the samples of an AU file end."""
    length = _known(">I", head[8:12])
    return int(struct.unpack(">I", head[4:8])[0]) + length if length else 0


def _tail(file: BinaryIO, size: int) -> tuple[bytes, int]:
    """The last bytes of a file, and where they begin."""
    start = file.seek(max(0, size - TAIL))
    return file.read(TAIL), start


def _last_page(file: BinaryIO, size: int) -> int:
    """Where the last page of an Ogg file ends."""
    tail, start = _tail(file, size)
    at = tail.rfind(b"OggS")
    page = tail[at:] if at >= 0 else b""
    if len(page) < 27:
        return size + (27 - len(page) if page else 0)
    segments = page[26]
    if len(page) < 27 + segments:
        return size + 27 + segments - len(page)
    return start + at + 27 + segments + sum(page[27 : 27 + segments])


def _last_packet(file: BinaryIO, size: int) -> int:
    """Where the last packet of an MPEG program stream ends; streams of its pictures have no start codes as high as those of packets."""
    tail, start = _tail(file, size)
    at = len(tail)
    while (at := tail.rfind(b"\x00\x00\x01", 0, at)) >= 0:
        kind = tail[at + 3 : at + 4]
        if kind and kind[0] >= 0xBB and len(tail) >= at + 6:
            return start + at + 6 + int(struct.unpack(">H", tail[at + 4 : at + 6])[0])
        if kind == b"\xb9":
            return size  # the code that ends the program
    return size


def _segment_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska file ends; 0 where its length is unknown."""
    file.seek(4)
    length = _variable(file)
    if length is None:
        return 0
    file.seek(length, os.SEEK_CUR)
    if file.read(4) != SEGMENT or (length := _variable(file)) is None:
        return 0
    return file.tell() + length


def _variable(file: BinaryIO) -> int | None:
    """A length of one to eight bytes, whose first says how many; None for the one that stands for unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    value = ((first[0] & ((1 << (7 - more)) - 1)) << (8 * more)) | int.from_bytes(rest, "big")
    return None if len(rest) < more or value == (1 << (7 * (more + 1))) - 1 else value


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box of an mp4 file ends, as far as its boxes can be followed; 0 for what is none."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if not name.isalnum() or (length == 1 and len(long := file.read(8)) < 8):
            return 0
        if length == 0:  # reaches to the end of the file, wherever that is
            return 0
        begin = file.tell() - (16 if length == 1 else 8)
        end = int(begin + (struct.unpack(">Q", long)[0] if length == 1 else length))
        if end > size:
            return end
        if end < file.tell():
            return 0
        file.seek(end)
    return 0
