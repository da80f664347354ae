"""Symile: a softmax over multilinear inner products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcl.api import Group, Scored

from . import SymileParams
from .softmax import Scale, mean_of, softmax_loss, unit


class Symile(nn.Module):
    """The mean over modalities as anchor, each against aligned positives and mixed negatives (Saporta et al. 2024, Eq. 3 and §3.2).

    A mixture takes each of the other modalities from a recording of its own. It is a negative unless one of these recordings is ignored
    for the anchor, or all of them are its positives. Which recordings are mixed is the same for every batch of one size: rows
    of a batch come in random order, so that a fixed mixture is a random one, and a batch has one loss.
    """

    reduction = "mean"

    def __init__(self, params: SymileParams) -> None:
        super().__init__()
        self.negatives = params.negatives
        self.scale = Scale(params)

    def forward(self, group: Group) -> Scored:
        """The loss; metrics: accuracy (the recording's own product is the largest), and τ if it is learned."""
        left, right = ([unit(z) for z in side.values()] for side in (group.left, group.right))
        positive = group.positive & ~group.ignore
        counts = positive.any(1)
        losses, best = [], []
        for m, anchor in enumerate(left):
            others = [z for k, z in enumerate(right) if k != m]
            product = others[0]
            for z in others[1:]:
                product = product * z
            logits = [anchor @ product.T]
            negative = ~(positive | group.ignore)
            wanted, unwanted = [positive], [negative if self.negatives == "aligned" else torch.zeros_like(positive)]
            if self.negatives != "aligned":
                mixed, apart = self._mixtures(anchor, others, positive, group.ignore)
                logits.append(mixed)
                wanted.append(torch.zeros_like(apart))
                unwanted.append(apart)
            each, nearest = softmax_loss(torch.cat(logits, 1) * self.scale(), torch.cat(wanted, 1), torch.cat(unwanted, 1))
            losses.append(mean_of(each, counts))
            best.append((nearest & counts).sum() / counts.sum().clamp_min(1).to(each.dtype))
        return Scored(torch.stack(losses).mean(), counts.sum(), {"accuracy": torch.stack(best).mean(), **self.scale.metrics()})

    def _mixtures(self, anchor: Tensor, others: list[Tensor], positive: Tensor, ignore: Tensor) -> tuple[Tensor, Tensor]:
        """The anchors' products with mixtures [N, C], and which of these are negatives."""
        if self.negatives == "all" and len(others) == 2:
            first, second = others
            products = torch.einsum("nd,ad,bd->nab", anchor, first, second).flatten(1)
            belongs = (positive[:, :, None] & positive[:, None, :]).flatten(1)
            neither = (ignore[:, :, None] | ignore[:, None, :]).flatten(1)
            return products, ~(belongs | neither)
        orders = mixtures(len(others[0]), len(others), anchor.device)
        product, belongs, neither = torch.ones_like(others[0]), torch.ones_like(positive), torch.zeros_like(ignore)
        for z, order in zip(others, orders, strict=True):
            product = product * z[order]
            belongs, neither = belongs & positive[:, order], neither | ignore[:, order]
        return anchor @ product.T, ~(belongs | neither)


def mixtures(candidates: int, modalities: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """For each modality the row of which candidate stands in each mixture: the first as they come, the others shuffled."""
    rng = torch.Generator().manual_seed(candidates)
    orders = [torch.arange(candidates), *(torch.randperm(candidates, generator=rng) for _ in range(modalities - 1))]
    return [order.to(device) for order in orders]
