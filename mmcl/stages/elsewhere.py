"""A run that starts from prepared streams at a URL, where `mmcl upload` put them, and reads no recording.

It names its streams as if they lay beside it, so that it is the same run wherever they lie.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..api.errors import StageError
from ..data.columns import read_recordings
from ..data.prepared import RECORDINGS
from ..data.recordings import Recordings
from ..data.remote import LISTING, PLACE, RECORDINGS_BYTES, Cache, Remote, open_store
from ..data.store import Store
from ..recipe.plan import ModalityPlan, Plan
from ..runs import JsonObject, RunFolder, fingerprint
from ..screen import say

READERS = {"table": 2, "video": 3}
"""Type of a source → how often the values that `mmcl.media` reads of it have changed: streams of before are prepared anew."""


@dataclass(frozen=True)
class There:
    """What a run starts from that reads no recordings."""

    samples: Recordings
    scored: JsonObject  # what prepare.json says of scores
    stores: dict[str, Store]
    places: dict[
        str, tuple[Path, str]
    ]  # modality → the folder beside the run in which its streams would lie, and their fingerprint


def content_of(plan: Plan, modality: ModalityPlan) -> dict[str, Any]:
    """What prepared streams are made of and how, but for the files."""
    return {
        "dataset": plan.dataset.to_json(),
        "source": modality.source,
        "features": modality.features.to_json(),
        "extract": modality.features.spec.version,
        "layout": modality.layout.to_json(),
        "format": READERS.get(plan.info.sources[modality.source].type, 1),
        **({"reading": reading.model_dump()} if (reading := plan.recipe.reading) != type(reading)() else {}),
    }


def listed_as(plan: Plan) -> JsonObject:
    """The fingerprints by which the recordings and streams of a plan are looked for at a URL."""
    protocol = plan.recipe.protocol.model_dump(mode="json")
    few = None if plan.recipe.limit is None else [plan.recipe.limit, protocol, plan.seeds[0], plan.fold_of, plan.fold_key]
    scores = {name: score.to_json() for name, score in plan.scores.items()}
    return {
        "dataset": str(plan.dataset.spec.name),
        "recordings": fingerprint([plan.dataset.to_json(), scores, few]),
        "streams": {one.name: fingerprint(content_of(plan, one)) for one in plan.modalities},
    }


def prepared_there(plan: Plan, run: RunFolder, url: str) -> There:
    """What was uploaded for such a plan. Raises StageError if it was not, is not whole, or cannot be reached."""
    remote, cache, names = Remote(url), Cache.usual(), listed_as(plan)
    base = f"{names['dataset']}/recordings-{names['recordings']}"
    if not remote.has(f"{base}/{LISTING}"):
        raise StageError(
            f"{remote.url}: has no recordings of '{plan.dataset.use}' with these options, scores and version ({base}); "
            "prepare them where the recordings are, with the same recipe and mmcl, and 'mmcl upload' that run"
        )
    listing = remote.json(f"{base}/{LISTING}")
    entry = listing["recordings"]
    with tempfile.TemporaryDirectory() as folder:  # small, and read as a whole
        path = Path(folder) / RECORDINGS
        if entry["bytes"] > RECORDINGS_BYTES:
            raise StageError(
                f"{remote.url}/{base}/{LISTING}: names {entry['bytes']:,} bytes of recordings, where {RECORDINGS_BYTES:,} are the most"
            )
        path.write_bytes(b"")
        remote.fetch(f"{base}/{RECORDINGS}", entry, path)
        listed, _ = read_recordings(path)
        samples = Recordings(
            {name: np.array(column) for name, column in listed.columns.items()}, f"{remote.url}/{base}/{RECORDINGS}"
        )
    stores: dict[str, Store] = {}
    places: dict[str, tuple[Path, str]] = {}
    for modality in plan.modalities:
        name = f"{base}/{names['streams'][modality.name]}/{PLACE}"
        if not remote.has(name):
            raise StageError(
                f"{remote.url}: has no streams of '{modality.name}' by '{modality.features.use}' with these options ({name}); "
                "prepare them where the recordings are, with the same recipe and mmcl, and 'mmcl upload' that run"
            )
        place = remote.json(name)
        if place["recordings"] != entry["sha256"]:
            raise StageError(
                f"{remote.url}/{name}: is of other recordings than {LISTING} beside it names; upload the run again"
            )
        store = open_store(remote, f"{names['dataset']}/{place['folder']}", cache)
        if store.key != place["key"] or (len(store) and int(store.rows[-1]) >= len(samples)):
            raise StageError(
                f"{remote.url}/{names['dataset']}/{place['folder']}: is of other recordings than {name}; remove it there and upload "
                "the run again"
            )
        stores[modality.name] = store
        places[modality.name] = (run.prepared / names["dataset"] / place["folder"], store.key)
    return There(samples, listing["scored"], stores, places)


def warn(plan: Plan, stores: Mapping[str, Store]) -> None:
    """Say so where random order would fetch streams again and again, as the cache cannot hold them."""
    most, size = Cache.usual().most, sum(store.size_elsewhere for store in stores.values())
    trained = {"pretrain": plan.sampler} if plan.recipe.pretrain.epochs else {}
    trained |= {"supervise": plan.supervised.sampler} if plan.supervised else {}
    random = [f"{name}.sampler" for name, sampler in trained.items() if sampler is None or sampler.use != "by-shard"]
    if size > most and random:
        say(
            f"prepare: the streams have {size / 1e9:.1f} GB and their cache holds {most / 1e9:.1f} (MMCL_CACHE_GB): in random order files are fetched again "
            f"and again; {' and '.join(random)}: by-shard reads each once an epoch"
        )
