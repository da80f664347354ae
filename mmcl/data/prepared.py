"""What `prepare` left for the later stages: the samples, a store for each modality, and who is on which side of each split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..runs import RunFolder, distrusting, read_json, refuse_links
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
    return _split(run, read_json(run.root / "folds.json"))


def _split(run: RunFolder, kept: Mapping[str, Any]) -> tuple[list[SampleRef], list[Fold]]:
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
        raise StageError(
            f"{run.root / 'folds.json'}: says not which recordings are on which side ({error}); run the recipe again"
        ) from error
    return samples, folds


@distrusting
def load_prepared(run: RunFolder) -> Prepared:
    """What folds.json says, with its stores opened; no stream is read yet.

    Raises StageError if `prepare` has not run, or a store is not whole, holds other data than it did then, or lies elsewhere than
    among the prepared streams beside the run.
    """
    kept = read_json(run.root / "folds.json")
    stores = {name: Store(_beside(run, str(one["folder"]))) for name, one in kept["stores"].items()}
    for name, store in stores.items():
        if store.key != kept["stores"][name]["key"]:
            raise StageError(f"{store.folder}: holds other data than this run was prepared with; run again without --from")
    samples, folds = _split(run, kept)
    return Prepared(samples=samples, stores=stores, folds=folds, key=kept["key"])


def _beside(run: RunFolder, recorded: str) -> Path:
    """The folder of a store, recorded relative to the run: among its prepared streams, and no link on the way down to it."""
    place = Path(os.path.abspath(run.root / recorded))  # noqa: PTH100 - `resolve` would follow the links that are looked for
    base = Path(os.path.abspath(run.prepared))  # noqa: PTH100 - likewise
    if beside := re.fullmatch(r"((?:\.\./){1,3}prepared)/[^/]+/[^/]+", recorded):
        base = Path(os.path.abspath(run.root / beside[1]))  # noqa: PTH100 - likewise
    down = place.relative_to(base).parts if place.is_relative_to(base) else ()
    if len(down) != 2:
        raise StageError(
            f"{run.root / 'folds.json'}: names '{recorded}' as prepared streams; they lie in a folder 'prepared' beside the run"
        )
    for folder in (base, base / down[0], place):
        if folder.is_symlink():
            raise StageError(f"{folder}: is a link, which prepared streams may not be; move them here, or prepare them anew")
    refuse_links(place)
    return place
