"""One modality's encoder: normalise → backbone → projection. Only rows that are present go through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from ..api.backbone import BackboneSpec
from ..api.batch import Encoded, Stream
from ..api.errors import PluginError, StageError
from ..api.kinds import Layout
from ..api.params import Params
from ..plugins import network_of
from ..seeding import address
from .augment import Augmentation, augment, mirror, spread
from .compiled import Compiled
from .parts import InStep, in_parts


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
        return Stream(values=values * spread(stream.steps, values), steps=stream.steps, present=stream.present)

    @torch.no_grad()
    def fit(self, streams: Any) -> None:
        """Set mean and deviation from an iterable of streams, over real steps alone (in float64, one pass)."""
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        square = torch.zeros_like(total)
        count = 0.0
        for stream in streams:
            values = stream.values.double() * spread(stream.steps, stream.values)
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
        self.frozen = False
        self.compiled: Compiled | None = None  # for batches of one shape
        self.whose = f"the backbone {type(backbone).__name__}"  # as messages name it

    def freeze(self) -> None:
        """Leave the backbone as it is: its weights get no gradient, and it computes as in eval mode from now on."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def compile_for(self, rows: int, steps: int | None) -> None:
        """Let batches of so many rows, each of so many steps (None: without time), go through the backbone as torch.compile translates it."""
        self.compiled = Compiled(self.backbone, rows, steps, self.whose)

    @property
    def translated(self) -> bool:
        """Whether any batch has gone through the backbone as torch.compile translates it."""
        return self.compiled is not None and self.compiled.batches > 0

    def train(self, mode: bool = True) -> Self:
        """As any module's, but a frozen backbone stays in eval mode: running statistics and dropout are training too."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    @property
    def embedding(self) -> int:
        """Width of the embedding that is contrasted."""
        linear = [layer for layer in self.projection.modules() if isinstance(layer, nn.Linear)]
        return linear[-1].out_features if linear else self.width

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
        return self._through(kept), rows

    def ready(
        self, stream: Stream, augmentation: Augmentation | None = None, generator: torch.Generator | None = None
    ) -> tuple[Stream, Tensor]:
        """The present rows as the backbone takes them, normalised and augmented, and which rows of the batch they are."""
        rows = stream.present.nonzero().squeeze(1)
        kept = Stream(values=stream.values[rows], steps=stream.steps[rows], present=stream.present[rows])
        if augmentation and augmentation.mirror:
            kept = mirror(kept, self.layout, augmentation.mirror, generator)
        if self.normalise is not None:
            kept = self.normalise(kept)
        if augmentation:
            kept = augment(kept, self.layout, augmentation, generator)
        return kept, rows

    def embed(self, stream: Stream, part: int | None = None, step: InStep | None = None, always: bool = False) -> Tensor:
        """The embeddings that are contrasted [n, projection width], of rows that are `ready`.

        part    rows that go through the network at a time; its activations are made again for the backward pass, so that a large
                batch needs the memory of a small one and gets the same gradient. Batch normalisation sees each part for itself.
        step      how ranks run in step; None: this one goes by itself
        always  whether parts are made where nothing is learned, too
        """
        return in_parts(self, self._embed_part, stream, part, step, self.layout.measured, always)[0]

    def embed_sequence(
        self, stream: Stream, part: int | None = None, step: InStep | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `embed` gives [n, W], the same of every step of the backbone's sequence [n, T', W], and which of these are real (bool [n, T']).

        Raises StageError if the backbone keeps no time, or its steps do not fit the projection.
        """
        z, steps, real = in_parts(self, self._sequence_part, stream, part, step, self.layout.measured)
        return z, steps, real

    def _sequence_part(self, values: Tensor, steps: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoded = self._through(Stream(values=values, steps=steps, present=present))
        if encoded.sequence is None or encoded.steps is None:
            raise StageError(
                f"{self.whose}: keeps no time, and a loss of sequences needs every step; use one that does, or another loss"
            )
        if encoded.sequence.shape[2] != self.width:
            raise StageError(
                f"{self.whose}: has steps of {encoded.sequence.shape[2]} numbers and a vector of {self.width}; a loss of sequences sends both "
                "through one projection: make them alike by the backbone's options"
            )
        return self.project(encoded), cast(Tensor, self.projection(encoded.sequence)), encoded.steps

    def _embed_part(self, values: Tensor, steps: Tensor, present: Tensor) -> tuple[Tensor]:
        return (self.project(self._through(Stream(values=values, steps=steps, present=present))),)

    def _through(self, stream: Stream) -> Encoded:
        """What the backbone makes of rows. Raises PluginError if that is not what a backbone promises."""
        through: Any = self.compiled if self.compiled is not None and self.compiled.takes(stream) else self.backbone
        encoded: Any = through(stream)
        if torch.compiler.is_compiling():  # looking at sizes would fix them in the graph
            return cast(Encoded, encoded)
        wanted = (len(stream.present), self.width)
        if not isinstance(encoded, Encoded):
            raise PluginError(f"{self.whose}: gives an mmcl.api.Encoded; it gave a {type(encoded).__name__}")
        if tuple(encoded.vector.shape) != wanted:
            raise PluginError(
                f"{self.whose}: promises vectors of width {self.width}, so {list(wanted)} of {wanted[0]} rows; it gave {list(encoded.vector.shape)}"
            )
        return encoded

    def project(self, encoded: Encoded) -> Tensor:
        """The embedding that is contrasted, [n, projection width]."""
        return cast(Tensor, self.projection(encoded.vector))


def build_encoder(
    name: str,
    layout: Layout,
    spec: BackboneSpec,
    params: Params,
    *where: str | int,
    hidden: int | None,
    width: int | None,
    normalise: bool,
) -> Encoder:
    """A fresh encoder. Its weights depend on the address `where` and the modality's name alone.

    hidden, width  of the projection; without a width there is none, and the backbone's vector is contrasted
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init", name, "backbone"))
        backbone = cast(nn.Module, network_of(spec.build(params, layout), spec, "backbone", f"modalities.{name}.backbone"))
        torch.manual_seed(address(*where, "init", name, "projection"))
        inner = int(cast(Any, backbone).width)
        projection: nn.Module = (
            nn.Identity()
            if width is None
            else nn.Linear(inner, width)
            if hidden is None
            else nn.Sequential(nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, width))
        )
    encoder = Encoder(layout=layout, backbone=backbone, projection=projection, normalise=normalise)
    encoder.whose = f"backbone '{spec.name}' (modalities.{name}.backbone; {type(backbone).__module__.partition('.')[0]})"
    return encoder


def parameters_of(encoders: Mapping[str, nn.Module]) -> dict[str, int]:
    """How many weights each encoder has."""
    return {name: sum(p.numel() for p in encoder.parameters()) for name, encoder in encoders.items()}
