"""SSE-FT: a transformer with a class token, and fusion by inter-modality attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from mmcl.api import (
    Backbone,
    BackboneSpec,
    Field,
    Head,
    HeadSpec,
    Layout,
    Params,
    PublishedSpec,
    Register,
    Task,
    hookimpl,
)

from .published import SSE_FT

PAPER = "SSE-FT: Siriwardhana et al., Multimodal Emotion Recognition with Transformer-Based Self Supervised Feature Fusion, IEEE Access 2020"


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


def cls_fits(params: ClsParams, layout: Layout) -> None:
    """Refuse heads that do not divide the width."""
    width = params.width or layout.sizes["channel"]
    if params.layers and width % params.heads:
        raise ValueError(
            f"heads: {params.heads} does not divide the width {width}{'' if params.width else ' (the number of channels)'}"
        )


def build_cls(params: ClsParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import ClsTransformer

    return ClsTransformer(params, layout)


class ImaParams(Params):
    """Options of `ima-fusion`."""

    fusion: str = Field(
        "hadamard",
        pattern="^(hadamard|concat|none)$",
        description="hadamard: products of a modality's views of the others, then concatenation (SSE-FT); concat: all views one after the "
        "other; none: the class tokens as they are, without attention between modalities",
    )
    layers: int = Field(2, ge=1, le=24, description="attention layers of each ordered pair; keys and values stay the same")
    heads: int = Field(4, ge=1, description="attention heads; for a width that they do not divide, the largest divisor of both")
    feedforward: int = Field(1024, ge=1, description="width of the feed-forward layers")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout of attention weights and after each part")
    regression: Literal["l1", "mse"] = Field(
        "l1", description="loss of values: mean absolute error, as SSE-FT has it, or mean squared error"
    )


def build_ima(params: ImaParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The head."""
    from .fusion import ImaFusion

    return ImaFusion(params, task, widths)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(
        BackboneSpec(
            "cls-transformer",
            "a class token before the steps, self-attention over all; keeps every step for a fusion",
            (("time", "channel"),),
            ClsParams,
            build_cls,
            cls_fits,
            PAPER,
            "Learned positions, LayerNorm and dropout, post-norm layers with GELU, as the authors. Differs: the class token begins at small "
            "random numbers (theirs at 0, by a slip); real steps that a crop has left are never taken for padding.",
        )
    )


@hookimpl
def register_heads(register: Register[HeadSpec]) -> None:
    """Offer the fusion."""
    register(
        HeadSpec(
            "ima-fusion",
            "inter-modality attention between every two modalities, Hadamard products, then tanh and a linear layer",
            ("single-label", "multi-label", "regression"),
            ImaParams,
            build_ima,
            PAPER,
        )
    )


@hookimpl
def register_published(register: Register[PublishedSpec]) -> None:
    """Offer the paper's tables."""
    register(SSE_FT)
