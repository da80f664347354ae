"""Offers about which recordings are meant, followed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmcl.api import DataError, SampleRef, Source
from mmcl.use.files import Finder, Item
from tests.advice import Elsewhere, NoOffer, Row

SOURCES = {
    "sound": Source("audio", ""),
    "left": Source("sequence", "", 10.0, {"shape": [3], "axes": ["channel"]}),
    "right": Source("sequence", "", 10.0, {"shape": [3], "axes": ["channel"]}),
}


def _items(*names: Path) -> dict[str, Item]:
    """The recordings that some names mean. Raises DataError with the reason of the first file that is none."""
    own = SampleRef("r", "p", {"sound": "r.wav", "left": "left.npy", "right": "right.npy"}, {})
    items, refused = Finder(SOURCES, [own], None).items(names)
    if refused:
        raise DataError(refused[0].reason)
    return {item.id: item for item in items}


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def _listed(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _one_name(folder: Path) -> None:
    _file(folder / "a.wav")
    _items(_listed(folder, "sound\na.wav\n"), _file(folder / "other" / "a.wav"))


def _another_name(folder: Path) -> None:
    assert set(_items(_listed(folder, "sound\na.wav\n"), _file(folder / "other" / "b.wav"))) == {"a", "b"}
    assert set(_items(_listed(folder, "id,sound\nfirst,a.wav\n"), folder / "other" / "a.wav")) == {"first", "a"}


def _of_whom(folder: Path) -> None:
    for name in ("left", "right"):
        shutil.copy(folder / "x.npy", _file(folder / name / "x.npy"))
    laid = _items(folder / "left" / "x.npy")["x"]
    assert set(laid.files) == {"left"}
    assert set(_items(folder / "left", folder / "right")["x"].files) == {"left", "right"}
    listed = _items(_listed(folder, "id,left,right\nr1,left/x.npy,right/x.npy\n"))["r1"]
    assert listed.files == {name: str(folder / name / "x.npy") for name in ("left", "right")}


def _no_text(folder: Path) -> None:
    name = os.fsdecode(os.fsencode(folder) + b"/b\xff.wav")
    _file(Path(name))
    _items(Path(name))


def _text(folder: Path) -> None:
    shutil.move(next(folder.glob("b*.wav")), folder / "b.wav")
    assert set(_items(folder / "b.wav")) == {"b"}


def _two_files(folder: Path) -> None:
    _items(_file(folder / "one" / "x.wav"), _file(folder / "two" / "x.wav"))


def _two_names(folder: Path) -> None:
    assert set(_items(folder / "one" / "x.wav", (folder / "two" / "x.wav").rename(folder / "two" / "y.wav"))) == {"x", "y"}


FILES: list[Row | Elsewhere | NoOffer] = [
    Row("mmcl/use/files.py items", "give each another name, or a table with a column `id`", _one_name, _another_name),
    Row(
        "mmcl/use/files.py _sources_of",
        "lay it in a folder of that name, or give a table with a column for each",
        lambda folder: _items(_file(folder / "x.npy")),
        _of_whom,
    ),
    Elsewhere(
        "mmcl/use/files.py _columns",
        "call one of these columns",
        "tests/test_advice_stages.py::test_a_column_that_is_called_as_its_source_is_that_source",
    ),
    Row("mmcl/use/files.py _grouped", "its name is no text in UTF-8; rename it", _no_text, _text),
    Row("mmcl/use/files.py _grouped", "the other one; give each another name", _two_files, _two_names),
]
