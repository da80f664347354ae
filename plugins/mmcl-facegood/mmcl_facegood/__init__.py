"""FACEGOOD: one speaker's voice and face at once, the face as blendshapes of an animation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmcl.api import Dataset, DatasetInfo, DatasetSpec, Field, Params, Register, Source, hookimpl

__all__ = ["BLENDSHAPES", "FACEGOOD", "FACE_RATE", "GET", "MOVING", "VOICE_RATE", "FacegoodParams"]

VOICE_RATE = 16_000
FACE_RATE = 30.0

_NAMES = """
    brow_lower_l tongue_Scale_X tongue_Scale__X tongue_Scale_Y tongue_Scale__Y tongue_Scale_Z tongue_Scale__Z nose_out_l
    nose_out_r tongue_u tongue_u_u cheek_suck_r brow_raise_d mouth_stretch_u tongue_u_d tooth_d_d tongue_d tooth_r
    tooth_d_u cheek_UP eye_blink1_l eye_blink1_r eye_blink2_l eye_blink2_r eye_lidTight_l eye_lidTight_r eye_shutTight_l
    eye_shutTight_r brow_lower_r eye_upperLidRaise_l eye_upperLidRaise_r eye_downLidRaise_l eye_downLidRaise_r
    jaw_sideways_l jaw_sideways_r jaw_thrust_c mouth_chew_c mouth_chinRaise_d mouth_chinRaise_u brow_raise_c
    mouth_dimple_l mouth_dimple_r mouth_funnel_dl mouth_funnel_dr mouth_funnel_ul mouth_funnel_ur
    mouth_lipCornerDepressFix_l mouth_lipCornerDepressFix_r mouth_lipCornerDepress_l mouth_lipCornerDepress_r
    brow_raise_l mouth_lipCornerPullOpen_l mouth_lipCornerPullOpen_r mouth_lipCornerPull_l mouth_lipCornerPull_r
    mouth_lipStretchOpen_l mouth_lipStretchOpen_r mouth_lipStretch_l mouth_lipStretch_r mouth_lowerLipDepress_l
    mouth_lowerLipDepress_r brow_raise_r mouth_lowerLipProtrude_c mouth_oh_c mouth_oo_c mouth_pressFix_c mouth_press_l
    mouth_press_r mouth_pucker_l mouth_pucker_r mouth_screamFix_c mouth_sideways_l cheek_puff_l mouth_sideways_r
    mouth_stretch_c mouth_suck_dl mouth_suck_dr mouth_suck_ul mouth_suck_ur mouth_upperLipRaise_l mouth_upperLipRaise_r
    nose_wrinkle_l nose_wrinkle_r cheek_puff_r tooth_l eye_lookDown1_l eye_lookDown2_l eye_lookLeft_l eye_lookRight_l
    eye_lookUp_l eye_lookDown1_r eye_lookDown2_r eye_lookLeft_r cheek_raise_l eye_lookRight_r eye_lookUp_r tongue_Rot_1X
    tongue_Rot__1X tongue_Rot_2X tongue_Rot__2X tongue_Rot_3X tongue_Rot__3X tongue_Rot_1Y tongue_Rot__1Y cheek_raise_r
    tongue_Rot_2Y tongue_Rot__2Y tongue_Rot_3Y tongue_Rot__3Y tongue_Rot_1Z tongue_Rot__1Z tongue_Rot_2Z tongue_Rot__2Z
    tongue_Rot_3Z tongue_Rot__3Z cheek_suck_l
"""
BLENDSHAPES = tuple(_NAMES.split())
"""In the order of the published arrays."""

_MOVING = """
    tooth_d_d mouth_chinRaise_u mouth_funnel_dl mouth_funnel_dr mouth_funnel_ul mouth_funnel_ur mouth_lipCornerPull_l
    mouth_lipCornerPull_r mouth_lipStretch_l mouth_lipStretch_r mouth_lowerLipDepress_l mouth_lowerLipDepress_r
    mouth_oh_c mouth_oo_c mouth_press_l mouth_press_r mouth_pucker_l mouth_pucker_r mouth_stretch_c mouth_suck_dl
    mouth_suck_dr mouth_suck_ul mouth_suck_ur mouth_upperLipRaise_l mouth_upperLipRaise_r
"""
MOVING = tuple(_MOVING.split())
"""Those whose deviation over the takes 2_01 to 2_03 is above 0.001; the others rest."""

GET = (
    "The takes stand in https://github.com/FACEGOOD/FACEGOOD-Audio2Face (code/train/wav/1114_2_01.wav …, "
    "code/train/bs_value/bs_value_1114_2_01.npy …); the plug-in's README says how they are laid out here."
)


class FacegoodParams(Params):
    """Options of `facegood`."""

    seconds: float | None = Field(
        1.0,
        ge=0.1,
        le=120,
        description="length in seconds of the pieces into which takes are cut, each a recording of its own; null: whole takes",
    )
    hop: float | None = Field(
        None,
        ge=0.05,
        le=120,
        description="seconds from the beginning of one piece to that of the next; left out: as long as a piece, so that none overlap",
    )
    blendshapes: Literal["moving", "all"] = Field(
        "moving", description="moving: the 25 of mouth and teeth that ever move; all: all 116, most of which rest"
    )
    valid: Literal["take", "ends"] = Field(
        "take",
        description="what the official split validates on: take (the last take but one; one of three is left to learn from) or ends "
        "(the last fifth of every take but the last, a group of its own, with a gap of a piece before it); the last take is the test",
    )


def _info(params: FacegoodParams) -> DatasetInfo:
    names = MOVING if params.blendshapes == "moving" else BLENDSHAPES
    face = {"shape": [len(names)], "axes": ["channel"], "channels": list(names)}
    return DatasetInfo(
        sources={
            "voice": Source("audio", "the voice, mono", float(VOICE_RATE)),
            "face": Source(
                "sequence", "weights of blendshapes, 0 (at rest) to 1, as an animator's tool fitted them", FACE_RATE, face
            ),
        },
        tasks={},
        group="take" if params.valid == "take" else "stretch of a take",
        official=("train", "valid", "test"),
        licence="MIT",
        paper="https://github.com/FACEGOOD/FACEGOOD-Audio2Face",
        get=GET,
    )


def _build(params: FacegoodParams, root: Path | None) -> Dataset:
    from .recordings import Facegood

    return Facegood(params, root)


def _sample(root: Path, n: int, seed: int) -> None:
    from .tiny import write

    write(root, n, seed)


FACEGOOD = DatasetSpec(
    name="facegood",
    summary="FACEGOOD: one speaker's voice and blendshapes of the face, three takes of two minutes, no labels",
    params=FacegoodParams,
    info=_info,
    build=_build,
    sample=_sample,
    paper="https://github.com/FACEGOOD/FACEGOOD-Audio2Face",
)


@hookimpl
def register_datasets(register: Register[DatasetSpec]) -> None:
    """Offer `facegood`."""
    register(FACEGOOD)
