"""One recording as a run sees it: its sources, the streams that modalities make of them, its gaps, and the windows that training cut."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api.dataset import Dataset, SampleRef
from ..api.errors import DataError, StageError
from ..api.kinds import Layout
from ..api.raw import Audio, Raw, Table, Timed, Video, Words
from ..api.raw import Sequence as Steps
from ..data.prepared import Prepared, load_prepared
from ..data.reading import extracted, read_header, read_source, samples_of
from ..recipe.plan import ModalityPlan, Plan
from ..runs import RunFolder
from ..stages.recordings import listed, open_dataset, planned_folds
from .rerun import plan_of

EPOCHS = 12
"""Epochs of which training's windows are shown, the first ones."""

BINS = 1400
"""Stretches of a wave at most: more than a picture has pixels."""
FRAMES = 200
"""Frames that are kept of a longer film: up to twice as many, evenly apart."""

Gap = tuple[float, float]
"""From when to when nothing is there, in seconds."""


@dataclass(frozen=True)
class Wave:
    """How many samples a sound has, how loud the loudest is, and the lowest and highest of each of at most BINS stretches, [bins, 2]."""

    samples: int
    loudest: float
    envelope: NDArray[np.float64]


@dataclass(frozen=True)
class Film:
    """How many frames a film has, and some of them with their numbers: all of a short film, else evenly many."""

    count: int
    frames: NDArray[np.uint8]
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class SourceShown:
    """One source, read; `raw` is None where it could not be, and `reason` says why.

    size    height and width of a film's pictures in its file; None where that is not known
    wave    of sound: what its samples are like; None of others, and where it could not be read
    film    of a film: some of its frames
    points  landmarks over these frames, in shares of width and height, [T, 68, 2], NaN where no face was seen
    """

    name: str
    type: str
    where: str
    raw: Raw | None
    reason: str = ""
    seconds: float | None = None
    gaps: tuple[Gap, ...] = ()
    size: tuple[int, int] | None = None
    wave: Wave | None = None
    film: Film | None = None
    points: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class StreamShown:
    """What a modality made of a source; `values` is None where it made nothing, and `reason` says why."""

    name: str
    source: str
    features: str
    layout: Layout
    values: NDArray[Any] | None
    times: NDArray[np.float64] | None = None
    reason: str = ""
    seconds: float = 0.0
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class WindowShown:
    """A window in which training saw the recording; `seconds` is None for all of it."""

    epoch: int
    start: float
    seconds: float | None


@dataclass(frozen=True)
class RecordingShown:
    """All of it.

    sides     for each fold, on which side the recording stands
    windows   of the first fold and seed in which it is trained on, and how many epochs these are of
    notes     what could not be shown, a sentence each
    """

    id: str
    group: str
    what: str
    name: str
    run: bool
    labels: dict[str, str]
    facts: dict[str, str]
    sides: tuple[str, ...]
    sources: tuple[SourceShown, ...]
    streams: tuple[StreamShown, ...]
    windows: tuple[WindowShown, ...]
    trained: str
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long the longest of its sources and streams goes on."""
        lengths = [one.seconds or 0.0 for one in self.sources] + [one.seconds for one in self.streams]
        return max(lengths, default=0.0)


def recording_of_plan(plan: Plan, id: str) -> RecordingShown:
    """A recording, read and extracted now. Raises DataError if there is none of that id, or the data are not there."""
    dataset = open_dataset(plan)
    samples = listed(plan, dataset)
    row = row_of(samples, id)
    sources = _read(plan, dataset, samples[row])
    streams = tuple(_extracted(plan, modality, sources, samples[row]) for modality in plan.modalities)
    folds = planned_folds(plan, samples)
    return _shown(plan, samples[row], sources, streams, _sides(folds, row), run=False)


def recording_of_run(folder: Path, id: str, data: Path | None = None) -> RecordingShown:
    """A recording of a run: its prepared streams, and the windows that pretraining cut; its sources, where the data are still there.

    Raises StageError if the folder is no prepared run, DataError if it has no recording of that id.
    """
    plan, run = plan_of(folder, data), RunFolder(folder)
    if not (folder / "folds.json").is_file():
        raise StageError(f"{folder}: has no prepared streams; show the recipe, or run it first")
    prepared = load_prepared(run)
    row = row_of(prepared.samples, id)
    sample, notes = prepared.samples[row], []
    try:
        dataset = open_dataset(plan)
        listed_now = {one.id: one for one in samples_of(dataset, plan.dataset.use, plan.root)}
        if id not in listed_now:
            raise DataError(f"the data no longer hold recording '{id}'")
        sources = _read(plan, dataset, listed_now[id])
    except DataError as error:
        sources = ()
        notes.append(f"Its sources are not shown: {error}")
    streams = tuple(_stored(prepared, modality, row) for modality in plan.modalities)
    windows, trained = _windows(plan, run, prepared, row)
    return _shown(
        plan, sample, sources, streams, _sides(prepared.folds, row), run=True, windows=windows, trained=trained, notes=notes
    )


def row_of(samples: Sequence[SampleRef], id: str) -> int:
    """The place of a recording. Raises DataError, with the nearest ids, if there is none of that id."""
    ids = [sample.id for sample in samples]
    if id in ids:
        return ids.index(id)
    near = difflib.get_close_matches(id, ids, n=3, cutoff=0.4) or ids[:3]
    raise DataError(f"there is no recording '{id}' among these {len(ids):,}; ids are such as {', '.join(near)}")


def _shown(
    plan: Plan,
    sample: SampleRef,
    sources: tuple[SourceShown, ...],
    streams: tuple[StreamShown, ...],
    sides: tuple[str, ...],
    run: bool,
    windows: tuple[WindowShown, ...] = (),
    trained: str = "",
    notes: Sequence[str] = (),
) -> RecordingShown:
    unread = [f"{one.name} ({one.where}): {one.reason}" for one in sources if one.reason]
    unmade = [f"{one.name}: {one.reason}" for one in streams if one.reason]
    return RecordingShown(
        id=sample.id,
        group=sample.group,
        what=plan.info.group,
        name=plan.name,
        run=run,
        labels={task.name: _target(task, sample.targets[task.name]) for task in plan.tasks if task.name in sample.targets},
        facts={name: str(value) for name, value in sample.facts.items()},
        sides=sides,
        sources=_with_points(sources),
        streams=streams,
        windows=windows,
        trained=trained,
        notes=(*notes, *dict.fromkeys([*unread, *unmade])),
    )


def _target(task: Any, value: Any) -> str:
    """A label in words."""
    if task.type == "single-label":
        return str(task.classes[value])
    if task.type == "multi-label":
        return ", ".join(name for name, there in zip(task.classes, value, strict=True) if there) or "none"
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{one:g}" for one in values)


def _sides(folds: Sequence[Any], row: int) -> tuple[str, ...]:
    """On which side of each fold a recording stands."""
    sides = []
    for fold in folds:
        here = [side for side in ("train", "valid", "test", "held") if row in getattr(fold, side)]
        sides.append(", ".join(here) or "none")
    return tuple(sides)


# -------------------------------------------------------------------------------------------------------------- sources


def _read(plan: Plan, dataset: Dataset, sample: SampleRef) -> tuple[SourceShown, ...]:
    """Every source of a recording that the plan's modalities or its info name."""
    shown = []
    for name, source in plan.info.sources.items():
        if name not in sample.sources:
            continue
        where = sample.sources[name]
        try:
            raw = read_source(dataset, plan.dataset.use, sample.id, name, where)
            wave = wave_of(raw) if isinstance(raw, Audio) else None
            film = film_of(raw) if isinstance(raw, Video) else None
        except DataError as error:
            shown.append(SourceShown(name, source.type, where, None, str(error)))
            continue
        steps = wave.samples if wave else film.count if film else None
        seconds = _length(raw) if steps is None else steps / (raw.rate if isinstance(raw, Audio | Video) else 1)
        size = _size(dataset, sample, name) if film else None
        shown.append(SourceShown(name, source.type, where, raw, "", seconds, _gaps_of(raw), size, wave, film))
    return tuple(shown)


def wave_of(sound: Audio) -> Wave:
    """A sound as it is drawn; gone through twice, a block at a time."""
    lengths = [len(block) for block in sound.blocks()]
    samples, at, loudest = sum(lengths), 0, 0.0
    edges = np.linspace(0, samples, min(BINS, samples) + 1).astype(np.int64)
    low, high = np.full(len(edges) - 1, np.inf), np.full(len(edges) - 1, -np.inf)
    for block in sound.blocks():
        if len(block):
            first, last = (int(np.searchsorted(edges, place, "right")) - 1 for place in (at, at + len(block) - 1))
            starts = np.maximum(edges[first : last + 1] - at, 0)
            low[first : last + 1] = np.minimum(low[first : last + 1], np.minimum.reduceat(block, starts))
            high[first : last + 1] = np.maximum(high[first : last + 1], np.maximum.reduceat(block, starts))
            at += len(block)
            loudest = max(loudest, float(np.abs(block).max()))
    return Wave(samples, loudest, np.stack([low, high], axis=1))


def film_of(film: Video) -> Film:
    """A film as it is drawn: every frame, or every second, fourth, …, as its length asks."""
    kept: list[NDArray[np.uint8]] = []
    every, count = 1, 0
    for block in film.blocks():
        for frame in block:
            if count % every == 0:
                kept.append(frame.copy())
            if len(kept) > 2 * FRAMES:
                kept, every = kept[::2], 2 * every
            count += 1
    numbers = np.arange(len(kept), dtype=np.int64) * every
    return Film(count, np.stack(kept) if kept else np.zeros((0, 1, 1, 1), np.uint8), numbers)


def _size(dataset: Dataset, sample: SampleRef, name: str) -> tuple[int, int] | None:
    """Height and width of a film's pictures, where the dataset looks at heads."""
    try:
        shape = read_header(dataset, sample.id, name, sample.sources[name]).shape
    except DataError:
        return None
    return (shape[0], shape[1]) if len(shape) == 2 else None


def _with_points(sources: tuple[SourceShown, ...]) -> tuple[SourceShown, ...]:
    """The sources, films with the landmarks of the recording's table of landmarks over them, if it has one in pixels of the film."""
    table = next((one for one in sources if isinstance(one.raw, Table) and one.raw.rate and _has_points(one.raw)), None)
    if table is None or not isinstance(table.raw, Table):
        return sources
    return tuple(
        replace(one, points=_points(table.raw, one.film.numbers / one.raw.rate, one.size))
        if isinstance(one.raw, Video) and one.film and one.size
        else one
        for one in sources
    )


def _has_points(table: Table) -> bool:
    return {f"{axis}_{i}" for axis in "xy" for i in range(68)} <= {name.strip() for name in table.columns}


def _points(table: Table, times: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64] | None:
    """Landmarks at each of these times of a film, in shares of its width and height; None where they are of other pixels."""
    place = {name.strip(): i for i, name in enumerate(table.columns)}
    columns = [[place[f"{axis}_{i}"] for i in range(68)] for axis in "xy"]
    points = np.stack([table.values[:, one] for one in columns], axis=2).astype(np.float64) / np.array(size[::-1])
    if "success" in place:
        points[table.values[:, place["success"]] <= 0.5] = np.nan
    seen = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(seen) or ((seen < -0.1) | (seen > 1.1)).mean() > 0.1:
        return None
    rows = np.round(times * (table.rate or 1.0)).astype(int)
    return np.where((rows < len(points))[:, None, None], points[np.minimum(rows, len(points) - 1)], np.nan)


def _length(raw: Raw) -> float | None:
    """Seconds that a source other than sound and film lasts; None where it has no time."""
    if isinstance(raw, Words):
        return None if raw.times is None or not len(raw.times) else float(raw.times[:, 1].max())
    if isinstance(raw, Steps | Table) and raw.rate:
        return len(raw.values) / raw.rate
    return None


def _gaps_of(raw: Raw) -> tuple[Gap, ...]:
    """Where a table, or a film of a face, says that nobody was seen."""
    if isinstance(raw, Table) and raw.rate and "success" in (names := [name.strip() for name in raw.columns]):
        return runs_of(raw.values[:, names.index("success")] <= 0.5, raw.rate)
    return runs_of(~raw.present, raw.rate) if isinstance(raw, Video) and raw.present is not None else ()


def runs_of(missing: NDArray[np.bool_], rate: float) -> tuple[Gap, ...]:
    """Stretches of missing steps, in seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    return tuple((float(first / rate), float(last / rate)) for first, last in zip(edges[::2], edges[1::2], strict=True))


# -------------------------------------------------------------------------------------------------------------- streams


def _extracted(plan: Plan, modality: ModalityPlan, sources: Sequence[SourceShown], sample: SampleRef) -> StreamShown:
    """A modality's stream, made now."""
    source = next((one for one in sources if one.name == modality.source), None)
    if source is None or source.raw is None:
        reason = "" if source is not None else f"the recording has no {modality.source}"
        return _stream(modality, None, None, reason)
    try:
        extractor = modality.features.spec.build(modality.features.params, plan.info.sources[modality.source])
        stream = extracted(extractor, source.raw, modality.layout, sample.id, source.where)
    except DataError as error:
        return _stream(modality, None, None, str(error))
    if isinstance(stream, Timed):
        return _stream(modality, stream.values, stream.times, "")
    return _stream(modality, stream, None, "")


def _stored(prepared: Prepared, modality: ModalityPlan, row: int) -> StreamShown:
    """A modality's stream as `prepare` kept it."""
    store = prepared.stores[modality.name]
    if row not in store:
        reason = next((one.reason for one in store.skipped if one.id == prepared.samples[row].id), "")
        return _stream(modality, None, None, reason or f"the recording has no {modality.source}")
    values = store.values(row)
    return _stream(modality, values if store.layout.timed else values[0], store.times(row), "")


def _stream(modality: ModalityPlan, values: NDArray[Any] | None, times: NDArray[np.float64] | None, reason: str) -> StreamShown:
    layout, seconds = modality.layout, 0.0
    gaps: tuple[Gap, ...] = ()
    if values is not None and times is not None:
        seconds = float(times[:, 1].max())
        gaps = _between(times) if layout.rate else ()  # between words there is silence, and nothing is missing
    elif values is not None and layout.timed and layout.rate:
        seconds = len(values) / layout.rate
    return StreamShown(modality.name, modality.source, modality.features.use, layout, values, times, reason, seconds, gaps)


def _between(times: NDArray[np.float64]) -> tuple[Gap, ...]:
    """Stretches that no step covers."""
    gaps, end = [], 0.0
    for start, stop in times[np.argsort(times[:, 0])]:
        if start > end + 1e-6:
            gaps.append((float(end), float(start)))
        end = max(end, float(stop))
    return tuple(gaps)


# -------------------------------------------------------------------------------------------------------------- windows


def _windows(plan: Plan, run: RunFolder, prepared: Prepared, row: int) -> tuple[tuple[WindowShown, ...], str]:
    """Where pretraining cut the recording, in the first fold and seed that trained on it; a sentence on what that is."""
    from ..model.windows import drawn_spans
    from ..stages.composed import batches_of_epoch

    section = plan.recipe.pretrain
    done = {(fold, seed): folder for fold, seed, folder in run.units("pretrain")}
    for fold in prepared.folds:
        for seed in plan.seeds:
            if (fold.number, seed) not in done:
                continue
            where = (seed, "fold", fold.number)
            windows = []
            looks = plan.sampler is not None and plan.sampler.spec.looks(plan.sampler.params) > 0
            epochs = min(
                1 if looks else EPOCHS, section.epochs
            )  # later ones hang on what encoders made of recordings meanwhile
            for epoch in range(epochs):
                rows = batches_of_epoch(plan, prepared, fold, *where, epoch=epoch)
                for span in drawn_spans(plan, prepared.stores, rows, section.shares, row, *where, "window", epoch):
                    windows.append(WindowShown(epoch + 1, span.start, span.seconds))
            if windows:
                return tuple(windows), f"fold {fold.number}, seed {seed}, the first {epochs} of {section.epochs} epochs"
    return (), ""
