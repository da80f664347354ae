"""The linear probe: logistic or ridge regression on concatenated vectors, with a solver of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import DataError, Encoded, Labelled, StageError, Task

from . import LinearParams, outputs
from .solver import LOGISTIC, SOFTMAX, SQUARED, Solution, minimise

PARTS = 5
"""Parts that groups are dealt into, each left out in turn."""

SHARES = (1 / 3, 3.0)
"""What a modality's features are scaled by, beside 1, where shares are searched for."""

Rows = tuple[Tensor, Tensor]
"""Features [n, D] and their targets."""


class Linear(nn.Module):
    """W·x + b, fitted to the minimum of mean loss + l2/2·‖W‖²; l2 is chosen on rows whose group was left out.

    Several modalities are scaled to equal total variance first (`blocks`), so that one l2 means the same for a wide and a narrow one.

    single-label  softmax cross-entropy, mean over rows
    multi-label   logistic loss, for each class the mean over the rows whose label is known; classes add up, one l2 for all
    regression    half the squared error, for each value the mean over the rows where it is known (ridge)

    What training rows don't show is not extrapolated without end: a class of which they hold no example, or nothing else, gets
    no weights and the bias log((examples + 1)/(others + 1)).
    """

    draws = False

    weight: Tensor
    bias: Tensor

    def __init__(self, params: LinearParams, task: Task, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.params, self.task, self.names, self.widths = params, task, tuple(widths), list(widths.values())
        self.register_buffer("weight", torch.zeros(outputs(task), sum(widths.values())))
        self.register_buffer("bias", torch.zeros(outputs(task)))

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Logits or values."""
        return functional.linear(self._features(encoded).to(self.weight.dtype), self.weight, self.bias)

    @torch.no_grad()
    def fit(self, train: Labelled, valid: Labelled, generator: torch.Generator) -> Mapping[str, float]:
        """Choose l2, and each modality's share, then fit. Draws nothing: there is one minimum.

        Returns l2; what it was chosen by (groups_loss, valid_accuracy, …); "share NAME" of each modality whose share was searched
        for; steps; and gradient, the share of its first norm that the gradient still has (for the l2 that is furthest behind). Raises
        StageError if there is nothing to fit on or to choose by, DataError if a vector is not finite.
        """
        penalties = sorted(set(self.params.l2), reverse=True)  # of equal l2, the largest is met first and kept
        x, target = self._rows(train)
        if not len(x):
            raise StageError(f"head 'linear': no training row has a label for '{self.task.name}'; nothing can be fitted")
        x_valid, target_valid = self._rows(valid)
        both = torch.cat([x, x_valid]), torch.cat([target, target_valid])
        parts = self._parts(train, valid)
        splits: list[tuple[Rows, Rows]]
        if parts is None:
            splits = [((x, target), (x_valid, target_valid))] if len(x_valid) else []
        else:
            splits = [((both[0][~part], both[1][~part]), (both[0][part], both[1][part])) for part in parts]
        searched = self.params.blocks == "search" and len(self.names) > 1
        if (len(penalties) > 1 or searched) and not splits:
            raise StageError(
                f"head 'linear': no validation row has a label for '{self.task.name}' to choose l2 by; give l2 one value"
            )
        scale = self._scale(x)
        chosen, facts = 0, {}
        if splits:
            measure, values = self._held_out(splits, scale, penalties)
            better = max if measure == "accuracy" else min
            chosen = values.index(better(values))
            best = values[chosen]
            if searched:
                scale, chosen, best, shares = self._searched(splits, scale, penalties, chosen, best, better)
                facts |= shares
            facts[f"{'valid' if parts is None else 'groups'}_{measure}"] = best
        rows, targets = both if self.params.refit == "train+valid" else (x, target)
        weight, bias, solution = self._solve(rows * scale, targets, [penalties[chosen]])
        self.weight.copy_(weight[0] * scale)
        self.bias.copy_(bias[0])
        return {"l2": penalties[chosen], **facts, "steps": solution.steps, "gradient": float(solution.gradient.max())}

    def _parts(self, train: Labelled, valid: Labelled) -> list[Tensor] | None:
        """Of training and validation rows together, which are left out in each of at most PARTS parts of whole groups.

        None where rows are chosen on validation rows: because the options say so, or because there are no two groups. Groups are
        dealt out from the largest to the smallest, each to the part that has fewest rows.
        """
        if self.params.by == "valid" or train.group is None or valid.group is None:
            return None
        group = torch.cat([train.group, valid.group])
        names, counts = group.unique(return_counts=True)
        if len(names) < 2:
            return None
        loads = [0] * min(PARTS, len(names))
        members: list[list[int]] = [[] for _ in loads]
        for i in sorted(range(len(names)), key=lambda i: (-int(counts[i]), int(names[i]))):
            part = loads.index(min(loads))
            loads[part] += int(counts[i])
            members[part].append(int(names[i]))
        return [torch.isin(group, torch.tensor(each)) for each in members]

    def _scale(self, x: Tensor) -> Tensor:
        """What each feature [D] is multiplied by, so that every modality's total variance is D over the number of modalities.

        That is what features of deviation 1 have on average, so that an l2 means the same with one modality and with several.
        """
        scale = x.new_ones(x.shape[1])
        if self.params.blocks == "none" or len(self.names) < 2:
            return scale
        for part, features in zip(scale.split(self.widths), x.split(self.widths, 1), strict=True):
            total = features.var(0, correction=0).sum()
            if total > 0:
                part.mul_((len(scale) / len(self.widths) / total).sqrt())
        return scale

    def _held_out(
        self, splits: Sequence[tuple[Rows, Rows]], scale: Tensor, penalties: Sequence[float]
    ) -> tuple[str, list[float]]:
        """What l2 is chosen by, and its value for each penalty: over all rows that were left out, each predicted once."""
        outputs, targets = [], []
        for (x, target), (x_out, target_out) in splits:
            weight, bias, _ = self._solve(x * scale, target, penalties)
            outputs.append(torch.einsum("nd,lcd->lnc", x_out * scale, weight) + bias[:, None])
            targets.append(target_out)
        return self._quality(torch.cat(outputs, 1), torch.cat(targets))

    def _searched(
        self,
        splits: Sequence[tuple[Rows, Rows]],
        scale: Tensor,
        penalties: Sequence[float],
        chosen: int,
        best: float,
        better: Callable[[Sequence[float]], float],
    ) -> tuple[Tensor, int, float, dict[str, float]]:
        """Each modality in turn at other shares of the features' scale; a share is kept where left-out rows are served better."""
        shares = {}
        for k, name in enumerate(self.names):
            shares[f"share {name}"] = 1.0
            for share in SHARES:
                tried = scale.clone()
                tried.split(self.widths)[k].mul_(share)
                _, values = self._held_out(splits, tried, penalties)
                value = better(values)
                if value != best and better([value, best]) == value:
                    scale, chosen, best = tried, values.index(value), value
                    shares[f"share {name}"] *= share
        return scale, chosen, best, shares

    def _features(self, encoded: Mapping[str, Encoded]) -> Tensor:
        return torch.cat([encoded[name].vector for name in self.names], 1)

    def _rows(self, labelled: Labelled) -> tuple[Tensor, Tensor]:
        """Features float64 [n, D], and targets int64 [n] or float64 [n, outputs]."""
        for name in self.names:
            if not bool(labelled.encoded[name].vector.isfinite().all()):
                raise DataError(
                    f"head 'linear': vectors of '{name}' hold values that are not finite; look for the cause in pretraining"
                )
        x, target = self._features(labelled.encoded).double(), labelled.target
        return x, target if self.task.type == "single-label" else target.double().view(len(x), len(self.bias))

    def _solve(self, x: Tensor, target: Tensor, penalties: Sequence[float]) -> tuple[Tensor, Tensor, Solution]:
        """W [L, outputs, D] and bias [L, outputs] at the minimum of each penalty."""
        count = len(self.bias)
        if self.task.type == "single-label":
            family = SOFTMAX
            target = functional.one_hot(target, count).to(x.dtype)
            known = torch.ones_like(target)
        else:
            family = LOGISTIC if self.task.type == "multi-label" else SQUARED
            known = (~target.isnan()).to(x.dtype)
            target = target.nan_to_num()
        rows, total = known.sum(0), (known * target).sum(0)
        if family is SQUARED:
            learnable, start = rows > 0, total / rows.clamp_min(1)
            bias = torch.zeros_like(start)
        else:
            learnable = (total > 0) if family is SOFTMAX else (total > 0) & (total < rows)
            bias = ((total + 1) / (rows - total + 1)).log()
            prior = total[learnable].log()
            start = torch.zeros_like(bias)
            start[learnable] = prior - prior.mean() if family is SOFTMAX else prior - (rows - total)[learnable].log()
        share = (known / rows.clamp_min(1))[:, learnable]
        solution = minimise(family, x, target[:, learnable], share, start[learnable], penalties)
        weight = x.new_zeros(len(penalties), count, x.shape[1])
        weight[:, learnable] = solution.weight.mT
        bias = bias.repeat(len(penalties), 1)
        # A softmax leaves one number free. With logits of 0 on average, a class that never occurs is always below the best one.
        bias[:, learnable] = solution.bias - solution.bias.mean(1, keepdim=True) if family is SOFTMAX else solution.bias
        return weight, bias, solution

    def _quality(self, output: Tensor, target: Tensor) -> tuple[str, list[float]]:
        """What l2 is chosen by, and its value for each: output [L, n, outputs]."""
        if self.params.choose == "accuracy" and self.task.type == "single-label":
            return "accuracy", (output.argmax(2) == target).double().mean(1).tolist()
        if self.task.type == "single-label":
            return "loss", [functional.cross_entropy(one, target).item() for one in output]
        known = ~target.isnan()
        if self.params.choose == "accuracy" and self.task.type == "multi-label":
            yes, no = known & (target > 0.5), known & (target <= 0.5)
            right, wrong = output > 0, output <= 0
            rates = ((right & yes).sum(1) / yes.sum(0) + (wrong & no).sum(1) / no.sum(0)) / 2
            both = (yes.any(0) & no.any(0)).nonzero().squeeze(1)
            if len(both):
                return "accuracy", rates[:, both].double().mean(1).tolist()
        truth = target.nan_to_num()
        if self.task.type == "multi-label":
            each = functional.binary_cross_entropy_with_logits(output, truth.expand_as(output), reduction="none")
        else:
            each = (output - truth).square() / 2
        return "loss", ((each * known).sum(1) / known.sum(0).clamp_min(1)).sum(1).tolist()
