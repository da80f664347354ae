"""The backbone `mlp`: fully connected layers, for modalities without time and for pooled ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Register, hookimpl


class MlpParams(Params):
    """Options of `mlp`."""

    LATER: ClassVar[tuple[str, ...]] = ("skip",)

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (128,), description="widths of the hidden layers, each followed by norm, ReLU and dropout; empty: one linear layer"
    )
    width: int = Field(128, ge=1, description="size of the vector")
    norm: Literal["layer", "batch", "none"] = Field(
        "layer", description="normalisation of each hidden layer: within a row, over the rows of the batch, or none"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after each hidden layer")
    skip: bool = Field(
        False,
        description="the network's input stands before its output in the vector, which is then wider by as much, so that a linear probe "
        "never knows less than one on the input alone",
    )


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
    follows=(
        "A plain multilayer perceptron. A stream over time enters as the mean and the standard deviation of its "
        "real steps, so the order of its steps is lost and no sequence is kept. With skip, input and output stand side by "
        "side, as in Huang et al.: Densely Connected Convolutional Networks, CVPR 2017."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(MLP)
