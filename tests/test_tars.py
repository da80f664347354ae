"""A run's streams as tar files: everybody reads back what the store holds, and equal runs give equal files."""

import io
import json
import tarfile

import numpy as np
import pytest

from mmcl.api import StageError
from mmcl.cli import main
from mmcl.data.prepared import load_prepared
from mmcl.use import tars


def samples_in(folder, side):
    """Stem → name of each file, after the stem → content."""
    samples = {}
    for path in sorted(folder.glob(f"{side}-*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                stem, _, name = entry.name.partition(".")
                samples.setdefault(stem, {})[name] = tar.extractfile(entry).read()
    return samples


def test_tars_hold_every_recording_of_every_side_once_with_its_streams(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tars, "TAR_BYTES", 200_000)
    with pytest.raises(SystemExit) as done:
        main(["export", str(tiny_run.root), str(tmp_path / "one"), "--to", "webdataset"])
    assert done.value.code == 0
    assert "recordings in" in capsys.readouterr().out
    prepared, about = load_prepared(tiny_run), json.loads((tmp_path / "one" / "about.json").read_text())
    fold = prepared.folds[0]
    assert len(about["files"]) > 3
    assert sum(about["files"].values()) == sum(len(getattr(fold, side)) for side in tars.SIDES)
    for side in tars.SIDES:
        samples = samples_in(tmp_path / "one", side)
        assert sorted(map(int, samples)) == sorted(getattr(fold, side))
        assert len(samples) < 4 or list(map(int, samples)) != sorted(getattr(fold, side))  # mixed
        for stem, files in samples.items():
            row, sample = int(stem), json.loads(files.pop("json"))
            assert (sample["id"], sample["group"]) == (prepared.samples.id(row), prepared.samples.group(row))
            emotion = prepared.samples.target("emotion", row)
            assert sample["targets"]["emotion"] == emotion
            assert sample["classes"]["emotion"] == about["tasks"]["emotion"]["classes"][emotion]
            arrays = {name: np.load(io.BytesIO(content), allow_pickle=False) for name, content in files.items()}
            for name, store in prepared.stores.items():
                assert (f"{name}.npy" in arrays) == (row in store)
                if row in store:
                    np.testing.assert_array_equal(arrays.pop(f"{name}.npy"), store.values(row))
                    if store.times(row) is not None:
                        np.testing.assert_array_equal(arrays.pop(f"{name}.times.npy"), store.times(row))
            assert not arrays
    tars.write_tars(tiny_run.root, tmp_path / "other", 0)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_tars_are_read_by_the_library_of_that_name(tiny_run, tmp_path):
    wds = pytest.importorskip("webdataset", reason="the package webdataset is not installed")
    tars.write_tars(tiny_run.root, tmp_path / "one", None)
    files = [str(path) for path in sorted((tmp_path / "one").glob("train-*.tar"))]
    samples = list(wds.WebDataset(files, shardshuffle=False).decode())
    assert len(samples) == len(load_prepared(tiny_run).folds[0].train)
    assert {"id", "group", "targets"} <= set(samples[0]["json"])


@pytest.mark.parametrize(
    ("more", "words"),
    [(["--fold", "7"], "has no fold 7; it has 0"), (["--seed", "3"], "are of no seed and no network; leave --seed and")],
)
def test_what_cannot_be_written_is_one_sentence(more, words, tiny_run, tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["export", str(tiny_run.root), str(tmp_path / "one"), "--to", "webdataset", *more])
    assert done.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "one").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(StageError, match="holds thesis.tex"):
        tars.write_tars(tiny_run.root, tmp_path / "mine", None)
