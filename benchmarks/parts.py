"""The encoders of MPUC-MER's recipes, the toolkit's and their plain twins, on made-up streams of the recipes' shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import plain
from mmcl.api import Layout, Stream
from mmcl.engine.devices import arithmetic
from mmcl.model.encoder import Encoder, build_encoder
from mmcl.plugins import plugins

WIDTH, HIDDEN = 512, 1024


@dataclass
class Side:
    """One modality both ways, with the same weights."""

    name: str
    stream: Stream
    ours: Encoder
    plain: nn.Sequential  # backbone and projection
    padded: bool  # the plain backbone asks which steps are real

    def to(self, device: str) -> Side:
        """Everything on that device."""
        return Side(self.name, self.stream.to(torch.device(device)), self.ours.to(device), self.plain.to(device), self.padded)

    def encode_plain(self) -> Tensor:
        """The embeddings, the plain way, in float32."""
        inputs = (self.stream.values, self.stream.steps) if self.padded else (self.stream.values,)
        return self.plain[1](self.plain[0](*inputs))

    def encode_ours(self, precision: str) -> Tensor:
        """The embeddings, as a training step of the toolkit takes them."""
        with arithmetic(precision, self.stream.values.device):
            ready, _ = self.ours.ready(self.stream)
            return self.ours.embed(ready)


def audio(rows: int, steps: int) -> Side:
    """Spectrograms of 128 bands through Conv-TasNet."""
    layout = Layout("features", ("time", "channel"), {"channel": 128}, 30.0)
    return _side("audio", "conv-tasnet", layout, [steps] * rows, lambda ours: plain.ConvTasnet(128, WIDTH))


def landmarks(rows: int, steps: int) -> Side:
    """51 landmarks through the network of Yu et al."""
    layout = Layout("joints", ("time", "joint", "channel"), {"joint": 51, "channel": 2}, 30.0, notes={"graph": "face-51"})
    return _side("landmarks", "stgcn-yu", layout, [steps] * rows, lambda ours: plain.Stgcn(ours.mixing, 2, WIDTH))


def text(lengths: Sequence[int]) -> Side:
    """Word vectors of 300 numbers through a transformer of six layers."""
    layout = Layout("features", ("time", "channel"), {"channel": 300})
    return _side("text", "transformer", layout, lengths, lambda ours: plain.Text(300, WIDTH), padded=True, output=WIDTH)


def video(rows: int, frames: int = 8, size: int = 112) -> Side:
    """Eight frames of 112 × 112 through R(2+1)D-18."""
    layout = Layout("video", ("time", "channel", "height", "width"), {"channel": 3, "height": size, "width": size}, 8.0)
    return _side("video", "r2plus1d", layout, [frames] * rows, lambda ours: plain.Video(WIDTH), frames=frames)


def _side(
    name: str,
    backbone: str,
    layout: Layout,
    lengths: Sequence[int],
    twin: Callable[[nn.Module], nn.Module],
    padded: bool = False,
    **options: object,
) -> Side:
    generator = torch.Generator().manual_seed(0)
    steps = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    values = torch.randn(*steps.shape, *layout.shape, generator=generator)
    values *= steps.view(*steps.shape, *[1] * len(layout.shape))
    spec = plugins().get("backbone", backbone).spec
    params = spec.params(**({} if "output" in options else {"width": WIDTH}), **options)
    ours = build_encoder(name, layout, spec, params, 0, hidden=HIDDEN, width=WIDTH, normalise=True)
    both = nn.Sequential(twin(ours.backbone), plain.projection(WIDTH, HIDDEN, WIDTH))
    plain.same_weights(both[0], ours.backbone)
    plain.same_weights(both[1], ours.projection)
    return Side(name, Stream(values, steps, steps.any(1)), ours, both, padded)


def check_equal(side: Side) -> float:
    """By how much the embeddings of both ways differ without dropout, over their deviation. Raises ValueError above 1e-3."""
    modules = {"ours": side.ours, "plain": side.plain}
    modes = [(one, one.p) for module in modules.values() for one in module.modules() if isinstance(one, nn.Dropout)]
    attention = [(one, one.dropout) for one in side.plain.modules() if isinstance(one, nn.MultiheadAttention)]
    plain.without_dropout(modules)
    with torch.no_grad():
        ours, theirs = side.encode_ours("float32"), side.encode_plain()
    for one, rate in modes:
        one.p = rate
    for one, rate in attention:
        one.dropout = rate
    apart = float((ours - theirs).abs().max() / theirs.std())
    if apart > 1e-3:
        raise ValueError(f"{side.name}: the toolkit's network and its plain twin differ by {apart:.2g}")
    return apart
