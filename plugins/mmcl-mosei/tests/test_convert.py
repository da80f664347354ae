"""The field's pickles as they are: without ids, ragged, one-hot, of any names of splits; nothing of them vanishes without a word."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from mmcl_mosei import MOSEI, MOSI, MoseiParams
from mmcl_mosei.convert import convert, main, video_of

from mmcl.api import DataError

LENGTHS = (3, 5, 4, 6)


def part(split, **changes):
    rng = np.random.default_rng(len(split))
    count = len(LENGTHS)
    rows = {
        "text": rng.normal(size=(count, 6, 30)).astype(np.float32),
        "audio": rng.normal(size=(count, 6, 5)).astype(np.float32),
        "vision": rng.normal(size=(count, 6, 7)).astype(np.float32),
        "regression_labels": np.linspace(-3, 3, count),
        "id": [f"{split}{i // 2}$_${i}" for i in range(count)],
    }
    for i, length in enumerate(LENGTHS):
        for name in ("text", "audio", "vision"):
            rows[name][i, length:] = 0
    return {key: value for key, value in (rows | changes).items() if value is not None}


def pickled(path, **splits):
    path.write_bytes(pickle.dumps(splits or {s: part(s) for s in ("train", "valid", "test")}))
    return path


def converted(tmp_path, spec=MOSI, names=None, options=None, **splits):
    convert(pickled(tmp_path / "a.pkl", **splits), tmp_path / "out", names)
    params = MoseiParams.model_validate_json(json.dumps({"layout": "converted", "widths": [30, 5, 7], **(options or {})}))
    corpus = spec.build(params, tmp_path / "out")
    return corpus, corpus.samples()


def test_rows_without_ids_are_named_by_split_and_number(tmp_path, capsys):
    path = pickled(tmp_path / "a.pkl", train=part("train", id=None), valid=part("valid", id=None))
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert "8 segments whose video is not known: each is a group of its own" in capsys.readouterr().out
    corpus = MOSI.build(MoseiParams(layout="converted", widths=(30, 5, 7)), tmp_path / "out")
    samples = corpus.samples()
    assert [s.id for s in samples[:5]] == ["train/row-0", "train/row-1", "train/row-2", "train/row-3", "valid/row-0"]
    assert len({s.group for s in samples}) == 8
    assert corpus.counts()["segments whose video is not known: each is a group of its own"] == 8


@pytest.mark.parametrize("kind", [list, lambda rows: np.array(rows, dtype=object)])
def test_ragged_rows_are_read_as_they_are(tmp_path, kind):
    whole = part("train")
    ragged = {name: kind([row[:n] for row, n in zip(whole[name], LENGTHS, strict=True)]) for name in ("audio", "vision")}
    corpus, samples = converted(tmp_path, train=part("train", **ragged))
    for sample, audio, length in zip(samples, whole["audio"], LENGTHS, strict=True):
        np.testing.assert_array_equal(corpus.read(sample.id, "audio").values, audio[:length])


@pytest.mark.parametrize("shape", ["pairs", "one-hot"])
def test_labels_of_a_shape_that_says_no_names_need_them(tmp_path, shape, capsys):
    present = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    labels = np.eye(2)[present] if shape == "pairs" else present
    splits = {"train": part("train", labels=labels, regression_labels=None)}
    path = pickled(tmp_path / "a.pkl", **splits)
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert "as the third argument" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([str(path), str(tmp_path / "out"), "neutral,happy,sad,angry"]) == 0
    rows = json.loads((tmp_path / "out/index.json").read_text())["splits"]["train"]
    assert rows["emotions"] == ["neutral", "happy", "sad", "anger"]
    assert rows["labels"] == present.tolist()
    corpus = MOSEI.build(MoseiParams(layout="converted", widths=(30, 5, 7)), tmp_path / "out")
    assert corpus.samples()[0].targets == {}
    assert corpus.counts()["segments without labels of surprise, disgust, fear, and so without emotions"] == 4


def test_sentiment_beside_named_emotions(tmp_path):
    emotions = np.array([[1.0, 0, 0, 0, 0, 2]] * 4)
    _, samples = converted(tmp_path, MOSEI, train=part("train", labels=emotions))
    assert samples[0].targets["emotions"] == [1, 0, 0, 0, 0, 1]
    assert samples[0].targets["sentiment"] == -3


@pytest.mark.parametrize("names", [("Train", "Dev", "Test"), ("train", "validation", "test"), ("TRAIN", "val", "testing")])
def test_splits_by_any_of_their_names(tmp_path, names):
    _, samples = converted(tmp_path, **{name: part(name) for name in names})
    assert [s.split for s in samples] == ["train"] * 4 + ["valid"] * 4 + ["test"] * 4


def test_a_split_of_an_unknown_name_is_refused_and_other_keys_are_counted(tmp_path, capsys):
    path = pickled(tmp_path / "a.pkl", train=part("train"), holdout=part("holdout"))
    with pytest.raises(DataError, match=r"'holdout' holds segments and is no split that is known; train, training, valid"):
        convert(path, tmp_path / "out")
    path = pickled(tmp_path / "b.pkl", dev=part("dev"), valid=part("valid"))
    with pytest.raises(DataError, match=r"'valid' and 'dev'|'dev' and 'valid'"):
        convert(path, tmp_path / "out")
    path = pickled(tmp_path / "c.pkl", train=part("train", raw_text=["a b"] * 4, colour=np.ones(4)), num_labels=6)
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert "keys that are not read: num_labels, train/colour, train/raw_text" in capsys.readouterr().out


def test_ids_with_folders_are_grouped_by_video(tmp_path):
    for id, video in {
        "aqgy3_0001/00012": "aqgy3_0001",
        "video_0001/0003": "video_0001",
        "03bSnISJMiM/03bSnISJMiM_1.mp4": "03bSnISJMiM/03bSnISJMiM",
        "train/03bSnISJMiM_1": "train/03bSnISJMiM",
        "a\\b_c\\0004": "a\\b_c",
        "03bSnISJMiM_11": "03bSnISJMiM",
        "03bSnISJMiM[11]": "03bSnISJMiM",
        "03bSnISJMiM$_$11": "03bSnISJMiM",
        "_0001": "_0001",
    }.items():
        assert video_of(id) == video, id
    _, samples = converted(tmp_path, train=part("train", id=[f"aqgy_0001/{i:05d}" for i in range(4)]))
    assert {s.group for s in samples} == {"aqgy_0001"}


def test_a_pickle_that_is_cut_short_is_called_that(tmp_path):
    path = pickled(tmp_path / "a.pkl")
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match=r"cut short; copy it again"):
        convert(path, tmp_path / "out")


def test_streams_of_unequal_length_keep_their_share_of_the_clip(tmp_path):
    rng = np.random.default_rng(0)
    long = {"audio": rng.normal(size=(4, 60, 5)).astype(np.float32), "audio_lengths": [30, 50, 40, 60]}
    corpus, samples = converted(tmp_path, train=part("train", **long, vision_lengths=LENGTHS))
    for sample, words in zip(samples, LENGTHS, strict=True):
        for source, rate in (("text", 1.0), ("audio", 10.0), ("vision", 1.0)):
            raw = corpus.read(sample.id, source)
            assert raw.rate == rate
            assert len(raw.values) / raw.rate == words  # the same span of the clip, in every stream
    info = MOSI.info(MoseiParams(layout="converted"))
    assert (info.sources["text"].rate, info.sources["audio"].rate) == (1.0, None)
    words = MOSI.build(MoseiParams(layout="converted", align="words", widths=(30, 5, 7)), tmp_path / "out")
    assert MOSI.info(MoseiParams(layout="converted", align="words")).sources["audio"].rate == 1.0
    with pytest.raises(DataError, match=r"train0\$_\$0.*30 steps of audio and 3 of text; .*align: none"):
        words.read(samples[0].id, "audio")


def test_streams_aligned_by_word_stay_aligned_where_one_has_a_zero_at_its_end(tmp_path):
    rows = part("train")
    rows["text"][1, [0, 4]] = 0  # words without a vector, first and last
    corpus, samples = converted(tmp_path, options={"align": "words"}, train=rows)
    audio, text = (corpus.read(samples[1].id, source).values for source in ("audio", "text"))
    assert len(audio) == len(text) == 5
    np.testing.assert_array_equal(text, rows["text"][1, :5])


def test_the_padding_of_a_text_model_is_cut_by_its_own_mask(tmp_path):
    mask = np.array([[1] * n + [0] * (6 - n) for n in LENGTHS])
    bert = np.stack([np.ones_like(mask), mask, np.zeros_like(mask)], axis=1)
    text = np.random.default_rng(0).normal(size=(4, 6, 30))  # such a model gives its padding vectors, too
    corpus, samples = converted(
        tmp_path, train=part("train", text=text, text_bert=bert, audio_lengths=LENGTHS, vision_lengths=LENGTHS)
    )
    assert [len(corpus.read(s.id, "text").values) for s in samples] == list(LENGTHS)


def test_rows_and_labels_of_other_numbers_are_refused(tmp_path):
    for changes, message in (
        ({"id": ["a", "b"]}, r"train: has 4 segments of text and 2 of id"),
        ({"audio": np.ones((3, 6, 5))}, r"train: has 4 segments of text and 3 of audio"),
        ({"regression_labels": np.ones(3)}, r"train: has 4 segments of text and 3 of regression_labels"),
        ({"text": np.ones((4, 30))}, r"text .* steps and features"),
    ):
        with pytest.raises(DataError, match=message):
            convert(pickled(tmp_path / "a.pkl", train=part("train", **changes)), tmp_path / "out")
