"""The embedded corpus: the same everywhere, honest about what it is, and neither trivial nor hopeless."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from mmcl_toy import EMOTIONS, TOY, ToyParams
from mmcl_toy.corpus import USUAL, Toy

from mmcl.api import Audio, DataError, Sequence, Video, Words

SOURCES = ("words", "audio", "faces", "landmarks")


def arrays(raw) -> list[np.ndarray]:
    if isinstance(raw, Words):
        return [np.array(raw.words), raw.times]
    return [raw.samples if isinstance(raw, Audio) else raw.frames if isinstance(raw, Video) else raw.values]


def corpus(**values) -> Toy:
    return Toy(ToyParams(**values))


def test_a_clip_is_the_same_whoever_was_read_before():
    one, two = corpus(), corpus()
    complete = [s for s in one.samples() if len(s.sources) == 4][:4]
    for sample in complete:
        for source in SOURCES:
            one.read(sample.id, source)
    for sample in reversed(complete):
        for source in reversed(SOURCES):
            for a, b in zip(arrays(one.read(sample.id, source)), arrays(two.read(sample.id, source)), strict=True):
                np.testing.assert_array_equal(a, b)


def test_another_seed_is_another_corpus():
    labels = [[s.targets["emotion"] for s in corpus(seed=seed).samples()] for seed in (0, 1)]
    assert labels[0] != labels[1]


@pytest.mark.parametrize("source", SOURCES)
def test_raw_data_are_what_info_promises(source):
    toy, info = corpus(), TOY.info(ToyParams())
    promised = info.sources[source]
    for sample in [s for s in toy.samples() if source in s.sources][:12]:
        raw = toy.read(sample.id, source)
        if source == "words":
            assert isinstance(raw, Words)
            assert raw.times.shape == (len(raw.words), 2)
            assert (raw.times[:, 1] > raw.times[:, 0]).all()
            continue
        assert isinstance(raw, {"audio": Audio, "faces": Video, "landmarks": Sequence}[source])
        assert raw.rate == promised.rate
        (values,) = arrays(raw)
        assert np.isfinite(values).all()
        if source != "audio":
            assert list(values.shape[1:]) == promised.notes["shape"]
        assert 1.4 <= len(values) / raw.rate <= 2.9


def test_speakers_never_stand_in_two_official_splits():
    splits = defaultdict(set)
    for sample in corpus().samples():
        splits[sample.group].add(sample.split)
    assert {len(s) for s in splits.values()} == {1}
    assert Counter(next(iter(s)) for s in splits.values()) == {"train": 22, "valid": 5, "test": 9}


def test_missing_modalities_have_their_rate_and_never_take_all():
    samples = corpus(samples=2000, missing=0.3).samples()
    for source in SOURCES:
        share = np.mean([source not in s.sources for s in samples])
        assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    assert min(len(s.sources) for s in corpus(samples=2000, missing=0.9).samples()) == 1
    lacking = next(s for s in samples if "audio" not in s.sources)
    with pytest.raises(DataError, match="has no audio"):
        corpus(samples=2000, missing=0.3).read(lacking.id, "audio")


def test_label_noise_changes_its_share_of_the_labels():
    toy = corpus(label_noise=0.3)
    wrong = np.mean([toy.clip(n).label != toy.clip(n).emotion for n in range(3000)])
    assert abs(wrong - 0.3 * 5 / 6) < 0.03


def test_no_modality_tells_all_emotions_apart_but_all_together_do():
    shown = {"audio": [0, 1], "landmarks": [2, 3], "words": [5], "faces": [4, 2]}
    for cues in shown.values():
        assert len({tuple(row) for row in USUAL[:, cues]}) < len(EMOTIONS)
    assert len({tuple(row) for row in USUAL}) == len(EMOTIONS)


def test_listing_draws_nothing():
    began = time.process_time()
    corpus(samples=2000).samples()
    listed = time.process_time() - began
    toy = corpus()
    sample = next(s for s in toy.samples() if "faces" in s.sources)
    began = time.process_time()
    for _ in range(20):
        toy.read(sample.id, "faces")
    assert listed / 2000 < (time.process_time() - began) / 20, "listing a clip costs as much as drawing it"


def test_emotion_is_visible_in_landmarks_but_not_all_of_it():
    """A nearest-mean classifier on mouth and brow heights, speakers apart: above chance, far from solved."""
    toy = corpus(samples=480, label_noise=0.0)
    rows, labels, test = [], [], []
    for sample in toy.samples():
        if "landmarks" in sample.sources:
            points = toy.read(sample.id, "landmarks").values.mean(0)
            scale = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
            rows.append(
                [(points[[48, 54], 1].mean() - points[57, 1]) / scale, (points[17:27, 1].mean() - points[27, 1]) / scale]
            )
            labels.append(sample.targets["emotion"])
            test.append(sample.split == "test")
    x, y, held = np.array(rows), np.array(labels), np.array(test)
    x = (x - x[~held].mean(0)) / x[~held].std(0)
    means = np.stack([x[~held & (y == c)].mean(0) for c in range(6)])
    guess = ((x[held, None] - means) ** 2).sum(2).argmin(1)
    assert 0.3 < (guess == y[held]).mean() < 0.75


def test_it_says_that_it_is_synthetic():
    assert TOY.info(ToyParams()).synthetic
