"""The datasets `cmu-mosei` and `cmu-mosi`: opinions in monologues, from the SDK's .csd files, raw files or converted pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, PresetSpec, Register, Source, Task, hookimpl

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
"""In the order of the SDK's label file; other files of the field have other orders, so names are always carried along."""

FRAME_RATE = 30.0
WIDTHS = {"glove": 300, "covarep": 74, "facet": 35}
RATES = {"glove": 1.0, "covarep": 100.0, "facet": FRAME_RATE}
USUAL = {"covarep": "COVAREP's features of the voice", "facet": "FACET's features of the face"}
SHAPED = ("labels", "words", "glove", "openface")
"""Sources of computational sequences that are no plain rows of features at a rate."""
OTHERS = ("audio", "video", "text", "vision")
POINTS = tuple(f"{axis}_{i}" for axis in "xy" for i in range(68))
WORD_RATE = 1.0
"""Steps a second of streams with one step a word: a window of 30 seconds is then one of 30 words."""

GET = (
    "The .csd files, the standard folds and the raw archive are linked from the CMU Multimodal SDK, "
    "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK; name its module of folds with dataset.folds, or write its lists of video ids to "
    'folds.json as {"train": [...], "valid": [...], "test": [...]}'
)


class ComputationalSequence(Params):
    """A computational sequence that a source reads, where it is not the usual one."""

    name: str = Field(description="its name: that of the root group of the .csd file, such as FACET_4.1 or OpenSMILE")
    width: int | None = Field(None, ge=1, description="features a row; left out: as the source usually has")
    rate: float | None = Field(None, gt=0, description="rows a second; left out: as the source usually has")


class MoseiParams(Params):
    """Options of `cmu-mosei` and `cmu-mosi`."""

    layout: Literal["sdk", "converted"] = Field(
        "sdk",
        description="sdk: .csd files, and the folders of the raw archive beside them; converted: what `python -m mmcl_mosei.convert` "
        "makes of a pickled dictionary",
    )
    folds: str = Field(
        "folds.json",
        description="file with the video ids of the standard folds, in the root: JSON, or the SDK's own module (.py), which is read and not "
        "run; none: no official split",
    )
    sequences: dict[str, ComputationalSequence] = Field(
        {},
        description="the computational sequence of a source, by its name, as in {facet: {name: FACET_4.1, width: 47}}; a source of your own "
        "says its width, and its rate unless align: words: {smile: {name: OpenSMILE, width: 384, rate: 10}}",
    )
    align: Literal["none", "words"] = Field(
        "none",
        description="none: every stream at its own rate; words: one step a word, the mean over the word (the SDK's example scripts give "
        "no such function, and then streams are not aligned). In converted files: words where every stream has a step a word; none where each has a "
        "number of its own, and then it is spread over the clip",
    )
    min_intensity: float = Field(
        0.0,
        ge=0,
        le=3,
        description="an emotion is present above 0, as the SDK says, or from this intensity on (1: what MPUC-MER's code keeps when it cuts "
        "labels to whole numbers before it asks)",
    )
    video: Literal["none", "frames"] = Field(
        "none",
        description="frames: the speaker's face, cut from the film of the whole video by the label's interval, or from pictures or a film of its "
        "own where times or lengths prove what they show",
    )
    video_size: tuple[int, int] = Field(
        (112, 112), description="height and width to which pictures are brought while they are read"
    )
    widths: tuple[int, int, int] = Field((300, 74, 35), description="features of text, audio and vision in converted files")

    @model_validator(mode="after")
    def _own_sequences_say_their_shape(self) -> MoseiParams:
        for source, asked in self.sequences.items():
            if source in OTHERS:
                raise ValueError(f"sequences: '{source}' does not come from a computational sequence; call yours otherwise")
            if source in USUAL or source in SHAPED:
                continue
            if asked.width is None or (asked.rate is None and self.align == "none"):
                raise ValueError(
                    f"sequences.{source}: say its width{'' if self.align == 'words' else ' and its rate'}: "
                    f"{{name: {asked.name}, width: 384, rate: 10}}"
                )
        return self

    def width(self, source: str) -> int:
        """Features of a source, a row."""
        asked = self.sequences.get(source)
        return WIDTHS[source] if asked is None or asked.width is None else asked.width

    def rate(self, source: str) -> float:
        """Rows of a source, a second."""
        if self.align == "words":
            return WORD_RATE
        asked = self.sequences.get(source)
        return RATES.get(source, FRAME_RATE) if asked is None or asked.rate is None else asked.rate


def sources(params: MoseiParams) -> dict[str, Source]:
    """What there may be, with these options."""
    if params.layout == "converted":
        return {
            name: Source(
                "sequence",
                f"{name} features; a second is a word, or a step of the text",
                # Streams that are not aligned by word have as many steps a word as fit each clip.
                WORD_RATE if name == "text" or params.align == "words" else None,
                {"shape": [width], "axes": ["channel"]},
            )
            for name, width in zip(("text", "audio", "vision"), params.widths, strict=True)
        }
    by_word = params.align == "words"
    offered = {"words": Source("words", "what is said, with the times of each word")}
    if by_word:
        notes = {"shape": [params.width("glove")], "axes": ["channel"]}
        offered["glove"] = Source("sequence", "vectors of the words", WORD_RATE, notes)
    own = {name: f"{asked.name}, as the recipe asks for it" for name, asked in params.sequences.items() if name not in SHAPED}
    for name, text in {**USUAL, **own}.items():
        notes = {"shape": [params.width(name)], "axes": ["channel"]}
        offered[name] = Source("sequence", text, params.rate(name), notes)
    offered["openface"] = Source(
        "table", "68 landmarks of the face, from OpenFace 2", params.rate("openface"), {"columns": list(POINTS)}
    )
    if not by_word:
        offered["audio"] = Source("audio", "the voice, from the raw archive")
        if params.video == "frames":
            height, width = params.video_size
            offered["video"] = Source("video", "the speaker's face", FRAME_RATE, {"shape": [3, height, width]})
    return offered


def tasks(emotions: bool) -> Mapping[str, Task]:
    """What there is to predict."""
    of_sentiment = {
        "sentiment": Task("sentiment", "regression", (), "from −3 to 3", extra=("sentiment",)),
        "sentiment-2": Task("sentiment-2", "single-label", ("negative", "not negative"), "below zero, or zero and above"),
        "sentiment-2-nonzero": Task(
            "sentiment-2-nonzero", "single-label", ("negative", "positive"), "segments of sentiment 0 left out"
        ),
        "sentiment-7": Task(
            "sentiment-7", "single-label", tuple(f"{i:+d}" if i else "0" for i in range(-3, 4)), "rounded, half to even"
        ),
    }
    if not emotions:
        return of_sentiment
    return {"emotions": Task("emotions", "multi-label", EMOTIONS, "present or not; several at once"), **of_sentiment}


def _info(params: MoseiParams, emotions: bool) -> DatasetInfo:
    return DatasetInfo(
        sources=sources(params),
        tasks=tasks(emotions),
        group="video",
        official=() if params.folds == "none" and params.layout == "sdk" else ("train", "valid", "test"),
        licence="research; the videos are their makers'",
        paper="Zadeh et al., ACL 2018 (CMU-MOSEI); Zadeh et al., IEEE Intelligent Systems 2016 (CMU-MOSI)",
        get=GET,
    )


def _build(params: MoseiParams, root: Path | None, emotions: bool) -> Dataset:
    if params.layout == "converted":
        from .converted import Converted

        return Converted(params, root, emotions)
    from .segments import Segments

    return Segments(params, root, emotions)


def _spec(name: str, summary: str, paper: str, emotions: bool) -> DatasetSpec:
    """A corpus of segments with sentiment, and with emotions or without."""

    def sample(root: Path, n: int, seed: int) -> None:
        from .tiny import write

        write(root, n, seed, emotions)

    return DatasetSpec(
        name=name,
        summary=summary,
        params=MoseiParams,
        info=lambda params: _info(params, emotions),
        build=lambda params, root: _build(params, root, emotions),
        sample=sample,
        paper=paper,
    )


MOSEI = _spec(
    "cmu-mosei",
    "CMU-MOSEI: 22,860 segments of monologues, six emotions and sentiment; words, voice, face",
    "Zadeh et al., ACL 2018",
    emotions=True,
)
MOSI = _spec(
    "cmu-mosi",
    "CMU-MOSI: 2,199 segments of film reviews with sentiment; words, voice, face",
    "Zadeh et al., IEEE Intelligent Systems 2016",
    emotions=False,
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer the datasets."""
    register(MOSEI)
    register(MOSI)


CONVERTED = PresetSpec(
    name="cmu-mosei-converted",
    summary="MPUC-MER's recipes on a converted pickle of CMU-MOSEI: its voice, face and words; no landmarks",
    sets=(
        "dataset.layout=converted",
        "modalities.landmarks=",
        "modalities.audio.source=audio",
        "modalities.audio.features={use: signals, rate: 1}",
        "modalities.video.source=vision",
        "modalities.video.features={use: signals, rate: 1}",
        "modalities.video.backbone={use: tcn, width: 512}",
        "modalities.text.source=text",
        "modalities.text.features={use: signals}",
        "window.seconds=30",
    ),
    follows="Steps are words, so a window is one of 30 words. Set dataset.widths to the features of the file.",
)


@hookimpl
def register_presets(register: Register[PresetSpec]) -> None:
    """Offer the settings."""
    register(CONVERTED)
