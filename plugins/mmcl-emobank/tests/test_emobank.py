"""EmoBank's table: who is rated how, which document a sentence is from, and what a spoilt table says."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from mmcl_emobank import COLUMNS, EMOBANK, LEVELS, VALUES, EmoBankParams
from mmcl_emobank.sentences import EmoBank, document_of

from mmcl.api import DataError
from mmcl.testing import check_dataset

ROWS = (
    ("letter1_0_40", "train", "1", "3.5", "5", "So it went, sadly."),
    ("letter1_41_60", "dev", "3.0", "3", "2.5", 'She said "no", twice.'),
    ("SemEval_12", "test", "4.2", "3", "3", "Café opens"),
    ("wsj_2465_3_90", "train", "3", "3", "3", " "),
)


def write(root: Path, rows=ROWS, header=COLUMNS) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "emobank.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return root


def make(root: Path, **options) -> EmoBank:
    return EmoBank(EmoBankParams(**options), root)


def test_the_official_splits_come_with_sentences_that_stand_alone(tmp_path):
    samples = make(write(tmp_path), group="sentence").samples()
    assert [sample.split for sample in samples] == ["train", "valid", "test", "train"]
    assert [sample.group for sample in samples] == [sample.id for sample in samples]


def test_ratings_are_brought_from_one_to_five_to_minus_one_to_one(tmp_path):
    dataset = make(write(tmp_path))
    first, second, third, empty = dataset.samples()
    assert first.targets == {"vad": [-1.0, 0.25, 1.0], "va": [-1.0, 0.25], "valence-level": 0}
    assert [LEVELS[sample.targets["valence-level"]] for sample in (second, third)] == ["3", "4"]
    assert third.targets["va"] == pytest.approx([0.6, 0.0])
    assert [sample.group for sample in dataset.samples()] == ["letter1", "letter1", "SemEval", "wsj_2465"]
    assert {sample.split for sample in dataset.samples()} == {None}
    assert dataset.read(second.id, "text").words == ("She", "said", '"no",', "twice.")
    assert empty.sources == {}
    with pytest.raises(DataError, match="sentence 'wsj_2465_3_90' has no text"):
        dataset.read(empty.id, "text")


@pytest.mark.parametrize(
    ("id", "document"),
    [
        ("110CYL068_1036_1079", "110CYL068"),
        ("SemEval_12", "SemEval"),
        ("wsj_2465_3_90", "wsj_2465"),
        ("alone", "alone"),
        ("_1_2", "_1_2"),
    ],
)
def test_the_document_of_a_sentence_is_its_id_without_its_place(id, document):
    assert document_of(id) == document


@pytest.mark.parametrize("group", ["document", "sentence"])
def test_it_keeps_the_contract(tmp_path, group):
    check_dataset(EMOBANK, tmp_path, EmoBankParams(group=group))


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (
            [("a_1_2", "train", "6", "3", "3", "x")],
            COLUMNS,
            "line 2, column 'V': '6' is no rating; a number from 1 to 5 was expected",
        ),
        ([("a_1_2", "train", "3", "nan", "3", "x")], COLUMNS, "column 'A': 'nan' is no rating"),
        ([("a_1_2", "train", "3", "", "3", "x")], COLUMNS, "column 'A': '' is no rating"),
        ([("a_1_2", "eval", "3", "3", "3", "x")], COLUMNS, "column 'split': 'eval' is none of train, dev, test"),
        ([ROWS[0], ROWS[0]], COLUMNS, "line 3, column 'id': 'letter1_0_40' stands there already"),
        ([("", "train", "3", "3", "3", "x")], COLUMNS, "column 'id': '' is empty"),
        ([("a_1_2", "train", "3")], COLUMNS, "line 2 has 3 cells and the header 6"),
        ([], ("id", "split", "V", "A", "text"), "lacks the column 'D'"),
    ],
)
def test_a_spoilt_row_is_named(tmp_path, rows, header, words):
    with pytest.raises(DataError, match=words):
        make(write(tmp_path, rows, header)).samples()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "lacks the column 'id'"), (b"id,split\xff\xfe\x00", "expected"), (b'id,split,V,A,D,text\n"a', "no line of a CSV")],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, words):
    (tmp_path / "emobank.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        make(tmp_path).samples()


@pytest.mark.real
def test_the_published_table_has_its_sentences_and_documents():
    root = Path(os.environ.get("MMCL_REAL_DATA", "nowhere")) / "text"
    if not (root / "emobank.csv").exists():
        pytest.skip("set MMCL_REAL_DATA to a folder with text/emobank.csv")
    samples = make(root, group="sentence").samples()
    assert len(samples) == 10_062
    assert [sum(s.split == split for s in samples) for split in ("train", "valid", "test")] == [8_062, 1_000, 1_000]
    assert sum(s.group == "SemEval" for s in make(root).samples()) == 1_192
    assert all(len(s.targets["vad"]) == len(VALUES) for s in samples)
