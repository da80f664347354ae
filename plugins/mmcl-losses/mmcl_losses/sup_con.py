"""Contrast with several positives an anchor (Khosla et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcl.api import Pair, Scored

from . import SupConParams


class SupCon(nn.Module):
    """Anchors without a positive are left out; if none is left the loss is 0, and so is its gradient.

    Where positives weigh, means over them are weighed: Σ_p w_ip·… / Σ_p w_ip.
    """

    symmetric = False

    def __init__(self, params: SupConParams) -> None:
        super().__init__()
        self.params = params
        self.reduction: str = params.reduction

    def forward(self, pair: Pair) -> Scored:
        """The loss; metrics: accuracy (the most similar candidate is a positive), positives an anchor."""
        similarity = pair.similarity() if self.params.normalise else _products(pair)
        if similarity.dtype.itemsize < 4:
            similarity = similarity.float()
        positive = pair.positive & ~pair.ignore
        count = positive.sum(1)
        counts = count > 0
        weight = positive.to(similarity.dtype) if pair.weight is None else pair.weight.to(similarity.dtype) * positive
        total_weight = torch.where(counts, weight.sum(1), torch.ones_like(similarity[:, 0]))
        floor = torch.finfo(similarity.dtype).min
        logits = (similarity / self.params.temperature).masked_fill(pair.ignore, floor)
        total = logits.logsumexp(1)
        if self.params.form == "out":
            mean = (logits.masked_fill(~positive, 0) * weight).sum(1) / total_weight
            each = total - mean
        else:
            own = logits + torch.where(positive, weight, torch.ones_like(weight)).log()
            near = own.masked_fill(~positive, floor).logsumexp(1)
            each = total - near + total_weight.log()
        each = torch.where(counts, each, torch.zeros_like(each))
        anchors = counts.sum()
        loss = each.sum() / anchors.clamp_min(1) if self.reduction == "mean" else each.sum()
        with torch.no_grad():
            best = logits.argmax(1, keepdim=True)
            right = positive.gather(1, best).squeeze(1) & counts
            metrics = {
                "accuracy": right.sum() / anchors.clamp_min(1).to(similarity.dtype),
                "positives": count.sum() / anchors.clamp_min(1).to(similarity.dtype),
            }
        return Scored(loss, anchors, metrics)


def _products(pair: Pair) -> Tensor:
    left, right = (x.float() if x.dtype.itemsize < 4 else x for x in (pair.left, pair.right))
    return left @ right.T
