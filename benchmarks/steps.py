"""A whole training step: every modality encoded, every pair contrasted, gradients, and a step of SGD with momentum."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks import parts, plain
from benchmarks.side_by_side import Row, compare, devices
from mmcl.api import Items
from mmcl.engine.optim import build_optimizer
from mmcl.objective.score import Embedded, score
from mmcl.plugins import plugins
from mmcl.recipe.schema import Sgd

SGD = Sgd(use="sgd", lr=1e-3, momentum=0.9, weight_decay=1e-3)


def ours(sides: Sequence[parts.Side], precision: str) -> Callable[[], None]:
    """A step of the toolkit's parts."""
    model = torch.nn.ModuleDict({side.name: side.ours for side in sides}).train()
    optimizer = build_optimizer(SGD, model)
    offers = plugins()
    loss, positives = (offers.get(kind, name).spec for kind, name in (("loss", "info-nce"), ("positives", "same-sample")))
    loss, positives = loss.build(loss.params(temperature=0.07)), positives.build(positives.params())
    rows = torch.arange(len(sides[0].stream.present), device=sides[0].stream.values.device)
    items, pairs = Items(rows, torch.zeros_like(rows)), list(itertools.combinations(model, 2))

    def step() -> None:
        embedded = {side.name: Embedded(side.encode_ours(precision), rows) for side in sides}
        objective = score(embedded, items, pairs, positives, loss).loss
        assert objective is not None
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(objective)
        optimizer.step()

    return step


def twin(sides: Sequence[parts.Side], low: bool = False) -> Callable[[], None]:
    """The same step of plain parts, in float32 or under bf16 autocast."""
    model = torch.nn.ModuleList([side.plain for side in sides]).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3)
    device = sides[0].stream.values.device.type

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=low):
            embeddings = [side.encode_plain() for side in sides]
        optimizer.zero_grad()
        plain.contrast([one.float() for one in embeddings]).backward()
        optimizer.step()

    return step


def measured(name: str, sides: Callable[[], list[parts.Side]], rounds: int, floor: float, aim: float) -> Iterator[Row]:
    """float32 and bf16 against plain float32, for the whole step."""
    for device in devices():
        for precision in ("float32", "bf16"):
            both = [side.to(device) for side in sides()]
            apart = max(parts.check_equal(side) for side in both)
            ratio = compare(ours(both, precision), twin(both), rounds, device)
            rows = len(both[0].stream.present)
            wanted = (floor, aim) if precision == "bf16" else (None, None)
            yield Row(f"{name}, batch {rows}, {precision}, {device}", ratio, *wanted, {"differs": apart})


def step_mosei() -> Iterator[Row]:
    """Voice, landmarks, face and words of one second. A batch of 4 on a processor, where R(2+1)D takes 2 s a clip."""
    rows = 32 if torch.cuda.is_available() else 4
    yield from measured(
        "step-mosei-4mod",
        lambda: [parts.audio(rows, 30), parts.landmarks(rows, 30), parts.video(rows), parts.text([30] * rows)],
        3,
        3.5,
        5.0,
    )


def step_ravdess() -> Iterator[Row]:
    """Voice and landmarks of three seconds."""
    yield from measured("step-ravdess", lambda: [parts.audio(32, 90), parts.landmarks(32, 90)], 5, 2.8, 4.0)
    for name, side in (("audio", parts.audio), ("landmarks", parts.landmarks)):
        for precision in ("float32", "bf16"):
            yield _part(name, side(32, 90), precision)


def _part(name: str, side: parts.Side, precision: str) -> Row:
    """One modality's share: forward and backward."""
    side.ours.train()
    side.plain.train()
    ratio = compare(
        lambda: side.encode_ours(precision).float().square().mean().backward(),
        lambda: side.encode_plain().square().mean().backward(),
        5,
    )
    return Row(f"  {name} alone, {precision}, cpu", ratio)


WORKLOADS = {"step-mosei-4mod": step_mosei, "step-ravdess": step_ravdess}
