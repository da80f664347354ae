"""What the head of a file says of how long it lasts, without decoding it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..api.dataset import Header
from ..api.errors import DataError
from .clock import beginning, has_times
from .film import count_pictures, opened, pictures_of, quarter_turns, sound_of
from .length import followed_samples
from .sound import opened_sound


def sound_header(path: Path) -> Header:
    """Length and rate of a sound file. Raises DataError if it is missing, empty, no sound, or shorter than its header promises."""
    with opened_sound(path) as file:
        frames, rate = followed_samples(path) if file.format in ("MP3", "MPEG") else None, float(file.samplerate)
        frames = file.frames if frames is None else frames
    if frames <= 0:
        raise DataError(f"{path}: a sound file was expected, and it holds no samples")
    return Header(frames / rate, rate)


def film_header(path: Path, sound: bool = False) -> Header:
    """Length, rate and size of a film's pictures, or length and rate of its sound. Raises DataError as `read_film` and `read_sound` do."""
    with opened(path) as film:
        stream = sound_of(path, film) if sound else pictures_of(path, film)
        length = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        late = float(stream.start_time * stream.time_base) - beginning(film) if stream.start_time and has_times(film) else 0.0
        seconds = max(0.0, late) + float(length) if length is not None else film.duration / 1e6 if film.duration else None
        rate = float((stream.rate if sound else stream.average_rate) or 0) or None
        if sound:
            return Header(seconds, rate)
        shape = (stream.height, stream.width)
        return Header(seconds, rate, shape[::-1] if quarter_turns(path, film, stream) % 2 else shape)


def film_length(path: Path) -> float | None:
    """Seconds that a video file's pictures last by its head; None where it does not say, or PyAV is not installed."""
    return None if find_spec("av") is None else film_header(path).seconds


def folder_header(folder: Path, rate: float) -> Header:
    """Length of a folder of numbered pictures, shown at `rate` a second. Raises DataError if it is missing or holds none."""
    count = count_pictures(folder)
    if not count:
        raise DataError(f"{folder}: holds no pictures; a folder of numbered pictures was expected")
    return Header(count / rate, rate)


def has_sound(path: Path) -> bool:
    """Whether a film has sound. Raises DataError if it cannot be opened, or PyAV is not installed."""
    with opened(path) as film:
        return bool(film.streams.audio)
