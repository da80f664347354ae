"""Minimises convex losses of linear models for a whole grid of penalties at once, exactly (float64, full batch).

What makes it fast, in order of effect:

- Preconditioning. The curvature of such a loss is nearly a·Gram + l2, a being the mean curvature over the rows. One
  eigendecomposition of the Gram matrix, shared by all penalties and classes, inverts that for every one of them, and L-BFGS
  then needs tens of steps where it needs hundreds or thousands without.
- All penalties in one matrix product: reading the features costs as much for one as for ten.
- Line search on the outputs: X·(W + t·D) = X·W + t·(X·D), so trying a step reads no feature.
- More features than rows: W lies in the span of the rows, so the problem is solved in as many dimensions as there are rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

TOLERANCE = 1e-6
"""A problem is solved when the norm of its gradient has fallen to this share of what it is at W = 0 with the best bias."""

STEPS = 1000
"""Steps after which it is left as it is; the share that was reached is in the log."""

HISTORY = 10  # pairs of L-BFGS; more than the steps that most problems take
FLAT = 0.4  # a line search ends where the slope has this share of its first size (the second strong Wolfe condition)
TRIALS = 30


@dataclass(frozen=True)
class Family:
    """A loss by its derivatives, over outputs [..., C]."""

    predict: Callable[[Tensor], Tensor]  # outputs → what is compared with the target; their difference is the slope
    variance: Callable[[Tensor], Tensor]  # of a prediction: the curvature by one output alone
    competing: bool = False  # outputs of one row share one prediction (softmax)

    def curvature(self, prediction: Tensor, direction: Tensor) -> Tensor:
        """Second derivative of each row's loss along a direction, in parts [..., C] that add up to it."""
        if not self.competing:
            return self.variance(prediction) * direction.square()
        pushed = prediction * direction
        return pushed * (direction - pushed.sum(-1, keepdim=True))


def _bernoulli(p: Tensor) -> Tensor:
    return p * (1 - p)


SOFTMAX = Family(lambda f: f.softmax(-1), _bernoulli, competing=True)
LOGISTIC = Family(torch.sigmoid, _bernoulli)
SQUARED = Family(lambda f: f, torch.ones_like)


@dataclass(frozen=True)
class Solution:
    """For each penalty: W [L, D, C], bias [L, C], and how far the gradient's norm has fallen [L]."""

    weight: Tensor
    bias: Tensor
    gradient: Tensor
    steps: int


def minimise(family: Family, x: Tensor, target: Tensor, share: Tensor, bias: Tensor, penalties: Sequence[float]) -> Solution:
    """The minima of Σ_ic share_ic·loss(x_i·W_c + b_c, target_ic) + l2/2·‖W‖², one for each penalty l2.

    x float64 [n, D]; target and share float64 [n, C], a share of 0 for what is unknown; bias [C], where to begin.
    """
    mean = x.mean(0)
    x = x - mean  # for the preconditioner alone: the bias takes it up again below
    if x.shape[1] > len(x):
        spectrum, rows = _eigen(x @ x.T)
        kept = spectrum > 1e-12 * spectrum[-1].clamp_min(torch.finfo(x.dtype).tiny)
        spectrum, rows = spectrum[kept], rows[:, kept]
        solution = _solve(family, rows * spectrum.sqrt(), None, spectrum / len(x), target, share, bias, penalties)
        weight = torch.einsum("nd,nr,lrc->ldc", x, rows / spectrum.sqrt(), solution.weight)
    else:
        # In float32: a preconditioner steers the way and not the goal.
        coarse = x.float()
        spectrum, axes = _eigen(coarse.T @ coarse / len(x))
        del coarse
        solution = _solve(family, x, axes.to(x.dtype), spectrum.to(x.dtype), target, share, bias, penalties)
        weight = solution.weight
    return Solution(weight, solution.bias - mean @ weight, solution.gradient, solution.steps)


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, the smallest first, and eigenvectors of a positive semidefinite matrix."""
    try:
        values, vectors = torch.linalg.eigh(gram)
    except torch.linalg.LinAlgError:
        # LAPACK's divide and conquer gives up on some matrices with many eigenvalues of nearly zero; its QR iteration does not.
        from scipy.linalg import eigh

        slow = eigh(gram.cpu().double().numpy(), driver="ev")
        values, vectors = (torch.from_numpy(part).to(gram) for part in slow)
    return values.clamp_min(0), vectors


def _solve(
    family: Family,
    x: Tensor,
    axes: Tensor | None,
    spectrum: Tensor,
    target: Tensor,
    share: Tensor,
    start: Tensor,
    penalties: Sequence[float],
) -> Solution:
    """L-BFGS over all penalties in step.

    `axes` (None: the columns of x) and `spectrum` are the eigenvectors and eigenvalues of xᵀx/n. A point is [D + 1, L, C], the
    bias in its last row; outputs are [n, L, C].
    """
    n, d = x.shape
    c, number = len(start), len(penalties)
    target, share = target[:, None], share[:, None]
    l2 = torch.zeros(d + 1, number, 1, dtype=x.dtype, device=x.device)
    l2[:d] = torch.tensor(penalties, dtype=x.dtype, device=x.device)[:, None]
    point = torch.zeros(d + 1, number, c, dtype=x.dtype, device=x.device)
    point[d] = start
    outputs = start.expand(n, number, c).clone()
    best, reached = point.clone(), torch.zeros(number, dtype=x.dtype, device=x.device)

    def gradient(prediction: Tensor) -> Tensor:
        residual = share * (prediction - target)
        return torch.cat([(residual.flatten(1).T @ x).T.reshape(d, *residual.shape[1:]), residual.sum(0)[None]]) + l2 * point

    def invert(value: Tensor, prediction: Tensor) -> Tensor:
        """`value` by the inverse of a·Gram + l2."""
        steepness = (share * family.variance(prediction)).sum(0).clamp_min(1e-9)  # [L, C]
        weight = value[:d] if axes is None else (axes.T @ value[:d].flatten(1)).view(value[:d].shape)
        weight = weight / (steepness * spectrum[:, None, None] + l2[:d])
        weight = weight if axes is None else (axes @ weight.flatten(1)).view(weight.shape)
        inverted = torch.cat([weight, (value[d] / steepness)[None]])
        # Adding one vector to every class changes no softmax: such a part would be curved by l2 alone, and take for ever.
        return inverted - inverted.mean(-1, keepdim=True) if family.competing else inverted

    prediction = family.predict(outputs)
    slope = gradient(prediction)
    first = _norm(slope)
    noise = 1e-12 * (share * (prediction - target).abs()).sum((0, 2))  # of rounding, for features of deviation 1
    past: list[tuple[Tensor, Tensor]] = []  # steps, and what they changed in the gradient
    unsolved = torch.arange(number, device=x.device)
    steps = 0
    while True:
        norm = _norm(slope)
        going = norm > torch.maximum(TOLERANCE * first, noise)
        if steps == STEPS:
            going = torch.zeros_like(going)
        if not bool(going.all()):
            done = ~going
            best[:, unsolved[done]] = point[:, done]
            reached[unsolved[done]] = torch.where(norm > 0, norm / first, norm)[done]
            if not bool(going.any()):
                return Solution(best[:d].permute(1, 0, 2).contiguous(), best[d], reached, steps)
            unsolved, first, noise = unsolved[going], first[going], noise[going]
            l2, point, slope, outputs, prediction = (a[:, going] for a in (l2, point, slope, outputs, prediction))
            past = [(a[:, going], b[:, going]) for a, b in past]

        direction = -_two_loops(slope, past, partial(invert, prediction=prediction))
        along = (x @ direction[:d].flatten(1)).view(outputs.shape) + direction[d]
        l2_terms = _inner(l2 * point, direction), _inner(l2 * direction, direction)
        t = _line_search(family, outputs, prediction, along, target, share, *l2_terms)
        step = t[:, None] * direction
        outputs = outputs + t[:, None] * along
        point = point + step
        before, prediction = slope, family.predict(outputs)
        slope = gradient(prediction)
        past = [*past[1 - HISTORY :], (step, slope - before)]
        steps += 1


def _two_loops(slope: Tensor, past: Sequence[tuple[Tensor, Tensor]], invert: Callable[[Tensor], Tensor]) -> Tensor:
    """The inverse Hessian as L-BFGS knows it, by the gradient (Nocedal & Wright 2006, Algorithm 7.4), for each penalty."""
    taken = []
    for step, change in reversed(past):
        rho = _inner(step, change)
        alpha = torch.where(rho > 0, _inner(step, slope) / rho, rho)
        slope = slope - alpha[:, None] * change
        taken.append((alpha, rho))
    slope = invert(slope)
    for (step, change), (alpha, rho) in zip(past, reversed(taken), strict=True):
        beta = torch.where(rho > 0, _inner(change, slope) / rho, rho)
        slope = slope + (alpha - beta)[:, None] * step
    return slope


def _line_search(
    family: Family,
    outputs: Tensor,
    prediction: Tensor,
    along: Tensor,
    target: Tensor,
    share: Tensor,
    l2_slope: Tensor,
    l2_curvature: Tensor,
) -> Tensor:
    """How far to go along `along`, for each penalty [L]: where the slope has all but vanished.

    The loss is convex, so its slope along a line only grows: Newton's method on it, within a bracket that shrinks.
    """

    def look(prediction: Tensor, t: Tensor) -> Tensor:
        return (share * (prediction - target) * along).sum((0, 2)) + l2_slope + t * l2_curvature

    t = torch.ones_like(l2_slope)
    start = look(prediction, torch.zeros_like(t))
    low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
    for _ in range(TRIALS):
        there = family.predict(outputs + t[:, None] * along)
        slope = look(there, t)
        flat = slope.abs() <= FLAT * start.abs()
        if bool(flat.all()):
            break
        low, high = torch.where(slope < 0, t, low), torch.where(slope > 0, t, high)
        newton = t - slope / ((share * family.curvature(there, along)).sum((0, 2)) + l2_curvature)
        between = torch.where(high.isinf(), 2 * t, (low + high) / 2)
        t = torch.where(flat, t, torch.where((newton > low) & (newton < high), newton, between))
    return t


def _inner(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((0, 2))


def _norm(value: Tensor) -> Tensor:
    return _inner(value, value).sqrt()
