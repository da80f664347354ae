"""The contrast that these losses share: a softmax over candidates, with several positives and ignored ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from . import LARGEST_SCALE, Softmax


class Scale(nn.Module):
    """1/τ, fixed or learned."""

    def __init__(self, params: Softmax) -> None:
        super().__init__()
        self.fixed = 1 / params.temperature
        self.log_scale: nn.Parameter | None = None
        if params.learn_temperature:
            self.log_scale = nn.Parameter(torch.tensor([math.log(self.fixed)]))  # 1-d: sharded training cannot split a scalar

    def forward(self) -> Tensor | float:
        """What similarities are multiplied by."""
        if self.log_scale is None:
            return self.fixed
        with torch.no_grad():  # the parameter itself is held back: a clamp in the graph would leave it without gradient
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return self.log_scale.exp()

    def metrics(self) -> dict[str, Tensor]:
        """τ, if it is learned."""
        return {} if self.log_scale is None else {"temperature": 1 / self.log_scale.detach().squeeze(0).exp()}


def unit(z: Tensor) -> Tensor:
    """Vectors of length 1, in float32 at least."""
    return normalize(z.float() if z.dtype.itemsize < 4 else z, dim=-1)


def softmax_loss(logits: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Of each anchor [N]: the mean over its positives of −log of their share among positives and negatives, and whether one is nearest.

    Anchors without a positive have 0. Logits are [N, K], the masks have nothing in common.
    """
    floor = torch.finfo(logits.dtype).min  # not −∞: a row without any candidate stays free of NaN
    total = logits.masked_fill(~(positive | negative), floor).logsumexp(1)
    count = positive.sum(1)
    near = logits.masked_fill(~positive, 0).sum(1) / count.clamp_min(1)
    each = torch.where(count > 0, total - near, torch.zeros_like(total))
    with torch.no_grad():
        best = logits.masked_fill(~positive, floor).amax(1) > logits.masked_fill(~negative, floor).amax(1)
    return each, best & (count > 0)


def mean_of(each: Tensor, counts: Tensor) -> Tensor:
    """The mean of what counts; 0, with a gradient of zeros, where nothing does."""
    kept = torch.where(counts, each, torch.zeros_like(each))
    return kept.sum() / counts.sum().clamp_min(1)
