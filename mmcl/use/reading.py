"""Recordings that a run is asked about, read and turned into streams by the run's own preparation, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from ..api.dataset import Dataset, DatasetSpec
from ..api.errors import DataError, StageError
from ..api.modality import Modality
from ..api.raw import Raw, Source
from ..data.reading import extracted, read_source, samples_of
from ..data.remarks import remark_on_stream, remarks_on
from ..data.store import Store, Streams
from ..media import words_of
from ..plugins import plugins
from ..recipe.plan import Plan
from .files import Item, Refused
from .opened import Opened

CHUNK = 64
"""Recordings whose streams are in memory at a time."""


@dataclass
class Chunk:
    """A few recordings, read."""

    items: list[Item] = field(default_factory=list)  # by row of the streams
    streams: dict[str, Streams] = field(default_factory=dict)  # modality →
    refused: list[Refused] = field(default_factory=list)
    done: int = 0  # recordings that have been looked at, with those before this chunk

    @property
    def stores(self) -> dict[str, Store]:
        """The streams, as the networks' windows read them."""
        return {name: cast(Store, one) for name, one in self.streams.items()}


class Reader:
    """Reads recordings of a run: files by the readers of its dataset, or of the dataset of one's own folder; its own by its dataset."""

    def __init__(self, run: Opened) -> None:
        self._plan: Plan = run.plan
        self._extractors: dict[str, Modality] = {}
        self._own: Dataset | None = None

    def begin(self) -> None:
        """Load what makes streams of each modality, which is else loaded with the first recording that needs it."""
        for modality in self._plan.modalities:
            self._extractor(modality.name)

    def chunks(self, items: Sequence[Item]) -> Iterator[Chunk]:
        """The recordings, CHUNK at a time; what cannot be read stands beside with its reason."""
        for start in range(0, len(items), CHUNK):
            chunk = Chunk(streams={m.name: Streams(m.layout) for m in self._plan.modalities})
            for item in items[start : start + CHUNK]:
                self._add(chunk, item)
            chunk.done = min(start + CHUNK, len(items))
            yield chunk

    def _add(self, chunk: Chunk, item: Item) -> None:
        """One recording, of each modality whose source it has."""
        raws: dict[str, Raw] = {}
        row = len(chunk.items)
        there = False
        remarks: list[str] = []
        for modality in self._plan.modalities:
            if modality.source not in item.sources:
                continue
            where = item.files.get(modality.source, f"'{modality.source}' of '{item.id}'")
            try:
                if modality.source not in raws:
                    raws[modality.source] = raw = self._read(item, modality.source)
                    remarks += remarks_on(modality.source, raw)
                stream = extracted(self._extractor(modality.name), raws[modality.source], modality.layout, item.id, where)
            except DataError as error:
                chunk.refused.append(Refused(item.id, modality.source, str(error)))
                continue
            chunk.streams[modality.name].add(row, stream)
            there = True
            told = any(remark.startswith(f"{modality.source}: ") for remark in remarks)
            if not told and (remark := remark_on_stream(modality.name, stream)) is not None:
                remarks.append(remark)
        if there:
            chunk.items.append(replace(item, remarks=tuple(remarks)))
        elif not any(one.id == item.id for one in chunk.refused):
            sources = ", ".join(sorted({m.source for m in self._plan.modalities}))
            chunk.refused.append(Refused(item.id, None, f"recording '{item.id}' has none of the sources {sources}"))

    def _read(self, item: Item, source: str) -> Raw:
        if item.own:
            return read_source(self._dataset(), self._plan.dataset.use, item.id, source, item.files[source])
        if source in item.texts:
            return words_of(item.texts[source], f"recording '{item.id}'")
        path = Path(item.files[source])
        if not path.exists():
            raise DataError(f"{path}: is not there; recording '{item.id}' has its '{source}' there by the table")
        try:
            return self._reader()(path, self._plan.info.sources[source])
        except (OSError, ValueError, KeyError) as error:  # a reader's slip is that file's: the others are read
            raise DataError(f"{path}: cannot be read as '{source}' ({type(error).__name__}: {error})") from error

    def _reader(self) -> Callable[[Path, Source], Raw]:
        """What reads a file as a source: the run's dataset if it can, else the first dataset that does."""
        specs: list[DatasetSpec] = [self._plan.dataset.spec, *(offer.spec for _, offer in plugins().all("dataset"))]
        reader = next((spec.read_file for spec in specs if spec.read_file is not None), None)
        if reader is None:
            raise StageError(
                "no installed dataset reads single files (see 'mmcl plugins'); name recordings of the run by their ids"
            )
        return reader

    def _dataset(self) -> Dataset:
        """The run's own dataset. Raises DataError if its data are not there."""
        if self._own is None:
            plan = self._plan
            if plan.dataset.spec.needs_root and (plan.root is None or not plan.root.is_dir()):
                raise DataError(
                    f"{plan.root}: the run's own recordings were there and are not; say with --data where they lie now, or name files"
                )
            own: Dataset = plan.dataset.spec.build(plan.dataset.params, plan.root)
            samples_of(own, plan.dataset.use, plan.root)
            self._own = own
        return self._own

    def _extractor(self, name: str) -> Modality:
        """What makes streams of one modality, built once."""
        if name not in self._extractors:
            modality = next(m for m in self._plan.modalities if m.name == name)
            spec, source = modality.features.spec, self._plan.info.sources[modality.source]
            self._extractors[name] = spec.build(modality.features.params, source)
        return self._extractors[name]
