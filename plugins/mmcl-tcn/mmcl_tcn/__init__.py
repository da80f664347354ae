"""The backbones `tcn` (Bai et al. 2018) and `conv-tasnet` (Luo, Mesgarani 2019): dilated temporal convolutions."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, ReadOutWidth, Register, hookimpl


class TcnParams(Params):
    """Options of `tcn`."""

    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64, 64, 64, 64), min_length=1, description="width of each level; level i has dilation 2^i steps"
    )
    kernel: int = Field(3, ge=1, le=63, description="steps that a convolution spans (odd, unless causal)")
    causal: bool = Field(True, description="a step sees itself and the past alone; false: both sides")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after each convolution (whole channels, as Bai et al.)")
    readout: Literal["mean", "last", "mean+std"] = Field(
        "mean", description="how steps become one vector: mean, the last real step, or mean and deviation (twice as wide)"
    )
    parts: Parts = 1
    width: ReadOutWidth = None


def fits(params: TcnParams, layout: Layout) -> None:
    """Refuse parts of a single step, and an even kernel that would have no centre."""
    if params.parts > 1 and params.readout == "last":
        raise ValueError(f"parts is {params.parts}, but readout: last reads one step; use mean or mean+std")
    if not params.causal and params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd, or set causal: true")


def build(params: TcnParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Tcn

    return Tcn(params, layout)


TCN = BackboneSpec(
    name="tcn",
    summary="dilated temporal convolutions with residuals",
    accepts=(("time", "channel"),),
    params=TcnParams,
    build=build,
    fits=fits,
    paper=(
        "Bai, Kolter, Koltun: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for "
        "Sequence Modeling, 2018"
    ),
    follows=(
        "Two weight-normed convolutions a level, each with ReLU and dropout of whole channels; residuals, through"
        " a 1×1 convolution where the width changes; dilation 2^i. Differs: padded on the left in place of "
        "padding both sides and cutting the end (the same numbers); padded steps are masked between layers; a "
        "read-out over time; causal: false looks both ways; PyTorch's initial weights. MPUC-MER's audio network "
        "is another one (Conv-TasNet's blocks)."
    ),
)


class ConvTasnetParams(Params):
    """Options of `conv-tasnet`."""

    bottleneck: int = Field(64, ge=1, description="width between blocks")
    hidden: int = Field(128, ge=1, description="width inside a block")
    kernel: int = Field(3, ge=1, le=63, description="steps that a depthwise convolution spans; odd")
    blocks: int = Field(5, ge=1, le=12, description="blocks of a repeat, with dilations 1, 2, 4, …")
    repeats: int = Field(2, ge=1, le=16, description="how often the dilations begin anew")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after the first layer and after each block")
    width: int = Field(512, ge=1, description="size of the vector")


def fits_conv_tasnet(params: ConvTasnetParams, layout: Layout) -> None:
    """Refuse an even kernel, which would have no centre."""
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd")


def build_conv_tasnet(params: ConvTasnetParams, layout: Layout) -> Backbone:
    """The network."""
    from .conv_tasnet import ConvTasnet

    return ConvTasnet(params, layout)


CONV_TASNET = BackboneSpec(
    name="conv-tasnet",
    summary="Conv-TasNet's separation blocks, which MPUC-MER's code runs on spectrograms",
    accepts=(("time", "channel"),),
    params=ConvTasnetParams,
    build=build_conv_tasnet,
    fits=fits_conv_tasnet,
    paper="Luo, Mesgarani: Conv-TasNet, TASLP 2019; the code of MPUC-MER (ICPR 2022), A.3.3",
    follows=(
        "The authors' network, layer by layer (217,813 weights on 128 bands): global layer norm, 2 × 5 blocks, no skip sum, "
        "mean over time, PReLU, linear. Differs: norm and mean see real steps alone. The paper calls it TCN (Bai et al.), which "
        "is the backbone tcn."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(TCN)
    register(CONV_TASNET)
