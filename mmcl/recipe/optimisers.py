"""The parts of a recipe that say how weights are updated: optimisers and learning-rate schedules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from .slots import SHORT, Section


class Sgd(Section):
    """Stochastic gradient descent with momentum."""

    use: Literal["sgd"] = "sgd"
    lr: float = Field(1e-3, gt=0, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum")
    weight_decay: float = Field(1e-3, ge=0, description="L2 penalty on every weight")


class AdamW(Section):
    """Adam with decoupled weight decay."""

    use: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0, description="learning rate")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="decay of the gradient's mean and square"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled decay of matrices (biases, gains and norms have none)")


class Constant(Section):
    """The same learning rate throughout."""

    use: Literal["constant"] = "constant"
    warmup: float = Field(0.0, ge=0, description="epochs over which the rate rises from 0")


class Step(Section):
    """The rate is multiplied by gamma every so many epochs."""

    use: Literal["step"]
    every: int = Field(ge=1, description="epochs between steps")
    gamma: float = Field(0.9, gt=0, le=1, description="factor of each step")
    warmup: float = Field(0.0, ge=0, description="epochs over which the rate rises from 0")


class Cosine(Section):
    """Half a cosine from the full rate down to `floor` times it, over all epochs."""

    use: Literal["cosine"]
    floor: float = Field(0.0, ge=0, lt=1, description="last rate as a share of the first")
    warmup: float = Field(0.0, ge=0, description="epochs over which the rate rises from 0")


class Linear(Section):
    """A straight line from the full rate down to 0 at the end of the last epoch."""

    use: Literal["linear"]
    warmup: float = Field(0.0, ge=0, description="epochs over which the rate rises from 0")


def kind_of(value: Any) -> str:
    """The word by which sections of several kinds are told apart."""
    use = value.get("use", "") if isinstance(value, dict) else getattr(value, "use", "")
    return str(use)  # "" is no kind either, but pydantic then says which there are


TOLD_APART = Discriminator(kind_of)

Optimizer = Annotated[Annotated[Sgd, Tag("sgd")] | Annotated[AdamW, Tag("adamw")], TOLD_APART, SHORT]
Schedule = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[Step, Tag("step")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Linear, Tag("linear")],
    TOLD_APART,
    SHORT,
]
