"""Probes: a linear one with its own solver, and a small network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mmcl.api import Field, Head, HeadSpec, Params, Register, Task, hookimpl

EVERY = ("single-label", "multi-label", "regression")


class LinearParams(Params):
    """Options of `linear`."""

    l2: tuple[float, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
        min_length=1,
        description="penalties tried, λ in: mean loss + λ/2·‖W‖² (scikit-learn's C is 1/(n·λ)); the bias is not penalised",
    )
    choose: Literal["score", "loss"] = Field(
        "score",
        description="what the penalty is chosen by on validation rows: accuracy (mean balanced accuracy, −MSE), or the loss; ties take the larger",
    )
    refit: Literal["train", "train+valid"] = Field("train", description="rows of the final fit, once the penalty is chosen")


class MlpParams(Params):
    """Options of `mlp`."""

    hidden: int = Field(512, ge=1, description="width of the hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout after the hidden layer")


def outputs(task: Task) -> int:
    """How many numbers a head gives for a task."""
    return max(1, len(task.classes))


def build_linear(params: LinearParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The linear probe."""
    from .linear import Linear

    return Linear(params, task, sum(widths.values()), outputs(task))


def build_mlp(params: MlpParams, task: Task, widths: Mapping[str, int]) -> Head:
    """The two-layer head."""
    from .mlp import Mlp

    return Mlp(params, sum(widths.values()), outputs(task))


LINEAR = HeadSpec(
    name="linear",
    summary="logistic regression on concatenated features (ridge for regression), L-BFGS, penalty chosen on validation rows",
    tasks=EVERY,
    params=LinearParams,
    build=build_linear,
)
MLP = HeadSpec(
    name="mlp",
    summary="fc → ReLU → fc on concatenated features",
    tasks=EVERY,
    params=MlpParams,
    build=build_mlp,
    paper="MPUC-MER (ICPR 2022), §III-C",
)


@hookimpl
def register_heads(register: Register[HeadSpec]) -> None:
    """Offer the heads."""
    register(LINEAR)
    register(MLP)
