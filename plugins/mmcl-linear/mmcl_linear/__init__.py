"""The backbone `linear-1d`: one linear convolution over time, read out part by part; what changes apart from what stays."""

from __future__ import annotations

from mmcl.api import Backbone, BackboneSpec, Field, Layout, Params, Parts, Register, hookimpl


class Linear1dParams(Params):
    """Options of `linear-1d`."""

    channels: int = Field(16, ge=1, le=4096, description="how many linear combinations of a step's values there are")
    kernel: int = Field(1, ge=1, le=63, description="steps that a combination spans; odd; 1: each step for itself")
    parts: Parts = 10
    centre: bool = Field(
        False,
        description="the mean over the recording is taken out of its parts: a shape or an offset that stays is not among them, and with "
        "it who somebody is",
    )
    level: float = Field(
        0.0,
        ge=0,
        le=10,
        description="weight with which mean and deviation of each combination over the recording stand behind the parts; 1 weighs a mean "
        "as if it stood in every part. A small weight keeps the contrast on what changes and costs a probe, which standardises, nothing",
    )


def fits(params: Linear1dParams, layout: Layout) -> None:
    """Refuse an even kernel, and a centre where nothing is left."""
    if params.kernel % 2 == 0:
        raise ValueError(f"kernel {params.kernel} has no centre; make it odd")
    if params.centre and params.parts == 1 and not params.level:
        raise ValueError("centre takes the mean out of the only part and leaves zeros; set parts to 2 or more, or a level")


def build(params: Linear1dParams, layout: Layout) -> Backbone:
    """The network."""
    from .network import Linear1d

    return Linear1d(params, layout)


LINEAR_1D = BackboneSpec(
    name="linear-1d",
    summary="one linear convolution over time and means over parts of it: canonical correlation's form, learned by contrast",
    accepts=(("time", "channel"), ("time", "joint", "channel")),
    params=Linear1dParams,
    build=build,
    fits=fits,
    paper="the form of canonical correlation (Hotelling 1936), the same weights in every step; learned by whatever loss the recipe has",
    follows=(
        "No hidden layer and no nonlinearity: few people are not learned by heart. Joints lie side by side in a step. 112 weights on 6 "
        "channels, 976 on 20 joints of 3."
    ),
)


@hookimpl
def register_backbones(register: Register[BackboneSpec]) -> None:
    """Offer the backbone."""
    register(LINEAR_1D)
