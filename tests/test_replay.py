"""A batch whose loss is no number: it is kept, looked at again, or left out where the recipe says so."""

from __future__ import annotations

import itertools
import json
import math
import socket
import time

import pytest
import torch

from mmcl.api import StageError
from mmcl.data.stack import batch as stack_batch
from mmcl.data.windows import Span
from mmcl.model.build import fresh_encoders
from mmcl.runs import RunFolder, read_json, read_tensors, write_json, write_tensors
from mmcl.stages import run_all
from mmcl.stages.lost import LOST
from mmcl.stages.units import units_of


def _spoil(monkeypatch, calls):
    """Make the loss of the batches with these numbers NaN."""
    from mmcl.model import contrast

    real, count = contrast.score, itertools.count()

    def spoiled(*args, **kwargs):
        objective = real(*args, **kwargs)
        if next(count) in calls:
            objective.loss = objective.loss * float("nan")
            objective.pairs["text~audio"]["loss"] = torch.tensor(float("nan"))
        return objective

    monkeypatch.setattr(contrast, "score", spoiled)


def test_a_loss_that_is_no_number_stops_names_the_pair_and_keeps_the_batch_for_replay(
    tiny_plan, run, monkeypatch, small_recipe
):
    from mmcl.review.replay import replay

    plan = tiny_plan("dataset.samples=48", text=small_recipe)
    with monkeypatch.context() as patch:
        _spoil(patch, {0})
        sentence = r"the loss became nan in epoch 1, step 1 \(pairs text~audio; recordings toy.*`mmcl replay .*` shows where the numbers end"
        with pytest.raises(StageError, match=sentence):
            run_all(plan, run, workers=1)
    folder = run.stage("pretrain", 0, 3)
    kept, weights = read_json(folder / "lost.json"), read_tensors(folder / "lost.safetensors")
    assert (kept["epoch"], kept["step"], kept["loss"], kept["pairs"]) == (1, 0, "nan", ["text~audio"])
    assert len(kept["recordings"]) == len(kept["windows"]) == 16
    (unit,) = units_of(plan, run)
    fresh = fresh_encoders(plan, unit.prepared.stores, unit.fold.train, *unit.address)
    assert all(torch.equal(weights[f"audio.{name}"], value) for name, value in fresh["audio"].state_dict().items())
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    lines = replay(run.root)
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before
    # The loss of the batch alone, from its ids and windows, computed again by hand.
    batch = stack_batch(unit.prepared.stores, kept["rows"], [Span(*one) for one in kept["windows"]])
    assert [unit.prepared.samples[row].id for row in batch.items.row.tolist()] == kept["recordings"]
    (again,) = [float(line.split("loss: ")[1].split(";")[0]) for line in lines if line.startswith("loss: ")]
    assert math.isfinite(again)
    assert any(line.startswith("audio: streams of") for line in lines)
    many = {"rows": [kept["rows"][0]] * 10**6, "views": [0] * 10**6, "windows": [[0.0, 1e9]] * 10**6}
    write_json(folder / "lost.json", kept | many | {"recordings": [kept["recordings"][0]] * 10**6})
    with pytest.raises(StageError, match=r"a batch of 1,000,000 windows would take .* lost.json was changed; train again"):
        replay(run.root)
    with monkeypatch.context() as patch:
        _spoil(patch, {0})
        with pytest.raises(StageError, match="became nan"):
            run_all(plan, run, workers=1)  # trained again, as the message says: the batch that is lost then is kept
    assert read_json(folder / "lost.json") == kept
    assert replay(run.root) == lines


def test_replay_says_whose_stream_holds_what_is_no_number(tiny_plan, run, monkeypatch, small_recipe):
    from mmcl.review import replay as module

    with monkeypatch.context() as patch:
        _spoil(patch, {0})
        with pytest.raises(StageError, match="became nan"):
            run_all(tiny_plan("dataset.samples=48", text=small_recipe), run, workers=1)
    whole = stack_batch

    def with_a_hole(*args):
        batch = whole(*args)
        batch.streams["audio"].values[int(batch.streams["audio"].present.nonzero()[2])] = float("nan")
        return batch

    monkeypatch.setattr("mmcl.data.stack.batch", with_a_hole)
    kept = read_json(run.stage("pretrain", 0, 3) / "lost.json")
    (line,) = [line for line in module.replay(run.root) if line.startswith("audio: streams")]
    assert "no numbers (of toy" in line and line.split("(of ")[1].rstrip(")") in kept["recordings"]
    write_tensors(run.stage("pretrain", 0, 3) / "lost.safetensors", {"of another": torch.zeros(3)})
    with pytest.raises(StageError, match=r"lost\.safetensors: holds other weights than this run's networks have"):
        list(module.replay(run.root))


def test_batches_without_a_number_are_left_out_by_option_and_counted(tiny_plan, run, monkeypatch, small_recipe, capsys):
    plan = tiny_plan("pretrain.skip=1", "dataset.samples=48", text=small_recipe)
    with monkeypatch.context() as patch:
        _spoil(patch, {1})
        run_all(plan, run, workers=1, stop_after="pretrain")
    assert "this batch is left out, 1 of at most 1 (pretrain.skip)" in capsys.readouterr().err
    facts = read_json(run.stage("pretrain", 0, 3) / "finished.json")
    assert facts["skipped_pairs"] == {LOST: 1}
    other = RunFolder(run.root.with_name("other"))
    with monkeypatch.context() as patch:
        _spoil(patch, {0, 1})
        with pytest.raises(StageError, match=r"step 2 .*after 1 that were left out"):
            run_all(plan, other, workers=1)
    assert read_json(other.stage("pretrain", 0, 3) / "lost.json")["step"] == 0


def test_a_validation_loss_that_is_no_number_stops_too(tiny_plan, run, monkeypatch, small_recipe):
    _spoil(monkeypatch, {2})
    with pytest.raises(StageError, match=r"the loss on validation recordings became nan in epoch 1; lower"):
        run_all(tiny_plan("dataset.samples=48", text=small_recipe), run, workers=1)


def test_an_option_that_nobody_uses_leaves_fingerprints_as_they_were(tiny_plan):
    assert "skip" not in tiny_plan().to_json()["pretrain"]
    assert tiny_plan("pretrain.skip=2").to_json()["pretrain"]["skip"] == 2


def test_without_a_lost_batch_replay_says_so(tiny_run):
    from mmcl.review.replay import replay

    with pytest.raises(StageError, match="kept no batch; one is kept where a loss in pretraining becomes no number"):
        replay(tiny_run.root)


def _trains_and_replays(rank, root, plan, port):
    """One of two processes: a training whose second batch has no number, then the batch once more. The first writes what both saw."""
    import os

    from mmcl.model import contrast
    from mmcl.recipe.carried import unpacked
    from mmcl.review.replay import replay
    from mmcl.stopping import SilentEnd

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    real, count, before = contrast.score, itertools.count(), []

    def spoiled(*args, **kwargs):
        objective = real(*args, **kwargs)
        if next(count) == 1:
            before.append(float(objective.loss.detach()))
            objective.loss = objective.loss * float("nan")
        return objective

    contrast.score = spoiled
    os.environ["MASTER_PORT"] = str(port)
    with pytest.raises((StageError, SilentEnd), match="became nan"):
        run_all(unpacked(plan), RunFolder(root), workers=1)
    while not list(root.glob("fold-*/seed-*/pretrain/lost.json")):  # which the first of them writes
        time.sleep(0.02)
    os.environ["MASTER_PORT"] = str(port + 1)
    lines = replay(root)
    if rank == 0:
        (root / "saw.json").write_text(json.dumps({"before": before, "lines": lines}))
    else:
        assert lines == []


def test_a_batch_that_two_processes_lost_is_seen_by_two_as_it_was_and_refused_by_one(tiny_plan, run, small_recipe):
    from mmcl.recipe.carried import packed
    from mmcl.review.replay import replay
    from mmcl.workers import fork_context

    sets = ("dataset.samples=48", "modalities.audio.augment={noise: 0.5}", "modalities.audio.backbone.dropout=0.5")
    plan = tiny_plan(*sets, text=small_recipe)
    run_all(plan, run, workers=1, stop_after="prepare")
    with socket.socket() as one:  # two ports beside each other that nobody has
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    context = fork_context(["mmcl.stages.loaded"])
    processes = [context.Process(target=_trains_and_replays, args=(rank, run.root, packed(plan), port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    saw = json.loads((run.root / "saw.json").read_text())
    (again,) = [line.split("loss: ")[1].split(";")[0] for line in saw["lines"] if line.startswith("loss: ")]
    assert again == f"{saw['before'][0]:.6g}"
    assert read_json(run.stage("pretrain", 0, 3) / "lost.json")["processes"] == 2
    with pytest.raises(
        StageError, match=r"lost in 2 processes, .* here is one; look at it with: torchrun --nproc-per-node 2 -m mmcl replay"
    ):
        replay(run.root)
