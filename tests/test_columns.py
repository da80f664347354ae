"""Recordings and folds in columns: what goes in comes out, equal things give equal bytes, and nothing damaged is believed."""

import json
import time
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcl.api import DataError, SampleRef, StageError
from mmcl.data.columns import read_recordings, write_recordings
from mmcl.data.folds import Fold
from mmcl.data.prepared import keep, kept_by, load_split
from mmcl.data.recordings import Recordings, Rows
from mmcl.data.store import mapped
from mmcl.runs import Each, RunFolder, fingerprint, read_json, write_arrays, write_json
from tests.conftest import keep_split, split_of

TEXTS = st.text(max_size=8)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
LABELS = st.none() | NUMBERS | st.lists(st.none() | st.integers(0, 1), max_size=4) | st.lists(st.floats(-1, 1), min_size=1)
SAMPLES = st.lists(
    st.builds(
        SampleRef,
        id=TEXTS,
        group=TEXTS,
        sources=st.dictionaries(st.sampled_from(["audio", "bytes", "names.there"]), TEXTS),
        targets=st.dictionaries(st.sampled_from(["mood", "numbers", "kind.starts"]), LABELS),
        split=st.none() | TEXTS,
        facts=st.dictionaries(TEXTS, TEXTS | st.integers(-9, 9), max_size=2),
    ),
    max_size=6,
)


def plain(sample):
    """Without labels that are None, which is what a label that is left out is."""
    targets = {name: value for name, value in sample.targets.items() if value is not None}
    return json.dumps(
        [sample.id, sample.group, dict(sample.sources), targets, sample.split, dict(sample.facts)], sort_keys=True
    )


@settings(max_examples=150, deadline=None)
@given(SAMPLES)
def test_what_goes_into_columns_comes_out(samples):
    kept = Recordings.of(samples)
    assert [plain(one) for one in kept] == [plain(one) for one in samples]
    for row, one in enumerate(samples):
        assert (kept.id(row), kept.group(row), kept.split(row)) == (one.id, one.group, one.split)
        assert {name: kept.source(name, row) for name in one.sources} == one.sources
    assert [kept.groups[code] for code in kept.codes(range(len(samples)))] == [one.group for one in samples]
    assert kept == Recordings.of(list(kept)) or any(None in one.targets.values() for one in samples)


def people(count=6):
    return [
        SampleRef(
            f"clip {i}",
            f"person {i % 3}",
            {"audio": f"{i}.wav"} | ({"face": f"{i}.mp4"} if i % 2 else {}),
            {"mood": i % 2, "signs": [1, None], "level": [0.5, i / 3]},
            ("train", None)[i % 2],
            {"take": i},
        )
        for i in range(count)
    ]


FOLDS = [Fold(2, (0, 3), (1,), (2,)), Fold(0, (4,), (5, 0), (1,), (3,))]


def test_a_file_of_columns_gives_back_samples_and_folds_and_is_the_same_each_time(tmp_path):
    for name in ("one", "other"):
        write_recordings(tmp_path / name, Recordings.of(people()), FOLDS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    samples, folds = read_recordings(tmp_path / "one")
    assert list(samples[1].sources) == ["audio", "face"] and list(samples[1].targets) == ["mood", "signs", "level"]  # in order
    assert list(samples) == people() and samples[-1] == people()[-1] and samples[1:3] == people()[1:3]
    assert {**folds} == {fold.number: fold for fold in FOLDS}
    assert samples == Recordings.of(people()) and samples != Recordings.of(people()[::-1])
    with pytest.raises(IndexError):
        samples[6]


def damages():
    """Each column of a file, in each way in which it can be wrong."""
    columns = {**Recordings.of(people()).columns, "fold.0.train": np.array([0, 1], np.int32)}
    for name, values in columns.items():
        yield name, "gone", None
        yield name, "shorter", values[:-1]
        yield name, "of another shape", values.reshape(1, -1)
        if name.endswith((".starts", "fold.0.train", ".kind")) or name in ("group", "split"):
            yield name, "far beyond", np.where(np.arange(len(values)) == len(values) // 2, 100, values).astype(values.dtype)
            yield name, "negative", np.where(np.arange(len(values)) == len(values) // 2, -5, values).astype(np.int64)
            yield name, "of floats", values.astype(np.float32)


@pytest.mark.parametrize(("name", "how", "values"), list(damages()), ids=lambda one: one if isinstance(one, str) else "")
def test_damaged_columns_end_in_one_sentence_or_are_harmless(name, how, values, tmp_path):
    columns = {**Recordings.of(people()).columns, "fold.0.train": np.array([0, 1], np.int32)}
    path = tmp_path / "recordings.safetensors"
    write_arrays(
        path, {**{n: v for n, v in columns.items() if n != name}, **({} if values is None else {name: np.array(values)})}
    )
    harmless = name == "fold.0.train" and how in ("gone", "shorter")  # what folds.json says of the file then tells
    with nullcontext() if harmless else pytest.raises(StageError, match=r"recordings\.safetensors"):
        list(read_recordings(path)[0])


def test_text_and_facts_that_are_none_are_named(tmp_path):
    for name, values, words in (
        ("id.bytes", np.full(36, 0xFF, np.uint8), "'id' of recording 0 is no text"),
        ("facts.bytes", None, "facts of recording 0 cannot be read as JSON"),
    ):
        columns = dict(Recordings.of(people()).columns)
        columns[name] = np.full(len(columns[name]), ord("{"), np.uint8) if values is None else values
        write_arrays(tmp_path / "r", columns)
        with pytest.raises(StageError, match=words):
            list(read_recordings(tmp_path / "r")[0])


def test_folds_json_knows_the_state_of_its_recordings(tmp_path):
    run = RunFolder(tmp_path)
    keep(run, {}, Recordings.of(people()), FOLDS)
    assert [fold.number for fold in load_split(run)[1]] == [2, 0]  # in the recipe's order
    key = read_json(tmp_path / "folds.json")["key"]
    keep(run, {}, Recordings.of(people()), FOLDS)
    assert read_json(tmp_path / "folds.json")["key"] == key
    write_recordings(tmp_path / "recordings.safetensors", Recordings.of(people(5)), FOLDS[:1])
    (tmp_path / "folds.json").touch()
    with pytest.raises(StageError, match=r"recordings.safetensors: is not what folds.json was written with"):
        load_split(run)


def test_a_folds_json_of_an_older_mmcl_is_read_and_its_fingerprint_kept(tmp_path):
    run = RunFolder(tmp_path)
    keep_split(tmp_path, {"stores": {}, "samples": [vars(one) for one in people()], "folds": [{"fold": 0, "train": [0, 1]}]})
    kept = split_of(tmp_path)
    (tmp_path / "recordings.safetensors").unlink()
    write_json(tmp_path / "folds.json", {"format": 1, "key": "as it was", **kept})
    samples, folds = load_split(run)
    assert list(samples) == people() and folds == [Fold(0, (0, 1))]
    keep(run, {}, samples, folds)
    assert read_json(tmp_path / "folds.json")["key"] == "as it was"
    assert "samples" not in read_json(tmp_path / "folds.json")
    keep(run, {}, Recordings.of(people(5)), folds)
    assert read_json(tmp_path / "folds.json")["key"] != "as it was"


@pytest.mark.parametrize(
    "content", [{}, {"format": 2}, {"stores": {}, "samples": []}, {"recordings": "x"}, {"recordings": None}]
)
def test_a_folds_json_that_says_too_little_is_written_anew(content, tmp_path):
    run = RunFolder(tmp_path)
    keep(run, {}, Recordings.of(people()), FOLDS)
    whole = (tmp_path / "folds.json").read_bytes()
    write_json(tmp_path / "folds.json", content)
    for reads in (load_split, kept_by):
        with pytest.raises(StageError, match=r"folds\.json|recordings\.safetensors"):
            reads(run)
    keep(run, {}, Recordings.of(people()), FOLDS)
    assert (tmp_path / "folds.json").read_bytes() == whole


def test_labels_that_a_column_cannot_hold_are_refused_with_the_recording():
    for label in ("glad", 2**60, [2**60], {"a": 1}, ["x"]):
        with pytest.raises(DataError, match="recording 'a': its label of 'mood' is"):
            Recordings.of([SampleRef("a", "g", {}, {"mood": label})])


def test_rows_are_as_good_as_a_tuple():
    rows = Rows([3, 1, 2])
    assert rows == (3, 1, 2) and rows == (3, 1, 2) and rows != (3, 1) and rows[1:] == (1, 2) and rows[-1] == 2
    assert list(rows + rows) == [3, 1, 2, 3, 1, 2] and 1 in rows and not Rows([]) and hash(rows) == hash(Rows((3, 1, 2)))
    assert type(rows[0]) is int and all(type(row) is int for row in rows)
    assert fingerprint([rows, "x"]) == fingerprint([(3, 1, 2), "x"])
    assert Fold(0, rows) == Fold(0, (3, 1, 2))


def test_a_streamed_fingerprint_is_that_of_the_whole_text():
    values = [["a", "b.wav", 3, None], None, ["ü", 'c"', 1.5, True]] * 500
    assert fingerprint({"z": values, "a": []}) == fingerprint({"z": Each(lambda: iter(values)), "a": []}, streamed=True)
    assert fingerprint({"z": []}) == fingerprint({"z": Each(lambda: iter(()))}, streamed=True)


def test_a_hundred_thousand_recordings_open_in_little_memory(tmp_path):
    """Objects of all of them were 280 MB; the bound here is a tenth."""
    samples = Recordings.of(
        SampleRef(f"clip-{i:06d}", f"person-{i % 999}", {"audio": f"{i}.wav"}, {"mood": i % 3}, "train") for i in range(100_000)
    )
    write_recordings(tmp_path / "r", samples, [Fold(0, range(100_000))])
    del samples
    tracemalloc.start()
    began = time.process_time()
    opened, folds = read_recordings(tmp_path / "r")
    assert opened[99_999].id == "clip-099999" and folds[0].train[7] == 7
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 28e6, f"{peak / 1e6:.0f} MB in {took:.2f} s"
    assert set(mapped(tmp_path / "r")) > {"id.bytes", "id.starts", "group", "target.mood.kind", "fold.0.train"}
