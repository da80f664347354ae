"""The backbone `co-occurrence`: the two-stream network of Li et al. 2018 for skeletons, which learns what joints do together."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, ReadOutWidth, Register, hookimpl


class CooccurrenceParams(Params):
    """Options of `co-occurrence`."""

    resample: int = Field(
        50,
        ge=8,
        le=1024,
        description="every recording is brought to this many steps first, by linear interpolation between its real ones (Li et al.: 32, CMC-"
        "CMKM: 50)",
    )
    points: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (64, 32),
        min_length=2,
        max_length=2,
        description="widths of the two convolutions on each joint alone; the second one's features become an axis, which is halved as often as "
        "there are channels",
    )
    channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (32, 64, 128, 256),
        min_length=3,
        max_length=4,
        description="widths of the convolutions that see all joints, each followed by pooling by 2: two in each stream, and one or two on "
        "both streams together",
    )
    norm: Literal["none", "batch"] = Field(
        "none",
        description="none: as Li et al.; batch: batch normalisation and ReLU after every convolution",
    )
    motion: bool = Field(True, description="a second stream of what changes from step to step, beside the positions")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="dropout after the second convolution of a stream and each one behind it"
    )
    readout: Literal["flatten", "mean"] = Field(
        "flatten", description="all that is left, step after step, as Li et al.; or its mean over steps"
    )
    width: ReadOutWidth = None

    @property
    def least(self) -> int:
        """How many steps, and features of a point, are halved to one."""
        return int(2 ** len(self.channels))


def fits(params: CooccurrenceParams, layout: Layout) -> None:
    """Refuse too few steps or features of a point to be halved as often as there are channels."""
    times = f"halved {len(params.channels)} times and must be {params.least} or more"
    if params.points[1] < params.least:
        raise ValueError(f"points is {list(params.points)}; the second is {times}")
    if params.resample < params.least:
        raise ValueError(f"resample is {params.resample}; steps are {times}")


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
        "beside position, both joined before the fifth; ReLU after the first, fifth and sixth, dropout after the last three; `norm: batch` "
        "and three `channels` are ours. Differs: the class "
        "layers are left out, and the vector is what they would read, or a linear layer of it; a stream of channels counts as joints of one "
        "channel. 504,192 weights on 20 joints of 3, 495,872 on 6 channels."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(CO_OCCURRENCE)
