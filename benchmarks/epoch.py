"""Training steps of shipped recipes on their own data, two ways in turn, each in a process of its own that stays.

As it is by default against float32 with glibc's memory as it comes; or against another checkout, whose Python
`MMCL_BENCH_BASELINE` names. Recipes on recordings need `MMCL_REAL_DATA`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import Row, gather

RECIPES = {"quickstart": None, "utd_mhad_3mod": "utd-mhad", "ravdess_audio_au": "ravdess"}
"""Recipe → the folder of its corpus."""

WAYS = {
    "bf16, memory kept": ("bf16", True),
    "float32, memory kept": ("float32", True),
    "bf16, memory as it comes": ("bf16", False),
}
"""What a way is called → its precision, and whether glibc is told to keep memory."""

CHILD = """
import json, os, sys, time
from pathlib import Path
def peak_mb():  # ru_maxrss is taken over from the process that started this one
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
given = json.loads(sys.argv[1])
try:
    from mmcl.memory import keep_freed_memory
except ImportError:  # an older checkout
    keep_freed_memory = None
if given["keep"] and keep_freed_memory is not None:
    keep_freed_memory()
import torch
torch.set_num_threads(given["threads"])
from mmcl.engine.optim import build_optimizer
from mmcl.model.augment import Augmentation
from mmcl.model.windows import draw_batches
from mmcl.recipe.planner import load_plan
from mmcl.recipe.shipped import find
from mmcl.runs import RunFolder
from mmcl.stages.prepare import prepare
from mmcl.stages.learners import Pairs
from mmcl.stages.composed import batches_of_epoch
from mmcl.stages.units import units_of

plan = load_plan(find(given["recipe"]), tuple(given["sets"]), Path(given["data"]))
run = RunFolder(Path(given["folder"]))
if not (run.root / "prepare.json").exists() and not list(run.root.glob("**/prepare.json")):
    run.root.mkdir(parents=True, exist_ok=True)
    prepare(plan, run, 1)
unit = units_of(plan, run)[0]
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
learner = Pairs(unit, device)
learner.model.train()
optimizer = build_optimizer(plan.recipe.pretrain.optimizer, learner.model)
augmentations = {m.name: Augmentation(**m.augment.model_dump()) for m in plan.modalities}
section = plan.recipe.pretrain
print(json.dumps("ready"), flush=True)
epoch = 0
for line in sys.stdin:
    began, clock = time.process_time(), time.perf_counter()
    rows = batches_of_epoch(plan, unit.prepared, unit.fold, *unit.address, epoch=epoch)
    rows = rows[: int(line)]
    generator = torch.Generator(device).manual_seed(0)
    for batch in draw_batches(plan, unit.prepared.stores, rows, section.shares, *unit.address, "window", epoch):
        objective = learner.objective(learner.forward(batch, len(batch.items.row), augmentations, generator), batch.items)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(objective.loss)
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    epoch += 1
    peak = peak_mb()
    print(json.dumps([time.process_time() - began, time.perf_counter() - clock, peak]), flush=True)
"""


class Child:
    """A process that trains some steps whenever it is asked."""

    def __init__(self, python: str, recipe: str, folder: str, sets: list[str], keep: bool, threads: int = 1) -> None:
        data = os.environ.get("MMCL_REAL_DATA", ".")
        given = {"recipe": recipe, "folder": folder, "sets": sets, "keep": keep, "threads": threads, "data": data}
        command = [python, "-P", "-c", CHILD, json.dumps(given)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def steps(self, count: int) -> tuple[float, float, float]:
        """Seconds of CPU time and of the clock that as many steps took, and the process's peak memory in MB."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        cpu, wall, peak = self._answer()
        return cpu, wall, peak

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process ended before it answered")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def epoch(recipe: str) -> Iterator[Row]:
    """One row a way."""
    baseline, corpus = os.environ.get("MMCL_BENCH_BASELINE"), RECIPES[recipe]
    if corpus is not None and not (Path(os.environ.get("MMCL_REAL_DATA", ".")) / corpus).is_dir():
        yield Row(f"epoch, {recipe}", facts={"left out": "MMCL_REAL_DATA has no such corpus"})
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Child(baseline or sys.executable, recipe, f"{folder}/run", ["pretrain.precision=float32"], False)
        against = "another checkout" if baseline else "float32, memory as it comes"
        for way, (precision, keep) in WAYS.items():
            child = Child(sys.executable, recipe, f"{folder}/run", [f"pretrain.precision={precision}"], keep)
            yield _row(f"epoch, {recipe}, {way}", child, plain, against)
            child.close()
        plain.close()


def _row(name: str, ours: Child, plain: Child, against: str, steps: int = 2, rounds: int = 5) -> Row:
    ours.steps(steps), plain.steps(steps)
    measured = []
    for _ in range(rounds):
        measured.append((ours.steps(steps), plain.steps(steps)))
    peaks = {"peak MB": measured[-1][0][2], "theirs": measured[-1][1][2]}
    return Row(name, gather([(a[:2], b[:2]) for a, b in measured], "cpu"), 2.0, 3.0, {"against": against, **peaks})


WORKLOADS = {f"epoch-{recipe}": partial(epoch, recipe) for recipe in RECIPES}
