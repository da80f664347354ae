"""`mmcl data show`: one recording on a page, as a recipe or a run sees it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mmcl.api import DataError, StageError, Table
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.report.one_recording import blocks, envelope, page
from mmcl.review.one_recording import _gaps_of, recording_of_plan, recording_of_run, runs_of


def test_the_windows_shown_are_those_that_training_cut(tiny_plan, run, monkeypatch):
    from mmcl.model import windows
    from mmcl.stages import run_all

    seen: list[tuple[int, float, float | None]] = []
    original = windows.batch

    def spy(stores, rows, spans, views=None):
        if views is not None and any(views):  # training draws two views, features one
            seen.extend((row, span.start, span.seconds) for row, span in zip(rows, spans, strict=True))
        return original(stores, rows, spans, views=views)

    monkeypatch.setattr(windows, "batch", spy)
    plan = tiny_plan("pretrain.views=2", "pretrain.epochs=2")
    run_all(plan, run, workers=1)
    prepared = load_prepared(run)
    row = prepared.folds[0].train[0]
    shown = recording_of_run(run.root, prepared.samples[row].id)
    cut = {(start, seconds) for one, start, seconds in seen if one == row}
    assert len(shown.windows) == 2 * 2
    assert {(one.start, one.seconds) for one in shown.windows} <= cut
    assert [one.epoch for one in shown.windows] == [1, 1, 2, 2]
    tested = recording_of_run(run.root, prepared.samples[prepared.folds[0].test[0]].id)
    assert tested.windows == ()
    assert "pretraining cut, by epoch" in page(shown)


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_the_data_say(tiny_plan):
    plan = tiny_plan()
    shown = recording_of_plan(plan, recording_ids(plan)[0])
    text = page(shown)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "<script" not in text
    from dataclasses import replace

    evil = page(replace(shown, facts={"note": "<script>alert(1)</script>"}))
    assert "<script" not in evil
    assert "&lt;script&gt;" in evil


def recording_ids(plan) -> list[str]:
    return [sample.id for sample in plan.dataset.spec.build(plan.dataset.params, plan.root).samples()]


def test_an_unknown_id_offers_the_nearest(tiny_plan):
    plan = tiny_plan()
    known = recording_ids(plan)[0]
    with pytest.raises(DataError, match=re.escape(known)):
        recording_of_plan(plan, known + "x")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(StageError, match="is no run folder"):
        recording_of_run(tmp_path, "a")


def test_a_page_is_not_written_over_unless_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy-00000.html").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["data", "show", "quickstart", "toy-00000"])
    assert stop.value.code == 2
    assert (tmp_path / "toy-00000.html").read_text() == "mine"


def test_gaps_are_the_frames_without_a_face():
    values = np.array([[1], [0], [0], [1], [0]], np.float32)
    assert _gaps_of(Table(values, ("success",), 10.0)) == ((0.1, 0.3), (0.4, 0.5))
    assert runs_of(np.zeros(3, bool), 10.0) == ()


def test_a_long_sound_is_drawn_by_the_lowest_and_highest_of_each_stretch():
    samples = np.random.default_rng(0).normal(size=100_003).astype(np.float32)
    drawn = envelope(samples)
    assert len(drawn) <= 1400
    assert drawn[:, 0].min() == samples.min()
    assert drawn[:, 1].max() == samples.max()
    assert np.allclose(blocks(np.ones((5000, 2))), 1.0)
    assert len(blocks(np.ones((5000, 2)))) == 1400
