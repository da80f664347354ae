"""Computational sequences as the SDK and its users leave them: chosen by name, aligned, of any width; folds as the SDK has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mmcl_mosei import MOSEI, MOSI, MoseiParams
from mmcl_mosei.tiny import write_csd
from pydantic import ValidationError

from mmcl.api import DataError
from mmcl.testing.corpora import tiny_copies

h5py = pytest.importorskip("h5py")

root, spoilt = tiny_copies(MOSEI, 24)


def dataset(root, spec=MOSEI, **options):
    return spec.build(MoseiParams(**options), root)


def streams(path):
    """Video → features and intervals of a written sequence."""
    with h5py.File(path, "r") as file:
        group = file[next(iter(file))]["data"]
        return {video: (group[video]["features"][:], group[video]["intervals"][:]) for video in group}


SDK_FOLDS = """# The module of the SDK, as it stands there.
import os
standard_train_fold=['v1','v2']
standard_valid_fold=["v3"]
standard_test_fold=['v4',
 'v5']
os.system("touch executed")
"""


def test_the_sdks_module_of_folds_is_read_and_not_run(spoilt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folds = json.loads((spoilt / "folds.json").read_text())
    text = SDK_FOLDS
    for old, split in (("['v1','v2']", "train"), ('["v3"]', "valid"), ("['v4',\n 'v5']", "test")):
        text = text.replace(old, repr(folds[split]))
    (spoilt / "cmu_mosei_std_folds.py").write_text(text, encoding="utf-8")
    wanted = [sample.split for sample in dataset(spoilt).samples()]
    (spoilt / "folds.json").unlink()
    with pytest.raises(
        DataError, match=r"name its module of folds with dataset.folds, or write its lists of video ids to folds.json"
    ):
        dataset(spoilt).samples()
    assert [s.split for s in dataset(spoilt, folds="cmu_mosei_std_folds.py").samples()] == wanted
    (spoilt / "folds.json").write_text(json.dumps({split: folds[split] for split in ("train", "valid", "test")}))
    assert [s.split for s in dataset(spoilt).samples()] == wanted
    assert not (tmp_path / "executed").exists()
    (spoilt / "broken.py").write_text("standard_train_fold = list(range(3))\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"broken.py: .*standard_train_fold"):
        dataset(spoilt, folds="broken.py").samples()


def test_a_sequence_is_taken_by_the_name_that_the_recipe_asks_for(spoilt):
    old = streams(spoilt / "CMU_MOSEI_VisualFacet42.csd")
    wide = {video: (np.tile(features, (1, 2))[:, :47], intervals) for video, (features, intervals) in old.items()}
    write_csd(spoilt / "facet41.csd", "FACET_4.1", wide, None)
    write_csd(spoilt / "smile.csd", "OpenSMILE", {v: (np.ones((9, 6), np.float32), i[:9]) for v, (_, i) in old.items()}, None)
    plain = dataset(spoilt)
    first = next(s for s in plain.samples() if "facet" in s.sources)
    assert plain.read(first.id, "facet").values.shape[1] == 35  # what the standard recipes mean, though there are two
    assert plain.counts()["computational sequences that no source reads: FACET_4.1, OpenSMILE"] == 2
    asked = {
        "facet": {"name": "FACET_4.1", "width": 47},
        "smile": {"name": "OpenSMILE", "width": 6, "rate": 30.0},
    }
    params = MoseiParams.model_validate_json(json.dumps({"sequences": asked}))
    info = MOSEI.info(params)
    assert info.sources["facet"].notes["shape"] == [47]
    assert (info.sources["smile"].notes["shape"], info.sources["smile"].rate) == ([6], 30.0)
    chosen = MOSEI.build(params, spoilt)
    assert chosen.read(first.id, "facet").values.shape[1] == 47
    assert {"facet", "smile"} <= set(next(s for s in chosen.samples() if s.id == first.id).sources)
    missing = MoseiParams.model_validate_json(json.dumps({"sequences": {"facet": {"name": "FACET_5"}}}))
    with pytest.raises(DataError, match=r"no computational sequence 'FACET_5'; it has .*FACET 4.2, FACET_4.1.*OpenSMILE"):
        MOSEI.build(missing, spoilt).samples()


def test_word_vectors_of_another_name_and_width(spoilt):
    old = streams(spoilt / "CMU_MOSEI_TimestampedWordVectors.csd")
    narrow = {video: (features[:, :50], intervals) for video, (features, intervals) in old.items()}
    write_csd(spoilt / "with_sp.csd", "glove_vectors_with_sp", narrow, None)
    asked = {"align": "words", "sequences": {"glove": {"name": "glove_vectors_with_sp", "width": 50}}}
    corpus = MOSEI.build(MoseiParams.model_validate_json(json.dumps(asked)), spoilt)
    sample = corpus.samples()[0]
    np.testing.assert_array_equal(
        corpus.read(sample.id, "glove").values, dataset(spoilt, align="words").read(sample.id, "glove").values[:, :50]
    )
    asked["sequences"]["glove"].pop("width")
    wrong = MOSEI.build(MoseiParams.model_validate_json(json.dumps(asked)), spoilt)
    offer = r"has 50 features .* 300 were expected; set dataset.sequences: {glove: {name: glove_vectors_with_sp, width: 50}}$"
    with pytest.raises(DataError, match=offer):
        wrong.read(sample.id, "glove")


def test_two_sequences_of_one_kind_and_none_of_the_usual_name_are_refused_with_the_names(spoilt):
    for name in ("FACET_4.1", "FACET_5"):
        rows = streams(spoilt / "CMU_MOSEI_VisualFacet42.csd")
        write_csd(spoilt / f"{name}.csd", name, rows, None)
    (spoilt / "CMU_MOSEI_VisualFacet42.csd").unlink()
    with pytest.raises(DataError, match=r"FACET_4.1 and FACET_5.*dataset.sequences"):
        dataset(spoilt).samples()


def test_a_sequence_of_ones_own_says_how_wide_and_how_fast_it_is():
    for asked in ({"smile": {"name": "OpenSMILE", "rate": 10.0}}, {"smile": {"name": "OpenSMILE", "width": 6}}):
        with pytest.raises(ValidationError, match=r"width|rate"):
            MoseiParams.model_validate_json(json.dumps({"sequences": asked}))


def test_sequences_that_the_sdk_aligned_are_the_same_segments(root, spoilt):
    """After align(labels) the SDK writes an entry VIDEO[ROW] for each segment; so do its word alignments."""
    labels = streams(spoilt / "CMU_MOSEI_Labels.csd")
    names = {
        "CMU_MOSEI_Labels.csd": "All Labels",
        "CMU_MOSEI_VisualFacet42.csd": "FACET 4.2",
        "CMU_MOSEI_TimestampedWords.csd": "words",
        "CMU_MOSEI_TimestampedWordVectors.csd": "glove_vectors",
        "CMU_MOSEI_COVAREP.csd": "COVAREP",
    }
    for file, name in names.items():
        aligned = {}
        for video, (features, intervals) in streams(spoilt / file).items():
            for row, (start, end) in enumerate(labels[video][1]):
                middle = intervals.mean(1)
                inside = [row] if name == "All Labels" else np.flatnonzero((middle >= start) & (middle < end))
                if len(inside):
                    aligned[f"{video}[{row}]"] = (features[inside], intervals[inside])
        (spoilt / file).unlink()
        write_csd(spoilt / file, name, aligned, None)
    (spoilt / "CMU_MOSEI_VisualOpenFace2.csd").unlink()
    whole, cut = dataset(root), dataset(spoilt)
    assert [s.id for s in cut.samples()] == [s.id for s in whole.samples()]
    assert [s.targets for s in cut.samples()] == [s.targets for s in whole.samples()]
    assert [s.group for s in cut.samples()] == [s.group for s in whole.samples()]
    for sample in whole.samples()[:6]:
        for source in ("facet", "covarep"):
            np.testing.assert_array_equal(cut.read(sample.id, source).values, whole.read(sample.id, source).values)
        assert cut.read(sample.id, "words").words == whole.read(sample.id, "words").words


def test_mosis_sequences_by_the_names_of_its_own_folder(tmp_path):
    MOSI.sample(tmp_path, 18, 0)
    rows = streams(tmp_path / "CMU_MOSI_VisualFacet42.csd")
    write_csd(tmp_path / "41.csd", "FACET_4.1", {v: (np.ones((len(f), 47), np.float32), i) for v, (f, i) in rows.items()}, None)
    (tmp_path / "CMU_MOSI_VisualFacet42.csd").unlink()
    asked = MoseiParams.model_validate_json(json.dumps({"sequences": {"facet": {"name": "FACET_4.1", "width": 47}}}))
    corpus = MOSI.build(asked, tmp_path)
    assert corpus.read(corpus.samples()[0].id, "facet").values.shape[1] == 47


@pytest.mark.parametrize(
    ("file", "source"), [("CMU_MOSEI_VisualFacet42.csd", "facet"), ("CMU_MOSEI_VisualOpenFace2.csd", "openface")]
)
def test_rows_that_are_missing_move_no_later_row_forward(root, spoilt, file, source):
    sample = next(s for s in dataset(root).samples() if s.group == "vid004")
    whole = dataset(root).read(sample.id, source).values
    with h5py.File(spoilt / file, "a") as handle:
        group = handle[next(iter(handle))]["data"]["vid004"]
        features, intervals = group["features"][:], group["intervals"][:]
        start = streams(root / "CMU_MOSEI_Labels.csd")["vid004"][1][0, 0]
        middle = intervals.mean(1)
        gone = (middle >= start + 0.2) & (middle < start + 0.4)  # six rows in the midst of the segment
        for name, values in (("features", features), ("intervals", intervals)):
            del group[name]
            group[name] = values[~gone]
    corpus = dataset(spoilt)
    got = corpus.read(sample.id, source).values
    assert abs(len(got) - len(whole)) <= 1
    assert corpus.counts()[f"steps of {source} without a row, filled in"] == gone.sum()
    np.testing.assert_array_equal(got[15 : len(whole) - 1], whole[15 : len(got)][: len(whole) - 16])
    if source == "openface":
        assert (got[7:11] == 0).all()


def test_a_stream_of_another_rate_is_brought_to_the_promised_one_by_its_own_times(root, spoilt):
    """Films of 25 frames a second give 25 rows of FACET a second: taken as 30, every second would last 0.83."""
    labels = streams(root / "CMU_MOSEI_Labels.csd")
    rows = {}
    for video, (_, spans) in labels.items():
        times = np.arange(0, spans.max() + 1, 1 / 25)
        rows[video] = (np.repeat(times[:, None], 35, axis=1).astype(np.float32), np.stack([times, times + 1 / 25], axis=1))
    (spoilt / "CMU_MOSEI_VisualFacet42.csd").unlink()
    write_csd(spoilt / "CMU_MOSEI_VisualFacet42.csd", "FACET 4.2", rows, None)
    corpus = dataset(spoilt)
    sample = corpus.samples()[3]
    start, end = labels[sample.group][1][int(sample.id.split("[")[1][:-1])]
    got = corpus.read(sample.id, "facet")
    assert abs(len(got.values) / got.rate - (end - max(0, start))) < 0.05
    np.testing.assert_allclose(got.values[:, 0], max(0, start) + np.arange(len(got.values)) / 30, atol=0.04)
