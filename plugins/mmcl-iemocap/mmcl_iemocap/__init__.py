"""IEMOCAP: ten actors in five sessions of dialogues, acted and improvised; words, voice, emotions, and valence, arousal, dominance."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

CODES = {
    "neu": "neutral", "hap": "happy", "exc": "excited", "sad": "sad", "ang": "angry", "fru": "frustrated", "fea": "fearful",
    "sur": "surprised", "dis": "disgusted",
}  # fmt: skip
"""Code in the evaluation files → name. What is undecided (xxx) or another emotion (oth) has none."""

FOUR = ("neutral", "happy", "sad", "angry")
SIX = ("neutral", "happy", "sad", "angry", "excited", "frustrated")
DIMENSIONS = ("valence", "arousal", "dominance")

PAPER = "Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, LREC 2008"
GET = "Ask for it at https://sail.usc.edu/iemocap/ and unpack IEMOCAP_full_release (Session1 to Session5) into the folder."


class IemocapParams(Params):
    """Options of `iemocap`."""

    group: Literal["session", "speaker"] = Field(
        "session",
        description="what never stands on both sides of a split: a session, so that both speakers of a dialogue stay together, or a speaker",
    )
    undecided: Literal["drop", "keep"] = Field(
        "drop", description="turns on whose emotion the annotators did not agree (xxx) or that have another one (oth): they have no class; keep: "
        "they are listed for valence, arousal and dominance"
    )  # fmt: skip


def info(params: IemocapParams) -> DatasetInfo:
    """What is known without reading."""
    return DatasetInfo(
        sources={
            "words": Source("words", "what is said; with times where forced alignments lie beside the sound"),
            "audio": Source("audio", "the turn's own wav", 16_000.0),
        },
        tasks={
            "emotion-4": Task("emotion-4", "single-label", FOUR, "excited counts as happy; the other emotions are left out"),
            "emotion-4-strict": Task("emotion-4-strict", "single-label", FOUR, "excited is left out too (MulT, SSE-FT)"),
            "emotion-6": Task("emotion-6", "single-label", SIX, "the other emotions are left out"),
            "emotions": Task("emotions", "multi-label", FOUR, "each of emotion-4-strict's classes, present or not (SSE-FT)"),
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
    summary="IEMOCAP: 10,039 turns of ten actors in five sessions; words, voice, emotions, valence, arousal, dominance",
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
