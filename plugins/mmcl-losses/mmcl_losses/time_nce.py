"""Two modalities at the same second against other seconds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmcl.api import Pair, Scored, Steps

from . import TimeNceParams


class TimeNce:
    """A softmax over seconds: what happens in one against what another modality has then and at other times (Korbar et al. 2018).

    Steps are averaged within slots of `every` seconds. Anchors are slots; their positives are the slots at the same time of recordings that belong to
    theirs, their negatives, as `negatives` has it, those recordings' slots at other times, all slots of other recordings, or both. A recording counts
    as one anchor where one of its slots has a positive and a negative: the mean over those.
    """

    reduction, symmetric = "mean", False

    def __init__(self, params: TimeNceParams) -> None:
        self.params = params

    def __call__(self, pair: Pair) -> Scored:
        """The loss; metric: how often the same second is nearer than all negatives."""
        if pair.left_steps is None or pair.right_steps is None:
            raise ValueError("time-nce reads the steps of both sides, and the pair has none")
        count = 1 + int(max(_last(steps, self.params.every) for steps in (pair.left_steps, pair.right_steps)))
        left, here = _slots(pair.left_steps, self.params.every, count)  # [N, S, D], [N, S]
        right, there = _slots(pair.right_steps, self.params.every, count)
        cosine = torch.einsum("nsd,ktd->nskt", left, right)
        positive, negative = self._masks(pair, here, there, count)
        logits = cosine / self.params.temperature
        floor = torch.finfo(logits.dtype).min
        below = logits.masked_fill(~(positive | negative), floor).flatten(2).logsumexp(2)  # [N, S]
        near = logits.masked_fill(~positive, 0).sum((2, 3)) / positive.sum((2, 3)).clamp_min(1)
        slots = positive.any(3).any(2) & negative.any(3).any(2)
        each = torch.where(slots, below - near, 0).sum(1) / slots.sum(1).clamp_min(1)
        rows = slots.any(1)
        anchors = rows.sum()
        best, worst = (cosine.detach().masked_fill(~mask, floor).flatten(2).amax(2) for mask in (positive, negative))
        right_ones = ((best > worst) & slots).sum(1) / slots.sum(1).clamp_min(1)
        return Scored(
            each.sum() / anchors.clamp_min(1),
            anchors,
            {"accuracy": right_ones.sum() / anchors.clamp_min(1)},
        )

    def _masks(self, pair: Pair, here: Tensor, there: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Which slot of which candidate belongs to which slot of an anchor, and which is a negative: bool [N, S, K, S] each."""
        both = here[:, :, None, None] & there[None, None]
        mine = (pair.positive & ~pair.ignore)[:, None, :, None]
        other = ~(pair.positive | pair.ignore)[:, None, :, None]
        slot = torch.arange(count, device=here.device)
        apart = (slot[:, None] - slot[None, :]).abs()[None, :, None, :]
        positive = both & mine & (apart == 0)
        negative = torch.zeros_like(both)
        if self.params.negatives in ("seconds", "all"):
            negative = negative | (mine & (apart > self.params.near))
        if self.params.negatives in ("recordings", "all"):
            negative = negative | other
        return positive, negative & both


def _last(steps: Steps, every: float) -> Tensor:
    """Number of the last slot in which a real step lies."""
    return torch.where(steps.real, steps.times, 0).div(every).floor().max()


def _slots(steps: Steps, every: float, count: int) -> tuple[Tensor, Tensor]:
    """The mean of the steps in each slot, of length 1 [N, S, D], at least float32; and which slots have a step (bool [N, S])."""
    z = steps.z.float() if steps.z.dtype.itemsize < 4 else steps.z
    slot = steps.times.div(every).floor().long()
    inside = (slot[:, None, :] == torch.arange(count, device=slot.device)[None, :, None]) & steps.real[:, None, :]  # [N, S, T]
    weight = inside.to(z.dtype) / inside.sum(2, keepdim=True).clamp_min(1)
    return normalize(weight @ z, dim=-1), inside.any(2)
