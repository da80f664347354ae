"""The backbone `resnet-1d`: residual convolutions over time that keep joints, axes, bands or parts of a picture apart at first."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, ReadOutWidth, Register, hookimpl

GROUPS = 16
"""The most groups that channels are divided into where the recipe does not say how many stay together."""


class Resnet1dParams(Params):
    """Options of `resnet-1d`."""

    apart: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        (16,),
        max_length=8,
        description="widths of the first stages, in which each joint, group of channels or part of a picture has filters of its own and "
        "none sees another; []: no such stage",
    )
    group: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="neighbouring channels of a stream without joints that stay together, such as the 3 axes of a sensor or 8 bands; left "
        "out: as few as make at most 16 groups",
    )
    channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (64, 128), min_length=1, max_length=8, description="widths of the stages after those, in which all is mixed"
    )
    blocks: int = Field(1, ge=1, le=16, description="residual blocks of each stage, two convolutions each")
    kernel: int = Field(5, ge=1, le=63, description="steps that a convolution spans; odd")
    strides: tuple[Annotated[int, Field(ge=1, le=16)], ...] | None = Field(
        None, description="temporal stride of each stage; left out: 1 for the first stage, 2 for every later one"
    )
    norm: Literal["group", "batch", "layer"] = Field(
        "group",
        description="statistics of a recording over its real steps, in groups of channels; of the batch, by channel; or of each step, over "
        "its channels. What is kept apart is normalised apart",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of whole channels between the two convolutions of a block")
    resample: int | None = Field(
        None,
        ge=2,
        le=4096,
        description="every recording is brought to this many steps first, by linear interpolation between its real ones, so that fast and "
        "slow look alike; left out: as long as it is",
    )
    stem: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (16, 32),
        min_length=1,
        max_length=6,
        description="for pictures: widths of the image layers on each frame, each halving height and width",
    )
    grid: int = Field(
        4,
        ge=1,
        le=16,
        description="for pictures: rows and columns of the parts that a frame is averaged into, to be kept apart",
    )
    readout: Literal["mean", "mean+max", "last", "attention"] = Field(
        "mean",
        description="how steps become one vector: mean, mean and maximum (twice as wide), the last one, or a mean whose weights are learnt",
    )
    parts: Parts = 1
    width: ReadOutWidth = None

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return len(self.apart) + len(self.channels)

    @property
    def steps(self) -> tuple[int, ...]:
        """The stride of each stage."""
        return (1,) + (2,) * (self.stages - 1) if self.strides is None else self.strides


def things_of(params: Resnet1dParams, layout: Layout) -> tuple[int, int]:
    """How many things a step holds that can be kept apart, and the channels of each."""
    if "height" in layout.axes:
        return params.grid**2, params.stem[-1]
    channels = layout.sizes["channel"]
    if "joint" in layout.axes:
        return layout.sizes["joint"], channels
    least = math.ceil(channels / GROUPS)
    group = params.group or next(size for size in range(least, channels + 1) if channels % size == 0)
    return channels // group, group


def fits(params: Resnet1dParams, layout: Layout) -> None:
    """Refuse an even kernel, strides of other stages, groups that do not come out even, and parts of a single step."""
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd")
    if len(params.steps) != params.stages:
        raise ValueError(f"strides has {len(params.steps)} entries; apart and channels make {params.stages} stages together")
    if params.parts > 1 and params.readout == "last":
        raise ValueError(f"parts is {params.parts}, but readout: last reads one step; use mean, mean+max or attention")
    if params.group is None:
        return
    if layout.axes != ("time", "channel"):
        raise ValueError(
            f"group is for streams of channels alone; a {layout.kind} is kept apart by its own parts: leave it out"
        )
    if layout.sizes["channel"] % params.group:
        raise ValueError(f"group {params.group} does not divide the {layout.sizes['channel']} channels of the stream")


def build(params: Resnet1dParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Resnet1d

    return Resnet1d(params, layout)


RESNET_1D = BackboneSpec(
    name="resnet-1d",
    summary="small residual convolutions over time that keep joints, axes, bands or parts of a picture apart at first",
    accepts=(("time", "channel"), ("time", "joint", "channel"), ("time", "channel", "height", "width")),
    params=Resnet1dParams,
    build=build,
    fits=fits,
    paper=(
        "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016; along time as in Wang, Yan, Oates: Time "
        "Series Classification from Scratch with Deep Neural Networks, IJCNN 2017"
    ),
    follows=(
        "The basic block of He et al. along time. Differs: grouped convolutions in the first stages; normalisation over real steps "
        "alone, by recording unless norm says otherwise; dropout in a block; the read-out. 198,400 weights on 6 channels, 308,864 "
        "on 20 joints of 3, 327,280 on pictures of one channel."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(RESNET_1D)
