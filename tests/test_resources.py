"""What a stage took: memory and energy counters against files made by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmcl.engine.resources import Meter


def zone(root: Path, name: str, microjoules: int, most: int = 1_000_000) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_energy_is_the_packages_difference_also_past_the_counters_end(tmp_path):
    zone(tmp_path, "intel-rapl:0", 900_000)
    zone(tmp_path, "intel-rapl:1", 100_000)
    zone(tmp_path, "intel-rapl:0:0", 5)  # a part of package 0: already in it
    meter = Meter(tmp_path)
    zone(tmp_path, "intel-rapl:0", 200_000)  # began again
    zone(tmp_path, "intel-rapl:1", 600_000)
    zone(tmp_path, "intel-rapl:0:0", 900_000)
    assert meter.read()["joules"] == 0.3 + 0.5


def test_energy_that_cannot_be_read_is_none(tmp_path):
    assert Meter(tmp_path).read()["joules"] is None
    zone(tmp_path, "intel-rapl:0", 1)
    meter = Meter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read()["joules"] is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of one program alone is told by Linux")
def test_memory_is_not_taken_over_from_the_program_that_started_this_one():
    asks = "import sys; sys.path[:0] = {path!r}; from mmcl.engine.resources import peak_mb; print(peak_mb())"
    child = [sys.executable, "-c", asks.format(path=[p for p in sys.path if p])]
    starts = f"import subprocess; kept = b'1' * 600_000_000; subprocess.run({child!r}, check=True, close_fds=False)"
    done = subprocess.run([sys.executable, "-c", starts], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 400


def test_memory_and_time_are_those_of_the_work(tmp_path):
    meter = Meter(tmp_path)
    before = meter.read()["memory_mb"]
    kept = np.ones(40_000_000)  # 305 MB
    after = meter.read()
    assert after["memory_mb"] >= before
    assert after["memory_mb"] >= kept.nbytes / 2**20
    assert after["seconds"] > 0
    assert after["cpu_seconds"] > 0
    assert after["gpu_memory_mb"] is None
