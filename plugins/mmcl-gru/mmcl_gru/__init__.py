"""The backbone `gru`: gated recurrent units over the real steps of a stream, one way or both."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, ReadOutWidth, Register, hookimpl


class GruParams(Params):
    """Options of `gru`."""

    units: int = Field(64, ge=1, le=4096, description="size of the state, in each direction")
    layers: int = Field(1, ge=1, le=16, description="layers, each reading the states of the one below")
    directions: Literal["both", "forward"] = Field(
        "both", description="read from the start and from the end, side by side (twice as wide), or from the start alone"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout between layers and of the states that are read out")
    readout: Literal["mean", "last"] = Field(
        "mean", description="how states become one vector: their mean over the real steps, or the last of each direction"
    )
    parts: Parts = 1
    width: ReadOutWidth = None


def fits(params: GruParams, layout: Layout) -> None:
    """Refuse parts of a single state."""
    if params.parts > 1 and params.readout == "last":
        raise ValueError(f"parts is {params.parts}, but readout: last reads one state; use mean")


def build(params: GruParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Gru

    return Gru(params, layout)


GRU = BackboneSpec(
    name="gru",
    summary="gated recurrent units over real steps, one way or both",
    accepts=(("time", "channel"), ("time", "joint", "channel")),
    params=GruParams,
    build=build,
    fits=fits,
    paper="Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, EMNLP 2014",
    follows=(
        "PyTorch's GRU (its reset gate stands behind the matrix product, as in cuDNN) over rows packed to their real lengths; joints lie "
        "side by side in a step. 27,648 weights on 6 channels, 48,384 on 20 joints of 3."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(GRU)
