"""Nearest neighbours: what the space itself knows, without a weight that is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import DataError, Encoded, Labelled, StageError, Task

from . import KnnParams, outputs

BLOCK = 512
"""Rows that are compared with all training rows at a time."""
LEAST = 30.0
"""A neighbour never weighs less than exp(−LEAST) of the nearest."""


class Knn(nn.Module):
    """Weighted vote of the k nearest training recordings, on concatenated vectors.

    A neighbour at cosine similarity s weighs exp(s / temperature) (Wu et al. 2018, §3.4), or the same as any other. Outputs are logarithms
    of shares (single-label), logits of shares (multi-label), or means (regression).
    """

    draws = False

    bank: Tensor
    target: Tensor
    chosen: Tensor

    def __init__(self, params: KnnParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.params, self.task, self.names = params, task, tuple(widths)
        self.register_buffer("bank", torch.zeros(0, sum(widths.values())))
        self.register_buffer("target", torch.zeros(0, outputs(task)))
        self.register_buffer("chosen", torch.tensor(params.k[0]))

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits or values."""
        x = self._features(encoded)
        if not len(self.bank):  # not fitted: nothing is known
            return x.new_zeros(len(x), self.target.shape[1])
        return self._vote(x, [int(self.chosen)])[0].to(x.dtype)

    @torch.no_grad()
    def fit(self, train: Labelled, valid: Labelled, generator: torch.Generator) -> Mapping[str, float]:
        """Keep the training rows; choose k on `valid`, of equal ones the larger. Raises StageError where no training row has a label."""
        x = self._features(train.encoded)
        if not len(x):
            raise StageError(f"head 'knn': no training row has a label for '{self.task.name}'; nothing can be kept")
        if not bool(x.isfinite().all()):
            raise DataError("head 'knn': vectors hold values that are not finite; look for the cause in pretraining")
        count = self.target.shape[1]
        target = (
            functional.one_hot(train.target, count).double()
            if self.task.type == "single-label"
            else train.target.double().view(len(x), count)
        )
        self.bank, self.target = functional.normalize(x.double(), dim=-1), target
        penalty: dict[int, float] = {}
        if len(valid.target):
            ks = sorted(set(self.params.k), reverse=True)
            for k, output in zip(ks, self._vote(self._features(valid.encoded), ks), strict=True):
                penalty[k] = self._loss(output, valid.target)
        best = min(penalty, key=lambda k: (penalty[k], -k)) if penalty else max(self.params.k)
        self.chosen = torch.tensor(best)
        return {"k": best, **({"valid_loss": penalty[best]} if penalty else {})}

    def _features(self, encoded: Mapping[str, Encoded]) -> Tensor:
        return torch.cat([encoded[name].vector for name in self.names], 1)

    def _vote(self, x: Tensor, ks: list[int]) -> list[Tensor]:
        """For each k the outputs of rows [n, D]; of equally near training rows, the earlier is the nearer."""
        parts = [self._vote_of(part, ks) for part in x.split(BLOCK)]
        return [torch.cat([part[i] for part in parts]) for i in range(len(ks))]

    def _vote_of(self, x: Tensor, ks: list[int]) -> list[Tensor]:
        similarity = functional.normalize(x.double(), dim=-1) @ self.bank.double().T
        nearest, index = similarity.sort(dim=1, descending=True, stable=True)
        nearest, index = nearest[:, : max(ks)], index[:, : max(ks)]
        # Only what neighbours weigh against each other counts: the nearest weighs 1, and none so little that its vote is lost.
        apart = ((nearest - nearest[:, :1]) / self.params.temperature).clamp_min(-LEAST)
        weight = apart.exp() if self.params.weights == "similarity" else torch.ones_like(nearest)
        votes = []
        target = self.target.double()
        known_rows = (~target.isnan()).sum(0)
        for k in ks:
            mine, labels = weight[:, :k, None], target[index[:, :k]]
            known = (~labels.isnan()).double() * mine
            total = known.sum(1)
            yes = (labels.nan_to_num() * known).sum(1)
            if self.task.type == "regression":
                fallback = target.nanmean(0).nan_to_num()
                votes.append(torch.where(total > 0, yes / total.clamp_min(1e-300), fallback))
                continue
            # One made-up neighbour, as light as the lightest, knows the shares among all training rows.
            least = mine.amin(1)
            ways = target.shape[1] if self.task.type == "single-label" else 2
            prior = (target.nan_to_num().sum(0) + 1) / (known_rows + ways)
            above = (yes + least * prior).log()
            if self.task.type == "single-label":
                votes.append(above - (total + least).log())
            else:
                no = ((1 - labels).nan_to_num() * known).sum(1)
                votes.append(above - (no + least * (1 - prior)).log())
        return votes

    def _loss(self, output: Tensor, target: Tensor) -> float:
        if self.task.type == "single-label":
            return 1 - float((output.argmax(1) == target).double().mean())
        truth = target.double().view(output.shape)
        known = ~truth.isnan()
        truth = truth.nan_to_num()
        each = (
            functional.binary_cross_entropy_with_logits(output, truth, reduction="none")
            if self.task.type == "multi-label"
            else (output - truth).square()
        )
        return float((each * known).sum() / known.sum().clamp_min(1))

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("bank", "target"):
            kept = state.get(f"{prefix}{name}")
            if kept is not None and kept.ndim == 2 and kept.shape[1] == getattr(self, name).shape[1]:
                setattr(self, name, torch.empty_like(kept))  # as many rows as were kept
        super()._load_from_state_dict(dict(state), prefix, *rest)
