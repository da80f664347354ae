"""UniVA's head: a distribution over emotions, with what is known of which emotions are near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcl.api import DataError, Encoded, Shown, Task

from . import FusionParams
from .affect import correlation, of_names


class Fusion(nn.Module):
    """Concatenation → linear → (dropout on the logits). Missing modalities stand there as zeros."""

    correlation: Tensor

    def __init__(self, params: FusionParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.params, self.task, self.names = params, task, tuple(widths)
        self.learned = params.prior == "reference" or (params.prior == "on" and params.prior_form == "logs")
        self.project = nn.Linear(sum(widths.values()), len(task.classes))
        self.dropout = nn.Dropout(params.dropout)
        if params.prior != "off":
            try:
                places = of_names(task.classes, params.lexicon)
            except ValueError as error:
                raise DataError(f"head univa-fusion, prior: {error}") from error
            matrix = torch.tensor(correlation(places), dtype=torch.get_default_dtype())
            if self.learned:
                self.correlation = nn.Parameter(matrix)
            else:
                self.register_buffer("correlation", matrix, persistent=False)

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits [B, classes], of a softmax."""
        return self.dropout(self.project(torch.cat([encoded[name].vector for name in self.names], 1)))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Divergence of the softmax from the labels' distribution (Eq. 10), a mean over recordings; with the code's prior inside."""
        logs = output.float().log_softmax(1) if output.dtype.itemsize < 4 else output.log_softmax(1)
        wanted, known = self.distribution(target, logs)
        each = torch.where(wanted > 0, wanted * (wanted.clamp_min(1e-30).log() - logs), torch.zeros_like(logs)).sum(1)
        loss = self.params.kl_weight * (each * known).sum() / known.sum().clamp_min(1)
        if self.params.divergence == "element":
            loss = loss / logs.shape[1]
        return loss + self.params.prior_weight * self.prior(logs) if self.learned else loss

    def penalty(self, output: Tensor) -> Tensor:
        """The prior as the paper has it (Eq. 9), which stands beside the loss and the contrast in Eq. 11; else 0."""
        if self.params.prior == "off" or self.learned:
            return output.new_zeros(())
        logs = output.float().log_softmax(1) if output.dtype.itemsize < 4 else output.log_softmax(1)
        return self.params.prior_weight * self.prior(logs)

    def distribution(self, target: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be learned [B, classes], and which rows count [B]."""
        if self.task.type == "single-label":
            labels = nn.functional.one_hot(target, len(self.task.classes)).to(like)
            known = torch.ones(len(labels), device=like.device)
        else:
            known = (~target.isnan().any(1)).to(like)
            labels = target.nan_to_num().to(like)
        if self.params.target == "softmax":
            return labels.softmax(1), known
        count = labels.sum(1, keepdim=True)
        return labels / count.clamp_min(1), known * (count.squeeze(1) > 0)

    def prior(self, logs: Tensor) -> Tensor:
        """Eq. 9: mean over recordings of Σ_jl M_jl (ŷ_j − ŷ_l)²; `reference`: Σ_jl M_jl · ‖log ŷ_j − log ŷ_l‖ over the batch / B."""
        if self.learned:
            apart = (logs[:, :, None] - logs[:, None, :]).square().sum(0)
            return (self.correlation * (apart + 1e-12).sqrt()).sum() / len(logs)
        chances = logs.exp()
        apart = (chances[:, :, None] - chances[:, None, :]).square()
        return (self.correlation * apart).sum((1, 2)).mean()

    def decide(self, output: Tensor) -> Tensor:
        """For several labels at once: the log-odds of each probability less those of ζ, so that yes is above 0."""
        if self.task.type == "single-label":
            return output
        chances = output.softmax(1).clamp(1e-7, 1 - 1e-7)
        given = self.params.threshold
        threshold = torch.tensor(1.08 / output.shape[1] if given is None else given).to(chances)
        return chances.logit() - threshold.logit()

    def show(self) -> Sequence[Shown]:
        """How near the prior takes emotions to be (Eq. 8), from −1 to 1; `reference`: as far as training has drifted it."""
        if self.params.prior == "off":
            return ()
        values = tuple(tuple(row) for row in self.correlation.detach().cpu().tolist())
        return (Shown("Correlation of emotions", self.task.classes, self.task.classes, values),)
