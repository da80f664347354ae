"""torchaudio's Conformer as a backbone of mmcl. Nothing heavy is imported here: every command of mmcl imports this file."""

from __future__ import annotations

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Register, hookimpl

MMCL_API = "1.1"


class ConformerParams(Params):
    """Options of `torchaudio-conformer`."""

    width: int = Field(64, ge=1, le=4096, description="size of steps and vector, by a linear layer in front; heads divide it")
    layers: int = Field(2, ge=1, le=32, description="layers")
    heads: int = Field(4, ge=1, le=64, description="attention heads")
    feedforward: int = Field(128, ge=1, le=16384, description="width of the feed-forward layers")
    kernel: int = Field(15, ge=1, le=63, description="steps that the convolution sees, an odd number")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout")


def fits(params: ConformerParams, layout: Layout) -> None:
    """Refuse an even kernel, and heads that do not divide the width."""
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel: {params.kernel} is even; an odd number stands evenly around a step")
    if params.width % params.heads:
        raise ValueError(f"heads: {params.heads} does not divide the width {params.width}")


def build(params: ConformerParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import TorchaudioConformer

    return TorchaudioConformer(params, layout.sizes["channel"])


CONFORMER = BackboneSpec(
    name="torchaudio-conformer",
    summary="torchaudio's Conformer, rows of one length at a time",
    accepts=(("time", "channel"),),
    params=ConformerParams,
    build=build,
    fits=fits,
    paper="Gulati et al.: Conformer, Interspeech 2020",
    follows="torchaudio.models.Conformer with group normalisation; a linear layer in front, the mean over steps behind.",
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(CONFORMER)
