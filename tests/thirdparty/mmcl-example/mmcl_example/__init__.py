"""A backbone and a loss for mmcl. Nothing heavy is imported here: every command of mmcl imports this file."""

from __future__ import annotations

from mmcl.api import Backbone, BackboneSpec, Field, Layout, LossSpec, PairLoss, Params, Register, hookimpl


class MeanPoolParams(Params):
    """Options of `mean-pool`."""

    width: int = Field(32, ge=1, description="size of the vector")


class ExampleNceParams(Params):
    """Options of `example-nce`."""

    temperature: float = Field(0.1, gt=0, description="τ, by which cosine similarities are divided")


def build_mean_pool(params: MeanPoolParams, layout: Layout) -> Backbone:
    """The backbone."""
    from .network import MeanPool

    return MeanPool(params.width, layout.sizes["channel"])


def build_example_nce(params: ExampleNceParams) -> PairLoss:
    """The loss."""
    from .loss import ExampleNce

    return ExampleNce(params.temperature)


MEAN_POOL = BackboneSpec(
    name="mean-pool",
    summary="mean over real steps, then a linear layer",
    accepts=(("time", "channel"),),
    params=MeanPoolParams,
    build=build_mean_pool,
)
EXAMPLE_NCE = LossSpec(
    name="example-nce",
    summary="softmax over candidates, positives summed before the logarithm",
    params=ExampleNceParams,
    build=build_example_nce,
    equation="L_i = −log Σ_p exp(cos(i,p)/τ) / Σ_a exp(cos(i,a)/τ)",
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(MEAN_POOL)


@hookimpl
def register_losses(register: Register[LossSpec]) -> None:
    """Offer the loss."""
    register(EXAMPLE_NCE)
