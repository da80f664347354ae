"""Batch normalisation over the rows of all ranks, as one process would have it (torch's SyncBatchNorm refuses processors).

No layer is replaced: while a network is entered, every call of `torch.nn.functional.batch_norm` by one of its layers that learn is
answered here, whatever class the layer is of. Each rank's count, mean and sum of squared deviations are exchanged, so that every rank
has the statistics of all rows; backwards the two sums on which they depend are added up. A rank without rows sends a row of filler
through the network, which is counted nowhere, for every rank runs every collective.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from .ranks import Ranks

Statistics = tuple[Tensor, Tensor, float] | None
"""Mean and variance by channel, and how many values of a channel they are of; None: those that run along are used."""


def learning_norms(network: nn.Module) -> list[_BatchNorm]:
    """The layers of a network that normalise by the batch that they see."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and (m.training or m.running_mean is None)]


class OverRanks(TorchFunctionMode):
    """While it is entered, a network's batch norms see the rows of all ranks.

    Entered again for the same rows, whose activations are made again for the backward pass, they are what they were: nothing is
    exchanged, and no running statistic moves.
    """

    def __init__(self, network: nn.Module, ranks: Ranks, own: int, total: int) -> None:
        """own, total  rows that go through the network now: real ones of this rank, of which there may be none, and of all ranks"""
        super().__init__()
        self._ranks, self._own, self._total = ranks, own, total
        norms = learning_norms(network)
        self._by_mean = {id(norm.running_mean): norm for norm in norms if norm.running_mean is not None}
        self._without = [norm for norm in norms if norm.running_mean is None]
        self._kept: list[Statistics] = []
        self._again: int | None = None

    def __enter__(self) -> OverRanks:
        """The first time statistics are exchanged, after that they are taken in the same order."""
        if self._kept:
            self._again = 0
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch would do, but for the norms of this network."""
        if func is functional.batch_norm:
            return self._normalised(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _norm_of(self, running_mean: Tensor | None, weight: Tensor | None) -> _BatchNorm | None:
        """The layer that asks, if it is one of those that learn."""
        if running_mean is not None:
            return self._by_mean.get(id(running_mean))
        return next((norm for norm in self._without if norm.weight is weight), None)

    def _normalised(
        self,
        values: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        norm = self._norm_of(running_mean, weight)
        if norm is None:
            return functional.batch_norm(values, running_mean, running_var, weight, bias, training, momentum, eps)
        if self._again is not None:
            statistics = self._kept[self._again]
            self._again += 1
        else:
            statistics = self._exchanged(values, training)
            self._kept.append(statistics)
            if norm.running_mean is not None:
                _follow(norm, statistics, training, momentum)
        if statistics is None:
            return functional.batch_norm(values, running_mean, running_var, weight, bias, False, momentum, eps)
        mean, variance, count = statistics
        exact = _exact(values)
        scale = (variance + eps).rsqrt().to(exact)
        normed: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]  # torch's own
            values, weight, bias, mean.to(exact), scale, count, self._own > 0, self._ranks
        )
        return normed

    @torch.no_grad()
    def _exchanged(self, values: Tensor, training: bool) -> Statistics:
        """The statistics of all ranks' rows. None where there is but one row, and the rank that has it would rather not take its own.

        A layer that falls back on its running statistics for one row does so by what its rank has: with more rows elsewhere it is overruled.
        """
        channels = values.shape[1]
        mine = torch.zeros(2 + 2 * channels, dtype=torch.float64, device=values.device)
        if self._own and values.numel():
            variance, mean = torch.var_mean(values.to(_exact(values)), _axes(values), correction=0)
            count = values.numel() // channels
            mine[0], mine[1] = count, float(training)
            mine[2 : 2 + channels], mine[2 + channels :] = mean, variance.double() * count
        table = self._ranks.every(mine)
        counts, means, squares = table[:, :1], table[:, 2 : 2 + channels], table[:, 2 + channels :]
        total = float(counts.sum())
        if total < 2 or (self._total < 2 and not bool(table[:, 1].any())):
            return None
        mean = (counts * means).sum(0) / total
        variance = (squares + counts * (means - mean).square()).sum(0) / total
        return mean, variance, total


class _Normalise(torch.autograd.Function):
    """(values − mean) · scale · weight + bias, where mean and scale are of all ranks' values and depend on them."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        count: float,
        real: bool,
        ranks: Ranks,
    ) -> Tensor:
        """The values [n, C, …], normalised, in the type that they have."""
        ctx.save_for_backward(values, weight, mean, scale)
        ctx.count, ctx.real, ctx.ranks = count, real, ranks
        ctx.types = tuple(None if one is None else one.dtype for one in (weight, bias))
        normed = (values.to(mean.dtype) - _spread(mean, values)) * _spread(scale, values)
        if weight is not None:
            normed = normed * _spread(weight, values).to(mean.dtype)
        if bias is not None:
            normed = normed + _spread(bias, values).to(mean.dtype)
        return normed.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of values, weight and bias. Filler has no part in the statistics, and none in their gradient."""
        values, weight, mean, scale = ctx.saved_tensors
        grad = grads[0].to(mean.dtype)
        normed = (values.to(mean.dtype) - _spread(mean, values)) * _spread(scale, values)
        sums = torch.stack([grad.sum(_axes(values)), (grad * normed).sum(_axes(values))])
        of_values = None
        if ctx.needs_input_grad[0]:
            pooled = (sums if ctx.real else torch.zeros_like(sums)).to(torch.float64, copy=True)
            ctx.ranks.add_up(pooled)
            if ctx.real:
                straight, along = (pooled / ctx.count).to(mean.dtype)
                grad = grad - _spread(straight, values) - normed * _spread(along, values)
            factor = scale if weight is None else scale * weight.to(mean.dtype)
            of_values = (grad * _spread(factor, values)).to(values.dtype)
        of_weight, of_bias = (
            None if kind is None or not needed else one.to(kind)
            for kind, needed, one in zip(ctx.types, ctx.needs_input_grad[1:3], (sums[1], sums[0]), strict=True)
        )
        return of_values, of_weight, of_bias, None, None, None, None, None


def _follow(norm: _BatchNorm, statistics: Statistics, counted: bool, momentum: float) -> None:
    """Let a layer's running statistics follow, as its own forward would have them in one process.

    counted   whether the layer took its rank's rows for a batch, and so has counted it
    momentum  share of the new statistics, where it has
    """
    tracked = norm.num_batches_tracked
    if tracked is not None:
        tracked.add_(int(statistics is not None) - int(counted))
    if statistics is None or norm.running_mean is None or norm.running_var is None:
        return
    if not counted:
        momentum = 1.0 / float(cast(Tensor, tracked)) if norm.momentum is None else norm.momentum
    mean, variance, count = statistics
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var), momentum)


def _exact(values: Tensor) -> torch.dtype:
    """What sums of values are made in."""
    return torch.float32 if values.dtype.itemsize < 4 else values.dtype


def _axes(values: Tensor) -> list[int]:
    """All axes but that of channels."""
    return [axis for axis in range(values.ndim) if axis != 1]


def _spread(each: Tensor, values: Tensor) -> Tensor:
    """One number a channel, over the values [n, C, …]."""
    return each.view(1, -1, *[1] * (values.ndim - 2))
