"""Predictions in columns: they are what the lines say, lines of another state come first, and what is damaged is a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmcl.api import StageError, Task
from mmcl.data import growing
from mmcl.data.predictions import COLUMNS, LINES, distinct, predictions_in_parts, read_predictions
from mmcl.data.store import mapped
from mmcl.evaluate.answers import predicted, predictions_of
from mmcl.runs import read_jsonl, write_arrays, write_jsonl
from tests.conftest import measured

TASKS = {
    "mood": Task("mood", "single-label", ("calm", "glad", "cross")),
    "cues": Task("cues", "multi-label", ("smile", "frown")),
    "age": Task("age", "regression", ()),
}
IDS = ["a", "é/ü", "c", "d", "e"]


def about(task, **more):
    base = {"task": task, "input": "all", "head": "linear", "encoder": "random", "fold": 0, "seed": 3, "head_seed": 0}
    return {**base, **more}


def write(folder, ids=IDS):
    rng, nan = np.random.default_rng(0), float("nan")
    places = np.array([0, 2, 3])
    ways = [
        ("mood", places, torch.tensor([2, 0, 1])),
        ("cues", np.arange(5), torch.tensor([[1.0, nan], [0.0, 1.0], [1, 1], [nan, nan], [0.25, 0]])),
        ("age", places, torch.tensor([[31.1], [nan], [-4.0]])),
    ]
    with predictions_in_parts(folder, ids) as predict:
        for name, rows, target in ways:
            output = rng.standard_normal((len(rows), max(1, len(TASKS[name].classes))))
            for encoder in ("pretrained", "random"):
                where = about(name, encoder=encoder)
                lines = predictions_of(where, TASKS[name], [ids[row] for row in rows], target, output)
                predict(lines, where, rows, target.numpy(), predicted(TASKS[name], output))
                output = -output


def rows_of(ways):
    """What lines say, out of ways."""
    for way in ways:
        for id, *values in zip(way.ids, way.target, way.prediction, strict=True):
            target, prediction = (
                [None if np.isnan(v) else v for v in one.tolist()] if one.ndim else float(one)
                for one in map(np.asarray, values)
            )
            yield {**way.about, "id": id, "target": target, "prediction": prediction}


@pytest.fixture(params=[1 << 20, 8], ids=["in memory", "in a file"])
def written(request, monkeypatch, tmp_path):
    monkeypatch.setattr(growing, "HELD", request.param)
    write(tmp_path)
    return tmp_path


def test_columns_are_what_the_lines_say(written):
    lines = read_jsonl(written / LINES)
    ways = read_predictions(written)
    assert isinstance(ways[0].target.base, np.ndarray) and len(ways) == 6
    assert list(rows_of(ways)) == lines
    assert distinct(ways) == 5 and distinct(ways[:1]) == 3
    (written / COLUMNS).unlink()  # as in a run of an older mmcl
    older = read_predictions(written)
    assert list(rows_of(older)) == lines and [way.about for way in older] == [way.about for way in ways]
    for one, other in zip(ways, older, strict=True):
        assert one.keys.tolist() == other.keys.tolist()


def test_lines_that_somebody_changed_come_before_the_columns(written):
    lines = read_jsonl(written / LINES)
    lines[1]["prediction"] = 2 - lines[1]["prediction"]
    write_jsonl(written / LINES, lines)
    assert list(rows_of(read_predictions(written))) == lines
    write_jsonl(written / LINES, [])
    assert read_predictions(written) == []


def test_rows_that_do_not_follow_each_other_are_several_ways(tmp_path):
    lines = [
        about("mood", encoder=("random", "pretrained")[k % 2]) | {"id": str(k // 2), "target": k % 3, "prediction": 1}
        for k in range(6)
    ]
    write_jsonl(tmp_path / LINES, lines)
    ways = read_predictions(tmp_path)
    assert len(ways) == 6 and distinct(ways) == 3 and list(rows_of(ways)) == lines


def test_a_prediction_that_is_no_number_is_a_sentence(tmp_path):
    write_jsonl(tmp_path / LINES, [about("mood") | {"id": "a", "target": [[1]], "prediction": 1}])
    with pytest.raises(
        StageError, match=r"predictions.jsonl: does not hold what it should .*is no list of numbers.*run its recipe"
    ):
        read_predictions(tmp_path)


SPOILT = {
    "a recording beyond the last": ("places", lambda a: a + 5),
    "a way beyond the last": ("segments", lambda a: a + np.array([6, 0, 0, 0])),
    "fewer rows": ("segments", lambda a: a[:-1]),
    "more rows": ("segments", lambda a: np.concatenate([a, a[:1]])),
    "fewer than none": ("segments", lambda a: a * np.array([1, -1, 1, 1])),
    "wide": ("segments", lambda a: a + np.array([0, 0, 2**40, 0])),
    "another type": ("target", lambda a: a.astype(np.float32)),
    "another shape": ("prediction", lambda a: a[:, None]),
    "strings that end early": ("ids.starts", lambda a: np.concatenate([a[:-1], a[-1:] - 1])),
    "strings that go back": ("ids.starts", lambda a: a[[0, 2, 1, *range(3, len(a))]]),
    "no JSON": ("ways.bytes", lambda a: a + 1),
}


@pytest.mark.parametrize("how", SPOILT)
def test_columns_that_do_not_fit_together_are_a_sentence(tmp_path, how):
    write(tmp_path)
    name, spoil = SPOILT[how]
    columns = {key: np.array(value) for key, value in mapped(tmp_path / COLUMNS).items()}
    write_arrays(tmp_path / COLUMNS, {**columns, name: spoil(columns[name])})
    with pytest.raises(StageError, match=r"predictions.safetensors: does not hold what it should"):
        read_predictions(tmp_path)


def test_the_state_of_the_lines_alone_does_not_name_columns(tmp_path):
    write(tmp_path)
    columns = {key: np.array(value) for key, value in mapped(tmp_path / COLUMNS).items() if key != "lines"}
    write_arrays(tmp_path / COLUMNS, columns)
    assert list(rows_of(read_predictions(tmp_path))) == read_jsonl(tmp_path / LINES)


READING = """
import json, sys
from pathlib import Path
import numpy as np, torch
from mmcl.api import Task
from mmcl.data.predictions import predictions_in_parts, read_predictions
from mmcl.evaluate.answers import predicted, predictions_of
from mmcl.report.tasks import confusion_of

def held():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])

def use(count, folder):
    before, task = held(), Task("mood", "single-label", ("calm", "glad", "cross"))
    folder = folder / str(count)
    folder.mkdir()
    about = {"task": "mood", "input": "all", "head": "linear", "encoder": "random", "fold": 0, "seed": 3, "head_seed": 0}
    names = [f"clip-{k:06d}" for k in range(1000)]
    with predictions_in_parts(folder, (f"clip-{k:06d}" for k in range(count))) as predict:
        for first in range(0, count, 1000):
            output, target = np.random.default_rng(first).standard_normal((1000, 3)), torch.arange(1000) % 3
            lines = predictions_of(about, task, names, target, output)
            predict(lines, about, np.arange(first, first + 1000), target.numpy(), predicted(task, output))
    ways = read_predictions(folder)
    counts = confusion_of(3, ways)
    assert sum(map(sum, counts)) == count
    return held() - before

folder = Path(sys.argv[1])
use(1000, folder)
print(json.dumps([use(count, folder) for count in (2_000, 60_000)]))
"""


def test_predictions_hold_no_more_for_thirty_times_the_recordings(tmp_path):
    """An object for each was 700 bytes and more: over 40 MB here."""
    few, many = measured(READING, tmp_path)
    assert many - few < 12_000, f"{few} and {many} kB"
