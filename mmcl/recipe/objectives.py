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


class Predictor(Section):
    """fc → batch norm → ReLU → fc on the anchors' embeddings, one a modality; thrown away after pretraining."""

    hidden: int = Field(512, ge=1, description="width of the hidden layer")
    norm: bool = Field(True, description="batch normalisation of the hidden layer, over the whole batch")


class Objective(Section):
    """pairs × positives × loss."""

    LATER: ClassVar[tuple[str, ...]] = ("combine", "group", "queue", "momentum", "predictor")

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
    queue: int | None = Field(
        None,
        ge=1,
        description="newest embeddings of earlier batches, of each modality, that stand behind those of the batch as further negatives; what the "
        "positives would have belong to an anchor, and its own recording, is left out",
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="candidates come from a teacher, a copy of each encoder whose weights after every step are momentum × theirs + (1 − momentum) × "
        "the encoder's, and have no gradient; validation is of the encoders alone",
    )
    predictor: Predictor | None = Field(
        None,
        description="anchors go through a network of their own, and candidates have no gradient: one side predicts the other",
    )

    @property
    def directed(self) -> bool:
        """Whether anchors and candidates of a pair are made unlike."""
        return self.queue is not None or self.momentum is not None or self.predictor is not None
