"""M3ED: dialogues of Chinese television series; what is said, the voice, the picture, and one or several emotions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

EMOTIONS = ("happy", "neutral", "sad", "disgust", "anger", "fear", "surprise")
"""In the order of the corpus's own README; other files have other orders, so names are always carried along."""

PAPER = "Zhao et al., M3ED: Multi-modal Multi-scene Multi-label Emotional Dialogue Database, ACL 2022"
GET = (
    "Get annotation.json (M3ED.json) and splitInfo/movie_list_{train,val,test}.txt from https://github.com/AIM3-RUC/RUCM3ED, and the clips from its "
    "authors; put them anywhere below the folder"
)

Pixels = Annotated[int, Field(ge=8, le=1280)]


class M3edParams(Params):
    """Options of `m3ed`."""

    words: Literal["characters", "spaces"] = Field(
        "characters",
        description="characters: each Chinese character and each mark is a word of its own, and so is a run of Latin letters or digits (OK, 300); "
        "spaces: the text as it is divided by spaces",
    )
    clips: Literal["auto", "none"] = Field(
        "auto",
        description="auto offers the sources `audio` and `video` to utterances whose wav, or whose dialogue's film, is there; none looks for "
        "neither and leaves both out",
    )
    video_size: tuple[Pixels, Pixels] = Field(
        (90, 160), description="height and width in pixels to which films are resized while reading"
    )
    picture_rate: float = Field(
        25.0,
        gt=0,
        description="frames per second of films that were unpacked to folders of pictures; an mp4 tells its own rate",
    )


def info(params: M3edParams) -> DatasetInfo:
    """What is known without reading."""
    sources = {"text": Source("words", "what is said, in Chinese; words have no times of their own")}
    if params.clips == "auto":
        sources["audio"] = Source("audio", "the utterance's own wav, with what else is heard in the series")
        summary = "the dialogue's film, cut to the utterance; several people may be in it"
        sources["video"] = Source("video", summary, None, {"shape": [3, *params.video_size]})
    return DatasetInfo(
        sources=sources,
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
    summary="M3ED: 24,449 utterances of 56 Chinese series in 990 dialogues, one or several of seven emotions; words, voice, picture",
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
