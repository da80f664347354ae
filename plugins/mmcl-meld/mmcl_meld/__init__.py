"""MELD: utterances of the series Friends with emotion and sentiment; words, voice and picture, in dialogues of several speakers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

__all__ = ["BROKEN", "EMOTIONS", "GET", "PAPER", "SENTIMENTS", "SPLITS", "MeldParams"]

EMOTIONS = ("neutral", "sadness", "anger", "joy", "surprise", "fear", "disgust")
"""As the column Emotion writes them, in the order of SSE-FT's code."""

SENTIMENTS = ("negative", "neutral", "positive")
"""As the column Sentiment writes them."""

SPLITS = {"train": "train", "dev": "valid", "test": "test"}
"""MELD's word for a split → the toolkit's."""

BROKEN = {
    ("dev", 110, 7): "is not among the published clips",
    ("train", 125, 3): "cannot be decoded",
    ("train", 309, 0): "is wrongly cut: 41 s for one utterance",
    ("test", 38, 4): "is wrongly cut: 305 s for one utterance",
    ("test", 220, 0): "is wrongly cut: 235 s for one utterance",
    ("test", 155, 3): "has no length by its own times",
}
"""(split, dialogue, utterance) of the published clips that show no utterance → what is wrong with them."""

PAPER = "Poria, Hazarika, Majumder, Naik, Cambria and Mihalcea 2019, ACL: MELD"
GET = (
    "Download train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv from https://github.com/declare-lab/MELD (data/MELD) "
    "and, for voice and picture, MELD.Raw.tar.gz from the address given there, and unpack them into one folder."
)

Pixels = Annotated[int, Field(ge=8, le=1280)]


class MeldParams(Params):
    """Options of `meld`."""

    clips: Literal["auto", "none"] = Field(
        "auto",
        description="auto offers the sources `audio` and `video` to utterances whose clip is there and sound; none looks for no "
        "clip and leaves both out.",
    )
    video_size: tuple[Pixels, Pixels] = Field(
        (180, 320),
        description="Height and width in pixels to which frames are resized while reading (720 × 1280 as published).",
    )
    picture_rate: float = Field(
        24000 / 1001,
        gt=0,
        description="Frames per second of clips that were unpacked to folders of pictures; an mp4 tells its own rate.",
    )


def _info(params: MeldParams) -> DatasetInfo:
    sources = {"text": Source("words", "what is said, as the subtitles have it; words have no times of their own")}
    if params.clips == "auto":
        sources["audio"] = Source("audio", "the sound of the clip: voices, music and the audience's laughter")
        summary = "the picture of the clip, resized while reading; several people may be in it"
        sources["video"] = Source("video", summary, None, {"shape": [3, *params.video_size]})
    return DatasetInfo(
        sources=sources,
        tasks={
            "emotion": Task("emotion", "single-label", EMOTIONS, "the emotion that most annotators heard and saw"),
            "sentiment": Task("sentiment", "single-label", SENTIMENTS, "how the utterance is meant"),
        },
        group="dialogue",
        official=("train", "valid", "test"),
        licence="annotations GPL-3.0; the recordings are a broadcaster's",
        paper=PAPER,
        get=GET,
    )


def _build(params: MeldParams, root: Path | None) -> Dataset:
    from .utterances import Meld

    return Meld(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `meld`."""
    register(
        DatasetSpec(
            name="meld",
            summary="MELD: 13,708 utterances of Friends in dialogues, seven emotions and three sentiments; words, voice, picture",
            params=MeldParams,
            info=_info,
            build=_build,
            sample=_sample,
            paper=PAPER,
        )
    )
