"""The backbone `frame-cnn`: a small image network per frame, then convolutions over time."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, ReadOutWidth, Register, hookimpl

GROUPS = 4
"""Groups of channels that are normalised together."""


class FrameCnnParams(Params):
    """Options of `frame-cnn`."""

    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 32, 64), min_length=1, description="widths of the image layers, each halving height and width; multiples of 4"
    )
    kernel: int = Field(3, ge=1, le=31, description="frames that a temporal convolution spans; odd")
    layers: int = Field(1, ge=0, le=8, description="temporal convolutions, each with a residual")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after each temporal convolution")
    pool: Literal["mean", "grid"] = Field(
        "mean",
        description="what is kept of the image: the mean over it, or the means of a 2 × 2 grid, so that place is not lost",
    )
    readout: Literal["mean", "mean+std"] = Field(
        "mean+std", description="how frames become one vector: mean, or mean and deviation (twice as wide)"
    )
    parts: int = Field(
        1,
        ge=1,
        le=64,
        description="read out of this many equal parts of the real frames, one after another, so that order is not lost",
    )
    width: ReadOutWidth = None


def fits(params: FrameCnnParams, layout: Layout) -> None:
    """Refuse widths that cannot be normalised in groups, and an even kernel."""
    if any(width % GROUPS for width in params.channels):
        raise ValueError(f"channels {list(params.channels)} must be multiples of {GROUPS}")
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd")


def build(params: FrameCnnParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import FrameCnn

    return FrameCnn(params, layout)


FRAME_CNN = BackboneSpec(
    name="frame-cnn",
    summary="a small image network per frame, then convolutions over time; light enough for two cores",
    accepts=(("time", "channel", "height", "width"),),
    params=FrameCnnParams,
    build=build,
    fits=fits,
    paper="GroupNorm: Wu, He: Group Normalization, ECCV 2018",
    follows=(
        "No paper's network: stride-2 convolutions with GroupNorm on each real frame, then residual convolutions "
        "over time and statistics of the frames. GroupNorm keeps frames apart, so neither padding nor other "
        "recordings reach a frame."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(FRAME_CNN)
