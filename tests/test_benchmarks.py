"""Benchmarks compare like with like, and keep what they measured."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import parts, side_by_side


@pytest.mark.parametrize("name", command.EVERY)
def test_every_workload_is_in_the_file_that_the_table_names(name):
    assert callable(importlib.import_module(f"benchmarks.{command.EVERY[name]}").WORKLOADS[name])


@pytest.mark.parametrize(
    "side",
    [lambda: parts.audio(3, 12), lambda: parts.landmarks(3, 15), lambda: parts.text([5, 2, 1])],
    ids=["audio", "landmarks", "text"],
)
def test_a_plain_twin_computes_what_the_toolkit_computes(side):
    both = side()
    both.ours.eval()
    both.plain.eval()
    assert parts.check_equal(both) < 1e-3
    both.plain[1][0].bias.data += 1
    with pytest.raises(ValueError, match="differ by"):
        parts.check_equal(both)


def test_ratios_are_medians_and_tenths_of_rounds():
    rounds = [((1.0, 2.0), (float(k), 2.0 * k)) for k in range(1, 12)]
    ratio = side_by_side.gather(rounds, "cpu")
    assert (ratio.median, ratio.low, ratio.high, ratio.wall, ratio.rounds) == (6.0, 2.0, 10.0, 6.0, 11)
    assert (ratio.ours, ratio.theirs) == (1000.0, 6000.0)


def test_slower_work_has_the_lower_ratio():
    ratio = side_by_side.compare(lambda: sum(range(200_000)), lambda: sum(range(20_000)), rounds=3)
    assert 0.02 < ratio.median < 0.5


def test_rows_are_kept_as_they_come(tmp_path, monkeypatch, capsys):
    rows = [side_by_side.Row("one", facts={"peak MB": 1.5}), side_by_side.Row("two")]
    module = type(sys)("benchmarks.made_up")
    module.WORKLOADS = {"made-up": lambda: iter(rows)}
    monkeypatch.setitem(sys.modules, "benchmarks.made_up", module)
    monkeypatch.setitem(command.EVERY, "made-up", "made_up")
    monkeypatch.setattr(command.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "made-up", "--json", str(tmp_path / "b.json")])
    command.main()
    kept = json.loads((tmp_path / "b.json").read_text())
    assert [row["name"] for row in kept["rows"]] == ["one", "two"]
    assert {"processor", "threads", "load", "torch", "gpu"} <= kept["machine"].keys()
    assert "peak MB 1.5" in capsys.readouterr().out
