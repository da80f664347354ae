"""What the checks of pair losses and of group losses share: a complete answer, anchors that are left out, blocks, the slope.

A batch is a Pair or a Group; `some(batch, rows)` is the batch of some of its anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..api.loss import Scored
from .checks import expect
from .networks import expect_close

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS = ((0, 1), (1, 2), (2, 3), (3, 7))
"""Anchors of each block of seven."""


def expect_reduction(loss: Any, subject: str) -> None:
    """Refuse a loss that does not say how it reduces its anchors."""
    reduction = getattr(loss, "reduction", None)
    expect(
        reduction in ("mean", "sum", "whole"),
        f"{subject}: `reduction` is 'mean', 'sum' or 'whole', by which the toolkit knows whether big batches may be "
        f"scored in blocks of rows; found {reduction!r}",
    )


def expect_complete(scored: Any, subject: str) -> None:
    """Refuse an answer to embeddings in float64 that lacks something."""
    import torch

    expect(isinstance(scored, Scored), f"{subject}: gives an mmcl.api.Scored, found {type(scored).__name__}")
    expect(
        scored.loss.dim() == 0 and scored.loss.is_floating_point() and scored.loss.requires_grad,
        f"{subject}: `loss` is one number with a gradient; found shape {tuple(scored.loss.shape)}, {scored.loss.dtype}, "
        f"requires_grad={scored.loss.requires_grad}",
    )
    expect(
        scored.loss.dtype == torch.float64,
        f"{subject}: embeddings in float64 give a loss in {scored.loss.dtype}; raise half precision to float32, but leave "
        "float64 alone, in which chunked, distributed and resumed training are proven equal",
    )
    expect(
        isinstance(scored.anchors, torch.Tensor) and scored.anchors.numel() == 1,
        f"{subject}: `anchors` is a tensor of one number",
    )
    for name, value in scored.metrics.items():
        expect(
            isinstance(value, torch.Tensor) and value.numel() == 1 and not value.requires_grad,
            f"{subject}: metric '{name}' is a detached tensor of one number, or the log would keep every batch's graph alive",
        )


def expect_orphans_left_out(loss: Any, whole: Any, some: Callable[[Any, Any], Any], subject: str) -> None:
    """Refuse a loss in which anchors without a positive count; every other anchor of `whole` has one, and a negative."""
    learning = whole.positive.any(1)
    scored, wanted = loss(whole), loss(some(whole, learning))
    expect(
        int(scored.anchors) == int(wanted.anchors) == int(learning.sum()),
        f"{subject}: `anchors` counts the anchors that had something to learn from. Of {len(learning)} anchors, "
        f"{int(learning.sum())} have a positive and a negative; found {int(scored.anchors)}, and {int(wanted.anchors)} "
        "without the others. Means over blocks and processes are weighted by this count",
    )
    expect(bool(scored.loss.isfinite()), f"{subject}: an anchor without a positive makes the loss {scored.loss.item()}")
    if loss.reduction != "whole":
        expect_close(
            scored.loss,
            wanted.loss,
            1e-9,
            f"{subject}: anchors without a positive change the loss of the others; leave them out of the sum and of "
            "what it is divided by",
        )


def expect_no_fault_in_nothing(
    scored: Scored, what: str, sides: Sequence[tuple[str, Tensor]], subject: str, counts: bool
) -> None:
    """Refuse what a loss gives where no anchor has a `what`, unless it and its gradients are finite; `counts`: anchors may count all the same."""
    where = f"{subject}, where no anchor has a {what}"
    expect(
        bool(scored.loss.isfinite()) and scored.loss.requires_grad,
        f"{where}: the loss is finite and has a gradient (of zeros), since every process takes part in the step; found "
        f"{scored.loss.item()}, requires_grad={scored.loss.requires_grad}",
    )
    if not counts:
        expect(int(scored.anchors) == 0, f"{where}: `anchors` is 0, found {int(scored.anchors)}")
    scored.loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there
    for name, tensor in sides:
        expect(
            tensor.grad is None or bool(tensor.grad.isfinite().all()),
            f"{where}: the gradient of {name} is not finite; one such batch ends a run. Mask with torch.where or "
            "masked_fill before the logarithm, not after it",
        )


def expect_blocks_add_up(loss: Any, batch: Any, some: Callable[[Any, Any], Any], subject: str) -> None:
    """Refuse a loss of seven anchors that is not its blocks put together again, as its reduction says."""
    import torch

    whole, parts = loss(batch), [loss(some(batch, slice(start, end))) for start, end in BLOCKS]
    if loss.reduction == "mean":
        total = torch.stack([part.loss * part.anchors for part in parts]).sum() / sum(part.anchors for part in parts)
    else:
        total = torch.stack([part.loss for part in parts]).sum()
    expect_close(
        total,
        whole.loss,
        1e-9,
        f"{subject} says reduction = '{loss.reduction}', but blocks of rows put together again (weighted by their "
        "anchors, for a mean) are not the whole. Divide a mean by the number of anchors, or say 'sum' or 'whole'",
    )
    expect(
        sum(int(part.anchors) for part in parts) == int(whole.anchors),
        f"{subject}: the anchors of blocks of rows do not add up to those of the whole, {int(whole.anchors)}",
    )


def expect_slope(value: Callable[..., Tensor], inputs: Sequence[Tensor], subject: str, fast: bool = False) -> None:
    """Refuse a loss whose gradient is not its slope; `fast`: along one random direction, where there are many inputs."""
    import torch

    try:
        torch.autograd.gradcheck(value, [one.requires_grad_() for one in inputs], fast_mode=fast)
    except RuntimeError as error:
        raise AssertionError(
            f"{subject}: in float64 the gradient is not the slope of the loss (finite differences): something is "
            f"detached, rounded to float32, or worked out under no_grad. {error}"
        ) from error
