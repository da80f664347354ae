"""Pooled statistics: each against a slow computation of its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mmcl.api.kinds import Layout
from mmcl.data.prepared import load_prepared
from mmcl.data.store import Store, StoreWriter
from mmcl.model.frozen import load_features
from mmcl.model.pooled import BINS, pool, pool_joined, statistics, width
from mmcl.report import run_and_report
from mmcl.report.page import write_report
from mmcl.review import rerun
from mmcl.review.audit import audit
from mmcl.runs import RunFolder, read_json, read_jsonl, write_json
from mmcl.stages import embed as embed_stage
from mmcl.stages.embed import read_features

SIGNAL = Layout("sequence", ("time", "channel"), {"channel": 3}, 10.0)
SKELETON = Layout("skeleton", ("time", "joint", "channel"), {"joint": 4, "channel": 3}, 30.0)
VECTOR = Layout("vector", ("channel",), {"channel": 5})
FRAMES = Layout("video", ("time", "channel", "height", "width"), {"channel": 1, "height": 48, "width": 64}, 15.0, 1 / 255)
IDS = Layout("tokens", ("time",), {}, None)


def test_statistics_of_every_entry_are_those_of_numpy_and_of_a_fitted_line():
    values = np.random.default_rng(0).normal(size=(37, 3)).astype(np.float32)
    whole = statistics(values, SIGNAL).reshape(5, 3)
    for channel in range(3):
        x = values[:, channel].astype(np.float64)
        slope = np.polyfit(np.linspace(0, 1, 37), x, 1)[0]
        np.testing.assert_allclose(whole[:, channel], [x.mean(), x.std(), x.min(), x.max(), slope], rtol=1e-5, atol=1e-6)


def test_one_step_has_no_slope_and_no_deviation():
    whole = statistics(np.array([[2.0, -1.0, 0.5]], np.float32), SIGNAL).reshape(5, 3)
    np.testing.assert_array_equal(whole[[1, 4]], 0)
    np.testing.assert_array_equal(whole[0], whole[2])


def test_joints_keep_their_own_statistics():
    values = np.random.default_rng(1).normal(size=(9, 4, 3)).astype(np.float32)
    whole = statistics(values, SKELETON).reshape(5, 4, 3)
    np.testing.assert_allclose(whole[0], values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole[3], values.max(0), rtol=1e-6)


def test_pictures_are_averaged_over_blocks_in_the_units_of_the_layout():
    frames = np.random.default_rng(2).integers(0, 256, size=(6, 1, 48, 64), dtype=np.uint8)
    whole = statistics(frames, FRAMES).reshape(2, 12, 16)
    slow = np.zeros((6, 12, 16))
    for t in range(6):
        for y in range(12):
            for x in range(16):
                slow[t, y, x] = frames[t, 0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean() / 255
    np.testing.assert_allclose(whole[0], slow.mean(0), rtol=1e-5)
    np.testing.assert_allclose(whole[1], slow.std(0), rtol=1e-4, atol=1e-7)


def test_small_pictures_keep_every_pixel():
    layout = Layout("video", ("time", "channel", "height", "width"), {"channel": 3, "height": 5, "width": 7}, 15.0)
    frames = np.random.default_rng(3).normal(size=(4, 3, 5, 7)).astype(np.float32)
    np.testing.assert_allclose(statistics(frames, layout)[: 3 * 5 * 7], frames.mean(0).ravel(), rtol=1e-5, atol=1e-7)


def test_ids_are_counted():
    counts = statistics(np.array([3, 3, BINS + 3, 7]), IDS)
    assert counts[3] == pytest.approx(0.75)
    assert counts[7] == pytest.approx(0.25)
    assert counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("layout", [SIGNAL, SKELETON, FRAMES, IDS], ids=lambda layout: layout.kind)
def test_width_is_known_before_any_stream_is_read(layout):
    values = np.zeros((3, *layout.shape), np.float32)
    assert len(statistics(values, layout)) == width(layout)
    assert len(statistics(np.zeros((1, 5), np.float32), VECTOR)) == width(VECTOR) == 5


def test_missing_recordings_are_zeros_and_not_present(tmp_path):
    writer = StoreWriter(tmp_path / "store", SIGNAL)
    values = np.random.default_rng(4).normal(size=(8, 3)).astype(np.float32)
    writer.add(2, values)
    writer.close({"key": "k"})
    features = pool({"signals": Store(tmp_path / "store")}, [1, 2])["signals"]
    assert features.present.tolist() == [False, True]
    assert not features.vector[0].any()
    torch.testing.assert_close(features.vector[1], torch.from_numpy(statistics(values, SIGNAL)))


def test_a_run_sets_pooled_streams_beside_its_encoders(tiny_plan, tmp_path):
    plan = tiny_plan(
        "worth={few_shot: [0.5], maps: []}",
        "pretrain.epochs=1",
        "probe.heads={linear: {use: linear, l2: [0.1]}}",
    )
    run = RunFolder(tmp_path / "runs" / "tiny")
    run_and_report(plan, run, workers=1)
    folder = run.stage("embed", 0, 3)
    features, who = read_features(folder, "pooled", "test")
    prepared = load_prepared(run)
    by_hand = pool(prepared.stores, prepared.folds[0].test)
    for name, one in by_hand.items():
        assert torch.equal(features[name].vector, one.vector)
        assert torch.equal(features[name].present, one.present)
    assert len(who["ids"]) == len(prepared.folds[0].test)
    summary = read_json(run.root / "report.json")["summary"]
    pooled = {(row["input"], row["metric"]): row["mean"] for row in summary if row["encoder"] == "pooled"}
    for row in summary:
        if row["encoder"] == "pretrained" and (row["input"], row["metric"]) in pooled and row["mean"] is not None:
            assert row["against"]["pooled"]["mean"] == pytest.approx(row["mean"] - pooled[row["input"], row["metric"]])
    assert ("all", "accuracy") in pooled
    page = (run.root / "report.html").read_text()
    assert (
        "no encoder at all, the streams&#39; own statistics" in page or "no encoder at all, the streams' own statistics" in page
    )
    assert "Pooled streams" in page
    retrieval = [json.loads(line) for line in (run.stage("probe", 0, 3) / "retrieval.jsonl").read_text().splitlines()]
    assert {row["encoder"] for row in retrieval} == {"pretrained", "random", "pooled"}
    worth = [json.loads(line) for line in (run.stage("worth", 0, 3) / "worth.jsonl").read_text().splitlines()]
    assert "pooled" not in {row["encoder"] for row in worth}
    assert not [finding for finding in audit(run).findings if not finding.asked]


def events(run: RunFolder) -> list[str]:
    return [
        row["event"] for row in read_jsonl(run.root / "log.jsonl") if row["event"] in ("pretrain", "embed", "probe", "worth")
    ]


def test_a_run_from_before_is_opened_reported_audited_and_rerun_without_pooled_streams(tiny_plan, tmp_path, capsys):
    """Such a run has neither the baseline nor a recipe that leaves it out; it does not get it unless it is run again."""
    before = RunFolder(tmp_path / "runs" / "tiny")
    cheap = (
        "pretrain.epochs=1",
        "probe.heads={linear: {use: linear, l2: [0.1]}}",
        "worth={few_shot: [0.5], draws: 1, maps: []}",
    )
    run_and_report(tiny_plan(*cheap, "report.against=[random, majority]"), before, workers=1)
    assert not list(before.root.rglob("pooled*"))
    about = read_json(before.root / "plan.json")
    about["plan"]["overrides"] = list(cheap)  # what a run says whose recipe took the defaults of then
    write_json(before.root / "plan.json", about)
    assert rerun.plan_of(before.root).recipe.report.against == ("random", "majority")
    assert not [one for one in audit(before).findings if not one.asked]
    write_report(before.root)
    assert "pooled" not in {row["encoder"] for row in read_json(before.root / "report.json")["scores"]}
    assert "Pooled streams" not in (before.root / "report.html").read_text()
    again = RunFolder(tmp_path / "runs" / "again")
    run_and_report(rerun.plan_of(before.root), again, workers=1)
    assert not rerun.differences(before.root, again.root).differences
    count = len(events(before))
    run_and_report(tiny_plan(*cheap), before, workers=1)
    assert events(before)[count:] == ["probe"], (
        "nothing is trained or encoded again, and what does not read pooled streams stays"
    )
    assert "pooled" in {row["encoder"] for row in read_json(before.root / "report.json")["scores"]}
    assert rerun.plan_of(before.root).recipe.report.against == ("random", "pooled", "majority")


def test_the_seeds_of_a_fold_share_their_pooled_streams(tiny_plan, tmp_path, monkeypatch):
    calls: list[int] = []
    monkeypatch.setattr(embed_stage, "pool", lambda stores, rows, span: (calls.append(len(rows)), pool(stores, rows, span))[1])
    run = RunFolder(tmp_path / "runs" / "tiny")
    two = tiny_plan("seed=[3, 4]", "pretrain.epochs=0")
    run_and_report(two, run, workers=1, stop_after="embed")
    assert len(calls) == 3  # training, validation and test rows, once
    first, second = ((run.stage("embed", 0, seed) / "pooled-test.safetensors").read_bytes() for seed in (3, 4))
    assert first == second
    (run.stage("embed", 0, 4) / "pooled.json").unlink()
    embed_stage.embed(two, run)
    assert len(calls) == 6


def test_a_pretext_has_its_streams_pooled_together(tmp_path):
    writer = StoreWriter(tmp_path / "a", SIGNAL)
    values = np.random.default_rng(5).normal(size=(8, 3)).astype(np.float32)
    writer.add(0, values)
    writer.close({"key": "k"})
    writer = StoreWriter(tmp_path / "b", VECTOR)
    writer.add(1, np.ones(5, np.float32))
    writer.close({"key": "k"})
    stores = {"a": Store(tmp_path / "a"), "b": Store(tmp_path / "b")}
    (joint,) = pool_joined(stores, [0, 1, 2]).values()
    assert joint.present.tolist() == [True, True, False]
    torch.testing.assert_close(joint.vector[0], torch.cat([torch.from_numpy(statistics(values, SIGNAL)), torch.zeros(5)]))
    torch.testing.assert_close(joint.vector[1], torch.cat([torch.zeros(15), torch.ones(5)]))


def test_heads_on_projections_read_the_statistics_of_pooled_streams(tiny_plan, tmp_path):
    """The space that pooled streams share is for retrieval; heads on it would be a weaker baseline."""
    run = RunFolder(tmp_path / "runs" / "tiny")
    cheap = (
        "pretrain.epochs=0",
        "probe.heads={linear: {use: linear, l2: [0.1]}}",
        "probe.inputs=[audio]",
        "probe.features=projection",
    )
    run_and_report(tiny_plan(*cheap), run, workers=1)
    folder = run.stage("embed", 0, 3)
    statistics = load_features(folder / "pooled-test.safetensors")["audio"]
    assert statistics.projection.shape[1] == 0
    assert statistics.vector.shape[1] == width(load_prepared(run).stores["audio"].layout)
    space = load_features(folder / "canonical-test.safetensors")["audio"]
    assert (space.vector.shape[1], space.projection.shape[1] > 0) == (0, True)
    chosen = {row["encoder"]: row for row in read_jsonl(run.stage("probe", 0, 3) / "retrieval.jsonl") if row["metric"] == "R@1"}
    assert {"random", "pooled"} <= set(chosen)
    scores = read_jsonl(run.stage("probe", 0, 3) / "scores.jsonl")
    mine, theirs = [], []
    other = RunFolder(tmp_path / "runs" / "vectors")
    run_and_report(tiny_plan(*cheap[:-1]), other, workers=1)
    for rows, values in ((scores, mine), (read_jsonl(other.stage("probe", 0, 3) / "scores.jsonl"), theirs)):
        values += [row["value"] for row in rows if row["encoder"] == "pooled"]
    assert mine == theirs
