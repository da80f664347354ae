"""Encoders by self-attention over steps (Vaswani et al. 2017): `transformer` and those of MPUC-MER's code, SSE-FT and UniVA."""

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
    require_divisible(params.width, params.heads, layout)


def require_divisible(width: int | None, heads: int, layout: Layout) -> None:
    """Refuse heads that do not divide the width, or where none is given the number of channels."""
    size = width or layout.sizes["channel"]
    if size % heads:
        raise ValueError(f"heads: {heads} does not divide the width {size}{'' if width else ' (the number of channels)'}")


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


# --------------------------------------------------------------------------------------- encoders of SSE-FT and of UniVA


class ClsParams(Params):
    """Options of `cls-transformer`."""

    width: int | None = Field(
        None, ge=1, description="size of steps, by a linear layer in front; left out: the number of channels"
    )
    layers: int = Field(2, ge=0, le=48, description="self-attention layers; 0: none, as SSE-FT has it for text")
    heads: int = Field(4, ge=1, description="attention heads; they divide the width")
    feedforward: int = Field(1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the input, of attention weights and after each part")
    cls: Literal["learned", "first"] = Field(
        "learned", description="learned: a vector of its own before the steps; first: the first step is it, as RoBERTa's <s>"
    )
    longest: int = Field(1024, ge=1, description="steps that have a learned position of their own; later ones share the last")


class UnivaParams(Params):
    """Options of `univa-encoder`."""

    width: int = Field(768, ge=1, description="size of steps and vector")
    layers: int = Field(
        3, ge=0, le=24, description="self-attention layers; 0: additive attention alone, as for ready text features"
    )
    heads: int = Field(12, ge=1, description="attention heads; they divide the width")
    feedforward: int = Field(3072, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after each part")
    longest: int = Field(512, ge=1, description="steps that have a learned position of their own; later ones share the last")


def fits_layers(params: ClsParams | UnivaParams, layout: Layout) -> None:
    """Refuse heads that do not divide the width, where there are layers."""
    if params.layers:
        require_divisible(params.width, params.heads, layout)


def build_cls(params: ClsParams, layout: Layout) -> Backbone:
    """The network."""
    from .cls import ClsTransformer

    return ClsTransformer(params, layout)


def build_univa(params: UnivaParams, layout: Layout) -> Backbone:
    """The network."""
    from .univa import UnivaEncoder

    return UnivaEncoder(params, layout)


CLS_TRANSFORMER = BackboneSpec(
    name="cls-transformer",
    summary="a class token before the steps, self-attention over all; keeps every step for a fusion",
    accepts=(("time", "channel"),),
    params=ClsParams,
    build=build_cls,
    fits=fits_layers,
    paper="SSE-FT: Siriwardhana et al., Multimodal Emotion Recognition with Transformer-Based Self Supervised Feature Fusion, IEEE Access 2020",
    follows=(
        "Learned positions, LayerNorm and dropout, post-norm layers with GELU, as the authors. Differs: the class token begins at small "
        "random numbers (theirs at 0, by a slip); real steps that a crop has left are never taken for padding."
    ),
)
UNIVA_ENCODER = BackboneSpec(
    name="univa-encoder",
    summary="linear, learned positions, self-attention, read out by additive attention",
    accepts=(("time", "channel"),),
    params=UnivaParams,
    build=build_univa,
    fits=fits_layers,
    paper="UniVA: A Unimodal Valence-Arousal Driven Contrastive Learning Framework for Multimodal Multi-Label Emotion Recognition",
    follows=(
        "The authors' layers for voice, face and GloVe (post-norm, exact GELU). Differs: positions for so many steps as the recipe says, "
        "not as the longest recording of all three splits has; a single step or a single recording needs no case of its own."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbones."""
    for spec in (TRANSFORMER, BATCH_POSITIONS, CLS_TRANSFORMER, UNIVA_ENCODER):
        register(spec)
