"""Offers of `folder`, a folder of one's own, followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcl.api import Audio, Pictures, SampleRef, Table, Video, Words
from mmcl.api import Sequence as Steps
from mmcl.media import finder, write_audio, write_film
from mmcl.testing.corpora import write_pictures
from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.core import call
from tests.advice.planned import corpus

COLUMNS = "plugins/mmcl-folder/mmcl_folder/columns.py"
ROWS = "plugins/mmcl-folder/mmcl_folder/rows.py"
WAVS = [f"{letter}.wav" for letter in "abcdef"]
MOODS = ["glad", "sad", "glad", "sad", "glad", "sad"]


def _sounds(folder: Path, names: Sequence[str] = WAVS) -> None:
    for name in names:
        write_audio(folder / name, np.full(800, 0.1), 8000)


def _listed(folder: Path, header: str, rows: Sequence[Sequence[object]], **options: Any) -> Sequence[SampleRef]:
    """The recordings of a table."""
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    (folder / "recordings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return corpus("folder", folder, **options).samples()


def _moods(folder: Path, moods: Sequence[str], classes: int, **options: Any) -> None:
    """Six sounds, of which the last may lack its label."""
    _sounds(folder)
    rows = [(wav, f"p{i // 2}", mood) for i, (wav, mood) in enumerate(zip(WAVS, moods, strict=True))]
    samples = _listed(folder, "audio,speaker,mood", rows, **options)
    known = [sample.targets["mood"] for sample in samples if sample.targets]
    assert len(known) == sum(map(bool, moods))
    assert len(set(map(str, known))) == classes


def _people(folder: Path, header: str, names: Sequence[str]) -> None:
    """Sounds whose names or people are these."""
    _sounds(folder)
    samples = _listed(folder, header, [(wav, name) for wav, name in zip(WAVS, names, strict=False)])
    assert {sample.id if "id" in header else sample.group for sample in samples} == set(names)


def _begun(folder: Path, command: bool) -> None:
    """A folder of sounds, whose table the command writes."""
    for mood in ("glad", "sad"):
        for person in "abc":
            (folder / mood).mkdir(exist_ok=True)
            _sounds(folder / mood, [f"{person}1.wav", f"{person}2.wav"])
    if command:
        call("new-dataset", str(folder))
    samples = corpus("folder", folder).samples()
    assert len(samples) == 12
    assert all((folder / path).is_file() for sample in samples for path in sample.sources.values())


def _written(folder: Path) -> None:
    """The same with a table written by hand."""
    (folder / "recordings.csv").write_text("audio\nglad/a1.wav\nsad/a1.wav\n", encoding="utf-8")
    assert len(corpus("folder", folder).samples()) == 2


def _arrays(folder: Path, header: str, rows: Sequence[Sequence[object]], rates: dict[str, float], **options: Any) -> None:
    """Arrays of two channels, and at what rate each source of them is read."""
    for name in {str(cell) for row in rows for cell in row if str(cell).endswith(".npy")}:
        np.save(folder / name, np.arange(40.0).reshape(20, 2))
    _listed(folder, header, rows, **options)
    data = corpus("folder", folder, **options)
    for sample in data.samples():
        for source in sample.sources:
            raw = data.read(sample.id, source)
            assert isinstance(raw, Steps)
            assert raw.rate == rates[source]


def _looked_at(folder: Path, **options: Any) -> None:
    """Faces in a folder of pictures."""
    for package in ("dlib", finder.PACKAGE):
        pytest.importorskip(package)
    write_pictures(folder / "film", np.zeros((3, 64, 64, 3)))
    (folder / "recordings.csv").write_text("id,rec\na,film\n", encoding="utf-8")
    data = corpus("folder", folder, sources={"rec": {"reads": "faces", **options}}, labels={})
    assert data.header("a", "rec").seconds == 0.6


def _tabled(folder: Path) -> None:
    """The same, its rate in the table."""
    (folder / "recordings.csv").write_text("id,rec,rec_rate\na,film,5\n", encoding="utf-8")
    data = corpus("folder", folder, sources={"rec": {"reads": "faces"}}, labels={})
    assert data.header("a", "rec").seconds == 0.6


def _write_wav(path: Path) -> None:
    write_audio(path.with_suffix(".wav"), np.full(800, 0.1), 8000)
    path.with_suffix(".wav").rename(path)


def _write_film(path: Path) -> None:
    write_film(path.with_suffix(".mp4"), np.zeros((5, 16, 16, 3), np.uint8), 10)
    path.with_suffix(".mp4").rename(path)


def _write_png(path: Path) -> None:
    write_pictures(path.parent, np.zeros((1, 16, 16, 3)), "picture.png")
    (path.parent / "picture.png").rename(path)


ENDINGS: dict[str, tuple[Callable[[Path], object], type]] = {
    "sound": (_write_wav, Audio),
    "pictures": (_write_film, Video),
    "photos": (_write_png, Pictures),
    "table": (lambda path: path.write_text("timestamp,x\n0,1\n0.1,2\n", encoding="utf-8"), Table),
    "words": (lambda path: path.write_text("we see that\n", encoding="utf-8"), Words),
}


def _unknown(folder: Path, reads: str | None, name: str = "a.dat") -> None:
    """A file whose ending says nothing."""
    pytest.importorskip("av")
    write, kind = ENDINGS[reads or "sound"]
    (folder / name).unlink(missing_ok=True)
    write(folder / name)
    (folder / "recordings.csv").write_text(f"id,rec\na,{name}\n", encoding="utf-8")
    data = corpus("folder", folder, sources={"rec": {} if reads is None else {"reads": reads}}, labels={})
    assert isinstance(data.read("a", "rec"), kind)


def _two_columns(folder: Path, **label: Any) -> list[object]:
    _sounds(folder)
    rows = [(wav, i % 2, (i + 1) % 2, "ab"[i % 2]) for i, wav in enumerate(WAVS)]
    return [sample.targets["mood"] for sample in _listed(folder, "audio,joy,fear,feeling", rows, labels={"mood": label})]


def _one_of_two(folder: Path) -> None:
    assert _two_columns(folder, column="feeling", type="single-label") == [0, 1] * 3
    assert _two_columns(folder, columns=["joy", "fear"], type="multi-label") == [[0, 1], [1, 0]] * 3


def _elsewhere(folder: Path, path: str, **options: Any) -> None:
    (folder / "study").mkdir(exist_ok=True)
    _sounds(folder, ["a.wav"])
    _sounds(folder / "study", ["a.wav"])
    (folder / "study" / "recordings.csv").write_text(f"id,audio\none,{path}\n", encoding="utf-8")
    data = corpus("folder", folder / "study", **options)
    assert isinstance(data.read(data.samples()[0].id, "audio"), Audio)


def _split(folder: Path, word: str) -> None:
    _sounds(folder)
    samples = _listed(folder, "audio,split", [("a.wav", "train"), ("b.wav", word)])
    assert [sample.split for sample in samples] == ["train", "valid"]


FOLDER: list[Row | Elsewhere | NoOffer] = [
    Row(
        "plugins/mmcl-folder/mmcl_folder/__init__.py",
        "Write recordings.csv into the folder, a row a recording ('mmcl new-dataset FOLDER' makes one of what lies there).",
        lambda folder: _begun(folder, command=False),
        lambda folder: (_begun(folder, command=True), _written(folder)),
    ),
    Elsewhere(
        f"{COLUMNS} _check_trimmed",
        "leave trim out, or that source",
        "plugins/mmcl-folder/tests/test_words_of_sound.py::test_a_sound_is_not_cut_beside_a_source_of_the_same_time",
    ),
    Row(
        f"{COLUMNS} _of_faces",
        "does not say how many pictures a second it has; set ",
        lambda folder: _looked_at(folder),
        lambda folder: (_looked_at(folder, rate=5.0), _tabled(folder)),
    ),
    Row(
        f"{COLUMNS} _offer",
        "or 'rate' of the table, or",
        lambda folder: _arrays(folder, "imu", [("a.npy",), ("b.npy",)], {}),
        lambda folder: (
            _arrays(folder, "imu,imu_rate", [("a.npy", 50), ("b.npy", 50)], {"imu": 50.0}),
            _arrays(folder, "imu,rate", [("a.npy", 25), ("b.npy", 25)], {"imu": 25.0}),
            _arrays(folder, "imu", [("a.npy",), ("b.npy",)], {"imu": 12.5}, sources={"imu": {"rate": 12.5}}),
        ),
    ),
    Row(
        f"{COLUMNS} _rate",
        "need one rate, so resample them, or give each rate a column of its own",
        lambda folder: _arrays(folder, "imu,rate", [("a.npy", 50), ("b.npy", 25)], {}),
        lambda folder: (
            _arrays(folder, "imu,rate", [("a.npy", 50), ("b.npy", 50)], {"imu": 50.0}),
            _arrays(
                folder,
                "fast,fast_rate,slow,slow_rate",
                [("a.npy", 50, "", ""), ("", "", "b.npy", 25)],
                {"fast": 50.0, "slow": 25.0},
            ),
        ),
    ),
    Row(
        f"{COLUMNS} _reads",
        "reads to sound, pictures, photos, table or words, or save an array as .npy",
        lambda folder: _unknown(folder, None),
        lambda folder: (
            *(_unknown(folder, reads) for reads in ENDINGS),
            _arrays(folder, "rec,rate", [("a.npy", 50)], {"rec": 50.0}),
        ),
    ),
    Row(
        f"{COLUMNS} _check_alike",
        "write both alike",
        lambda folder: _moods(folder, ["glad", "Glad", *MOODS[2:]], 2),
        lambda folder: (
            _moods(folder, ["glad", "glad", *MOODS[2:]], 2),
            _moods(folder, ["glad", "Glad", *MOODS[2:]], 3, labels={"mood": {"classes": ["glad", "Glad", "sad"]}}),
            _people(folder, "audio,speaker", ["Ren\u00e9", "Ren\u00e9", "Ann"]),
            _people(folder, "audio,id", ["Ren\u00e9", "Rene", "Ann"]),
        ),
    ),
    Row(
        f"{COLUMNS} _label",
        "set column, or multi-label",
        lambda folder: _two_columns(folder, columns=["joy", "fear"], type="single-label"),
        _one_of_two,
    ),
    Row(
        f"{COLUMNS} _check_counts",
        "mend it, empty the cell, or list the classes in dataset.labels.",
        lambda folder: _moods(folder, [*MOODS[:5], "angry"], 3),
        lambda folder: (
            _moods(folder, [*MOODS[:5], "sad"], 2),
            _moods(folder, [*MOODS[:5], ""], 2),
            _moods(folder, [*MOODS[:5], "angry"], 3, labels={"mood": {"classes": ["angry", "glad", "sad"]}}),
        ),
    ),
    Row(
        f"{ROWS} inside",
        "write it relative to that folder, or allow it with dataset.outside: true",
        lambda folder: _elsewhere(folder, "../a.wav"),
        lambda folder: (_elsewhere(folder, "a.wav"), _elsewhere(folder, "../a.wav", outside=True)),
    ),
    Row(
        f"{ROWS} split_of",
        "write '",
        lambda folder: _split(folder, "dev"),
        lambda folder: _split(folder, "valid"),
    ),
]
