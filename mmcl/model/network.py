"""Encoders of some modalities and a head on them, trained together with labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ..api.batch import Batch, Encoded
from ..api.dataset import Task
from ..objective.score import Embedded
from ..recipe.plan import Part
from ..seeding import address
from .augment import Augmentation
from .encoder import Encoder


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
    ) -> dict[str, Encoded]:
        """Every modality of a batch; rows that lack one have zeros and `present` False."""
        encodings = {}
        for name, module in self.encoders.items():
            encoder = cast(Encoder, module)
            stream = batch.streams[name].to(device)
            rows, size = stream.present.nonzero().squeeze(1), len(stream.present)
            if len(rows) == 0:
                encodings[name] = Encoded(vector=torch.zeros(size, encoder.width, device=device), present=stream.present)
                continue
            encoded, rows = encoder.encode(stream, (augmentations or {}).get(name), generator)
            encodings[name] = Encoded(
                vector=_at(encoded.vector, rows, size),
                sequence=None if encoded.sequence is None else _at(encoded.sequence, rows, size),
                steps=None if encoded.steps is None else _at(encoded.steps, rows, size),
                present=stream.present,
            )
        return encodings


def embeddings_of(network: Network, encodings: Mapping[str, Encoded]) -> dict[str, Embedded]:
    """What a network's encodings of a batch are contrasted as, each modality's in the rows that have it."""
    embedded = {}
    for name, encoded in encodings.items():
        assert encoded.present is not None
        rows = encoded.present.nonzero().squeeze(1)
        encoder = cast(Encoder, network.encoders[name])
        embedded[name] = Embedded(z=encoder.project(Encoded(vector=encoded.vector[rows])), rows=rows)
    return embedded


def _at(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """Rows back at their places among `size`, zeros elsewhere."""
    if len(rows) == size:
        return values
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, rows, values)


def build_network(encoders: Mapping[str, Encoder], part: Part, task: Task, *where: str | int) -> Network:
    """Encoders with a fresh head, whose first weights depend on the address `where` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(*where, "init"))
        head = part.spec.build(part.params, task, {name: encoder.width for name, encoder in encoders.items()})
    return Network(encoders=encoders, head=cast(nn.Module, head))
