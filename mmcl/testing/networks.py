"""What every check of a network needs: tensors that must be near each other, weights that pass through a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checks import expect

if TYPE_CHECKING:
    from torch import Tensor, nn

PADDING = (
    "Padded steps are zeros and False in stream.steps; leave them out of every sum, mean, maximum, softmax and normalisation, "
    "and set them to zero again before a convolution: otherwise a recording's vector depends on which batch it is in"
)
"""The advice that follows every sentence about padding."""


def expect_close(got: Tensor, wanted: Tensor, tolerance: float, sentence: str) -> None:
    """Refuse a difference beyond `tolerance` of the largest value (of 1, where all are smaller)."""
    expect(got.shape == wanted.shape, f"{sentence} (shapes {tuple(got.shape)} and {tuple(wanted.shape)})")
    if not got.numel():
        return
    got, wanted = got.detach().double(), wanted.detach().double()
    far = float((got - wanted).abs().max())
    allowed = tolerance * max(1.0, float(wanted.abs().max()))
    expect(far <= allowed, f"{sentence} (by {far:.3g}, {allowed:.1g} is allowed)")  # a NaN is not ≤ either


def through_safetensors(network: nn.Module, subject: str) -> dict[str, Tensor]:
    """The weights as they come back from a file."""
    from safetensors.torch import load as read
    from safetensors.torch import save as write

    try:
        weights: dict[str, Tensor] = read(
            write({name: value.detach().contiguous() for name, value in network.state_dict().items()})
        )
    except (RuntimeError, ValueError, AttributeError) as error:
        raise AssertionError(
            f"{subject}: its state_dict cannot be kept as safetensors ({error}); it holds tensors only, no two of which share "
            "memory"
        ) from error
    return weights
