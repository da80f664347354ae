"""The kit for plug-in authors is kept honest by mutants: each breaks one rule of a dataset, and must be caught for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmcl.api import (
    Audio,
    DataError,
    DatasetInfo,
    DatasetSpec,
    Field,
    Header,
    NoParams,
    Params,
    SampleRef,
    Sequence,
    Source,
    Task,
)
from mmcl.testing import check_dataset


class Folder:
    """One .bin file of 6 float32 channels a recording: <speaker>-<number>.bin."""

    sources = "wrist"

    def __init__(self, params, root):
        self.root = root

    def files(self):
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; ask the authors for the data")
        return sorted(self.root.glob("*.bin"))

    def ref(self, path):
        speaker, number = path.stem.split("-")
        return SampleRef(
            path.stem, speaker, {"wrist": path.name}, {"mood": int(number) % 2}, "test" if speaker == "a" else "train"
        )

    def samples(self):
        return [self.ref(path) for path in self.files()]

    def read(self, id, source):
        path = self.root / f"{id}.bin"
        values = np.frombuffer(self.whole(path), np.float32)
        return Sequence(values.reshape(-1, 6), 50.0)

    def whole(self, path):
        content = path.read_bytes()
        if len(content) != 50 * 6 * 4:
            raise DataError(f"{path}: has {len(content)} bytes, a recording has {50 * 6 * 4}")
        return content


def write_sample(root, n, seed):
    rng = np.random.default_rng(seed)
    for i in range(n):
        (root / f"{'abc'[i % 3]}-{i}.bin").write_bytes(b"\0" * 4 + rng.random(299, np.float32).tobytes())


INFO = DatasetInfo(
    {"wrist": Source("sequence", "a sensor", 50.0, {"shape": [6]})},
    {"mood": Task("mood", "single-label", ("calm", "tense"))},
    "speaker",
    ("train", "test"),
)


def dataset(folder=Folder, info=INFO, sample=write_sample):
    return DatasetSpec("tiny", "a tiny corpus", NoParams, lambda params: info, folder, sample)


def mutant(**changes):
    return type("Mutant", (Folder,), changes)


def with_ref(change):
    def ref(self, path):
        good = Folder.ref(self, path)
        return SampleRef(**{**{name: getattr(good, name) for name in good.__dataclass_fields__}, **change(good)})

    return mutant(ref=ref)


def test_good_dataset_passes(tmp_path):
    check_dataset(dataset(), tmp_path)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (dataset(with_ref(lambda good: {"id": good.group})), "ids are unique"),
        (dataset(with_ref(lambda good: {"group": " "})), "has no speaker as its group"),
        (dataset(with_ref(lambda good: {"targets": {"mood": 2}})), "index of one of its 2 classes"),
        (dataset(with_ref(lambda good: {"targets": {"mood": True}})), "index of one of its 2 classes"),
        (dataset(with_ref(lambda good: {"targets": {"age": 2}})), "a task that info does not know"),
        (dataset(with_ref(lambda good: {"sources": {"ankle": "x"}})), "sources that info does not know: ankle"),
        (dataset(with_ref(lambda good: {"sources": {"wrist": "/data/x.bin"}})), "relative to the root"),
        (dataset(with_ref(lambda good: {"split": "dev"})), "official split 'dev'"),
        (
            dataset(with_ref(lambda good: {"split": "test" if good.targets["mood"] else "train"})),
            "would leak",
        ),
        (dataset(with_ref(lambda good: {"sources": {}})), "no recording of the tiny copy has it"),
        (dataset(mutant(samples=lambda self: self.files()[:0])), "holds no recording"),
        (
            dataset(mutant(samples=lambda self: np.random.default_rng().permutation(Folder.samples(self)).tolist())),
            "another order",
        ),
        (dataset(mutant(files=lambda self: sorted(self.root.glob("*.bin")))), "missing folder raises DataError"),
        (dataset(mutant(read=lambda self, id, source: Audio(np.zeros(9, np.float32), 9))), "gives mmcl.api.Sequence"),
        (
            dataset(mutant(read=lambda self, id, source: Sequence(Folder.read(self, id, source).values[:, :5], 50.0))),
            "info says steps of shape",
        ),
        (
            dataset(mutant(read=lambda self, id, source: Sequence(Folder.read(self, id, source).values, 25.0))),
            "info says 50 a second",
        ),
        (
            dataset(mutant(read=lambda self, id, source: Sequence(Folder.read(self, id, source).values * np.nan, 50.0))),
            "NaN",
        ),
        (dataset(mutant(whole=lambda self, path: path.read_bytes()[:240] or bytes(24))), "is read as if nothing were wrong"),
        (dataset(mutant(whole=lambda self, path: path.read_bytes())), "is read as if nothing were wrong|DataError"),
        (dataset(sample=None), "brings no `sample`"),
    ],
)
def test_dataset_that_breaks_a_rule_is_caught_for_it(spec, words, tmp_path):
    with pytest.raises(AssertionError, match=words):
        check_dataset(spec, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": {}}, "names no source"),
        ({"sources": {"wrist": Source("accelerometer", "a sensor")}}, "is of type 'accelerometer'"),
        ({"tasks": {"mood": Task("feeling", "single-label", ("calm", "tense"))}}, "calls itself 'feeling'"),
        ({"tasks": {"mood": Task("mood", "ranking", ("calm", "tense"))}}, "is of type 'ranking'"),
        ({"tasks": {"mood": Task("mood", "single-label", ("calm", "calm"))}}, "different names for its classes"),
        ({"tasks": {"mood": Task("mood", "single-label", ("calm",))}}, "different names for its classes"),
        ({"group": ""}, "must never stand on both sides"),
        ({"official": ("train", "dev")}, "official splits are of train, valid and test"),
    ],
)
def test_info_that_breaks_a_rule_is_caught_for_it(change, words, tmp_path):
    with pytest.raises(AssertionError, match=words):
        check_dataset(dataset(info=replace(INFO, **change)), tmp_path)


def test_damaged_file_that_raises_something_else_is_caught_and_mended(tmp_path):
    def whole(self, path):
        content = path.read_bytes()
        if len(content) != 50 * 6 * 4:
            raise ValueError("buffer size")
        return content

    with pytest.raises(AssertionError, match=r"raises DataError, .* found ValueError: buffer size"):
        check_dataset(dataset(mutant(whole=whole)), tmp_path)
    assert all(path.stat().st_size == 1200 for path in (tmp_path / "sample").iterdir()), "the tiny copy is left whole"


class Sorted(Params):
    """Options of a dataset that completes them."""

    speakers: tuple[str, ...] | None = Field(None, description="who is in it; left out: those of the files")


def completing(complete):
    """A dataset whose classes are its speakers, read from its folder by `complete`."""

    def info(params):
        return replace(INFO, tasks={"who": Task("who", "single-label", params.speakers or ())} if params.speakers else {})

    class ByName(Folder):
        def ref(self, path):
            return replace(super().ref(path), targets={"who": "abc".index(path.stem[0])})

    return DatasetSpec("sorted", "who speaks", Sorted, info, ByName, write_sample, complete=complete)


def speakers_of(params, root):
    return Sorted(speakers=params.speakers or tuple(sorted({path.name[0] for path in root.glob("*.bin")})))


def test_dataset_that_completes_its_options_passes(tmp_path):
    check_dataset(completing(speakers_of), tmp_path)


@pytest.mark.parametrize(
    ("complete", "words"),
    [
        (lambda params, root: Sorted(speakers=(*(params.speakers or ()), "a", "b")), "completed once more"),
        (lambda params, root: NoParams(), "of the same class"),
    ],
)
def test_dataset_that_completes_its_options_wrongly_is_caught(tmp_path, complete, words):
    with pytest.raises(AssertionError, match=words):
        check_dataset(completing(complete), tmp_path)


class Headed(Folder):
    seconds = 1.0

    def header(self, id, source):
        self.whole(self.root / f"{id}.bin")
        return Header(self.seconds, 50.0)


class Lying(Headed):
    seconds = 60.0


def test_header_is_held_against_the_recording(tmp_path):
    spec = DatasetSpec("headed", "a sensor", NoParams, lambda params: INFO, Headed, write_sample)
    check_dataset(spec, tmp_path / "right")
    with pytest.raises(AssertionError, match=r"header says 60.0 s, and it lasts 1.0 s"):
        check_dataset(replace(spec, build=Lying), tmp_path / "wrong")


def read_file(path, source):
    return Folder.read(Folder(None, path.parent), path.stem, "wrist")


def test_a_good_reader_of_single_files_passes(tmp_path):
    check_dataset(replace(dataset(), read_file=read_file), tmp_path)


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        (lambda path, source: Audio(np.zeros(5, np.float32), 50), "gives mmcl.api.Sequence, found Audio"),
        (lambda path, source: Sequence(np.zeros((50, 3), np.float32), 50.0), r"info says steps of shape \(6,\)"),
        (lambda path, source: Sequence(2 * read_file(path, source).values, 50.0), "gives other values than `read`"),
        (
            lambda path, source: Folder(None, path.parent.parent / "sample").read(path.stem, "wrist"),
            "it raised FileNotFoundError",
        ),
        (
            lambda path, source: read_file(path, source) if path.read_bytes() else Sequence(np.zeros((1, 6), np.float32), 50.0),
            "reads an emptied file .* as if nothing were wrong",
        ),
        (
            lambda path, source: Sequence(np.frombuffer(path.read_bytes(), np.float32).reshape(50, 6), 50.0),
            "raises DataError; found ValueError",
        ),
    ],
    ids=["another type", "another shape", "other values", "looks in its own folder alone", "takes anything", "another error"],
)
def test_a_reader_of_single_files_that_breaks_its_promise_is_caught(tmp_path, reader, words):
    with pytest.raises(AssertionError, match=words):
        check_dataset(replace(dataset(), read_file=reader), tmp_path)
