"""EmoBank: written English, sentence by sentence, with valence, arousal and dominance as people rated them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

__all__ = ["COLUMNS", "EMOBANK", "GET", "LEVELS", "PAPER", "SPLITS", "VALUES", "EmoBankParams"]

VALUES = {"valence": "V", "arousal": "A", "dominance": "D"}
"""What was rated → its column, from 1 to 5."""

COLUMNS = ("id", "split", *VALUES.values(), "text")
"""What the table must have, by name."""

LEVELS = ("1", "2", "3", "4", "5")
"""Valence in whole numbers, from unpleasant to pleasant."""

SPLITS = {"train": "train", "dev": "valid", "test": "test"}
"""EmoBank's word for a split → the toolkit's."""

PAPER = "Buechel and Hahn 2017, EACL: EmoBank: Studying the Impact of Annotation Perspective and Representation Format on Dimensional Emotion Analysis"
GET = "Get emobank.csv from https://github.com/JULIELab/EmoBank (folder corpus)."


class EmoBankParams(Params):
    """Options of `emobank`."""

    group: Literal["document", "sentence"] = Field(
        "document",
        description="what is kept apart. document: letters, stories, articles, each whole; sentence: each for itself, with the official "
        "splits, which put sentences of one document on both sides",
    )


def _info(params: EmoBankParams) -> DatasetInfo:
    scaled = "means of the ratings, their scale of 1 to 5 brought to −1 to 1"
    return DatasetInfo(
        sources={"text": Source("words", "the sentence; words have no times of their own")},
        tasks={
            "vad": Task("vad", "regression", tuple(VALUES), f"valence, arousal and dominance: {scaled}"),
            "va": Task("va", "regression", ("valence", "arousal"), f"valence and arousal alone: {scaled}"),
            "valence-level": Task(
                "valence-level", "single-label", LEVELS, "valence rounded to a whole number of its scale, halves upwards"
            ),
        },
        group=params.group,
        official=("train", "valid", "test") if params.group == "sentence" else (),
        licence="CC BY-SA 4.0",
        paper=PAPER,
        get=GET,
    )


def _build(params: EmoBankParams, root: Path | None) -> Dataset:
    from .sentences import EmoBank

    return EmoBank(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


EMOBANK = DatasetSpec(
    name="emobank",
    summary="EmoBank: 10,062 written sentences with valence, arousal and dominance",
    params=EmoBankParams,
    info=_info,
    build=_build,
    sample=_sample,
    paper=PAPER,
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `emobank`."""
    register(EMOBANK)
