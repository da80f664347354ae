"""Films and sounds as recorders, telephones and converters leave them, made here: what each says is read, or it is refused by name."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from mmcl.api import Audio, DataError
from mmcl.media import (
    SOUNDS,
    files,
    film_header,
    has_sound,
    open_sound,
    read_audio,
    read_film,
    read_sound,
    sound_header,
    write_audio,
    write_film,
)
from mmcl.media.film import film_frames

av = pytest.importorskip("av", reason="films need pip install 'mmcl[video]'")

RATE = 10
HEIGHT, WIDTH = 32, 48
ONE = 1 << 16
MATRICES = {  # what a telephone writes into `tkhd`: x' = a·x + c·y + tx, y' = b·x + d·y + ty → how an upright picture comes about
    "lying": ((ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), lambda picture: picture),
    "clockwise": ((0, ONE, 0, -ONE, 0, 0, HEIGHT * ONE, 0, 1 << 30), lambda picture: picture[::-1].transpose(1, 0, 2)),
    "upside down": ((-ONE, 0, 0, 0, -ONE, 0, WIDTH * ONE, HEIGHT * ONE, 1 << 30), lambda picture: picture[::-1, ::-1]),
    "against the clock": ((0, -ONE, 0, ONE, 0, 0, 0, WIDTH * ONE, 1 << 30), lambda picture: picture.transpose(1, 0, 2)[::-1]),
}


def pictures(count: int = 12) -> np.ndarray:
    """Frames with a bright corner, and a bar that moves."""
    frames = np.full((count, HEIGHT, WIDTH, 3), 30, np.uint8)
    frames[:, :12, :16] = (220, 120, 60)
    for k in range(count):
        frames[k, 20:28, 3 * k : 3 * k + 8] = 240
    return frames


def tone(seconds: float = 1.2, from_second: float = 0.6, rate: int = 16_000) -> Audio:
    """Silence, then a tone."""
    at = np.arange(round(seconds * rate)) / rate
    return Audio((0.4 * np.sin(2 * np.pi * 440 * at) * (at >= from_second)).astype(np.float32), rate)


def onset(sound: Audio) -> float:
    return float(np.flatnonzero(np.abs(sound.samples) > 0.1)[0] / sound.rate)


@pytest.mark.parametrize("how", MATRICES)
def test_a_film_that_is_turned_is_read_as_a_player_shows_it(tmp_path, how):
    matrix, upright = MATRICES[how]
    path = tmp_path / "a.mp4"
    write_film(path, pictures(), RATE)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    expected = np.stack([upright(frame) for frame in pictures()]).astype(int)
    height, width = expected.shape[1:3]
    assert film_header(path).shape == (height, width)
    whole = read_film(path, (height, width), 0.0).frames.transpose(0, 2, 3, 1)
    part = read_film(path, (height, width), 0.0, 0.4, 0.8).frames.transpose(0, 2, 3, 1)
    for got, wanted in ((whole, expected), (part, expected[4:8]), (np.stack(list(film_frames(path, RATE))), expected)):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).mean() < 8  # MPEG-4 loses some


def test_frames_one_by_one_are_those_of_the_whole_film_at_any_rate(tmp_path):
    path = tmp_path / "a.mp4"
    write_film(path, pictures(), RATE)
    whole = read_film(path, (HEIGHT, WIDTH), 0.0).frames.transpose(0, 2, 3, 1)
    for rate in (2, 5, 10, 20):
        got = np.stack(list(film_frames(path, rate)))
        assert len(got) == math.ceil(1.2 * rate)  # one for each k / rate before its end
        assert (got == whole[[int(k * RATE / rate + 0.25) for k in range(len(got))]]).all()


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_that_are_sent_out_of_order_are_read_in_the_order_of_their_times(tmp_path, codec):
    """B-frames come after the frames that they lie between; a grey that rises with time says which frame is which."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as film:
        video = film.add_stream(codec, rate=RATE, options={"sc_threshold": "0"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size, video.codec_context.max_b_frames = 24, 3
        video.bit_rate = 4_000_000
        for k in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 20 + 9 * k, np.uint8), format="rgb24")
            frame.pts = k
            film.mux(video.encode(frame))
        film.mux(video.encode())
    with av.open(str(path)) as film:
        sent = [packet.pts for packet in film.demux(video=0) if packet.pts is not None]
    assert sent != sorted(sent)
    whole = read_film(path, (HEIGHT, WIDTH), 0.0)
    assert whole.rate == RATE
    shown = [20 + 9 * k for k in range(24)]
    assert np.abs(whole.frames.mean((1, 2, 3)) - shown).max() < 4.5  # less than half the way to the next
    part = read_film(path, (HEIGHT, WIDTH), 0.0, 0.7, 1.3)
    assert np.abs(part.frames.mean((1, 2, 3)) - shown[7:13]).max() < 4.5


def test_sound_of_a_film_begins_when_its_pictures_do(tmp_path):
    """What the encoder puts before the first sample is no sound."""
    write_film(tmp_path / "a.mp4", pictures(), RATE, tone())
    assert onset(read_sound(tmp_path / "a.mp4")) == pytest.approx(0.6, abs=0.005)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "mp3"), ("a.m4a", "aac"), ("a.ogg", "libopus"), ("a.opus", "libopus"), ("a.flac", "flac"), ("a.mkv", "libopus")],
)
def test_a_sound_of_any_kind_keeps_its_length_and_its_time(tmp_path, name, codec):
    path, sound = tmp_path / name, tone(rate=48_000)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=sound.rate, layout="mono")
        wave = av.AudioFrame.from_ndarray(sound.samples[None], format="fltp", layout="mono")
        wave.rate, wave.pts, wave.time_base = sound.rate, 0, Fraction(1, sound.rate)
        for piece in av.AudioResampler(format=stream.format.name).resample(wave):
            file.mux(stream.encode(piece))
        file.mux(stream.encode())
    alone = path.suffix in SOUNDS
    got = read_audio(path) if alone else read_sound(path)
    head = sound_header(path) if alone else film_header(path, sound=True)
    assert got.rate == head.rate == sound.rate
    assert len(got.samples) / got.rate == pytest.approx(1.2, abs=0.03)
    assert head.seconds == pytest.approx(1.2, abs=0.03)
    assert onset(got) == pytest.approx(0.6, abs=0.005)


def test_of_several_streams_the_first_is_read_and_a_cover_is_no_film(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        shades, loud = (60, 200), (0.2, 0.8)
        videos = [file.add_stream("mpeg4", rate=RATE) for _ in shades]
        voices = [file.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in loud]
        for video in videos:
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(8):
            for video, shade in zip(videos, shades, strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), shade, np.uint8), format="rgb24")
                frame.pts = k
                file.mux(video.encode(frame))
        for voice, level in zip(voices, loud, strict=True):
            wave = av.AudioFrame.from_ndarray(np.full((1, 6400), round(level * 32767), np.int16), format="s16", layout="mono")
            wave.rate, wave.pts, wave.time_base = 8000, 0, Fraction(1, 8000)
            file.mux(voice.encode(wave))
        for stream in (*videos, *voices):
            file.mux(stream.encode())
    assert read_film(path, (8, 8), 0.0).frames.mean() == pytest.approx(60, abs=4)
    assert read_sound(path).samples.mean() == pytest.approx(0.2, abs=0.01)
    assert has_sound(path)


def test_a_song_with_a_cover_has_sound_and_no_pictures(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as file:
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = type(cover.disposition).attached_pic
        voice = file.add_stream("aac", rate=16_000, layout="mono")
        frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")
        frame.pts = 0
        file.mux(cover.encode(frame))
        wave = av.AudioFrame.from_ndarray(tone().samples[None], format="fltp", layout="mono")
        wave.rate, wave.pts, wave.time_base = 16_000, 0, Fraction(1, 16_000)
        file.mux(voice.encode(wave))
        file.mux(voice.encode())
        file.mux(cover.encode())
    assert onset(read_sound(path)) == pytest.approx(0.6, abs=0.005)
    for read in (lambda: read_film(path, (8, 8), 0.0), lambda: film_header(path), lambda: list(film_frames(path, RATE))):
        with pytest.raises(DataError, match=r"a\.m4a: .*no pictures"):
            read()


def test_a_film_without_sound_says_so(tmp_path):
    write_film(tmp_path / "a.mp4", pictures(), RATE)
    assert not has_sound(tmp_path / "a.mp4")
    for read in (lambda: read_sound(tmp_path / "a.mp4"), lambda: film_header(tmp_path / "a.mp4", sound=True)):
        with pytest.raises(DataError, match=r"a\.mp4: has no sound"):
            read()


@pytest.mark.parametrize(("what", "words"), [("sound", "sound is"), ("pictures", "pictures are")])
def test_a_stream_whose_form_nobody_knows_is_refused_and_the_other_is_read(tmp_path, what, words):
    path = tmp_path / "a.avi"
    write_film(path, pictures(), RATE, tone())
    content = bytearray(path.read_bytes().replace(b"FMP4", b"zzzz" if what == "pictures" else b"FMP4"))
    if what == "sound":
        form = content.index(b"strf", content.index(b"auds")) + 8
        content[form : form + 2] = b"\xab\xcd"
    path.write_bytes(content)
    sounds = [lambda: read_sound(path), lambda: film_header(path, sound=True)]
    seen = [lambda: read_film(path, (8, 8), 0.0), lambda: film_header(path), lambda: list(film_frames(path, RATE))]
    for read in sounds if what == "sound" else seen:
        with pytest.raises(DataError, match=rf"a\.avi: its {words} in a form that FFmpeg does not know"):
            read()
    for read in seen if what == "sound" else sounds:
        read()


@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_a_title_in_any_encoding_is_no_damage(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as film:
        film.metadata["title"] = "Caf# am Wall"
        stream = film.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in pictures():
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode(None))
    content = path.read_bytes()
    assert content.count(b"Caf# am") == 1
    path.write_bytes(content.replace(b"Caf#", b"Caf\xe9"))
    assert len(read_film(path, (8, 8), 0.0).frames) == 12


DAMAGES = {
    "nothing in it": lambda whole: b"",
    "a text": lambda whole: b"id,film\na,b.mp4\n" * 40,
    "its first bytes are gone": lambda whole: b"\0" * 64 + whole[64:],
    "its table is gone": lambda whole: whole.replace(b"moov", b"void"),
    "cut in the middle": lambda whole: whole[: len(whole) * 2 // 3],
    "cut before its end": lambda whole: whole[:-30],
    "a page of the web": lambda whole: b"<!DOCTYPE html><html><head><title>404</title></head></html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_a_damaged_film_is_refused_in_one_sentence_however_it_is_asked(tmp_path, damage, ending):
    path = tmp_path / f"a.{ending}"
    write_film(path, pictures(), RATE, tone())
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    reads = (
        lambda: read_film(path, (8, 8), 0.0),
        lambda: read_film(path, (8, 8), 0.0, 0.2, 0.5),
        lambda: list(film_frames(path, RATE)),
        lambda: read_sound(path),
        lambda: film_header(path),
        lambda: film_header(path, sound=True),
        lambda: has_sound(path),
    )
    for read in reads:
        with pytest.raises(DataError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_sound_of_a_long_film_is_decoded_while_it_is_used(tmp_path, monkeypatch):
    write_film(tmp_path / "a.mp4", pictures(), RATE, tone())
    whole = read_sound(tmp_path / "a.mp4")
    monkeypatch.setattr("mmcl.media.film.LONG", 4000)
    monkeypatch.setattr("mmcl.media.film.BLOCK", 3000)
    long = open_sound(tmp_path / "a.mp4")
    blocks = list(long.blocks())
    assert len(blocks) > 2
    assert np.array_equal(np.concatenate(blocks), whole.samples)
    assert long.rate == whole.rate


def test_what_memory_cannot_hold_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    write_film(tmp_path / "a.mp4", pictures(), RATE, tone())
    write_audio(tmp_path / "a.wav", tone().samples, 16_000)
    monkeypatch.setattr(files, "memory", lambda: 20_000)
    with pytest.raises(DataError, match=r"a\.mp4: its 0\.0 h of sound take 0\.0 GB .* shorter recordings$"):
        read_sound(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"a\.wav: its .* shorter recordings$"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"a\.mp4: its .* of pictures .* a smaller size$"):
        read_film(tmp_path / "a.mp4", (HEIGHT, WIDTH), 0.0)
    assert len(read_film(tmp_path / "a.mp4", (HEIGHT, WIDTH), 0.0, 0.2, 0.4).frames) == 2  # a part fits
    assert read_film(tmp_path / "a.mp4", (8, 8), 0.0).frames.shape == (12, 3, 8, 8)


HOURS = 8
LONG = """
import itertools, resource, sys
from pathlib import Path
from mmcl.media import film_header, open_sound, read_film, read_sound
from mmcl.media.film import film_frames
import av, numpy, soundfile
path, task = Path(sys.argv[1]), sys.argv[2]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
if task == "parts":
    assert abs(film_header(path).seconds - 28800) < 2 and abs(film_header(path, sound=True).seconds - 28800) < 2
    for start in (0, 3600, 14400, 28790):
        part = read_film(path, (16, 16), 0.0, start, start + 5)
        assert part.frames.shape == (5, 3, 16, 16)
        print(int(part.frames.mean()), end=" ")
if task == "frames":
    print(sum(1 for _ in itertools.islice(film_frames(path, 1.0), 3_000)), end=" ")
if task == "sound":
    print(len(read_sound(path).samples), end=" ")
if task == "blocks":
    print(sum(map(len, open_sound(path).blocks())), end=" ")
print(peak() - before)
"""


@pytest.fixture(scope="module")
def eight_hours(tmp_path_factory):
    """A film of a frame a second, each a little brighter until it begins again, and of silence."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    rate, minute = 1000, np.full((1, 60_000), 128, np.uint8)
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=1, options={"g": "60"})
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        voice = file.add_stream("pcm_u8", rate=rate, layout="mono")
        for k in range(HOURS * 3600):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), shade(k), np.uint8), format="rgb24")
            frame.pts = k
            file.mux(video.encode(frame))
            if k % 60 == 0:
                wave = av.AudioFrame.from_ndarray(minute, format="u8", layout="mono")
                wave.rate, wave.pts, wave.time_base = rate, k * rate, Fraction(1, rate)
                file.mux(voice.encode(wave))
        file.mux(video.encode())
        file.mux(voice.encode())
    assert path.stat().st_size < 40e6
    return path


def shade(second: int) -> int:
    return 40 + second // 60 % 180


@pytest.mark.parametrize(
    ("task", "limit"), [("parts", 60e6), ("frames", 60e6), ("blocks", 60e6), ("sound", 2.5 * 4 * 1000 * HOURS * 3600 + 60e6)]
)
def test_eight_hours_of_film_take_no_more_memory_than_what_is_asked_of_them(eight_hours, task, limit):
    done = subprocess.run([sys.executable, "-c", LONG, eight_hours, task], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *answers, peak = map(int, done.stdout.split())
    if task == "parts":
        assert answers == [pytest.approx(shade(second), abs=4) for second in (0, 3600, 14400, 28790)]
    else:
        assert answers == [3_000 if task == "frames" else HOURS * 3600 * 1000]
    assert peak < limit
