"""InfoNCE with any positives, any ignored candidates, and the positive in or out of the denominator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmcl.api import Pair, Scored, Softmax

from . import LARGEST_SCALE, InfoNceParams


class InfoNce(nn.Module):
    """The loss of anchors on the left against candidates on the right.

    L_i = mean over positives p of −log(exp(s_ip/τ) / Σ_a exp(s_ia/τ)), s the cosine similarity. With `denominator: all`, a runs
    over every candidate that is not ignored, the other positives included (van den Oord et al. 2018, Eq. 4; several positives:
    Khosla et al. 2020, Eq. 2, L_out); with `negatives`, over the negatives alone (MPUC-MER, Eq. 1 as printed). A candidate
    marked positive and ignored is ignored. Anchors that do not count (no positive; with `negatives`, no negative either) are
    left out; if none counts the loss is 0, its gradient 0, and so is every metric.

    With `hardness` β, a negative j of anchor i counts w_ij times in the denominator, w_ij = exp(β·s_ij) over its mean for the anchor's
    negatives (Robinson et al. 2021, Eq. 4 with τ⁺ = 0), taken as given: no gradient goes through a weight. With
    `false_negatives` c, negatives with s_ij > c are ignored.
    """

    symmetric = False

    def __init__(self, params: InfoNceParams) -> None:
        super().__init__()
        self.reduction: str = params.reduction
        self.factor = params.factor
        self.with_positives = params.denominator == "all"
        self.hardness, self.nearest = params.hardness, params.false_negatives
        self.scale = 1 / params.temperature
        self.log_scale: nn.Parameter | None = None
        if params.learn_temperature:
            self.log_scale = nn.Parameter(torch.tensor([math.log(self.scale)]))  # 1-d: sharded training cannot split a scalar

    def forward(self, pair: Pair) -> Scored:
        """The loss; metrics: accuracy (the most similar candidate is a positive), mean cosines, and τ if it is learned."""
        cosine = pair.similarity()
        if cosine.dtype.itemsize < 4:  # a softmax in half precision loses the small gradients of the many easy negatives
            cosine = cosine.float()
        scale = self._scale(cosine.dtype)
        positive, ignore = pair.positive & ~pair.ignore, pair.ignore
        if self.nearest is not None:
            ignore = ignore | (~positive & (cosine.detach() > self.nearest))
        if self.hardness:
            rows = _hard(cosine, scale, positive, ignore, self.with_positives, self.hardness)
        else:
            rows = _Rows.apply(cosine, scale, positive, ignore, self.with_positives)
        each, right, near, far, counts, opposed = rows
        anchors = counts.sum()
        loss = each.sum() / anchors.clamp_min(1) if self.reduction == "mean" else each.sum()
        loss = loss * self.factor if self.factor != 1 else loss
        metrics = {
            "accuracy": right.sum() / anchors.clamp_min(1).to(cosine.dtype),
            "positive_cosine": near.sum() / anchors.clamp_min(1),
            "negative_cosine": far.sum() / opposed.sum().clamp_min(1),
        }
        if self.log_scale is not None:
            metrics["temperature"] = 1 / self.log_scale.detach().squeeze(0).exp()
        return Scored(loss, anchors, metrics)

    def softmax(self) -> Softmax | None:
        """All of it, unless negatives weigh by their nearness."""
        if self.hardness:
            return None
        return Softmax(self._scale(), self.with_positives, self.factor, self.nearest)

    def _scale(self, dtype: torch.dtype | None = None) -> Tensor | float:
        """1/τ; a tensor [1] if it is learned."""
        if self.log_scale is None:
            return self.scale
        with torch.no_grad():  # the parameter itself is held back: a clamp in the graph would leave it without gradient
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return (self.log_scale if dtype is None else self.log_scale.to(dtype)).exp()


def _hard(
    cosine: Tensor, scale: Tensor | float, positive: Tensor, ignore: Tensor, with_positives: bool, hardness: float
) -> tuple[Tensor, ...]:
    """What _Rows gives of each anchor, with negatives that weigh more the nearer they are."""
    negative = ~(positive | ignore)
    floor = torch.finfo(cosine.dtype).min
    positives, negatives = positive.sum(1), negative.sum(1)
    counts = positives > 0 if with_positives else (positives > 0) & (negatives > 0)
    opposed = counts & (negatives > 0)
    with torch.no_grad():
        known = (hardness * cosine).masked_fill(~negative, floor)
        log_weight = known - known.logsumexp(1, keepdim=True) + negatives.clamp_min(1).to(cosine.dtype).log()[:, None]
    logits = torch.where(negative, cosine * scale + log_weight.masked_fill(~negative, 0), cosine * scale)
    below = logits.masked_fill(~(negative | positive) if with_positives else ~negative, floor)
    own = (logits * positive).sum(1) / positives.clamp_min(1)
    each = torch.where(counts, below.logsumexp(1) - own, torch.zeros_like(own))
    with torch.no_grad():
        near = (cosine * positive).sum(1) / positives.clamp_min(1) * counts
        far = (cosine * negative).sum(1) / negatives.clamp_min(1) * opposed
        best = cosine.masked_fill(~positive, floor).amax(1) > cosine.masked_fill(~negative, floor).amax(1)
    return each, (best & counts).to(cosine.dtype), near, far, counts, opposed


class _Rows(torch.autograd.Function):
    """Of each anchor [N]: loss, top-1 hit, mean cosine of positives and of negatives, whether it counts, and has negatives too.

    The gradient of a softmax is the softmax, so one buffer holds first the logits, then the softmax, then the derivative, and
    the derivative is all that is kept for the backward pass: one [N, K] matrix, where autograd over the formula keeps several.
    Every step goes along whatever layout the cosines have: half of all calls read a matrix across its rows.
    """

    @staticmethod
    def forward(
        ctx: Any, cosine: Tensor, scale: Tensor | float, positive: Tensor, ignore: Tensor, with_positives: bool
    ) -> tuple[Tensor, ...]:
        """`positive` and `ignore` have nothing in common."""
        partner = _only_positive(positive, ignore) if with_positives else None
        if partner is not None:
            return _Rows._one_positive(ctx, cosine, scale, partner)
        # 0/1 weights of the negatives, then their cosines, then weights of the positives: one buffer.
        weight = torch.empty_like(cosine).copy_(~(positive | ignore))
        negatives = weight.sum(1)
        far = weight.mul_(cosine).sum(1) / negatives.clamp_min(1)
        positives = weight.copy_(positive).sum(1)
        near = (weight * cosine).sum(1) / positives.clamp_min(1)
        counts = positives > 0 if with_positives else (positives > 0) & (negatives > 0)
        opposed = counts & (negatives > 0)

        # Masked entries get the smallest finite number, not −∞: a row without any candidate stays free of NaN.
        floor = torch.finfo(cosine.dtype).min
        logits = (cosine * scale).masked_fill_(ignore, floor)
        apart = logits.masked_fill(positive, floor)
        top, best_negative = logits.amax(1, keepdim=True), apart.amax(1, keepdim=True)
        right = (top > best_negative).squeeze(1) & counts
        if not with_positives:
            logits, top = apart, best_negative
        share = logits.sub_(top).exp_()
        total = share.sum(1, keepdim=True)
        # The two great numbers first: where the positive is the most similar candidate, their difference is exactly 0.
        each = (top.squeeze(1) - near * scale) + total.log().squeeze(1)

        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            derivative = share.mul_(counts[:, None] / total)
            derivative.addcmul_(weight, (counts / positives.clamp_min(1))[:, None], value=-1)
            ctx.fixed_scale = None if isinstance(scale, Tensor) else scale
            learned = (scale, cosine) if ctx.needs_input_grad[1] else (None, None)
            ctx.save_for_backward(derivative, *learned)
        rows = each * counts, right.to(cosine.dtype), near * counts, far * opposed, counts, opposed
        ctx.mark_non_differentiable(*rows[1:])
        return rows

    @staticmethod
    def _one_positive(ctx: Any, cosine: Tensor, scale: Tensor | float, partner: Tensor) -> tuple[Tensor, ...]:
        """The same where every anchor has one positive and nothing is ignored, as in most batches: half the passes."""
        at = partner[:, None]
        near = cosine.gather(1, at)
        candidates = cosine.shape[1]
        far = (cosine.sum(1) - near.squeeze(1)) / max(1, candidates - 1)
        logits = cosine * scale
        own = logits.gather(1, at)
        best_negative = logits.scatter_(1, at, torch.finfo(logits.dtype).min).amax(1)
        right = own.squeeze(1) > best_negative
        chances = logits.scatter_(1, at, own).log_softmax(1)
        each = -chances.gather(1, at).squeeze(1)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            derivative = chances.exp_()
            derivative.scatter_add_(1, at, torch.full_like(near, -1))
            ctx.fixed_scale = None if isinstance(scale, Tensor) else scale
            learned = (scale, cosine) if ctx.needs_input_grad[1] else (None, None)
            ctx.save_for_backward(derivative, *learned)
        counts = torch.ones_like(right)
        opposed = counts if candidates > 1 else ~counts
        rows = each, right.to(cosine.dtype), near.squeeze(1), far * opposed, counts, opposed.clone()
        ctx.mark_non_differentiable(*rows[1:])
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        derivative, scale, cosine = ctx.saved_tensors
        each, for_cosine, for_scale = grads[0], None, None
        if ctx.needs_input_grad[0]:
            for_cosine = derivative * (each * (ctx.fixed_scale if scale is None else scale))[:, None]
        if ctx.needs_input_grad[1]:
            for_scale = ((cosine * derivative).sum(1) @ each).view(1)
        return for_cosine, for_scale, None, None, None


def _only_positive(positive: Tensor, ignore: Tensor) -> Tensor | None:
    """The column of each row's positive [N], if every row has exactly one and nothing is ignored.

    Masks are read as bytes and as words of eight: on a processor that is 3 to 20 times faster than asking the booleans.
    """
    as_bytes = positive.view(torch.uint8)
    if bool(ignore.view(torch.uint8).amax()) or not bool((as_bytes.sum(1, dtype=torch.int32) == 1).all()):
        return None
    if positive.shape[1] % 8 or not positive.is_contiguous():
        return as_bytes.argmax(1)
    rows, words = positive.view(torch.int64).nonzero(as_tuple=True)  # one word of each row holds its positive
    return 8 * words + as_bytes.view(len(positive), -1, 8)[rows, words].argmax(1)
