"""The checks of a group loss: masks, anchors, blocks, gradients, any number of modalities."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..api.group import Group, GroupLoss, GroupLossSpec
from .checks import Check, NotTried, expect, refusal, run_checks
from .general import expect_finite, general_checks, process_check
from .loss import make_pair
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

WIDTH = 8
"""Of the made-up embeddings."""


def check_group_loss(
    spec: GroupLossSpec,
    params: Any = None,
    brute_force: Callable[[Group], float] | None = None,
    modalities: Sequence[str] | None = None,
) -> None:
    """A group loss keeps the contract: masks, anchors, blocks, gradients.

    brute_force  the loss of a group by a slow, obvious computation, such as nested loops; compared in float64
    modalities   names of those that are scored together; left out: as few as the loss takes, but three where it takes them
    """
    run_checks(group_loss_checks(spec, params, brute_force, modalities))


def make_group(
    modalities: Sequence[str] = ("one", "two", "three"),
    anchors: int = 6,
    candidates: int = 9,
    seed: int = 0,
    ignored: float = 0.15,
    width: int = WIDTH,
) -> Group:
    """A made-up group in float64: candidate i is anchor i itself; every anchor has a positive besides, and a negative."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    pair = make_pair(anchors, candidates, width, seed, ignored)
    right = {name: torch.randn(candidates, width, generator=rng, dtype=torch.float64) for name in modalities}
    left = {name: z[:anchors].clone() for name, z in right.items()}
    itself = torch.eye(anchors, candidates, dtype=torch.bool)
    positive, ignore = pair.positive.clone(), pair.ignore.clone()
    for i in range(anchors):
        partner = next(j for j in range(candidates) if j not in (i, (i + 1) % candidates))
        positive[i, partner], ignore[i, partner] = True, False
    return Group(left, right, positive, ignore, itself)


def _some(group: Group, rows: Any) -> Group:
    """The group of some of its anchors."""
    left = {name: z[rows] for name, z in group.left.items()}
    return Group(left, group.right, group.positive[rows], group.ignore[rows], group.itself[rows])


def _orphaned(group: Group) -> Group:
    """The same group, but anchors 0 and 3 have no positive, and anchor 1 has nothing at all."""
    positive, ignore = group.positive.clone(), group.ignore.clone()
    positive[[0, 1, 3]] = False
    ignore[1] = True
    return Group(group.left, group.right, positive, ignore, group.itself)


@dataclass(frozen=True)
class _Case:
    spec: GroupLossSpec
    params: Any
    brute_force: Callable[[Group], float] | None
    modalities: tuple[str, ...]

    @property
    def subject(self) -> str:
        return f"group loss '{self.spec.name}'"

    def build(self, double: bool = True) -> GroupLoss:
        """The loss, always with the same first weights."""
        import torch
        from torch import nn

        torch.manual_seed(0)
        loss = self.spec.build(self.params, dict.fromkeys(self.modalities, WIDTH))
        if double and isinstance(loss, nn.Module):
            loss.double()
        return loss

    def group(self, anchors: int = 6, candidates: int = 9, seed: int = 0, ignored: float = 0.15) -> Group:
        """A made-up group of the case's modalities."""
        return make_group(self.modalities, anchors, candidates, seed=seed, ignored=ignored)


def group_loss_checks(
    spec: GroupLossSpec,
    params: Any = None,
    brute_force: Callable[[Group], float] | None = None,
    modalities: Sequence[str] | None = None,
) -> Iterator[Check]:
    """What a group loss promises."""
    params = spec.params() if params is None else params
    n = max(spec.fewest, min(3, spec.most or 3))
    names = tuple(modalities or ("one", "two", "three", *(f"number{k}" for k in range(4, n + 1)))[:n])
    sentence = refusal(functools.partial(spec.fits, params, names))
    if sentence is not None:

        def nothing_fits() -> None:
            raise NotTried(
                f"group loss '{spec.name}': the modalities {', '.join(names)} do not suit ({sentence}); give modalities="
            )

        yield "made-up modalities suit", nothing_fits
        return
    case = _Case(spec, params, brute_force, names)
    yield process_check(spec, case.subject, params, functools.partial(_trial, spec, names))
    for name, check in _CHECKS.items():
        if brute_force is not None or check is not _brute_force:
            yield name, functools.partial(check, case)
    yield from general_checks(case.subject, params, functools.partial(_trial, spec, names))


def _trial(spec: GroupLossSpec, names: tuple[str, ...], params: Any, moved: Callable[[Any], None]) -> None:
    """Build it, score a group and go back once."""
    spec.fits(params, names)
    loss: Any = spec.build(params, dict.fromkeys(names, WIDTH))
    group = make_group(names)
    left, right = ({name: z.float() for name, z in side.items()} for side in (group.left, group.right))
    group = Group(left, right, group.positive, group.ignore, group.itself)
    moved(group)
    if hasattr(loss, "parameters"):
        moved(loss)
    for z in left.values():
        z.requires_grad_()
    scored = loss(group)
    expect_finite(scored.loss, "the loss")
    scored.loss.backward()


def _answer(case: _Case) -> None:
    import torch
    from torch import nn

    loss: Any = case.build()
    expect_reduction(loss, case.subject)
    if isinstance(loss, nn.Module):
        for name, parameter in loss.named_parameters():
            expect(
                parameter.dim() > 0,
                f"{case.subject}: learned parts have a dimension, as sharded training can't split a scalar; '{name}' has none",
            )
    group = case.group()
    for z in group.left.values():
        z.requires_grad_()
    before = _copies(group)
    scored = loss(group)
    expect_complete(scored, case.subject)
    for name, old in before.items():
        expect(torch.equal(old, _copies(group)[name]), f"{case.subject}: {name} of the group is changed in place")
    expect_close(
        loss(case.group()).loss, scored.loss, 1e-12, f"{case.subject}: it scores one group differently when asked twice"
    )


def _copies(group: Group) -> dict[str, Tensor]:
    """All that a loss is given."""
    sides = {
        f"{side} '{name}'": z for side, all_of in (("left", group.left), ("right", group.right)) for name, z in all_of.items()
    }
    everything = {**sides, "positive": group.positive, "ignore": group.ignore, "itself": group.itself}
    return {name: tensor.detach().clone() for name, tensor in everything.items()}


def _brute_force(case: _Case) -> None:
    import torch

    assert case.brute_force is not None
    loss = case.build()
    groups = {
        "as many candidates as anchors": case.group(6, 6),
        "more candidates than anchors": case.group(5, 8, seed=1),
        "nothing ignored": case.group(5, 7, seed=2, ignored=0.0),
        "anchors without positives": _orphaned(case.group(7, 7, seed=3)),
    }
    for what, group in groups.items():
        wanted = torch.tensor(case.brute_force(group), dtype=torch.float64)
        expect_close(
            loss(group).loss, wanted, 1e-6, f"{case.subject}, {what}: differs from the brute-force computation, {wanted:.6g}"
        )


def _anchors(case: _Case) -> None:
    for size in ((7, 7), (7, 9)):
        expect_orphans_left_out(case.build(), _orphaned(case.group(*size)), _some, case.subject)


def _ignored(case: _Case) -> None:
    """A candidate that every anchor ignores may be anything."""
    loss = case.build()
    group = case.group(5, 8)
    group.ignore[:, 7], group.positive[:, 7] = True, False
    value = loss(group).loss
    right = {name: z.clone() for name, z in group.right.items()}
    for z in right.values():
        z[7] = -3 * z[0]
    changed = loss(Group(group.left, right, group.positive, group.ignore, group.itself)).loss
    expect_close(changed, value, 1e-9, f"{case.subject}: a candidate that is ignored changes the loss; read group.ignore")


def _state(case: _Case) -> None:
    """Asked again after another group, a loss answers as before."""
    loss = case.build()
    value = loss(case.group()).loss
    loss(case.group(5, 7, seed=3))
    expect_close(
        loss(case.group()).loss,
        value,
        1e-12,
        f"{case.subject}: a group is scored otherwise once another group has been scored; keep nothing between calls",
    )


def _nothing(case: _Case) -> None:
    import torch

    for what in ("positive", "candidate left: all are ignored", "negative"):
        group = case.group()
        positive = torch.ones_like(group.positive) if what == "negative" else torch.zeros_like(group.positive)
        ignore = torch.full_like(group.ignore, what.startswith("candidate"))
        left = {name: z.requires_grad_() for name, z in group.left.items()}
        scored = case.build()(Group(left, group.right, positive, ignore, group.itself))
        expect_no_fault_in_nothing(scored, what, list(left.items()), case.subject, counts=what == "negative")


def _blocks(case: _Case) -> None:
    loss = case.build()
    if loss.reduction == "whole":
        return
    for group in (case.group(7, 9), _orphaned(case.group(7, 7))):
        expect_blocks_add_up(loss, group, _some, case.subject)


def _gradient(case: _Case) -> None:
    import torch
    from torch import nn

    for what in ("random", "large", "equal", "bfloat16"):
        loss = case.build(double=False)
        group = case.group()
        dtype = torch.bfloat16 if what == "bfloat16" else torch.float32
        first = next(iter(group.right.values()))
        sides: list[dict[str, Tensor]] = []
        for side in (group.left, group.right):
            zs = {name: first[: len(z)] if what == "equal" else z * (1e3 if what == "large" else 1) for name, z in side.items()}
            sides.append({name: z.detach().to(dtype).clone().requires_grad_() for name, z in zs.items()})
        scored = loss(Group(sides[0], sides[1], group.positive, group.ignore, group.itself))
        expect(bool(scored.loss.isfinite()), f"{case.subject}: {what} embeddings give the loss {scored.loss.item()}")
        scored.loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there
        for name in group.modalities:
            grads = [side[name].grad for side in sides]
            for grad in grads:
                expect(
                    grad is None or bool(grad.isfinite().all()),
                    f"{case.subject}: {what} embeddings give '{name}' a gradient that is not finite",
                )
            if what == "random":
                expect(
                    any(grad is not None and bool(grad.any()) for grad in grads),
                    f"{case.subject}: '{name}' gets a gradient of zero, so its encoder would learn nothing",
                )
        if what == "random" and isinstance(loss, nn.Module):
            for name, parameter in loss.named_parameters():
                expect(parameter.grad is not None, f"{case.subject}: '{name}' gets no gradient")


def _slope(case: _Case) -> None:
    loss = case.build()
    group = case.group(3, 5, seed=3)
    names = group.modalities

    def value(*zs: Tensor) -> Tensor:
        half = len(names)
        left, right = dict(zip(names, zs[:half], strict=True)), dict(zip(names, zs[half:], strict=True))
        return loss(Group(left, right, group.positive, group.ignore, group.itself)).loss

    inputs = [z for side in (group.left, group.right) for z in side.values()]
    expect_slope(value, inputs, case.subject, fast=True)


def _aligned(case: _Case) -> None:
    """Recordings whose modalities agree are better than recordings whose modalities do not."""
    import torch

    loss = case.build()
    if isinstance(loss, torch.nn.Module) and any(p.dim() > 1 for p in loss.parameters()):
        return  # what it compares is made by weights of its own, which have learned nothing yet
    rng = torch.Generator().manual_seed(5)
    base = torch.randn(8, WIDTH, generator=rng, dtype=torch.float64)
    same = torch.eye(8, dtype=torch.bool)
    positive, zeros = same | same.roll(4, 1), torch.zeros_like(same)
    twice = torch.cat([base[:4], base[:4]])  # rows i and i + 4 are two windows of one recording
    agree = {name: twice + 0.3 * torch.randn(8, WIDTH, generator=rng, dtype=torch.float64) for name in case.modalities}
    apart = {name: z.roll(k, 0) for k, (name, z) in enumerate(agree.items())}
    values = [float(loss(Group(z, z, positive, zeros, same)).loss.detach()) for z in (agree, apart)]
    expect(
        values[0] < values[1],
        f"{case.subject}: recordings whose modalities agree have the loss {values[0]:.4g}, and those whose modalities stand beside one "
        f"another's {values[1]:.4g}: the loss is to be lower where they agree",
    )


_CHECKS: Mapping[str, Callable[[_Case], None]] = {
    "its answer is complete and its input untouched": _answer,
    "it equals brute force": _brute_force,
    "anchors without positives are left out": _anchors,
    "what is ignored changes nothing": _ignored,
    "it keeps nothing between calls": _state,
    "nothing to learn from is finite": _nothing,
    "blocks of anchors add up to the whole": _blocks,
    "gradients are finite and reach every modality": _gradient,
    "the gradient is the slope": _slope,
    "agreement is lower": _aligned,
}
