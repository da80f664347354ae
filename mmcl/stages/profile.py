"""Where the time and the memory of a pretraining step go: measured on the recipe's own recordings, part by part.

Nothing is learned that is kept, and no stage reads what is written here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..api.batch import Batch
from ..api.errors import StageError
from ..engine.devices import arithmetic, pick_device
from ..engine.optim import build_optimizer
from ..engine.resources import peak_mb
from ..memory import keep_freed_memory
from ..model.augment import Augmentation
from ..model.encoder import Encoder
from ..model.windows import draw_batch
from ..objective.score import Embedded
from ..recipe.plan import Plan
from ..recipe.processor import bf16_instructions
from ..runs import RunFolder
from ..screen import progress, say
from ..seeding import address
from .composed import batches_of_epoch
from .learners import Learner, learner_of
from .pace import paces_of
from .units import Unit, units_of

MB = 2.0**20


@dataclass(frozen=True)
class Part:
    """What one part of a step takes: milliseconds (medians), and MB of what it keeps.

    kind    "modality", "objective", "optimiser", or "reading": the windows, cut beside the step
    memory  of a modality what forward keeps for backward, its weights and their gradients; of the optimiser its own state
    """

    name: str
    kind: str
    forward: float
    backward: float
    memory: float


@dataclass(frozen=True)
class Profile:
    """A step of pretraining, measured.

    steps     milliseconds of a whole step by precision, the recipe's own first
    paces     seconds that preparing takes a recording, in all modalities, by how many processes read; empty: not measured
    all       recordings that the recipe prepares
    compiled  of modalities whose networks were translated: how many times faster they are for it, or why torch cannot
    """

    name: str
    device: str
    threads: int
    precision: str
    recordings: int
    views: int
    parts: tuple[Part, ...]
    steps: Mapping[str, float]
    peak: float  # MB, the highest of the process
    paces: Mapping[int, float] = field(default_factory=dict)
    all: int = 0
    compiled: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Milliseconds of a whole step as the recipe has it."""
        return self.steps[self.precision]

    def to_json(self) -> dict[str, Any]:
        """What profile.json says."""
        parts = [vars(part) for part in self.parts]
        return {
            "format": 1,
            **vars(self),
            "parts": parts,
            "steps": dict(self.steps),
            "paces": dict(self.paces),
            "compiled": dict(self.compiled),
            "advice": self.advice(),
        }

    def advice(self) -> list[str]:
        """What the measurements say could be done, a sentence each."""
        shares = sorted((one for one in self.parts if one.kind == "modality"), key=lambda one: -(one.forward + one.backward))
        total = sum(one.forward + one.backward for one in self.parts if one.kind != "reading")
        first = shares[0]
        sentences = [
            f"{first.name}: {(first.forward + first.backward) / total:.0%} of the step; a smaller backbone or shorter windows save "
            "most there"
        ]
        if len(self.steps) > 1:
            gain = self.steps["float32"] / self.steps["bf16"]
            words = f"bf16: {gain:.1f}x here ({self.steps['float32']:.0f} ms in float32, {self.steps['bf16']:.0f} ms in bf16)"
            if gain < 1.1:
                plain = "set pretrain.precision: float32" if self.precision == "bf16" else "leave pretrain.precision: float32"
                sentences.append(f"{words}: {plain}")
            elif self.precision == "bf16":
                sentences.append(f"{words}: in use")
            else:
                sentences.append(f"{words}: pretrain.precision: auto, if scores of a few seeds hold")
        else:
            sentences.append("bf16: the processor has no instructions for it")
        reading = next(one.forward for one in self.parts if one.kind == "reading")
        if reading < self.step:
            sentences.append(f"windows: {reading:.0f} ms a batch, cut beside a step of {self.step:.0f} ms: nothing to gain")
        else:
            sentences.append(f"windows: {reading:.0f} ms a batch, longer than the step itself: shorter ones, or fewer `views`")
        return [*sentences, *self._on_workers(), *self._on_compiling()]

    def _on_workers(self) -> Iterator[str]:
        """How many processes should read recordings."""
        if not self.paces:
            return
        least = min(self.paces, key=lambda count: self.paces[count])
        best = least if self.paces[1] > 1.1 * self.paces[least] else 1
        took = ", ".join(f"{1e3 * pace:.1f} ms a recording with {count}" for count, pace in sorted(self.paces.items()))
        yield f"workers: {best} ({took}; {self.all:,} recordings take about {self.paces[best] * self.all:,.0f} s to prepare)"

    def _on_compiling(self) -> Iterator[str]:
        """Which networks torch.compile makes faster."""
        for name, gain in self.compiled.items():
            if isinstance(gain, str):
                yield f"compile: {gain}"
            else:
                yield f"compile: {name} {gain:.1f}x here: {'leave it as it is' if gain < 1.1 else f'pretrain.compile: [{name}]'}"


def profile(plan: Plan, run: RunFolder, device: str = "auto", steps: int = 5, compiling: bool = False) -> Profile:
    """The step of the first fold and seed of a prepared run.

    steps      how many are measured of everything, after one that is not
    compiling  measure, too, what torch.compile makes of each network, which takes a minute for each

    Raises StageError if nothing is pretrained.
    """
    section = plan.recipe.pretrain
    if section.epochs == 0:
        raise StageError("profile: pretrain.epochs is 0, so there is no step to measure; set it to 1 or more")
    keep_freed_memory()
    where = pick_device(device)
    unit = units_of(plan, run)[0]
    batches = batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=0)[:4]
    other = "float32" if section.precision == "bf16" else "bf16"
    able = other == "float32" or where.type == "cuda" or bf16_instructions() is not None
    ways = {precision: _Way(unit, precision, where) for precision in (section.precision, *([other] if able else []))}
    read, drawn = _read(unit, batches, steps)
    whole: dict[str, list[float]] = {precision: [] for precision in ways}
    parts: list[list[Part]] = []
    with progress("profile", steps + 1) as tick:
        for turn in range(steps + 1):  # all in turn, so that a machine that slows down slows all of them
            batch = drawn[turn % len(drawn)]
            for precision, way in ways.items():
                took = way.step(batch, turn)
                whole[precision] += [took] if turn else []
            parts += [ways[section.precision].parts(batch, turn)] if turn else []
            tick(turn + 1, f"step {turn + 1}")
    kept = ways[section.precision].kept(drawn[0])
    compiled = _compiled(unit, ways[section.precision], where, drawn, steps) if compiling else {}
    paces, count = paces_of(plan, run)
    middle = [
        replace(
            one,
            forward=statistics.median(each[k].forward for each in parts),
            backward=statistics.median(each[k].backward for each in parts),
            memory=kept.get(one.name, 0.0),
        )
        for k, one in enumerate(parts[0])
    ]
    return Profile(
        name=plan.name,
        device=str(where),
        threads=torch.get_num_threads(),
        precision=section.precision,
        recordings=max(len(one) for one in batches),
        views=len(section.shares),
        parts=(*middle, Part("windows", "reading", read, 0.0, _size(_tensors(drawn[0])) / MB)),
        steps={precision: statistics.median(times) for precision, times in whole.items()},
        peak=peak_mb(),
        paces=paces,
        all=count,
        compiled=compiled,
    )


def _read(unit: Unit, batches: Sequence[Sequence[int]], steps: int) -> tuple[float, list[Batch]]:
    """Milliseconds to cut the windows of a batch, the median, and batches."""
    drawn, took = [], []
    for k in range(steps + 1):
        began = time.perf_counter()
        rng = np.random.default_rng(address(*unit.address, "window", 0, k))
        rows, views = batches[k % len(batches)], unit.plan.recipe.pretrain.shares
        drawn.append(draw_batch(unit.plan, unit.prepared.stores, rows, views, rng))
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took[1:]), drawn[: len(batches)]


def _compiled(unit: Unit, plain: _Way, device: torch.device, drawn: Sequence[Batch], steps: int) -> dict[str, float | str]:
    """How many times faster each network is as torch translates it, measured in turn with the same network as it is written; or why it cannot be."""
    gains: dict[str, float | str] = {}
    recipe = unit.plan.recipe
    names = [m.name for m in unit.plan.modalities if m.name in unit.plan.contrasted and (not m.layout.timed or m.layout.rate)]
    if recipe.window.seconds is None or recipe.pretrain.pretext is not None:
        names = [m.name for m in unit.plan.modalities if m.name in unit.plan.contrasted and not m.layout.timed]
    for name in names if recipe.pretrain.pretext is None else ():
        say(f"profile: torch.compile translates the network of {name}")
        way = _Way(unit, recipe.pretrain.precision, device, compiling=(name,))
        pairs = []
        try:
            for turn in range(steps + 1):
                batch = drawn[turn % len(drawn)]
                one, other = way.alone(name, batch, turn)[0], plain.alone(name, batch, turn)[0]
                pairs.append((one.forward + one.backward, other.forward + other.backward))
        except StageError as error:
            gains[name] = str(error)
            continue
        if cast(Encoder, way.learner.model[name]).translated:
            gains[name] = statistics.median(b / a for a, b in pairs[1:])
        else:
            gains[name] = f"no batch has all of {name} in whole windows, so its network would never be translated"
    return gains


class _Way:
    """A learner in one precision, and its optimiser."""

    def __init__(self, unit: Unit, precision: str, device: torch.device, compiling: tuple[str, ...] | None = None) -> None:
        section = unit.plan.recipe.pretrain
        names = section.compile if compiling is None else compiling
        section = section.model_copy(update={"precision": precision, "compile": names})
        plan = replace(unit.plan, recipe=unit.plan.recipe.model_copy(update={"pretrain": section}))
        self.plan, self.device = plan, device
        self.learner: Learner = learner_of(replace(unit, plan=plan), device)
        self.learner.model.train()
        self.optimizer = build_optimizer(section.optimizer, self.learner.model)
        self.augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}

    def step(self, batch: Batch, turn: int) -> float:
        """Milliseconds of one step, as `pretrain` takes it."""
        began = self._now()
        encoded = self._forward(batch, turn)
        objective = self.learner.objective(encoded, batch.items)
        self.optimizer.zero_grad(set_to_none=True)
        if objective.loss is not None:
            self.learner.backward(objective)
        self.optimizer.step()
        self.learner.stepped(encoded, batch.items)
        return self._now() - began

    def parts(self, batch: Batch, turn: int) -> list[Part]:
        """The same step, one part after the other."""
        taken: list[Part] = []
        self.optimizer.zero_grad(set_to_none=True)
        if self.plan.pretext is not None:
            began = self._now()
            objective = self.learner.objective(self._forward(batch, turn), batch.items)
            between = self._now()
            if objective.loss is not None:
                self.learner.backward(objective)
            return [self._part("all modalities", "modality", began, between), self._stepped()]
        embedded = {}
        for name in self.plan.contrasted:
            part, embedded[name] = self.alone(name, batch, turn)
            taken.append(part)
        began = self._now()
        objective = self.learner.objective(embedded, batch.items)
        between = self._now()
        if objective.loss is not None:
            torch.autograd.backward(objective.loss)
        taken.append(self._part("pairs", "objective", began, between))
        return [*taken, self._stepped()]

    def alone(self, name: str, batch: Batch, turn: int) -> tuple[Part, Embedded]:
        """One modality's encoder, forward and backward; what it gives."""
        began = self._now()
        one = self._encode(name, batch, turn)
        between = self._now()
        if one.z.requires_grad and len(one.z):
            torch.autograd.backward(one.z, one.z.detach() / max(1, one.z.numel()))
        part = self._part(name, "modality", began, between)
        return part, Embedded(z=one.z.detach().requires_grad_(), rows=one.rows)

    def kept(self, batch: Batch) -> dict[str, float]:
        """MB that each part holds while a step runs."""
        model, held = self.learner.model, {}
        state = [value for each in self.optimizer.state.values() for value in each.values() if isinstance(value, Tensor)]
        held["optimiser"] = _size(state) / MB
        names = list(self.plan.contrasted) if self.plan.pretext is None else ["all modalities"]
        for name in names:
            module = model[name] if self.plan.pretext is None else model
            weights = list(module.parameters())
            with _saved() as saved:
                result = self._encode(name, batch, 0) if self.plan.pretext is None else self._forward(batch, 0)
            del result
            mine = {one.untyped_storage().data_ptr() for one in weights}
            waiting = sum(size for place, size in saved.items() if place not in mine)
            held[name] = (waiting + 2 * _size(weights)) / MB
        return held

    def _forward(self, batch: Batch, turn: int) -> Any:
        return self.learner.forward(batch, len(batch.items.row), self.augmentations, self._generator(turn))

    def _encode(self, name: str, batch: Batch, turn: int) -> Embedded:
        """One modality's embeddings, as `pretrain` takes them."""
        with arithmetic(self.plan.recipe.pretrain.precision, self.device):
            stream = batch.streams[name].to(self.device)
            encoder = cast(Encoder, self.learner.model[name])
            ready, rows = encoder.ready(stream, self.augmentations.get(name), self._generator(turn))
            return Embedded(z=encoder.embed(ready, self.plan.recipe.pretrain.micro_batch), rows=rows)

    def _generator(self, turn: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(turn)

    def _stepped(self) -> Part:
        began = self._now()
        self.optimizer.step()
        return self._part("optimiser", "optimiser", began, self._now())

    def _part(self, name: str, kind: str, began: float, between: float) -> Part:
        after = self._now() if kind != "optimiser" else between
        return Part(name, kind, between - began, after - between, 0.0)

    def _now(self) -> float:
        """Milliseconds; a graphics processor has done what was asked of it by then."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * time.perf_counter()


@contextmanager
def _saved() -> Iterator[dict[int, int]]:
    """Bytes that forward keeps for backward, by where they lie."""
    seen: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield seen


def _tensors(batch: Batch) -> list[Tensor]:
    return [stream.values for stream in batch.streams.values()]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(one.untyped_storage().nbytes() for one in tensors)
