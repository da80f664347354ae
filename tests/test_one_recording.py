"""`mmcl data show`: one recording on a page, as a recipe or a run sees it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from mmcl.api import Audio, DataError, StageError, Table
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.media.frames import LongFilm
from mmcl.media.sound import LongAudio
from mmcl.report.one_recording import blocks, page
from mmcl.review.one_recording import _gaps_of, film_of, recording_of_plan, recording_of_run, runs_of, wave_of


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
    samples[[0, 9001]] = 9, -9  # the first of a block counts
    drawn = wave_of(Audio(samples, 16_000))
    edges = np.linspace(0, len(samples), 1401).astype(int)
    stretches = [samples[first:last] for first, last in itertools.pairwise(edges)]
    np.testing.assert_array_equal(drawn.envelope, [[one.min(), one.max()] for one in stretches])
    parted = LongAudio(lambda: (samples[k : k + 9001] for k in range(0, len(samples), 9001)), 16_000)
    np.testing.assert_array_equal(wave_of(parted).envelope, drawn.envelope)
    assert (
        (drawn.samples, drawn.loudest) == (100_003, np.abs(samples).max()) == (wave_of(parted).samples, wave_of(parted).loudest)
    )
    assert "samples" not in vars(parted), "the sound was put together"
    assert np.allclose(blocks(np.ones((5000, 2))), 1.0)
    assert len(blocks(np.ones((5000, 2)))) == 1400


@pytest.mark.parametrize("count", [0, 1, 400, 401, 3000])
def test_of_a_long_film_frames_are_kept_evenly(count):
    frames = np.arange(count, dtype=np.int64).astype(np.uint8).reshape(-1, 1, 1, 1).repeat(3, 1)
    film = LongFilm(Path("film"), lambda: iter(frames), 25.0, (3, 1, 1), count)
    kept = film_of(film)
    assert (kept.count, "frames" in vars(film)) == (count, False)
    assert min(count, 200) <= len(kept.numbers) <= 400
    assert set(np.diff(kept.numbers)) <= {max(1, int(np.diff(kept.numbers)[0]) if len(kept.numbers) > 1 else 1)}
    if count:
        np.testing.assert_array_equal(kept.frames[:, 0, 0, 0], (kept.numbers % 256).astype(np.uint8))
