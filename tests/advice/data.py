"""Offers of what reads recordings, folds, stores and media, and of networks and heads, followed."""

from __future__ import annotations

from pathlib import Path

from mmcl.api import SampleRef
from mmcl.data.folds import make_folds
from mmcl.data.remote import Cache
from mmcl.media import read_listing
from tests.advice import Elsewhere, NoOffer, Row
from tests.test_folds import protocol


def _table(folder: Path, encoding: str) -> object:
    (folder / "t.csv").write_bytes("id,voice\nä,a.wav\n".encode(encoding))
    return read_listing(folder / "t.csv")


def _folds(recordings: int, k: int) -> object:
    samples = [SampleRef(f"r{row}", f"g{row}", {"audio": "a"}, {}) for row in range(recordings)]
    return make_folds(protocol("k-fold", k=k), samples, range(recordings), 0)


def _cached(folder: Path, most: int) -> None:
    with Cache(folder / "cache", most).room_for(folder / "cache" / "a", 1000) as part:
        part.write_bytes(bytes(1000))


DATA: list[Row | Elsewhere | NoOffer] = [
    Row(
        "mmcl/media/listing.py _text",
        "save it again as UTF-8",
        lambda folder: _table(folder, "latin-1"),
        lambda folder: _table(folder, "utf-8"),
    ),
    Row("mmcl/data/folds.py make_folds", "use a smaller k", lambda folder: _folds(3, 5), lambda folder: _folds(6, 3)),
    Row(
        "mmcl/data/remote.py room_for",
        "to a larger number",
        lambda folder: _cached(folder, 10),
        lambda folder: _cached(folder, 10_000),
    ),
]
