"""IEMOCAP: ten actors in five sessions of dialogues, acted and improvised; words, voice, picture, emotions, valence, arousal, dominance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

CODES = {
    "neu": "neutral",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "ang": "angry",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
}
"""Code in the evaluation files → name. What is undecided (xxx) or another emotion (oth) has none."""

FOUR = ("neutral", "happy", "sad", "angry")
STRICT = {"neutral": FOUR, "excited": ("happy", "sad", "angry", "excited")}
"""The four classes in which excited is not happy: those of the code of SSE-FT and of MulT, and those of SSE-FT's text."""
SIX = ("neutral", "happy", "sad", "angry", "excited", "frustrated")
DIMENSIONS = ("valence", "arousal", "dominance")

Pixels = Annotated[int, Field(ge=8, le=1280)]

PAPER = "Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, LREC 2008"
GET = "Ask for it at https://sail.usc.edu/iemocap/ and unpack IEMOCAP_full_release (Session1 to Session5) into the folder."


class IemocapParams(Params):
    """Options of `iemocap`."""

    LATER = ("strict",)

    group: Literal["session", "speaker"] = Field(
        "session",
        description="what never stands on both sides of a split: a session, so that both speakers of a dialogue stay together, or a speaker",
    )
    undecided: Literal["drop", "keep"] = Field(
        "drop",
        description="turns on whose emotion the annotators did not agree (xxx) or that have another one (oth): they have no class; keep: "
        "they are listed for valence, arousal and dominance",
    )
    words: Literal["aligned", "transcribed"] = Field(
        "aligned",
        description="aligned: words with their times, in small letters and without marks, where a forced alignment lies beside the sound, and the "
        "transcription without times elsewhere; transcribed: the transcription everywhere, as text models want it",
    )
    strict: Literal["neutral", "excited"] = Field(
        "neutral",
        description="the classes of emotion-4-strict and emotions. neutral: neutral, happy, sad, angry (MulT, and SSE-FT's code); excited: happy, sad, "
        "angry, excited, as SSE-FT's text has it",
    )
    films: Literal["auto", "none"] = Field(
        "auto",
        description="auto offers the source `video` to turns whose dialogue's film is there; none looks for no film and leaves it out",
    )
    side: Literal["markers-left", "markers-right", "whole"] = Field(
        "markers-left",
        description="a film shows two actors side by side. markers-left: the one who wears markers (the letter in the dialogue's name) is in the left "
        "half, and a turn shows the half of who speaks; markers-right: the other way round; whole: both",
    )
    video_size: tuple[Pixels, Pixels] = Field(
        (120, 90),
        description="height and width in pixels to which one actor's half, or with side: whole the whole picture, is resized while reading",
    )
    picture_rate: float = Field(
        30000 / 1001,
        gt=0,
        description="frames per second of films that were unpacked to folders of pictures; an avi tells its own rate",
    )


def info(params: IemocapParams) -> DatasetInfo:
    """What is known without reading."""
    sources = {
        "words": Source(
            "words",
            "what is said; with times where forced alignments lie beside the sound"
            if params.words == "aligned"
            else "what is said, as it was written down; words have no times of their own",
        ),
        "audio": Source("audio", "the turn's own wav", 16_000.0),
    }
    if params.films == "auto":
        who = "both actors side by side" if params.side == "whole" else "the half of the picture in which the speaker stands"
        summary = f"the dialogue's film, cut to the turn: {who}"
        sources["video"] = Source("video", summary, None, {"shape": [3, *params.video_size]})
    return DatasetInfo(
        sources=sources,
        tasks={
            "emotion-4": Task("emotion-4", "single-label", FOUR, "excited counts as happy; the other emotions are left out"),
            "emotion-4-strict": Task(
                "emotion-4-strict", "single-label", STRICT[params.strict], "all others are left out (MulT, SSE-FT)"
            ),
            "emotion-6": Task("emotion-6", "single-label", SIX, "the other emotions are left out"),
            "emotions": Task(
                "emotions", "multi-label", STRICT[params.strict], "each of emotion-4-strict's classes, present or not (SSE-FT)"
            ),
            "vad": Task("vad", "regression", DIMENSIONS, "means of the annotators, from 1 to 5"),
        },
        group=params.group,
        official=("train", "test"),
        licence="on request, for research",
        paper=PAPER,
        get=GET,
    )


def build(params: IemocapParams, root: Path | None) -> Dataset:
    """The dataset."""
    from .turns import Iemocap

    return Iemocap(params, root)


def sample(root: Path, n: int, seed: int) -> None:
    """A tiny made-up copy."""
    from .tiny import write

    write(root, n, seed)


IEMOCAP = DatasetSpec(
    name="iemocap",
    summary="IEMOCAP: 10,039 turns of ten actors in five sessions; words, voice, picture, emotions, valence, arousal, dominance",
    params=IemocapParams,
    info=info,
    build=build,
    sample=sample,
    paper=PAPER,
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `iemocap`."""
    register(IEMOCAP)
