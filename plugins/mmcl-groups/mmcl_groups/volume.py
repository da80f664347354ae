"""GRAM and TRIANGLE: a softmax over how large a body the modalities of a recording span."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmcl.api import Group, Scored

from . import AnchorParams
from .softmax import Scale, mean_of, softmax_loss, unit

SMALLEST = 1e-8
"""Added under the root: the slope of √x is infinite at 0, where all modalities agree."""


Size = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""How large the body is that each anchor [N, D] spans with the others [K, D] of each candidate, [N, K]; all of length 1."""


class Body(nn.Module):
    """One modality, the anchor, against the others of all candidates, and the others against all candidates' anchors."""

    reduction = "mean"

    def __init__(self, params: AnchorParams, size: Size) -> None:
        super().__init__()
        self.size = size
        self.anchor = params.anchor
        self.scale = Scale(params)

    def forward(self, group: Group) -> Scored:
        """The loss; metrics: accuracy (the smallest body is the recording's own), its mean size, that of the negatives, τ if it is learned."""
        left, right = ({name: unit(z) for name, z in side.items()} for side in (group.left, group.right))
        positive, negative = group.positive & ~group.ignore, ~(group.positive | group.ignore)
        counts = positive.any(1)
        anchors = list(left) if self.anchor == "each" else [self.anchor]
        if anchors[0] not in left:  # recordings that lack the anchor have nothing to be compared with
            return Scored(torch.stack([z.sum() for z in left.values()]).sum() * 0, counts.sum() * 0, self.scale.metrics())
        terms, best, own, foreign = [], [], [], []
        for name in anchors:
            here, there = ([z for other, z in side.items() if other != name] for side in (left, right))
            for sizes in (self.size(left[name], there), self.size(right[name], here).T):
                each, nearest = softmax_loss(-sizes * self.scale(), positive, negative)
                terms.append(mean_of(each, counts))
                with torch.no_grad():
                    best.append((nearest & counts).sum() / counts.sum().clamp_min(1).to(sizes.dtype))
                    own.append((sizes * positive).sum() / positive.sum().clamp_min(1))
                    foreign.append((sizes * negative).sum() / negative.sum().clamp_min(1))
        names = zip(("accuracy", "positive_size", "negative_size"), (best, own, foreign), strict=True)
        metrics = {name: torch.stack(values).mean().detach() for name, values in names}
        return Scored(torch.stack(terms).mean(), counts.sum(), {**metrics, **self.scale.metrics()})


def volumes(anchors: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Volumes of parallelotopes [N, K], √det of the Gram matrix (Cicchetti et al. 2025, Eq. 4 to 8); of two modalities the sine of their angle."""
    cosines = [anchors @ z.T for z in others]
    if len(others) == 1:
        return root(1 - cosines[0] ** 2)
    if len(others) == 2:
        a, b = cosines
        c = (others[0] * others[1]).sum(-1)
        return root(1 + 2 * a * b * c - a**2 - b**2 - c**2)
    n, k, m = len(anchors), len(others[0]), len(others) + 1
    inner = torch.stack([torch.stack([(x * y).sum(-1) for y in others], -1) for x in others], -2)  # [K, M−1, M−1]
    border = torch.stack(cosines, -1)  # [N, K, M−1]
    top = torch.cat([border.new_ones(n, k, 1, 1), border[:, :, None, :]], -1)
    rest = torch.cat([border[..., None], inner.expand(n, k, m - 1, m - 1)], -1)
    return root(torch.linalg.det(torch.cat([top, rest], -2)))


def areas(anchors: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Areas of triangles whose corners are three unit vectors [N, K] (Cicchetti et al. 2025, TRIANGLE)."""
    first, second = others
    a, b, c = anchors @ first.T, anchors @ second.T, (first * second).sum(-1)
    u, v, uv = 2 - 2 * a, 2 - 2 * b, 1 - a - b + c  # |x − y|², |x − z|² and (x − y)·(x − z) of unit vectors
    return root(u * v - uv**2) / 2


def root(square: Tensor) -> Tensor:
    """√ of what rounding may have made negative, with a finite slope everywhere."""
    return (square.clamp_min(0) + SMALLEST).sqrt()
