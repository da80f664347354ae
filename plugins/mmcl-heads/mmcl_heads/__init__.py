"""Probes: a linear one with its own solver, and a small network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from mmcl.api import Field, Head, HeadSpec, Params, Register, Task, hookimpl

EVERY = ("single-label", "multi-label", "regression")


class LinearParams(Params):
    """Options of `linear`."""

    l2: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
        min_length=1,
        description="penalties tried, of mean loss + l2/2·‖W‖² (scikit-learn's C is 1/(n·l2)); the bias is not penalised",
    )
    choose: Literal["accuracy", "loss"] = Field(
        "loss",
        description="what l2 is chosen by: the mean loss, or accuracy (multi-label: mean balanced accuracy; regression: "
        "always the loss), which says nothing of how sure a probe is; of equal ones the larger l2",
    )
    by: Literal["groups", "valid"] = Field(
        "groups",
        description="rows that l2 is chosen on. groups: training and validation rows together, each of at most five parts of whole "
        "groups left out in turn (valid where there are no groups); valid: fitted on training rows, chosen on validation rows",
    )
    refit: Literal["train", "train+valid"] = Field(
        "train+valid", description="rows that the head is fitted on once l2 is chosen"
    )
    blocks: Literal["equal", "search", "none"] = Field(
        "equal",
        description="several modalities under one penalty. equal: each modality's features are scaled to the same total variance, so "
        "that a wide one does not drown a narrow one; search: beside that, each modality's share is tried at a third and at three "
        "times, by the rows that l2 is chosen on; none: as they come",
    )


class LateParams(LinearParams):
    """Options of `late`: those of each modality's linear probe, which here has to say how sure it is."""


class KnnParams(Params):
    """Options of `knn`."""

    k: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 5, 10, 20, 50),
        min_length=1,
        description="numbers of neighbours tried; the best on validation rows is kept, of equal ones the largest",
    )
    weights: Literal["similarity", "same"] = Field(
        "similarity", description="what a neighbour's vote weighs: exp(cosine similarity / temperature), or the same for all"
    )
    temperature: float = Field(0.07, gt=0, description="temperature of the weights (Wu et al. 2018: 0.07)")


class MlpParams(Params):
    """Options of `mlp`."""

    hidden: int = Field(512, ge=1, description="width of the hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout after the hidden layer")


class AttentionParams(Params):
    """Options of `attention`."""

    width: int = Field(512, ge=4, description="size to which every modality's vector is brought, by a linear layer of its own")
    heads: int = Field(4, ge=1, description="attention heads; they divide the width of a token")
    hidden: int = Field(512, ge=1, description="width of the hidden layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of attention weights and after the hidden layer")
    tokens: Literal["modalities", "single"] = Field(
        "modalities",
        description="modalities: each is a token, and every one looks at those present; single: all modalities, one after the "
        "other, are one token, as in MPUC-MER's code, where looking at itself alone makes attention a linear map",
    )
    join: Literal["mean", "concat"] = Field("mean", description="how tokens become one vector")


def outputs(task: Task) -> int:
    """How many numbers a head gives for a task."""
    return max(1, len(task.classes))


def build_late(params: LateParams, task: Task, widths: Mapping[str, int]) -> Head:
    """One linear probe a modality."""
    from .late import Late

    return Late(params, task, widths)


def build_linear(params: LinearParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The linear probe."""
    from .linear import Linear

    return Linear(params, task, widths)


def build_knn(params: KnnParams, task: Task, widths: Mapping[str, int]) -> Head:
    """Nearest neighbours."""
    from .knn import Knn

    return Knn(params, task, widths)


def build_mlp(params: MlpParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The two-layer head."""
    from .mlp import Mlp

    return Mlp(params, task, widths)


def build_attention(params: AttentionParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The attention baseline."""
    from .attention import Attention

    return Attention(params, task, widths)


LINEAR = HeadSpec(
    name="linear",
    summary="logistic regression on concatenated vectors (ridge for regression), l2 chosen by leaving groups out",
    tasks=EVERY,
    params=LinearParams,
    build=build_linear,
    solver=True,
)
LATE = HeadSpec(
    name="late",
    summary="late fusion: a linear probe for each modality, their log-probabilities averaged over those present",
    tasks=EVERY,
    params=LateParams,
    build=build_late,
    solver=True,
)
KNN = HeadSpec(
    name="knn",
    summary="weighted vote of the nearest training recordings by cosine similarity, k chosen on validation rows",
    tasks=EVERY,
    params=KnnParams,
    build=build_knn,
    solver=True,
    paper="Wu et al., CVPR 2018, §3.4",
)
MLP = HeadSpec(
    name="mlp",
    summary="fc → ReLU → fc on concatenated vectors, trained by gradient descent",
    tasks=EVERY,
    params=MlpParams,
    build=build_mlp,
    paper="MPUC-MER (ICPR 2022), §III-C",
)


ATTENTION = HeadSpec(
    name="attention",
    summary="multi-head self-attention among the modalities, then fc → ReLU → fc",
    tasks=EVERY,
    params=AttentionParams,
    build=build_attention,
    paper="MPUC-MER (ICPR 2022), Tables I and II: attention; Vaswani et al. 2017",
)


@hookimpl
def register_heads(register: Register[HeadSpec]) -> None:
    """Offer the heads."""
    register(LINEAR)
    register(LATE)
    register(KNN)
    register(MLP)
    register(ATTENTION)
