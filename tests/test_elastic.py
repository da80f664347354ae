"""A launch that torchrun starts again: a process that is killed costs what came after the last checkpoint, and nobody has to look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import HashStore

from mmcl.engine.ranks import _start_of
from tests.test_cells import alive, children_of, wait_for

RECIPE = """\
format: 1
name: elastic
seed: 3
dataset: {use: toy, samples: 36, speakers: 6}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8, dropout: 0.1}}
  audio: {features: {use: log-mel, bands: 8, hop: 0.04, window: 0.05}, backbone: {use: tcn, channels: [4], dropout: 0.1}}
window: {seconds: 0.4}
projection: {hidden: 8, width: 4}
pretrain: {batch_size: 8, epochs: 12, checkpoint_minutes: 0, keep: last}
protocol: {use: official}
"""
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2", "-m", "mmcl")


def launch(folder: Path, out: str) -> subprocess.Popen[bytes]:
    """Two processes that train, started by torchrun, which starts them again where one is lost."""
    line = [sys.executable, *LAUNCH, "run", "elastic.yaml", "--out", out, "--device", "cpu", "--stop-after", "pretrain"]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_launch_that_is_started_again_at_the_same_store_is_another_one(late):
    """What those before have laid down still stands there, and one of the ranks comes when the others have long been waiting."""
    store, names = HashStore(), []
    for _ in range(3):

        def come(rank):
            time.sleep(0.2 * (rank == late))
            return _start_of(store, rank, 3)

        with ThreadPoolExecutor(3) as pool:
            each = set(pool.map(come, range(3)))
        assert len(each) == 1
        names += each
    assert len(set(names)) == 3


def test_who_waits_for_ranks_that_do_not_come_is_told(monkeypatch):
    monkeypatch.setattr("mmcl.engine.ranks.PATIENCE", timedelta(seconds=0.1))
    with pytest.raises(RuntimeError, match="not all of 2 came"):
        _start_of(HashStore(), 0, 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_launch_that_loses_a_process_ends_with_the_weights_of_one_that_loses_none(tmp_path):
    (tmp_path / "elastic.yaml").write_text(RECIPE)
    straight = launch(tmp_path, "straight")
    out, _ = straight.communicate(timeout=280)
    assert straight.returncode == 0, out
    broken = launch(tmp_path, "broken")
    wait_for(lambda: any((tmp_path / "broken").glob("fold-*/seed-*/pretrain/resume/state.json")), broken)
    before = children_of(broken.pid)
    assert len(before) == 2
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: not any(map(alive, before)))
    out, _ = broken.communicate(timeout=280)
    assert broken.returncode == 0, out
    assert b"went on from" in out or b"goes on" in out, out
    files = [next(tmp_path.glob(f"{name}/fold-*/seed-*/pretrain/encoders.safetensors")) for name in ("straight", "broken")]
    one, other = map(load_file, files)
    assert list(one) == list(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
