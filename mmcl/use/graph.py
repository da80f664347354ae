"""What a trained run computes, as one module of tensors alone: normalisation, backbones, read-outs, heads. It can be exported as a graph.

A graph takes every row of a batch, present or not, and sets the absent ones to zero afterwards: the running code leaves them out, which needs
sizes that depend on values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..api.batch import Encoded, Stream
from ..api.head import Deciding
from ..api.kinds import Layout
from ..model.encoder import Encoder
from ..model.joint import Joint
from ..model.kept import KeptHead
from ..model.kept_network import KeptNetwork
from ..recipe.plan import JOINT

PADDING = 16
"""Padded steps behind every stream over time, which change nothing: so that no length of a graph is ever one or none, which exporters take
for another case."""

Answers = dict[str, Tensor]


class Graph(Protocol):
    """A module from tensors, three a modality (values, steps, present) and the averages where there are some, to named tensors."""

    layouts: dict[str, Layout]
    averages: tuple[str, ...]  # of the modalities, or "recording", whose windows are averaged; () where each row is a recording

    def answers(self, streams: Mapping[str, Stream], averages: Mapping[str, Tensor]) -> Answers:
        """Every output by name."""
        ...


class Flat(nn.Module):
    """A graph as exporters take it: tensors in, tensors out, in the order of `inputs` and `outputs`."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.whole = cast(nn.Module, graph)  # `graph` is a name that exporters take

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs in their order."""
        graph = cast(Graph, self.whole)
        streams = {name: Stream(*tensors[3 * i : 3 * i + 3]) for i, name in enumerate(graph.layouts)}
        averages = dict(zip(graph.averages, tensors[3 * len(streams) :], strict=True))
        return tuple(graph.answers(streams, averages).values())


class HeadAlone(nn.Module):
    """A head on frozen features by itself, as exporters take it."""

    def __init__(self, kept: KeptHead) -> None:
        super().__init__()
        self.modalities, self.one = kept.modalities, HeadGraph(kept)

    def forward(self, vectors: list[Tensor], present: list[Tensor]) -> tuple[Tensor, ...]:
        """What it says of each modality's vectors, which rows have them."""
        both = {name: (vector, vector) for name, vector in zip(self.modalities, vectors, strict=True)}
        return tuple(self.one.answers(both, dict(zip(self.modalities, present, strict=True))).values())


class FrozenGraph(nn.Module):
    """The encoders of `pretrain`, and heads on their frozen features."""

    def __init__(self, encoders: Mapping[str, Encoder], heads: Sequence[KeptHead], sliding: bool) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.layouts = {name: encoder.layout for name, encoder in encoders.items()}
        self.averages = tuple(encoders) if sliding else ()
        self.heads = nn.ModuleList(HeadGraph(head) for head in heads)

    def answers(self, streams: Mapping[str, Stream], averages: Mapping[str, Tensor]) -> Answers:
        """Vectors and projections of every modality, then what each head says."""
        vectors: dict[str, tuple[Tensor, Tensor]] = {}
        present: dict[str, Tensor] = {}
        for name, module in self.encoders.items():
            encoder, stream = cast(Encoder, module), streams[name]
            vector = encoded_of(encoder, stream).vector
            space = functional.normalize(encoder.project(Encoded(vector=vector)).float(), dim=-1)
            vectors[name] = _kept(vector, stream.present), _kept(space, stream.present)
            present[name] = stream.present
            if name in averages:
                vectors[name] = averages[name] @ vectors[name][0], averages[name] @ vectors[name][1]
                present[name] = averages[name].sum(1) > 0
        return _answers(vectors, present, self.heads)


class JointGraph(nn.Module):
    """What a pretext learned of all modalities together, and heads on its frozen vectors."""

    def __init__(self, joint: Joint, heads: Sequence[KeptHead], sliding: bool) -> None:
        super().__init__()
        self.joint = joint
        self.layouts = joint.layouts
        self.averages = ("recording",) if sliding else ()
        self.heads = nn.ModuleList(HeadGraph(head) for head in heads)

    def answers(self, streams: Mapping[str, Stream], averages: Mapping[str, Tensor]) -> Answers:
        """The vector of all modalities, then what each head says."""
        ready = {}
        for name, layout in self.joint.layouts.items():
            stream = padded(streams[name], layout)
            if name in self.joint.normalise:
                stream = self.joint.normalise[name](stream)
            ready[name] = Stream(_kept(stream.values, stream.present), stream.steps, stream.present)
        here = torch.stack([stream.present for stream in ready.values()]).any(0)
        vector = _kept(cast(Any, self.joint.pretext)(ready).vector, here)
        if averages:
            vector, here = averages["recording"] @ vector, averages["recording"].sum(1) > 0
        return _answers({JOINT: (vector, functional.normalize(vector, dim=-1))}, {JOINT: here}, self.heads)


class NetworkGraph(nn.Module):
    """A network that labels trained end to end."""

    def __init__(self, kept: KeptNetwork, sliding: bool) -> None:
        super().__init__()
        self.network = kept.network
        self.layouts = {name: encoder.layout for name, encoder in kept.encoders.items()}
        self.averages = ("recording",) if sliding else ()
        self.reading = Reading(kept)

    def answers(self, streams: Mapping[str, Stream], averages: Mapping[str, Tensor]) -> Answers:
        """What the network says."""
        encodings = {}
        for name, module in self.network.encoders.items():
            stream = streams[name]
            one = encoded_of(cast(Encoder, module), stream)
            encodings[name] = Encoded(
                vector=_kept(one.vector, stream.present),
                sequence=None if one.sequence is None else _kept(one.sequence, stream.present),
                steps=None if one.steps is None else one.steps & stream.present[:, None],
                present=stream.present,
            )
        output = self.network.head(encodings).float()
        if averages:
            output = averages["recording"] @ output
        return self.reading.answers(output)


class Reading(nn.Module):
    """How a head's outputs are read: decided, less the thresholds; and as probabilities."""

    shift: Tensor

    def __init__(self, kept: KeptHead | KeptNetwork) -> None:
        super().__init__()
        self.kept, self.head = kept, cast(nn.Module, kept.head)
        self.register_buffer("shift", torch.as_tensor(kept.shift, dtype=torch.float64), persistent=False)

    @property
    def stem(self) -> str:
        """What its outputs' names begin with."""
        several = f"~{self.kept.head_seed}" if isinstance(self.kept, KeptHead) and self.kept.head_seed else ""
        return f"{self.kept.task.name}~{self.kept.input}~{self.kept.name}{several}"

    def answers(self, output: Tensor) -> Answers:
        """`…/output` and, of a classification, `…/probability`."""
        head, task = self.head, self.kept.task
        value = head.decide(output) if isinstance(head, Deciding) else output
        answers = {f"{self.stem}/output": (value - self.shift.to(value.dtype)).float()}
        if task.type != "regression":
            scaled = value / (self.kept.temperature or 1.0)
            chances = scaled.softmax(1) if task.type == "single-label" else scaled.sigmoid()
            answers[f"{self.stem}/probability"] = chances.float()
        return answers


class HeadGraph(nn.Module):
    """A head on frozen features, standardised as it was fitted."""

    def __init__(self, kept: KeptHead) -> None:
        super().__init__()
        self.kept, self.reading = kept, Reading(kept)
        for name in kept.modalities:
            self.register_buffer(f"mean_{name}", kept.scale.mean[name], persistent=False)
            self.register_buffer(f"deviation_{name}", kept.scale.deviation[name], persistent=False)

    def answers(self, vectors: Mapping[str, tuple[Tensor, Tensor]], present: Mapping[str, Tensor]) -> Answers:
        """What it says of vectors and projections by modality, and of which rows have them."""
        encoded = {}
        for name in self.kept.modalities:
            vector, space = vectors[name]
            chosen = space if self.kept.features == "projection" and space.shape[1] else vector
            values = (chosen - getattr(self, f"mean_{name}")) / getattr(self, f"deviation_{name}")
            if self.kept.scale.clip is not None:
                values = values.clamp(-self.kept.scale.clip, self.kept.scale.clip)
            encoded[name] = Encoded(vector=_kept(values, present[name]), present=present[name])
        return self.reading.answers(self.reading.head(encoded))


def encoded_of(encoder: Encoder, stream: Stream) -> Encoded:
    """Every row of a stream through normalisation and backbone; what an absent row becomes means nothing."""
    ready = padded(stream, encoder.layout)
    if encoder.normalise is not None:
        ready = encoder.normalise(ready)
    encoded: Encoded = encoder.backbone(ready)
    return encoded


def padded(stream: Stream, layout: Layout) -> Stream:
    """A stream over time with PADDING more steps; any other as it is."""
    if not layout.timed:
        return stream
    values = functional.pad(stream.values, [0, 0] * (stream.values.ndim - 2) + [0, PADDING])
    return Stream(values, functional.pad(stream.steps, [0, PADDING]), stream.present)


def _kept(values: Tensor, present: Tensor) -> Tensor:
    """Rows that are there, zeros for the others, whatever stands in them."""
    return torch.where(present.view(-1, *[1] * (values.ndim - 1)), values, torch.zeros_like(values))


def _answers(vectors: Mapping[str, tuple[Tensor, Tensor]], present: Mapping[str, Tensor], heads: nn.ModuleList) -> Answers:
    answers = {
        f"{name}/{what}": one
        for name, pair in vectors.items()
        for what, one in zip(("vector", "projection"), pair, strict=True)
    }
    for head in heads:
        answers |= cast(HeadGraph, head).answers(vectors, present)
    return answers
