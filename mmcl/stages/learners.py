"""What pretraining trains and what it minimises: an encoder for each modality, contrasted, or one network of all by a pretext."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..api.batch import Batch, Items
from ..api.loss import Scored
from ..engine.devices import arithmetic
from ..engine.ranks import ALONE, Gathered, Ranks, weighted
from ..evaluate import health
from ..model.augment import Augmentation
from ..model.build import fresh_encoders, fresh_joint, given
from ..model.contrast import build_contrast
from ..objective.score import Embedded, Objective
from ..recipe.plan import JOINT
from .units import Unit

Augmentations = Mapping[str, Augmentation]


class Learner(Protocol):
    """What is trained, and what it minimises. Every rank gives its share of a batch and is told of all of it."""

    model: nn.ModuleDict
    ranks: Ranks

    def forward(self, batch: Batch, n: int, augmentations: Augmentations, generator: torch.Generator | None) -> Any:
        """What the networks of all ranks make of a batch of n rows, of which `batch` has this rank's share; for `objective`."""

    def objective(self, encoded: Any, items: Items) -> Objective:
        """What is minimised.

        items  who stands in the rows of the whole batch
        """

    def backward(self, objective: Objective) -> None:
        """Leave the gradient of the last `objective` in the weights, where it has a loss."""


def learner_of(unit: Unit, device: torch.device, ranks: Ranks = ALONE) -> Learner:
    """What the plan says, with its first weights."""
    learner: Learner = Pairs(unit, device, ranks) if unit.plan.pretext is None else Pretext(unit, device, ranks)
    return learner


class Pairs:
    """An encoder for each modality, learned by contrasting every pair of them. A loss with weights of its own learns too."""

    def __init__(self, unit: Unit, device: torch.device, ranks: Ranks = ALONE) -> None:
        plan, prepared = unit.plan, unit.prepared
        self.plan, self.device, self.ranks = plan, device, ranks
        self.encoders = fresh_encoders(plan, prepared.stores, unit.fold.train, *unit.address)
        widths = {name: encoder.embedding for name, encoder in self.encoders.items()}
        self.contrast = build_contrast(plan, prepared.samples, widths=widths)
        self.model = nn.ModuleDict(self.encoders)
        if (learned := self.contrast.module) is not None:
            self.model["loss"] = learned  # a modality cannot be named so: the plan's check of names keeps it free
        self.model.to(device)
        self._gathered: Gathered | None = None

    def forward(
        self, batch: Batch, n: int, augmentations: Augmentations, generator: torch.Generator | None
    ) -> dict[str, Embedded]:
        """Every modality, encoded once, of all ranks."""
        own: dict[str, tuple[Tensor, Tensor]] = {}
        section = self.plan.recipe.pretrain
        with arithmetic(section.precision, self.device):
            for name in self.plan.contrasted:
                stream = batch.streams[name].to(self.device)
                if int(stream.present.sum()) == 0:
                    nothing = torch.zeros(0, self.encoders[name].embedding, device=self.device)
                    own[name] = nothing, torch.zeros(0, dtype=torch.int64, device=self.device)
                    continue
                ready, rows = self.encoders[name].ready(stream, augmentations.get(name), generator)
                own[name] = self.encoders[name].embed(ready, section.micro_batch), rows
        gathered = self._gathered = self.ranks.gather(own, n)
        return {name: Embedded(z=z, rows=gathered.rows[name]) for name, z in gathered.whole.items()}

    def objective(self, encoded: Mapping[str, Embedded], items: Items) -> Objective:
        """Every pair, scored."""
        objective = self.contrast(encoded, items, self.device)
        if not torch.is_grad_enabled():  # while validating: how the embeddings lie costs a decomposition
            looks = {name: health.describe(one.z) for name, one in encoded.items()}
            objective.embeddings = {name: look for name, look in looks.items() if look}
        return objective

    def backward(self, objective: Objective) -> None:
        """Leave the gradient in the weights of all encoders and of the loss."""
        assert objective.loss is not None
        self.ranks.backward(objective.loss, self._gathered, self.model)


class Pretext:
    """One network of all modalities, learned by a task of its own. Its loss is a mean over recordings, of which each rank has some."""

    def __init__(self, unit: Unit, device: torch.device, ranks: Ranks = ALONE) -> None:
        plan, prepared = unit.plan, unit.prepared
        self.plan, self.device, self.ranks = plan, device, ranks
        self.joint = fresh_joint(plan, prepared.stores, unit.fold.train, *unit.address)
        self.model = nn.ModuleDict({JOINT: self.joint})
        self.model.to(device)
        self._part: Tensor | None = None

    def forward(self, batch: Batch, n: int, augmentations: Augmentations, generator: torch.Generator | None) -> Scored | None:
        """All modalities together; a pretext scores itself what it makes of them. None where this rank has no rows."""
        if len(batch.items.row) == 0:
            return None
        with arithmetic(self.plan.recipe.pretrain.precision, self.device):
            return self.joint.learn(batch, self.device, augmentations, generator)

    def objective(self, encoded: Scored | None, items: Items) -> Objective:
        """The pretext's loss, under its name where pairs would stand; of several ranks without its metrics."""
        name = given(self.plan.pretext).use
        if self.ranks.size == 1:
            assert encoded is not None
            self._part = encoded.loss
            return Objective(loss=encoded.loss, pairs={name: {"loss": encoded.loss.detach(), **encoded.metrics}})
        self._part, anchors = weighted(encoded.loss if encoded else None, encoded.anchors if encoded else 0, self.ranks)
        loss = self.ranks.sum_of(torch.zeros(()) if self._part is None else self._part)
        return Objective(loss if anchors else None, {name: {"loss": loss}} if anchors else {})

    def backward(self, objective: Objective) -> None:
        """Leave the gradient in the weights."""
        self.ranks.backward(self._part, None, self.model)
