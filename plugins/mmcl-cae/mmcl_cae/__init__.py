"""CAE-LR: a convolutional autoencoder over all modalities together, the baseline of MPUC-MER's Table IV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from mmcl.api import Field, Layout, Params, Pretext, PretextSpec, Register, hookimpl

SMALLEST = 10
"""Rows and columns below which nothing is left after four poolings."""


class CaeParams(Params):
    """Options of `cae`."""

    steps: int = Field(
        20, ge=SMALLEST, le=512, description="rows of the matrix: each modality's steps are averaged into so many"
    )
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128, 10), min_length=4, max_length=4, description="widths of the four convolutions of the encoder"
    )
    unpool: Literal["indices", "nearest"] = Field(
        "indices",
        description="how the decoder grows: indices remembers where each maximum stood, as the published code, which lets the "
        "place of things pass beside the bottleneck; nearest repeats values, so that the vector must hold everything",
    )


def columns(layout: Layout) -> int:
    """Features of one step."""
    size = 1
    for one in layout.shape:
        size *= one
    return size


def fits(params: CaeParams, layouts: Mapping[str, Layout]) -> None:
    """Refuse streams that are too narrow together for four poolings."""
    width = sum(columns(layout) for layout in layouts.values())
    if width < SMALLEST:
        raise ValueError(f"the modalities have {width} features a step together; 'cae' needs {SMALLEST} or more")


def build(params: CaeParams, layouts: Mapping[str, Layout]) -> Pretext:
    """The network."""
    from .network import Cae

    return Cae(params, layouts)


CAE = PretextSpec(
    name="cae",
    summary="convolutional autoencoder over all modalities stacked into one matrix (CAE-LR)",
    params=CaeParams,
    build=build,
    fits=fits,
    paper="CAE-LR, the unsupervised baseline of MPUC-MER (ICPR 2022), Table IV",
    follows=(
        "Matrix of steps × features of all modalities; convolutions 3, 3, 5, 5 with padding 2 and widths 32, 64, 128, 10, each with "
        "BatchNorm, GELU and halving (the last: halving alone); a mirrored decoder; mean squared error. Differs: every modality is "
        "averaged into the same rows, where the published features were cut to their last 20 rows each and were not aligned; "
        "standardised by training recordings, without a second scaling to [0, 1]; a missing modality has no part in the loss."
    ),
)


@hookimpl
def register_pretexts(register: Register[PretextSpec]) -> None:
    """Offer the autoencoder."""
    register(CAE)
