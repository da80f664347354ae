"""Motion beside form: a skeleton's four streams, differences of depth frames, landmarks aligned by the eyes and how they move."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mmcl.api import Field, Layout, Modality, ModalitySpec, Params, Register, Source, hookimpl

from .bones import parents_of

__all__ = ["MODALITIES", "DepthMotionParams", "LandmarksMotionParams", "SkeletonStreamsParams"]

Stream = Literal["joint", "bone", "joint-motion", "bone-motion"]
Pixels = Annotated[int, Field(ge=1, le=4096)]


def step_of(source: Source, name: str) -> tuple[int, ...]:
    """The shape of one step. Raises ValueError if the source does not say it, or says no rate."""
    shape = source.notes.get("shape")
    if not shape:
        raise ValueError(f"'{name}' needs to know the shape of a step, and the source does not say it (notes: shape)")
    if source.rate is None:
        raise ValueError(f"'{name}' needs the source's rate")
    return tuple(int(n) for n in shape)


# ---------------------------------------------------------------------------------------------------------------- skeleton


class SkeletonStreamsParams(Params):
    """Options of `skeleton-streams`."""

    streams: tuple[Stream, ...] = Field(
        ("joint", "bone", "joint-motion", "bone-motion"),
        min_length=1,
        description="what stands in the channels, one after another: joint (positions), bone (from the next joint towards the root to "
        "the joint), and how fast each moves, in units per second",
    )
    root: Literal["every-frame", "first-frame", "none"] = Field(
        "first-frame",
        description="when the root joint (hip) is moved to the origin: in every frame (where a person goes is lost), by where it "
        "stood in the first frame, or never",
    )
    view: Literal["shoulders", "hips", "none"] = Field(
        "shoulders",
        description="turn about the vertical axis (y) so that the line through both shoulders, or both hips, lies along x on average "
        "over the recording: which way a person faces is no cue",
    )
    scale: Literal["torso", "bones", "none"] = Field(
        "torso", description="divide by the recording's median torso length, or by its median mean length of all bones"
    )
    gaps: Literal["interpolate", "keep"] = Field(
        "interpolate",
        description="joints at exactly zero, or NaN, were not seen: interpolate puts them on the line between the frames in which they "
        "were, and counts them; keep takes zeros as positions and refuses NaN",
    )


def pair_of(source: Source, name: str) -> tuple[int, int]:
    """The two joints that say where a body faces, by the source's notes or the names of its joints."""
    given = source.notes.get(name)
    if given is None:
        names = [str(joint) for joint in source.notes.get("joints", ())]
        sides = [f"{side}_{name.removesuffix('s')}" for side in ("left", "right")]
        given = [names.index(side) for side in sides if side in names]
    if len(given) != 2:
        raise ValueError(
            f"the source does not say which joints are its {name} (notes: {name}); set view to another, or to none"
        )
    return int(given[0]), int(given[1])


def skeleton_streams_layout(params: SkeletonStreamsParams, source: Source) -> Layout:
    """Joints × channels, the graph handed on."""
    shape = step_of(source, "skeleton-streams")
    if len(shape) != 2 or list(source.notes.get("axes", ["joint", "channel"])) != ["joint", "channel"]:
        raise ValueError(f"'skeleton-streams' reads joints × channels; the source has steps of shape {list(shape)}")
    if len(set(params.streams)) < len(params.streams):
        raise ValueError(f"streams names {', '.join(params.streams)}; each may stand once")
    asked: dict[str, list[int]] = {}
    if params.view != "none":
        asked[params.view] = list(pair_of(source, params.view))
        if shape[1] != 3:
            raise ValueError(f"turning needs three coordinates, the source has {shape[1]}; set view: none")
    for wanted, note in ((params.root != "none", "root"), (params.scale == "torso", "torso")):
        if wanted and note not in source.notes:
            other = "root: none" if note == "root" else "scale: bones, or none"
            raise ValueError(f"the source does not say which joints are its {note} (notes: {note}); set {other}")
        if wanted:
            asked[note] = [source.notes[note]] if note == "root" else list(source.notes[note])
    for note, joints in asked.items():
        if not all(0 <= joint < shape[0] for joint in joints):
            raise ValueError(f"the source's notes name {joints} as {note}, and it has {shape[0]} joints, counted from 0")
    if params.scale == "bones" or {"bone", "bone-motion"} & set(params.streams):
        parents_of(source.notes, shape[0])
    kept: dict[str, Any] = {name: source.notes[name] for name in ("graph", "edges", "centre") if name in source.notes}
    sizes = {"joint": shape[0], "channel": shape[1] * len(params.streams)}
    kept |= mirror_of([str(joint) for joint in source.notes.get("joints", ())], shape, len(params.streams))
    return Layout("skeleton", ("time", "joint", "channel"), sizes, source.rate, notes=kept)


def mirror_of(joints: list[str], shape: tuple[int, int], streams: int) -> dict[str, Any]:
    """How a body looks in a mirror, for `augment: {mirror: …}`: left_x and right_x change places, and the first direction its sign.

    Nothing where the source does not name its joints.
    """
    if len(joints) != shape[0]:
        return {}
    other = {"left_": "right_", "right_": "left_"}
    names = [
        next((to + joint.removeprefix(side) for side, to in other.items() if joint.startswith(side)), joint) for joint in joints
    ]
    if not set(names) <= set(joints) or names == joints:
        return {}
    return {"mirror": {"swap": [joints.index(name) for name in names], "negate": [k * shape[1] for k in range(streams)]}}


def build_skeleton_streams(params: SkeletonStreamsParams, source: Source) -> Modality:
    """The modality."""
    from .skeleton import SkeletonStreams

    return SkeletonStreams(params, source)


# ------------------------------------------------------------------------------------------------------------------- depth


class DepthMotionParams(Params):
    """Options of `depth-motion`."""

    give: Literal["motion", "both"] = Field(
        "motion", description="motion: each frame less the one before; both: that after the frame itself, as two channels"
    )
    step: int = Field(
        1, ge=1, le=100, description="how many frames before a frame the other one lies; the first ones have no motion"
    )
    size: tuple[Pixels, Pixels] | None = Field(
        None,
        description="height and width to which frames are brought by means of whole blocks of pixels; left out: as they are",
    )
    centre: bool = Field(
        False,
        description="move the picture, once for a recording, so that what is not 0 lies in its middle on average: for depth whose "
        "background was taken out",
    )


def depth_motion_layout(params: DepthMotionParams, source: Source) -> Layout:
    """One channel, or two, in full scales (1 is 255 levels)."""
    shape = step_of(source, "depth-motion")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"'depth-motion' reads frames of 1 or 3 channels × height × width; the source has {list(shape)}")
    height, width = params.size or shape[1:]
    if shape[1] % height or shape[2] % width:
        raise ValueError(f"size {[height, width]} does not divide the source's {list(shape[1:])} into whole blocks of pixels")
    sizes = {"channel": 1 if params.give == "motion" else 2, "height": height, "width": width}
    return Layout("video", ("time", "channel", "height", "width"), sizes, source.rate)


def build_depth_motion(params: DepthMotionParams, source: Source) -> Modality:
    """The modality."""
    from .depth import DepthMotion

    return DepthMotion(params, source)


# --------------------------------------------------------------------------------------------------------------- landmarks


class LandmarksMotionParams(Params):
    """Options of `landmarks-motion`."""

    give: Literal["both", "position", "motion"] = Field(
        "both",
        description="both: x and y of each point, and how fast each changes, in eye distances per second; or one of them",
    )
    align: Literal["frame", "recording"] = Field(
        "frame",
        description="what is turned, moved and scaled so that the eyes' centres lie at (−½, 0) and (½, 0): each frame for itself (the "
        "head's place, size and roll are lost) or the whole recording alike, by its median eyes (they stay as motion)",
    )
    jaw: Literal["keep", "drop"] = Field("keep", description="drop: leave the 17 points of the jaw line out (51 points)")


def landmarks_motion_layout(params: LandmarksMotionParams, source: Source) -> Layout:
    """68 or 51 points."""
    if source.type == "sequence" and (shape := step_of(source, "landmarks-motion")) != (68, 2):
        raise ValueError(f"'landmarks-motion' reads 68 points of x and y; the source has steps of shape {list(shape)}")
    if source.type == "table":
        columns = {str(name).strip() for name in source.notes.get("columns", ())}
        missing = [name for axis in "xy" for i in range(68) if (name := f"{axis}_{i}") not in columns]
        if missing:
            raise ValueError(f"the table lacks the landmark columns x_0 … y_67 of OpenFace (first one missing: {missing[0]})")
        if source.rate is None:
            raise ValueError("the table has one row a recording; landmarks need one a frame")
    joints = 68 if params.jaw == "keep" else 51
    sizes = {"joint": joints, "channel": 4 if params.give == "both" else 2}
    return Layout("skeleton", ("time", "joint", "channel"), sizes, source.rate, notes={"graph": f"face-{joints}"})


def build_landmarks_motion(params: LandmarksMotionParams, source: Source) -> Modality:
    """The modality."""
    from .landmarks import LandmarksMotion

    return LandmarksMotion(params, source)


MODALITIES = (
    ModalitySpec(
        "skeleton-streams",
        "a body's joints, bones and the motion of both, centred, turned to the front and scaled; gaps filled",
        ("sequence",),
        SkeletonStreamsParams,
        skeleton_streams_layout,
        build_skeleton_streams,
        paper="the four streams: Shi et al., CVPR 2019 (2s-AGCN) and TIP 2020 (MS-AAGCN)",
    ),
    ModalitySpec(
        "depth-motion",
        "differences of depth or grey frames, in place of the frames or beside them",
        ("video",),
        DepthMotionParams,
        depth_motion_layout,
        build_depth_motion,
    ),
    ModalitySpec(
        "landmarks-motion",
        "68 face landmarks aligned by the eyes, and how they move",
        ("sequence", "table"),
        LandmarksMotionParams,
        landmarks_motion_layout,
        build_landmarks_motion,
    ),
)


@hookimpl
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer the modalities."""
    for spec in MODALITIES:
        register(spec)
