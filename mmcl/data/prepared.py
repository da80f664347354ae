"""What `prepare` left for the later stages: the samples, a store for each modality, and who is on which side of each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..runs import RunFolder, read_json
from .folds import Fold
from .store import Store


@dataclass(frozen=True)
class Prepared:
    """What the later stages start from."""

    samples: Sequence[SampleRef]
    stores: dict[str, Store]
    folds: list[Fold]
    key: str  # fingerprint of everything above


def load_prepared(run: RunFolder) -> Prepared:
    """What `prepare` left. Raises StageError if it has not run."""
    about = read_json(run.root / "folds.json")
    samples = [SampleRef(**one) for one in about["samples"]]
    stores = {name: Store((run.root / one["folder"]).resolve()) for name, one in about["stores"].items()}
    for name, store in stores.items():
        if store.key != about["stores"][name]["key"]:
            raise StageError(f"{store.folder}: holds other data than this run was prepared with; run again without --from")
    folds = [Fold(f["fold"], tuple(f["train"]), tuple(f["valid"]), tuple(f["test"])) for f in about["folds"]]
    return Prepared(samples, stores, folds, about["key"])
