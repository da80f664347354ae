"""M3ED: dialogues of Chinese television series; what is said, the voice, and one or several emotions of each utterance."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

EMOTIONS = ("happy", "neutral", "sad", "disgust", "anger", "fear", "surprise")
"""In the order of the corpus's own README; other files have other orders, so names are always carried along."""

PAPER = "Zhao et al., M3ED: Multi-modal Multi-scene Multi-label Emotional Dialogue Database, ACL 2022"
GET = (
    "Get annotation.json (M3ED.json) and splitInfo/movie_list_{train,val,test}.txt from https://github.com/AIM3-RUC/RUCM3ED, and the clips from its "
    "authors; put the wavs anywhere below the folder"
)


class M3edParams(Params):
    """Options of `m3ed`."""

    words: Literal["characters", "spaces"] = Field(
        "characters",
        description="characters: each Chinese character is a word of its own; spaces: the text as it is divided by spaces",
    )


def info(params: M3edParams) -> DatasetInfo:
    """What is known without reading."""
    return DatasetInfo(
        sources={
            "text": Source("words", "what is said, in Chinese; words have no times of their own"),
            "audio": Source("audio", "the utterance's own wav"),
        },
        tasks={
            "emotions": Task("emotions", "multi-label", EMOTIONS, "every emotion that the annotators agreed on"),
            "emotion": Task("emotion", "single-label", EMOTIONS, "the one that is strongest"),
        },
        group="show",
        official=("train", "valid", "test"),
        licence="research; the series are their makers'",
        paper=PAPER,
        get=GET,
    )


def build(params: M3edParams, root: Path | None) -> Dataset:
    """The dataset."""
    from .utterances import M3ed

    return M3ed(params, root)


def sample(root: Path, n: int, seed: int) -> None:
    """A tiny made-up copy."""
    from .tiny import write

    write(root, n, seed)


M3ED = DatasetSpec(
    name="m3ed",
    summary="M3ED: 24,449 utterances of 56 Chinese series in 990 dialogues, one or several of seven emotions; words, voice",
    params=M3edParams,
    info=info,
    build=build,
    sample=sample,
    paper=PAPER,
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `m3ed`."""
    register(M3ED)
