"""Offers of corpora, followed."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmcl_mosei.convert import convert
from mmcl_mosei.convert import main as convert_by_command

from mmcl.api import DataError, SampleRef
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.planned import WORDS, corpus, planned, sample

MOSEI = "plugins/mmcl-mosei/mmcl_mosei"
RAVDESS = "plugins/mmcl-ravdess/mmcl_ravdess"


def _listed(folder: Path, use: str, **options: Any) -> Sequence[SampleRef]:
    """The recordings of a tiny made-up copy of a corpus; the first one's sources are read."""
    if not (folder / use).is_dir():
        sample(use, folder / use)
    data = corpus(use, folder / use, **options)
    samples: Sequence[SampleRef] = data.samples()
    for source in samples[0].sources:
        data.read(samples[0].id, source)
    return samples


def _unpacked(folder: Path, use: str, files: Sequence[str], present: bool) -> None:
    """A folder without the files that are to be fetched, and one that holds them: a made-up copy has them in the true format."""
    if present:
        sample(use, folder / use)
        there = {path.name for path in (folder / use).rglob("*")}
        assert set(files) <= there
    else:
        (folder / use).mkdir()
    assert len(corpus(use, folder / use).samples()) >= 12


def _seconds(folder: Path, use: str, longest: float) -> None:
    """Pieces of a corpus that are so long; the longest recording has 10.4 s."""
    samples = _listed(folder, use, seconds=longest)
    assert len(samples) >= 12
    assert all("#" in one.id for one in samples)


def _twin(folder: Path, use: str, keep: str | None, one: str, other: str) -> None:
    """A file, or a folder, that stands there twice, and then one of the two alone."""
    root = folder / use
    if not root.is_dir():
        sample(use, root)
    if not (root / other).exists():
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (root / one).is_dir() else shutil.copy)(root / one, root / other)
    if keep is not None:
        lost = root / (other if keep == one else one)
        aside = folder / "aside"
        shutil.move(lost, aside)
        assert len(corpus(use, root).samples()) >= 12
        shutil.move(aside, lost)
    else:
        corpus(use, root).samples()


def _twins(where: str, words: str, use: str, one: str, other: str) -> Row:
    """Two of which one is to be left: either way."""
    return Row(
        where,
        words,
        lambda folder: _twin(folder, use, None, one, other),
        lambda folder: (_twin(folder, use, one, one, other), _twin(folder, use, other, one, other)),
    )


def _misplaced(folder: Path, to: str | None) -> None:
    """A take of actor 1 in the folder of actor 2; moved, or renamed."""
    root = folder / "ravdess"
    wrong = root / "Actor_02" / "03-01-04-01-01-01-01.wav"
    if not root.is_dir():
        sample("ravdess", root)
        shutil.move(root / "Actor_01" / wrong.name, wrong)
    place = wrong if to is None else wrong.replace(root / to)
    samples = corpus("ravdess", root).samples()
    assert to in {one.sources.get("audio") for one in samples}
    place.replace(wrong)


def _part(split: str) -> dict[str, Any]:
    """A split of a pickled dictionary: four segments of three steps."""
    rows = {name: np.full((4, 3, width), 0.5, np.float32) for name, width in (("text", 30), ("audio", 5), ("vision", 7))}
    return {**rows, "regression_labels": np.linspace(-3, 3, 4), "id": [f"{split}{i // 2}$_${i}" for i in range(4)]}


def _pickled(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def _segments(split: str) -> list[dict[str, Any]]:
    label = [1, 0, 0, 0, 0, 0]
    return [{"uttr_id": f"{split}{i}_0", "text_feat": np.ones((3, 5)), "label": label} for i in range(2)]


def _one_list(folder: Path) -> None:
    convert(_pickled(folder / "a.pkl", _segments("a")), folder / "out")


def _a_list_each(folder: Path) -> None:
    given = [f"{split}={_pickled(folder / f'{split}.pkl', _segments(split))}" for split in ("train", "valid", "test")]
    assert convert_by_command([*given, str(folder / "out")]) == 0
    splits = json.loads((folder / "out" / "index.json").read_text(encoding="utf-8"))["splits"]
    assert {split: len(rows["ids"]) for split, rows in splits.items()} == {"train": 2, "valid": 2, "test": 2}


def _converted(folder: Path, again: bool = False, widths: Sequence[int] = (30, 5, 7)) -> None:
    """Converted files, whose arrays were spoilt afterwards; or converted again."""
    path = _pickled(folder / "a.pkl", {split: _part(split) for split in ("train", "valid", "test")})
    convert(path, folder / "out")
    if not again:
        (folder / "out" / "arrays.safetensors").write_bytes(b"half of it")
        _wide(folder, widths)
    convert(path, folder / "out")
    _wide(folder, widths)


def _wide(folder: Path, widths: Sequence[int]) -> None:
    data = corpus("cmu-mosi", folder / "out", layout="converted", widths=list(widths))
    read = {name: data.read(data.samples()[0].id, name).values for name in ("text", "audio", "vision")}
    assert [values.shape for values in read.values()] == [(3, width) for width in widths]


def _right(folder: Path) -> list[int]:
    """The widths that the refusal of others names."""
    with pytest.raises(DataError) as error:
        _converted(folder, again=True, widths=(30, 74, 7))
    widths: list[int] = json.loads(str(error.value).partition("set dataset.widths: ")[2])
    return widths


def _own_sequence(align: str, source: str = "smile", **smile: float) -> None:
    """A sequence of computed features of one's own."""
    dataset = {"use": "cmu-mosei", "align": align, "sequences": {source: {"name": "OpenSMILE", **smile}}}
    plan = planned(WORDS, dataset)
    assert plan.info.sources[source].notes["shape"] == [384]


def _named(path: Path, name: str) -> None:
    """The same file with another name of its sequence."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as file:
        file.move(next(iter(file)), name)


def _two_facets(folder: Path, keep: bool = False, **options: Any) -> None:
    """FACET's features of two releases, neither of the usual one."""
    root = folder / "cmu-mosei"
    usual = root / "CMU_MOSEI_VisualFacet42.csd"
    if not root.is_dir():
        sample("cmu-mosei", root)
        for name in ("FACET_4.1", "FACET_5"):
            _named(shutil.copy(usual, root / f"{name}.csd"), name)
        usual.unlink()
    if keep:
        (root / "FACET_5.csd").unlink()
    data = corpus("cmu-mosei", root, **options)
    one = next(one for one in data.samples() if "facet" in one.sources)
    assert one.sources["facet"] == "FACET_4.1.csd"
    assert data.read(one.id, "facet").values.shape[1] == 35


def _spoilt(folder: Path, use: str, file: str, whole: bool) -> None:
    """A corpus of which a file was cut short, and with that file copied again."""
    root, kept = folder / use, folder / "kept"
    if not root.is_dir():
        sample(use, root)
        shutil.copy(root / file, kept)
    if whole:
        shutil.copy(kept, root / file)
    else:
        (root / file).write_bytes(kept.read_bytes()[:30])
    data = corpus(use, root)
    samples = data.samples()
    assert len(samples) >= 12
    for one in samples:
        for source, path in one.sources.items():
            if path == file:
                data.read(one.id, source)


def _again(where: str, words: str, use: str, file: str) -> Row:
    return Row(
        where,
        words,
        lambda folder: _spoilt(folder, use, file, whole=False),
        lambda folder: _spoilt(folder, use, file, whole=True),
    )


def _copied(folder: Path, content: bytes, whole: bool = False) -> None:
    """A pickle of which this came, or all of it."""
    path = _pickled(folder / "a.pkl", {split: _part(split) for split in ("train", "valid", "test")})
    if not whole:
        path.write_bytes(content or path.read_bytes()[:-20])
    assert convert(path, folder / "out") == {"train": 4, "valid": 4, "test": 4}


CORPORA: list[Row | Elsewhere | NoOffer] = [
    Row(
        "plugins/mmcl-facegood/mmcl_facegood/recordings.py samples",
        "set seconds to less",
        lambda folder: _seconds(folder, "facegood", 11.0),
        lambda folder: _seconds(folder, "facegood", 1.0),
    ),
    Row(
        "plugins/mmcl-react/mmcl_react/recordings.py samples",
        "set seconds to less",
        lambda folder: _seconds(folder, "react", 11.0),
        lambda folder: _seconds(folder, "react", 1.0),
    ),
    Elsewhere(
        "plugins/mmcl-react/mmcl_react/__init__.py",
        "run `python -m mmcl_react.convert CSV_FOLDER THIS_FOLDER`",
        "plugins/mmcl-react/tests/test_react.py::test_the_converter_writes_what_the_dataset_reads",
    ),
    NoOffer(
        "plugins/mmcl-facegood/mmcl_facegood/recordings.py read",
        "takes.csv says more",
        "'take' is what FACEGOOD calls a recording: the sentence says what is wrong with one",
    ),
    NoOffer(
        "plugins/mmcl-iemocap/mmcl_iemocap/__init__.py info",
        "the dialogue's film, cut to the turn",
        "the description of a source",
    ),
    NoOffer(
        "plugins/mmcl-iemocap/mmcl_iemocap/turns.py _read_turns",
        "name, emotion and [V, A, D]",
        "'name' is a part of the line that was expected",
    ),
    NoOffer(
        "plugins/mmcl-iemocap/mmcl_iemocap/turns.py _read_turns",
        "stands in line",
        "'turn' is what IEMOCAP calls a recording: the sentence says which one stands there twice",
    ),
    NoOffer(
        "plugins/mmcl-iemocap/mmcl_iemocap/turns.py _picture",
        "(turn '{}')",
        "'turn' is what IEMOCAP calls a recording: whose film it was is added to another sentence",
    ),
    NoOffer("plugins/mmcl-m3ed/mmcl_m3ed/__init__.py info", "cut to the utterance", "the description of a source"),
    Row(
        "plugins/mmcl-m3ed/mmcl_m3ed/__init__.py",
        "put them anywhere below the folder",
        lambda folder: _unpacked(folder, "m3ed", (), present=False),
        lambda folder: _unpacked(
            folder, "m3ed", ("annotation.json", *(f"movie_list_{name}.txt" for name in ("train", "val", "test"))), present=True
        ),
    ),
    _again("plugins/mmcl-m3ed/mmcl_m3ed/utterances.py _json", "copy it again", "m3ed", "annotation.json"),
    _twins(
        "plugins/mmcl-m3ed/mmcl_m3ed/utterances.py _clips",
        "leave one of the two",
        "m3ed",
        "audio/A_anjia_1_1.wav",
        "more/A_anjia_1_1.wav",
    ),
    Row(
        "plugins/mmcl-meld/mmcl_meld/__init__.py",
        "unpack them into one folder",
        lambda folder: _unpacked(folder, "meld", (), present=False),
        lambda folder: _unpacked(folder, "meld", [f"{name}_sent_emo.csv" for name in ("train", "dev", "test")], present=True),
    ),
    _twins(
        "plugins/mmcl-meld/mmcl_meld/utterances.py _find",
        "too; leave one of the two",
        "meld",
        "dev_sent_emo.csv",
        "meld_dev.csv",
    ),
    _twins(
        "plugins/mmcl-meld/mmcl_meld/utterances.py _find",
        "leave one of the two folders",
        "meld",
        "train_splits",
        "copy/train_splits",
    ),
    Elsewhere(
        f"{MOSEI}/__init__.py",
        "name its module of folds with dataset.folds, or write its lists of video ids to folds.json",
        "plugins/mmcl-mosei/tests/test_sequences.py::test_the_sdks_module_of_folds_is_read_and_not_run",
    ),
    Row(
        f"{MOSEI}/__init__.py _own_sequences_say_their_shape",
        "say its width",
        lambda folder: _own_sequence("none"),
        lambda folder: (_own_sequence("none", width=384, rate=10), _own_sequence("words", width=384)),
    ),
    Row(
        f"{MOSEI}/__init__.py _own_sequences_say_their_shape",
        "call yours otherwise",
        lambda folder: _own_sequence("none", "audio", width=384, rate=10),
        lambda folder: _own_sequence("none", "smile", width=384, rate=10),
    ),
    Row(
        f"{MOSEI}/convert.py _splits",
        "give the file of each: train=A.pkl valid=B.pkl test=C.pkl",
        _one_list,
        _a_list_each,
    ),
    Elsewhere(
        f"{MOSEI}/convert.py _columns",
        "name the columns as the third argument",
        "plugins/mmcl-mosei/tests/test_convert.py::test_labels_of_a_shape_that_says_no_names_need_them",
    ),
    Row(
        f"{MOSEI}/converted.py read",
        "convert the pickle again",
        lambda folder: _converted(folder),
        lambda folder: _converted(folder, again=True),
    ),
    Row(
        f"{MOSEI}/converted.py read",
        "set dataset.widths: ",
        lambda folder: _converted(folder, again=True, widths=(30, 74, 7)),
        lambda folder: _converted(folder, again=True, widths=_right(folder)),
    ),
    _twins(
        f"{MOSEI}/csd.py __init__",
        "keep one of them below",
        "cmu-mosei",
        "CMU_MOSEI_COVAREP.csd",
        "older/CMU_MOSEI_COVAREP.csd",
    ),
    Row(
        f"{MOSEI}/csd.py _usual",
        "say which is read, as in dataset.sequences",
        lambda folder: _two_facets(folder),
        lambda folder: (_two_facets(folder, sequences={"facet": {"name": "FACET_4.1"}}), _two_facets(folder, keep=True)),
    ),
    _again(f"{MOSEI}/csd.py _damage", "copy it again", "cmu-mosei", "CMU_MOSEI_COVAREP.csd"),
    Row(
        f"{MOSEI}/pickles.py read_pickle",
        "is cut short; copy it again",
        lambda folder: _copied(folder, b""),
        lambda folder: _copied(folder, b"", whole=True),
    ),
    Row(
        f"{MOSEI}/pickles.py read_pickle",
        "); copy it again",
        lambda folder: _copied(folder, b"<html>"),
        lambda folder: _copied(folder, b"", whole=True),
    ),
    Elsewhere(
        f"{MOSEI}/segments.py read",
        "set dataset.sequences: ",
        "plugins/mmcl-mosei/tests/test_sequences.py::test_word_vectors_of_another_name_and_width",
    ),
    Row(
        f"{RAVDESS}/__init__.py",
        "unpack them into one folder",
        lambda folder: _unpacked(folder, "ravdess", (), present=False),
        lambda folder: _unpacked(folder, "ravdess", ("Actor_01", "03-01-04-01-01-01-01.wav"), present=True),
    ),
    _again(f"{RAVDESS}/recordings.py _wav_head", "copy it again", "ravdess", "Actor_01/03-01-04-01-01-01-01.wav"),
    Elsewhere(
        f"{RAVDESS}/recordings.py _table",
        "set `openface: frames`",
        "plugins/mmcl-ravdess/tests/test_ravdess.py::test_a_csv_of_the_other_sort_is_refused_with_the_option_to_set",
    ),
    Elsewhere(
        f"{RAVDESS}/recordings.py _table",
        "set `openface: averaged`",
        "plugins/mmcl-ravdess/tests/test_ravdess.py::test_a_csv_of_the_other_sort_is_refused_with_the_option_to_set",
    ),
    Row(
        f"{RAVDESS}/recordings.py _named",
        "move or rename it",
        lambda folder: _misplaced(folder, None),
        lambda folder: (
            _misplaced(folder, "Actor_01/03-01-04-01-01-01-01.wav"),
            _misplaced(folder, "Actor_02/03-01-04-01-01-01-02.wav"),
        ),
    ),
    _twins(
        f"{RAVDESS}/recordings.py _nearest",
        "is the same take; leave one of the two",
        "ravdess",
        "Actor_01/03-01-04-01-01-01-01.wav",
        "twin/03-01-04-01-01-01-01.wav",
    ),
    _twins(
        f"{RAVDESS}/recordings.py _csvs",
        "is the same take; leave one of the two",
        "ravdess",
        "OpenFace/01-01-04-01-01-01-01.csv",
        "Tracking/01-01-04-01-01-01-01.csv",
    ),
    NoOffer(
        "plugins/mmcl-univa/mmcl_univa/affect.py",
        "free for research",
        "'free' says what the lexicon costs",
    ),
    NoOffer(
        "plugins/mmcl-univa/mmcl_univa/scorers.py read_emobank",
        "train, dev or test was expected",
        "'train' is one of the names of splits that were expected",
    ),
    NoOffer(
        "plugins/mmcl-utd-mhad/mmcl_utd_mhad/__init__.py register_datasets",
        "split across subjects",
        "the summary of the corpus",
    ),
    Elsewhere(
        "plugins/mmcl-utd-mhad/mmcl_utd_mhad/recordings.py _depth",
        "set `depth: reduced`",
        "plugins/mmcl-utd-mhad/tests/test_utd_mhad.py::test_reduced_depth_is_taken_as_it_is_and_never_passed_off_as_original",
    ),
]
