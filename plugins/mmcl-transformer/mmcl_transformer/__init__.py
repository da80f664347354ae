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
    positions: Literal["steps", "none"] = Field("steps", description="sinusoidal positions of the steps, or none")
    output: int | None = Field(
        None,
        ge=1,
        description="size of the vector, by dropout and a linear layer after the mean (MPUC-MER: 512); left out: none",
    )


class BatchPositionsParams(TransformerParams):
    """Options of `transformer-batch-positions`: those of `transformer`, with MPUC-MER's 512 at the end."""

    output: int | None = Field(512, ge=1, description="size of the vector, by dropout and a linear layer; null: none")


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


def build_batch_positions(params: BatchPositionsParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Transformer

    return Transformer(params, layout, by_row=True)


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


BATCH_POSITIONS = BackboneSpec(
    name="transformer-batch-positions",
    summary="the transformer of MPUC-MER's code, whose positions count the rows of a batch",
    accepts=(("time", "channel"),),
    params=BatchPositionsParams,
    build=build_batch_positions,
    fits=fits,
    paper="the code of MPUC-MER (ICPR 2022), A.3.4",
    follows="transformer, but every step of a row gets the position of that row in its batch, so order over time is not known.",
    departs="positions count rows of the batch: what it makes of a recording depends on where in a batch it stands",
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(TRANSFORMER)
    register(BATCH_POSITIONS)
