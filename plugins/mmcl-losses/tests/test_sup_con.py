"""The contrast with several positives against a double loop over plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from mmcl_losses import SupConParams
from mmcl_losses.sup_con import SupCon

from mmcl.api import Pair


@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_equals_a_double_loop(form, normalise, reduction):
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    right = torch.randn(9, 4, dtype=torch.float64, generator=generator)
    positive, ignore = torch.rand(7, 9, generator=generator) < 0.3, torch.rand(7, 9, generator=generator) < 0.2
    positive[2] = False
    loss = SupCon(SupConParams(form=form, normalise=normalise, reduction=reduction, temperature=0.4))
    got = loss(Pair(left, right, positive, ignore))
    terms = []
    for i in range(7):
        s = [
            float(left[i] @ right[j]) / ((float(left[i].norm()) * float(right[j].norm())) if normalise else 1) / 0.4
            for j in range(9)
        ]
        total = math.fsum(math.exp(s[j]) for j in range(9) if not ignore[i, j])
        mine = [j for j in range(9) if positive[i, j] and not ignore[i, j]]
        if not mine:
            continue
        if form == "out":
            terms.append(-math.fsum(math.log(math.exp(s[j]) / total) for j in mine) / len(mine))
        else:
            terms.append(-math.log(math.fsum(math.exp(s[j]) / total for j in mine) / len(mine)))
    assert int(got.anchors) == len(terms) < 7
    assert got.loss.item() == pytest.approx(math.fsum(terms) / (len(terms) if reduction == "mean" else 1), abs=1e-10)
