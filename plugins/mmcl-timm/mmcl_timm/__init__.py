"""The backbone `timm`: any picture network of the timm library by name, frame by frame."""

from __future__ import annotations

import importlib.util
from typing import Literal

from mmcl.api import (
    Adapters,
    AdapterScale,
    Backbone,
    BackboneSpec,
    Field,
    Layout,
    Params,
    Parts,
    ReadOutWidth,
    Register,
    hookimpl,
)

LIBRARY = "'timm' needs the timm library: pip install 'mmcl[timm]'"


class TimmParams(Params):
    """Options of `timm`."""

    model: str = Field("resnet18", min_length=1, description="name of a picture network, as `timm.list_models()` has it")
    weights: str = Field(
        "none",
        min_length=1,
        description="none: random; pretrained: timm's for that name, fetched once from the hub; or the path of a file of them (.safetensors, .pth)",
    )
    frames: int | None = Field(
        None, ge=1, le=1024, description="frames taken evenly from the real ones of each recording; left out: all of them"
    )
    normalise: Literal["none", "model"] = Field(
        "none",
        description="model: frames in [0, 1] less the mean that its weights were trained with, by their deviation (set the modality's own "
        "normalise: none beside it)",
    )
    batch_statistics: bool = Field(
        True,
        description="normalisations learn from the batch; false: they stay as the weights have them, as fits pretrained ones on few frames",
    )
    adapters: Adapters = None
    adapter_scale: AdapterScale = 2.0
    readout: Literal["mean", "mean+std"] = Field(
        "mean", description="how frames become one vector: mean, or mean and deviation (twice as wide)"
    )
    parts: Parts = 1
    width: ReadOutWidth = None


def fits(params: TimmParams, layout: Layout) -> None:
    """Refuse to begin without the library."""
    if importlib.util.find_spec("timm") is None:
        raise ValueError(LIBRARY)


def build(params: TimmParams, layout: Layout) -> Backbone:
    """The network, with the weights that the options name."""
    from .network import TimmFrames

    return TimmFrames(params, layout, params.weights)


def rebuild(params: TimmParams, layout: Layout) -> Backbone:
    """The network with random weights, for saved ones."""
    from .network import TimmFrames

    return TimmFrames(params, layout, "none")


TIMM = BackboneSpec(
    name="timm",
    summary="any picture network of the timm library by name, frame by frame",
    accepts=(("time", "channel", "height", "width"),),
    params=TimmParams,
    build=build,
    fits=fits,
    rebuild=rebuild,
    follows=(
        "timm's network without its classes, on real frames alone, then the mean over them. For other channels than three, timm sums or repeats the "
        "first layer's; for other sizes it sets out a transformer's positions anew."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(TIMM)
