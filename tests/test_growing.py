"""Tables that grow: what was added is read, held in memory or not, and memory stays where it is however many recordings there are."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmcl.api import SampleRef, Timed
from mmcl.api.kinds import Layout
from mmcl.data import growing
from mmcl.data.growing import Numbers, Spool
from mmcl.data.recordings import Recordings
from mmcl.data.store import Store, StoreWriter
from mmcl.runs import write_arrays
from tests.conftest import measured

SERIES = Layout("sequence", ("time", "channel"), {"channel": 3}, rate=4.0)


@pytest.fixture(params=[1 << 20, 64], ids=["in memory", "in a file"])
def held(request, monkeypatch):
    monkeypatch.setattr(growing, "HELD", request.param)
    return request.param


def test_numbers_are_read_as_they_were_added(held):
    numbers, expected = Numbers("q"), []
    for k in range(100):
        numbers.append(k)
        numbers.extend([-k, 2**40 + k])
        expected += [k, -k, 2**40 + k]
        assert len(numbers) == len(expected)
    numbers.fill(7, 50)
    array = numbers.array()
    assert array.dtype == np.int64 and array.tolist() == expected + [7] * 50
    assert isinstance(array, np.memmap) is (held == 64)
    with pytest.raises(OverflowError):
        Numbers("B").append(256)


def test_bytes_of_a_spool_are_those_that_were_added(held):
    spool, parts = Spool(), [bytes([k]) * size for k, size in enumerate((0, 1, 63, 64, 65, 1000, 3))]
    for part in parts:
        spool.add(part)
    assert len(spool) == sum(map(len, parts)) and spool.array().tobytes() == b"".join(parts)
    assert len(Spool().array()) == 0


def test_a_spool_leaves_no_file_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(growing, "HELD", 8)
    spool = Spool(tmp_path)
    spool.add(b"x" * 100)
    assert spool.array().tobytes() == b"x" * 100 and not list(tmp_path.iterdir())


def test_recordings_are_the_same_in_memory_and_in_a_file(monkeypatch):
    def some():
        for k in range(200):
            yield SampleRef(
                f"é-{k}", f"p{k % 7}", {"x": f"{k}.wav"} if k > 40 else {}, {"mood": k % 3} if k % 2 else {"cues": [0.5, None]}
            )

    before = Recordings.of(some())
    monkeypatch.setattr(growing, "HELD", 64)
    after = Recordings.of(some())
    assert after == before and list(after) == list(before) == list(some())
    assert isinstance(after.columns["id.bytes"], np.memmap) and not isinstance(before.columns["id.bytes"], np.memmap)


def _streams(rng):
    return [rng.standard_normal((length, 3)).astype(np.float32) for length in (4, 1, 9, 2, 30, 5)]


def test_a_store_is_the_same_to_the_byte_however_little_is_held(tmp_path, monkeypatch):
    streams = _streams(np.random.default_rng(0))
    for name, held in (("one", 1 << 20), ("other", 16)):
        monkeypatch.setattr(growing, "HELD", held)
        writer = StoreWriter(tmp_path / name, SERIES)
        for row, stream in enumerate(streams):
            writer.add(2 * row, stream)
        writer.close({})
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name
    store = Store(tmp_path / "other")
    for row, stream in enumerate(streams):
        np.testing.assert_array_equal(store.values(2 * row), stream)


def test_streams_that_come_in_any_order_and_of_several_types_are_read_as_they_are(tmp_path):
    writer = StoreWriter(tmp_path / "s", SERIES)
    streams = {5: np.full((2, 3), 200, np.uint8), 1: np.full((3, 3), 0.5, np.float32), 3: np.full((1, 3), 7, np.uint8)}
    for row, values in streams.items():
        writer.add(row, Timed(values, np.arange(2 * len(values)).reshape(-1, 2) / 4))
    writer.close({})
    store = Store(tmp_path / "s")
    assert store.rows.tolist() == [1, 3, 5]
    for row, values in streams.items():
        np.testing.assert_array_equal(store.values(row), values)
        np.testing.assert_array_equal(store.times(row), np.arange(2 * len(values)).reshape(-1, 2) / 4)


def test_arrays_are_written_to_the_bytes_of_safetensors(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        "whole": rng.integers(0, 9, (3, 4)),
        "turned": rng.standard_normal((5, 6)).T,
        "some": rng.standard_normal((9, 2)).astype(np.float32)[::2],
        "yes": rng.integers(0, 2, 7) > 0,
        "bytes": np.frombuffer(b"abc", np.uint8),
        "none": np.zeros((0, 3), np.int32),
        "half": rng.standard_normal(3).astype(np.float16),
    }
    write_arrays(tmp_path / "a", arrays)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_arrays(tmp_path / "c", {"odd": np.arange(3, dtype=np.int16)})
    assert load_file(tmp_path / "c")["odd"].tolist() == [0, 1, 2]


PREPARING = """
import json, sys
import numpy as np
from pathlib import Path
from mmcl.api import SampleRef
from mmcl.api.kinds import Layout
from mmcl.data.folds import Fold, make_folds
from mmcl.data.columns import write_recordings
from mmcl.data.recordings import Recordings
from mmcl.data.store import StoreWriter
from mmcl.recipe.schema import Official

def held():
    return max(held.most, int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]))

held.most = 0
def prepare(count, folder):
    before = held()
    samples = Recordings.of(
        SampleRef(f"clip-{i:08d}", f"p{i % 50}", {"x": f"{i}.wav"}, {"mood": i % 3}, ("test", "valid", "train")[i % 50 % 3])
        for i in range(count)
    )
    most = held()
    writer = StoreWriter(folder / f"store-{count}", Layout("sequence", ("time", "channel"), {"channel": 8}, rate=4.0))
    stream = np.zeros((4, 8), np.float32)
    for row in range(count):
        writer.add(row, stream)
        if row % 2000 == 0 or row == count - 1:
            most = max(most, held())
    writer.close({})
    folds = make_folds(Official(use="official"), samples, range(count), 0)
    write_recordings(folder / f"r-{count}", samples, folds)
    return max(most, held()) - before

from mmcl.data import growing
growing.HELD = 2**14
folder = Path(sys.argv[1])
prepare(200, folder)  # what is loaded at first
print(json.dumps([prepare(count, folder) for count in (2_000, 20_000)]))
"""


def test_preparing_holds_no_more_for_ten_times_the_recordings(tmp_path):
    """Tuples of the index alone are 170 bytes a recording, 3 MB here; columns and streams in memory are 250."""
    few, many = measured(PREPARING, tmp_path)
    assert many - few < 2_500, f"{few} and {many} kB"
