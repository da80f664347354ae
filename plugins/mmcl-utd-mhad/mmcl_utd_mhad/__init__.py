"""UTD-MHAD: 27 actions by eight people, as a skeleton, a worn inertial sensor and a depth camera at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, PublishedSpec, Register, Source, Task, hookimpl

from .published import CMC_CMKM

__all__ = ["ACTIONS", "CHANNELS", "DEPTH", "GET", "JOINTS", "UtdMhadParams"]

ACTIONS = (
    "swipe_left",
    "swipe_right",
    "wave",
    "clap",
    "throw",
    "arm_cross",
    "basketball_shoot",
    "draw_x",
    "draw_circle_cw",
    "draw_circle_ccw",
    "draw_triangle",
    "bowling",
    "boxing",
    "baseball_swing",
    "tennis_swing",
    "arm_curl",
    "tennis_serve",
    "push",
    "knock",
    "catch",
    "pickup_throw",
    "jog",
    "walk",
    "sit2stand",
    "stand2sit",
    "lunge",
    "squat",
)
"""In the order of their codes a1–a27."""

JOINTS = (
    "head",
    "shoulder_center",
    "spine",
    "hip_center",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "left_hand",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "right_hand",
    "left_hip",
    "left_knee",
    "left_ankle",
    "left_foot",
    "right_hip",
    "right_knee",
    "right_ankle",
    "right_foot",
)

CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")

DEPTH = {"original": ((240, 320), 30.0), "reduced": ((48, 64), 15.0)}
"""Height and width, and frames per second, of what `depth` can be."""

GET = (
    "Download Skeleton.zip, Inertial.zip and Depth.zip from https://personal.utdallas.edu/~kehtar/UTD-MHAD.html and unpack "
    "them into one folder."
)
PAPER = "Chen, Jafari and Kehtarnavaz 2015, ICIP: UTD-MHAD"


class UtdMhadParams(Params):
    """Options of `utd-mhad`."""

    depth: Literal["reduced", "original"] = Field(
        "reduced",
        description="Size of the depth frames: reduced (48 × 64 at 15 Hz: every second frame, 5 × 5 means; made while reading, "
        "where the files are as published) or original (240 × 320 at 30 Hz). Either way 16 depth units a level.",
    )
    clock: Literal["common", "nominal"] = Field(
        "common",
        description="common: all three last as long as the skeleton does at 30 Hz, the sensor's samples spread evenly over that "
        "time and read at 50 Hz; nominal: the sensor's samples as recorded, by whose rate it lasts about 1.6 times as long",
    )


def _info(params: UtdMhadParams) -> DatasetInfo:
    (height, width), rate = DEPTH[params.depth]
    skeleton = {
        "shape": [20, 3],
        "axes": ["joint", "channel"],
        "graph": "kinect-20",
        "joints": list(JOINTS),
        "root": JOINTS.index("hip_center"),
        "shoulders": [JOINTS.index("left_shoulder"), JOINTS.index("right_shoulder")],
        "torso": [JOINTS.index("shoulder_center"), JOINTS.index("hip_center")],
    }
    inertial = {"shape": [6], "axes": ["channel"], "channels": list(CHANNELS)}
    return DatasetInfo(
        sources={
            "skeleton": Source("sequence", "20 joints of the body in metres, x y z, as Kinect sees them", 30.0, skeleton),
            "inertial": Source(
                "sequence", "one worn sensor: acceleration and angular velocity, three axes each", 50.0, inertial
            ),
            "depth": Source(
                "video", "the depth camera's picture, 0 where nothing was seen", rate, {"shape": [1, height, width]}
            ),
        },
        tasks={"action": Task("action", "single-label", ACTIONS, "which of the 27 actions is performed")},
        group="subject",
        official=("train", "test"),
        licence="none stated; published for research, with citation",
        paper=PAPER,
        get=GET,
    )


def _build(params: UtdMhadParams, root: Path | None) -> Dataset:
    from .recordings import UtdMhad

    return UtdMhad(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `utd-mhad`."""
    register(
        DatasetSpec(
            name="utd-mhad",
            summary="UTD-MHAD: 27 actions by 8 people as skeleton, inertial and depth sequences, split across subjects",
            params=UtdMhadParams,
            info=_info,
            build=_build,
            sample=_sample,
            paper=PAPER,
        )
    )


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer what others have published on it."""
    register(CMC_CMKM)
