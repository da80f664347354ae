"""Hashed words: one vector a word, the same everywhere, at the word's own time."""

from __future__ import annotations

import math
import subprocess
import sys

import mmcl_modalities
import numpy as np
import pytest
from mmcl_modalities import MODALITIES

from mmcl.api import DataError, Source, Words
from mmcl.testing.modality import builders

make, _ = builders(MODALITIES)


def vectors(*words, **options):
    return make("hashed-words", Source("words", ""), **options).extract(Words(words)).values


def test_a_word_has_one_vector_whatever_its_capitals_and_punctuation():
    got = vectors("Hello", " hello,", "“HELLO!”", "help", "...", "!")
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])
    assert len({tuple(v) for v in got}) == 4  # hello, help, and marks that stand alone


def test_vectors_are_the_same_in_another_process():
    code = "import sys; sys.path[:0] = sys.argv[1:]; from mmcl_modalities.words import gaussian; print(*gaussian('a', 3))"
    path = str(mmcl_modalities.__path__[0]).removesuffix("mmcl_modalities")
    seen = set()
    for seed in ("1", "2"):
        command, settings = [sys.executable, "-c", code, path], {"PYTHONHASHSEED": seed}
        seen.add(subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout)
    assert len(seen) == 1


@pytest.mark.parametrize("pieces", ["word", "trigrams"])
def test_vectors_are_standard_normal_over_the_root_of_their_length(pieces):
    got = vectors(*(f"{a}{b}" for a in ("sun", "rain", "moon", "wind", "fog") for b in "abcdefgh"), pieces=pieces, dim=256)
    unit = got.ravel() * math.sqrt(256)
    assert unit.mean() == pytest.approx(0, abs=0.1)
    assert unit.std() == pytest.approx(1, abs=0.1)
    if pieces == "word":  # 10,240 independent values
        inside = np.abs(unit) < 1.0
        assert inside.mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.02)
        assert np.abs(np.corrcoef(got) - np.eye(len(got))).max() < 0.35


def test_trigrams_bring_inflections_together_and_leave_other_words_apart():
    running, runs, table = vectors("running", "runnings", "table", pieces="trigrams", dim=1024)
    assert running @ runs > 0.6
    assert abs(running @ table) < 0.15
    alone = vectors("running", "runnings", dim=1024)
    assert abs(alone[0] @ alone[1]) < 0.15


def test_another_seed_gives_other_vectors():
    assert abs(vectors("word", dim=1024)[0] @ vectors("word", dim=1024, seed=1)[0]) < 0.15


def test_words_keep_their_own_times_and_blank_ones_go():
    times = np.array([[0.1, 0.4], [0.4, 0.5], [0.9, 1.5]])
    got = make("hashed-words", Source("words", "")).extract(Words(("one", " ", "two"), times))
    np.testing.assert_array_equal(got.times, times[[0, 2]])
    np.testing.assert_array_equal(got.values, vectors("one", "two"))


def test_words_without_times_follow_each_other_at_the_assumed_pace():
    got = make("hashed-words", Source("words", ""), words_per_second=4.0).extract(Words(("a", "", "b", "c")))
    np.testing.assert_allclose(got.times, [[0, 0.25], [0.25, 0.5], [0.5, 0.75]])


def test_times_that_are_not_one_finite_pair_a_word_are_refused():
    modality = make("hashed-words", Source("words", ""))
    with pytest.raises(DataError, match="2 words have times of shape"):
        modality.extract(Words(("a", "b"), np.zeros((3, 2))))
    with pytest.raises(DataError, match=r"word 2 \('b'\)"):
        modality.extract(Words(("a", "b"), np.array([[0, 1], [np.nan, 2]])))
