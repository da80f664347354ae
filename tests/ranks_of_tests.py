"""What the processes of tests/test_ranks.py do: the same batches in one process and shared out, value and gradient compared.

A file of its own, as processes that are started import it.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from mmcl.api.batch import Batch, Items, Stream
from mmcl.engine.batch_norm import OverRanks
from mmcl.engine.ranks import ALONE, Gathered, Ranks
from mmcl.model import network as network_of
from mmcl.model.windows import draw_batch, items_of
from mmcl.recipe.plan import Plan
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder
from mmcl.stages import supervise
from mmcl.stages.learners import learner_of
from mmcl.stages.units import Unit, units_of
from mmcl.workers import fork_context

RECIPE = """\
format: 1
name: ranks
seed: 3
dataset: {use: toy, samples: 36, speakers: 6}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [6], width: 5, dropout: 0}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: mlp, hidden: [6], width: 5, dropout: 0}}
  landmarks: {features: {use: face-landmarks}, backbone: {use: linear-1d}}
scores: {mood: {use: va-labels, task: emotion}}
window: {seconds: 0.3}
projection: {hidden: 6, width: 4}
pretrain: {batch_size: 9, epochs: 1}
protocol: {use: official}
"""
MOST = 4
"""Processes; smaller launches are some of them."""
PATTERNS = ("complete", "absent on one rank", "one shared row", "nothing shared")
"""Who lacks what in a batch, whatever the recordings have."""


@dataclass(frozen=True)
class Case:
    """One batch in one way."""

    overrides: tuple[str, ...]
    pattern: str
    rows: int = 9
    views: int = 1
    micro_batch: int | None = None
    double: bool = True

    @property
    def plan(self) -> Plan:
        sets = (*self.overrides, f"pretrain.views={self.views}")
        sets += () if self.micro_batch is None else (f"pretrain.micro_batch={self.micro_batch}",)
        return make_plan(parse_recipe(RECIPE, "ranks.yaml", sets), overrides=sets)


def cut(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    streams = {name: Stream(one.values[rows], one.steps[rows], one.present[rows]) for name, one in batch.streams.items()}
    return Batch(Items(batch.items.row[rows], batch.items.view[rows]), streams)


def spoilt(batch: Batch, pattern: str, double: bool) -> Batch:
    """A batch with its modalities taken away from some rows."""
    n = len(batch.items.row)
    here = {name: torch.ones(n, dtype=torch.bool) for name in batch.streams}
    if pattern == "absent on one rank":
        here["text"][: n // 2] = False
    elif pattern == "one shared row":
        here["text"][1:] = False
    elif pattern == "nothing shared":
        for k, name in enumerate(here):
            here[name][:] = torch.arange(n) % len(here) == k
    streams = {}
    for name, one in batch.streams.items():
        real = one.steps & here[name][:, None]
        values = one.values.double() if double else one.values
        streams[name] = Stream(values * real.view(n, -1, *[1] * (values.ndim - 2)), real, here[name])
    return Batch(batch.items, streams)


class Trial:
    """A batch, and what one process makes of it."""

    def __init__(self, case: Case, unit: Unit) -> None:
        plan = case.plan
        rows = list(unit.fold.train)[: case.rows]
        whole = draw_batch(plan, unit.prepared.stores, rows, case.views, np.random.default_rng(0))
        self.batch, self.items = spoilt(whole, case.pattern, case.double), items_of(rows, case.views)
        self.learner = learner_of(replace(unit, plan=plan), torch.device("cpu"))
        if case.double:
            self.learner.model.double()
        self.learner.model.train()
        sides = getattr(self.learner, "sides", None)
        for queue in sides.queues.values() if sides is not None else ():  # as other batches left it
            rng = torch.Generator().manual_seed(len(queue.z))
            n = len(queue.z) - 2
            queue.take(torch.randn(n, queue.z.shape[1], generator=rng), torch.arange(n) * 2, torch.zeros(n, dtype=torch.int64))
        self.before = {name: value.clone() for name, value in self.learner.model.state_dict().items()}
        self.double = case.double
        self.loss, self.expected = self.gradients(ALONE)

    def gradients(self, ranks: Ranks) -> tuple[float | None, dict[str, Tensor | None]]:
        """The loss of the batch, of which each rank has its share, every weight's gradient, and what stays for the next batch."""
        self.learner.model.load_state_dict(self.before)
        learner, n = self.learner, len(self.items.row)
        learner.ranks = ranks
        learner.model.zero_grad(set_to_none=True)
        encoded = learner.forward(cut(self.batch, ranks.share(n)), n, {}, None)
        torch.manual_seed(0)  # as a step does: some losses draw
        objective = learner.objective(encoded, self.items)
        if objective.loss is not None:
            learner.backward(objective)
        loss = None if objective.loss is None else float(objective.loss.detach())
        learner.stepped(encoded, self.items)
        kept = dict(sides.queues.named_buffers()) if (sides := getattr(learner, "sides", None)) is not None else {}
        if learner.plan.recipe.pretrain.sync_batchnorm:  # else each rank has its own
            kept |= {name: value for name, value in learner.model.named_buffers() if "running" in name or "tracked" in name}
        grads = {name: weight.grad for name, weight in learner.model.named_parameters()}
        return loss, {**grads, **{name: value.to(torch.float64, copy=True) for name, value in kept.items()}}

    def reference(self, ranks: Ranks) -> tuple[float | None, dict[str, Tensor | None]]:
        """What one process has: in float32 one that encodes each rank's share by itself, as a matrix product of three rows rounds otherwise than one of nine."""
        if self.double or self.learner.plan.recipe.pretrain.sync_batchnorm:  # then a share means nothing by itself
            return self.loss, self.expected
        with encoded_in_shares(self.learner, self.batch, ranks):
            loss, expected = self.gradients(ALONE)
        return loss, {name: None if value is None else value.clone() for name, value in expected.items()}

    def difference(self, ranks: Ranks) -> float:
        """The largest difference of the loss and of any gradient between one process and this launch, relative to the largest gradient."""
        (loss, expected), (value, got) = self.reference(ranks), self.gradients(ranks)
        without = [{name for name, grad in grads.items() if grad is None} for grads in (expected, got)]
        if (loss is None) != (value is None) or without[0] != without[1]:
            return float("inf")
        if loss is None or value is None:
            return 0.0
        both = [(e, g) for e, g in zip(expected.values(), got.values(), strict=True) if e is not None and g is not None]
        largest = max([1e-3, *(float(e.abs().max()) for e, _ in both)])
        return max(abs(loss - value) / max(1.0, abs(loss)), *(float((g - e).abs().max()) / largest for e, g in both))


@contextmanager
def encoded_in_shares(learner: Any, batch: Batch, ranks: Ranks) -> Iterator[None]:
    """One process meanwhile sends each rank's share of a batch through its networks by itself, and scores all of it as ever."""
    n = len(batch.items.row)
    stops = [Ranks._share_of(ranks, rank, n).stop for rank in range(ranks.size)]

    def parted(encode: Any, name: str, ready: Stream, *more: Any) -> Any:
        ends = [0, *(int(batch.streams[name].present[:stop].sum()) for stop in stops)]
        pieces = [slice(*one) for one in itertools.pairwise(ends) if one[1] > one[0]]
        outputs = [encode(Stream(ready.values[one], ready.steps[one], ready.present[one]), *more) for one in pieces]
        return tuple(map(torch.cat, zip(*outputs, strict=True))) if isinstance(outputs[0], tuple) else torch.cat(outputs)

    with pytest.MonkeyPatch.context() as patch:
        for name, encoder in learner.encoders.items():
            for way in ("embed", "embed_sequence"):
                patch.setattr(encoder, way, partial(parted, getattr(encoder, way), name))
        if (sides := learner.sides) is not None:
            key = sides.key
            patch.setattr(sides, "key", lambda name, ready, *more: parted(partial(key, name), name, ready, *more))
        yield


# ------------------------------------------------------------------------------------------------------ planted faults


class NoGradient(Ranks):
    """Gathers embeddings without a way back for gradients."""

    def backward(self, loss: Tensor | None, gathered: Gathered | None, model: Any) -> None:
        super().backward(loss, gathered and replace(gathered, own={}), model)


class NotAddedUp(Ranks):
    """Sums nothing backwards."""

    def _add_up(self, weights: Any) -> None:
        pass


class MeanOfRanks(Ranks):
    """Divides gradients by the number of ranks, as averaging them does."""

    def _add_up(self, weights: Any) -> None:
        super()._add_up(weights)
        for weight in weights:
            if weight.grad is not None:
                weight.grad /= self.size


class LocalRows(Ranks):
    """Takes each rank's rows for those of the batch, so that labels belong to others."""

    def gather(self, own: Any, n: int) -> Gathered:
        gathered = super().gather(own, n)
        for name, rows in gathered.rows.items():
            gathered.rows[name] = rows % -(-n // self.size)
        return gathered


class MeanOfMeans(Ranks):
    """Scores each rank's rows by themselves and takes the mean of that."""

    def gather(self, own: Any, n: int) -> Gathered:
        rows = {name: rows + self.share(n).start for name, (_, rows) in own.items()}
        return Gathered({name: z for name, (z, _) in own.items()}, rows)

    def backward(self, loss: Tensor | None, gathered: Gathered | None, model: Any) -> None:
        super().backward(None if loss is None else loss / self.size, None, model)


class WeightsOfAll(Ranks):
    """Adds up what every rank knows of the objective's own weights."""

    def backward(self, loss: Tensor | None, gathered: Gathered | None, model: Any) -> None:
        self.rank, rank = 0, self.rank
        try:
            super().backward(loss, gathered, model)
        finally:
            self.rank = rank


class OthersLast(Ranks):
    """Gives each rank the rows of the next one."""

    def share(self, n: int) -> slice:
        return self._share_of((self.rank + 1) % self.size, n)


class NormsOneWay(Ranks):
    """Shares batch norms' statistics and not their gradient."""

    def add_up(self, value: Tensor) -> None:
        pass


class MeanOfRankMeans(Ranks):
    """Counts every rank's rows alike in the statistics of batch norms."""

    def every(self, value: Tensor) -> Tensor:
        table = super().every(value)
        if value.dtype == torch.float64:  # count, whether it is a batch, means, squares
            counts = table[:, :1].clone()
            squares = 2 + (table.shape[1] - 2) // 2
            alike = (counts > 0) * counts.sum() / (counts > 0).sum()
            table[:, squares:] *= alike / counts.clamp_min(1)
            table[:, :1] = alike
        return table


KINDS: Mapping[str, type[Ranks]] = {
    kind.__name__: kind
    for kind in (Ranks, NoGradient, NotAddedUp, MeanOfRanks, LocalRows, MeanOfMeans, WeightsOfAll, OthersLast)
}
OF_NORMS: Mapping[str, type[Ranks]] = {kind.__name__: kind for kind in (NormsOneWay, MeanOfRankMeans)}


def measure(
    prepared: Path,
    cases: list[Case],
    sizes: tuple[int, ...],
    kinds: tuple[str, ...] = ("Ranks",),
    turns: bool = False,
    sound: Sequence[Case] = (),
) -> list[tuple[str, int, Case, float]]:
    """The difference of every case in launches of every size, the largest of its ranks.

    turns  each case is tried in one size, in turns
    sound  further cases, without any fault
    """
    tried = [
        (kind, size, k)
        for k in range(len(cases))
        for kind in kinds
        for size in ((sizes[k // 3 % len(sizes)],) if turns else sizes)
    ]
    tried += [("Ranks", size, k) for k in range(len(cases), len(cases) + len(sound)) for size in sizes]
    cases = [*cases, *sound]
    answers = launched(work, MOST, prepared, cases, tried)
    return [(kind, size, cases[k], max(answers[rank][f"{kind} {size} {k}"] for rank in range(size))) for kind, size, k in tried]


def launched(target: Any, size: int, *given: Any) -> list[Any]:
    """What processes of a launch have written in RANK.json, each of which was given its rank, a folder and `given`."""
    context = fork_context(["mmcl.stages.loaded"])
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=target, args=(rank, Path(folder), *given)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
            process.kill()
        assert [process.exitcode for process in processes] == [0] * size, "a process ended with an error, which stands above"
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(size)]


def work(rank: int, folder: Path, prepared: Path, cases: list[Case], tried: list[tuple[str, int, int]]) -> None:
    """One process of `measure`."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), MOST)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=MOST, timeout=timedelta(minutes=5))
    groups = {size: dist.new_group(list(range(size))) for size in range(1, MOST + 1)}
    unit = units_of(cases[0].plan, RunFolder(prepared))[0]
    answers = {}
    for k, group in itertools.groupby(tried, key=lambda one: one[2]):
        mine = [(kind, size) for kind, size, _ in group if rank < size]
        trial = Trial(cases[k], unit) if mine else None
        for kind, size in mine:
            assert trial is not None
            answers[f"{kind} {size} {k}"] = trial.difference({**KINDS, **OF_NORMS}[kind](rank, size, store, group=groups[size]))
    (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.barrier()
    dist.destroy_process_group()


# --------------------------------------------------------------------------------------------- layers, and what has labels


class OneRow(nn.BatchNorm1d):
    """As backbones have it: its running statistics for a batch of one row."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


LAYERS = {
    "1d": lambda: nn.BatchNorm1d(4),
    "1d over time": lambda: nn.BatchNorm1d(4),
    "2d": lambda: nn.BatchNorm2d(4, momentum=None),
    "3d": lambda: nn.BatchNorm3d(4, affine=False),
    "that knows no past": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "that knows nothing": lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
    "with its own rule for one row": lambda: OneRow(4),
}
SHAPES = {"1d over time": (4, 6), "2d": (4, 3, 2), "3d": (4, 2, 2, 2), "that knows no past": (4, 2, 3)}
SHARES = ((4, 2, 1), (3, 0, 2), (0, 0, 1), (1, 1, 0))
"""Rows of each of three ranks."""


def layers(rank: int, folder: Path) -> None:
    """One process: layers of all kinds between two others, their rows shared out, beside what one process has."""
    ranks, answers = _joined(rank, folder, 3), {}
    for name, shares in itertools.product(LAYERS, SHARES):
        if sum(shares) == 1 and name != "with its own rule for one row" and name not in ("2d", "3d"):
            continue  # torch has no answer either, or none but its own
        torch.manual_seed(0)
        shape = SHAPES.get(name, (4,))
        values, towards = (torch.randn(sum(shares), *shape, dtype=torch.float64) * 3 + 2 for _ in range(2))
        both = []
        for alone in (True, False):
            torch.manual_seed(1)
            norms = nn.Sequential(LAYERS[name](), LAYERS[name]()).double().train()
            first = nn.Parameter(torch.ones(4, dtype=torch.float64))
            own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
            mine = values if alone else values[own] if shares[rank] else torch.full((1, *shape), 1e3, dtype=torch.float64)
            context = nullcontext() if alone else OverRanks(norms, ranks, shares[rank], sum(shares))
            with context:
                output = norms(mine * first.view(1, 4, *[1] * (len(shape) - 1)))
            wanted = towards if alone else towards[own]
            loss = (output[: len(wanted)].sin() * wanted).sum()
            loss.backward()
            weights = [first, *norms.parameters()]
            if not alone:
                for weight in weights:
                    ranks.add_up(weight.grad)
            kept = [value.double() for value in norms.buffers()]
            both.append([*(weight.grad for weight in weights), *kept])
            if shares[rank] or alone:
                both[-1].append(output[own] if alone else output)
        if not shares[rank]:
            both[0].pop()
        answers[f"{name} {shares}"] = max(
            float((a - b).abs().max() / a.abs().max().clamp_min(1))
            for a, b in zip(*both, strict=True)
            if len(a.shape) == 0 or len(a)
        )
    _answered(rank, folder, answers)


def labelled(rank: int, folder: Path, prepared: Path, sets: tuple[str, ...]) -> None:
    """One process: a network with a head learns labels, its rows shared out, beside what one process has."""
    ranks, answers = _joined(rank, folder, 3), {}
    plan = Case(sets, "complete").plan
    unit = units_of(plan, RunFolder(prepared))[0]
    for k, model in enumerate(supervise._models(plan.supervised)):
        for pattern, count in (("complete", 7), ("absent on one rank", 7), ("one shared row", 5), ("complete", 2)):
            rows = list(unit.fold.train)[:count]
            batch = spoilt(draw_batch(plan, unit.prepared.stores, rows, 1, np.random.default_rng(k)), pattern, True)
            both = []
            for who in (ALONE, ranks):
                network = supervise._build(unit, model).double().train()
                share = network_of.Share(who, count, who.size > 1, "float32")
                own = network_of.outputs_of(network, cut(batch, who.share(count)), share, torch.device("cpu"), {}, None, ())
                gathered = who.gather(own, count)
                output = gathered.whole[network_of.OUTPUT]
                loss = (output.sin() * torch.arange(output.numel()).view_as(output)).sum()
                who.backward(loss, gathered, network)
                grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in network.parameters()]
                both.append([output.detach(), *grads, *(value.double() for value in network.buffers())])
            largest = max(float(a.abs().max()) for a in both[0][:-1])
            answers[f"{model.stem} {pattern} {count}"] = max(
                float((a - b).abs().max()) / largest for a, b in zip(*both, strict=True)
            )
    _answered(rank, folder, answers)


def _joined(rank: int, folder: Path, size: int) -> Ranks:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=5))
    return Ranks(rank, size, store)


def _answered(rank: int, folder: Path, answers: Any) -> None:
    (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.barrier()
    dist.destroy_process_group()
