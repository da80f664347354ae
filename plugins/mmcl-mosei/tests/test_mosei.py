"""CMU-MOSEI as the SDK and as the field's pickles hold it: spans, words, gaps, labels by name, and no pickle that runs anything."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil

import numpy as np
import pytest
from mmcl_mosei import EMOTIONS, MOSEI, MOSI, POINTS, MoseiParams
from mmcl_mosei.convert import convert, main
from mmcl_mosei.folds import read_folds
from mmcl_mosei.labels import targets
from mmcl_mosei.pickles import read_pickle
from mmcl_mosei.tiny import write_csd
from safetensors import safe_open

from mmcl.api import DataError
from mmcl.testing import check_dataset
from mmcl.testing.corpora import real_data, tiny_copies

h5py = pytest.importorskip("h5py")


root, spoilt = tiny_copies(MOSEI, 36)


def dataset(root, spec=MOSEI, **options):
    return spec.build(MoseiParams(**options), root)


def read_first(corpus, source):
    return corpus.read(corpus.samples()[0].id, source)


def data_of(root, file):
    handle = h5py.File(root / file, "r")
    return handle[next(iter(handle))]["data"]


@pytest.mark.parametrize("spec", [MOSEI, MOSI], ids=["mosei", "mosi"])
@pytest.mark.parametrize("options", [{}, {"align": "words"}, {"video": "frames", "video_size": (16, 16)}], ids=str)
def test_the_toolkits_own_checks_pass(spec, options, tmp_path):
    check_dataset(spec, tmp_path, MoseiParams(**options))


def test_a_segment_is_cut_to_its_span(root):
    corpus = dataset(root)
    sample = next(s for s in corpus.samples() if s.id.startswith("vid002"))
    row = int(sample.id.split("[")[1][:-1])
    start, end = data_of(root, "CMU_MOSEI_Labels.csd")["vid002"]["intervals"][row]
    facet = data_of(root, "CMU_MOSEI_VisualFacet42.csd")["vid002"]
    wanted = [f for f, (a, b) in zip(facet["features"][:], facet["intervals"][:], strict=True) if start <= (a + b) / 2 < end]
    np.testing.assert_array_equal(corpus.read(sample.id, "facet").values, np.array(wanted))
    audio = corpus.read(sample.id, "audio")
    assert len(audio.samples) == round(end * audio.rate) - round(start * audio.rate)
    words = corpus.read(sample.id, "words")
    assert "sp" not in words.words
    assert len(words.words) == 4
    assert words.times.min() >= 0
    assert words.times.max() <= end - start + 1e-6


def test_word_by_word_is_the_mean_over_each_word(root):
    corpus = dataset(root, align="words")
    sample = next(s for s in corpus.samples() if s.id.startswith("vid004"))
    row = int(sample.id.split("[")[1][:-1])
    start, end = data_of(root, "CMU_MOSEI_Labels.csd")["vid004"]["intervals"][row]
    words, facet = (
        data_of(root, "CMU_MOSEI_TimestampedWords.csd")["vid004"],
        data_of(root, "CMU_MOSEI_VisualFacet42.csd")["vid004"],
    )
    wanted = []
    for a, b in words["intervals"][:]:
        if not start <= (a + b) / 2 < end:
            continue
        inside = [f for f, (x, y) in zip(facet["features"][:], facet["intervals"][:], strict=True) if a <= (x + y) / 2 < b]
        wanted.append(np.mean(inside, axis=0) if inside else np.zeros(35))
    got = corpus.read(sample.id, "facet").values
    np.testing.assert_allclose(got, np.array(wanted), rtol=1e-5, atol=1e-6)
    assert len(corpus.read(sample.id, "glove").values) == len(got)  # glove and facet have a step for each word


def test_landmarks_are_read_by_name_and_without_names_by_width(root, spoilt):
    corpus = dataset(root)
    sample = next(s for s in corpus.samples() if "openface" in s.sources)
    named = corpus.read(sample.id, "openface")
    assert named.columns == POINTS
    assert 150 < named.values[:, :68].mean() < 250
    with h5py.File(spoilt / "CMU_MOSEI_VisualOpenFace2.csd", "a") as file:
        del file["OpenFace_2"]["metadata"]["dimension names"]
    np.testing.assert_array_equal(dataset(spoilt).read(sample.id, "openface").values, named.values)


def test_what_is_no_number_is_replaced_and_counted(root):
    corpus = dataset(root)
    sample = corpus.samples()[0]
    row = int(sample.id.split("[")[1][:-1])
    video = sample.group
    start, end = data_of(root, "CMU_MOSEI_Labels.csd")[video]["intervals"][row]
    covarep = data_of(root, "CMU_MOSEI_COVAREP.csd")[video]
    mine = np.array(
        [f for f, (a, b) in zip(covarep["features"][:], covarep["intervals"][:], strict=True) if start <= (a + b) / 2 < end]
    )
    bad = ~np.isfinite(mine)
    assert bad.any()
    got = corpus.read(sample.id, "covarep").values
    assert np.isfinite(got).all()
    assert corpus.counts()["values of covarep that were no numbers"] == bad.sum()
    column = int(np.flatnonzero(bad.any(0))[0])
    assert (got[bad[:, column], column] == mine[~bad[:, column], column].min()).all()
    np.testing.assert_array_equal(got[~bad], mine[~bad])


def test_labels_carry_their_names_whatever_their_order(root, spoilt):
    order = ["fear", "sentiment", "happy", "disgust", "sad", "surprise", "anger"]
    usual = ["sentiment", *EMOTIONS]
    with h5py.File(spoilt / "CMU_MOSEI_Labels.csd", "a") as file:
        group = file["All Labels"]
        for video in group["data"]:
            values = group["data"][video]["features"][:]
            del group["data"][video]["features"]
            group["data"][video]["features"] = values[:, [usual.index(name) for name in order]]
        del group["metadata"]["dimension names"]
        group["metadata"].create_dataset(
            "dimension names", data=np.array([json.dumps(order)], dtype=object), dtype=h5py.string_dtype()
        )
    assert [s.targets for s in dataset(spoilt).samples()] == [s.targets for s in dataset(root).samples()]


@pytest.mark.parametrize(
    ("sentiment", "values", "least", "wanted"),
    [
        (0.0, [1 / 3, 0, 1, 0, 0, 2], 0.0, {"emotions": [1, 0, 1, 0, 0, 1], "sentiment-2": 1, "sentiment-7": 3}),
        (
            -0.4,
            [1 / 3, 0, 1, 0, 0, 2],
            1.0,
            {"emotions": [0, 0, 1, 0, 0, 1], "sentiment-2": 0, "sentiment-2-nonzero": 0, "sentiment-7": 3},
        ),
        (2.5, None, 0.0, {"sentiment-2": 1, "sentiment-2-nonzero": 1, "sentiment-7": 5}),  # half to even
        (-3.0, None, 0.0, {"sentiment-2": 0, "sentiment-2-nonzero": 0, "sentiment-7": 0}),
    ],
)
def test_labels_as_the_field_makes_them(sentiment, values, least, wanted):
    assert targets(sentiment, values, least) == wanted | {"sentiment": sentiment}


@pytest.mark.parametrize("layout", ["sdk", "converted"])
def test_values_beyond_their_scale_are_taken_at_its_end_and_counted(tmp_path, layout):
    labels = np.array(
        [[5.0, 4.0, 0, 0, 0, 0, 0], [-3.5, 0, -1, 0, 0, 0, 3], [3, 3, 0, 0, 0, 0, 0], [0.5, np.nan, 0, 0, 0, 0, 0]]
    )
    if layout == "sdk":
        spans = np.array([[i, i + 1.0] for i in range(4)])
        write_csd(tmp_path / "labels.csd", "All Labels", {"v": (labels.astype(np.float32), spans)}, ["sentiment", *EMOTIONS])
    else:
        part = {"text": np.ones((4, 2, 5)), "labels": labels, "id": [f"v[{i}]" for i in range(4)]}
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"train": part}))
        convert(tmp_path / "a.pkl", tmp_path)
    corpus = dataset(tmp_path, folds="none", layout=layout)
    labelled = [s.targets for s in corpus.samples()]
    assert [one["sentiment"] for one in labelled] == [3.0, -3.0, 3.0, 0.5]
    assert [one["sentiment-7"] for one in labelled] == [6, 0, 6, 3]
    assert [one.get("emotions") for one in labelled] == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0], None]
    counts = {name: count for name, count in corpus.counts().items() if "beyond" in name}
    assert counts == {"sentiments beyond −3 to 3, taken at its end": 2, "emotions beyond 0 to 3, taken at its end": 2}
    corpus.samples()
    assert {name: count for name, count in corpus.counts().items() if "beyond" in name} == counts


def test_both_classes_of_every_emotion_stand_in_every_split(root):
    for split in ("train", "valid", "test"):
        rows = np.array([s.targets["emotions"] for s in dataset(root).samples() if s.split == split])
        assert rows.min(0).max() == 0, split
        assert rows.max(0).min() == 1, split


def test_no_video_stands_in_two_splits_and_strays_are_counted(root, spoilt):
    corpus = dataset(root)
    splits = {}
    for sample in corpus.samples():
        assert splits.setdefault(sample.group, sample.split) == sample.split
    assert "outside" not in splits
    assert corpus.counts()["segments outside the standard folds"] == 2
    folds = json.loads((spoilt / "folds.json").read_text())
    folds["test"].append(folds["train"][0])
    (spoilt / "folds.json").write_text(json.dumps(folds))
    with pytest.raises(DataError, match="stands in train and in test"):
        dataset(spoilt).samples()
    (spoilt / "folds.json").unlink()
    with pytest.raises(DataError, match="names the videos of the standard folds"):
        dataset(spoilt).samples()
    assert len(dataset(spoilt, folds="none").samples()) == len(corpus.samples()) + 2


def test_a_file_of_folds_may_hold_several_corpora(root, spoilt):
    folds = json.loads((spoilt / "folds.json").read_text())
    (spoilt / "folds.json").write_text(json.dumps({"mosi": {"train": ["x"], "valid": ["y"], "test": ["z"]}, "mosei": folds}))
    assert [s.split for s in dataset(spoilt).samples()] == [s.split for s in dataset(root).samples()]


@pytest.mark.real
def test_the_standard_folds_have_the_published_sizes(spoilt):
    shutil.copy(real_data("text/cmu_standard_folds.json") / "text/cmu_standard_folds.json", spoilt / "standard.json")
    for spec, sizes in ((MOSEI, (2249, 300, 678)), (MOSI, (52, 10, 31))):
        folds = read_folds(spoilt / "standard.json", spec.name.removeprefix("cmu-"))
        assert tuple(list(folds.values()).count(split) for split in ("train", "valid", "test")) == sizes


def test_a_file_that_was_cut_short_is_named(spoilt):
    path = spoilt / "CMU_MOSEI_COVAREP.csd"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"CMU_MOSEI_COVAREP.csd: (cannot be read as HDF5|is no computational)"):
        read_first(dataset(spoilt), "covarep")


# ------------------------------------------------------------------------------------------------------------- converting


class Evil:
    def __reduce__(self):
        return os.system, ("echo owned > owned.txt",)


def test_a_pickle_that_would_run_something_is_refused_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"train": Evil()}))
    with pytest.raises(DataError, match=r"is refused, since it asks for (posix|nt|os)\.system"):
        read_pickle(tmp_path / "evil.pkl")
    assert main([str(tmp_path / "evil.pkl"), str(tmp_path / "out")]) == 2
    assert "is refused" in capsys.readouterr().err
    assert not (tmp_path / "owned.txt").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_mults_dictionary_becomes_rows_without_padding(tmp_path, protocol):
    rng = np.random.default_rng(0)
    splits, real = {}, {}
    for split, count in (("train", 4), ("valid", 2), ("test", 3)):
        text, audio = np.zeros((count, 6, 5)), np.zeros((count, 8, 3))
        for i in range(count):
            length = 2 + i
            text[i, :length] = rng.normal(size=(length, 5))
            audio[i, 8 - length :] = rng.normal(size=(length, 3))
            real[split, i] = (text[i, :length], audio[i, 8 - length :])
        audio[0, -1, 1] = -np.inf
        labels = rng.normal(size=(count, 1, 1)) * 2
        ids = np.array([[f"{split}v{i}".encode(), b"0.0", b"1.0"] for i in range(count)])
        splits[split] = {"text": text, "audio": audio, "vision": np.ones((count, 2, 4)), "labels": labels, "id": ids}
        real[split] = labels
    (tmp_path / "mosi_data.pkl").write_bytes(pickle.dumps(splits, protocol=protocol))
    assert convert(tmp_path / "mosi_data.pkl", tmp_path / "out") == {"train": 4, "valid": 2, "test": 3}
    corpus = MOSI.build(MoseiParams(layout="converted", widths=(5, 3, 4)), tmp_path / "out")
    samples = corpus.samples()
    assert [s.split for s in samples] == ["train"] * 4 + ["valid"] * 2 + ["test"] * 3
    for sample in samples:
        i = int(sample.id.split("v")[-1])
        split = sample.split
        text, audio = real[split, i]
        np.testing.assert_allclose(corpus.read(sample.id, "text").values, text, rtol=1e-6)
        got = corpus.read(sample.id, "audio").values
        np.testing.assert_allclose(got, np.where(np.isfinite(audio), audio, 0), rtol=1e-6)
        assert math.isclose(sample.targets["sentiment"], float(real[split][i].item()))
    assert corpus.counts()["values of audio that were no numbers, taken as 0"] == 3


def test_mpucs_list_and_label_orders(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {
            "uttr_id": f"v{i}_0",
            "text_feat": rng.normal(size=(3 + i, 5)),
            "OpenFace": rng.normal(size=(4, 7)),
            "label": [i % 2, 0, 1, 0, 0, 0],
        }
        for i in range(3)
    ]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"train": rows, "dev": rows[:0] or [{**rows[0], "uttr_id": "w_1"}]}))
    order = "anger,disgust,fear,happy,sad,surprise"
    assert main([str(tmp_path / "a.pkl"), str(tmp_path / "out"), order]) == 0
    corpus = MOSEI.build(MoseiParams(layout="converted", widths=(5, 1, 7)), tmp_path / "out")
    by_id = {s.id: s for s in corpus.samples()}
    assert by_id["v1_0"].targets["emotions"] == [0, 0, 1, 0, 0, 1]  # anger and fear, in our order
    assert by_id["v1_0"].group == "v1"
    with safe_open(str(tmp_path / "out/arrays.safetensors"), "np") as file:
        assert file.get_slice("train/text").get_shape() == [3 + 4 + 5, 5]


def test_what_is_no_dictionary_of_splits_is_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"colour": 1}))
    with pytest.raises(DataError, match="has none of the splits"):
        convert(tmp_path / "a.pkl", tmp_path / "out")
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04cut")
    with pytest.raises(DataError, match="is no pickle|cut short"):
        convert(tmp_path / "b.pkl", tmp_path / "out")
    with pytest.raises(DataError, match="is not there"):
        convert(tmp_path / "c.pkl", tmp_path / "out")
