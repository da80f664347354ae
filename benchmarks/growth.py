"""What a run of ever more recordings takes, stage by stage: time and memory, each stage in a process of its own.

The clips are tiny (`benchmarks/tiny.py`), so that what is measured is what the toolkit does for each recording, and not what a
recording costs. The stages are the product's own, through its files. `MMCL_GROWTH=1000,10000` says how many clips; 1 k and 10 k otherwise.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.side_by_side import Row
from mmcl.engine.resources import peak_mb

RECIPE = """\
format: 1
name: growth
seed: [0]
dataset: {{use: tiny, clips: {clips}}}
modalities:
  left: {{features: signals, backbone: {{use: mlp, hidden: [32], width: 16}}}}
  right: {{features: signals, backbone: {{use: mlp, hidden: [32], width: 16}}}}
projection: {{hidden: 32, width: 16}}
pretrain: {{epochs: 1, batch_size: 1024, objective: {{pairs: all}}}}
probe: {{inputs: [left, all], heads: {{linear: {{use: linear}}}}}}
report: {{against: [random, majority]}}
protocol: {{use: official}}
"""

BATCH, BATCHES, AGAIN = 256, 20, 5


def _open(folder: Path) -> Callable[[], object]:
    from mmcl.data.prepared import load_prepared
    from mmcl.runs import RunFolder

    return lambda: load_prepared(RunFolder(folder))


def _batch(folder: Path) -> Callable[[], object]:
    """Windows of BATCHES shuffled batches of both modalities, others at each call."""
    from mmcl.data.prepared import load_prepared
    from mmcl.data.stack import stack
    from mmcl.data.windows import WHOLE, cut
    from mmcl.runs import RunFolder

    prepared = load_prepared(RunFolder(folder))
    rng = np.random.default_rng(0)

    def cutting() -> None:
        rows = rng.integers(0, len(prepared.samples), BATCH * BATCHES)
        for k in range(BATCHES):
            for store in prepared.stores.values():
                stack([cut(store, int(row), WHOLE) for row in rows[k * BATCH : (k + 1) * BATCH]], store.layout)

    return cutting


def _stage(name: str, clips: int, folder: Path) -> Callable[[], object]:
    """One stage of the recipe's run."""
    from importlib import import_module

    from mmcl.recipe.planner import make_plan
    from mmcl.recipe.read import parse_recipe
    from mmcl.runs import RunFolder

    plan = make_plan(parse_recipe(RECIPE.format(clips=clips), "growth.yaml"))
    run = RunFolder(folder)
    if name == "report":
        page = import_module("mmcl.report.page").write_report
        return lambda: page(folder)
    if name == "prepare":
        stages = import_module("mmcl.stages")
        return lambda: stages.run_all(plan, run, workers=1, stop_after="prepare")
    stage = getattr(import_module(f"mmcl.stages.{name}"), name)
    return lambda: stage(plan, run)


def _cpu_of(work: Callable[[], object]) -> float:
    """Seconds of processor time that something takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


class Watch:
    """How far the memory that a process holds itself rises, in MB: without pages of mapped files, which the system takes back at will."""

    EVERY = 0.02

    def __init__(self) -> None:
        self._before = self._most = self._held()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @staticmethod
    def _held() -> float:
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("RssAnon:")).split()[1]) / 1024

    def _look(self) -> None:
        while not self._done.wait(self.EVERY):
            self._most = max(self._most, self._held())

    def stop(self) -> float:
        """The most so far, over what was held at first."""
        self._done.set()
        self._thread.join()
        return max(self._most, self._held()) - self._before


def alone(name: str, clips: int, folder: Path) -> None:
    """Do one thing in this process, and print what it took and how far its memory rose over what was there before."""
    import torch

    torch.set_num_threads(1)
    work = {"open": _open, "batch": _batch}[name](folder) if name in ("open", "batch") else _stage(name, clips, folder)
    watch = Watch() if sys.platform == "linux" else None
    memory, before, began = peak_mb(), resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = {"s": time.perf_counter() - began, "CPU s": cpu, "MB": peak_mb() - memory}
    if watch is not None:
        took["MB held"] = watch.stop()
    if name == "batch":  # the pages of a large store are touched for the first time above
        took["CPU s, later"] = min(_cpu_of(work) for _ in range(AGAIN))
    print(json.dumps({name: round(value, 3) for name, value in took.items()}))


STAGES = ("prepare", "open", "batch", "pretrain", "embed", "probe", "report")


def growth() -> Iterator[Row]:
    """A row for each number of clips and stage."""
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary) / "site"
        info = site / "benchmarks_tiny-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: benchmarks-tiny\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[mmcl]\ntiny = benchmarks.tiny\n")
        path = os.pathsep.join([str(site), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        )
        for clips in map(int, os.environ.get("MMCL_GROWTH", "1000,10000").split(",")):
            folder = Path(temporary) / f"{clips}"
            for name in os.environ.get("MMCL_GROWTH_STAGES", ",".join(STAGES)).split(","):
                command = [sys.executable, "-m", "benchmarks.growth", name, str(clips), str(folder)]
                done = subprocess.run(
                    command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise RuntimeError(f"growth, {clips} clips, {name}: {done.stderr[-2000:]}")
                yield Row(f"growth, {clips:,} clips, {name}", facts=json.loads(done.stdout.splitlines()[-1]))


WORKLOADS = {"growth": growth}

if __name__ == "__main__":
    alone(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
