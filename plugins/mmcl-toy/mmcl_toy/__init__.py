"""The embedded corpus `toy`: short emotional clips in four modalities, made on the spot from a seeded generator. Synthetic."""

from __future__ import annotations

from pathlib import Path

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
SAMPLE_RATE, FACE_RATE, LANDMARK_RATE, FACE_SIZE = 16_000, 10.0, 25.0, 32


class ToyParams(Params):
    """Options of `toy`."""

    samples: int = Field(960, ge=12, le=1_000_000, description="clips")
    speakers: int = Field(
        36, ge=6, le=10_000, description="people; official splits give 60 % to train, 15 % to valid, 25 % to test"
    )
    spread: float = Field(
        0.5,
        ge=0,
        le=5,
        description="how much one clip's expression differs from its emotion's usual one, in units of that expression",
    )
    label_noise: float = Field(0.05, ge=0, le=1, description="share of the labels drawn anew at random")
    missing: float = Field(
        0.08,
        ge=0,
        lt=1,
        description="share of the clips that lack a modality, drawn for each modality by itself; never all of them",
    )
    seed: int = Field(0, ge=0, description="another seed, another corpus")


def _info(params: ToyParams) -> DatasetInfo:
    size = [1, FACE_SIZE, FACE_SIZE]
    return DatasetInfo(
        sources={
            "words": Source("words", "what is said, with the time of each word"),
            "audio": Source("audio", "a voice with background noise, 16 kHz", SAMPLE_RATE),
            "faces": Source("video", "a drawn face under changing light", FACE_RATE, {"shape": size}),
            "landmarks": Source(
                "sequence",
                "68 face landmarks under changing head pose",
                LANDMARK_RATE,
                {"shape": [68, 2], "axes": ["joint", "channel"], "graph": "face-68"},
            ),
        },
        tasks={"emotion": Task("emotion", "single-label", EMOTIONS, "the emotion that the clip was drawn for")},
        group="speaker",
        official=("train", "valid", "test"),
        synthetic=True,
        licence="made by mmcl; no rights reserved",
    )


def _build(params: ToyParams, root: Path | None) -> Dataset:
    from .corpus import Toy

    return Toy(params)


TOY = DatasetSpec(
    name="toy",
    summary="made-up emotional clips: words, voice, face and landmarks; needs no files",
    params=ToyParams,
    info=_info,
    build=_build,
    needs_root=False,
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer the dataset."""
    register(TOY)
