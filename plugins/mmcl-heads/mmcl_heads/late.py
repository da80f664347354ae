"""Late fusion of linear probes: one for each modality, their opinions averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmcl.api import Encoded, Labelled, StageError, Task

from . import LateParams
from .linear import Linear


class Late(nn.Module):
    """A linear probe for each modality, fitted and chosen on the recordings that have it; the mean over those present.

    single-label  mean of log-probabilities: the product of the modalities' opinions
    multi-label, regression  mean of logits, or of values

    A recording without any of the modalities gets what the probes say of none: the mean of their biases.
    """

    draws = False

    def __init__(self, params: LateParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.task = task
        self.probes = nn.ModuleDict({name: Linear(params, task, {name: width}) for name, width in widths.items()})

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Mean log-probabilities, logits or values [B, outputs]."""
        opinions, presence = [], []
        for name, probe in self.probes.items():
            one = encoded[name]
            output = probe({name: one})
            opinions.append(output.log_softmax(1) if self.task.type == "single-label" else output)
            present = torch.ones(len(output), dtype=torch.bool) if one.present is None else one.present
            presence.append(present.to(output))
        weight = torch.stack(presence)
        weight = torch.where(weight.sum(0) > 0, weight, torch.ones_like(weight))
        return (torch.stack(opinions) * weight[..., None]).sum(0) / weight.sum(0)[:, None]

    def fit(self, train: Labelled, valid: Labelled, generator: torch.Generator) -> Mapping[str, float]:
        """Fit every probe. Returns each one's l2 and what it was chosen by, under "MODALITY l2"; draws nothing.

        Raises StageError if a modality has no training row, or none to choose by; DataError if a vector is not finite.
        """
        facts: dict[str, float] = {}
        for name, probe in self.probes.items():
            try:
                chosen = cast(Linear, probe).fit(_having(train, name), _having(valid, name), generator)
            except StageError as error:
                raise StageError(f"head 'late', modality '{name}': {error}") from error
            facts |= {f"{name} {key}": value for key, value in chosen.items() if key not in ("steps", "gradient")}
        return facts


def _having(labelled: Labelled, name: str) -> Labelled:
    """The rows that have a modality, and nothing but it."""
    one = labelled.encoded[name]
    if one.present is None:
        return Labelled({name: one}, labelled.target, labelled.group)
    group = None if labelled.group is None else labelled.group[one.present]
    return Labelled(
        {name: Encoded(one.vector[one.present], present=one.present[one.present])}, labelled.target[one.present], group
    )
