"""What the checks and the tests of networks share.

expect_close(got, wanted, …)                   two tensors are near each other
through_safetensors(network, …)                the weights as they come back from a file
expect_near_in_bfloat16(network, stream)       half precision gives nearly the same vectors
expect_read_out_in_parts(network, stream, n)   the vector holds statistics of n stretches of the real steps
idle_parameters(network, vector)               the parameters that a vector's gradient does not reach
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..api.batch import Stream
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


def expect_near_in_bfloat16(network: Any, stream: Stream, rtol: float = 0.05, atol: float = 0.05) -> None:
    """Under bfloat16 autocast the vectors are nearly those of float32; the stream and the network are taken to float32."""
    import torch

    network.float()
    stream.values = stream.values.float()
    exact = network(stream).vector
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(stream).vector
    torch.testing.assert_close(rough.float(), exact, rtol=rtol, atol=atol)


def expect_read_out_in_parts(network: Any, stream: Stream, parts: int, deviations: bool = True) -> None:
    """The vector is the means, then the deviations, of so many stretches of a row's real steps, one after another.

    The network reads out "mean+std" of its sequence in float64, and is in eval mode. A stretch without a step gives 0.

    deviations  False where they are not those of the sequence: the means alone are looked at
    """
    import torch

    encoded = network(stream)
    channels = network.width // (2 * parts)
    for i, real in enumerate(encoded.steps):
        steps = encoded.sequence[i, real, :channels]
        groups = [[k for k in range(len(steps)) if k * parts // len(steps) == part] for part in range(parts)]
        mean = [steps[group].mean(0) if group else steps.new_zeros(channels) for group in groups]
        torch.testing.assert_close(encoded.vector[i, : channels * parts], torch.cat(mean), rtol=0, atol=1e-12)
        if deviations:
            spread = [(steps[group].var(0, correction=0) if group else steps.new_zeros(channels)) for group in groups]
            deviation = (torch.cat(spread) + 1e-6).sqrt()
            torch.testing.assert_close(encoded.vector[i, channels * parts :], deviation, rtol=0, atol=1e-9)


def idle_parameters(network: nn.Module, vector: Tensor, least: float = 0.0) -> list[str]:
    """The parameters whose gradient is nowhere above `least`, for a sum in which every entry of the vector weighs differently."""
    import torch

    weights = torch.linspace(0.5, 1.5, vector.numel(), dtype=vector.dtype).view_as(vector)
    torch.autograd.backward((vector * weights).sum())
    return [name for name, p in network.named_parameters() if p.grad is None or float(p.grad.abs().max()) <= least]
