"""The section `pretrain.objective`: what is pulled together and pushed apart."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from .slots import SHORT, Section, UseGroupLoss, UseLoss, UsePositives

PAIRS = "all, same, all+same, star:NAME, none or a list of pairs"
"""What `pairs` may be, for messages."""


def _pairs(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(p, tuple) and len(p) == 2 for p in value)):
        return value
    raise ValueError(f"must be {PAIRS} such as [[text, audio], [text, faces]]")


class Objective(Section):
    """pairs × positives × loss."""

    LATER: ClassVar[tuple[str, ...]] = ("combine", "group")

    pairs: Annotated[str | tuple[tuple[str, str], ...], BeforeValidator(_pairs)] = Field(
        "all",
        description="all (every two different modalities), same (each with itself), all+same, star:NAME (one with every "
        "other), or a list such as [[text, audio], [text, faces]]; every pair counts in both directions; none: `group` alone",
    )
    positives: Annotated[UsePositives, SHORT] = Field(
        default_factory=lambda: UsePositives(use="same-sample"), description="which rows belong together"
    )
    loss: Annotated[UseLoss, SHORT] = Field(
        default_factory=lambda: UseLoss(use="info-nce"), description="how a pair of modalities is scored"
    )
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="what a pair counts for in the mean over pairs, 1 unless given: by modality, such as {text: 3}, a pair of two "
        "weighing the product of theirs and a modality with itself its own; or by pair, such as {text~audio: 2}; 0: not contrasted",
    )
    group: Annotated[UseGroupLoss, SHORT] | None = Field(
        None,
        description="a loss of all modalities of a recording at once, beside the pairs or (with pairs: none) in their place",
    )
    combine: Literal["mean", "sum", "count"] = Field(
        "mean",
        description="how pairs become one loss, of their losses L and weights w. mean: Σ wL / Σ w; sum: Σ wL; count: Σ wL / number of pairs",
    )
