"""The backbone `conformer`: attention over all steps and a convolution over near ones in every layer (Gulati et al. 2020)."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, ReadOutWidth, Register, hookimpl


class ConformerParams(Params):
    """Options of `conformer`."""

    units: int = Field(
        64, ge=2, le=4096, description="size of a step, by a linear layer in front; an even number, a multiple of heads"
    )
    layers: int = Field(
        2, ge=1, le=64, description="layers, each of half a feed-forward network, attention, a convolution, and half of another"
    )
    heads: int = Field(4, ge=1, le=128, description="attention heads")
    feedforward: int = Field(256, ge=1, le=16384, description="width of the feed-forward networks")
    kernel: int = Field(15, ge=1, le=255, description="steps that a convolution sees; an odd number (the paper: 31)")
    norm: Literal["batch", "layer"] = Field(
        "batch",
        description="behind the convolution: by channel over all real steps of the batch, as the paper, or of each step alone",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of attention weights and behind each part of a layer")
    parts: Parts = 1
    width: ReadOutWidth = None


def fits(params: ConformerParams, layout: Layout) -> None:
    """Refuse an even kernel and heads that do not divide the size of a step."""
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd")
    if params.units % params.heads or params.units % 2:
        raise ValueError(f"units: {params.units} must be even, and a multiple of heads: {params.heads}")


def build(params: ConformerParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Conformer

    return Conformer(params, layout)


CONFORMER = BackboneSpec(
    name="conformer",
    summary="attention with relative positions and convolutions in one layer, on real steps alone",
    accepts=(("time", "channel"),),
    params=ConformerParams,
    build=build,
    fits=fits,
    paper="Gulati et al.: Conformer: Convolution-augmented Transformer for Speech Recognition, Interspeech 2020",
    follows=(
        "The paper's layer: half-step feed-forward networks around attention with relative sinusoidal positions (as Transformer-XL) and a gated, "
        "depthwise convolution. Differs: a linear layer in front in place of subsampling by convolutions; padded steps are zero before each "
        "convolution and take no part in its normalisation; the mean over real steps behind. 203,072 weights on 6 channels."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(CONFORMER)
