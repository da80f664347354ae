"""Kinds of streams, and the usual ways of turning raw recordings into them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

from mmcl.api import Field, Kind, Layout, Modality, ModalitySpec, NoParams, Params, Register, Source, hookimpl

KINDS = (
    Kind("spectrogram", ("time", "channel"), "bands of a spectrum over time"),
    Kind("signal", ("time", "channel"), "channels over time, such as inertial sensors or ready features"),
    Kind("word-vectors", ("time", "channel"), "one vector a word, with the times at which it is spoken"),
    Kind("skeleton", ("time", "joint", "channel"), "joints of a body or landmarks of a face over time"),
    Kind("video", ("time", "channel", "height", "width"), "frames over time"),
    Kind("vector", ("channel",), "one vector a recording"),
)


def sizes(source: Source, what: str) -> tuple[int, ...]:
    """The shape of one step, as the source says it."""
    shape = source.notes.get("shape")
    if not shape:
        raise ValueError(f"'{what}' needs to know the shape of a step, and the source does not say it (notes: shape)")
    return tuple(int(n) for n in shape)


# ---------------------------------------------------------------------------------------------------------------- audio


class WaveformParams(Params):
    """Options of `waveform`."""

    sample_rate: int = Field(16_000, ge=1000, le=192_000, description="Hz to which the sound is resampled")


def waveform_layout(params: WaveformParams, source: Source) -> Layout:
    """One channel, a step a sample."""
    return Layout("signal", ("time", "channel"), {"channel": 1}, float(params.sample_rate))


def build_waveform(params: WaveformParams, source: Source) -> Modality:
    """The modality."""
    from .audio import Waveform

    return Waveform(params)


class LogMelParams(Params):
    """Options of `log-mel`."""

    sample_rate: int = Field(16_000, ge=1000, le=192_000, description="Hz to which the waveform is resampled")
    bands: int = Field(80, ge=1, le=512, description="mel bands")
    window: float = Field(0.025, gt=0, le=1, description="length of the analysis window, in seconds")
    hop: float = Field(0.010, gt=0, le=1, description="time between steps, in seconds; step k is centred on k · hop")
    fmin: float = Field(0.0, ge=0, description="lowest frequency, in Hz")
    fmax: float | None = Field(None, gt=0, description="highest frequency, in Hz; left out: half the sample rate")
    reference: Literal["clip-max", "absolute"] = Field(
        "clip-max", description="0 dB is the recording's loudest value, or full scale (power 1)"
    )
    top_db: float = Field(80.0, gt=0, description="values lie at most so many dB under the recording's loudest")
    mean: Literal["keep", "subtract"] = Field(
        "keep",
        description="subtract: each band's mean over the recording is taken away, and with it the microphone and much of the "
        "speaker's timbre",
    )
    engine: Literal["numpy", "torch"] = Field(
        "numpy",
        description="what computes it; the values agree to a thousandth of a dB, and torch's twin takes many recordings at once",
    )


def log_mel_layout(params: LogMelParams, source: Source) -> Layout:
    """bands × time at the rate of the hop."""
    if params.fmax is not None and params.fmax > params.sample_rate / 2:
        raise ValueError(f"fmax {params.fmax:g} Hz is above half the sample rate ({params.sample_rate / 2:g} Hz)")
    if params.fmin >= (params.fmax or params.sample_rate / 2):
        raise ValueError(f"fmin {params.fmin:g} Hz is not below fmax")
    if round(params.window * params.sample_rate) < 2:
        raise ValueError(f"window {params.window:g} s holds fewer than two samples at {params.sample_rate} Hz")
    if round(params.hop * params.sample_rate) < 1:
        raise ValueError(f"hop {params.hop:g} s is shorter than a sample at {params.sample_rate} Hz")
    return Layout("spectrogram", ("time", "channel"), {"channel": params.bands}, params.sample_rate / hop_samples(params))


def hop_samples(params: LogMelParams) -> int:
    """Samples between steps."""
    return round(params.hop * params.sample_rate)


def build_log_mel(params: LogMelParams, source: Source) -> Modality:
    """The modality."""
    if params.engine == "torch":
        from .audio_torch import TorchLogMel

        return TorchLogMel(params)
    from .audio import LogMel

    return LogMel(params)


# ----------------------------------------------------------------------------------------------------------------- face


class ActionUnitsParams(Params):
    """Options of `action-units`."""

    units: Literal["both", "intensities", "presences"] = Field(
        "both", description="OpenFace columns AUxx_r (intensity, 0 to 5), AUxx_c (presence, 0 to 1), or both"
    )


def unit_columns(params: ActionUnitsParams, source: Source) -> list[str]:
    """The columns to take, by name."""
    endings = {"both": ("_r", "_c"), "intensities": ("_r",), "presences": ("_c",)}[params.units]
    columns = [str(c).strip() for c in source.notes.get("columns", ())]
    units = [c for c in columns if c.startswith("AU") and c.endswith(endings)]
    if not units:
        raise ValueError(
            f"the table has no OpenFace columns AUxx{' or AUxx'.join(endings)}; it has {', '.join(columns[:6]) or 'none'}, …"
        )
    return units


def action_units_layout(params: ActionUnitsParams, source: Source) -> Layout:
    """A vector where the table has one row a recording, a signal where it has one a frame."""
    channels = {"channel": len(unit_columns(params, source))}
    if source.rate is None:
        return Layout("vector", ("channel",), channels)
    return Layout("signal", ("time", "channel"), channels, source.rate)


def build_action_units(params: ActionUnitsParams, source: Source) -> Modality:
    """The modality."""
    from .face import ActionUnits

    return ActionUnits(unit_columns(params, source), source)


class FaceLandmarksParams(Params):
    """Options of `face-landmarks`."""

    jaw: Literal["keep", "drop"] = Field(
        "keep", description="drop: leave the 17 points of the jaw line out (51 points, as MPUC-MER's code)"
    )
    normalise: Literal["face", "clip-minmax"] = Field(
        "face",
        description="face: each frame centred on the mean of its points and divided by the recording's median distance between "
        "the eyes (proportions stay); clip-minmax: x and y apart, to [0, 1] over all frames and 68 points (MPUC-MER)",
    )


def face_landmarks_layout(params: FaceLandmarksParams, source: Source) -> Layout:
    """68 or 51 points."""
    if source.type == "sequence" and (shape := sizes(source, "face-landmarks")) != (68, 2):
        raise ValueError(f"'face-landmarks' reads 68 points of x and y; the source has steps of shape {list(shape)}")
    if source.type == "table":
        columns = {str(c).strip() for c in source.notes.get("columns", ())}
        missing = [c for axis in "xy" for i in range(68) if (c := f"{axis}_{i}") not in columns]
        if missing:
            raise ValueError(f"the table lacks the landmark columns x_0 … y_67 of OpenFace (first one missing: {missing[0]})")
        if source.rate is None:
            raise ValueError("the table has one row a recording; landmarks need one a frame")
    if source.rate is None:
        raise ValueError("'face-landmarks' needs the source's rate")
    joints = 68 if params.jaw == "keep" else 51
    return Layout(
        "skeleton",
        ("time", "joint", "channel"),
        {"joint": joints, "channel": 2},
        source.rate,
        notes={"graph": f"face-{joints}"},
    )


def build_face_landmarks(params: FaceLandmarksParams, source: Source) -> Modality:
    """The modality."""
    from .face import FaceLandmarks

    return FaceLandmarks(params, source)


# ----------------------------------------------------------------------------------------------------------------- body


class SkeletonParams(Params):
    """Options of `skeleton`."""

    centre: Literal["none", "first-frame", "every-frame"] = Field(
        "first-frame", description="when the root joint (hip) is moved to the origin"
    )
    turn: bool = Field(
        True,
        description="turn about the vertical axis (y) so that the shoulders of the first frame lie along x: which way a person "
        "faces is no cue",
    )
    scale: Literal["none", "torso"] = Field("torso", description="torso: divide by the recording's median torso length")
    velocity: bool = Field(True, description="add each joint's speed, in units per second, as further channels")


def skeleton_layout(params: SkeletonParams, source: Source) -> Layout:
    """joints × channels, the graph handed on."""
    shape = sizes(source, "skeleton")
    if len(shape) != 2 or list(source.notes.get("axes", ["joint", "channel"])) != ["joint", "channel"]:
        raise ValueError(f"'skeleton' reads joints × channels; the source has steps of shape {list(shape)}")
    for option, note in ((params.centre != "none", "root"), (params.turn, "shoulders"), (params.scale == "torso", "torso")):
        if not option:
            continue
        if note not in source.notes:
            names = {"root": "centre: none", "shoulders": "turn: false", "torso": "scale: none"}
            raise ValueError(f"the source does not say which joints are its {note} (notes: {note}); set {names[note]}")
        joints = [source.notes[note]] if note == "root" else list(source.notes[note])
        if not all(0 <= joint < shape[0] for joint in joints):
            raise ValueError(f"the source's notes name {joints} as {note}, and it has {shape[0]} joints, counted from 0")
    if params.turn and shape[1] != 3:
        raise ValueError(f"turning needs three coordinates, the source has {shape[1]}; set turn: false")
    if source.rate is None:
        raise ValueError("'skeleton' needs the source's rate")
    kept: dict[str, Any] = {name: source.notes[name] for name in ("graph", "edges", "centre") if name in source.notes}
    channels = shape[1] * (2 if params.velocity else 1)
    return Layout("skeleton", ("time", "joint", "channel"), {"joint": shape[0], "channel": channels}, source.rate, notes=kept)


def build_skeleton(params: SkeletonParams, source: Source) -> Modality:
    """The modality."""
    from .body import Skeleton

    return Skeleton(params, source)


class SignalsParams(Params):
    """Options of `signals`."""

    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="columns to take from a table, by name, in this order; left out: all"
    )
    rate: float | None = Field(
        None,
        gt=0,
        description="steps per second to resample to, with a low-pass filter below half of the lower rate; left out: as it is",
    )


def signals_layout(params: SignalsParams, source: Source) -> Layout:
    """Channels over time."""
    if source.rate is None and (params.rate is None or source.type == "table"):
        if source.type == "table":
            raise ValueError("'signals' needs a table with one row a frame; for one row a recording there is 'action-units'")
        raise ValueError("the source does not say how many steps a second it has; set rate: to what they shall become")
    if source.type == "table":
        columns = [str(c).strip() for c in source.notes.get("columns", ())]
        wanted = list(params.columns) if params.columns is not None else columns
        unknown = [c for c in wanted if c not in columns]
        if unknown:
            raise ValueError(
                f"the table has no column '{unknown[0]}'; it has {', '.join(columns[:12])}{', …' if len(columns) > 12 else ''}"
            )
        count = len(wanted)
    else:
        if params.columns is not None:
            raise ValueError("columns are for tables; this source is a ready array")
        shape = sizes(source, "signals")
        if len(shape) != 1:
            raise ValueError(f"'signals' reads channels over time; the source has steps of shape {list(shape)}")
        count = shape[0]
    return Layout("signal", ("time", "channel"), {"channel": count}, params.rate or source.rate)


def build_signals(params: SignalsParams, source: Source) -> Modality:
    """The modality."""
    from .body import Signals

    return Signals(params, source)


# ---------------------------------------------------------------------------------------------------------------- video


class FramesParams(Params):
    """Options of `frames`."""

    size: tuple[int, int] | None = Field(
        None, description="height and width in pixels to resize to, smoothed before they shrink; left out: as they are"
    )
    grey: bool = Field(False, description="one grey channel in place of three")
    rate: float | None = Field(None, gt=0, description="frames per second to keep, the nearest ones; left out: all")


def frames_layout(params: FramesParams, source: Source) -> Layout:
    """Frames as uint8, read as [0, 1]."""
    shape = sizes(source, "frames")
    if len(shape) != 3:
        raise ValueError(f"'frames' reads channel × height × width; the source has frames of shape {list(shape)}")
    if params.rate is not None and source.rate is not None and params.rate > source.rate:
        raise ValueError(f"rate {params.rate:g} is above the source's {source.rate:g} frames per second")
    if source.rate is None and params.rate is None:
        raise ValueError("the source does not say its frame rate; set rate:")
    height, width = params.size or shape[1:]
    if min(height, width) < 1:
        raise ValueError(f"size {[height, width]} must be at least 1 × 1")
    if params.grey and shape[0] not in (1, 3):
        raise ValueError(f"grey: true takes frames of 1 or 3 channels; the source has {shape[0]}")
    channels = 1 if params.grey else shape[0]
    layout = {"channel": channels, "height": height, "width": width}
    return Layout("video", ("time", "channel", "height", "width"), layout, params.rate or source.rate, scale=1 / 255)


def build_frames(params: FramesParams, source: Source) -> Modality:
    """The modality."""
    from .video import Frames

    return Frames(params, source)


class FaceClipParams(Params):
    """Options of `face-clip`."""

    LATER = ("gaps",)

    size: tuple[int, int] = Field((112, 112), description="height and width in pixels to resize to (MPUC-MER: 112 × 112)")
    grey: bool = Field(False, description="one grey channel in place of three")
    rate: float = Field(
        8.0, gt=0, description="frames per second to keep, the nearest ones (MPUC-MER: 8 of a window of a second)"
    )
    keep_proportions: bool = Field(
        False,
        description="cut the middle of each frame to the wanted proportions before resizing; false: squeeze it (MPUC-MER)",
    )
    gaps: Literal["skip", "black"] = Field(
        "skip",
        description="of a source that marks frames without a face: skip makes no steps of them, and the others carry their own times; black "
        "keeps them as they are, at an even rate",
    )


def face_clip_layout(params: FaceClipParams, source: Source) -> Layout:
    """Frames as uint8, read as [0, 1]; without a rate where frames may be missing in between."""
    layout = frames_layout(FramesParams(size=params.size, grey=params.grey, rate=params.rate), source)
    return replace(layout, rate=None) if skips_gaps(params, source) else layout


def skips_gaps(params: FaceClipParams, source: Source) -> bool:
    """Whether frames without a face are no steps."""
    return params.gaps == "skip" and bool(source.notes.get("gaps"))


def build_face_clip(params: FaceClipParams, source: Source) -> Modality:
    """The modality."""
    from .video import FaceClip

    return FaceClip(params, source)


# ---------------------------------------------------------------------------------------------------------------- words


class GloveParams(Params):
    """Options of `glove`."""

    file: str = Field(
        "", description="path of the text file of vectors, a word and its numbers a line (glove.840B.300d.txt); needed"
    )
    dim: int = Field(300, ge=1, le=4096, description="numbers a word; another number in the file is refused")
    unknown: Literal["zero", "mean", "skip"] = Field(
        "zero", description="a word that the file does not know: zeros, the mean of all vectors, or no step; each is counted"
    )
    words_per_second: float = Field(2.5, gt=0, description="speaking rate assumed where nobody measured times")


def glove_layout(params: GloveParams, source: Source) -> Layout:
    """A vector a word, at the word's own times."""
    if not params.file:
        raise ValueError("'glove' needs the file of vectors: set file: to the path of glove.840B.300d.txt or another one")
    return Layout("word-vectors", ("time", "channel"), {"channel": params.dim})


def build_glove(params: GloveParams, source: Source) -> Modality:
    """The modality."""
    from .glove import Glove

    return Glove(params)


class HashedWordsParams(Params):
    """Options of `hashed-words`."""

    dim: int = Field(64, ge=1, le=4096, description="size of a word's vector")
    pieces: Literal["word", "trigrams"] = Field(
        "word",
        description="word: a vector a word; trigrams: the sum over its groups of three letters, so that forms of one word are "
        "near",
    )
    words_per_second: float = Field(2.5, gt=0, description="speaking rate assumed where nobody measured times")
    seed: int = Field(0, ge=0, description="another seed, other vectors")


def hashed_words_layout(params: HashedWordsParams, source: Source) -> Layout:
    """A vector a word, at the word's own times."""
    return Layout("word-vectors", ("time", "channel"), {"channel": params.dim})


def build_hashed_words(params: HashedWordsParams, source: Source) -> Modality:
    """The modality."""
    from .words import HashedWords

    return HashedWords(params)


# ---------------------------------------------------------------------------------------------------------------- still


def vectors_layout(params: NoParams, source: Source) -> Layout:
    """All numbers in one row."""
    return Layout("vector", ("channel",), {"channel": math.prod(sizes(source, "vectors"))})


def build_vectors(params: NoParams, source: Source) -> Modality:
    """The modality."""
    from .still import Vectors

    return Vectors(params, source)


MODALITIES = (
    ModalitySpec(
        "glove",
        "GloVe vectors out of the published text files, words counted that they lack",
        ("words",),
        GloveParams,
        glove_layout,
        build_glove,
        paper="Pennington, Socher, Manning: GloVe, EMNLP 2014",
    ),
    ModalitySpec(
        "face-clip",
        "face frames at one size and a low rate, for video networks",
        ("video",),
        FaceClipParams,
        face_clip_layout,
        build_face_clip,
        paper="MPUC-MER (ICPR 2022), §III-A",
    ),
    ModalitySpec(
        "log-mel",
        "log-mel spectrogram in dB, as librosa computes it",
        ("audio",),
        LogMelParams,
        log_mel_layout,
        build_log_mel,
        paper="Slaney's mel scale and area-normalised filters (librosa's defaults)",
    ),
    ModalitySpec(
        "waveform",
        "sound itself, a step a sample, for networks that read it",
        ("audio",),
        WaveformParams,
        waveform_layout,
        build_waveform,
    ),
    ModalitySpec(
        "action-units",
        "facial action units from OpenFace's columns, by name",
        ("table",),
        ActionUnitsParams,
        action_units_layout,
        build_action_units,
        paper="Baltrušaitis et al. 2018, OpenFace 2.0",
    ),
    ModalitySpec(
        "face-landmarks",
        "68 face landmarks, or 51 without the jaw, normalised per recording",
        ("sequence", "table"),
        FaceLandmarksParams,
        face_landmarks_layout,
        build_face_landmarks,
        paper="MPUC-MER (ICPR 2022), §III-A",
    ),
    ModalitySpec(
        "skeleton",
        "joints of a body, centred, turned to the front and scaled",
        ("sequence",),
        SkeletonParams,
        skeleton_layout,
        build_skeleton,
    ),
    ModalitySpec(
        "signals",
        "channels over time as they are, such as inertial sensors or ready features",
        ("sequence", "table"),
        SignalsParams,
        signals_layout,
        build_signals,
    ),
    ModalitySpec("frames", "video frames, resized and kept as bytes", ("video",), FramesParams, frames_layout, build_frames),
    ModalitySpec(
        "hashed-words",
        "a fixed random vector a word; needs no vocabulary and no download",
        ("words",),
        HashedWordsParams,
        hashed_words_layout,
        build_hashed_words,
        paper="random indexing: Kanerva, Kristoferson, Holst 2000",
    ),
    ModalitySpec(
        "vectors",
        "numbers that hold for a whole recording, such as answers to a questionnaire or ready embeddings, as one vector",
        ("still",),
        NoParams,
        vectors_layout,
        build_vectors,
    ),
)


@hookimpl
def register_kinds(register: Register[Kind]) -> None:
    """Offer the kinds."""
    for kind in KINDS:
        register(kind)


@hookimpl
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer the modalities."""
    for spec in MODALITIES:
        register(spec)
