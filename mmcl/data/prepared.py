"""What `prepare` left for the later stages: the samples, a store for each modality, and who is on which side of each split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..runs import PREPARED, JsonObject, RunFolder, digest, distrusting, fingerprint, read_json, refuse_links, write_json
from .columns import read_recordings, write_recordings
from .folds import Fold
from .recordings import Recordings
from .remote import Cache, Remote, open_store
from .store import Store, extremes, few_blocks

RECORDINGS = "recordings.safetensors"
"""The file of a run that holds its recordings and who is on which side; folds.json says in which state."""


Split = tuple[Recordings, list[Fold]]
"""The recordings of a run, and who is on which side."""


@dataclass(frozen=True)
class Prepared:
    """What the later stages start from. A recording is named by its row, its place among `samples`."""

    samples: Recordings
    stores: dict[str, Store]  # modality → its streams, by row
    folds: list[Fold]  # those that the recipe runs
    key: str  # fingerprint of everything above

    @cached_property
    def even(self) -> bool:
        """Whether every recording ends at one moment in all of its modalities, so that their windows are the same."""
        least, most = extremes([store for store in self.stores.values() if store.layout.timed], len(self.samples))
        return bool((least >= most).all())


@distrusting
def load_split(run: RunFolder) -> Split:
    """The recordings of a run and who is on which side, as prepare left them; no prepared stream is needed.

    Raises StageError if `prepare` has not run, or the files are none of its.
    """
    _, samples, folds = _as_kept(run)
    return samples, folds


def _as_kept(run: RunFolder) -> tuple[JsonObject, Recordings, list[Fold]]:
    """What folds.json says, and the recordings that it names. Every stage asks for it: it is read once for as long as it stays."""
    path = run.root / "folds.json"
    try:
        status = path.stat()
    except OSError:
        return _split(path)  # which says what is wrong
    kept, samples, folds = _read(path, status.st_mtime_ns, status.st_size, status.st_ino)
    return kept, samples, list(folds)


@lru_cache(maxsize=2)
def _read(path: Path, *state: int) -> tuple[JsonObject, Recordings, list[Fold]]:
    """folds.json in one state: it is replaced as a whole, never written into, so that another one has another number on the disk."""
    return _split(path)


def _split(path: Path) -> tuple[JsonObject, Recordings, list[Fold]]:
    kept = read_json(path)
    if "recordings" not in kept:  # an older mmcl wrote all of it into this file
        return {name: value for name, value in kept.items() if name not in ("samples", "folds")}, *_in_json(path, kept)
    columns = path.with_name(RECORDINGS)
    samples, by_number = read_recordings(columns)
    order = kept.get("folds", ())
    if few_blocks(columns) != kept["recordings"] or any(one["fold"] not in by_number for one in order):
        raise StageError(f"{columns}: is not what {path.name} was written with; run its recipe again, which makes both anew")
    return kept, samples, [by_number[one["fold"]] for one in order]


@dataclass(frozen=True)
class Kept:
    """What `prepare` leaves for the later stages.

    stores  of each modality, where its streams lie relative to the run, and their fingerprint
    """

    stores: Mapping[str, Any]
    samples: Recordings
    folds: Sequence[Fold]


@distrusting
def kept_by(run: RunFolder) -> Kept:
    """What a run was prepared with. Raises StageError if that is not there, or not whole."""
    kept, samples, folds = _as_kept(run)
    return Kept(kept.get("stores", {}), samples, folds)


def keep(run: RunFolder, stores: Mapping[str, Any], samples: Recordings, folds: Sequence[Fold]) -> None:
    """Write what later stages start from: recordings.safetensors, and folds.json, which says of which state of it, last.

    stores  of each modality, where its streams lie relative to the run, and their fingerprint
    """
    path, columns = run.root / "folds.json", run.root / RECORDINGS
    key = _known_key(path, stores, samples, folds)
    write_recordings(columns, samples, folds)
    state = few_blocks(columns)
    key = key or fingerprint({"stores": dict(stores), "recordings": digest(columns)})
    order = [{"fold": fold.number} for fold in folds]
    write_json(path, {"format": 2, "stores": dict(stores), "recordings": state, "folds": order, "key": key})


def _known_key(path: Path, stores: Mapping[str, Any], samples: Recordings, folds: Sequence[Fold]) -> str | None:
    """The fingerprint by which an older mmcl knew these very recordings, so that its work goes on; None where there is none."""
    try:
        kept = read_json(path)
        if "recordings" in kept or kept.get("stores") != stores or "key" not in kept:
            return None
        before = _in_json(path, kept)
    except StageError:
        return None
    return str(kept["key"]) if before[0] == samples and before[1] == list(folds) else None


def _in_json(path: Path, kept: Mapping[str, Any]) -> Split:
    """Recordings and folds out of a folds.json of format 1."""
    try:
        samples = Recordings.of([SampleRef(**one) for one in kept["samples"]])
        folds = [
            Fold(
                number=one["fold"],
                train=tuple(one["train"]),
                valid=tuple(one["valid"]),
                test=tuple(one["test"]),
                held=tuple(one.get("held", ())),
            )
            for one in kept["folds"]
        ]
    except (KeyError, TypeError) as error:
        raise StageError(f"{path}: says not which recordings are on which side ({error}); run the recipe again") from error
    return samples, folds


@distrusting
def load_prepared(run: RunFolder) -> Prepared:
    """What folds.json says, with its stores opened; no stream is read yet.

    Raises StageError if `prepare` has not run, or a store is not whole, holds other data than it did then, or lies elsewhere than
    among the prepared streams beside the run, in it, or at the URL that the user gave.
    """
    kept, samples, folds = _as_kept(run)
    places = {name: _beside(run, str(one["folder"])) for name, one in kept["stores"].items()}
    if run.remote is not None:
        remote, cache = Remote(run.remote), Cache.usual()
        stores = {name: open_store(remote, "/".join(place.parts[-2:]), cache) for name, place in places.items()}
    elif gone := [place for place in places.values() if not place.is_dir()]:
        raise StageError(
            f"{gone[0]}: the run's prepared streams are not there; run its recipe again, which prepares them anew, or give the URL at which "
            f"they lie ({PREPARED})"
        )
    else:
        stores = {name: Store(place) for name, place in places.items()}
    for name, store in stores.items():
        if store.key != kept["stores"][name]["key"]:
            raise StageError(f"{store.folder}: holds other data than this run was prepared with; run its recipe again")
    return Prepared(samples=samples, stores=stores, folds=folds, key=kept["key"])


def _beside(run: RunFolder, recorded: str) -> Path:
    """The folder of a store, recorded relative to the run: among its prepared streams, and no link on the way down to it."""
    place = Path(os.path.abspath(run.root / recorded))  # noqa: PTH100 - `resolve` would follow the links that are looked for
    base = Path(os.path.abspath(run.prepared))  # noqa: PTH100 - likewise
    if beside := re.fullmatch(r"((?:\.\./){0,3}prepared)/[^/]+/[^/]+", recorded):
        base = Path(os.path.abspath(run.root / beside[1]))  # noqa: PTH100 - likewise
    down = place.relative_to(base).parts if place.is_relative_to(base) else ()
    if len(down) != 2:
        raise StageError(
            f"{run.root / 'folds.json'}: names '{recorded}' as prepared streams; they lie in a folder 'prepared' beside the run or in it"
        )
    refuse_linked(place)
    refuse_links(place)
    return place


def refuse_linked(store: Path) -> None:
    """Raise StageError if there is a link on the way down to a store: nothing is read or written behind one."""
    for folder in (store.parent.parent, store.parent, store):
        if folder.is_symlink():
            raise StageError(
                f"{folder}: is a link, which prepared streams may not be; move them here, or delete the link and run again, which prepares them "
                "anew"
            )
