"""One modality's encoder: normalise → backbone → projection. Only rows that are present go through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..api.backbone import BackboneSpec
from ..api.batch import Encoded, Stream
from ..api.kinds import Layout
from ..api.params import Params
from ..seeding import address


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a normalised stream: while pretraining as the recipe's `augment` says, at test as `worth.robustness` says."""

    noise: float = 0.0
    gain: float = 0.0
    mask_time: float = 0.0
    mask_channels: float = 0.0
    rotate: float = 0.0
    lose: float = 0.0  # share of the steps set to the mean, each for itself

    def __bool__(self) -> bool:
        return any((self.noise, self.gain, self.mask_time, self.mask_channels, self.rotate, self.lose))


class Normalise(nn.Module):
    """Subtracts each channel's mean and divides by its deviation; padded steps stay zero.

    The statistics are buffers, fitted on training rows by `fit_normalise`; before that the stream passes through unchanged.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.axis = layout.axes.index("channel") + 1
        channels = layout.sizes["channel"]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, stream: Stream) -> Stream:
        """The stream in deviations from the training mean."""
        shape = [1] * stream.values.ndim
        shape[self.axis] = -1
        values = (stream.values - self.mean.view(shape)) / self.deviation.view(shape)
        return Stream(values=values * _spread(stream.steps, values), steps=stream.steps, present=stream.present)

    @torch.no_grad()
    def fit(self, streams: Any) -> None:
        """Set mean and deviation from an iterable of streams, over real steps alone (in float64, one pass)."""
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        square = torch.zeros_like(total)
        count = 0.0
        for stream in streams:
            values = stream.values.double() * _spread(stream.steps, stream.values)
            axes = [a for a in range(values.ndim) if a != self.axis]
            total += values.sum(axes)
            square += values.square().sum(axes)
            inner = values[0].numel() // self.mean.numel() // (stream.steps.shape[1] if values.ndim > 2 else 1)
            count += float(stream.steps.sum()) * inner
        mean = total / max(count, 1.0)
        deviation = (square / max(count, 1.0) - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean)
        # A channel that never changes stays as it is: dividing by (almost) nothing would blow up rounding noise.
        self.deviation.copy_(torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, torch.ones_like(deviation)))


class Encoder(nn.Module):
    """What is trained for one modality."""

    def __init__(self, layout: Layout, backbone: nn.Module, projection: nn.Module, normalise: bool) -> None:
        super().__init__()
        self.layout = layout
        self.normalise = Normalise(layout) if normalise else None
        self.backbone = backbone
        self.projection = projection
        self.width: int = cast(Any, backbone).width

    def forward(self, stream: Stream) -> Tensor:
        """The vectors [n, width] of the rows that are present, in their order: what the frozen features are made of."""
        return self.encode(stream)[0].vector

    def encode(
        self, stream: Stream, augmentation: Augmentation | None = None, generator: torch.Generator | None = None
    ) -> tuple[Encoded, Tensor]:
        """The present rows, encoded, and which rows of the batch they are (int64 [n]).

        Absent rows never reach the backbone: BatchNorm would be dragged towards zero by them.
        """
        kept, rows = self.ready(stream, augmentation, generator)
        encoded: Encoded = self.backbone(kept)
        return encoded, rows

    def ready(
        self, stream: Stream, augmentation: Augmentation | None = None, generator: torch.Generator | None = None
    ) -> tuple[Stream, Tensor]:
        """The present rows as the backbone takes them, normalised and augmented, and which rows of the batch they are."""
        rows = stream.present.nonzero().squeeze(1)
        kept = Stream(values=stream.values[rows], steps=stream.steps[rows], present=stream.present[rows])
        if self.normalise is not None:
            kept = self.normalise(kept)
        if augmentation:
            kept = augment(kept, self.layout, augmentation, generator)
        return kept, rows

    def embed(self, stream: Stream, part: int | None = None) -> Tensor:
        """The embeddings that are contrasted [n, projection width], of rows that are `ready`.

        part  rows that go through the network at a time; its activations are made again for the backward pass, so that a large
              batch needs the memory of a small one and gets the same gradient. Batch normalisation sees each part for itself.
        """
        if part is None or len(stream.present) <= part or not torch.is_grad_enabled():
            return self.project(self.backbone(stream))
        kept = []
        for k in range(0, len(stream.present), part):
            rows = slice(k, k + part)
            kept.append(
                checkpoint(
                    self._embed_part,
                    stream.values[rows],
                    stream.steps[rows],
                    stream.present[rows],
                    use_reentrant=False,
                    context_fn=lambda: (nullcontext(), _statistics_kept(self.backbone)),
                )
            )
        return torch.cat(kept)

    def _embed_part(self, values: Tensor, steps: Tensor, present: Tensor) -> Tensor:
        return self.project(self.backbone(Stream(values=values, steps=steps, present=present)))

    def project(self, encoded: Encoded) -> Tensor:
        """The embedding that is contrasted, [n, projection width]."""
        return cast(Tensor, self.projection(encoded.vector))


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """While activations are made again, running statistics stay as the first pass left them."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum = 0.0
        m.num_batches_tracked = None if m.num_batches_tracked is None else m.num_batches_tracked.clone()
    try:
        yield
    finally:
        for m, (momentum, tracked) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, tracked


def augment(stream: Stream, layout: Layout, how: Augmentation, generator: torch.Generator | None) -> Stream:
    """A stream with random changes; zero is the channel's mean here, so masking sets values to the mean."""
    values, rows = stream.values, len(stream.values)
    ones = [1] * (values.ndim - 1)
    if how.rotate:
        turns = rotations(how.rotate * (2 * torch.rand(rows, 3, generator=generator) - 1)).to(values)
        axis = layout.axes.index("channel") + 1
        threes = values.movedim(axis, -1)
        turned = torch.einsum("b...gx,bxy->b...gy", threes.reshape(*threes.shape[:-1], -1, 3), turns)
        values = turned.flatten(-2).movedim(-1, axis)
    if how.gain:
        factor = 1 + how.gain * (2 * torch.rand(rows, generator=generator) - 1)
        values = values * factor.to(values).view(rows, *ones)
    if how.noise:
        values = values + how.noise * torch.randn(values.shape, generator=generator).to(values)
    if how.mask_channels:
        axis = layout.axes.index("channel") + 1
        keep = torch.rand(rows, values.shape[axis], generator=generator) >= how.mask_channels
        shape = [rows, *ones]
        shape[axis] = values.shape[axis]
        values = values * keep.to(values).view(shape)
    if how.mask_time and layout.timed:
        lengths = stream.steps.sum(1)
        span = (lengths * how.mask_time * torch.rand(rows, generator=generator).to(lengths.device)).round()
        start = ((lengths - span + 1) * torch.rand(rows, generator=generator).to(lengths.device)).floor()
        step = torch.arange(values.shape[1], device=values.device)
        hidden = (step >= start[:, None]) & (step < (start + span)[:, None])
        values = values * _spread(~hidden, values)
    if how.lose and layout.timed:
        values = values * _spread(torch.rand(stream.steps.shape, generator=generator).to(values) >= how.lose, values)
    return Stream(values=values * _spread(stream.steps, values), steps=stream.steps, present=stream.present)


def rotations(angles: Tensor) -> Tensor:
    """Rotation matrices [n, 3, 3] about x, then y, then z, by angles [n, 3] in radians."""
    sine, cosine, one, zero = angles.sin(), angles.cos(), torch.ones(len(angles)), torch.zeros(len(angles))
    turned = []
    for axis in range(3):
        s, c = sine[:, axis], cosine[:, axis]
        rows = (
            ((one, zero, zero), (zero, c, -s), (zero, s, c)),
            ((c, zero, s), (zero, one, zero), (-s, zero, c)),
            ((c, -s, zero), (s, c, zero), (zero, zero, one)),
        )[axis]
        turned.append(torch.stack([torch.stack(row, -1) for row in rows], -2))
    return turned[2] @ turned[1] @ turned[0]


def build_encoder(
    name: str,
    layout: Layout,
    spec: BackboneSpec,
    params: Params,
    *where: str | int,
    hidden: int | None,
    width: int,
    normalise: bool,
) -> Encoder:
    """A fresh encoder. Its weights depend on the address `where` and the modality's name alone.

    hidden, width  of the projection
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init", name, "backbone"))
        backbone = cast(nn.Module, spec.build(params, layout))
        torch.manual_seed(address(*where, "init", name, "projection"))
        inner = int(cast(Any, backbone).width)
        projection: nn.Module = (
            nn.Linear(inner, width)
            if hidden is None
            else nn.Sequential(nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, width))
        )
    return Encoder(layout=layout, backbone=backbone, projection=projection, normalise=normalise)


def parameters_of(encoders: Mapping[str, nn.Module]) -> dict[str, int]:
    """How many weights each encoder has."""
    return {name: sum(p.numel() for p in encoder.parameters()) for name, encoder in encoders.items()}


def _spread(mask: Tensor, values: Tensor) -> Tensor:
    """A mask [B, T] in the shape of values [B, T, ...] (or [B, ...] without time, where T is 1)."""
    if values.ndim == 2:
        return mask[:, :1].to(values.dtype)
    return mask.to(values.dtype).view(*mask.shape, *[1] * (values.ndim - 2))
