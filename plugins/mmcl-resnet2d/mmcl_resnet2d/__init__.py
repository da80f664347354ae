"""The backbone `resnet-2d`: a residual network over time and bands, as over a picture (He et al. 2016)."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, ReadOutWidth, Register, hookimpl

GROUPS = 4
"""Groups of channels that `norm: group` normalises together."""


class Resnet2dParams(Params):
    """Options of `resnet-2d`."""

    channels: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(
        (16, 32, 64), min_length=1, description="widths of the stages; each but the first halves the bands"
    )
    blocks: int = Field(1, ge=1, le=16, description="residual blocks a stage, of two 3 × 3 convolutions each (ResNet-18: 2)")
    time: Literal["halve", "keep"] = Field("halve", description="whether each stage but the first halves the steps, too")
    norm: Literal["batch", "group"] = Field(
        "batch",
        description="by channel over all real steps of the batch, or of each step alone in groups of channels, which must be multiples of 4",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of whole channels inside a block")
    readout: Literal["mean", "mean+std"] = Field(
        "mean+std", description="how steps become one vector: mean, or mean and deviation (twice as wide)"
    )
    parts: Parts = 1
    width: ReadOutWidth = None


def fits(params: Resnet2dParams, layout: Layout) -> None:
    """Refuse widths that cannot be normalised in groups."""
    if params.norm == "group" and any(width % GROUPS for width in params.channels):
        raise ValueError(f"channels {list(params.channels)} must be multiples of {GROUPS} for norm: group")


def build(params: Resnet2dParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Resnet2d

    return Resnet2d(params, layout)


RESNET_2D = BackboneSpec(
    name="resnet-2d",
    summary="residual convolutions over time and bands of a spectrogram, as over a picture",
    accepts=(("time", "channel"),),
    params=Resnet2dParams,
    build=build,
    fits=fits,
    paper="He et al.: Deep Residual Learning for Image Recognition, CVPR 2016",
    follows=(
        "The basic blocks of ResNet-18 on a picture of one channel, time by bands, without the first pooling. Differs: steps that are not real are "
        "zero before each convolution and take no part in a normalisation; the mean over bands, then mean and deviation over real steps. "
        "77,104 weights, whatever the number of bands."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(RESNET_2D)
