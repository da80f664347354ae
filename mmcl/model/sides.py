"""What makes the two sides of a pair unlike: a predictor on the anchors, a teacher that gives the candidates, a queue of past ones.

Beside them what encoders made of every recording when a sampler last asked (`Seen`).

All of it is state that outlives a batch, so it lies in buffers and weights of one module, which checkpoints hold.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ..api.batch import Stream
from ..objective.score import Embedded
from ..recipe.objectives import Objective as Section
from ..seeding import address
from .encoder import Encoder
from .parts import InStep


class Seen(nn.Module):
    """What each of some encoders made of every recording when they were last asked: vectors of length 1, zeros where there is none."""

    def __init__(self, widths: Mapping[str, int], recordings: int) -> None:
        super().__init__()
        self.names = tuple(widths)
        for k, width in enumerate(widths.values()):  # by number: a modality's name may be none of a buffer
            self.register_buffer(f"of_{k}", torch.zeros(recordings, width))

    def take(self, name: str, rows: Tensor, vectors: Tensor) -> None:
        """Keep what an encoder makes of some recordings now."""
        self.get_buffer(f"of_{self.names.index(name)}")[rows] = nn.functional.normalize(vectors.float(), dim=-1)

    def held(self) -> dict[str, Tensor]:
        """[recordings, width] by name."""
        return {name: self.get_buffer(f"of_{k}") for k, name in enumerate(self.names)}


class Queue(nn.Module):
    """The newest embeddings of one modality, and whose they are; the oldest stand first."""

    z: Tensor
    row: Tensor
    view: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("z", torch.zeros(size, width))
        self.register_buffer("row", torch.full((size,), -1, dtype=torch.int64))  # −1: nothing stands there yet
        self.register_buffer("view", torch.zeros(size, dtype=torch.int64))

    @torch.no_grad()
    def take(self, z: Tensor, row: Tensor, view: Tensor) -> None:
        """Take embeddings [n, D] in, with the recordings (int64 [n]) and views that they are of; as many of the oldest go."""
        for held, new in ((self.z, z), (self.row, row), (self.view, view)):
            held.copy_(torch.cat([held, new.to(held.device, held.dtype)])[-len(held) :])

    def held(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings [n, D] without a graph, recordings and views: of those that were taken in."""
        begin = int((self.row < 0).sum())
        return self.z[begin:].clone(), self.row[begin:].clone(), self.view[begin:].clone()


def predictor(width: int, hidden: int, norm: bool) -> nn.Sequential:
    """fc → (batch norm) → ReLU → fc on an embedding (Grill et al.: BYOL, NeurIPS 2020; Chen, He: SimSiam, CVPR 2021)."""
    inner: list[nn.Module] = [nn.Linear(width, hidden, bias=not norm), *([nn.BatchNorm1d(hidden)] if norm else []), nn.ReLU()]
    return nn.Sequential(*inner, nn.Linear(hidden, width))


class Sides(nn.Module):
    """Teachers, queues and predictors by modality, as far as a recipe asks for them."""

    def __init__(self, section: Section, encoders: Mapping[str, Encoder], *where: str | int) -> None:
        super().__init__()
        self.momentum = section.momentum
        self.teachers, self.queues, self.predictors = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name, encoder in encoders.items():
            if section.momentum is not None:
                self.teachers[name] = copy.deepcopy(encoder).requires_grad_(False)
            if section.queue is not None:
                self.queues[name] = Queue(section.queue, encoder.embedding)
            if section.predictor is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(address(*where, "init", name, "predictor"))
                    self.predictors[name] = predictor(encoder.embedding, section.predictor.hidden, section.predictor.norm)

    @torch.no_grad()
    def key(self, name: str, ready: Stream, part: int | None, step: InStep | None = None) -> Tensor:
        """What a modality's teacher makes of rows that are ready, [n, D].

        part  rows that go through it at a time
        step  how ranks run in step; None: this one goes by itself
        """
        return cast(Encoder, self.teachers[name]).embed(ready, part, step, always=True)

    def anchors(self, embedded: Mapping[str, Embedded]) -> dict[str, Embedded]:
        """The embeddings as anchors: what predictors make of them. Candidates are what they were before, without a graph."""
        return {name: self._anchor(name, one) for name, one in embedded.items()}

    def _anchor(self, name: str, one: Embedded) -> Embedded:
        if name not in self.predictors or len(one.z) == 0:
            return one
        network = cast(nn.Sequential, self.predictors[name])
        z = one.z.to(next(network.parameters()).dtype)  # of networks that compute in bf16
        network.train(self.training and len(z) > 1)  # one row alone has no deviation
        predicted = network(z)
        return Embedded(predicted, one.rows, one.z.detach() if one.key is None else one.key)

    @torch.no_grad()
    def stepped(self, encoders: Mapping[str, Encoder], embedded: Mapping[str, Embedded], row: Tensor, view: Tensor) -> None:
        """After a step: teachers follow the encoders, and queues take in the candidates of its batch.

        row, view  of all rows of the batch, int64 [N]
        """
        for name, teacher in self.teachers.items():
            assert self.momentum is not None
            for mine, theirs in zip(teacher.parameters(), encoders[name].parameters(), strict=True):
                mine.lerp_(theirs, 1 - self.momentum)
        for name, queue in self.queues.items():
            one = embedded[name]
            rows = one.rows.to(row.device)
            cast(Queue, queue).take(one.z if one.key is None else one.key, row[rows], view[rows])
