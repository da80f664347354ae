"""The backbone `mlp`: fully connected layers, for modalities without time and for pooled ones."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Register, hookimpl


class MlpParams(Params):
    """Options of `mlp`."""

    hidden: tuple[int, ...] = Field((128,), description="widths of the hidden layers, each followed by norm, ReLU and dropout")
    width: int = Field(128, ge=1, description="size of the vector")
    norm: Literal["layer", "none"] = Field("layer", description="normalisation of each hidden layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after each hidden layer")


def build(params: MlpParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Mlp

    return Mlp(params, layout)


MLP = BackboneSpec(
    name="mlp",
    summary="fully connected layers; streams over time are pooled first (mean and deviation over real steps)",
    accepts=(("channel",), ("time", "channel")),
    params=MlpParams,
    build=build,
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(MLP)
