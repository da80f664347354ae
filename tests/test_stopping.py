"""Ctrl-C, TERM and HUP: the step is finished, a checkpoint written, one line says how to go on; nothing is lost, and nobody stays behind."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmcl import workers
from mmcl.engine.progress import Progress
from mmcl.report import run_and_report
from mmcl.runs import PART, RunFolder, read_jsonl
from mmcl.stopping import Stopped, listening, patient, stop_if_asked
from mmcl.workers import worker_pool
from tests.conftest import LEAST

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize("number", CODES)
def test_a_signal_ends_at_once_and_where_somebody_looks_after_what_it_keeps(number):
    with listening():
        with pytest.raises(Stopped) as caught:
            signal.raise_signal(number)
        assert caught.value.code == CODES[number]
    steps = []

    def work():
        with listening(), patient():
            for step in range(1, 9):
                if step == 3:
                    signal.raise_signal(number)
                steps.append(step)
                stop_if_asked(lambda: f"step {len(steps)} is kept")

    with pytest.raises(Stopped, match=r"^stopped; step 3 is kept; run the same command again to go on$"):
        work()
    assert steps == [1, 2, 3]


def test_what_was_done_with_signals_before_is_done_after():
    before = [signal.getsignal(number) for number in CODES]
    with listening():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in CODES] == before


def test_whoever_ignores_a_signal_goes_on_ignoring_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with listening():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_at_once_without_a_word():
    script = (
        "import signal, sys\n"
        "from mmcl.stopping import listening, patient\n"
        "with listening(), patient():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('not here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "still here\n")
    assert done.stderr == "\nfinishing this step and writing a checkpoint; once more ends at once\n"


MODELS = (
    "supervise={heads: {mlp: {use: mlp}}, inputs: [audio], tasks: [emotion], epochs: 2, batch_size: 16, checkpoint_minutes: 60}"
)
STAGES = {
    "pretrain": (("pretrain.epochs=2", "pretrain.checkpoint_minutes=60"), ("encoders.safetensors",)),
    "supervise": (("pretrain.epochs=0", MODELS), ("scores.jsonl", "predictions.jsonl")),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_weights(stage, small_recipe, tiny_plan, tmp_path, monkeypatch):
    sets, files = STAGES[stage]
    plan = tiny_plan(*sets, "report.against=[]", "probe.inputs=[audio]", "worth=null", text=small_recipe)
    calm, stopped = RunFolder(tmp_path / "calm" / "runs" / "tiny"), RunFolder(tmp_path / "stopped" / "runs" / "tiny")
    run_and_report(plan, calm, workers=1, stop_after=stage)
    real = Progress.seed_step

    def disturbed(self, *where):
        if self.step == 4:
            signal.raise_signal(signal.SIGTERM)
        return real(self, *where)

    monkeypatch.setattr(Progress, "seed_step", disturbed)
    with pytest.raises(
        Stopped, match=f"^stopped; {stage} fold 0, seed 3.*: a checkpoint of step 5, in epoch 2, is written"
    ) as caught:
        run_and_report(plan, stopped, workers=1, stop_after=stage)
    assert caught.value.code == 143
    monkeypatch.undo()
    run_and_report(plan, stopped, workers=1, stop_after=stage)
    ours, theirs = (one.stage(stage, 0, 3) for one in (stopped, calm))
    for name in files:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    if stage == "pretrain":
        times = {"seconds": 0, "waited": 0}
        assert [row | times for row in read_jsonl(ours / "history.jsonl")] == [
            row | times for row in read_jsonl(theirs / "history.jsonl")
        ]


SWEEP = (
    """\
format: 1
name: tiny
seed: 3
dataset: {use: toy, samples: 24, speakers: 6}
"""
    + LEAST
    + """\
pretrain: {batch_size: 8, epochs: 2, optimizer: {use: adamw, lr: 1e-3}, checkpoint_minutes: 60}
probe: {tasks: [emotion], inputs: [all], heads: {linear: {use: linear, l2: [0.1]}}}
report: {against: []}
protocol: {use: official}
sweep: {space: {pretrain.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}, trials: 3, startup: 3}
"""
)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGTERM, 2)])
def test_a_sweep_that_is_stopped_goes_on_to_the_same_trials_and_leaves_nobody_behind(number, jobs, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    from mmcl.engine import places
    from mmcl.recipe.search import Source, make_sweep
    from mmcl.report import search_and_report

    search = make_sweep(Source(SWEEP, "tiny.yaml", Path(), (), None, None))
    calm = search_and_report(search, tmp_path / "calm" / "sweep", final=False)
    out, real, steps = tmp_path / "stopped" / "sweep", Progress.seed_step, []
    with monkeypatch.context() as patch:
        if jobs == 1:

            def disturbed(self, *where):
                steps.append(where)
                if len(steps) == 6:  # in the second trial
                    signal.raise_signal(number)
                return real(self, *where)

            patch.setattr(Progress, "seed_step", disturbed)
        else:
            wait = places.wait
            patch.setattr(places, "wait", lambda *args, **more: (signal.raise_signal(number), wait(*args, **more))[1])
        with pytest.raises(Stopped) as caught:
            search_and_report(search, out, jobs=jobs, final=False)
    assert caught.value.code == CODES[number]
    assert not multiprocessing.active_children()
    again = search_and_report(search, out, jobs=1, final=False)
    assert [replace(one, seconds=0.0) for one in again.trials] == [replace(one, seconds=0.0) for one in calm.trials]
    assert not [path for path in out.rglob("*") if path.name.endswith(PART) or path.name in ("resume", "resume.old")]


@pytest.mark.parametrize("worker", [False, True])
def test_a_second_signal_ends_at_once_but_not_whoever_works_for_another_process(worker):
    script = (
        "import signal\n"
        "from mmcl.stopping import Stopped, listening, patient, stop_if_asked\n"
        f"with listening((signal.SIGTERM,), tell=False, worker={worker}), patient():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    try: stop_if_asked(lambda: 'kept')\n"
        "    except Stopped as stopped: print(stopped.kept)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == ((0, "kept\n") if worker else (143, ""))


STEPS = """\
import os, pathlib, signal, time
from mmcl.stopping import Stopped, listening, patient, stop_if_asked
folder = pathlib.Path({folder!r})
try:
    with listening((signal.SIGTERM,), worker=True), patient():
        (folder / "{name}.begun").touch()
        while True:
            time.sleep({seconds})  # the step that is finished first
            stop_if_asked(lambda: (folder / "{name}.kept").touch() or "")
except Stopped:
    os._exit(0)
"""


def test_a_pool_that_ends_by_an_error_leaves_nobody_behind_and_each_finishes_its_step(tmp_path):
    slow = [STEPS.format(folder=str(tmp_path), name=f"step{seconds}", seconds=seconds) for seconds in (0.01, 1.0)]

    def fail() -> None:
        with worker_pool(2, str) as pool:
            for script in slow:
                pool.submit(exec, script, {})
            while len(list(tmp_path.glob("*.begun"))) < 2:
                time.sleep(0.01)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not multiprocessing.active_children()
    assert sorted(path.name for path in tmp_path.glob("*.kept")) == ["step0.01.kept", "step1.0.kept"]


def test_processes_that_are_gone_are_not_waited_for_where_nobody_is_told(monkeypatch):
    monkeypatch.setattr(workers, "LEAVING", 0.01)
    receiver, sender = workers.one_way()
    sender.close()  # as the end of a process closes its own

    class Gone:
        sentinel = receiver.fileno()
        terminated = False

        def terminate(self):
            self.terminated = True

        def is_alive(self):
            return True  # as where SIGCHLD is ignored

    gone = Gone()
    workers.end_workers([gone])
    assert gone.terminated
