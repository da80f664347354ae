"""RAVDESS: 24 actors speak (and sing) two sentences in eight emotions; voice, and the face as OpenFace saw it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, PublishedSpec, Register, Source, Task, hookimpl

from .published import TRANSFER

__all__ = ["AVERAGED_COLUMNS", "EMOTIONS", "FRAME_COLUMNS", "FRAME_RATE", "GET", "RavdessParams", "classes_of"]

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of their codes 01–08."""

SUNG = EMOTIONS[:6]
"""Nobody sings in disgust or surprise."""

FRAME_RATE = 30000 / 1001
"""Frames per second of the videos that OpenFace was run on."""


def _points(letters: str, n: int, prefix: str = "") -> list[str]:
    """x_0 … x_n-1, then the same for the next letter, as OpenFace numbers its points."""
    return [f"{prefix}{letter}_{i}" for letter in letters for i in range(n)]


_INTENSITIES = [f"AU{n:02d}_r" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)]
_PRESENCES = [f"AU{n:02d}_c" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)]

AVERAGED_COLUMNS = (*_INTENSITIES, *_PRESENCES)
"""The 17 intensities (0–5) and 18 presences (0–1) of action units."""

FRAME_COLUMNS = (
    "confidence",
    "success",
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    "gaze_angle_x",
    "gaze_angle_y",
    *_points("xyXYZ", 56, "eye_lmk_"),
    *(f"pose_T{axis}" for axis in "xyz"),
    *(f"pose_R{axis}" for axis in "xyz"),
    *_points("xy", 68),
    *_points("XYZ", 68),
    "p_scale",
    *(f"p_{what}" for what in ("rx", "ry", "rz", "tx", "ty")),
    *(f"p_{i}" for i in range(34)),
    *AVERAGED_COLUMNS,
)
"""What OpenFace 2.x writes of each frame, in its order, without the frame's number, face and time."""

GET = (
    "Download Audio_Speech_Actors_01-24.zip (and Audio_Song_Actors_01-24.zip) from https://zenodo.org/records/1188976 and, for "
    "the face, FacialTracking_Actors_01-24.zip from https://zenodo.org/records/3255102, and unpack them into one folder."
)

Pixels = Annotated[int, Field(ge=8, le=1280)]


class RavdessParams(Params):
    """Options of `ravdess`."""

    channel: Literal["speech", "song", "both"] = Field(
        "speech", description="Which recordings: speech (1,440), song (1,012; six emotions, none by actor 18) or both."
    )
    classes: Literal["all", "calm-is-neutral"] = Field(
        "all",
        description="Emotions to tell apart: all (eight; song has six) or calm-is-neutral (calm counts as neutral: seven; song five).",
    )
    merge_calm: bool = Field(False, description="The older way of writing `classes: calm-is-neutral`.")
    visual: Literal["auto", "none"] = Field(
        "auto", description="auto offers the source `openface` to recordings that have a CSV; none leaves it out."
    )
    openface: Literal["averaged", "frames"] = Field(
        "averaged",
        description="What the CSVs hold: averaged (one row per recording: 35 action units averaged over time) or frames (a row "
        "per video frame, 29.97 a second: gaze, eyes, pose, 68 landmarks, shape, action units). The other sort is refused.",
    )
    video: Literal["none", "auto"] = Field(
        "none",
        description="auto offers the source `video` to recordings that have an mp4 (modality 01 or 02) or a folder of pictures "
        "named like one, and takes the voice from the mp4 of 01 where the wav is missing; none looks for neither.",
    )
    video_size: tuple[Pixels, Pixels] = Field(
        (180, 320),
        description="Height and width in pixels to which frames are resized while reading (720 × 1280 as published).",
    )
    copies: Literal["merge"] = Field(
        "merge",
        description="Files 01, 02 and 03 of a take are one recording. There is no other choice: counted apart, as in 2,880 for "
        "1,440 takes, copies of one take stand on both sides of a split.",
    )

    @property
    def calm_is_neutral(self) -> bool:
        """Whether calm counts as neutral, in either way of writing it."""
        return self.merge_calm or self.classes == "calm-is-neutral"


def classes_of(params: RavdessParams) -> tuple[str, ...]:
    """Names of the emotions to tell apart, in the order of their codes."""
    emotions = SUNG if params.channel == "song" else EMOTIONS
    return tuple(e for e in emotions if not (params.calm_is_neutral and e == "calm"))


def _info(params: RavdessParams) -> DatasetInfo:
    sources = {"audio": Source("audio", "the voice: 48 kHz as published; mirrors hold 16 and 22.05 kHz too")}
    if params.visual == "auto" and params.openface == "averaged":
        summary = "OpenFace action units averaged over the recording: 17 intensities (0-5), 18 presences (0-1)"
        sources["openface"] = Source("table", summary, None, {"columns": list(AVERAGED_COLUMNS)})
    elif params.visual == "auto":
        summary = "OpenFace's columns per video frame; rows with success 0 are frames where no face was found"
        sources["openface"] = Source("table", summary, FRAME_RATE, {"columns": list(FRAME_COLUMNS)})
    if params.video == "auto":
        summary = "the actor's head and shoulders, resized while reading"
        sources["video"] = Source("video", summary, FRAME_RATE, {"shape": [3, *params.video_size]})
    return DatasetInfo(
        sources=sources,
        tasks={"emotion": Task("emotion", "single-label", classes_of(params), "the emotion that the actor was asked for")},
        group="actor",
        licence="CC BY-NC-SA 4.0",
        paper="Livingstone and Russo 2018, PLoS ONE 13(5): e0196391",
        get=GET,
    )


def _build(params: RavdessParams, root: Path | None) -> Dataset:
    from .recordings import Ravdess

    return Ravdess(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


def _sample_for(params: RavdessParams, root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed, whole=params.openface == "frames")


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `ravdess`."""
    register(
        DatasetSpec(
            name="ravdess",
            summary="RAVDESS: acted speech and song in eight emotions, 24 actors, voice and OpenFace's view of the face",
            params=RavdessParams,
            info=_info,
            build=_build,
            sample=_sample,
            sample_for=_sample_for,
            paper="Livingstone and Russo 2018, PLoS ONE 13(5): e0196391",
        )
    )


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer what others have published on it."""
    register(TRANSFER)
