"""InfoNCE with any positives, any ignored candidates, and the positive in or out of the denominator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmcl.api import Pair, Scored

from . import InfoNceParams

LARGEST_SCALE = 100.0
"""1/τ is never learned beyond this (Radford et al. 2021): the softmax would turn into a maximum and overflow in half precision."""


class InfoNce(nn.Module):
    """The loss of anchors on the left against candidates on the right."""

    symmetric = False

    def __init__(self, params: InfoNceParams) -> None:
        super().__init__()
        self.reduction: str = params.reduction
        self.with_positives = params.denominator == "all"
        start = torch.tensor([-math.log(params.temperature)])  # 1-d: sharded training cannot split a scalar
        if params.learn_temperature:
            self.log_scale: Tensor = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start, persistent=False)

    def forward(self, pair: Pair) -> Scored:
        cosine = pair.similarity()
        scale = self.log_scale.to(cosine.dtype).exp()
        if self.log_scale.requires_grad:
            scale = scale.clamp(max=LARGEST_SCALE)
        logits = cosine * scale
        positive = pair.positive & ~pair.ignore
        negative = ~(pair.positive | pair.ignore)
        candidates = ~pair.ignore if self.with_positives else negative
        count = positive.sum(1)
        anchors = count > 0
        if not self.with_positives:
            anchors = anchors & negative.any(1)
        # Rows without a candidate would give −∞; they are left out below, and a finite filler keeps their gradient finite too.
        filler = torch.finfo(logits.dtype).min
        denominator = logits.masked_fill(~candidates, filler).logsumexp(1)
        pulled = (logits * positive).sum(1) / count.clamp_min(1)
        each = (denominator - pulled)[anchors]
        number = anchors.sum()
        total = each.sum() + 0 * logits.sum()
        loss = total / number.clamp_min(1) if self.reduction == "mean" else total
        return Scored(loss, number, self._metrics(cosine.detach(), logits.detach(), positive, negative, anchors))

    @torch.no_grad()
    def _metrics(
        self, cosine: Tensor, logits: Tensor, positive: Tensor, negative: Tensor, anchors: Tensor
    ) -> dict[str, Tensor]:
        """accuracy: share of anchors whose best candidate is a positive; mean cosine of positives and of negatives."""
        best = logits.masked_fill(~(positive | negative), torch.finfo(logits.dtype).min).argmax(1, keepdim=True)
        right = positive.gather(1, best).squeeze(1)
        found = {
            "accuracy": (right & anchors).sum().to(logits.dtype) / anchors.sum().clamp_min(1),
            "positive_cosine": (cosine * positive).sum() / positive.sum().clamp_min(1),
            "negative_cosine": (cosine * negative).sum() / negative.sum().clamp_min(1),
        }
        if isinstance(self.log_scale, nn.Parameter):
            found["temperature"] = 1 / self.log_scale.exp().clamp(max=LARGEST_SCALE).squeeze(0)
        return found
