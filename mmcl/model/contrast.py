"""The objective of a plan's pairs: what pretraining learns from, and what training with labels may add to its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..api.batch import Items
from ..api.dataset import SampleRef
from ..api.loss import PairLoss, Positives
from ..evaluate.answers import group_numbers, target_tensor
from ..objective.score import Embedded, Objective, score
from ..recipe.plan import Plan


@dataclass(frozen=True)
class Contrast:
    """Pairs of modalities, which rows are positives of each other, and the loss. A loss may have weights to learn."""

    pairs: Sequence[tuple[str, str]]
    weights: Sequence[float]  # one a pair
    positives: Positives
    loss: PairLoss
    targets: Mapping[str, Tensor]  # of every recording, only those that the positives read
    groups: Tensor  # int64, of every recording: which are of one group

    def __call__(self, embedded: Mapping[str, Embedded], items: Items, device: torch.device) -> Objective:
        """The objective of a batch: of its embeddings by modality, and of who stands in its rows."""
        targets = {name: target[items.row].to(device) for name, target in self.targets.items()}
        group = self.groups[items.row].to(device)
        who = Items(row=items.row.to(device), view=items.view.to(device), targets=targets, group=group)
        return score(embedded, who, self.pairs, self.positives, self.loss, self.weights)


def build_contrast(plan: Plan, samples: Sequence[SampleRef], modalities: Sequence[str] | None = None) -> Contrast:
    """The plan's contrast.

    modalities  only pairs of these; left out: all pairs
    """
    weights = plan.weights or (1.0,) * len(plan.pairs)
    chosen = [
        (pair, weight)
        for pair, weight in zip(plan.pairs, weights, strict=True)
        if modalities is None or set(pair) <= set(modalities)
    ]
    return Contrast(
        pairs=[pair for pair, _ in chosen],
        weights=[weight for _, weight in chosen],
        positives=plan.positives.spec.build(plan.positives.params),
        loss=plan.loss.spec.build(plan.loss.params),
        targets=contrast_targets(plan, samples),
        groups=group_numbers([sample.group for sample in samples]),
    )


def contrast_targets(plan: Plan, samples: Sequence[SampleRef]) -> dict[str, Tensor]:
    """Targets by row, only those that the positives ask for; a missing one is −1 (classes) or NaN (values)."""
    of_each = [sample.targets for sample in samples]
    return {name: target_tensor(plan.info.tasks[name], of_each) for name in plan.needs}
