"""Training steps in 1, 2 and 4 processes by gloo, one thread each: time on the clock, processor time, and how much of them is exchange."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmarks.side_by_side import Row
from mmcl.engine.ranks import Gathered, Ranks
from mmcl.workers import fork_context

ROWS, STEPS, INPUT, WIDTH, EMBEDDING = 256, 12, 512, 1024, 128
"""Rows of the whole batch; steps; sizes of an encoder of three layers (1.7 million weights), of which there are two."""
SIZES = (1, 2, 4)


def encoder() -> nn.Module:
    """From [n, INPUT] to [n, EMBEDDING]."""
    return nn.Sequential(nn.Linear(INPUT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, EMBEDDING))


class Timed(Ranks):
    """Counts what gathering and adding up take."""

    seconds = used = 0.0  # on the clock, and of this process's processor

    def gather(self, own: dict[str, tuple[Tensor, Tensor]], n: int) -> Gathered:  # type: ignore[override]  # it is called with a dict alone
        """As it is, timed."""
        began, used = time.perf_counter(), time.process_time()
        gathered = super().gather(own, n)
        self.seconds += time.perf_counter() - began
        self.used += time.process_time() - used
        return gathered

    def _add_up(self, weights: object) -> None:
        began, used = time.perf_counter(), time.process_time()
        super()._add_up(weights)  # type: ignore[arg-type]  # handed on as it comes
        self.seconds += time.perf_counter() - began
        self.used += time.process_time() - used


def work(rank: int, size: int, folder: Path) -> None:
    """One process: steps of two encoders and a softmax over the whole batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=5))
    ranks, model = Timed(rank, size, store), nn.ModuleDict({"left": encoder(), "right": encoder()})
    mine = ranks.share(ROWS)
    streams = {name: torch.randn(ROWS, INPUT)[mine] for name in model}
    rows = torch.arange(len(streams["left"]))
    each, cpu, exchange, exchanging = [], [], [], []
    for _ in range(STEPS):
        dist.barrier()
        ranks.seconds = ranks.used = 0.0
        began, used = time.perf_counter(), time.process_time()
        gathered = ranks.gather({name: (model[name](values), rows) for name, values in streams.items()}, ROWS)
        unit = {name: nn.functional.normalize(z, dim=-1) for name, z in gathered.whole.items()}
        loss = nn.functional.cross_entropy(unit["left"] @ unit["right"].T / 0.1, torch.arange(ROWS))
        model.zero_grad(set_to_none=True)
        ranks.backward(loss, gathered, model)
        each.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        exchange.append(ranks.seconds)
        exchanging.append(ranks.used)
    figures = [statistics.median(values[2:]) for values in (each, cpu, exchange, exchanging)]
    (folder / f"{rank}.json").write_text(json.dumps(figures))
    dist.barrier()
    dist.destroy_process_group()


def ranks() -> Iterator[Row]:
    """A row for each number of processes; on fewer cores than processes they wait for each other."""
    context = fork_context(["mmcl.engine.ranks"])
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            processes = [context.Process(target=work, args=(rank, size, Path(folder))) for rank in range(size)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            figures = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(size)]
        wall, cpu, exchange, exchanging = (1000 * max(values) for values in zip(*figures, strict=True))
        facts = {
            "ms a step": wall,
            "processor ms, the busiest": cpu,
            "ms of exchange": exchange,
            "processor ms of exchange, the busiest": exchanging,
        }
        yield Row(f"ranks, {size} process{'es' * (size > 1)}, {ROWS} rows", facts=facts)


WORKLOADS = {"ranks": ranks}
