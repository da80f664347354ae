"""Voices: log-mel at its absolute level, trimmed, with pitch and voicing; and functionals of all these over stretches of time."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Field, Layout, Modality, ModalitySpec, Params, Register, Source, hookimpl

__all__ = ["FUNCTIONALS", "MELODY", "MODALITIES", "VoiceFunctionalsParams", "VoiceMelParams", "contour_names"]

Extra = Literal["level", "activity", "pitch", "voicing"]

FUNCTIONALS = ("mean", "deviation", "slope", "low", "high", "change")
"""Of each contour: mean, deviation, slope of a line (per second), 10th and 90th percentile, mean size of a step's change."""

MELODY = (
    "pitch-mean",
    "pitch-deviation",
    "pitch-5",
    "pitch-20",
    "pitch-50",
    "pitch-80",
    "pitch-95",
    "pitch-change",
    "voiced-share",
    "voiced-stretches",
    "voiced-length",
    "active-share",
    "seconds",
)
"""Pitch over voiced steps in semitones above 100 Hz, its mean change in semitones a second; shares; stretches a second; seconds."""


class _Voice(Params):
    """What both features ask for."""

    sample_rate: int = Field(16_000, ge=2000, le=192_000, description="Hz to which the waveform is resampled")
    bands: int = Field(64, ge=4, le=256, description="mel bands")
    window: float = Field(0.025, ge=0.002, le=0.5, description="length of the analysis window, in seconds")
    hop: float = Field(0.010, ge=0.001, le=0.5, description="time between steps, in seconds; step k is centred on k · hop")
    fmin: float = Field(50.0, ge=0, description="lowest frequency of the bands, in Hz")
    fmax: float | None = Field(None, gt=0, description="highest frequency of the bands, in Hz; left out: half the sample rate")
    top_db: float = Field(
        30.0, ge=1, le=100, description="a step is active if it is at most so many dB softer than the recording's loudest step"
    )
    pitch_low: float = Field(60.0, ge=20, le=1000, description="lowest pitch that is looked for, in Hz")
    pitch_high: float = Field(600.0, ge=40, le=4000, description="highest pitch that is looked for, in Hz")


class VoiceMelParams(_Voice):
    """Options of `voice-mel`."""

    floor: float = Field(-100.0, ge=-100, le=0, description="dB of full scale to which softer values are raised")
    silence: Literal["keep", "trim", "drop"] = Field(
        "keep",
        description="keep: every step; trim: without what comes before the first and after the last active step; drop: active steps alone",
    )
    clock: Literal["recording", "own"] = Field(
        "recording",
        description="with silence: trim or drop; recording: each step carries the time at which it was heard, so that windows show "
        "the same moment in all modalities; own: steps follow each other from 0 at the rate of the hop, which is right only where no "
        "other modality has a clock",
    )
    extras: tuple[Extra, ...] = Field(
        (),
        description="channels after the bands: level (dB of full scale), activity (0 or 1), pitch (semitones above 100 Hz, "
        "interpolated where nothing is voiced), voicing (0 to 1)",
    )
    deltas: int = Field(
        0, ge=0, le=2, description="add how fast every channel changes, per second (1), and how fast that does (2)"
    )


class VoiceFunctionalsParams(_Voice):
    """Options of `voice-functionals`."""

    bands: int = Field(40, ge=4, le=256, description="mel bands")
    cepstra: int = Field(12, ge=0, le=40, description="cepstral coefficients of the bands, from the first on")
    over: Literal["parts", "clip", "parts-over-time", "seconds"] = Field(
        "parts",
        description="parts: one vector, of the whole and of equal parts of it one after another; clip: of the whole alone; "
        "parts-over-time: a step for each part, with its own times; seconds: a step every so many seconds",
    )
    parts: int = Field(4, ge=2, le=64, description="equal parts into which what is said is divided")
    seconds: float = Field(0.5, ge=0.1, le=60, description="length of a step with over: seconds")
    trim: bool = Field(
        True,
        description="leave out what comes before the first and after the last active step; over: seconds never does, as its steps "
        "must show the same moment as other modalities'",
    )


def contour_names(params: VoiceFunctionalsParams) -> tuple[str, ...]:
    """The contours that functionals are taken of, in their order."""
    mels = [f"band-{i}" for i in range(params.bands)]
    cepstra = [f"cepstrum-{i + 1}" for i in range(params.cepstra)]
    return (*mels, *cepstra, "level", "pitch", "voicing")


def widths(params: VoiceFunctionalsParams) -> tuple[int, int]:
    """Channels of a stretch: its functionals alone, and with what is known of voiced steps and of the melody."""
    contours = len(contour_names(params))
    plain = contours * len(FUNCTIONALS)
    return plain, plain + 2 * contours + len(MELODY)


def _check(params: _Voice) -> None:
    half = params.sample_rate / 2
    if params.fmax is not None and params.fmax > half:
        raise ValueError(f"fmax {params.fmax:g} Hz is above half the sample rate ({half:g} Hz)")
    if params.fmin >= (params.fmax or half):
        raise ValueError(f"fmin {params.fmin:g} Hz is not below fmax")
    if params.pitch_low >= params.pitch_high or params.pitch_high > params.sample_rate / 4:
        raise ValueError(
            f"pitch_low {params.pitch_low:g} Hz must be below pitch_high {params.pitch_high:g} Hz, and that at most a quarter of the "
            f"sample rate ({params.sample_rate / 4:g} Hz)"
        )
    if round(params.window * params.sample_rate) < 8:
        raise ValueError(f"window {params.window:g} s holds fewer than eight samples at {params.sample_rate} Hz")
    if round(params.hop * params.sample_rate) < 1:
        raise ValueError(f"hop {params.hop:g} s is shorter than a sample at {params.sample_rate} Hz")


def voice_mel_layout(params: VoiceMelParams, source: Source) -> Layout:
    """Bands, extras and their changes over time; steps carry their own times where silence is taken out of a common clock."""
    _check(params)
    if len(set(params.extras)) < len(params.extras):
        raise ValueError(f"extras names {', '.join(params.extras)}; each may stand once")
    channels = (params.bands + len(params.extras)) * (1 + params.deltas)
    rate = params.sample_rate / round(params.hop * params.sample_rate)
    timed = params.silence != "keep" and params.clock == "recording"
    return Layout("spectrogram", ("time", "channel"), {"channel": channels}, None if timed else rate)


def build_voice_mel(params: VoiceMelParams, source: Source) -> Modality:
    """The modality."""
    from .mel import VoiceMel

    return VoiceMel(params)


def voice_functionals_layout(params: VoiceFunctionalsParams, source: Source) -> Layout:
    """A vector a recording, or a step a stretch."""
    _check(params)
    if params.cepstra >= params.bands:
        raise ValueError(
            f"cepstra is {params.cepstra}, but {params.bands} bands give {params.bands - 1} of them; lower cepstra, or raise bands"
        )
    plain, whole = widths(params)
    if params.over in ("parts", "clip"):
        return Layout("vector", ("channel",), {"channel": whole + (params.parts * plain if params.over == "parts" else 0)})
    rate = 1 / params.seconds if params.over == "seconds" else None
    return Layout("signal", ("time", "channel"), {"channel": whole}, rate)


def build_voice_functionals(params: VoiceFunctionalsParams, source: Source) -> Modality:
    """The modality."""
    from .functionals import VoiceFunctionals

    return VoiceFunctionals(params)


MODALITIES = (
    ModalitySpec(
        "voice-mel",
        "log-mel of a voice at its absolute level, trimmed if asked for, with level, pitch, voicing and changes",
        ("audio",),
        VoiceMelParams,
        voice_mel_layout,
        build_voice_mel,
        paper="pitch: de Cheveigné and Kawahara 2002 (YIN), JASA 111(4)",
    ),
    ModalitySpec(
        "voice-functionals",
        "statistics of bands, cepstra, level, pitch and voicing over a recording and its parts",
        ("audio",),
        VoiceFunctionalsParams,
        voice_functionals_layout,
        build_voice_functionals,
        paper="after eGeMAPS: Eyben et al. 2016, IEEE Transactions on Affective Computing 7(2)",
    ),
)


@hookimpl
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer the modalities."""
    for spec in MODALITIES:
        register(spec)
