"""Collapse is measured as defined, and said in words while it happens and in the report; an honest run hears nothing."""

from __future__ import annotations

import math

import pytest
import torch

from mmcl.evaluate.health import describe, warnings
from mmcl.report import run_and_report as run_all
from mmcl.runs import read_json, read_jsonl


def test_rank_and_likeness_are_their_definitions():
    torch.manual_seed(0)
    z = torch.randn(40, 6)
    figures = describe(z)
    unit = z / z.norm(dim=1, keepdim=True)
    cosines = [float(unit[i] @ unit[j]) for i in range(40) for j in range(40) if i != j]
    assert float(figures["alike"]) == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)
    values = torch.linalg.svdvals(unit - unit.mean(0)).tolist()
    shares = [v / sum(values) for v in values]
    assert float(figures["rank"]) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-5)
    line = torch.randn(40, 1) * torch.randn(1, 6)
    assert float(describe(line)["rank"]) == pytest.approx(1, abs=1e-3)
    assert float(describe(torch.ones(40, 6))["alike"]) == pytest.approx(1, abs=1e-6)
    assert describe(z[:2]) == {}


def row(rank=5.0, alike=0.1, loss=1.0, accuracy=0.5, skipped=(), **metrics):
    pairs = {} if loss is None else {"a~b": {"loss": loss, "accuracy": accuracy, **metrics}}
    return {"embeddings": {"a": {"rank": rank, "alike": alike}}, "pairs": pairs, "skipped_pairs": dict.fromkeys(skipped, 1)}


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([row(alike=0.99, accuracy=0.01)] * 4, "the embeddings of 'a' are almost the same for every recording"),
        ([row(rank=20.0), row(), row(), row(rank=3.0)], "use 3.0 directions, down from 20.0"),
        ([row(loss=math.log(32), accuracy=1 / 32)] * 4, "the loss of a~b is still that of guessing"),
        ([row(temperature=0.01)], "the learned temperature of a~b has run to 0.0100"),
        ([row(skipped=("b~c",))] * 2, "the pair b~c never had two recordings in common"),
    ],
)
def test_each_way_of_going_wrong_has_its_sentence(history, words):
    (sentence,) = warnings(history, 32)
    assert words in sentence


@pytest.mark.parametrize(
    "history",
    [
        [],
        [row()] * 9,
        [row(loss=math.log(32), accuracy=1 / 32)] * 2,
        [row(rank=20.0), row(rank=3.0)],
        [row(loss=math.log(32), accuracy=0.4)] * 9,
        [row(alike=0.99, accuracy=0.01)] * 3,
        [row(alike=0.99)] * 9,
        [row(temperature=0.07)],
        [row(skipped=("a~b",)), row()],
    ],
)
def test_what_is_well_or_has_just_begun_is_left_alone(history):
    assert warnings(history, 32) == []


def test_a_run_that_collapses_says_so_and_an_honest_one_does_not(tiny_plan, tiny_run, run, capsys):
    ((_, _, folder),) = tiny_run.units("pretrain")
    assert read_json(folder / "finished.json")["warnings"] == []
    assert set(read_jsonl(folder / "history.jsonl")[0]["embeddings"]) == {"text", "audio", "landmarks"}
    # a decay that leaves nothing of the weights but their biases: every recording gets one embedding
    run_all(
        tiny_plan(
            "pretrain={batch_size: 16, epochs: 8, optimizer: {use: adamw, lr: 0.1, weight_decay: 9.99}}", "probe.inputs=[audio]"
        ),
        run,
        workers=1,
    )
    assert "are almost the same for every recording" in capsys.readouterr().err
    assert "Pretraining looks wrong" in (run.root / "report.html").read_text()
