"""The backbone `tcn`: dilated temporal convolutions (Bai et al. 2018)."""

from __future__ import annotations

from typing import Annotated, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Register, hookimpl


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
    parts: int = Field(
        1,
        ge=1,
        le=64,
        description="read out of this many equal parts of the real steps, one after another, so that order is not lost",
    )
    width: int | None = Field(
        None, ge=1, description="size of the vector, by a linear layer after the read-out; left out: as read out, no such layer"
    )


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


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(TCN)
