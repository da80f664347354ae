"""Losses of any number of modalities at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import model_validator

from mmcl.api import Field, GroupLoss, GroupLossSpec, Params, Register, hookimpl

LARGEST_SCALE = 100.0
"""A learned 1/τ is held below this (Radford et al. 2021): beyond it the softmax is a maximum and training diverges."""


class Softmax(Params):
    """What losses that are a softmax over recordings have in common."""

    temperature: float = Field(0.07, gt=0, description="τ, by which what is compared is divided; its start if learned")
    learn_temperature: bool = Field(False, description="learn τ by gradient descent, never below 0.01 (CLIP)")

    @model_validator(mode="after")
    def _start_within_bounds(self) -> Self:
        if self.learn_temperature and self.temperature < 1 / LARGEST_SCALE:
            raise ValueError(
                f"a learned temperature is held at {1 / LARGEST_SCALE:g} or more; start there, or set learn_temperature: false"
            )
        return self


class SymileParams(Softmax):
    """Options of `symile`."""

    temperature: float = Field(0.02, gt=0, description="τ, by which multilinear products are divided; its start if learned")
    learn_temperature: bool = Field(True, description="learn τ by gradient descent, never below 0.01 (CLIP)")
    negatives: Literal["shuffled", "aligned", "all"] = Field(
        "shuffled",
        description="with what an anchor is contrasted. shuffled: as many mixtures of the others' modalities as there are candidates, each modality "
        "from another recording (the paper's O(N)); aligned: the other recordings as they are; all: every mixture (the paper's O(N²), three modalities at most)",
    )


class AnchorParams(Softmax):
    """Options of `gram` and `triangle`."""

    anchor: str = Field(
        "each",
        description="the modality that is compared with all others (the papers: the text); each: every one in turn, averaged",
    )


class CommParams(Params):
    """Options of `comm`."""

    temperature: float = Field(0.1, gt=0, description="τ, by which cosines are divided")
    layers: int = Field(1, ge=1, le=12, description="of the transformer that fuses the modalities")
    heads: int = Field(8, ge=1, description="of its attention; divides the width of the embeddings")
    width: int = Field(128, ge=1, description="of the projections that are contrasted, behind the fusion")


def build_symile(params: SymileParams, widths: Mapping[str, int]) -> GroupLoss:
    """The loss."""
    from .symile import Symile

    return Symile(params)


def build_gram(params: AnchorParams, widths: Mapping[str, int]) -> GroupLoss:
    """The loss."""
    from .volume import Body, volumes

    return Body(params, volumes)


def build_triangle(params: AnchorParams, widths: Mapping[str, int]) -> GroupLoss:
    """The loss."""
    from .volume import Body, areas

    return Body(params, areas)


def build_comm(params: CommParams, widths: Mapping[str, int]) -> GroupLoss:
    """The loss."""
    from .comm import Comm

    return Comm(params, widths)


def symile_fits(params: SymileParams, modalities: tuple[str, ...]) -> None:
    """Refuse every mixture of more than three modalities."""
    if params.negatives == "all" and len(modalities) > 3:
        raise ValueError(
            f"negatives: all mixes three modalities at most, and there are {len(modalities)}; set negatives: shuffled"
        )


def anchor_fits(params: AnchorParams, modalities: tuple[str, ...]) -> None:
    """Refuse an anchor that is not among the modalities."""
    if params.anchor != "each" and params.anchor not in modalities:
        raise ValueError(
            f"no modality of the group is named '{params.anchor}'; anchor is each, or one of {', '.join(modalities)}"
        )


SYMILE = GroupLossSpec(
    name="symile",
    summary="softmax over multilinear inner products: captures what modalities say only together",
    params=SymileParams,
    build=build_symile,
    fits=symile_fits,
    equation="L_i = mean over modalities m of −log exp(⟨z_m, …⟩_ii…i/τ) / (exp(⟨z_m, …⟩_ii…i/τ) + Σ_a exp(⟨z_m, …⟩_ia/τ)), "
    "⟨…⟩ the sum over dimensions of the product of all modalities' entries, a over mixtures of the other modalities",
    missing="the product runs over the modalities that the recording has, its mixtures over recordings that have them all",
    paper="Saporta et al.: Contrasting with Symile, NeurIPS 2024 (arXiv 2411.01053), Eq. 3 and §3.2",
)
GRAM = GroupLossSpec(
    name="gram",
    summary="softmax over volumes: all modalities of a recording span a small parallelotope",
    params=AnchorParams,
    build=build_gram,
    fits=anchor_fits,
    equation="V = √det G, G the cosines between all modalities' embeddings; L_i = −½ [log softmax_j(−V(a_i, others_j)/τ)_i + log softmax_j(−V(a_j, others_i)/τ)_i]",
    missing="the volume is that of the modalities that the recording has; one that lacks a named anchor is left out",
    paper="Cicchetti et al.: Gramian Multimodal Representation Learning and Alignment, ICLR 2025 (arXiv 2412.11959), without its matching task",
)
TRIANGLE = GroupLossSpec(
    name="triangle",
    summary="softmax over areas: three modalities of a recording are the corners of a small triangle",
    params=AnchorParams,
    build=build_triangle,
    fewest=3,
    most=3,
    fits=anchor_fits,
    equation="A = ½ √(|u|²|v|² − (u·v)²), u and v from the anchor's unit vector to the two others; L_i as that of gram, with A for V",
    missing="a recording without all three is left out",
    paper="Cicchetti et al.: A TRIANGLE Enables Multimodal Alignment Beyond Cosine Similarity, NeurIPS 2025, without its matching task",
)
COMM = GroupLossSpec(
    name="comm",
    summary="contrast of two windows of the fused recording, and of each modality with the fused one",
    params=CommParams,
    build=build_comm,
    views=2,
    equation="L = NCE(Z', Z'') + Σ_m ½ [NCE(Z_m, Z') + NCE(Z_m, Z'')], Z the fusion of all modalities of a window, Z_m that of m alone",
    missing="the fusion is that of the modalities that the recording has",
    paper="Dufumier et al.: What to align in multimodal contrastive learning?, ICLR 2025 (arXiv 2409.07402), Eq. 6 and 7; the fusion is thrown away after training",
)


@hookimpl
def register_group_losses(register: Register[GroupLossSpec]) -> None:
    """Offer the losses."""
    for spec in (SYMILE, GRAM, TRIANGLE, COMM):
        register(spec)
