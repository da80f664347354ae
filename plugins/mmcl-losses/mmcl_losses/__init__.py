"""Pair losses and rules for positives."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mmcl.api import Field, LossSpec, NoParams, PairLoss, Params, Positives, PositivesSpec, Register, hookimpl

LARGEST_SCALE = 100.0
"""A learned 1/τ is held below this (Radford et al. 2021): beyond it the softmax is a maximum and training diverges."""


class InfoNceParams(Params):
    """Options of `info-nce`."""

    denominator: Literal["all", "negatives"] = Field(
        "all",
        description="all: positives and negatives (InfoNCE, CLIP); negatives: negatives alone (MPUC-MER, Eq. 1 as printed)",
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="mean or sum over anchors that have something to learn from")
    temperature: float = Field(0.07, gt=0, description="τ, by which cosine similarities are divided; its start if learned")
    factor: float = Field(1.0, gt=0, description="the loss is multiplied by this; MPUC-MER's code has 0.5")
    learn_temperature: bool = Field(False, description="learn τ by gradient descent, never below 0.01 (CLIP)")
    hardness: float = Field(
        0.0,
        ge=0,
        le=20,
        description="β: negatives weigh exp(β·cosine) in the denominator, their mean weight being 1, so that those near the anchor count "
        "for more (Robinson et al. 2021); 0: all alike",
    )
    false_negatives: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="cosine above which a negative counts neither way, since it may well belong together with the anchor; left out: none",
    )

    @model_validator(mode="after")
    def _start_within_bounds(self) -> Self:
        if self.learn_temperature and self.temperature < 1 / LARGEST_SCALE:
            raise ValueError(
                f"a learned temperature is held at {1 / LARGEST_SCALE:g} or more, so it cannot start at {self.temperature:g}; "
                f"start at {1 / LARGEST_SCALE:g} or more, or set learn_temperature: false"
            )
        return self


class GroupParams(Params):
    """Options of `within-group` and `across-group`."""

    keep: float = Field(
        0.0, ge=0, lt=1, description="share of the other negatives that stay, a fixed choice for every two recordings; 0: none"
    )


def build_info_nce(params: InfoNceParams) -> PairLoss:
    """The loss."""
    from .info_nce import InfoNce

    return InfoNce(params)


def build_same_sample(params: NoParams) -> Positives:
    """The rule."""
    from .positives import same_sample

    return same_sample


def build_cross_window(params: NoParams) -> Positives:
    """The rule."""
    from .positives import cross_window

    return cross_window


def build_within_group(params: GroupParams) -> Positives:
    """The rule."""
    from .positives import ByGroup

    return ByGroup(params, within=True)


def build_across_group(params: GroupParams) -> Positives:
    """The rule."""
    from .positives import ByGroup

    return ByGroup(params, within=False)


INFO_NCE = LossSpec(
    name="info-nce",
    summary="softmax over candidates: the positive against the negatives",
    params=InfoNceParams,
    build=build_info_nce,
    equation="L_i = mean over positives p of −log exp(cos(i,p)/τ) / Σ_a exp(cos(i,a)/τ); "
    "a runs over all candidates that are not ignored, or over the negatives alone",
    paper="van den Oord et al. 2018; Radford et al. 2021 (CLIP); several positives: Khosla et al. 2020, L_out; "
    "denominator: negatives: MPUC-MER (ICPR 2022), Eq. 1",
)
SAME_SAMPLE = PositivesSpec(
    name="same-sample",
    summary="two modalities of one recording belong together; no labels",
    params=NoParams,
    build=build_same_sample,
    paper="MPUC-MER (ICPR 2022), §III-B",
)
CROSS_WINDOW = PositivesSpec(
    name="cross-window",
    summary="two modalities of one recording in different windows belong together; the same window counts neither way",
    params=NoParams,
    build=build_cross_window,
    paper="the code of MPUC-MER (ICPR 2022), where the paper's text has same-sample; needs pretrain.views: 2",
)
WITHIN_GROUP = PositivesSpec(
    name="within-group",
    summary="as same-sample, with negatives of the anchor's own group (speaker) alone; no labels",
    params=GroupParams,
    build=build_within_group,
    paper="negatives of one person: Yarici et al. 2025 (arXiv 2507.03250), who reweight them; here the others are left out",
)
ACROSS_GROUP = PositivesSpec(
    name="across-group",
    summary="as same-sample, with negatives of other groups (speakers) alone; no labels",
    params=GroupParams,
    build=build_across_group,
)


@hookimpl
def register_losses(register: Register[LossSpec]) -> None:
    """Offer the losses."""
    register(INFO_NCE)


@hookimpl
def register_positives(register: Register[PositivesSpec]) -> None:
    """Offer the rules."""
    register(SAME_SAMPLE)
    register(CROSS_WINDOW)
    register(WITHIN_GROUP)
    register(ACROSS_GROUP)
