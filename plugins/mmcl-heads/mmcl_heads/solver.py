"""Minimises convex losses of linear models, for a whole grid of penalties and for several sets of rows at once, to a known exactness.

What makes it fast, in order of effect:

- Newton's steps by conjugate gradients, preconditioned. The curvature of such a loss is nearly a·Gram + l2, a being the mean curvature
  over the rows. One eigendecomposition of the Gram matrix, shared by all penalties, sets of rows and classes, inverts that for every one
  of them. Seven or eight steps, and some tens of products with the features, take a gradient down to a millionth.
- All problems in one matrix product: reading the features costs as much for one as for hundreds. Rows pass in blocks that stay in the
  processor's cache, from the product through the loss to the product back.
- float32 finds the way; float64 judges where it led, and goes on where that is not near enough.
- More features than rows: W lies in the span of the rows, so the problem is solved in as many dimensions as there are rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-6
"""A problem is solved when the norm of its gradient has fallen to this share of what it is at W = 0 with the best bias."""

STEPS = 1000
"""Products with the features after which it is left as it is; the share that was reached is in the log."""

BLOCK = 2**17  # outputs in one block of rows: half a megabyte in float32
TOGETHER = (
    2**22
)  # outputs of problems on unlike rows that are solved together, on all rows; more are solved set by set, on their own
MOST = 2**25  # outputs of one set of rows that are solved at once; of more, some penalties after the others
ROUGH = 0.1  # a step is exact to this share of the gradient at most, the more so the nearer the goal
FLAT = 0.5  # a line search ends where the slope has this share of its first size
TRIALS = 30


@dataclass(frozen=True)
class Family:
    """A loss by its derivatives, over outputs [n, C, P]: classes, and problems."""

    predict: Callable[[Tensor], Tensor]  # outputs → what is compared with the target; their difference is the slope
    variance: Callable[[Tensor], Tensor]  # of a prediction: the curvature by one output alone
    competing: bool = False  # outputs of one row share one prediction (softmax)

    def bent(self, prediction: Tensor, direction: Tensor) -> Tensor:
        """Second derivative of each row's loss by its outputs, times a direction of theirs."""
        if not self.competing:
            return self.variance(prediction).mul_(direction)
        pushed = prediction * direction
        return pushed.addcmul_(prediction, pushed.sum(1, keepdim=True), value=-1)


def _bernoulli(p: Tensor) -> Tensor:
    return p * (1 - p)


SOFTMAX = Family(lambda f: f.softmax(1), _bernoulli, competing=True)
LOGISTIC = Family(torch.sigmoid, _bernoulli)
SQUARED = Family(lambda f: f, torch.ones_like)


@dataclass(frozen=True)
class Solution:
    """For each set of rows and penalty: W [F, L, D, C], bias [F, L, C], and how far the gradient's norm has fallen [F, L]."""

    weight: Tensor
    bias: Tensor
    gradient: Tensor
    steps: int  # products with the features, of the problem that took most


def minimise(
    family: Family,
    x: Tensor,
    target: Tensor,
    share: Tensor,
    bias: Tensor,
    penalties: Sequence[float],
    near: tuple[Tensor, Tensor] | None = None,
) -> Solution:
    """The minima of Σ_ic share_ic·loss(x_i·W_c + b_c, target_ic) + l2/2·‖W‖², one for each set of rows and penalty l2.

    x      float64 [n, D]
    target float64 [n, C]
    share  float64 [F, n, C]: of each set of rows, 0 for what it has not or does not know
    bias   [F, C], where to begin
    near   W [D, C] and bias [C] in place of 0 and `bias`, to begin at
    """
    sets, n, c = share.shape
    if sets > 1 and n * c * sets * len(penalties) > TOGETHER:
        return _joined([_own_rows(family, x, target, share[k], bias[k], penalties, near) for k in range(sets)], 0)
    most = max(1, MOST // (n * c * sets))
    if len(penalties) > most:
        parts = [penalties[k : k + most] for k in range(0, len(penalties), most)]
        return _joined([minimise(family, x, target, share, bias, part, near) for part in parts], 1)
    mean = x.mean(0)
    # [n, C, F], or [n, 1, F] where all classes have the same
    share = share[..., :1] if bool((share == share[..., :1]).all()) else share
    share = share.permute(1, 2, 0).contiguous()
    x = x - mean  # for the preconditioner alone: the bias takes it up again below
    start = None if near is None else torch.cat([near[0], (near[1] + mean @ near[0])[None]])
    if x.shape[1] > n:
        spectrum, rows = _eigen(x @ x.T)
        kept = spectrum > 1e-12 * spectrum[-1].clamp_min(torch.finfo(x.dtype).tiny)
        spectrum, rows = spectrum[kept], rows[:, kept]
        back = x.T @ (rows / spectrum.sqrt())  # [D, rank]: the directions that rows lie in
        if start is not None:
            start = torch.cat([back.T @ start[:-1], start[-1:]])
        solution = _solve(_Data(family, rows * spectrum.sqrt(), None, spectrum / n, target, share), bias, penalties, start)
        weight = torch.einsum("dr,flrc->fldc", back, solution.weight)
    else:
        # In float32: a preconditioner steers the way and not the goal.
        coarse = x.float()
        spectrum, axes = _eigen(coarse.T @ coarse / n)
        solution = _solve(_Data(family, x, axes.to(x.dtype), spectrum.to(x.dtype), target, share), bias, penalties, start)
        weight = solution.weight
    return Solution(weight, solution.bias - mean @ weight, solution.gradient, solution.steps)


def _own_rows(
    family: Family,
    x: Tensor,
    target: Tensor,
    share: Tensor,
    bias: Tensor,
    penalties: Sequence[float],
    near: tuple[Tensor, Tensor] | None,
) -> Solution:
    """One set of rows, on those alone that it has."""
    here = share.any(1)
    return minimise(family, x[here], target[here], share[here][None], bias[None], penalties, near)


def _joined(parts: Sequence[Solution], axis: int) -> Solution:
    """Solutions of several sets of rows (axis 0), or of several penalties (axis 1)."""
    tensors = [torch.cat(each, axis) for each in zip(*((p.weight, p.bias, p.gradient) for p in parts), strict=True)]
    return Solution(*tensors, max(part.steps for part in parts))


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


@dataclass(frozen=True)
class _Data:
    """What all problems have in common.

    axes, spectrum  eigenvectors (None: the columns of x) and eigenvalues of xᵀx/n
    share           [n, C, F], or [n, 1, F] where all classes have the same
    """

    family: Family
    x: Tensor
    axes: Tensor | None
    spectrum: Tensor
    target: Tensor
    share: Tensor

    def to(self, kind: torch.dtype) -> _Data:
        """The same in another precision."""
        axes = None if self.axes is None else self.axes.to(kind)
        rest = (one.to(kind) for one in (self.spectrum, self.target, self.share))
        return _Data(self.family, self.x.to(kind), axes, *rest)

    def blocks(self, columns: int) -> Iterator[slice]:
        """Rows, so many at a time that their outputs stay in the cache."""
        size = max(32, BLOCK // columns)
        return (slice(begin, begin + size) for begin in range(0, len(self.x), size))

    def outputs(self, point: Tensor, rows: slice) -> Tensor:
        """[rows, C, P] at a point [D + 1, C, P]."""
        return torch.addmm(point[-1].flatten(), self.x[rows], point[:-1].flatten(1)).view(-1, *point.shape[1:])

    def look(self, point: Tensor, of: Tensor, l2: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions [n, C, P], and the gradient, like the point. of [P]: the set of rows of each problem."""
        prediction = point.new_empty(len(self.x), *point.shape[1:])
        slope = l2 * point
        for rows in self.blocks(point[0].numel()):
            prediction[rows] = there = self.family.predict(self.outputs(point, rows))
            self._collect((there - self.target[rows, :, None]).mul_(self.share[rows][..., of]), rows, slope)
        return prediction, slope

    def bend(self, prediction: Tensor, direction: Tensor, of: Tensor, l2: Tensor) -> Tensor:
        """The Hessian times a direction, like the point."""
        bent = l2 * direction
        for rows in self.blocks(direction[0].numel()):
            pushed = self.family.bent(prediction[rows], self.outputs(direction, rows))
            self._collect(pushed.mul_(self.share[rows][..., of]), rows, bent)
        return bent

    def _collect(self, values: Tensor, rows: slice, total: Tensor) -> None:
        """Add what rows say of their outputs to what is known of the point."""
        total[:-1].flatten(1).addmm_(self.x[rows].T, values.flatten(1))
        total[-1] += values.sum(0)

    def steepness(self, prediction: Tensor, of: Tensor) -> Tensor:
        """The mean curvature of the rows' losses [C, P]."""
        total = prediction.new_zeros(prediction.shape[1:])
        for rows in self.blocks(total.numel()):
            total += self.family.variance(prediction[rows]).mul_(self.share[rows][..., of]).sum(0)
        return total.clamp_min(1e-9)

    def invert(self, value: Tensor, steepness: Tensor, l2: Tensor) -> Tensor:
        """`value` by the inverse of a·Gram + l2."""
        weight = value[:-1] if self.axes is None else (self.axes.T @ value[:-1].flatten(1)).view(value[:-1].shape)
        weight = weight / (steepness * self.spectrum[:, None, None] + l2[:-1])
        weight = weight if self.axes is None else (self.axes @ weight.flatten(1)).view(weight.shape)
        inverted = torch.cat([weight, (value[-1] / steepness)[None]])
        # Adding one vector to every class changes no softmax: such a part would be curved by l2 alone, and take for ever.
        return inverted - inverted.mean(1, keepdim=True) if self.family.competing else inverted


def _solve(data: _Data, bias: Tensor, penalties: Sequence[float], start: Tensor | None) -> Solution:
    """Every set of rows with every penalty: P problems; in float32, and then in float64 from there."""
    d, sets = data.x.shape[1], len(bias)
    of = torch.arange(sets, device=bias.device).repeat_interleave(len(penalties))
    l2 = bias.new_zeros(d + 1, 1, len(of))
    l2[:-1] = torch.tensor(penalties, dtype=l2.dtype, device=l2.device).repeat(sets)
    origin = bias.new_zeros(d + 1, *bias.T[:, of].shape)
    origin[-1] = bias.T[:, of]
    alone = torch.arange(sets, device=bias.device)  # at W = 0 the penalty plays no part
    prediction, slope = data.look(origin[..., :: len(penalties)], alone, l2[..., :: len(penalties)])
    first = _norm(slope)[of]
    off = ((prediction - data.target[..., None]).abs_() * data.share).sum((0, 1))[of]
    del prediction, slope
    point = origin if start is None else start[..., None].expand_as(origin).contiguous()
    if data.family.competing:  # what all classes share no step takes away
        point = point - point.mean(1, keepdim=True)
    # 1e-7 and 1e-12: of rounding, for features of deviation 1
    enough = torch.maximum(TOLERANCE * first, 1e-7 * off).float()
    rough, steps, _ = _descend(data.to(torch.float32), point.float(), of, l2.float(), enough, patient=False)
    point = torch.where(rough.isfinite().all(0).all(0), rough.to(point), origin)
    point, more, norm = _descend(data, point, of, l2, torch.maximum(TOLERANCE * first, 1e-12 * off))
    reached = torch.where(norm > 0, norm / first, norm)
    shape = sets, len(penalties)
    weight = point[:-1].permute(2, 0, 1).unflatten(0, shape).contiguous()
    return Solution(weight, point[-1].T.unflatten(0, shape).contiguous(), reached.unflatten(0, shape), steps + more)


def _descend(
    data: _Data, point: Tensor, of: Tensor, l2: Tensor, enough: Tensor, patient: bool = True
) -> tuple[Tensor, int, Tensor]:
    """Newton's method on all problems in step: where it ends, the products that it took, and the norms of the gradients there.

    enough   [P]: the norm at which a problem is solved
    patient  False: end a problem as soon as a step brings it no nearer, for there is a better precision
    """
    ended, norms = point.clone(), torch.zeros_like(enough)
    left = torch.arange(len(of), device=of.device)
    prediction, slope = data.look(point, of, l2)
    before = torch.full_like(enough, torch.inf)
    steps = 0
    while True:
        norm = _norm(slope)
        going = norm > enough
        if not patient:
            going &= norm < 0.5 * before
        if steps >= STEPS:
            going = torch.zeros_like(going)
        if not bool(going.all()):
            ended[..., left[~going]], norms[left[~going]] = point[..., ~going], norm[~going]
            if not bool(going.any()):
                return ended, steps, norms
            left, of, enough, norm = left[going], of[going], enough[going], norm[going]
            l2, point, slope, prediction = (one[..., going] for one in (l2, point, slope, prediction))
        step, products = _newton(data, prediction, slope, norm, enough, of, l2, STEPS - steps)
        point, prediction, slope, looks = _line_search(data, point, step, slope, of, l2)
        before, steps = norm, steps + products + looks


def _newton(
    data: _Data, prediction: Tensor, slope: Tensor, norm: Tensor, enough: Tensor, of: Tensor, l2: Tensor, most: int
) -> tuple[Tensor, int]:
    """Minus the inverse Hessian by the gradient, by preconditioned conjugate gradients (Nocedal & Wright 2006, Algorithm 7.1); products taken.

    It is exact to a share of the gradient that falls with it, so that the last steps double the digits.
    """
    share = (TOLERANCE * norm / enough.clamp_min(torch.finfo(norm.dtype).tiny)).sqrt().clamp_max(ROUGH)
    rough = torch.maximum(norm * share, enough / 2)
    steepness = data.steepness(prediction, of)
    residual = -slope
    toward = data.invert(residual, steepness, l2)
    direction, step, products = toward, torch.zeros_like(slope), 0
    against = _inner(residual, toward)
    while True:
        bent = data.bend(prediction, direction, of, l2)
        curved = _inner(direction, bent)
        far = torch.where(curved > 0, against / curved, torch.zeros_like(curved))
        step = step.addcmul(far, direction)
        residual = residual.addcmul(far, bent, value=-1)
        products += 1
        if products >= most or bool(((_norm(residual) <= rough) | (far == 0)).all()):
            return step, products
        toward = data.invert(residual, steepness, l2)
        now = _inner(residual, toward)
        turn = torch.where(against > 0, now / against, torch.zeros_like(now))
        direction, against = toward.addcmul(turn, direction), now


def _line_search(
    data: _Data, point: Tensor, step: Tensor, slope: Tensor, of: Tensor, l2: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Each problem's point moved along its step until the slope has all but vanished; predictions and gradient there, and looks taken.

    The loss is convex, so its slope along a line only grows: the place is within a bracket that shrinks.
    """
    start = _inner(slope, step)
    t = torch.ones_like(start)
    low, high, below, above = torch.zeros_like(t), torch.full_like(t, torch.inf), start, torch.zeros_like(t)
    looks = 0
    while True:
        looks += 1
        there = point.addcmul(t, step)
        prediction, slope = data.look(there, of, l2)
        along = _inner(slope, step)
        flat = along.abs() <= FLAT * start.abs()
        if looks == TRIALS or bool(flat.all()):
            return there, prediction, slope, looks
        under = along < 0
        low, below = torch.where(under, t, low), torch.where(under, along, below)
        high, above = torch.where(under, high, t), torch.where(under, above, along)
        # where a straight line between the ends of the bracket crosses 0, but not too near to an end
        share = (below / (below - above)).clamp(0.1, 0.9)
        t = torch.where(flat, t, torch.where(high.isinf(), 2 * t, low + share * (high - low)))


def _inner(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((0, 1))


def _norm(value: Tensor) -> Tensor:
    return _inner(value, value).sqrt()
