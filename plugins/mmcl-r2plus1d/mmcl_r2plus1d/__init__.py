"""The backbone `r2plus1d`: torchvision's R(2+1)D-18 on a few frames of a clip (Tran et al. 2018)."""

from __future__ import annotations

from typing import Literal

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Register, hookimpl

URL = "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth"
"""Where PyTorch keeps the weights of Kinetics-400 (R2Plus1D_18_Weights.KINETICS400_V1)."""


class R2plus1dParams(Params):
    """Options of `r2plus1d`."""

    weights: str = Field(
        "none",
        description="none: random; kinetics400: torchvision's file, from its cache or downloaded; or the path of such a file "
        "(.pth or .safetensors)",
    )
    frames: int = Field(
        8, ge=1, le=64, description="frames taken evenly from the real ones of each recording; few are repeated"
    )
    width: int = Field(512, ge=1, description="size of the vector")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the last linear layer")
    normalise: Literal["none", "kinetics"] = Field(
        "none",
        description="kinetics: frames in [0, 1] less Kinetics' mean, by its deviation, as its weights expect (set the modality's own "
        "normalise: none beside it)",
    )
    batch_statistics: bool = Field(
        True, description="BatchNorm learns from the batch, as the authors; false: it stays as the weights have it"
    )


def fits(params: R2plus1dParams, layout: Layout) -> None:
    """Refuse channels other than one or three, and images that four halvings leave nothing of."""
    if layout.sizes["channel"] not in (1, 3):
        raise ValueError(f"the stream has {layout.sizes['channel']} channels; r2plus1d takes 1 or 3")
    if min(layout.sizes["height"], layout.sizes["width"]) < 16:
        raise ValueError(f"frames of {layout.sizes['height']} × {layout.sizes['width']} are too small; 16 × 16 is the least")


def build(params: R2plus1dParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import R2plus1d

    return R2plus1d(params, layout)


R2PLUS1D = BackboneSpec(
    name="r2plus1d",
    summary="R(2+1)D-18 on evenly taken frames; random or Kinetics-400 weights",
    accepts=(("time", "channel", "height", "width"),),
    params=R2plus1dParams,
    build=build,
    fits=fits,
    paper="Tran et al.: A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018; MPUC-MER (ICPR 2022)",
    follows=(
        "torchvision's network with its class layer replaced by dropout and a linear layer, all layers trained, on 8 frames of "
        "112 × 112, as MPUC-MER's code. Differs: weights: none by default, since a run must not begin with a download; frames are "
        "taken from the real steps of each recording; frames of one channel go through the sum of the first layer's three. "
        "Kinetics weights expect normalise: kinetics."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(R2PLUS1D)
