"""The backbone `transformer`: self-attention over steps (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Register, hookimpl


class TransformerParams(Params):
    """Options of `transformer`."""

    width: int | None = Field(
        None,
        ge=1,
        description="size of steps and vector, by a linear layer in front; left out: the number of channels, no such layer",
    )
    layers: int = Field(6, ge=1, le=64, description="encoder layers")
    heads: int = Field(5, ge=1, description="attention heads; the width must be a multiple")
    feedforward: int = Field(2048, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of positions, attention and feed-forward layers")
    norm: Literal["post", "pre"] = Field(
        "post", description="layer normalisation after each sublayer (Vaswani et al.) or before it"
    )
    activation: Literal["relu", "gelu"] = Field("relu", description="of the feed-forward layers")


def fits(params: TransformerParams, layout: Layout) -> None:
    """Refuse heads that do not divide the width."""
    width = params.width or layout.sizes["channel"]
    if width % params.heads:
        raise ValueError(
            f"heads: {params.heads} does not divide the width {width}{'' if params.width else ' (the number of channels)'}"
        )


def build(params: TransformerParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Transformer

    return Transformer(params, layout)


TRANSFORMER = BackboneSpec(
    name="transformer",
    summary="self-attention over steps, sinusoidal positions, masked mean",
    accepts=(("time", "channel"),),
    params=TransformerParams,
    build=build,
    fits=fits,
    paper="Vaswani et al.: Attention Is All You Need, 2017; sizes of MPUC-MER (ICPR 2022)",
    follows=(
        "The encoder of Vaswani et al., sinusoidal positions along time, layer normalisation after each sublayer;"
        " dropout as in PyTorch's layer (attention weights and inside the feed-forward layers too), default sizes"
        " as MPUC-MER's text network. Differs: a linear layer stands before it only where the width is not the "
        "number of channels, and inputs are not multiplied by √width; padded steps are masked; the vector is the "
        "mean over real steps (MPUC-MER's code adds positions along the batch and averages padding too); norm: "
        "pre ends in one more normalisation."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(TRANSFORMER)
