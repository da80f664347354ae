"""Sound files: read whole or refused, brought to a rate, and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Audio
from .files import require_file, require_room
from .wav import WavHead, finished, wav_head

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""Endings of the sound files that `read_audio` reads."""
BLOCK = 2**22
"""Samples of every channel that are decoded at once."""
LOUDEST = 1e10
"""A greater sample is none: whole numbers of 32 bits that nobody scaled are taken as they are."""


def read_audio(path: Path, mono: bool = True) -> Audio:
    """A sound file (wav, flac, ogg, …) as float32 in [-1, 1] at the file's own rate.

    mono  several channels are mixed to their mean; False refuses a file that has more than one.

    Raises DataError if the file is missing, empty, not sound, holds NaN or infinity, or is shorter than its header promises
    (decoders read a wav that was cut short without a word). A wav whose header was never finished is read to its end, if that is the
    end of a frame.
    """
    with opened_sound(path) as file:
        promised, rate = file.frames, int(file.samplerate)
        if promised < 2**62:  # a stream that nobody finished promises as much as fits into its head
            require_room(path, promised / rate, promised * file.channels * 4, "sound")
        channels = int(file.channels)
        if channels > 1 and not mono:
            raise DataError(f"{path}: has {channels} channels; a mono file was expected")
        samples = _mixed(path, file)
    if len(samples) == 0:
        raise DataError(f"{path}: a sound file was expected, and it holds no samples")
    if len(samples) < promised:
        raise DataError(
            f"{path}: cut short: {promised:,} samples were expected and {len(samples):,} could be decoded; copy it again"
        )
    return Audio(samples, rate)


def _mixed(path: Path, file: Any) -> NDArray[np.float32]:
    """The mean of the channels of an open file, decoded a block at a time: of the others no more than that is in memory."""
    parts: list[NDArray[np.float32]] = []
    read = 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            first = read + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise DataError(f"{path}: sample {first:,} is NaN or infinite; finite samples were expected")
        parts.append(block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32))
        read += len(block)
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


@contextmanager
def opened_sound(path: Path) -> Iterator[Any]:
    """A sound file as soundfile opens it, its head finished where it was not. Raises DataError as `read_audio` does, from within too."""
    import soundfile

    require_file(path, "a sound file")
    head = require_whole(path)
    try:
        with soundfile.SoundFile(finished(path, head)) as file:
            yield file
    except (soundfile.SoundFileError, OSError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise DataError(f"{path}: a sound file was expected, and it cannot be decoded ({reason})") from error


def at_rate(audio: Audio, rate: int) -> NDArray[np.float32]:
    """Samples [T] at the wanted rate in Hz. Raises DataError for sound that is empty, of several channels, NaN, infinite or beyond LOUDEST."""
    samples = np.ascontiguousarray(audio.samples, np.float32)
    if samples.ndim != 1 or len(samples) == 0:
        raise DataError(f"one channel of sound was expected; the recording's samples have the shape {list(samples.shape)}")
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise DataError(f"sample {first:,} is {samples[first]}; a finite number was expected")
    if (loudest := float(np.abs(samples).max())) > LOUDEST:
        raise DataError(
            f"a sample is {loudest:.3g}; sound between -1 and 1 was expected (whole numbers up to {LOUDEST:.0e} are taken)"
        )
    if audio.rate == rate:
        return samples
    import soxr

    return np.asarray(soxr.resample(samples, audio.rate, rate), np.float32)


def write_audio(path: Path, samples: NDArray[np.floating], rate: int) -> None:
    """Write samples in [-1, 1] as a wav of 16 bits, for a dataset's own sample; what lies beyond is cut."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.clip(-1, 1), rate, subtype="PCM_16")


def require_whole(path: Path) -> WavHead | None:
    """The head of a wav file; None for other formats. Raises DataError if the file holds less than its head promises."""
    head = wav_head(path)
    if head is not None and head.promised is not None and head.promised > head.there:
        raise DataError(
            f"{path}: cut short: its header promises {head.promised:,} bytes of sound and the file holds {head.there:,}; copy it again"
        )
    return head
