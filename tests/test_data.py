"""Store, windows, stacking, batches: what a training step is given."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.api import Layout, StageError, Timed
from mmcl.data.batches import ahead, epoch_batches
from mmcl.data.stack import batch, stack
from mmcl.data.store import Store, StoreWriter, mapped
from mmcl.data.windows import WHOLE, Span, common_seconds, cut, draw, slide

SIGNAL = Layout("signal", ("time", "channel"), {"channel": 3}, rate=50.0)
WORDS = Layout("word-vectors", ("time", "channel"), {"channel": 2})
VECTOR = Layout("vector", ("channel",), {"channel": 4})


def make_store(folder: Path, layout: Layout, streams: dict[int, object]) -> Store:
    writer = StoreWriter(folder, layout)
    for row, stream in streams.items():
        writer.add(row, stream)  # type: ignore[arg-type]  # arrays and Timed
    writer.close({"key": "k", "skipped": []})
    return Store(folder)


def ramp(steps: int, offset: float = 0.0) -> np.ndarray:
    """Values that say which step they are."""
    return (np.arange(steps, dtype=np.float32)[:, None] + np.array([0, 1000, 2000], np.float32) + offset).astype(np.float32)


def test_store_gives_back_what_was_written_over_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("mmcl.data.store.SHARD_BYTES", 400)
    streams = {row: ramp(10 + row, row * 1e5) for row in range(9)}
    store = make_store(tmp_path / "s", SIGNAL, streams)
    assert len(list((tmp_path / "s").glob("shard-*"))) > 2
    for row, values in streams.items():
        np.testing.assert_array_equal(store.values(row), values)
        np.testing.assert_array_equal(store.values(row, 3, 7), values[3:7])
    assert store.rows.tolist() == list(range(9))
    assert 9 not in store
    assert store.layout == SIGNAL


def test_reading_a_window_reads_no_more_than_the_window(tmp_path):
    store = make_store(tmp_path / "s", SIGNAL, {0: ramp(1000)})
    window = store.values(0, 400, 420)
    assert isinstance(window.base, np.ndarray)  # a view of the memory map, not a copy of the recording
    assert window.nbytes == 20 * 3 * 4


def test_nothing_can_be_opened_before_the_store_is_whole(tmp_path):
    writer = StoreWriter(tmp_path / "s", SIGNAL)
    writer.add(0, ramp(5))
    assert not (tmp_path / "s").exists()
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_cut_short_is_refused_with_its_name(tmp_path):
    make_store(tmp_path / "s", SIGNAL, {0: ramp(100)})
    shard = tmp_path / "s" / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(StageError, match="shard-00000.safetensors: is not a whole"):
        mapped(shard)


def test_times_of_irregular_steps_survive(tmp_path):
    times = np.array([[0.1, 0.4], [0.5, 0.9], [2.0, 2.2]])
    store = make_store(tmp_path / "s", WORDS, {4: Timed(np.ones((3, 2), np.float32), times)})
    np.testing.assert_array_equal(store.times(4), times)
    assert store.seconds(4) == 2.2


def two_rates(tmp_path: Path) -> dict[str, Store]:
    """Two modalities whose values are the time in seconds at which each step starts."""
    slow = Layout("signal", ("time", "channel"), {"channel": 1}, rate=30.0)
    fast = Layout("signal", ("time", "channel"), {"channel": 1}, rate=50.0)

    def clock(seconds: float, rate: float) -> np.ndarray:
        return (np.arange(round(seconds * rate), dtype=np.float32) / rate)[:, None]

    return {
        "slow": make_store(tmp_path / "slow", slow, {row: clock(2 + row, 30) for row in range(4)}),
        "fast": make_store(tmp_path / "fast", fast, {row: clock(2.5 + row, 50) for row in range(4)}),
    }


def test_windows_are_synchronous_across_rates(tmp_path):
    stores = two_rates(tmp_path)
    for seed in range(50):
        row = seed % 4
        span = draw(stores, row, 1.0, "random", np.random.default_rng(seed))
        slow, fast = cut(stores["slow"], row, span), cut(stores["fast"], row, span)
        assert len(slow) == 30
        assert len(fast) == 50
        assert abs(float(slow[0, 0]) - span.start) <= 0.5 / 30 + 1e-6
        assert abs(float(fast[0, 0]) - span.start) <= 0.5 / 50 + 1e-6
        assert span.start + 1.0 <= common_seconds(stores, row) + 1e-9


def test_random_starts_cover_the_whole_recording_evenly(tmp_path):
    stores = two_rates(tmp_path)
    starts = [draw(stores, 3, 1.0, "random", np.random.default_rng(seed)).start for seed in range(2000)]
    counts, _ = np.histogram(starts, bins=8, range=(0, 4.0))
    assert counts.min() > 2000 / 8 * 0.75


def test_a_share_draws_length_and_place_of_each_window_within_the_recording(tmp_path):
    stores = two_rates(tmp_path)
    spans = [draw(stores, 2, None, "random", np.random.default_rng(seed), share=0.5) for seed in range(500)]
    lengths = np.array([span.seconds for span in spans]) / 4.0
    assert 0.5 <= lengths.min() < 0.55
    assert 0.95 < lengths.max() <= 1.0
    assert all(span.start + span.seconds <= 4.0 + 1e-9 for span in spans)
    slow, fast = cut(stores["slow"], 2, spans[0]), cut(stores["fast"], 2, spans[0])
    assert abs(len(slow) / 30 - len(fast) / 50) < 0.04


def test_common_length_is_the_shortest_modality_with_a_rate(tmp_path):
    stores = two_rates(tmp_path)
    assert common_seconds(stores, 0) == pytest.approx(2.0)
    words = make_store(tmp_path / "w", WORDS, {0: Timed(np.ones((1, 2), np.float32), np.array([[0.0, 0.3]]))})
    assert common_seconds({**stores, "words": words}, 0) == pytest.approx(2.0)
    assert common_seconds({"words": words}, 0) == pytest.approx(0.3)


def test_a_recording_shorter_than_the_window_is_taken_whole(tmp_path):
    stores = two_rates(tmp_path)
    span = draw(stores, 0, 5.0, "random", np.random.default_rng(0))
    assert span.start == 0.0
    assert len(cut(stores["slow"], 0, span)) == 60


def test_words_fall_in_the_window_in_which_their_middle_lies(tmp_path):
    times = np.array([[0.0, 0.5], [0.9, 1.3], [2.0, 2.4]])
    store = make_store(tmp_path / "w", WORDS, {0: Timed(np.arange(6, dtype=np.float32).reshape(3, 2), times)})
    np.testing.assert_array_equal(cut(store, 0, Span(1.0, 1.0)), [[2, 3]])
    assert cut(store, 0, Span(1.2, 0.5)) is None  # nobody speaks: missing in this window, not a row of zeros
    np.testing.assert_array_equal(cut(store, 0, WHOLE), np.arange(6).reshape(3, 2))


@pytest.mark.parametrize(
    ("seconds", "hop", "starts"),
    [(1.0, 0.5, [0, 0.5, 1]), (1.0, 0.4, [0, 1 / 3, 2 / 3, 1]), (3.0, None, [0]), (2.0, None, [0])],
)
def test_sliding_windows_cover_both_ends(tmp_path, seconds, hop, starts):
    spans = slide({"slow": two_rates(tmp_path)["slow"]}, 0, seconds, "sliding", hop)
    assert [s.start for s in spans] == pytest.approx(starts)


def test_stack_pads_with_zeros_and_masks_and_marks_missing_rows():
    stream = stack([ramp(2, 5), None, ramp(4, 5)], SIGNAL)
    assert stream.values.shape == (3, 4, 3)
    assert stream.steps.tolist() == [[True, True, False, False], [False] * 4, [True] * 4]
    assert stream.present.tolist() == [True, False, True]
    assert float(stream.values[~stream.steps].abs().sum()) == 0.0
    np.testing.assert_array_equal(stream.values[2].numpy(), ramp(4, 5))


def test_frames_are_scaled_and_vectors_have_no_time():
    frames = Layout(
        "video", ("time", "channel", "height", "width"), {"channel": 1, "height": 2, "width": 2}, 10.0, scale=1 / 255
    )
    stream = stack([np.full((3, 1, 2, 2), 255, np.uint8)], frames)
    assert stream.values.dtype == torch.float32
    torch.testing.assert_close(stream.values, torch.ones(1, 3, 1, 2, 2))
    vectors = stack([np.ones((1, 4), np.float32), None], VECTOR)
    assert vectors.values.shape == (2, 4)
    assert vectors.steps.shape == (2, 1)


def test_batch_keeps_rows_in_order_in_every_modality(tmp_path):
    stores = two_rates(tmp_path)
    both = batch(stores, [2, 0], [WHOLE, WHOLE])
    assert both.items.row.tolist() == [2, 0]
    assert [int(s.steps[0].sum()) for s in both.streams.values()] == [stores["slow"].length(2), stores["fast"].length(2)]


def test_every_row_comes_once_an_epoch_and_a_lone_last_row_joins_its_neighbours():
    batches = epoch_batches(range(100, 133), 8, 1, "epoch", 0)
    assert sorted(row for b in batches for row in b) == list(range(100, 133))
    assert [len(b) for b in batches] == [8, 8, 8, 9]


def test_order_depends_on_the_address_alone():
    assert epoch_batches(range(50), 8, 1, "epoch", 3) == epoch_batches(range(50), 8, 1, "epoch", 3)
    assert epoch_batches(range(50), 8, 1, "epoch", 3) != epoch_batches(range(50), 8, 1, "epoch", 4)
    assert epoch_batches(range(50), 8, 1, "epoch", 3) != epoch_batches(range(50), 8, 2, "epoch", 3)


def test_ahead_keeps_order_hands_on_errors_and_leaves_no_thread():
    assert list(ahead([lambda i=i: i for i in range(20)])) == list(range(20))

    def fail() -> int:
        raise ValueError("broken clip")

    with pytest.raises(ValueError, match="broken clip"):
        list(ahead([lambda: 1, fail, lambda: 2]))
    for value in ahead([lambda i=i: i for i in range(1000)]):
        if value == 3:
            break
    assert not [t for t in threading.enumerate() if t.name == "mmcl-ahead"]


def test_windows_of_several_modalities_go_on_to_the_end_of_the_longest(tmp_path):
    assert [s.start for s in slide(two_rates(tmp_path), 0, 1.0, "sliding", None)] == pytest.approx([0, 0.5, 1, 1.5])


def test_nothing_is_cut_from_a_stream_that_has_ended(tmp_path):
    stores = two_rates(tmp_path)
    assert cut(stores["slow"], 0, Span(2.0, 0.5)) is None
    assert len(cut(stores["slow"], 0, Span(1.9, 0.5))) == 15  # the last full window, where it ends inside


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32"])
def test_stored_values_become_scaled_floats_whatever_they_were(kind):
    rng, scale = np.random.default_rng(0), 1 / 255
    arrays = [(200 * rng.random((steps, 2, 5))).astype(kind) for steps in (3, 1)] + [None]
    layout = Layout("video", ("time", "channel", "height"), {"channel": 2, "height": 5}, 8.0, scale=scale)
    stream = stack(arrays, layout)
    assert stream.values.dtype == torch.float32
    assert stream.steps.sum(1).tolist() == [3, 1, 0]
    for row, array in enumerate(arrays):
        for step in range(3):
            there = array is not None and step < len(array)
            wanted = torch.from_numpy(array[step].astype(np.float32)) * scale if there else torch.zeros(2, 5)
            assert torch.equal(stream.values[row, step], wanted), (row, step)


def test_folds_json_is_read_once_for_as_long_as_it_stays(tmp_path, monkeypatch):
    from mmcl.data import prepared
    from mmcl.runs import RunFolder, write_json

    reads = []
    real = prepared.read_json
    monkeypatch.setattr(prepared, "read_json", lambda path: reads.append(path) or real(path))
    run = RunFolder(tmp_path)
    sample = {"id": "a", "group": "g", "sources": {}, "targets": {}, "split": None, "facts": {}}
    kept = {"stores": {}, "samples": [sample], "folds": [{"fold": 0, "train": [0], "valid": [], "test": []}], "key": "k"}
    write_json(tmp_path / "folds.json", kept)
    _, first = prepared.load_split(run)
    first.clear()  # what one caller does to its list is no other's business
    assert [one.id for one in prepared.load_prepared(RunFolder(tmp_path)).samples] == ["a"]
    assert prepared.load_prepared(run).key == "k" and len(prepared.load_prepared(run).folds) == 1
    assert len(reads) == 1
    write_json(tmp_path / "folds.json", {**kept, "samples": [{**sample, "id": "b"}]})  # as long as before
    assert [one.id for one in prepared.load_split(run)[0]] == ["b"]
    assert len(reads) == 2
