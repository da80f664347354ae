"""The backbone `co-occurrence`: the two-stream network of Li et al. 2018 for skeletons, which learns what joints do together."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, ReadOutWidth, Register, hookimpl

HALVINGS = 4
"""How often steps and point features are halved."""


class CooccurrenceParams(Params):
    """Options of `co-occurrence`."""

    resample: int = Field(
        50,
        ge=2**HALVINGS,
        le=1024,
        description="every recording is brought to this many steps first, by linear interpolation between its real ones (Li et al.: 32, CMC-"
        "CMKM: 50)",
    )
    points: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (64, 32),
        min_length=2,
        max_length=2,
        description="widths of the two convolutions on each joint alone; the second one's features become an axis, which is halved four times",
    )
    channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (32, 64, 128, 256),
        min_length=4,
        max_length=4,
        description="widths of the convolutions that see all joints: two in each stream, two on both streams together",
    )
    motion: bool = Field(True, description="a second stream of what changes from step to step, beside the positions")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout after each of the last three convolutions")
    readout: Literal["flatten", "mean"] = Field(
        "flatten", description="all that is left, step after step, as Li et al.; or its mean over steps"
    )
    width: ReadOutWidth = None


def fits(params: CooccurrenceParams, layout: Layout) -> None:
    """Refuse too few features of a point to be halved four times."""
    if params.points[1] < 2**HALVINGS:
        raise ValueError(f"points is {list(params.points)}; the second is halved {HALVINGS} times and must be 16 or more")


def build(params: CooccurrenceParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Cooccurrence

    return Cooccurrence(params, layout)


CO_OCCURRENCE = BackboneSpec(
    name="co-occurrence",
    summary="two-stream convolutions in which joints become channels, on recordings of one length (HCN)",
    accepts=(("time", "joint", "channel"), ("time", "channel")),
    params=CooccurrenceParams,
    build=build,
    fits=fits,
    paper=(
        "Li, Zhong, Xie, Pu: Co-occurrence Feature Learning from Skeleton Data for Action Recognition and Detection with Hierarchical "
        "Aggregation, IJCAI 2018 (arXiv 1804.06055); on 50 steps as Brinzea, Khaertdinov, Asteriadis 2022 (CMC-CMKM, arXiv 2205.10071)"
    ),
    follows=(
        "Convolutions 1 to 6 of HCN for one person: 1×1 and 3×1 on each joint, joints turned into channels, 3×3 with pooling by 2, motion "
        "beside position, both joined before the fifth; ReLU after the first, fifth and sixth, dropout after the last three. Differs: the class "
        "layers are left out, and the vector is what they would read, or a linear layer of it; a stream of channels counts as joints of one "
        "channel. 504,192 weights on 20 joints of 3, 495,872 on 6 channels."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(CO_OCCURRENCE)
