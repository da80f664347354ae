"""Threads that wait sleep soon, unless the user says otherwise, and OpenMP hears of it in time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmcl import threads

LEFT_ALONE = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}


def test_openmp_reads_what_the_command_sets():
    code = (
        "import sys; from mmcl.cli import cli, main; import mmcl.cli as c; assert 'torch' not in sys.modules; "
        "c.cli.main = lambda *a, **k: __import__('torch') and 0; main(['list-losses'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**LEFT_ALONE, "OMP_DISPLAY_ENV": "VERBOSE"}
    )
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = '{threads.SPINS}'" in done.stderr


def test_what_a_command_starts_inherits_it(monkeypatch):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is taken away again after this test
    monkeypatch.delenv("GOMP_SPINCOUNT")
    threads.wait_briefly()
    code = "import os; print(os.environ['GOMP_SPINCOUNT'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == str(threads.SPINS)


@pytest.mark.parametrize("name", threads.VARIABLES)
def test_what_the_user_says_of_threads_stands(monkeypatch, name):
    for other in threads.VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "7")
    threads.wait_briefly()
    assert {one: os.environ.get(one) for one in threads.VARIABLES} == {
        **dict.fromkeys(threads.VARIABLES),
        name: "7",
    }
