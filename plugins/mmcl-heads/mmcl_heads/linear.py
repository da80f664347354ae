"""Linear probe with its own solver: full-batch L-BFGS in float64, along a path of penalties from strong to weak."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api import Encoded, Labelled, Task

from . import LinearParams


class Linear(nn.Module):
    """W·x + b. Multinomial for one class out of several, one-vs-rest for several, least squares for values."""

    weight: Tensor
    bias: Tensor

    def __init__(self, params: LinearParams, task: Task, width: int, outputs: int) -> None:
        super().__init__()
        self.params, self.task = params, task
        self.register_buffer("weight", torch.zeros(outputs, width))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, encoded: Mapping[str, Encoded]) -> Tensor:
        return _features(encoded).to(self.weight) @ self.weight.T + self.bias

    def fit(self, train: Labelled, valid: Labelled, generator: torch.Generator) -> Mapping[str, float]:
        """Try every penalty on `train`, keep the one that is best on `valid`."""
        x, target = _features(train.encoded).double(), _target(train.target)
        x_valid, target_valid = _features(valid.encoded).double(), _target(valid.target)
        best: tuple[float, float, Tensor, Tensor] | None = None
        start: Tensor | None = None
        rotated, basis = _rotated(x)
        for l2 in sorted(self.params.l2, reverse=True):  # strong to weak: each solution is a good start for the next
            solution = self._solve(rotated, target, l2, start)
            start = solution
            weight = solution[:, :-1] if basis is None else solution[:, :-1] @ basis.T
            bias = solution[:, -1]
            quality = self._quality(x_valid @ weight.T + bias, target_valid)
            if best is None or quality > best[0] + 1e-12:
                best = (quality, l2, weight, bias)
        assert best is not None
        quality, l2, weight, bias = best
        if self.params.refit == "train+valid":
            both = torch.cat([x, x_valid])
            rotated, basis = _rotated(both)
            solution = self._solve(rotated, torch.cat([target, target_valid]), l2, None)
            weight = solution[:, :-1] if basis is None else solution[:, :-1] @ basis.T
            bias = solution[:, -1]
        self.weight, self.bias = weight.float(), bias.float()
        return {"l2": l2, "valid_quality": quality}

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean loss without the penalty; targets that are NaN count nothing."""
        if self.task.type == "single-label":
            return functional.cross_entropy(output, target)
        known = ~target.isnan()
        if self.task.type == "multi-label":
            each = functional.binary_cross_entropy_with_logits(output, target.nan_to_num(), reduction="none")
        else:
            each = (output - target.nan_to_num()).square() / 2
        return (each * known).sum() / known.sum().clamp_min(1)

    def _solve(self, x: Tensor, target: Tensor, l2: float, start: Tensor | None) -> Tensor:
        """The minimum of mean loss + l2/2·‖W‖², as [outputs, width + 1] with the bias last."""
        solution = torch.zeros(len(self.bias), x.shape[1] + 1, dtype=torch.float64) if start is None else start.clone()
        solution.requires_grad_()
        solver = torch.optim.LBFGS(
            [solution],
            max_iter=1000,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-7,
            tolerance_change=1e-12,
        )

        def value() -> Tensor:
            solver.zero_grad()
            found = self.loss(x @ solution[:, :-1].T + solution[:, -1], target) + l2 / 2 * solution[:, :-1].square().sum()
            torch.autograd.backward(found)
            return found

        with torch.enable_grad():
            solver.step(value)
        return solution.detach()

    def _quality(self, output: Tensor, target: Tensor) -> float:
        """What the penalty is chosen by; higher is better."""
        if len(output) == 0:
            return 0.0
        if self.params.choose == "loss" or self.task.type == "regression":
            return -float(self.loss(output, target))
        if self.task.type == "single-label":
            return float((output.argmax(1) == target).double().mean())
        rates = []
        for k in range(output.shape[1]):
            known = ~target[:, k].isnan()
            truth, guess = target[known, k] > 0.5, output[known, k] > 0
            if truth.any() and not truth.all():
                rates.append((guess[truth].double().mean() + (~guess[~truth]).double().mean()) / 2)
        return float(torch.stack(rates).mean()) if rates else -float(self.loss(output, target))


def _features(encoded: Mapping[str, Encoded]) -> Tensor:
    return torch.cat([e.vector for e in encoded.values()], 1)


def _target(target: Tensor) -> Tensor:
    return target if target.dtype == torch.int64 else target.double()


def _rotated(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Fewer columns that give the same solutions, where there are more features than rows.

    W stays in the span of the rows, and a rotation leaves ‖W‖ as it is: solve in the row space, of dimension n, and rotate back.
    """
    if x.shape[1] <= len(x):
        return x, None
    basis, triangle = torch.linalg.qr(x.T)  # x = triangle.T @ basis.T
    return triangle.T, basis
