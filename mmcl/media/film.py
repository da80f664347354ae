"""Films: video files (PyAV) and folders of numbered pictures, their frames and their sound, read whole or refused; and small ones, written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Audio, Pictures, Video
from .clock import OFF, beginning, frame_times, has_times, is_even, require_dense, seconds_of, shown_at, usual_rate
from .files import require_file, require_room
from .frames import LongFilm
from .length import missing_bytes
from .sound import BLOCK, LONG, LongAudio, joined

PICTURES = (".jpg", ".jpeg", ".png")
"""Endings of the pictures that a folder may hold in place of a video file."""

FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
"""Usual endings of video files."""

COMPRESSED_SOUNDS = (".m4a", ".aac", ".wma")
"""Endings of files of sound alone that `read_sound` reads as it does a film's."""

BARE = ("m4v", "mpegvideo", "h264", "hevc", "av1", "obu", "mp3", "aac", "ac3", "eac3", "h263", "mjpeg", "dts")
"""Formats without a head, as FFmpeg names them: what it takes a film for whose own head is broken. Their times are made up."""

LONG_FILM = 64 * 2**20
"""Bytes of frames beyond which `open_film` keeps a film in its file."""

COVERS = 0x400 | 0x800 | 0x100000
"""FFmpeg's marks of a stream that is one picture, a row of thumbnails, or a still."""

_Kept = tuple[list[NDArray[np.uint8]], int]
"""Frames of a part of a film, and how many frames of the film are known of, by the number of the last one seen."""


def read_film(path: Path, size: tuple[int, int], rate: float, start: float | None = None, end: float | None = None) -> Video:
    """Every frame of a film in colour, uint8 [T, 3, height, width], resized to `size` (height, width) while it is decoded.

    rate        frames per second of a folder of pictures, which cannot say it; a video file tells its own. Where its frames are shown at
                uneven times, or begin later than its sound, the frame at k / rate is the one that is shown then
    start, end  seconds of the part that is wanted, by the frames' numbers: those from round(start · rate) to before round(end · rate),
                one at least. A video file is decoded from the keyframe before it alone, where the file's own times tell the frames'
                numbers; else from the beginning. What comes after is not decoded, so damage there is not noticed

    Raises DataError if the film is missing, damaged, cut short or without pictures, if more than a tenth of a part lies after its end,
    or if a video file is to be read and PyAV is not installed.
    """
    if start is not None or end is not None:
        return _part(path, size, rate, start or 0.0, end)
    if path.is_dir():
        return Video(_pictures(path, size)[0], rate)
    from_file = rate
    frames: list[NDArray[np.uint8]] = []
    with opened(path) as film:
        stream = _pictures_of(path, film)
        from_file = float(stream.average_rate or 0)
        promised = stream.frames
        length = (film.duration or 0) / 1_000_000
        require_room(path, length, round(max(promised, length * from_file)) * 3 * size[0] * size[1], "pictures")
        stamps = []
        for frame in _decoded(path, film, stream):
            frames.append(_channels_first(frame, size))
            stamps.append(frame.pts)
        times = seconds_of(stamps, stream, beginning(film)) if has_times(film) else None
    if not frames:
        raise DataError(f"{path}: a video was expected, and not one of its frames can be decoded")
    # Films cut without a new encoding may hide a few frames before their beginning; more than a tenth is damage.
    if len(frames) < 0.9 * promised:
        raise DataError(f"{path}: cut short: {promised} frames were expected and {len(frames)} could be decoded; copy it again")
    if from_file <= 0:
        raise DataError(f"{path}: does not say how many frames a second it has")
    if times is not None and not is_even(times, from_file):
        from_file = usual_rate(times)
        require_dense(path, times, from_file)
        frames = [frames[i] for i in shown_at(times, from_file, 0, None)]
    return Video(np.ascontiguousarray(np.stack(frames)), from_file)


def film_frames(path: Path, rate: float) -> Iterator[NDArray[np.uint8]]:
    """The frames that are shown at k / rate, for k = 0, 1, …, uint8 [height, width, 3] in the film's own size; one in memory at a time.

    rate  a second; of a folder of pictures: that at which they are shown, each of them once

    Raises DataError as `read_film` does, at the end too.
    """
    if path.is_dir():
        for picture in _numbered(path):
            yield _opened_picture(picture, None)
        return
    own, uneven = _clock(path)
    if uneven is not None:
        numbers: Iterator[int] = iter(shown_at(uneven, rate, 0, int(uneven[-1] * rate + OFF / 2) + 1))
    else:
        numbers = count() if abs(own / rate - 1) < 0.02 else (int(step * own / rate + OFF / 2) for step in count())
    yield from _by_number(path, numbers, None)


def open_film(path: Path, size: tuple[int, int], rate: float) -> Video:
    """What `read_film` reads of a whole film, decoded while it is used where it is long: memory does not grow with its length.

    Damage behind the head of a long film is only noticed by who reads so far, with the DataError that `read_film` raises.
    """
    if path.is_dir():
        numbered = _numbered(path)
        if len(numbered) * 3 * size[0] * size[1] <= LONG_FILM:
            return read_film(path, size, rate)
        return LongFilm(path, partial(_pictures_in_turn, numbered, size), rate, (3, *size), len(numbered))
    with opened(path) as film:
        stream = _pictures_of(path, film)
        frames = max(stream.frames, round((film.duration or 0) / 1_000_000 * float(stream.average_rate or 0)))
    if frames * 3 * size[0] * size[1] <= LONG_FILM:
        return read_film(path, size, rate)
    own, uneven = _clock(path)
    return LongFilm(path, partial(_in_turn, path, size, own, uneven), own, (3, *size), frames)


def _pictures_in_turn(numbered: list[Path], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Pictures of a folder, the channels first."""
    for picture in numbered:
        yield _opened_picture(picture, size).transpose(2, 0, 1)


def _in_turn(path: Path, size: tuple[int, int], rate: float, uneven: NDArray[np.float64] | None) -> Iterator[NDArray[np.uint8]]:
    """Frames of a film as `read_film` gives them, the channels first."""
    numbers: Iterator[int] = count() if uneven is None else iter(shown_at(uneven, rate, 0, None))
    for frame in _by_number(path, numbers, size):
        yield frame.transpose(2, 0, 1)


def _clock(path: Path) -> tuple[float, NDArray[np.float64] | None]:
    """Frames a second of a film, and the times of its frames where they are shown at uneven ones; nothing is decoded."""
    with opened(path) as film:
        stream = _pictures_of(path, film)
        own = float(stream.average_rate or 0)
        times = frame_times(film, stream)
    if own <= 0:
        raise DataError(f"{path}: does not say how many frames a second it has")
    if times is None or is_even(times, own):
        return own, None
    require_dense(path, times, usual_rate(times))
    return usual_rate(times), times


def _by_number(path: Path, numbers: Iterator[int], size: tuple[int, int] | None) -> Iterator[NDArray[np.uint8]]:
    """The frames of a film with these numbers, which rise, uint8 [height, width, 3]. Raises DataError as `read_film` does, at the end too."""
    seen, wanted = 0, next(numbers, None)
    with opened(path) as film:
        stream = _pictures_of(path, film)
        promised = stream.frames
        for frame in _decoded(path, film, stream):
            while wanted == seen:
                yield _small(frame, size)
                wanted = next(numbers, None)
            seen += 1
    if not seen:
        raise DataError(f"{path}: a video was expected, and not one of its frames can be decoded")
    if seen < 0.9 * promised:
        raise DataError(f"{path}: cut short: {promised} frames were expected and {seen} could be decoded; copy it again")


def read_sound(path: Path) -> Audio:
    """The sound of a video file at its own rate, float32 in [-1, 1], its channels mixed to their mean.

    Sound that begins later than the file's pictures begins with silence, so that both have one time.

    Raises DataError if the file is missing, damaged, cut short or without sound, or if PyAV is not installed.
    """
    rate, length = _sound_head(path)
    require_room(path, length, round(length * rate) * 4, "sound")
    return Audio(joined(_sound_of(path)), rate)


def open_sound(path: Path) -> Audio:
    """The same sound, decoded while it is used where it is long, as `open_audio` does with sound files."""
    rate, length = _sound_head(path)
    return read_sound(path) if length * rate <= LONG else LongAudio(partial(_sound_of, path), rate)


def _sound_head(path: Path) -> tuple[int, float]:
    """Samples a second of a file's sound, and how many seconds it lasts by its head."""
    with opened(path) as film:
        stream = sound_of(path, film)
        return int(stream.rate or 0), max(_promised(stream), (film.duration or 0) / 1_000_000)


def _promised(stream: Any) -> float:
    """Seconds that a stream lasts by its head; 0 where it does not say."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


def _sound_of(path: Path) -> Iterator[NDArray[np.float32]]:
    """The sound of a video file, mixed to one channel, a block at a time. Raises DataError as `read_sound` does, at the end too."""
    import av

    read, late = 0, 0.0
    with opened(path) as film:
        stream = sound_of(path, film)
        to_float = av.AudioResampler(format="fltp")
        promised, rate = _promised(stream), int(stream.rate or 0)
        lasts = film.duration / 1_000_000 if film.duration else None  # of the container, in microseconds
        pieces: list[NDArray[np.float32]] = []
        frames = _decoded(path, film, stream)
        while True:
            frame = next(frames, None)
            if frame is not None and not read and not pieces:
                late = 0.0 if frame.time is None else max(0.0, float(frame.time) - beginning(film))
                if lasts is not None and late > lasts + 1:
                    raise DataError(
                        f"{path}: its sound begins after {late:.0f} s, and the file lasts {lasts:.0f} s; copy it again"
                    )
                pieces += [np.zeros(min(BLOCK, n), np.float32) for n in range(round(late * rate), 0, -BLOCK)]
            if frame is not None or read or pieces:
                pieces += [piece.to_ndarray().mean(axis=0, dtype=np.float32) for piece in to_float.resample(frame)]
            if pieces and (frame is None or sum(map(len, pieces)) >= BLOCK):
                yield (block := _in_range(path, joined(pieces)))
                read, pieces = read + len(block), []
            if frame is None:
                break
    if not read:
        raise DataError(f"{path}: sound was expected, and none of it can be decoded")
    if (decoded := read / rate - late) < 0.9 * promised:
        raise DataError(
            f"{path}: cut short: {promised:.2f} s of sound were expected and {decoded:.2f} s could be decoded; copy it again"
        )


def _in_range(path: Path, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples within [-1, 1]; what AAC decodes to may overshoot a little. Raises DataError if they are no finite numbers."""
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: its sound is NaN or infinite in places; finite samples were expected")
    return np.clip(samples, -1, 1, out=samples)


def write_film(path: Path, frames: NDArray[np.uint8], rate: Fraction | int, sound: Audio | None = None) -> bool:
    """Write frames uint8 [T, height, width, 3], with or without sound, as MPEG-4 in the kind of file that the ending asks for (mp4, avi).

    Equal input gives equal bytes. Without PyAV: a folder of numbered pictures of the same name without its ending, and no
    sound; returns whether it is a film.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import av
    except ImportError:
        from PIL import Image

        folder = path.with_suffix("")
        folder.mkdir()
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"{i + 1:06d}.png")
        return False
    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=rate)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.options = {"qscale": "2", "flags": "+bitexact"}
        voice = None if sound is None else film.add_stream("aac", rate=sound.rate, layout="mono")
        for frame in frames:
            film.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(video.encode(None))
        if voice is not None and sound is not None:
            wave = av.AudioFrame.from_ndarray(sound.samples[None].astype(np.float32), format="fltp", layout="mono")
            wave.rate, wave.pts, wave.time_base = sound.rate, 0, Fraction(1, sound.rate)  # else AAC's own delay is left in
            film.mux(voice.encode(wave))
            film.mux(voice.encode(None))
    return True


def has_pictures(folder: Path) -> bool:
    """Whether a folder holds numbered pictures."""
    return any(_is_picture(path) for path in folder.iterdir())


def count_pictures(folder: Path) -> int:
    """How many pictures a folder holds; 0 where there is no such folder."""
    return sum(_is_picture(path) for path in folder.iterdir()) if folder.is_dir() else 0


def _part(path: Path, size: tuple[int, int], rate: float, start: float, end: float | None) -> Video:
    """The frames of a film between two times."""

    def numbers(rate: float) -> tuple[int, int | None]:
        first = round(start * rate)
        return first, None if end is None else max(first + 1, round(end * rate))

    if path.is_dir():
        first, last = numbers(rate)
        frames, seen = _pictures(path, size, slice(first, last))
    else:
        with opened(path) as film:
            stream = _pictures_of(path, film)
            rate = float(stream.average_rate or 0)
            if rate <= 0:
                raise DataError(f"{path}: does not say how many frames a second it has")
            first, last = numbers(rate)
            part = _sought(path, film, stream, first, last, size)
        if part is None:
            with opened(path) as film:
                times = frame_times(film, _pictures_of(path, film))
            if times is None or is_even(times, rate):
                with opened(path) as film:
                    part = _counted(path, film, _pictures_of(path, film), first, last, size)
            else:
                rate = usual_rate(times)
                require_dense(path, times, rate)
                first, last = numbers(rate)
                part = _timed(path, times, rate, first, last, size)
        kept, seen = part
        frames = np.stack(kept) if kept else np.zeros((0, 3, *size), np.uint8)
    wanted = 1 if last is None else last - first
    if len(frames) < 0.9 * wanted:  # a film may end a moment early; more is another film, or a part of one
        raise DataError(
            f"{path}: ends after {seen / rate:.2f} s, and the part from {start:.2f} s to {'its end' if end is None else f'{end:.2f} s'} "
            "was to be read; copy the film again"
        )
    return Video(np.ascontiguousarray(frames), rate)


def _counted(path: Path, film: Any, stream: Any, first: int, last: int | None, size: tuple[int, int]) -> _Kept:
    """Frames by their number, counted from the beginning."""
    kept, seen = [], 0
    for frame in _decoded(path, film, stream):
        if last is not None and seen >= last:
            break
        if seen >= first:
            kept.append(_channels_first(frame, size))
        seen += 1
    return kept, seen


def _timed(path: Path, times: NDArray[np.float64], rate: float, first: int, last: int | None, size: tuple[int, int]) -> _Kept:
    """Frames by their own times: those that are shown at each step of the part."""
    wanted = shown_at(times, rate, first, last)
    seen = round(times[-1] * rate) + 1
    if not len(wanted):
        return [], seen
    with opened(path) as film:
        kept, _ = _counted(path, film, _pictures_of(path, film), int(wanted[0]), int(wanted[-1]) + 1, size)
    return [kept[i - wanted[0]] for i in wanted if i - wanted[0] < len(kept)], seen


def _sought(path: Path, film: Any, stream: Any, first: int, last: int | None, size: tuple[int, int]) -> _Kept | None:
    """Frames by their number, from the keyframe before them; None where the film's times do not tell numbers for certain.

    They do where the film says how many frames it has, and their times are that many even steps.
    """
    rate, base = stream.average_rate, stream.time_base
    if not stream.frames or not base or stream.base_rate != rate:
        return None
    begin = next(_decoded(path, film, stream), None)
    if begin is None or begin.pts is None:
        return None
    if has_times(film) and abs(float(begin.pts * base) - beginning(film)) * float(rate) > OFF:
        return None  # the pictures begin later than the file
    wanted, step = min(first, stream.frames - 1), 1
    while True:
        film.seek(begin.pts + int(wanted / (rate * base)), stream=stream)
        kept: list[NDArray[np.uint8]] = []
        seen: int | None = None  # the number of the frame before; None before a keyframe
        for frame in _decoded(path, film, stream):
            if seen is None and not frame.key_frame:
                continue  # frames before a keyframe, which may need others that were not decoded
            at = None if frame.pts is None else (frame.pts - begin.pts) * base * rate
            number = None if at is None else round(at)
            if at is None or number is None or at != number:
                return None
            if seen is None and number > first:
                break  # the keyframe comes too late: begin further before it
            if seen is not None and number != seen + 1:
                return None
            if last is not None and number >= last:
                return kept, number
            seen = number
            if number >= first:
                kept.append(_channels_first(frame, size))
        if seen is not None:
            return kept, seen + 1
        if wanted == 0:
            return None
        wanted, step = max(0, wanted - step), 4 * step


def moving(film: Any) -> list[Any]:
    """The streams of pictures of an opened file, without the covers that sounds and films carry."""
    return [one for one in film.streams.video if not one.disposition.value & COVERS]


def sound_of(path: Path, film: Any) -> Any:
    """The stream of sound of an opened file, the first of several. Raises DataError if it has none, or one that nothing here decodes."""
    if not film.streams.audio:
        raise DataError(f"{path}: has no sound")
    return _known(path, film.streams.audio[0], "sound")


def _known(path: Path, stream: Any, what: str) -> Any:
    """A stream, if FFmpeg knows the form that it is in; of others it does not say a thing."""
    if stream.codec_context is None:
        raise DataError(
            f"{path}: its {what} {'is' if what == 'sound' else 'are'} in a form that FFmpeg does not know; copy it again"
        )
    return stream


def turned(frame: Any) -> int:
    """Quarter turns against the clock by which a frame is shown: a telephone that is held upright films lying frames and says so."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def quarter_turns(path: Path, film: Any, stream: Any) -> int:
    """`turned` of the first frame of an opened file, which alone says it; 0 where none can be decoded."""
    first = next(_decoded(path, film, stream), None)
    return 0 if first is None else turned(first)


def pictures_of(path: Path, film: Any) -> Any:
    """The stream of pictures, the first of several. Raises DataError if there is none, or one that nothing here decodes."""
    streams = moving(film)
    if not streams:
        raise DataError(f"{path}: a video was expected, and it has no pictures")
    return _known(path, streams[0], "pictures")


def _pictures_of(path: Path, film: Any) -> Any:
    """The same, decoded by as many threads as there are cores."""
    stream = pictures_of(path, film)
    stream.thread_type = "AUTO"
    return stream


def _small(frame: Any, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A frame in colour, upright, resized unless `size` is None, [height, width, 3]."""
    turns = turned(frame)
    if size is None:
        pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    else:
        height, width = size if turns % 2 == 0 else size[::-1]
        pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _channels_first(frame: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame as `_small` gives it, the channels first."""
    return _small(frame, size).transpose(2, 0, 1)


def _decoded(path: Path, film: Any, stream: Any) -> Iterator[Any]:
    """The frames of one stream. Raises DataError at a packet of which only a part is there."""
    for packet in film.demux(stream):
        if packet.is_corrupt:
            raise DataError(f"{path}: cut short: a part of its stream is missing; copy it again")
        yield from packet.decode()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def _numbered(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of the last number in their names."""
    numbered: dict[int, Path] = {}
    for path in sorted(path for path in folder.iterdir() if _is_picture(path)):
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise DataError(f"{path}: has no number in its name; pictures of a film are numbered in their order")
        if (number := int(numbers[-1])) in numbered:
            raise DataError(
                f"{path}: has the number {number}, and so has {numbered[number].name}; a film's pictures stand in one row"
            )
        numbered[number] = path
    if not numbered:
        raise DataError(f"{folder}: holds no pictures ({', '.join(PICTURES)} were expected)")
    gaps = sorted(set(range(min(numbered), max(numbered) + 1)) - set(numbered))
    if gaps:
        raise DataError(
            f"{folder}: picture {gaps[0]} is missing between {min(numbered)} and {max(numbered)}; copy the folder again"
        )
    return [path for _, path in sorted(numbered.items())]


def _pictures(folder: Path, size: tuple[int, int], part: slice = slice(None)) -> tuple[NDArray[np.uint8], int]:
    """The pictures of a folder, [T, 3, height, width], and how many it holds."""
    numbered = _numbered(folder)
    frames = [_opened_picture(path, size).transpose(2, 0, 1) for path in numbered[part]]
    return np.ascontiguousarray(np.stack(frames)) if frames else np.zeros((0, 3, *size), np.uint8), len(numbered)


def read_pictures(path: Path, size: tuple[int, int]) -> Pictures:
    """A picture, or all pictures of a folder in the order of their names, in colour, uint8 [n, 3, height, width], resized to `size`.

    Raises DataError if there is none, or one of them cannot be decoded.
    """
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if _is_picture(one))
        if not files:
            raise DataError(f"{path}: holds no pictures ({', '.join(PICTURES)} were expected)")
    else:
        require_file(path, "a picture")
        files = [path]
    require_room(path, 0.0, len(files) * 3 * size[0] * size[1], "pictures")
    return Pictures(joined(_opened_picture(one, size).transpose(2, 0, 1)[None] for one in files))


def _opened_picture(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A picture in colour, uint8 [height, width, 3], resized unless `size` is None."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            colour = picture.convert("RGB")
            if size is not None:
                colour = colour.resize((size[1], size[0]), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: a picture was expected, and it cannot be decoded; copy it again") from error
    return np.asarray(colour, np.uint8)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A video file, open. Whatever stops the decoding inside is a DataError of one sentence."""
    require_file(path, "a video file")
    if (missing := missing_bytes(path)) > 0:
        raise DataError(f"{path}: cut short: {missing:,} bytes of the video file are missing; copy it again")
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"{path}: reading video files needs PyAV, which is not installed: pip install 'mmcl[video]' (or unpack it to a folder of pictures)"
        ) from error
    try:
        with av.open(str(path), metadata_errors="replace") as film:  # titles and the like are in any encoding
            if path.suffix.lower() in FILMS and str(film.format.name) in BARE:
                raise DataError(
                    f"{path}: its head is broken: what is left looks like a bare stream ({film.format.name}); copy it again"
                )
            yield film
    except av.FFmpegError as error:
        reason = str(error.strerror or type(error).__name__).strip().rstrip(".")
        raise DataError(f"{path}: a video file was expected, and it is damaged or cut short ({reason})") from error
