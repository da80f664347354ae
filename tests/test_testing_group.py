"""The checks of group losses: a loss that keeps the contract passes, and each planted fault is named."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from mmcl.api import Group, GroupLossSpec, NoParams, Scored
from mmcl.testing import check_group_loss


class Centre:
    """Each modality against the mean of the others; `fault` plants one."""

    reduction = "mean"

    def __init__(self, fault: str = "") -> None:
        self.fault, self.calls = fault, 0

    def __call__(self, group: Group) -> Scored:
        self.calls += 1
        ignore = torch.zeros_like(group.ignore) if self.fault == "ignores the mask" else group.ignore
        positive, negative = group.positive & ~ignore, ~(group.positive | ignore)
        counts = positive.any(1)
        names = group.modalities[:1] if self.fault == "one modality alone" else group.modalities
        terms = []
        for name in names:
            anchor = normalize(group.left[name], dim=-1)
            others = [normalize(z, dim=-1) for other, z in group.right.items() if other != name]
            others = [z.detach() for z in others] if self.fault == "one modality alone" else others
            logits = anchor @ torch.stack(others).mean(0).T / 0.1
            logits = -logits if self.fault == "the wrong way round" else logits
            floor = torch.finfo(logits.dtype).min
            total = logits.masked_fill(~(positive | negative), floor).logsumexp(1)
            near = logits.masked_fill(~positive, 0).sum(1) / positive.sum(1).clamp_min(1)
            each = torch.where(counts, total - near, 0)
            divisor = len(counts) if self.fault == "orphans count" else counts.sum().clamp_min(1)
            terms.append(each.sum() / divisor)
        loss = torch.stack(terms).mean()
        if self.fault == "remembers":
            loss = loss * (1 + 0.1 * self.calls)
        if self.fault == "changes its input":
            next(iter(group.right.values())).mul_(2)
        if self.fault == "slope of another loss":
            loss = loss + (loss - loss.detach())
        anchors = counts.sum() + (self.fault == "miscounts")
        return Scored(loss.float() if self.fault == "single precision" else loss, anchors)


def spec(fault: str = "") -> GroupLossSpec:
    return GroupLossSpec("centre", "each against the mean of the others", NoParams, lambda params, widths: Centre(fault))


def test_a_loss_that_keeps_the_contract_passes():
    check_group_loss(spec())


@pytest.mark.parametrize(
    ("fault", "sentence"),
    {
        "ignores the mask": "a candidate that is ignored changes the loss",
        "one modality alone": "gets a gradient of zero",
        "the wrong way round": "to be lower where they agree",
        "orphans count": "anchors without a positive change the loss",
        "remembers": "differently when asked twice",
        "changes its input": "is changed in place",
        "slope of another loss": "the gradient is not the slope",
        "miscounts": "counts the anchors that had something to learn from",
        "single precision": "embeddings in float64 give a loss in torch.float32",
    }.items(),
)
def test_each_planted_fault_is_named(fault, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_group_loss(spec(fault))


def test_it_differs_from_brute_force_where_it_is_another_loss():
    with pytest.raises(AssertionError, match="differs from the brute-force computation"):
        check_group_loss(spec(), brute_force=lambda group: 0.0)
