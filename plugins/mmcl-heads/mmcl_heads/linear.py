"""The linear probe: logistic or ridge regression on concatenated vectors, with a solver of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import DataError, Encoded, Labelled, StageError, Task

from . import LinearParams, outputs
from .solver import LOGISTIC, SOFTMAX, SQUARED, minimise

PARTS = 5
"""Parts that groups are dealt into, each left out in turn."""

SHARES = (1 / 3, 3.0)
"""What a modality's features are scaled by, beside 1, where shares are searched for."""


@dataclass(frozen=True)
class _Trial:
    """What rows that were left out say of a grid of penalties."""

    measure: str  # what is compared
    chosen: int  # place of the penalty that serves them best
    value: float  # of the measure, with it
    near: tuple[Tensor, Tensor]  # W [D, outputs] and bias [outputs] of that penalty, the mean over the sets of rows


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
        rows, targets = torch.cat([x, x_valid]), torch.cat([target, target_valid])
        parts = self._parts(train, valid)
        training = torch.arange(len(rows)) < len(x)
        splits = [~part for part in parts] if parts is not None else [training] if len(x_valid) else []
        searched = self.params.blocks == "search" and len(self.names) > 1
        if (len(penalties) > 1 or searched) and not splits:
            remedies = [
                *(["give l2 one value"] if len(penalties) > 1 else []),
                *(["set blocks to equal, or none"] if searched else []),
            ]
            raise StageError(
                f"head 'linear': no validation row has a label for '{self.task.name}' to choose by; {' and '.join(remedies)}"
            )
        scale = self._scale(x)
        chosen, facts, near = 0, {}, None
        if splits:
            trial = self._held_out(rows, targets, splits, scale, penalties)
            if searched:
                trial, scale, shares = self._searched(rows, targets, splits, scale, penalties, trial)
                facts |= shares
            chosen, near = trial.chosen, trial.near
            facts[f"{'valid' if parts is None else 'groups'}_{trial.measure}"] = trial.value
        final = torch.ones_like(training) if self.params.refit == "train+valid" else training
        weight, bias, gradient, steps = self._solve(rows * scale, targets, final[None], [penalties[chosen]], near)
        self.weight.copy_(weight[0, 0] * scale)
        self.bias.copy_(bias[0, 0])
        return {"l2": penalties[chosen], **facts, "steps": steps, "gradient": gradient}

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
        self, x: Tensor, target: Tensor, splits: Sequence[Tensor], scale: Tensor, penalties: Sequence[float]
    ) -> _Trial:
        """How well rows are served that were left out, each predicted once, and by which penalty they are served best."""
        scaled = x * scale
        weight, bias, *_ = self._solve(scaled, target, torch.stack(list(splits)), penalties)
        outputs = [
            torch.einsum("nd,lcd->lnc", scaled[~fitted], weight[k]) + bias[k][:, None] for k, fitted in enumerate(splits)
        ]
        measure, values = self._quality(torch.cat(outputs, 1), torch.cat([target[~fitted] for fitted in splits]))
        value = (max if measure == "accuracy" else min)(values)
        chosen = values.index(value)
        return _Trial(measure, chosen, value, (weight[:, chosen].mean(0).T, bias[:, chosen].mean(0)))

    def _searched(
        self,
        x: Tensor,
        target: Tensor,
        splits: Sequence[Tensor],
        scale: Tensor,
        penalties: Sequence[float],
        best: _Trial,
    ) -> tuple[_Trial, Tensor, dict[str, float]]:
        """Each modality in turn at other shares of the features' scale; a share is kept where left-out rows are served better."""
        shares = {}
        for k, name in enumerate(self.names):
            shares[f"share {name}"] = 1.0
            for share in SHARES:
                tried = scale.clone()
                tried.split(self.widths)[k].mul_(share)
                trial = self._held_out(x, target, splits, tried, penalties)
                if trial.value > best.value if best.measure == "accuracy" else trial.value < best.value:
                    scale, best = tried, trial
                    shares[f"share {name}"] *= share
        return best, scale, shares

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

    def _solve(
        self,
        x: Tensor,
        target: Tensor,
        fitted: Tensor,
        penalties: Sequence[float],
        near: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, float, int]:
        """W [F, L, outputs, D] and bias [F, L, outputs] at the minimum of each penalty, for each set of rows.

        Then the share of its first norm that a gradient still has at most, and the products with the features that it took.

        fitted  bool [F, n]: the rows of each set
        near    W [D, outputs] and bias [outputs] that the minima are likely to be near to
        """
        count, sets = len(self.bias), len(fitted)
        if self.task.type == "single-label":
            family = SOFTMAX
            target = functional.one_hot(target, count).to(x.dtype)
            known = fitted[..., None].expand(sets, *target.shape).to(x.dtype)
        else:
            family = LOGISTIC if self.task.type == "multi-label" else SQUARED
            known = (fitted[..., None] & ~target.isnan()).to(x.dtype)
            target = target.nan_to_num()
        rows, total = known.sum(1), (known * target).sum(1)  # [F, outputs]
        if family is SQUARED:
            learnable, start = rows > 0, total / rows.clamp_min(1)
            bias = torch.zeros_like(start)
        else:
            learnable = (total > 0) if family is SOFTMAX else (total > 0) & (total < rows)
            bias = ((total + 1) / (rows - total + 1)).log()
            prior = total.log()
            start = prior if family is SOFTMAX else prior - (rows - total).log()
        share = known / rows.clamp_min(1)[:, None]
        weight = x.new_zeros(sets, len(penalties), count, x.shape[1])
        bias = bias[:, None].repeat(1, len(penalties), 1)
        solutions = []
        for which in learnable.unique(dim=0):  # sets of rows that lack an example of the same outputs are solved together
            if not bool(which.any()):
                continue
            alike = (learnable == which).all(1).nonzero().squeeze(1)
            begin = start[alike][:, which]
            begin = begin - begin.mean(1, keepdim=True) if family is SOFTMAX else begin
            nearby = None if near is None else (near[0][:, which], near[1][which])
            solution = minimise(family, x, target[:, which], share[alike][..., which], begin, penalties, nearby)
            solutions.append(solution)
            # A softmax leaves one number free. With logits of 0 on average, a class that never occurs is always below the best one.
            free = solution.bias - solution.bias.mean(2, keepdim=True) if family is SOFTMAX else solution.bias
            for k, f in enumerate(alike.tolist()):
                weight[f][:, which] = solution.weight[k].mT
                bias[f][:, which] = free[k]
        return weight, bias, max((float(one.gradient.max()) for one in solutions), default=0.0), sum(s.steps for s in solutions)

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
