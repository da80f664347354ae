"""prepare: raw recordings → prepared streams, and who is on which side of each split.

Reads the dataset. Writes runs/prepared/<dataset>/<features>-<key>/ (shared by every run with the same data and options),
prepare.json, folds.json and recordings.safetensors. A stream that cannot be read is listed with its reason and skipped; with `strict` it ends the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..api.dataset import Counting, Dataset
from ..api.errors import DataError, PluginError, StageError
from ..api.kinds import Layout
from ..api.modality import Modality
from ..api.raw import Raw, Timed
from ..data.folds import Fold, Inner, crosses_groups, inner_folds, make_folds
from ..data.labels import unlearnable
from ..data.parts import gaps, merge, part_folder, parts_of
from ..data.prepared import Kept, keep, refuse_linked
from ..data.readers import Lost, Readers, limits
from ..data.reading import Unread, extracted, read_source, value_or_reason
from ..data.recordings import Recordings, Rows
from ..data.remarks import remark_on_stream, remarks_on
from ..data.store import Odd, Skipped, Store, StoreWriter
from ..data.windows import uneven
from ..plugins import plugins
from ..recipe.plan import ModalityPlan, Plan, ScorePlan
from ..runs import Each, JsonObject, RunFolder, fingerprint, locked, read_json, tidy, write_json
from ..screen import progress, say
from .elsewhere import content_of, listed_as, prepared_there, warn
from .recordings import Job, Jobs, listed, open_dataset
from .unreadable import Faults

CHUNK = 16
"""A quarter of the recordings for which one more reader pays."""


def prepare(
    plan: Plan,
    run: RunFolder,
    workers: int | None = None,
    strict: bool = False,
    first: int | None = None,
    inner: Inner | None = None,
    guard: Callable[[Kept], None] = lambda kept: None,
) -> None:
    """Write every modality's store that is not there yet, then prepare.json, folds.json and recordings.safetensors.

    first  how many of the protocol's folds are run, the first ones; left out: all
    inner  how their training and validation rows are dealt into folds that are run in their place; left out: not
    guard  told what later stages are going to start from; what it raises keeps that from being written
    """
    began = time.monotonic()
    extracted: list[str] = []  # modalities
    dataset = None if run.remote is not None else open_dataset(plan)
    if run.remote is not None:
        elsewhere = prepared_there(plan, run, run.remote)
        samples, scored, stores, places = elsewhere.samples, elsewhere.scored, elsewhere.stores, elsewhere.places
        warn(plan, stores)
    elif dataset is not None:
        samples, scored = add_scores(plan, run, dataset, listed(plan, dataset), strict)
        places = {m.name: store_of(plan, run, m, samples) for m in plan.modalities}
        extracted = _make_stores(plan, dataset, samples, places, workers, strict)
        stores = {name: Store(folder) for name, (folder, _) in places.items()}
    for store in stores.values():
        if strict and store.skipped:
            raise DataError(f"{store.skipped[0].reason} (--strict; {len(store.skipped)} in all)")
    there = np.zeros(len(samples), bool)
    for store in stores.values():
        there[store.rows] = True
    usable, lost = Rows(np.flatnonzero(there)), Rows(np.flatnonzero(~there))
    if strict and lost:
        raise DataError(
            f"recording '{samples.id(lost[0])}' has none of the modalities {', '.join(stores)} (--strict; {len(lost)} in all)"
        )
    if not usable:
        reasons = "; ".join(s.reason for store in stores.values() for s in store.skipped[:1])
        raise DataError(
            f"no recording of '{plan.dataset.use}' has any of the modalities {', '.join(stores)}{': ' + reasons if reasons else ''}"
        )
    folds = make_folds(plan.recipe.protocol, samples, usable, plan.seeds[0], plan.fold_of, plan.fold_key)
    if first is not None and first > len(folds):
        raise StageError(f"{first} folds are asked for, where '{plan.recipe.protocol.use}' gives {len(folds)}")
    folds = folds[:first]
    if inner is not None:
        folds = inner_folds(folds, inner, plan.recipe.protocol.by, samples, plan.seeds[0])
    where = {
        m.name: {"folder": os.path.relpath(places[m.name][0], run.root), "key": stores[m.name].key} for m in plan.modalities
    }
    guard(Kept(where, samples, folds))
    keep(run, where, samples, folds)
    write_json(run.root / "prepare.json", _about(plan, dataset, samples, stores, scored, folds, lost, time.monotonic() - began))
    skipped = sum(len(store.skipped) for store in stores.values()) + len(lost)
    facts = {"made": extracted, "samples": len(samples), "skipped": skipped, "seconds": round(time.monotonic() - began, 3)}
    run.log("prepare", **facts)
    if skipped:
        say(f"prepare: {skipped} streams or recordings were skipped; prepare.json and the report list each with its reason")
    if odd := {(one.id, one.reason) for store in stores.values() for one in store.odd}:
        example = "'{}': {}".format(*min(odd))
        say(
            f"prepare: {len({id for id, _ in odd})} recordings could be read and are odd all the same, such as {example}; "
            "prepare.json and the report list them"
        )
    for line in unlearnable(plan.tasks, samples, folds):
        say(f"prepare: {line}")
    longest = max((float(store.durations().max(initial=0.0)) for store in stores.values()), default=0.0)
    asked = plan.recipe.window.seconds
    if asked is not None and 0 < longest < asked:
        say(
            f"prepare: window.seconds is {asked:g}, and no recording is longer than {longest:.3g} seconds: whole recordings are taken"
        )


def _make_stores(
    plan: Plan,
    dataset: Dataset,
    samples: Recordings,
    places: Mapping[str, tuple[Path, str]],
    workers: int | None,
    strict: bool,
) -> list[str]:
    """Write every modality's store that is not there yet; the modalities that were extracted."""
    extracted: list[str] = []
    for folder, _ in places.values():
        refuse_linked(folder)
    # built before any recording is read: what a feature lacks is refused in its sentence then
    built = {m.name: build_modality(plan, m) for m in plan.modalities if not is_whole(places[m.name][0])}
    for modality in plan.modalities:
        folder, key = places[modality.name]
        if modality.name in built:
            with turn(modality.name, folder):
                if not is_whole(folder, hushed=True):  # else another process has made it meanwhile
                    _make_store(plan, modality, dataset, built, samples, folder, key, workers, strict)
                    extracted.append(modality.name)
    return extracted


def is_whole(folder: Path, hushed: bool = False) -> bool:
    """Whether a store is there, as far as opening it shows; one that is damaged, or another than its name says, is said to be prepared anew."""
    if not (folder / "store.json").exists():
        return False
    try:
        if not folder.name.endswith(f"-{Store(folder).key}"):
            raise StageError(f"{folder}: holds other streams than its name says")
    except StageError as error:
        if not hushed:
            say(f"prepare: {error}; they are prepared anew")
        return False
    return True


def build_modality(plan: Plan, modality: ModalityPlan) -> Modality:
    """What makes the features of one modality."""
    built: Modality = modality.features.spec.build(modality.features.params, plan.info.sources[modality.source])
    return built


def add_scores(
    plan: Plan, run: RunFolder, dataset: Dataset, samples: Recordings, strict: bool
) -> tuple[Recordings, dict[str, Any]]:
    """The samples with the recipe's scores among their targets, and what prepare.json says of each; computed once and kept."""
    summary: dict[str, Any] = {}
    splits = [samples.split(row) for row in range(len(samples))] if plan.scores else []
    for name, score in plan.scores.items():
        known = (
            [sample.targets for sample in samples] if score.source is None else list(_stamps(samples, score.source, plan.root))
        )
        labels = [[t.name, t.type, list(t.classes)] for t in plan.info.tasks.values()]
        key = fingerprint([plan.dataset.to_json(), score.to_json(), known, labels, [sample.id for sample in samples], 2])
        path = run.prepared / plan.dataset.spec.name / f"scores-{score.scorer.spec.name}-{key}.json"
        if (known_scores := _kept_scores(path, len(samples))) is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, _scored(name, score, plan, dataset, samples, strict))
            known_scores = read_json(path)
        kept = known_scores
        if score.standardise is not None:
            kept["values"] = by_split(splits, kept["values"])
        samples = Recordings.of(
            sample if values is None else replace(sample, targets={**sample.targets, name: values})
            for sample, values in zip(samples, kept["values"], strict=True)
        )
        summary[name] = {
            "use": score.scorer.use,
            "source": score.source,
            "values": list(score.task.classes),
            "facts": kept["facts"],
            "known": sum(values is not None for values in kept["values"]),
            "skipped": kept["skipped"],
        }
    return samples, summary


def _kept_scores(path: Path, samples: int) -> JsonObject | None:
    """What a file of scores says; None where it is not there or not whole."""
    if not path.exists():
        return None
    try:
        kept = read_json(path)
    except StageError as error:
        say(f"prepare: {error}; it is made again")
        return None
    return kept if len(kept.get("values", ())) == samples else None


def by_split(splits: Sequence[str | None], values: Sequence[list[float] | None]) -> list[list[float] | None]:
    """Scores less the mean of their first number, by its deviation, each over the recordings of one split that have a score."""
    scaled = list(values)
    for split in dict.fromkeys(splits):
        rows = [row for row, (mine, one) in enumerate(zip(splits, values, strict=True)) if mine == split and one is not None]
        first = np.array([cast("list[float]", values[row])[0] for row in rows])
        deviation = float(first.std()) if len(rows) else 0.0
        for row in rows:
            numbers = np.array(values[row]) - first.mean()
            scaled[row] = (numbers / deviation if deviation > 0 else numbers).tolist()
    return scaled


def _scored(name: str, score: ScorePlan, plan: Plan, dataset: Dataset, samples: Recordings, strict: bool) -> dict[str, Any]:
    """One score of every recording; None where it has not the source, or cannot be read."""
    tasks = {task: one for task, one in plan.info.tasks.items() if task not in plan.scores}
    scorer = score.scorer.spec.build(score.scorer.params, tasks)
    values: list[list[float] | None] = []
    skipped: list[dict[str, str]] = []
    jobs = Jobs(samples, score.source or "")
    with _raws(plan, score.source, dataset, len(jobs)) as read, progress(f"prepare {name}", len(samples)) as tick:
        raws = iter(zip(jobs, read(jobs), strict=True))
        job, raw = next(raws, (None, None))
        for row, sample in enumerate(samples):
            numbers = None
            try:
                if job is not None and job[0] == row:
                    one = _unread(raw, job) if isinstance(raw, Lost) else raw
                    job, raw = next(raws, (None, None))
                    if isinstance(one, Unread):
                        raise DataError(one.reason)
                    numbers = scorer(sample, one)
                elif not score.source:
                    numbers = scorer(sample, None)
            except DataError as error:
                if strict:
                    raise DataError(f"{error} (--strict)") from error
                skipped.append({"id": sample.id, "reason": str(error)})
            if numbers is not None and (len(numbers) != len(score.task.classes) or not np.isfinite(numbers).all()):
                raise PluginError(
                    f"scorer '{score.scorer.use}' gave {numbers} for recording '{sample.id}'; its task has {', '.join(score.task.classes)}"
                )
            values.append(numbers)
            tick(row + 1, f"{len(skipped)} skipped" if skipped else "")
    if not any(value is not None for value in values):
        raise DataError(f"scores.{name}: '{score.scorer.use}' could score no recording of '{plan.dataset.use}'")
    return {"format": 1, "facts": dict(scorer.facts), "values": values, "skipped": skipped}


def store_of(plan: Plan, run: RunFolder, modality: ModalityPlan, samples: Recordings) -> tuple[Path, str]:
    """The folder of a modality's prepared streams, named after everything that its content depends on."""
    key = fingerprint(
        {**content_of(plan, modality), "files": Each(partial(_stamps, samples, modality.source, plan.root))},
        streamed=True,
    )
    return run.prepared / plan.dataset.spec.name / f"{modality.features.spec.name}-{key}", key


def _stamps(samples: Recordings, source: str, root: Path | None) -> Iterator[list[Any] | None]:
    """Of each recording: id, name of its file, its size and time of change; None where it has none. A changed file is prepared anew."""
    for row in range(len(samples)):
        where = samples.source(source, row)
        if where is None:
            yield None
            continue
        try:
            status = (root / where).stat() if root else None
        except (OSError, ValueError):
            status = None
        stamp = [samples.id(row), where, status.st_size if status else None, status.st_mtime_ns if status else None]
        if status and root and not os.access(root / where, os.R_OK):
            stamp.append("may not be read")  # so that it is tried again once it may
        yield stamp


@contextmanager
def turn(name: str, folder: Path, shared: bool = False) -> Iterator[None]:
    """The only process that looks for a modality's store and makes it; another one's work is waited for.

    shared  one of those that write parts of it
    """
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock, wait=False, shared=shared) as mine:
        if mine:
            yield
            return
    say(f"prepare {name}: another mmcl process is preparing these streams ({folder}); waiting for it")
    with locked(lock, shared=shared):
        yield


def _make_store(
    plan: Plan,
    modality: ModalityPlan,
    dataset: Dataset,
    built: Mapping[str, Modality],
    samples: Recordings,
    folder: Path,
    key: str,
    workers: int | None,
    strict: bool,
) -> None:
    """Extract one modality of every recording that has its source, but those whose streams lie in parts of the store already."""
    tidy(folder.parent, folder.name)
    reading = (plan, modality, dataset, built, samples)
    if parts := parts_of(folder, key, say):
        for rows in gaps(parts, len(samples)):
            extract_to(part_folder(folder, rows), *reading, key, workers, strict, rows)
        parts = parts_of(folder, key, say)
        say(f"prepare {modality.name}: {len(parts)} parts are put together")
        merge(folder, parts, {"key": key, "mmcl": __version__})
    else:
        extract_to(folder, *reading, key, workers, strict)


def extract_to(
    folder: Path,
    plan: Plan,
    modality: ModalityPlan,
    dataset: Dataset,
    built: Mapping[str, Modality],
    samples: Recordings,
    key: str,
    workers: int | None,
    strict: bool,
    rows: range | None = None,
) -> None:
    """Extract one modality of recordings into a folder, which is whole afterwards or not there.

    rows  of these recordings alone, as a part of a store; left out: of all
    """
    jobs = Jobs(samples, modality.source, rows)
    writer = StoreWriter(folder, modality.layout)
    skipped: list[Skipped] = []
    odd: list[Odd] = []
    faults = Faults(modality.name, f"dataset '{plan.dataset.use}' or features '{modality.features.use}'")
    tally = _Tally(dataset)
    try:
        with (
            _extracting(plan, modality, dataset, built, len(jobs), workers, tally) as extract,
            progress(f"prepare {modality.name}", len(jobs)) as tick,
        ):
            for done, (job, stream) in enumerate(zip(jobs, extract(jobs), strict=True), 1):
                one = _unread(stream, job) if isinstance(stream, Lost) else stream
                if isinstance(one, Unread):
                    if strict:
                        raise one.error or DataError(f"{one.reason} (--strict)")
                    faults.add(one, len(writer))
                    skipped.append(Skipped(id=job[1], where=job[2], reason=one.reason))
                else:
                    writer.add(job[0], one.stream)
                    odd += [Odd(id=job[1], reason=remark) for remark in one.remarks]
                tick(done, f"{len(skipped)} skipped" if skipped else "")
        # of a part, however few recordings it has, another one may show that the plug-in is not at fault
        part = {} if rows is None else {"fault": faults.first}
        faults.close(len(writer) if rows is None else 1)
        told = {"skipped": [asdict(one) for one in skipped], "odd": [asdict(one) for one in odd]}
        writer.close({"key": key, "mmcl": __version__, **told, "counts": tally.counts(), **part})
    except BaseException:
        writer.abandon()
        raise


def _unread(lost: Lost, job: Job) -> Unread:
    """What is said of a recording that its reader did not survive."""
    late = PluginError(f"{job[2]}: recording '{job[1]}' {lost.reason}") if lost.late else None
    return Unread(f"{job[2]}: recording '{job[1]}' {lost.reason}", lost.reason, late)


class _Tally:
    """What was odd in the recordings while they were read, over all processes."""

    def __init__(self, dataset: Dataset) -> None:
        self._before = dict(dataset.counts()) if isinstance(dataset, Counting) else {}
        self._by_process: dict[int, dict[str, int]] = {}

    def latest(self, process: int, counts: dict[str, int]) -> None:
        """The latest counts of one process, which only ever grow."""
        self._by_process[process] = counts

    def counts(self) -> dict[str, int]:
        """All processes together, without what was known before anything was read."""
        total: dict[str, int] = {}
        for counts in self._by_process.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + max(0, count - self._before.get(name, 0))
        return {name: count for name, count in total.items() if count}


def _counts_of(*things: Any) -> dict[str, int]:
    """What a dataset and a modality have counted."""
    counted: dict[str, int] = {}
    for thing in things:
        for name, count in thing.counts().items() if isinstance(thing, Counting) else ():
            counted[name] = counted.get(name, 0) + int(count)
    return counted


Extracted = Any  # Remarked, or Unread


@dataclass(frozen=True)
class Remarked:
    """A stream, and what is odd about the recording that it was made of, a sentence each."""

    stream: NDArray[Any] | Timed
    remarks: tuple[str, ...]


@contextmanager
def _extracting(
    plan: Plan,
    modality: ModalityPlan,
    dataset: Dataset,
    built: Mapping[str, Modality],
    jobs: int,
    workers: int | None,
    tally: _Tally,
) -> Iterator[Any]:
    """A function from jobs to what each gives, in order: in processes beside this one, where a damaged file does no harm.

    A dataset that makes its own data has no files that could be damaged, and is read in this process where there is little of it.
    """
    count = max(1, min(workers or os.cpu_count() or 1, jobs // (4 * CHUNK)))
    extractor = built[modality.name]
    if count == 1 and not plan.dataset.spec.needs_root:
        work = partial(_extract, dataset, plan.dataset.use, extractor, modality.layout, modality.source, plan.root)
        yield partial(map, work)
        tally.latest(0, _counts_of(dataset, extractor))
        return
    extract = (modality.features.use, modality.features.params.model_dump_json(), modality.layout.to_json())
    with _readers(plan, modality.source, extract, count, [dataset, *built.values()]) as readers:
        yield readers.read
        for process, counts in readers.counts.items():
            tally.latest(process, counts)


@contextmanager
def _raws(plan: Plan, source: str | None, dataset: Dataset, jobs: int) -> Iterator[Any]:
    """A function from jobs to the raw data of each, in order, or why there is none; where it is read is as for streams."""
    if source is None or not jobs or not plan.dataset.spec.needs_root:
        yield partial(map, partial(_raw, dataset, plan.dataset.use, source or "", plan.root))
        return
    with _readers(plan, source, None, 1, [dataset]) as readers:
        yield readers.read


def _readers(
    plan: Plan, source: str, extract: tuple[str, str, Any] | None, count: int, needed: Sequence[Dataset | Modality]
) -> Readers:
    """Processes that read one source.

    extract  they make features of it too, by their name, their options and their layout
    needed   whose modules they are copied with, rather than each importing them anew
    """
    begin = (_known(), plan.dataset.use, plan.dataset.params.model_dump_json(), plan.root, source, extract)
    bounds = limits(plan.recipe.reading.memory, plan.recipe.reading.seconds, count)
    modules = dict.fromkeys([f"{__package__}.loaded", *(type(one).__module__ for one in needed)])
    return Readers(count, _begin, begin, bounds, list(modules))


def _begin(
    installed: frozenset[tuple[str, ...]],
    dataset: str,
    dataset_params: str,
    root: Path | None,
    source: str,
    extract: tuple[str, str, Any] | None,
) -> tuple[Callable[[Job], Any], Callable[[], Mapping[str, int]]]:
    """Set up one reader: its own dataset and modality; what reads one recording, and what says what was odd so far."""
    if _known() != installed:
        plugins.cache_clear()  # this process was copied from one that began before some of them were there
    offers = plugins()
    data = offers.get("dataset", dataset).spec
    chosen = data.params.model_validate_json(dataset_params)
    reader = data.build(chosen, root)
    if extract is None:
        return partial(_raw, reader, dataset, source, root), partial(_counts_of, reader)
    features, params, layout = extract
    feature = offers.get("modality", features).spec
    extractor = feature.build(feature.params.model_validate_json(params), data.info(chosen).sources[source])
    return (
        partial(_extract, reader, dataset, extractor, Layout.from_json(layout), source, root),
        partial(_counts_of, reader, extractor),
    )


def _known() -> frozenset[tuple[str, ...]]:
    """Which plug-ins this process has loaded."""
    return frozenset((one.plugin, one.package, one.version, one.module, str(one.failure)) for one in plugins().loaded)


def _extract(
    dataset: Dataset, name: str, modality: Modality, layout: Layout, source: str, root: Path | None, job: Job
) -> Extracted:
    """One recording's stream, or why it cannot be used."""
    _, id, where = job

    def read() -> Remarked:
        raw = read_source(dataset, name, id, source, where)
        stream = extracted(modality, raw, layout, id, where)
        remarks = tuple(remarks_on(source, raw))
        if not remarks and (remark := remark_on_stream(layout.kind, stream)) is not None:
            remarks = (remark,)
        return Remarked(stream, remarks)

    one: Remarked | Unread = value_or_reason(read, where, root)
    return one


def _raw(dataset: Dataset, name: str, source: str, root: Path | None, job: Job) -> Raw | Unread:
    """One recording's raw data, or why there is none."""
    _, id, where = job
    raw: Raw | Unread = value_or_reason(lambda: read_source(dataset, name, id, source, where), where, root)
    return raw


def _uneven(samples: Recordings, stores: dict[str, Store]) -> dict[str, Any]:
    """How many recordings have modalities that differ in length by more than a tenth, and the first of them."""
    rows = uneven(stores, len(samples))
    return {"recordings": len(rows), "first": [samples.id(int(row)) for row in rows[:10]]}


def _about(
    plan: Plan,
    dataset: Dataset | None,
    samples: Recordings,
    stores: dict[str, Store],
    scored: dict[str, Any],
    folds: list[Fold],
    lost: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """What prepare.json says, for the report and for people."""
    usable = len(samples) - len(lost)

    def groups(rows: Sequence[int]) -> list[str]:
        return sorted(samples.groups[code] for code in np.unique(samples.codes(rows)))

    protocol = plan.recipe.protocol
    detail = {"k-fold": f"k={getattr(protocol, 'k', '')}, ", "folds": f"{Path(getattr(protocol, 'file', '')).name}, "}.get(
        protocol.use, ""
    )
    return {
        "format": 1,
        "samples": len(samples),
        "usable": usable,
        "groups": len(samples.groups),
        "group": plan.info.group,
        "synthetic": plan.info.synthetic,
        "licence": plan.info.licence,
        "tasks": {t.name: {"type": t.type, "classes": list(t.classes)} for t in plan.tasks},
        "protocol": f"{protocol.use} ({detail}by {protocol.by})",
        "crosses_groups": crosses_groups(folds, samples),
        "modalities": {
            name: {
                "layout": str(store.layout),
                "present": len(store),
                "missing": len(samples) - len(store),
                "hours": round(float(store.durations().sum()) / 3600, 4),
                "longest": round(float(store.durations().max(initial=0.0)), 3),
                "skipped": [asdict(one) for one in store.skipped],
                "odd": [asdict(one) for one in store.odd],
                "counts": store.counts,
            }
            for name, store in stores.items()
        },
        "counts": dict(dataset.counts()) if isinstance(dataset, Counting) else {},
        "uneven": _uneven(samples, stores),
        "scores": scored,
        "listed": listed_as(plan),
        "skipped": [{"id": samples.id(row), "reason": "has none of the modalities"} for row in lost],
        "folds": [
            {
                "fold": f.number,
                "train": len(f.train),
                "valid": len(f.valid),
                "test": len(f.test),
                "groups": {"train": groups(f.train), "valid": groups(f.valid), "test": groups(f.test)},
                **({"held": len(f.held), "held groups": groups(f.held)} if f.held else {}),
            }
            for f in folds
        ],
        "seconds": round(seconds, 3),
    }
