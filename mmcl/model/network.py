"""Encoders of some modalities and a head on them, trained together with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..api.batch import Batch, Encoded
from ..api.dataset import Task
from ..engine.devices import arithmetic
from ..engine.ranks import Ranks
from ..objective.score import Embedded
from ..plugins import network_of
from ..recipe.plan import Part
from ..seeding import address
from .augment import Augmentation
from .encoder import Encoder
from .parts import InStep, filler, filler_of, in_step_of


class Network(nn.Module):
    """Encoders of some modalities, and a head."""

    def __init__(self, encoders: Mapping[str, Encoder], head: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.head = head

    def encode(
        self,
        batch: Batch,
        device: torch.device,
        augmentations: Mapping[str, Augmentation] | None = None,
        generator: torch.Generator | None = None,
        in_step: Mapping[str, InStep] | None = None,
    ) -> dict[str, Encoded]:
        """Every modality of a batch; rows that lack one have zeros and `present` False.

        in_step  how ranks send modalities through their networks together, where they do
        """
        encodings = {}
        for name, module in self.encoders.items():
            encoder = cast(Encoder, module)
            stream = batch.streams[name].to(device)
            rows, size = stream.present.nonzero().squeeze(1), len(stream.present)
            step = (in_step or {}).get(name)
            if len(rows) == 0 and (step is None or not step.exchanges(encoder)):
                encodings[name] = Encoded(vector=torch.zeros(size, encoder.width, device=device), present=stream.present)
                continue
            with nullcontext() if step is None else step.norms(encoder, step.own, step.total):
                if len(rows):
                    encoded, rows = encoder.encode(stream, (augmentations or {}).get(name), generator)
                else:
                    encoded = _nothing_of(encoder.encode(filler(stream, encoder.layout.measured))[0])
            encodings[name] = Encoded(
                vector=_at(encoded.vector, rows, size),
                sequence=None if encoded.sequence is None else _at(encoded.sequence, rows, size),
                steps=None if encoded.steps is None else _at(encoded.steps, rows, size),
                present=stream.present,
            )
        return encodings


def _nothing_of(encoded: Encoded) -> Encoded:
    """No row of what a backbone made of filler; the way back through the network stays."""
    parts = (encoded.vector, encoded.sequence, encoded.steps)
    vector, sequence, steps = (None if one is None else one[:0] for one in parts)
    assert vector is not None
    return Encoded(vector=vector, sequence=sequence, steps=steps)


def embeddings_of(network: Network, encodings: Mapping[str, Encoded]) -> dict[str, Embedded]:
    """What a network's encodings of a batch are contrasted as, each modality's in the rows that have it."""
    embedded = {}
    for name, encoded in encodings.items():
        assert encoded.present is not None
        rows = encoded.present.nonzero().squeeze(1)
        encoder = cast(Encoder, network.encoders[name])
        embedded[name] = Embedded(z=encoder.project(Encoded(vector=encoded.vector[rows])), rows=rows)
    return embedded


OUTPUT = ""
"""The name of what the head gave, among the embeddings of modalities; none of them is called so."""


@dataclass(frozen=True)
class Share:
    """How a rank takes part in a batch."""

    ranks: Ranks
    rows: int  # of all ranks
    pooled: bool  # batch norms see the rows of all ranks
    precision: str


def outputs_of(
    network: Network,
    batch: Batch,
    share: Share,
    device: torch.device,
    augmentations: Mapping[str, Augmentation],
    generator: torch.Generator,
    contrasted: Sequence[str],
) -> dict[str, tuple[Tensor, Tensor]]:
    """What a network makes of this rank's share of a batch, and the rows of each, as they are gathered: outputs, and embeddings of `contrasted`.

    A rank without rows gives nothing, but where networks exchange something it sends a row of filler through: every rank runs every collective.
    """
    ranks, rows = share.ranks, torch.arange(len(batch.items.row), device=device)
    in_step = in_step_of(batch, tuple(network.encoders), ranks, share.pooled) if ranks.size > 1 else {}
    head = InStep(ranks, ranks.shares(share.rows), share.pooled)
    exchanges = [name for name, one in in_step.items() if one.exchanges(network.encoders[name])]
    idle, nothing = len(rows) == 0, (torch.zeros(0, 0, device=device), rows)
    if idle and not exchanges and not head.exchanges(network.head):
        return dict.fromkeys((OUTPUT, *contrasted), nothing)
    if idle:
        measured = {name: cast(Encoder, one).layout.measured for name, one in network.encoders.items()}
        batch = filler_of(batch, measured, [name for name, one in in_step.items() if one.total])
    with arithmetic(share.precision, device):
        encoded = network.encode(batch, device, augmentations if not idle else {}, generator, in_step)
        with head.norms(network.head, len(rows), share.rows):
            output = network.head(encoded)
    if exchanges:  # a zero from which the backward pass reaches every encoder, whatever the head looked at
        output = output + torch.stack([encoded[name].vector[:0].float().sum() for name in exchanges]).sum().to(output.dtype)
    if idle:
        return {OUTPUT: (output[:0], rows), **dict.fromkeys(contrasted, nothing)}
    embedded = embeddings_of(network, encoded) if contrasted else {}
    return {OUTPUT: (output, rows), **{name: (embedded[name].z, embedded[name].rows) for name in contrasted}}


def _at(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """Rows back at their places among `size`, zeros elsewhere."""
    if len(rows) == size:
        return values
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, rows, values)


def build_network(encoders: Mapping[str, Encoder], part: Part, task: Task, *where: str | int) -> Network:
    """Encoders with a fresh head, whose first weights depend on the address `where` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init"))
        widths = {name: encoder.width for name, encoder in encoders.items()}
        head = network_of(part.spec.build(part.params, task, widths), part.spec, "head")
    return Network(encoders=encoders, head=cast(nn.Module, head))
