"""SSE-FT: fusion by inter-modality attention, and the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from mmcl.api import Field, Head, HeadSpec, Params, PublishedSpec, Register, Task, hookimpl

from .published import SSE_FT

PAPER = "SSE-FT: Siriwardhana et al., Multimodal Emotion Recognition with Transformer-Based Self Supervised Feature Fusion, IEEE Access 2020"


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
