"""Sound files: read whole or refused, and written."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Audio
from .files import require_file

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""Endings of the sound files that `read_audio` reads."""

_LENGTH_UNKNOWN = 0xFFFFFFFF  # what a program that writes a wav into a pipe puts where the length belongs


def read_audio(path: Path, mono: bool = True) -> Audio:
    """A sound file (wav, flac, ogg, …) as float32 in [-1, 1] at the file's own rate.

    mono  several channels are mixed to their mean; False refuses a file that has more than one.

    Raises DataError if the file is missing, empty, not sound, holds NaN or infinity, or is shorter than its header promises
    (decoders read a wav that was cut short without a word).
    """
    import soundfile

    require_file(path, "a sound file")
    require_whole(path)
    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, int(file.samplerate)
            samples: NDArray[np.float32] = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise DataError(f"{path}: a sound file was expected, and it cannot be decoded ({reason})") from error
    if len(samples) == 0:
        raise DataError(f"{path}: a sound file was expected, and it holds no samples")
    if len(samples) < promised:
        raise DataError(
            f"{path}: cut short: {promised:,} samples were expected and {len(samples):,} could be decoded; copy it again"
        )
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise DataError(f"{path}: sample {first:,} is NaN or infinite; finite samples were expected")
    channels = samples.shape[1]
    if channels == 1:
        return Audio(samples[:, 0], rate)
    if not mono:
        raise DataError(f"{path}: has {channels} channels; a mono file was expected")
    return Audio(samples.mean(axis=1, dtype=np.float32), rate)


def write_audio(path: Path, samples: NDArray[np.floating], rate: int) -> None:
    """Write samples in [-1, 1] as a wav of 16 bits, for a dataset's own sample; what lies beyond is cut."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.clip(-1, 1), rate, subtype="PCM_16")


def require_whole(path: Path) -> None:
    """Refuse a wav file that holds less than its header promises."""
    sizes = _wav_sizes(path)
    if sizes is not None and sizes[0] > sizes[1]:
        raise DataError(
            f"{path}: cut short: its header promises {sizes[0]:,} bytes of sound and the file holds {sizes[1]:,}; copy it again"
        )


def _wav_sizes(path: Path) -> tuple[int, int] | None:
    """Bytes of sound that a wav file promises, and bytes that are there; None for other formats and unknown lengths."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return None
        long = None  # RF64 keeps lengths above 4 GiB in a chunk of their own
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":
                promised = long if long is not None and length == _LENGTH_UNKNOWN else length
                return None if promised == _LENGTH_UNKNOWN else (promised, path.stat().st_size - file.tell())
            after = file.tell() + length + length % 2  # chunks begin at even places
            if name == b"ds64" and len(sizes := file.read(16)) == 16:
                long = struct.unpack("<QQ", sizes)[1]
            file.seek(after)
    return None
