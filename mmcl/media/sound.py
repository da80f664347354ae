"""Sound files: read whole or refused, brought to a rate, and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Audio
from .files import require_file, require_room
from .length import followed_samples, missing_bytes
from .wav import WavHead, finished, wav_head

Number = TypeVar("Number", bound=np.generic)
SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""Endings of the sound files that `read_audio` reads."""
BLOCK = 2**20
"""Samples of every channel that are decoded at once."""
LONG = 4 * BLOCK
"""Samples beyond which `open_audio` keeps a sound in its file."""
ENDLESS = 2**62
"""As many samples, and more, a stream promises that nobody finished."""
SLACK = 4 * 1152
"""Samples that decoders leave out at either end of an mp3 file."""
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
        return _whole(path, file, mono)


def _whole(path: Path, file: Any, mono: bool = True) -> Audio:
    """All of an opened sound file, whose errors are those of `read_audio`."""
    promised, rate, channels = file.frames, int(file.samplerate), int(file.channels)
    if promised < ENDLESS:
        require_room(path, promised / rate, promised * channels * 4, "sound")
    if channels > 1 and not mono:
        raise DataError(f"{path}: has {channels} channels; a mono file was expected")
    return Audio(joined(_blocks(path, file)), rate)


def open_audio(path: Path) -> Audio:
    """The same sound, mixed to one channel, decoded while it is used where it is long: memory does not grow with its length.

    Damage behind the head of a long file is only noticed by who reads so far, with the DataError that `read_audio` raises.
    """
    with opened_sound(path) as file:
        if file.frames <= LONG:
            return _whole(path, file)
        return LongAudio(partial(_decoded, path), int(file.samplerate))


class LongAudio(Audio):
    """A sound that is decoded whenever it is used, a block in memory at a time; `samples` are all of them at once.

    decode  begins at the first sample, every time that it is called
    """

    def __init__(self, decode: Callable[[], Iterator[NDArray[np.float32]]], rate: int) -> None:
        vars(self).update(rate=rate, _decode=decode)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `Audio`."""
        blocks: Iterator[NDArray[np.float32]] = vars(self)["_decode"]()
        return blocks

    def __getattr__(self, name: str) -> NDArray[np.float32]:
        if name != "samples":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        samples = vars(self)[name] = joined(self.blocks())
        return samples

    def __repr__(self) -> str:
        return f"LongAudio(rate={self.rate})"

    def __reduce__(self) -> tuple[type[Audio], tuple[NDArray[np.float32], int]]:
        return Audio, (self.samples, self.rate)  # another process gets sound, not a file


def _decoded(path: Path) -> Iterator[NDArray[np.float32]]:
    """The mean of the channels of a sound file, a block at a time. Raises DataError as `read_audio` does, at the end too."""
    with opened_sound(path) as file:
        yield from _blocks(path, file)


def _blocks(path: Path, file: Any) -> Iterator[NDArray[np.float32]]:
    """The same of one that is open, at its beginning."""
    counted = followed_samples(path) if file.format in ("MP3", "MPEG") else None
    promised, read = file.frames if counted is None else 0, 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            first = read + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise DataError(f"{path}: sample {first:,} is NaN or infinite; finite samples were expected")
        read += len(block)
        yield block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if not read:
        raise DataError(f"{path}: a sound file was expected, and it holds no samples")
    if counted is not None and read < counted - SLACK:
        raise DataError(
            f"{path}: its head does not say how long it is, and {read:,} of its {counted:,} samples are decoded; write it again with a head "
            "(ffmpeg -i FILE -c copy NEW.mp3)"
        )
    if read < promised:
        raise DataError(f"{path}: cut short: {promised:,} samples were expected and {read:,} could be decoded; copy it again")


def joined(blocks: Iterable[NDArray[Number]]) -> NDArray[Number]:
    """Blocks of one type in one array, along the first axis; each is forgotten once it is copied, so that they are in memory once."""
    parts = deque(blocks)
    if len(parts) < 2:
        return parts.pop() if parts else np.empty(0, np.float32)
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    at = 0
    while parts:
        part = parts.popleft()
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


@contextmanager
def opened_sound(path: Path) -> Iterator[Any]:
    """A sound file as soundfile opens it, its head finished where it was not. Raises DataError as `read_audio` does, from within too."""
    import soundfile

    require_file(path, "a sound file")
    source = finished(path, require_whole(path))
    try:
        with soundfile.SoundFile(source) as file:
            yield file
    except (soundfile.SoundFileError, OSError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise DataError(f"{path}: a sound file was expected, and it cannot be decoded ({reason})") from error
    finally:
        if not isinstance(source, Path):
            source.close()


def at_rate(audio: Audio, rate: int, longest: float | None = None) -> NDArray[np.float32]:
    """Samples [T] at the wanted rate in Hz. Raises DataError for sound that is empty, of several channels, NaN, infinite or beyond LOUDEST.

    longest  seconds that are kept, from the beginning; the rest is decoded for its damage's sake, and forgotten
    """
    room = None if longest is None else round(longest * rate)
    kept: list[NDArray[np.float32]] = []
    for block in blocks_at_rate(audio, rate):
        if room is not None:
            block = block[:room]
            room -= len(block)
        kept.append(block)
    return joined(kept)


def blocks_at_rate(audio: Audio, rate: int) -> Iterator[NDArray[np.float32]]:
    """What `at_rate` gives, a block at a time, to the bit; none is longer than BLOCK samples of the sound."""
    stream, read = None, 0
    for samples in audio.blocks():
        if samples.ndim != 1:
            raise DataError(f"one channel of sound was expected; the recording's samples have the shape {list(samples.shape)}")
        for start in range(0, len(samples), BLOCK):
            block = np.ascontiguousarray(samples[start : start + BLOCK], np.float32)
            _require_sound(block, read)
            read += len(block)
            if audio.rate == rate:
                yield block
                continue
            if stream is None:
                import soxr

                stream = soxr.ResampleStream(audio.rate, rate, 1, dtype="float32")
            yield np.asarray(stream.resample_chunk(block), np.float32)
    if not read:
        raise DataError("one channel of sound was expected; the recording's samples have the shape [0]")
    if stream is not None:
        yield np.asarray(stream.resample_chunk(np.empty(0, np.float32), last=True), np.float32)


def _require_sound(block: NDArray[np.float32], before: int) -> None:
    """Refuse samples that are none; `before`: how many came before this block."""
    if not np.isfinite(block).all():
        first = int(np.flatnonzero(~np.isfinite(block))[0])
        raise DataError(f"sample {before + first:,} is {block[first]}; a finite number was expected")
    if (loudest := float(np.abs(block).max())) > LOUDEST:
        raise DataError(
            f"a sample is {loudest:.3g}; sound between -1 and 1 was expected (whole numbers up to {LOUDEST:.0e} are taken)"
        )


class Framing:
    """Cuts equally long frames, each around a multiple of `hop` samples, out of sound that comes a block at a time.

    length  samples of a frame
    hop     samples from one frame to the next
    before  how many samples of a frame lie before its place, at most `length`; silence stands before the sound and after it
    most    frames that are given at once: the same ones however the sound is cut into blocks

    There are 1 + n // hop frames of n samples.
    """

    def __init__(self, length: int, hop: int, before: int, most: int) -> None:
        self._length, self._hop, self._most = length, hop, most
        self._samples = np.zeros(before, np.float32)  # from the beginning of the next frame on
        self._skip = 0  # samples before it that are still to come
        self._read, self._given = 0, 0

    def add(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """The next samples [n] → frames [most, length], as often as there are so many."""
        self._read += len(block)
        self._append(block)
        while len(self._samples) >= (self._most - 1) * self._hop + self._length:
            yield self._taken(self._most)

    def end(self) -> Iterator[NDArray[np.float32]]:
        """After the last samples: the frames that are left, [at most `most`, length]."""
        left = 1 + self._read // self._hop - self._given
        self._append(np.zeros(self._skip + max(0, (left - 1) * self._hop + self._length), np.float32))
        while left:
            count = min(left, self._most)
            yield self._taken(count)
            left -= count

    def over(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """All frames of a sound."""
        for block in blocks:
            yield from self.add(block)
        yield from self.end()

    def _append(self, block: NDArray[np.float32]) -> None:
        self._samples = np.concatenate([self._samples, block[self._skip :]])
        self._skip = max(0, self._skip - len(block))

    def _taken(self, count: int) -> NDArray[np.float32]:
        frames = np.lib.stride_tricks.sliding_window_view(self._samples, self._length)[:: self._hop][:count]
        gone = count * self._hop
        self._skip = max(0, gone - len(self._samples))
        self._samples = self._samples[gone:]
        self._given += count
        return frames


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
    if head is None and (missing := missing_bytes(path)) > 0:
        raise DataError(f"{path}: cut short: {missing:,} bytes of the sound file are missing; copy it again")
    return head
