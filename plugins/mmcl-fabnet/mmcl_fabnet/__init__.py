"""FAb-Net: an embedding of every frame of a face, by a frozen network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmcl.api import DataError, Field, Layout, Modality, ModalitySpec, Params, Register, Source, hookimpl

FAB_NET_PAGE = "https://www.robots.ox.ac.uk/~vgg/research/unsup_learn_watch_faces/fabnet.html"
"""Where FAb-Net's authors offer its weights."""

EMBEDDING = 256
"""Values of FAb-Net's embedding."""

RANDOM = "none"
"""What `weights` says for random ones."""


PAPER = "FAb-Net: Wiles, Koepke & Zisserman, Self-supervised learning of a facial attribute embedding from video, BMVC 2018; used by SSE-FT"


class FabNetParams(Params):
    """Options of `fab-net`."""

    weights: str = Field(
        "",
        description="path of FAb-Net's checkpoint (.safetensors, or a torch file of tensors), never downloaded; or none: random weights, "
        "which know nothing of faces; needed",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the random weights of weights: none")
    fps: float | None = Field(None, gt=0, description="frames per second to take of films, the nearest ones; left out: all")
    size: int = Field(
        256,
        ge=256,
        le=1024,
        description="height and width in pixels to which frames are squeezed; above 256, places are averaged",
    )
    longest: int | None = Field(
        None, ge=1, description="frames that are read, what comes after is cut (SSE-FT: 300); left out: all"
    )
    pool: Literal["none", "mean"] = Field(
        "none", description="none: every frame; mean: one vector a recording, as pictures without a clock always give"
    )
    batch: int = Field(
        32,
        ge=1,
        le=4096,
        description="frames that go through the network together: more need more memory; values agree but for rounding",
    )


def weights_file(params: FabNetParams) -> Path:
    """The checkpoint. Raises DataError, with the way to get it, if it is not there."""
    path = Path(params.weights).expanduser()
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file of weights; download FAb-Net's model by hand from its authors' page ({FAB_NET_PAGE}) and set "
            "weights: to its path, or weights: none for random ones"
        )
    return path


def fab_net_layout(params: FabNetParams, source: Source) -> Layout:
    """256 values a frame, or a recording; the notes say whose weights they come from."""
    shape = [int(n) for n in source.notes.get("shape", ())]
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"'fab-net' reads 1 or 3 channels × height × width; the source has frames of shape {shape or 'unknown'}"
        )
    if params.fps is not None and source.rate is not None and params.fps > source.rate:
        raise ValueError(f"fps {params.fps:g} is above the source's {source.rate:g} frames per second")
    rate, clockless = params.fps or source.rate, source.type == "pictures"
    if rate is None and params.pool == "none" and not clockless:
        raise ValueError("the source does not say its frame rate; set fps:")
    if not params.weights:
        raise ValueError(
            "'fab-net' needs a model's weights: the path of FAb-Net's checkpoint, or weights: none for random ones"
        )
    if params.weights == RANDOM:
        whose = f"random, seed {params.seed}"
    else:
        path = weights_file(params)
        whose = f"{path.name}, {path.stat().st_size} bytes"  # another file of that name: another layout, so prepared anew
    sizes, notes = {"channel": EMBEDDING}, {"weights": whose}
    if params.pool == "mean" or clockless:
        return Layout("vector", ("channel",), sizes, notes=notes)
    return Layout("signal", ("time", "channel"), sizes, rate, notes=notes)


def build_fab_net(params: FabNetParams, source: Source) -> Modality:
    """The modality."""
    from .network import FabNet

    return FabNet(params, source)


@hookimpl
def register_modalities(register: Register[ModalitySpec]) -> None:
    """Offer the modality."""
    register(
        ModalitySpec(
            "fab-net",
            "frames or pictures of a face through FAb-Net's frozen encoder, 256 values each; weights from a file, or random",
            ("video", "pictures"),
            FabNetParams,
            fab_net_layout,
            build_fab_net,
            paper=PAPER,
        )
    )
