"""What pretraining trains and what it minimises: an encoder for each modality, contrasted, or one network of all by a pretext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..api.batch import Batch, Items, Stream
from ..api.loss import Scored, Steps
from ..data.windows import window_steps
from ..engine.devices import arithmetic
from ..engine.ranks import ALONE, Gathered, Ranks, is_sharded, weighted
from ..evaluate import health
from ..model.augment import Augmentation
from ..model.build import fresh_encoders, fresh_joint, given
from ..model.contrast import build_contrast
from ..model.encoder import Encoder
from ..model.frozen import encode_joint, encode_rows
from ..model.parts import InStep, filler_of, in_step_of
from ..model.sides import Seen, Sides
from ..objective.score import Embedded, Objective
from ..recipe.plan import JOINT
from .composed import rows_beside
from .units import Unit

Augmentations = Mapping[str, Augmentation]

STEPS = "+steps"
"""What stands behind a modality's name where its steps are gathered."""
SEEN = "+seen"
BESIDE = ("+loss", "+sides", SEEN)
"""What is trained, or follows, beside encoders, and is thrown away after pretraining. No modality can be named so."""


class Learner(Protocol):
    """What is trained, and what it minimises. Every rank gives its share of a batch and is told of all of it."""

    model: nn.ModuleDict
    ranks: Ranks
    device: torch.device

    def forward(self, batch: Batch, n: int, augmentations: Augmentations, generator: torch.Generator | None) -> Any:
        """What the networks of all ranks make of a batch of n rows, of which `batch` has this rank's share; for `objective`."""

    def objective(self, encoded: Any, items: Items) -> Objective:
        """What is minimised.

        items  who stands in the rows of the whole batch
        """

    def backward(self, objective: Objective) -> None:
        """Leave the gradient of the last `objective` in the weights, where it has a loss."""

    def stepped(self, encoded: Any, items: Items) -> None:
        """Let all that follows the weights follow them, after the step of a batch."""


def _steps(gathered: Gathered, when: Mapping[str, Tensor], name: str) -> Steps | None:
    """The steps of a modality's rows, where they were gathered."""
    if name not in when:
        return None
    times, steps = when[name], gathered.whole[name + STEPS]
    if len(times) == 0:
        times = times.new_zeros(0, 1)
    return Steps(steps.reshape(*times.shape, gathered.whole[name].shape[1]), times >= 0, times)


def learner_of(unit: Unit, device: torch.device, ranks: Ranks = ALONE) -> Learner:
    """What the plan says, with its first weights."""
    learner: Learner = Pairs(unit, device, ranks) if unit.plan.pretext is None else Pretext(unit, device, ranks)
    return learner


def _beside_sampler(model: nn.ModuleDict, unit: Unit, widths: Mapping[str, int]) -> None:
    """Give a model room for what a sampler is to be told of recordings, where it asks: checkpoints then hold it."""
    if unit.plan.sampler is not None and unit.plan.sampler.spec.looks(unit.plan.sampler.params):
        model[SEEN] = Seen(widths, len(unit.prepared.samples))


@torch.no_grad()
def look_again(learner: Learner, unit: Unit, epoch: int) -> None:
    """Make anew what the sampler is told of recordings, where an epoch (counted from 0) is one before which that is due."""
    plan, seen, sampler = unit.plan, seen_by(learner), unit.plan.sampler
    if seen is None or sampler is None or epoch == 0 or (epoch - 1) % sampler.spec.looks(sampler.params):
        return
    rows, device = sorted({*unit.fold.train, *rows_beside(plan, unit.fold)}), learner.device
    if isinstance(learner, Pretext):
        features = encode_joint(plan, learner.joint, unit.prepared.stores, rows, device)
    else:
        encoders = {name: one for name, one in learner.model.items() if isinstance(one, Encoder) and name in seen.names}
        features = encode_rows(plan, encoders, unit.prepared.stores, rows, device)
    for name, one in features.items():
        seen.take(name, torch.tensor(rows, device=device), one.projection.to(device))
    learner.ranks.as_first(seen)


def whole_weights(module: nn.Module, ranks: Ranks) -> dict[str, Tensor]:
    """A module's weights, those that are sharded put together on the first rank. Every rank calls it."""
    if not any(is_sharded(weight) for weight in module.parameters()):
        return module.state_dict()
    from ..engine.shards import whole  # late: it takes seconds to import

    return whole(module, keep=ranks.first)


def seen_by(learner: Learner) -> Seen | None:
    """What the sampler is told of recordings, where it asks."""
    return cast("Seen", learner.model[SEEN]) if SEEN in learner.model else None


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
            self.model["+loss"] = learned
        self.sides: Sides | None = None
        objective = plan.recipe.pretrain.objective
        if objective.directed:
            contrasted = {name: self.encoders[name] for name in dict.fromkeys(n for pair in plan.pairs for n in pair)}
            self.sides = self.model["+sides"] = Sides(objective, contrasted, *unit.address)
            self.contrast = replace(self.contrast, sides=self.sides)
        _beside_sampler(self.model, unit, {name: widths[name] for name in plan.contrasted})
        self.model.to(device)
        if plan.recipe.pretrain.shard and ranks.size > 1:
            from ..engine.shards import shard  # late: it takes seconds to import

            ranks.as_first(self.model, weights=True)
            for encoder in self.encoders.values():
                shard(encoder.backbone, ranks)
        self._compile()
        self._gathered: Gathered | None = None

    def _compile(self) -> None:
        """Have torch translate the networks that the recipe names, for this rank's share of a whole batch of whole windows."""
        section, seconds = self.plan.recipe.pretrain, self.plan.recipe.window.seconds
        mine = self.ranks.share(section.batch_size * len(section.shares))
        rows = mine.stop - mine.start
        for name in section.compile:
            layout = self.encoders[name].layout
            steps = window_steps(layout.rate, seconds) if layout.timed and layout.rate and seconds else None
            self.encoders[name].compile_for(min(rows, section.micro_batch or rows), steps)

    def forward(
        self, batch: Batch, n: int, augmentations: Augmentations, generator: torch.Generator | None
    ) -> dict[str, Embedded]:
        """Every modality, encoded once, of all ranks."""
        own: dict[str, tuple[Tensor, Tensor]] = {}
        keys: dict[str, tuple[Tensor, Tensor]] = {}
        beside: dict[str, tuple[Tensor, Tensor]] = {}
        section = self.plan.recipe.pretrain
        in_step = self._in_step(batch)
        with arithmetic(section.precision, self.device):
            for name in self.plan.contrasted:
                stream, step = batch.streams[name].to(self.device), in_step.get(name)
                if int(stream.present.sum()) == 0 and (step is None or not step.exchanges(self.encoders[name])):
                    nothing = torch.zeros(0, self.encoders[name].embedding, device=self.device)
                    own[name] = nothing, torch.zeros(0, dtype=torch.int64, device=self.device)
                    if self._taught(name):
                        keys[name] = own[name]
                    if self.plan.loss.spec.sequences:
                        own[name + STEPS], beside[name] = own[name], own[name]
                    continue
                ready, rows = self.encoders[name].ready(stream, augmentations.get(name), generator)
                if self.plan.loss.spec.sequences:
                    own[name], own[name + STEPS], beside[name] = self._sequence(name, ready, rows, step)
                    continue
                own[name] = self.encoders[name].embed(ready, section.micro_batch, step), rows
                if self.sides is not None and self._taught(name):
                    keys[name] = self.sides.key(name, ready, section.micro_batch, step), rows
        if beside:
            self._even(own, beside)
        gathered = self._gathered = self.ranks.gather(own, n)
        with torch.no_grad():
            taught = self.ranks.gather(keys, n).whole if keys else {}
            when = self.ranks.gather(beside, n).whole if beside else {}
        return {
            name: Embedded(gathered.whole[name], gathered.rows[name], taught.get(name), _steps(gathered, when, name))
            for name in self.plan.contrasted
        }

    def _in_step(self, batch: Batch) -> dict[str, InStep]:
        """How ranks send each modality of a batch through its network, where they exchange something meanwhile."""
        section = self.plan.recipe.pretrain
        return in_step_of(batch, self.plan.contrasted, self.ranks, section.sync_batchnorm, section.shard)

    def _sequence(self, name: str, ready: Stream, rows: Tensor, step: InStep | None) -> tuple[tuple[Tensor, Tensor], ...]:
        """A modality's embeddings, those of its steps [n, T', W], and when these are in seconds [n, T'], −1 where none is real; each with its rows."""
        encoder = self.encoders[name]
        z, steps, real = encoder.embed_sequence(ready, self.plan.recipe.pretrain.micro_batch, step)
        stride = ready.steps.shape[1] / steps.shape[1] / float(encoder.layout.rate or 1.0)
        times = (torch.arange(steps.shape[1], device=z.device, dtype=torch.float32) + 0.5) * stride
        return (z, rows), (steps, rows), (torch.where(real, times, -1.0), rows)

    def _even(self, own: dict[str, tuple[Tensor, Tensor]], beside: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Give every rank as many steps of each modality, and lay each row's steps side by side, so that they can be gathered."""
        longest = self.ranks.agree(*(when.shape[1] if len(rows) else 0 for when, rows in beside.values()))
        for (name, (when, rows)), most in zip(list(beside.items()), longest, strict=True):
            steps, _ = own[name + STEPS]
            if len(rows) == 0:
                own[name + STEPS] = steps.flatten(1), rows
            else:
                room = most - when.shape[1]
                own[name + STEPS] = functional.pad(steps, (0, 0, 0, room)).flatten(1), rows
                beside[name] = functional.pad(when, (0, room), value=-1.0), rows

    def _taught(self, name: str) -> bool:
        """Whether a modality's candidates come from a teacher: not while validating."""
        return self.sides is not None and name in self.sides.teachers and torch.is_grad_enabled()

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

    def stepped(self, encoded: Mapping[str, Embedded], items: Items) -> None:
        """Teachers follow, and queues take the batch in."""
        if self.sides is not None:
            self.sides.stepped(self.encoders, encoded, items.row, items.view)


class Pretext:
    """One network of all modalities, learned by a task of its own. Its loss is a mean over recordings, of which each rank has some."""

    def __init__(self, unit: Unit, device: torch.device, ranks: Ranks = ALONE) -> None:
        plan, prepared = unit.plan, unit.prepared
        self.plan, self.device, self.ranks = plan, device, ranks
        self.joint = fresh_joint(plan, prepared.stores, unit.fold.train, *unit.address)
        self.model = nn.ModuleDict({JOINT: self.joint})
        _beside_sampler(self.model, unit, {JOINT: self.joint.width})
        self.model.to(device)
        self._part: Tensor | None = None
        self._exchanges = False

    def forward(self, batch: Batch, n: int, augmentations: Augmentations, generator: torch.Generator | None) -> Scored | None:
        """All modalities together; a pretext scores itself what it makes of them. None where this rank has no rows."""
        own, section = len(batch.items.row), self.plan.recipe.pretrain
        step = InStep(self.ranks, self.ranks.shares(n), section.sync_batchnorm)
        self._exchanges = step.exchanges(self.joint)
        if own == 0 and not self._exchanges:
            return None
        seen = (
            batch
            if own
            else filler_of(batch, {name: one.measured for name, one in self.joint.layouts.items()}, self.joint.layouts)
        )
        with arithmetic(section.precision, self.device), step.norms(self.joint, own, n):
            scored = self.joint.learn(seen, self.device, augmentations if own else {}, generator)
        return scored if own else Scored(scored.loss, scored.loss.new_zeros(()))

    def objective(self, encoded: Scored | None, items: Items) -> Objective:
        """The pretext's loss, under its name where pairs would stand; of several ranks without its metrics."""
        name = given(self.plan.pretext).use
        if self.ranks.size == 1:
            assert encoded is not None
            self._part = encoded.loss
            return Objective(loss=encoded.loss, pairs={name: {"loss": encoded.loss.detach(), **encoded.metrics}})
        self._part, anchors = weighted(encoded.loss if encoded else None, encoded.anchors if encoded else 0, self.ranks)
        loss = self.ranks.sum_of(torch.zeros(()) if self._part is None else self._part)
        if encoded is not None and self._part is None and anchors and self._exchanges:  # the others wait for its backward pass
            self._part = torch.nan_to_num(encoded.loss) * 0.0
        return Objective(loss if anchors else None, {name: {"loss": loss}} if anchors else {})

    def backward(self, objective: Objective) -> None:
        """Leave the gradient in the weights."""
        self.ranks.backward(self._part, None, self.model)

    def stepped(self, encoded: Scored | None, items: Items) -> None:
        """Nothing follows the weights of a pretext."""
