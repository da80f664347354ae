"""Low-rank adapters: a large network that stays as it is, and a small change of each linear layer that is learned. For authors of backbones."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

from .params import Field

if TYPE_CHECKING:
    from torch import Tensor, nn

Adapters = Annotated[
    int | None,
    Field(
        ge=1,
        le=1024,
        description="rank of low-rank adapters (LoRA) on the linear layers, which alone are trained: the weights themselves stay as they are. "
        "Left out: no adapters",
    ),
]
"""The option `adapters` of a backbone with a large network inside."""

AdapterScale = Annotated[
    float, Field(gt=0, le=1000, description="what the adapters' change is multiplied by (LoRA's α divided by the rank)")
]
"""The option `adapter_scale` beside it."""


def adapt(network: nn.Module, rank: int, scale: float = 2.0) -> int:
    """Put a low-rank adapter on every linear layer of a network, in place, and freeze all else; how many there are (Hu et al.: LoRA, ICLR 2022).

    Adapters change nothing at first. What is saved holds the layers' own weights and the adapters, so that whoever loads it needs no more.
    """
    from torch import nn

    layer = _low_rank()
    network.requires_grad_(False)
    adapted: dict[nn.Module, nn.Module] = {}  # by the layer that is within: one that stands in two places stays one
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:  # what derives from it may do something else
                adapted.setdefault(child, layer(child, rank, scale))
                setattr(module, name, adapted[child])
    return len(adapted)


@functools.cache
def _low_rank() -> Any:
    """The class of an adapted layer; it stands in a function, as torch is not imported before one is needed."""
    import torch
    from torch import nn
    from torch.nn import functional

    class LowRank(nn.Module):
        """A linear layer that stays as it is, plus scale · up · down: a change of low rank, which is zero at first."""

        def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
            super().__init__()
            self.base, self.scale = base.requires_grad_(False), scale
            self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))
            self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
            nn.init.kaiming_uniform_(self.down, a=5**0.5)  # as LoRA's authors begin

        def forward(self, input: Tensor) -> Tensor:
            """[…, in] → […, out]."""
            changed: Tensor = self.base(input) + self.scale * functional.linear(functional.linear(input, self.down), self.up)
            return changed

        @property
        def weight(self) -> Tensor:
            """The weight of one linear layer that does the same, for networks that read it."""
            return torch.addmm(self.base.weight, self.up, self.down, alpha=self.scale)

        @property
        def bias(self) -> Tensor | None:
            """The bias, which stays."""
            return self.base.bias

    return LowRank
