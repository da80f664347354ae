"""The checks of a pair loss and of a rule for positives: masks, anchors, blocks, gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..api.batch import Items
from ..api.errors import StageError
from ..api.loss import LossSpec, Pair, PairLoss, PositivesSpec, Scored, SoftmaxLoss, Steps
from .checks import Check, NotTried, expect, run_checks
from .device import Mixed
from .general import expect_finite, general_checks, process_check
from .networks import expect_close
from .scored import (
    expect_blocks_add_up,
    expect_complete,
    expect_no_fault_in_nothing,
    expect_orphans_left_out,
    expect_reduction,
    expect_slope,
)

if TYPE_CHECKING:
    from torch import Tensor


def check_loss(spec: LossSpec, params: Any = None, brute_force: Callable[[Pair], float] | None = None) -> None:
    """A pair loss keeps the contract: masks, anchors, blocks, gradients.

    brute_force  the loss of a pair by a slow, obvious computation, such as two loops; compared in float64
    """
    run_checks(loss_checks(spec, params, brute_force))


def check_positives(spec: PositivesSpec, params: Any = None, items: Items | None = None) -> None:
    """A rule for positives gives two disjoint masks and looks at each couple of rows alone.

    items  rows with the targets that the rule needs; made up, with a class of 0–3 (or two values) for each target, if left out
    """
    run_checks(positives_checks(spec, params, items))


def make_pair(anchors: int = 6, candidates: int = 9, width: int = 5, seed: int = 0, ignored: float = 0.15) -> Pair:
    """A made-up pair in float64: row i belongs to candidate i and to some others; some candidates are ignored.

    Every anchor and every one of the first candidates has at least one positive and one negative.
    """
    import torch

    rng = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, width, generator=rng, dtype=torch.float64) for n in (anchors, candidates))
    near = torch.eye(anchors, candidates, dtype=torch.bool)
    apart = near.roll(1, 1)
    positive = near | (torch.rand(anchors, candidates, generator=rng) < 0.2) & ~apart
    ignore = (torch.rand(anchors, candidates, generator=rng) < ignored) & ~positive & ~apart
    return Pair(left, right, positive, ignore)


def _some_anchors(pair: Pair, rows: Any) -> Pair:
    """The pair of some of its anchors."""
    weight = None if pair.weight is None else pair.weight[rows]
    return Pair(pair.left[rows], pair.right, pair.positive[rows], pair.ignore[rows], weight=weight)


def _orphaned(pair: Pair) -> Pair:
    """The same pair, but anchors 0 and 3 have no positive, and anchor 1 has nothing at all."""
    positive, ignore = pair.positive.clone(), pair.ignore.clone()
    positive[[0, 1, 3]] = False
    ignore[1] = True
    return Pair(pair.left, pair.right, positive, ignore)


@dataclass(frozen=True)
class _Case:
    spec: LossSpec
    params: Any
    brute_force: Callable[[Pair], float] | None

    @property
    def subject(self) -> str:
        return f"loss '{self.spec.name}'"

    def build(self) -> PairLoss:
        """The loss in double precision, in which the made-up pairs are."""
        import torch
        from torch import nn

        torch.manual_seed(0)
        loss = self.unrolled(self.spec.build(self.params))
        if isinstance(loss, nn.Module):
            loss.double()
        return loss

    def unrolled(self, loss: PairLoss) -> PairLoss:
        """A loss of sequences as one of pairs: every embedding, turned four ways, is a sequence of four seconds. Any other loss as it is."""
        return _unrolled(loss) if self.spec.sequences else loss


def _steps(z: Tensor) -> Steps:
    """Every embedding, turned four ways, as a sequence of four seconds."""
    import torch

    rng = torch.Generator().manual_seed(7)
    turns = torch.linalg.qr(torch.randn(4, z.shape[1], z.shape[1], generator=rng, dtype=torch.float64))[0].to(z.dtype)
    times = (torch.arange(4) + 0.5).expand(len(z), 4)
    return Steps(torch.einsum("nd,tde->nte", z, turns), torch.ones(len(z), 4, dtype=torch.bool), times)


def _unrolled(loss: PairLoss) -> PairLoss:
    from torch import nn

    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss, self.reduction, self.symmetric = loss, loss.reduction, loss.symmetric
            self.lonely = getattr(loss, "lonely", False)

        def forward(self, pair: Pair) -> Scored:
            return loss(replace(pair, left_steps=_steps(pair.left), right_steps=_steps(pair.right)))

    return Unrolled()


def loss_checks(spec: LossSpec, params: Any = None, brute_force: Callable[[Pair], float] | None = None) -> Iterator[Check]:
    """What a pair loss promises."""
    case = _Case(spec, spec.params() if params is None else params, brute_force)
    yield process_check(spec, case.subject, case.params, functools.partial(_trial, spec))
    for name, check in _CHECKS.items():
        if brute_force is not None or check is not _brute_force:
            yield name, functools.partial(check, case)
    yield from general_checks(case.subject, case.params, functools.partial(_trial, spec))


def _trial(spec: LossSpec, params: Any, moved: Callable[[Any], None]) -> None:
    """Build it, score a pair and go back once."""
    loss: Any = spec.build(params)
    pair = make_pair()
    pair = Pair(pair.left.float(), pair.right.float(), pair.positive, pair.ignore)
    if spec.sequences:
        pair = replace(pair, left_steps=_steps(pair.left), right_steps=_steps(pair.right))
    moved(pair)
    if hasattr(loss, "parameters"):
        moved(loss)
    for learned in (pair.left, *((pair.left_steps.z,) if pair.left_steps else ())):
        learned.requires_grad_()
    scored = loss(pair)
    expect_finite(scored.loss, "the loss")
    scored.loss.backward()


def _answer(case: _Case) -> None:
    import torch
    from torch import nn

    loss: Any = case.build()
    expect_reduction(loss, case.subject)
    symmetric = getattr(loss, "symmetric", None)
    expect(isinstance(symmetric, bool), f"{case.subject}: `symmetric` is True or False; found {symmetric!r}")
    if isinstance(loss, nn.Module):
        for name, parameter in loss.named_parameters():
            expect(
                parameter.dim() == 1,
                f"{case.subject}: learned parts are 1-d, as sharded training can't split a scalar and weight decay must know "
                f"them; '{name}' has {parameter.dim()} dimensions",
            )
    pair = make_pair()
    pair.left.requires_grad_()
    pair.similarity()
    assert pair.cosine is not None
    before = [t.detach().clone() for t in (pair.left, pair.right, pair.positive, pair.ignore, pair.cosine)]
    scored = loss(pair)
    expect_complete(scored, case.subject)
    after = (pair.left, pair.right, pair.positive, pair.ignore, pair.cosine)
    for name, old, new in zip(("left", "right", "positive", "ignore", "cosine"), before, after, strict=True):
        expect(
            torch.equal(old, new.detach()),
            f"{case.subject}: pair.{name} is changed in place; the same tensors are scored again in the other direction",
        )
    expect_close(
        loss(make_pair()).loss,
        scored.loss,
        1e-12,
        f"{case.subject}: it scores one pair differently when the cosines are worked out beforehand, or when asked twice",
    )


def _brute_force(case: _Case) -> None:
    import torch

    assert case.brute_force is not None
    loss = case.build()
    pairs = {
        "as many candidates as anchors": make_pair(6, 6),
        "more candidates than anchors": make_pair(6, 9, seed=1),
        "nothing ignored": make_pair(5, 7, seed=2, ignored=0.0),
        "anchors without positives": _orphaned(make_pair(7, 7, seed=3)),
    }
    for what, pair in pairs.items():
        wanted = torch.tensor(case.brute_force(pair), dtype=torch.float64)
        expect_close(
            loss(pair).loss, wanted, 1e-6, f"{case.subject}, {what}: differs from the brute-force computation, {wanted:.6g}"
        )


def _order(case: _Case) -> None:
    import torch

    loss = case.build()
    for size in ((6, 6), (6, 9)):
        pair = make_pair(*size)
        rng = torch.Generator().manual_seed(4)
        rows, columns = (torch.randperm(n, generator=rng) for n in size)  # not the same order on both sides
        turned = Pair(pair.left[rows], pair.right[columns], pair.positive[rows][:, columns], pair.ignore[rows][:, columns])
        expect_close(
            loss(turned).loss,
            loss(pair).loss,
            1e-9,
            f"{case.subject}, {size[0]} anchors and {size[1]} candidates: the loss changes when anchors and candidates come in "
            "another order, masks with them. Read who belongs to whom from pair.positive[anchor, candidate] alone, never from "
            "places in the batch",
        )


def _anchors(case: _Case) -> None:
    if getattr(case.build(), "lonely", False):
        _lonely(case)
        return
    for size in ((7, 7), (7, 9)):
        expect_orphans_left_out(case.build(), _orphaned(make_pair(*size)), _some_anchors, case.subject)


def _lonely(case: _Case) -> None:
    """An anchor without a positive counts, and one without any candidate does not."""
    import torch

    loss, pair = case.build(), _orphaned(make_pair(7, 9))
    scored, wanted = loss(pair), loss(_some_anchors(pair, torch.tensor([0, 2, 3, 4, 5, 6])))
    expect(
        int(scored.anchors) == int(wanted.anchors) == 6,
        f"{case.subject} says lonely = True, so an anchor counts wherever it has a candidate that is not ignored: 6 of 7; found "
        f"{int(scored.anchors)}, and {int(wanted.anchors)} without the one that has none",
    )
    if loss.reduction != "whole":
        expect_close(
            scored.loss, wanted.loss, 1e-9, f"{case.subject}: an anchor without any candidate changes the loss of the others"
        )
    alone = _some_anchors(pair, torch.tensor([0, 3]))
    alone.left.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(alone).loss, alone.left)
    expect(
        bool(gradient.any()),
        f"{case.subject} says lonely = True, and learns nothing from anchors without a positive: their gradient is zero",
    )


def _weights(case: _Case) -> None:
    """Weights of 1 change nothing, others do, and blocks of weighed anchors add up."""
    import torch

    if not case.spec.soft:
        return
    loss, plain = case.build(), make_pair(7, 9)
    drawn = torch.rand(7, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.9 + 0.1
    ones, some = ((w * plain.positive) for w in (torch.ones_like(drawn), drawn))
    weighed = [Pair(plain.left, plain.right, plain.positive, plain.ignore, weight=weight) for weight in (ones, some)]
    value = loss(plain).loss
    expect_close(
        loss(weighed[0]).loss, value, 1e-9, f"{case.subject}: positives that all weigh 1 are scored otherwise than plain ones"
    )
    expect(
        not torch.isclose(loss(weighed[1]).loss, value, rtol=1e-6),
        f"{case.subject} says soft = True, but the weights of positives change nothing; read pair.weight",
    )
    if loss.reduction != "whole":
        expect_blocks_add_up(loss, weighed[1], _some_anchors, f"{case.subject}, where positives weigh,")


def _ignored(case: _Case) -> None:
    """A candidate that every anchor ignores may be anything, and so may one that is ignored and marked positive."""
    loss, pair = case.build(), make_pair(6, 9)
    pair.ignore[:, [6, 8]], pair.positive[:, [6, 8]] = True, False
    value = loss(pair).loss
    right = pair.right.clone()
    right[6], right[8] = 3 * pair.left[0], -2 * pair.left[1]
    expect_close(
        loss(Pair(pair.left, right, pair.positive, pair.ignore)).loss,
        value,
        1e-9,
        f"{case.subject}: candidates that every anchor ignores change the loss; leave them out of every sum, read pair.ignore",
    )


def _state(case: _Case) -> None:
    """Asked again after another pair, a loss answers as before."""
    loss, pair = case.build(), make_pair()
    value = loss(pair).loss
    loss(make_pair(5, 7, seed=3))
    expect_close(
        loss(make_pair()).loss,
        value,
        1e-12,
        f"{case.subject}: a pair is scored otherwise once another pair has been scored; keep nothing between calls, or blocks, ranks and resumed "
        "runs differ",
    )


def _aligned(case: _Case) -> None:
    """Pairs that agree are better than the same in another order."""
    import torch

    loss = case.build()
    if isinstance(loss, torch.nn.Module) and any(p.dim() > 1 for p in loss.parameters()):
        return  # what it compares is made by weights of its own, which have learned nothing yet
    rng = torch.Generator().manual_seed(5)
    left = torch.randn(8, 5, generator=rng, dtype=torch.float64)
    right = left + 0.1 * torch.randn(8, 5, generator=rng, dtype=torch.float64)
    same = torch.eye(8, dtype=torch.bool)
    agree, apart = (float(loss(Pair(left, z, same, torch.zeros_like(same))).loss.detach()) for z in (right, right.roll(1, 0)))
    expect(
        agree < apart,
        f"{case.subject}: where anchors and their positives agree the loss is {agree:.4g}, and where each stands by another's {apart:.4g}; it is "
        "to be lower where they agree, as it is minimised",
    )


def _nothing(case: _Case) -> None:
    import torch

    for what in ("positive", "candidate left: all are ignored", "negative"):
        pair = make_pair()
        positive = torch.ones_like(pair.positive) if what == "negative" else torch.zeros_like(pair.positive)
        ignore = torch.full_like(pair.ignore, what.startswith("candidate"))
        left, right = pair.left.requires_grad_(), pair.right.requires_grad_()
        loss = case.build()
        counts = what == "negative" or (what == "positive" and getattr(loss, "lonely", False))
        scored = loss(Pair(left, right, positive, ignore))
        expect_no_fault_in_nothing(scored, what, (("left", left), ("right", right)), case.subject, counts)


def _blocks(case: _Case) -> None:
    loss = case.build()
    if loss.reduction == "whole":
        return
    for pair in (make_pair(7, 9), _orphaned(make_pair(7, 7))):
        expect_blocks_add_up(loss, pair, _some_anchors, case.subject)


def _gradient(case: _Case) -> None:
    import torch
    from torch import nn

    for what in ("random", "large", "equal", "bfloat16"):
        torch.manual_seed(0)
        loss = case.unrolled(case.spec.build(case.params))
        pair = make_pair()
        dtype = torch.bfloat16 if what == "bfloat16" else torch.float32
        left = (pair.left * (1e3 if what == "large" else 1)).to(dtype).requires_grad_()
        right = (pair.left[torch.arange(9) % 6] if what == "equal" else pair.right).detach().to(dtype).requires_grad_()
        scored = loss(Pair(left, right, pair.positive, pair.ignore))
        expect(bool(scored.loss.isfinite()), f"{case.subject}: {what} embeddings give the loss {scored.loss.item()}")
        scored.loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there
        tensors = [("left", left), ("right", right)]
        if isinstance(loss, nn.Module):
            tensors += [(name, p) for name, p in loss.named_parameters() if p.requires_grad]
        for name, tensor in tensors:
            if tensor.grad is None:
                raise AssertionError(f"{case.subject}: '{name}' gets no gradient")
            expect(
                bool(tensor.grad.isfinite().all()),
                f"{case.subject}: {what} embeddings give '{name}' a gradient that is not finite",
            )
        if what == "random":
            expect(
                bool(left.grad.any() and right.grad.any()) if left.grad is not None and right.grad is not None else False,
                f"{case.subject}: random embeddings get a gradient of zero on one side, so one encoder would learn nothing",
            )


def _slope(case: _Case) -> None:
    loss = case.build()
    pair = make_pair(4, 5, 3)

    def value(left: Tensor, right: Tensor) -> Tensor:
        return loss(Pair(left, right, pair.positive, pair.ignore)).loss

    expect_slope(value, (pair.left, pair.right), case.subject)


def _symmetry(case: _Case) -> None:
    loss = case.build()
    if not loss.symmetric:
        return
    pair = make_pair(6, 6)
    swapped = Pair(pair.right, pair.left, pair.positive.T, pair.ignore.T)
    expect_close(
        loss(swapped).loss,
        loss(pair).loss,
        1e-9,
        f"{case.subject} says symmetric = True, so only one direction is ever scored, but left and right swapped give another "
        "loss",
    )


def _softmax(case: _Case) -> None:
    import torch

    loss = case.build()
    form = loss.softmax() if isinstance(loss, SoftmaxLoss) else None
    if form is None:
        return
    for pair in (make_pair(6, 6), make_pair(6, 9, seed=1), _orphaned(make_pair(7, 7, seed=3))):
        cosine, terms = pair.similarity() * form.number, []
        for i, row in enumerate(cosine):
            near = pair.ignore[i] | (
                ~pair.positive[i] & (row > form.ignore_above * form.number if form.ignore_above is not None else pair.ignore[i])
            )
            positive = pair.positive[i] & ~near
            below = ~near if form.positives_below else ~near & ~positive
            if positive.any() and below.any():
                terms.append(form.factor * (row[below].logsumexp(0) - row[positive].mean()))
        total = torch.stack(terms).sum()
        scored = loss(pair)
        expect(
            loss.reduction in ("mean", "sum") and not loss.symmetric and int(scored.anchors) == len(terms),
            f"{case.subject} says that it is a softmax, which is a mean or a sum over the anchors that count, of one direction; found "
            f"reduction = '{loss.reduction}', symmetric = {loss.symmetric}, {int(scored.anchors)} anchors of {len(terms)}",
        )
        expect_close(
            scored.loss,
            total / len(terms) if loss.reduction == "mean" else total,
            1e-9,
            f"{case.subject}: `softmax()` says something else than what calling it gives; say what it is, or None",
        )


_CHECKS: Mapping[str, Callable[[_Case], None]] = {
    "its answer is complete and its input untouched": _answer,
    "it equals brute force": _brute_force,
    "the order of rows does not matter": _order,
    "anchors without positives are left out": _anchors,
    "what is ignored changes nothing": _ignored,
    "it keeps nothing between calls": _state,
    "agreement is lower": _aligned,
    "nothing to learn from is finite": _nothing,
    "blocks of rows add up to the whole": _blocks,
    "gradients are finite and reach both sides": _gradient,
    "the gradient is the slope": _slope,
    "symmetric means symmetric": _symmetry,
    "what it says of itself is what it gives": _softmax,
    "weights of positives count where it reads them": _weights,
}


def _some_items(items: Items, rows: Tensor) -> Items:
    targets = {name: target[rows] for name, target in items.targets.items()}
    group = None if items.group is None else items.group[rows]
    return Items(items.row[rows], items.view[rows], targets, items.modality, group)


def positives_checks(spec: PositivesSpec, params: Any = None, items: Items | None = None) -> Iterator[Check]:
    """What a rule for positives promises."""
    params = spec.params() if params is None else params

    def trial(options: Any, moved: Callable[[Any], None]) -> None:
        rule, given = spec.build(options), _make_items(spec, options, items)
        moved(given)
        _masks_of(spec, options, items, given, given, rule)

    yield process_check(spec, f"positives '{spec.name}'", params, trial)
    yield "it gives two disjoint masks", lambda: _masks(spec, params, items)
    yield "it looks at each couple of rows alone", lambda: _couples(spec, params, items)
    yield "unknown labels are no positives", lambda: _unknown(spec, params, items)
    yield from general_checks(f"positives '{spec.name}'", params, trial)


def _unknown(spec: PositivesSpec, params: Any, given: Items | None) -> None:
    """A label that nobody knows (-1, or NaN) belongs together with none, but with itself."""

    needs = spec.needs(params, ("one",))
    if not needs:
        return
    items = _make_items(spec, params, given)
    targets = {}
    for name, target in items.targets.items():
        target = target.clone()
        target[:3] = math.nan if target.is_floating_point() else -1
        targets[name] = target
    unknown = Items(items.row, items.view, targets, items.modality, items.group)
    positive, _ = _masks_of(spec, params, given, unknown, unknown)
    others = ~(items.row[:, None] == items.row[None, :])
    if positive.is_floating_point():
        expect(bool(positive.isfinite().all()), f"positives '{spec.name}': an unknown label gives a weight that is not finite")
    lost = ((positive != 0) & others)[:3]
    expect(
        not bool(lost.any()),
        f"positives '{spec.name}': recordings whose label is unknown ({'NaN' if _floats(targets) else '-1'}) are positives of others; nobody knows "
        "what they belong to, so ignore them",
    )


def _floats(targets: Mapping[str, Tensor]) -> bool:
    return any(target.is_floating_point() for target in targets.values())


def _make_items(spec: PositivesSpec, params: Any, items: Items | None) -> Items:
    """Rows of seven recordings, three of them in two windows."""
    import torch

    if items is not None:
        return items
    row = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 3, 5])
    view = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    needs = spec.needs(params, ("one",))
    group = row // 2  # recordings 0 and 1 are of one group, and so on
    classes = Items(row, view, dict.fromkeys(needs, row % 4), "one", group)
    try:
        spec.build(params)(classes, _some_items(classes, row[:3]))
    except (RuntimeError, IndexError, StageError):  # it wants values, such as places in a plane
        places = torch.stack([(row % 4) / 4, (row % 3) / 3], 1)
        return Items(row, view, dict.fromkeys(needs, places), "one", group)
    return classes


def _masks_of(
    spec: PositivesSpec, params: Any, given: Items | None, left: Items, right: Items, rule: Any = None
) -> tuple[Tensor, Tensor]:
    try:
        masks: tuple[Tensor, Tensor] = (rule or spec.build(params))(left, right)
        return masks
    except Mixed:
        raise
    except Exception as error:
        needs = spec.needs(params, ("one",))
        if given is None and needs:
            raise NotTried(
                f"positives '{spec.name}' cannot use made-up classes for {', '.join(needs)} ({type(error).__name__}: "
                f"{error}); give rows with targets of its sort: check_positives(spec, items=…)"
            ) from error
        raise


def _masks(spec: PositivesSpec, params: Any, given: Items | None) -> None:
    import torch

    items = _make_items(spec, params, given)
    subject = f"positives '{spec.name}'"
    dtypes = {"positive": (torch.float32, torch.float64) if spec.soft else (torch.bool,), "ignore": (torch.bool,)}
    for left, right in ((items, items), (_some_items(items, torch.arange(3)), items)):
        wanted = (len(left.row), len(right.row))
        masks = _masks_of(spec, params, given, left, right)
        for name, mask in zip(("positive", "ignore"), masks, strict=True):
            expect(
                mask.dtype in dtypes[name] and tuple(mask.shape) == wanted,
                f"{subject}: `{name}` is {'of floats' if spec.soft and name == 'positive' else 'bool'} [anchors, candidates] = {wanted}; "
                f"found {mask.dtype} {tuple(mask.shape)}",
            )
        positive, ignore = masks
        if spec.soft:
            expect(
                bool(((positive >= 0) & (positive <= 1)).all()),
                f"{subject}: weights lie in [0, 1]; found {float(positive.min())} to {float(positive.max())}",
            )
            positive = positive > 0
        expect(not bool((positive & ignore).any()), f"{subject}: a candidate is positive and ignored at once")
        itself = (left.row[:, None] == right.row[None, :]) & (left.view[:, None] == right.view[None, :])
        expect(
            not bool((itself & ~positive & ~ignore).any()),
            f"{subject}: a window is a negative of itself seen in another modality; make it a positive, or ignore it",
        )


def _couples(spec: PositivesSpec, params: Any, given: Items | None) -> None:
    import torch

    items = _make_items(spec, params, given)
    whole = _masks_of(spec, params, given, items, items)
    rows, columns = (torch.randperm(len(items.row), generator=torch.Generator().manual_seed(seed))[:5] for seed in (0, 1))
    some = _masks_of(spec, params, given, _some_items(items, rows), _some_items(items, columns))
    for name, one, other in zip(("positive", "ignore"), whole, some, strict=True):
        expect(
            torch.equal(one[rows][:, columns], other),
            f"positives '{spec.name}': `{name}` of a couple of rows depends on the other rows or on their order; big batches "
            "are scored in blocks and gathered from several processes, so it must be the couple's own",
        )
