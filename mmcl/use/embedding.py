"""Frozen features of recordings that a run is asked about, a recording or a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from ..api.errors import StageError
from ..data.stack import batch
from ..data.store import Store
from ..data.windows import Span, slide, whole_seconds
from ..engine.devices import arithmetic, pick_device
from ..model.frozen import Features, encode_joint, encode_rows
from ..model.joint import Joint
from ..model.windows import WINDOWS
from ..recipe.plan import JOINT, Plan
from ..runs import in_place_of, write_arrays, write_json
from .files import Item, Refused
from .opened import Opened, Trained
from .reading import Chunk, Reader

Tick = Callable[[int, str], None]
Windows = tuple[float, float | None]
"""Seconds of a window, and from one to the next (None: half of it)."""
SHORTEST = 0.001
"""Seconds: no window is shorter, and none closer to the next, where no modality has steps of one length."""
ENDINGS = (".npz", ".safetensors", ".parquet")
"""Of the files in which features are written."""


@dataclass
class Embedded:
    """Frozen features of some recordings, or of their windows, by modality.

    ids    whose each row is
    items  the recordings that were read, in their order
    spans  start and end of each row in seconds, float64 [n, 2]; None where a row is a whole recording
    """

    ids: list[str]
    items: list[Item]
    features: dict[str, Features]
    fold: int
    seed: int
    spans: NDArray[np.float64] | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """NAME/vector [n, width], NAME/projection [n, D] and NAME/present [n] of each modality; start and end of windows."""
        arrays = {
            f"{name}/{part.name}": getattr(one, part.name).numpy()
            for name, one in self.features.items()
            for part in fields(one)
        }
        if self.spans is not None:
            arrays |= {"start": self.spans[:, 0].copy(), "end": self.spans[:, 1].copy()}
        return arrays

    def save(self, path: Path, sides: Sequence[str]) -> None:
        """Write .npz, .safetensors (ids then in a .json beside it) or .parquet, whole or not at all.

        sides  where each row's recording stood in the run

        Raises StageError for another ending, or if Parquet is to be written and pyarrow is not installed.
        """
        save_features(path, self, sides)


def embed_items(
    run: Opened,
    items: Sequence[Item],
    units: Callable[[Item], Sequence[tuple[int, int]]],
    device: str = "auto",
    windows: Windows | None = None,
    tick: Tick | None = None,
    chunks: Iterable[Chunk] | None = None,
) -> tuple[dict[tuple[int, int], Embedded], list[Refused]]:
    """The features of some recordings, by fold and seed; each recording is read once, however many folds and seeds are asked.

    units    recording → the folds and seeds that are asked about it
    windows  seconds and hop (None: half of it) of windows that each give a row; left out: a row a recording, as the run took it
    tick     told how many recordings are done
    chunks   the same recordings, where they have been read before
    """
    where = pick_device(device)
    parts: dict[tuple[int, int], list[Embedded]] = {}
    refused: list[Refused] = []
    for chunk in Reader(run).chunks(items) if chunks is None else chunks:
        refused += chunk.refused
        asked = [units(item) for item in chunk.items]
        for unit in dict.fromkeys(unit for one in asked for unit in one):
            rows = [row for row, one in enumerate(asked) if unit in one]
            parts.setdefault(unit, []).append(_embedded(run, run.trained(*unit), chunk, rows, where, windows))
        if tick is not None:
            tick(chunk.done, f"{len(refused)} skipped" if refused else "")
    return {unit: joined(those) for unit, those in parts.items()}, refused


def window_of(plan: Plan, seconds: float | None, hop: float | None) -> Windows:
    """Length and hop in seconds of the windows of a course over time: those given, else the recipe's.

    Raises StageError where neither says a length, and for one that is shorter than every modality's step.
    """
    window = plan.recipe.window
    length = seconds if seconds is not None else window.seconds
    if length is None:
        raise StageError(
            f"{plan.name} takes whole recordings, so it has no windows of its own; say how long they are (--seconds)"
        )
    step = min((1 / m.layout.rate for m in plan.modalities if m.layout.rate), default=SHORTEST)
    for name, value in (("seconds", seconds), ("hop", hop)):
        if value is not None and not value > step * 0.999:  # NaN is not, either
            raise StageError(
                f"{name} {value:g}: is less than a step of the run's streams; {step:g} seconds or more were expected"
            )
    return length, hop if hop is not None else window.hop if seconds is None else None


def _embedded(
    run: Opened,
    trained: Trained,
    chunk: Chunk,
    rows: Sequence[int],
    device: torch.device,
    windows: Windows | None,
) -> Embedded:
    """Some recordings of a chunk, seen by one fold and seed."""
    plan, stores, items = run.plan, chunk.stores, [chunk.items[row] for row in rows]
    if windows is not None:
        cuts = [(row, span) for row in rows for span in slide(stores, row, windows[0], "sliding", windows[1])]
        features = _encode_windows(plan, trained, stores, cuts, device)
        ends = [min(span.start + windows[0], max(whole_seconds(stores, row), span.start)) for row, span in cuts]
        spans = np.array([[span.start, end] for (_, span), end in zip(cuts, ends, strict=True)]).reshape(-1, 2)
        ids = [chunk.items[row].id for row, _ in cuts]
        return Embedded(ids, items, features, trained.fold, trained.seed, spans)
    if isinstance(trained.encoders, Joint):
        features = encode_joint(plan, trained.encoders, stores, rows, device)
    else:
        features = encode_rows(plan, trained.encoders, stores, rows, device)
    return Embedded([item.id for item in items], items, features, trained.fold, trained.seed)


@torch.inference_mode()
def _encode_windows(
    plan: Plan, trained: Trained, stores: Mapping[str, Store], cuts: Sequence[tuple[int, Span]], device: torch.device
) -> dict[str, Features]:
    """Features of single windows, each the same seconds of every modality."""
    encoders = trained.encoders
    parts: list[dict[str, Features]] = []
    for k in range(0, len(cuts), WINDOWS):
        some = cuts[k : k + WINDOWS]
        streams = batch(stores, [row for row, _ in some], [span for _, span in some])
        with arithmetic(plan.recipe.pretrain.precision, device):
            if isinstance(encoders, Joint):
                vector, present = encoders.eval().to(device)(streams, device)
                vector = vector.float().cpu()
                parts.append({JOINT: Features(vector, normalize(vector, dim=-1), present.cpu())})
                continue
            part = {}
            for name, encoder in encoders.items():
                stream = streams.streams[name].to(device)
                present = stream.present.cpu()
                part[name] = Features(torch.zeros(len(some), encoder.width), torch.zeros(len(some), encoder.embedding), present)
                if bool(present.any()):
                    encoded, _ = encoder.eval().to(device).encode(stream)
                    part[name].vector[present] = encoded.vector.float().cpu()
                    part[name].projection[present] = normalize(encoder.project(encoded).float(), dim=-1).cpu()
            parts.append(part)
    return concatenated(parts)


def concatenated(parts: Sequence[Mapping[str, Features]]) -> dict[str, Features]:
    """Features of several sets of rows, one after the other."""
    return {
        name: Features(**{part.name: torch.cat([getattr(one[name], part.name) for one in parts]) for part in fields(Features)})
        for name in (parts[0] if parts else {})
    }


def joined(parts: Sequence[Embedded]) -> Embedded:
    """Features of several sets of recordings by one fold and seed, one after the other."""
    first = parts[0]
    spans = None if first.spans is None else np.concatenate([one.spans for one in parts if one.spans is not None])
    return Embedded(
        [id for one in parts for id in one.ids],
        [item for one in parts for item in one.items],
        concatenated([one.features for one in parts]),
        first.fold,
        first.seed,
        spans,
    )


def save_features(path: Path, embedded: Embedded, sides: Sequence[str]) -> None:
    """Write features whole or not at all, as `Embedded.save` says."""
    require_ending(path)
    kind = path.suffix.lower()
    arrays = embedded.arrays()
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".npz":
        arrays |= {"ids": np.array(embedded.ids), "recording": np.array(sides)}
        with in_place_of(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    elif kind == ".safetensors":
        write_arrays(path, {name: np.ascontiguousarray(array) for name, array in arrays.items()})
        about = {"format": 1, "ids": embedded.ids, "recording": list(sides), "fold": embedded.fold, "seed": embedded.seed}
        write_json(path.with_suffix(".json"), about)
    else:
        _write_parquet(path, embedded, arrays, sides)


def require_ending(path: Path) -> None:
    """Raise StageError if features are not written in files of this ending, or what writes them is not installed."""
    if path.suffix.lower() not in ENDINGS:
        raise StageError(f"--out {path}: features are written as {' or '.join(ENDINGS)}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise StageError(f"--out {path}: writing Parquet needs pyarrow: pip install pyarrow (or write .npz)")


def _write_parquet(path: Path, embedded: Embedded, arrays: Mapping[str, NDArray[Any]], sides: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"id": embedded.ids, "recording": list(sides)}
    columns |= {name: array.tolist() for name, array in arrays.items()}
    with in_place_of(path) as part:
        parquet.write_table(pyarrow.table(columns), part)
