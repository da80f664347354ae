"""A server with little memory for a question takes a shorter part, as it says: what it has to load itself does not count."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from mmcl.media import write_audio
from mmcl.use.serve import Limits, Work
from mmcl.use.serve.desk import Question, Reply
from mmcl.use.serve.worker import Worker
from tests.advice.stages_runs import study

RATE = 22050
MEMORY = 60_000_000
"""Bytes: more than a second of sound takes, and less than 500 seconds do; the libraries that read them take more than this."""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A finished run, and a long recording and a short one, which begins as that."""
    study(tmp_path)
    long = np.random.default_rng(0).normal(scale=0.1, size=500 * RATE).astype(np.float32)
    write_audio(tmp_path / "long.wav", long, RATE)
    write_audio(tmp_path / "short.wav", long[:RATE], RATE)
    return tmp_path


def asked(folder: Path, name: str) -> Question:
    return Question("embed", (folder / f"{name}.wav",), folder)


def embedded(reply: Reply) -> list[str]:
    """The recordings that an answer holds vectors of."""
    assert reply.status == 200, reply.body
    assert all(np.isfinite(one["vector"]).all() for row in reply.body["rows"] for one in row["modalities"].values())
    return [row["id"] for row in reply.body["rows"]]


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is limited on Linux alone")
def test_a_shorter_part_is_answered_of_what_takes_more_memory_than_is_given(folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # each thread's stack is counted
    one = Worker(Work(folder / "runs" / "study", None, "cpu", (), Limits(memory=MEMORY)))
    try:
        ended, short = (asyncio.run(one.ask(asked(folder, name))) for name in ("long", "short"))
    finally:
        one.close()
    assert ended.status == 413
    assert ended.body["error"] == "long.wav: takes more memory than is given to one question; send a shorter part of it"
    assert embedded(short) == ["short"]
