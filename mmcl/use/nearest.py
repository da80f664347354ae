"""Recordings nearest to a recording, in the space that modalities share; with an index that is kept beside the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..api.errors import DataError, MmclError, StageError
from ..data.whose import read_whose
from ..model.frozen import Features, load_features
from ..runs import digest, fingerprint, read_json, read_tensors, write_json, write_tensors
from ..screen import progress, say
from .embedding import Embedded, concatenated, embed_items
from .files import Item, Refused
from .opened import SPLITS, Opened

KEPT = "search"
"""The folder of a run in which indexes are kept."""


@dataclass(frozen=True)
class Near:
    """A recording that is near another: cosine of their embeddings, the mean over the modalities that are compared."""

    query: str
    id: str
    similarity: float
    file: str
    modalities: tuple[str, ...]  # of it

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "query": self.query,
            "id": self.id,
            "similarity": round(self.similarity, 6),
            "file": self.file,
            "modalities": list(self.modalities),
        }


@dataclass(frozen=True)
class Index:
    """Embeddings of some recordings by modality."""

    ids: Sequence[str]
    files: Sequence[str]
    names: Sequence[str]  # equal for equal recordings, whatever they are called
    features: dict[str, Features]


def indexed(those: Embedded) -> Index:
    """The index of what has been embedded."""
    items = {item.id: item for item in those.items}
    files = [min(items[id].files.values(), default="") for id in those.ids]
    return Index(those.ids, files, [_name(items[id]) for id in those.ids], those.features)


def _name(item: Item) -> str:
    """What a recording is, whatever it is called: one of the run's own by its id, another one by its files."""
    if item.own:
        return f"own {item.id}"
    return fingerprint([{source: os.path.abspath(file) for source, file in item.files.items()}, dict(item.texts)])  # noqa: PTH100 - a link is a name too


def index_of(run: Opened, items: Sequence[Item], unit: tuple[int, int], device: str = "auto") -> tuple[Index, list[Refused]]:
    """The index of some recordings: the one that is kept, if neither encoders nor files have changed, else a new one, which is kept where the run can be written."""
    key = fingerprint([_encoders(run, unit), unit, [_stamp(item) for item in items]])
    place = run.run.root / KEPT / key
    kept: tuple[Index, list[Refused]] | None = run.indexes.get(key) or _kept(place)
    if kept is not None:
        return kept
    with progress("search, index", len(items)) as tick:
        parts, refused = embed_items(run, items, lambda item: [unit], device, None, tick)
    if unit not in parts:
        return Index((), (), (), {}), refused
    index = indexed(parts[unit])
    try:
        _keep(place, index, refused)
    except OSError as error:
        say(f"{place.parent}: the index cannot be kept there ({error.strerror}); the next search embeds these recordings again")
        run.indexes[key] = index, refused
    return index, refused


def _kept(place: Path) -> tuple[Index, list[Refused]] | None:
    """The index that is kept under a name; None where there is none, or what is there is damaged, which a new one then replaces."""
    if not place.with_suffix(".json").exists():
        return None
    try:
        about, tensors = read_json(place.with_suffix(".json")), read_tensors(place.with_suffix(".safetensors"))
        rows = len(about["ids"])
        features = {
            name: Features(torch.zeros(rows, 0), tensors[f"{name}/projection"], tensors[f"{name}/present"])
            for name in about["modalities"]
        }
        sizes = {
            len(about["files"]),
            len(about["names"]),
            *(len(x) for f in features.values() for x in (f.projection, f.present)),
        }
        if sizes != {rows}:
            raise ValueError(f"{rows} recordings and {sizes} rows")
        return Index(about["ids"], about["files"], about["names"], features), [Refused(**one) for one in about["refused"]]
    except (MmclError, OSError, KeyError, TypeError, ValueError, AttributeError):
        say(f"{place.with_suffix('.json')}: is damaged, and is made anew")
        return None


def _keep(place: Path, index: Index, refused: Sequence[Refused]) -> None:
    """Write an index beside the run. Raises OSError where nothing can be written."""
    tensors = {f"{name}/projection": one.projection for name, one in index.features.items()}
    tensors |= {f"{name}/present": one.present for name, one in index.features.items()}
    about = {
        "format": 1,
        "ids": list(index.ids),
        "files": list(index.files),
        "names": list(index.names),
        "modalities": list(index.features),
    }
    place.parent.mkdir(exist_ok=True)
    write_tensors(place.with_suffix(".safetensors"), tensors)
    write_json(place.with_suffix(".json"), about | {"refused": [vars(one) for one in refused]})


def own_index(run: Opened, unit: tuple[int, int]) -> Index:
    """The index of the run's own recordings, by the features that it kept of them: no recording is read.

    Raises StageError if it kept none.
    """
    folder = run.run.stage("embed", *unit)
    parts: list[dict[str, Features]] = []
    ids: list[str] = []
    for split in SPLITS:
        path = folder / f"{run.kind}-{split}.safetensors"
        if not path.exists():
            raise StageError(f"{path}: is not there, and its own recordings are searched by it; run the recipe again")
        parts.append(load_features(path))
        ids += read_whose(folder, split)["ids"]
    files = [min(sample.sources.values(), default="") if (sample := run.sample(id)) else "" for id in ids]
    return Index(ids, files, [f"own {id}" for id in ids], concatenated(parts))


def nearest(run: Opened, query: Index, gallery: Index, n: int, ask: str | None = None, among: str | None = None) -> list[Near]:
    """Of each query the n nearest recordings, itself left out.

    ask, among  the modality of the queries, and of the recordings that are searched; left out: all that each has, and the mean over
                every pair of them

    Raises DataError if a modality is not the run's, or no query has it.
    """
    known = list(gallery.features or query.features)
    for name in (ask, among):
        if name is not None and name not in known:
            raise DataError(f"{name}: is no modality of the run; it has {', '.join(known)}")
    total = torch.zeros(len(query.ids), len(gallery.ids))
    count = torch.zeros_like(total)
    for left in [ask] if ask else list(query.features):
        for right in [among] if among else list(gallery.features):
            a, b = query.features[left], gallery.features[right]
            both = a.present[:, None] & b.present[None]
            total += torch.where(both, _unit(a.projection) @ _unit(b.projection).T, torch.zeros(()))
            count += both
    if len(query.ids) and not bool((count > 0).any()):
        raise DataError(
            f"no query has {ask or 'any modality of the run'}, or no recording among {among or 'those that are searched'}"
        )
    score = torch.where(count > 0, total / count.clamp_min(1), torch.full((), -torch.inf))
    places = {name: i for i, name in enumerate(gallery.names)}
    for i, name in enumerate(query.names):
        if name in places:
            score[i, places[name]] = -torch.inf
    results = []
    table = score.numpy()
    for i, id in enumerate(query.ids):
        order = np.argsort(-table[i], kind="stable")[:n]
        for j in order:
            if np.isfinite(table[i, j]):
                there = tuple(name for name, one in gallery.features.items() if bool(one.present[j]))
                results.append(Near(id, gallery.ids[j], float(table[i, j]), gallery.files[j], there))
    return results


def shared_space(run: Opened) -> None:
    """Raise StageError where nothing was trained that recordings can be searched by."""
    if run.kind != "pretrained":
        raise StageError(f"{run.run.root}: was not pretrained (epochs 0), so that its embeddings say nothing of what is near")


def _unit(vectors: Tensor) -> Tensor:
    """Of length 1: a mean over windows is shorter."""
    return torch.nn.functional.normalize(vectors, dim=-1)


def _encoders(run: Opened, unit: tuple[int, int]) -> str:
    """What changes with the encoders."""
    return digest(run.run.stage("pretrain", *unit) / "encoders.safetensors")


def _stamp(item: Item) -> list[Any]:
    """What changes with a recording's files."""
    stamps: list[Any] = [item.id, dict(item.texts), item.own]
    for source, file in sorted(item.files.items()):
        try:
            status = Path(file).stat()
        except OSError:
            stamps.append([source, file])
        else:
            stamps.append([source, os.path.abspath(file), status.st_size, status.st_mtime_ns])  # noqa: PTH100 - a link is a name too
    return stamps
