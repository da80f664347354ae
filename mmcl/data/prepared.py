"""What `prepare` left for the later stages: the samples, a store for each modality, and who is on which side of each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..api.dataset import SampleRef
from ..api.errors import StageError
from ..runs import RunFolder, read_json
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


def load_prepared(run: RunFolder) -> Prepared:
    """What folds.json says, with its stores opened; no stream is read yet.

    Raises StageError if `prepare` has not run, or a store is not whole or holds other data than it did then.
    """
    kept = read_json(run.root / "folds.json")
    stores = {name: Store((run.root / one["folder"]).resolve()) for name, one in kept["stores"].items()}
    for name, store in stores.items():
        if store.key != kept["stores"][name]["key"]:
            raise StageError(f"{store.folder}: holds other data than this run was prepared with; run again without --from")
    return Prepared(
        samples=[SampleRef(**one) for one in kept["samples"]],
        stores=stores,
        folds=[
            Fold(number=one["fold"], train=tuple(one["train"]), valid=tuple(one["valid"]), test=tuple(one["test"]))
            for one in kept["folds"]
        ],
        key=kept["key"],
    )
