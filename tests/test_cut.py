"""A file of sound or film that was cut short is refused by name, in every format that is read; a whole one is not."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from mmcl.api import DataError
from mmcl.media import SOUNDS, open_audio, read_audio, read_film, read_sound, sound_header
from mmcl.media.length import followed_samples, missing_bytes

RATE = 16_000
SOUND = (0.2 * np.random.default_rng(0).standard_normal(4 * RATE)).clip(-1, 1).astype(np.float32)
PLAIN = {".wav": {}, ".flac": {}, ".aiff": {}, ".au": {}, ".ogg": {}, ".opus": {"format": "OGG", "subtype": "OPUS"}, ".mp3": {}}
CODED = {
    ".mp4": "mpeg4",
    ".mov": "mpeg4",
    ".avi": "mpeg4",
    ".mkv": "mpeg4",
    ".webm": "libvpx",
    ".mpg": "mpeg2video",
    ".m4a": None,
}


def write(path):
    """Four seconds of noise, and of pictures of noise where it is a film."""
    if path.suffix in PLAIN:
        import soundfile

        soundfile.write(path, SOUND, RATE, **PLAIN[path.suffix])
        return
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        codec = CODED[path.suffix]
        pictures = out.add_stream(codec, rate=25) if codec else None
        sound_codec = {".webm": "libopus", ".mpg": "mp2"}.get(path.suffix, "aac")
        voice = out.add_stream(sound_codec, rate=48_000 if path.suffix == ".webm" else RATE, layout="mono")
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
            pictures.options = {"deadline": "realtime", "cpu-used": "8"} if path.suffix == ".webm" else {}
            draw = np.random.default_rng(0)
            for _ in range(100):
                picture = draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                out.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(pictures.encode(None))
        wave = av.AudioFrame.from_ndarray(SOUND[None], format="fltp", layout="mono")
        wave.rate = RATE
        resampler = av.AudioResampler(format=voice.format, layout="mono", rate=voice.rate, frame_size=voice.frame_size or 960)
        for frame in [*resampler.resample(wave), *resampler.resample(None)]:
            out.mux(voice.encode(frame))
        out.mux(voice.encode(None))


def reads(path):
    """All that reads such a file, each to its end."""
    if path.suffix in SOUNDS:
        return [lambda: read_audio(path).samples, lambda: np.concatenate(list(open_audio(path).blocks()))]
    sound = [lambda: read_sound(path).samples]
    return [*sound, lambda: read_film(path, (12, 16), 25.0).frames] if CODED[path.suffix] else sound


@pytest.mark.parametrize("ending", [*PLAIN, *CODED])
def test_a_file_that_was_cut_is_refused_and_a_whole_one_is_read(ending, tmp_path):
    path = tmp_path / f"r{ending}"
    write(path)
    for read in reads(path):
        assert len(read()) > 90
    whole = path.read_bytes()
    for share in (0.97, 0.8, 0.53):
        path.write_bytes(whole[: int(len(whole) * share)])
        for read in reads(path):
            with pytest.raises(DataError, match=rf"r\{ending}: .*(cut short|damaged|cannot be decoded)"):
                read()


def bare_mp3(path, **options):
    """An mp3 without the head that says how many frames it has."""
    av = pytest.importorskip("av")
    t = np.arange(5 * 44_100) / 44_100
    with av.open(str(path), "w", options={"write_xing": "0"}) as out:
        voice = out.add_stream("libmp3lame", rate=44_100, layout="mono")
        voice.options = options
        wave = av.AudioFrame.from_ndarray((0.3 * np.sin(1300 * t)).astype(np.float32)[None], format="fltp", layout="mono")
        wave.rate = 44_100
        resampler = av.AudioResampler(format=voice.format, layout="mono", rate=44_100, frame_size=1152)
        for frame in [*resampler.resample(wave), *resampler.resample(None)]:
            out.mux(voice.encode(frame))
        out.mux(voice.encode(None))


def by_ffmpeg(old, new):
    """What the message says to do."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", old, "-c", "copy", new], check=True)


def with_head(old, new):
    """The same by the libraries of FFmpeg, where the program is not at hand."""
    av = pytest.importorskip("av")
    with av.open(str(old)) as before, av.open(str(new), "w") as after:
        voice = after.add_stream_from_template(before.streams.audio[0])
        for packet in before.demux(before.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = voice
                after.mux(packet)


def test_an_mp3_that_does_not_say_its_length_is_read_whole_or_refused(tmp_path):
    even, varied = tmp_path / "even.mp3", tmp_path / "varied.mp3"
    bare_mp3(even, b="64000")
    assert len(read_audio(even).samples) / 44_100 == pytest.approx(5.0, abs=0.1)
    assert sound_header(even).seconds == pytest.approx(5.0, abs=0.1)
    cut = even.read_bytes()[:-1000]
    even.write_bytes(cut)
    with pytest.raises(DataError, match=r"even\.mp3: cut short: \d+ bytes"):
        read_audio(even)
    bare_mp3(varied, global_quality="472", flags="+qscale")  # decoders guess its length from the first frame, and stop there
    assert sound_header(varied).seconds == pytest.approx(5.0, abs=0.1)
    try:
        samples = read_audio(varied).samples
    except DataError as error:
        assert "write it again with a head (ffmpeg -i FILE -c copy NEW.mp3)" in str(error)  # noqa: PT017 - either is right
        for write in (with_head, *([by_ffmpeg] if shutil.which("ffmpeg") else [])):
            write(varied, tmp_path / "new.mp3")
            samples = read_audio(tmp_path / "new.mp3").samples
            assert len(samples) / 44_100 == pytest.approx(5.0, abs=0.1)
            assert np.abs(samples).max() == pytest.approx(0.3, abs=0.05)
    else:
        assert len(samples) / 44_100 == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("ending", [*PLAIN, *CODED])
def test_lengths_of_any_bytes_end_nobody(ending, tmp_path):
    path = tmp_path / f"r{ending}"
    write(path)
    whole, draw = path.read_bytes(), np.random.default_rng(1)
    for k in range(60):
        broken = bytearray(whole[: draw.integers(0, 80) if k % 3 == 0 else len(whole)])
        for place in draw.integers(0, max(1, min(len(broken), 200)), 5):
            broken[place : place + 1] = bytes([draw.integers(0, 256)])
        path.write_bytes(broken)
        assert missing_bytes(path) >= 0
        assert followed_samples(path) is None or followed_samples(path) >= 0
