"""Read-outs: how the real steps of a row become one vector, or so many steps. For authors of backbones; torch is imported when one is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .params import Field

if TYPE_CHECKING:
    from torch import Tensor, nn

Parts = Annotated[
    int,
    Field(
        ge=1,
        le=64,
        description="read out of this many equal parts of the real steps, one after another, so that order is not lost",
    ),
]
"""The option `parts` of a backbone with a read-out."""

ReadOutWidth = Annotated[
    int | None,
    Field(ge=1, description="size of the vector, by a linear layer after the read-out; left out: as read out, no such layer"),
]
"""The option `width` of a backbone with a read-out."""


def parts_of(steps: Tensor, parts: int) -> Tensor:
    """Which real steps [B, T] each of equally long parts of a row holds: bool [B, part, T]."""
    import torch

    place = (steps.cumsum(1) - 1) * parts // steps.sum(1, keepdim=True).clamp_min(1)
    return (place[:, None] == torch.arange(parts, device=steps.device)[:, None]) & steps[:, None]


def read_out(hidden: Tensor, steps: Tensor, parts: int = 1, deviation: bool = False) -> Tensor:
    """The mean of [B, T, C] over the real steps of each of equally long parts of a row: [B, parts · C].

    deviation  the standard deviation behind it: [B, 2 · parts · C]

    A part without a real step gives zeros (and a deviation of 0.001). Half precision is made float32 first.
    """
    import torch

    if hidden.dtype.itemsize < 4:
        hidden = hidden.float()  # sums over time need more digits than bf16 has
    part = parts_of(steps, parts).to(hidden.dtype)  # [B, P, T]
    count = part.sum(2, keepdim=True).clamp_min(1)
    mean = part @ hidden / count  # [B, P, C]
    if not deviation:
        return mean.flatten(1)
    apart = (hidden - part.transpose(1, 2) @ mean) * steps[..., None]
    variance = part @ apart.square() / count
    return torch.cat([mean.flatten(1), (variance + 1e-6).sqrt().flatten(1)], 1)


def each_step(hidden: Tensor, steps: Tensor, width: int, project: nn.Linear | None = None) -> Tensor:
    """Every step of [B, T, C], read out as if it stood alone (its deviation is zero): [B, T, width].

    project  the linear layer behind the read-out, of which the columns of the mean are used; None: the step, and zeros behind it
    """
    from torch.nn import functional

    channels = hidden.shape[2]
    if project is None:
        return functional.pad(hidden, (0, width - channels))
    return functional.linear(hidden, project.weight[:, :channels], project.bias) * steps[..., None]


def resampled(values: Tensor, steps: Tensor, count: int) -> Tensor:
    """The real steps of every row [B, T, …] as `count` steps, by linear interpolation; the first and the last stay what they are.

    steps  bool [B, T]; the real ones of a row come first
    count  2 or more

    Places are whole numbers of 1 / (count − 1) of a step, so that they are exact and no step behind the last one is ever read.
    """
    import torch

    last = (steps.sum(1, keepdim=True) - 1).clamp_min(0)
    place = torch.arange(count, device=steps.device) * last
    before = place // (count - 1)
    share = (place % (count - 1)).to(values.dtype) / (count - 1)
    row = torch.arange(values.shape[0], device=steps.device)[:, None]
    after = torch.minimum(before + 1, last)
    return torch.lerp(values[row, before], values[row, after], share.view(*share.shape, *[1] * (values.ndim - 2)))
