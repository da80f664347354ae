"""What tests of corpora share: each helper passes what is right and is caught out by nothing that is wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mmcl.api import DataError, DatasetInfo, DatasetSpec, NoParams
from mmcl.media import read_film
from mmcl.testing.corpora import (
    calls_of,
    dataset_of,
    expect_refusal,
    expect_seeded,
    files_of,
    real_data,
    tiny_copies,
    write_pictures,
)


def write_sample(folder, n, seed):
    for i in range(n):
        (folder / "a").mkdir(parents=True, exist_ok=True)
        (folder / "a" / f"{i}.txt").write_text(f"{seed} {i}" if i else "the same")


TINY = DatasetSpec(
    "tiny", "a tiny corpus", NoParams, lambda params: DatasetInfo({}, {}, "speaker"), lambda params, root: None, write_sample
)
root, spoilt = tiny_copies(TINY, 3)


def refuse(sentence):
    raise DataError(sentence)


def test_a_refusal_holds_every_word_in_one_line():
    expect_refusal(lambda: refuse("a.wav: is cut short"), "a.wav", "cut short")
    with pytest.raises(AssertionError, match="the refusal says 'b.wav'"):
        expect_refusal(lambda: refuse("a.wav: is cut short"), "a.wav", "b.wav")
    with pytest.raises(AssertionError, match="a refusal is one line"):
        expect_refusal(lambda: refuse("a.wav:\nis cut short"), "a.wav", "cut short")
    with pytest.raises(AssertionError, match="nothing is refused; a DataError that says 'a.wav'"):
        expect_refusal(lambda: None, "a.wav")
    with pytest.raises(ValueError, match="could not convert"):
        expect_refusal(lambda: float("x"), "could not convert")


@pytest.mark.parametrize("again", [1, 2])
def test_what_one_test_spoils_no_other_sees(root, spoilt, again):
    assert files_of(root) == files_of(spoilt) == ["a/0.txt", "a/1.txt", "a/2.txt"]
    assert (spoilt / "a" / "0.txt").read_text() == (root / "a" / "0.txt").read_text() == "the same"
    (spoilt / "a" / "0.txt").write_text("spoilt")
    (spoilt / "a" / "1.txt").unlink()


def test_a_sample_that_follows_its_seed_passes(root, tmp_path):
    expect_seeded(TINY, root, 3, tmp_path / "any")
    expect_seeded(TINY, root, 3, tmp_path / "one", differs="a/1.txt")
    with pytest.raises(AssertionError, match="another seed writes the same"):
        expect_seeded(TINY, root, 3, tmp_path / "none", differs="a/0.txt")


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (lambda folder, n, seed: write_sample(folder, n, 0), "another seed writes the same"),
        (lambda folder, n, seed: write_sample(folder, n + 1, seed), "other files the second time"),
        (
            lambda folder, n, seed: write_sample(folder, n, seed + 2),
            r"other contents the second time: \['a/1.txt', 'a/2.txt'\]",
        ),
        (None, "brings no `sample`"),
    ],
)
def test_a_sample_that_does_not_follow_its_seed_is_caught(root, tmp_path, sample, words):
    with pytest.raises(AssertionError, match=words):
        expect_seeded(replace(TINY, sample=sample), root, 3, tmp_path)


def test_the_one_dataset_of_a_plug_in_is_its_own():
    class Module:
        @staticmethod
        def register_datasets(register):
            register(TINY)

    assert dataset_of(Module) is TINY


def test_calls_are_noted_and_still_done(monkeypatch):
    calls = calls_of(monkeypatch, math, "hypot")
    assert math.hypot(3, 4) == 5
    assert math.hypot(5, 12) == 13
    assert calls == [(3, 4), (5, 12)]


def test_pictures_are_read_as_the_film_that_was_written(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (11, 4, 6, 3))
    write_pictures(tmp_path / "film", frames, "frame_{}.png", first=1)
    np.testing.assert_array_equal(read_film(tmp_path / "film", (4, 6), 5.0).frames, frames.transpose(0, 3, 1, 2))


def test_real_recordings_are_asked_for_where_they_are_missing(monkeypatch, tmp_path):
    (tmp_path / "corpus").mkdir()
    monkeypatch.setenv("MMCL_REAL_DATA", str(tmp_path))
    assert real_data("corpus") == tmp_path
    for folder, needs in ((str(tmp_path), ("corpus", "corpus/more.csv")), ("", ("corpus",))):
        monkeypatch.setenv("MMCL_REAL_DATA", folder)
        with pytest.raises(pytest.skip.Exception, match="set MMCL_REAL_DATA to a folder that holds corpus"):
            real_data(*needs)
