"""Losses that judge each couple, or each anchor's nearest, by itself: the sigmoid loss, the decoupled softmax, triplets with hard negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mmcl.api import Pair, Scored

from . import LARGEST_SCALE, DclParams, SigLipParams, TripletParams


def without_near(cosine: Tensor, positive: Tensor, ignore: Tensor, above: float | None) -> Tensor:
    """`ignore`, and negatives whose cosine lies above a number beside, since they may well belong together with the anchor."""
    return ignore if above is None else ignore | (~positive & (cosine.detach() > above))


def _cosines(pair: Pair) -> Tensor:
    cosine = pair.similarity()
    return cosine.float() if cosine.dtype.itemsize < 4 else cosine


def _mean(each: Tensor, counts: Tensor) -> Tensor:
    """The mean over the anchors that count; 0, with a gradient of zeros, if none does."""
    return torch.where(counts, each, torch.zeros_like(each)).sum() / counts.sum().clamp_min(1)


class SigLip(nn.Module):
    """L = mean over anchors i of −Σ_j log σ(z_ij (t·cos(i,j) + b)), z_ij = 1 for positives and −1 for negatives (Zhai et al. 2023, Algorithm 1).

    Every couple is a question of its own, so an anchor without a positive counts too. A positive that weighs w is w of a positive and 1 − w of a
    negative. t = exp of a learned number, held below 100, and b are learned unless `learn` is false.
    """

    symmetric = False
    reduction = "mean"
    lonely = True

    def __init__(self, params: SigLipParams) -> None:
        super().__init__()
        self.nearest = params.false_negatives
        for name, value in (("log_scale", math.log(params.scale)), ("bias", params.bias)):
            start = torch.tensor([value])
            if params.learn:
                self.register_parameter(name, nn.Parameter(start))
            else:
                self.register_buffer(name, start, persistent=False)

    def forward(self, pair: Pair) -> Scored:
        """The loss; metrics: t, b, mean cosines."""
        cosine = _cosines(pair)
        with torch.no_grad():  # the number itself is held back: a clamp in the graph would leave it without gradient
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        positive = pair.positive & ~pair.ignore
        seen = ~without_near(cosine, positive, pair.ignore, self.nearest)
        logits = cosine * self.log_scale.to(cosine.dtype).exp() + self.bias.to(cosine.dtype)
        share = positive.to(cosine.dtype) if pair.weight is None else pair.weight.to(cosine.dtype) * positive
        each = -(share * logsigmoid(logits) + (1 - share) * logsigmoid(-logits))
        counts = seen.any(1)
        loss = _mean((each * seen).sum(1), counts)
        with torch.no_grad():
            negative = seen & ~positive
            metrics = {
                "scale": self.log_scale.exp().squeeze(0),
                "bias": self.bias.detach().squeeze(0).clone(),
                "positive_cosine": (cosine * positive).sum() / positive.sum().clamp_min(1),
                "negative_cosine": (cosine * negative).sum() / negative.sum().clamp_min(1),
            }
        return Scored(loss, counts.sum(), metrics)


class Dcl:
    """L_i = mean over positives p of −w_ip·s_ip/τ + log Σ over negatives a of exp(s_ia/τ) (Yeh et al. 2022, Eq. 5; w = 1).

    With `sigma`, w_ip = 2 − exp(s_ip/σ) over its mean for all positives of the batch (Eq. 6, DCLW).
    Anchors without a positive or without a negative are left out.
    """

    symmetric = False

    def __init__(self, params: DclParams) -> None:
        self.params = params
        self.reduction = "mean" if params.sigma is None else "whole"

    def __call__(self, pair: Pair) -> Scored:
        """The loss; metric: accuracy (the most similar candidate is a positive)."""
        cosine = _cosines(pair)
        positive = pair.positive & ~pair.ignore
        negative = ~(without_near(cosine, positive, pair.ignore, self.params.false_negatives) | positive)
        number = positive.sum(1)
        counts = (number > 0) & negative.any(1)
        floor = torch.finfo(cosine.dtype).min
        logits = cosine / self.params.temperature
        near = logits * self._weights(cosine, positive & counts[:, None]) * positive
        each = logits.masked_fill(~negative, floor).logsumexp(1) - near.sum(1) / number.clamp_min(1)
        with torch.no_grad():
            best = cosine.masked_fill(~positive, floor).amax(1) > cosine.masked_fill(~negative, floor).amax(1)
            accuracy = (best & counts).sum() / counts.sum().clamp_min(1).to(cosine.dtype)
        return Scored(_mean(each, counts), counts.sum(), {"accuracy": accuracy})

    def _weights(self, cosine: Tensor, positive: Tensor) -> Tensor:
        if self.params.sigma is None:
            return torch.ones_like(cosine)
        raised = ((cosine - 1) / self.params.sigma).exp()  # less 1: the ratio is the same, and nothing overflows
        mean = (raised * positive).sum() / positive.sum().clamp_min(1)
        return 2 - raised / mean.clamp_min(torch.finfo(cosine.dtype).tiny)


class Triplet:
    """L_i = mean over positives p of [margin + s_ij − s_ip]₊, over negatives j as `negatives` says.

    hardest    the most similar negative alone (Faghri et al. 2018, VSE++, Eq. 6)
    all        the sum over all negatives (Eq. 5)
    semi-hard  the most similar of those that are less similar than the positive (Schroff et al. 2015); 0 where there is none

    Anchors without a positive or without a negative are left out.
    """

    symmetric = False
    reduction = "mean"

    def __init__(self, params: TripletParams) -> None:
        self.params = params

    def __call__(self, pair: Pair) -> Scored:
        """The loss; metrics: accuracy, and the share of positives whose hinge is above 0."""
        cosine = _cosines(pair)
        positive = pair.positive & ~pair.ignore
        negative = ~(without_near(cosine, positive, pair.ignore, self.params.false_negatives) | positive)
        number = positive.sum(1)
        counts = (number > 0) & negative.any(1)
        floor = torch.finfo(cosine.dtype).min
        hardest = cosine.masked_fill(~negative, floor).amax(1)
        if self.params.negatives == "hardest":
            lowest = torch.where(counts, hardest, torch.zeros_like(hardest))  # `floor` and a margin are no number
            hinges = (self.params.margin + lowest[:, None] - cosine).clamp_min(0)
        else:
            hinges = torch.stack([self._of_anchor(*row) for row in zip(cosine, negative, strict=True)])
        each = (hinges * positive).sum(1) / number.clamp_min(1)
        with torch.no_grad():
            best = cosine.masked_fill(~positive, floor).amax(1) > hardest
            some = counts.sum().clamp_min(1).to(cosine.dtype)
            above = ((hinges > 0) & positive).sum(1) / number.clamp_min(1).to(cosine.dtype)
            metrics = {"accuracy": (best & counts).sum() / some, "above_margin": (above * counts).sum() / some}
        return Scored(_mean(each, counts), counts.sum(), metrics)

    def _of_anchor(self, cosine: Tensor, negative: Tensor) -> Tensor:
        """The hinge of one anchor with each candidate [K] as its positive: one row at a time, as all together are N × K × K."""
        apart = cosine[None, :] - cosine[:, None]  # s_ij − s_ip at [p, j]
        if self.params.negatives == "all":
            return ((self.params.margin + apart).clamp_min(0) * negative).sum(1)
        below = negative[None, :] & (apart < 0)
        nearest = apart.masked_fill(~below, -torch.inf).amax(1)
        return torch.where(below.any(1), (self.params.margin + nearest).clamp_min(0), torch.zeros_like(nearest))
