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
from ..runs import JsonObject, RunFolder, distrusting, read_json, refuse_links
from .folds import Fold
from .store import Store


@dataclass(frozen=True)
class Prepared:
    """What the later stages start from. A recording is named by its row, its place among `samples`."""

    samples: Sequence[SampleRef]
    stores: dict[str, Store]  # modality → its streams, by row
    folds: list[Fold]  # those that the recipe runs
    key: str  # fingerprint of everything above

    @cached_property
    def even(self) -> bool:
        """Whether every recording ends at one moment in all of its modalities, so that their windows are the same."""
        timed = [store for store in self.stores.values() if store.layout.timed]
        return all(len({store.seconds(row) for store in timed if row in store}) <= 1 for row in range(len(self.samples)))


@distrusting
def load_split(run: RunFolder) -> tuple[list[SampleRef], list[Fold]]:
    """The recordings of a run and who is on which side, as folds.json says; no prepared stream is needed.

    Raises StageError if `prepare` has not run, or the file is none of its.
    """
    _, samples, folds = _as_kept(run)
    return samples, folds


def _as_kept(run: RunFolder) -> tuple[JsonObject, list[SampleRef], list[Fold]]:
    """What folds.json says. Every stage asks for it, and it says 200 bytes of each recording: it is read once for as long as it stays."""
    path = run.root / "folds.json"
    try:
        status = path.stat()
    except OSError:
        kept = read_json(path)  # which says what is wrong
        return kept, *_split(path, kept)
    kept, samples, folds = _read(path, status.st_mtime_ns, status.st_size, status.st_ino)
    return kept, list(samples), list(folds)


@lru_cache(maxsize=2)
def _read(path: Path, *state: int) -> tuple[JsonObject, list[SampleRef], list[Fold]]:
    """folds.json in one state: it is replaced as a whole, never written into, so that another one has another number on the disk."""
    kept = read_json(path)
    samples, folds = _split(path, kept)
    return {name: value for name, value in kept.items() if name != "samples"}, samples, folds


def _split(path: Path, kept: Mapping[str, Any]) -> tuple[list[SampleRef], list[Fold]]:
    try:
        samples = [SampleRef(**one) for one in kept["samples"]]
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
    among the prepared streams beside the run or in it.
    """
    kept, samples, folds = _as_kept(run)
    places = {name: _beside(run, str(one["folder"])) for name, one in kept["stores"].items()}
    if gone := [place for place in places.values() if not place.is_dir()]:
        raise StageError(f"{gone[0]}: the run's prepared streams are not there; run its recipe again, which prepares them anew")
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
            raise StageError(f"{folder}: is a link, which prepared streams may not be; move them here, or prepare them anew")
