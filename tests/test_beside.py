"""Processes that read recordings beside the first one: only where they pay, one pool for all modalities, and the same streams."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from mmcl.data.store import Store
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.runs import RunFolder
from mmcl.stages import prepare as module

TEXT = """\
format: 1
name: beside
dataset: {use: toy, samples: 160, speakers: 6}
modalities:
  text: {features: {use: hashed-words, dim: 8}, backbone: {use: mlp, hidden: [8], width: 8}}
  landmarks: {features: {use: face-landmarks}, backbone: {use: st-gcn, channels: [4], strides: [1]}}
protocol: {use: official}
"""


@pytest.fixture
def started(monkeypatch):
    """How many processes each pool was started with."""
    counts = []
    pool = module.worker_pool

    @contextmanager
    def counted(count, *begin):
        counts.append(count)
        with pool(count, *begin) as processes:
            yield processes

    monkeypatch.setattr(module, "worker_pool", counted)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    return counts


def prepared(folder, workers=None):
    run = RunFolder(folder / "run")
    module.prepare(make_plan(parse_recipe(TEXT, "beside.yaml")), run, workers)
    stores = sorted(run.prepared.glob("*/*/store.json"))
    return [Store(path.parent) for path in stores]


def test_recordings_that_take_next_to_nothing_are_read_by_this_process_alone(tmp_path, started):
    assert len(prepared(tmp_path)) == 2
    assert started == []


def test_where_processes_pay_one_pool_serves_every_modality_with_the_same_streams(tmp_path, started, monkeypatch):
    alone = prepared(tmp_path / "alone", workers=1)
    assert started == []
    monkeypatch.setattr(module, "START", -1.0)
    beside = prepared(tmp_path / "beside")
    assert started == [2]
    for one, other in zip(alone, beside, strict=True):
        assert one.rows == other.rows
        assert all((one.values(row) == other.values(row)).all() for row in one.rows)
        assert one.counts == other.counts


def test_processes_pay_where_they_save_more_than_starting_them_costs():
    beside = module._Beside(None)
    for seconds, left, count in ((0.002, 300, 2), (0.5, 18, 2), (0.1, 99, 2), (0.1, 60, 4)):
        assert not beside.pay(seconds, left, count)
        assert beside.pay(seconds, left + int(5 * count / (count - 1) / seconds) + 1, count)


def test_what_was_odd_is_counted_once_whoever_read_it():
    tally = module._Tally()
    tally.latest(0, module._since({"late": 3}, {"late": 5, "empty": 0}))
    tally.latest(71, {"late": 4})
    tally.latest(71, {"late": 6})
    assert tally.counts() == {"late": 8}
