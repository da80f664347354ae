"""REACT-Nao: faces of people who play a game beside a robot, as OpenFace saw them: landmarks, action units, gaze and pose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, Task, hookimpl

__all__ = ["CONDITIONS", "GAZE_POSE", "GENDERS", "GET", "RATE", "REACT", "UNITS", "ReactParams"]

RATE = 10.0
"""Frames a second, nominal: every fifth or sixth frame of a game that was to run at 60, which is 10.0 to 12.1 by its frame numbers."""

_SEEN = tuple(f"AU{n:02d}" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45))
UNITS = (*(f"{unit}_r" for unit in _SEEN if unit != "AU28"), *(f"{unit}_c" for unit in _SEEN))
"""17 intensities (0–5) and 18 presences (0 or 1), as OpenFace names and orders them."""

GAZE_POSE = (
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    "gaze_angle_x",
    "gaze_angle_y",
    *(f"pose_T{axis}" for axis in "xyz"),
    *(f"pose_R{axis}" for axis in "xyz"),
)

GENDERS = ("female", "male")
CONDITIONS = ("A", "B", "C", "D")
"""Of the study: individual or team goal (A, C: team; B, D: individual), before or after (A, B: before; C, D: after)."""

GET = (
    "Get the facial features of REACT-Nao (facialfeatures_PP102_g3.csv …), linked from https://github.com/yale-img/REACT, and run "
    "`python -m mmcl_react.convert CSV_FOLDER THIS_FOLDER`."
)
PAPER = "Candon, Georgiou, Zhou, Richardson, Zhang, Scassellati and Vázquez 2024, HRI: REACT: Two Datasets for Analyzing Both Human Reactions and Evaluative Feedback to Robots Over Time"


Unit = Annotated[str, Field(pattern=f"^({'|'.join(_SEEN)})$")]


class ReactParams(Params):
    """Options of `react`."""

    seconds: float | None = Field(
        5.0,
        ge=0.1,
        le=600,
        description="length in seconds (at 10 frames each) of the pieces into which sequences are cut, each a recording of its own "
        "of the same person; what is left at the end is not used; null: whole sequences",
    )
    hop: float | None = Field(
        None,
        ge=0.1,
        le=600,
        description="seconds from the beginning of one piece to that of the next; left out: as long as a piece, so that none overlap",
    )
    units: tuple[Unit, ...] = Field(
        ("AU12", "AU25", "AU26"),
        min_length=1,
        description="action units of the tasks `units` and `units-next`: AU12 draws the corners of the lips up, AU25 parts the lips, "
        "AU26 drops the jaw",
    )
    present: float = Field(
        0.5,
        gt=0,
        le=1,
        description="a unit counts as present in a piece if OpenFace sees it in at least this share of its frames",
    )


def _info(params: ReactParams) -> DatasetInfo:
    units = tuple(dict.fromkeys(params.units))
    about = f"seen by OpenFace in at least {params.present:.0%} of the frames; computed from the source `action-units`"
    tasks = {"units": Task("units", "multi-label", units, f"units of the piece: {about}, so predict it from the others")}
    if params.seconds is not None:
        following = f"units of the stretch that follows the piece, as long as it: {about}"
        tasks["units-next"] = Task("units-next", "multi-label", units, following)
    tasks["gender"] = Task("gender", "single-label", GENDERS, "as the person stated it")
    tasks["condition"] = Task("condition", "single-label", CONDITIONS, "the condition of the study, one a person")
    face = {"shape": [68, 2], "axes": ["joint", "channel"], "graph": "face-68"}
    return DatasetInfo(
        sources={
            "landmarks": Source(
                "sequence", "68 points of the face, x y, their mean taken out, in distances between the eyes", RATE, face
            ),
            "action-units": Source(
                "table", "17 intensities (0-5) and 18 presences (0-1) of action units", RATE, {"columns": list(UNITS)}
            ),
            "gaze-pose": Source(
                "table",
                "where both eyes look (vectors, angles in radians), where the head is (mm) and how it is turned (radians)",
                RATE,
                {"columns": list(GAZE_POSE)},
            ),
        },
        tasks=tasks,
        group="participant",
        official=("train", "valid"),
        licence="none stated; its authors ask for citation",
        paper=PAPER,
        get=GET,
    )


def _build(params: ReactParams, root: Path | None) -> Dataset:
    from .recordings import React

    return React(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


REACT = DatasetSpec(
    name="react",
    summary="REACT-Nao: landmarks, action units, gaze and pose of 52 people who play a game beside a robot, no voice",
    params=ReactParams,
    info=_info,
    build=_build,
    sample=_sample,
    paper=PAPER,
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `react`."""
    register(REACT)
