"""prepare: raw recordings → prepared streams, and who is on which side of each split.

Reads the dataset. Writes runs/prepared/<dataset>/<features>-<key>/ (shared by every run with the same data and options),
prepare.json and folds.json. A stream that cannot be read is listed with its reason and skipped; with `strict` it ends the run.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from .. import __version__
from ..api.dataset import Counting, Dataset, SampleRef, Task
from ..api.errors import DataError, PluginError, StageError
from ..api.kinds import Layout
from ..api.modality import Modality
from ..data.folds import Fold, Inner, crosses_groups, inner_folds, make_folds
from ..data.reading import extracted, read_source
from ..data.store import Skipped, Store, StoreWriter
from ..data.windows import uneven
from ..plugins import plugins
from ..recipe.plan import ModalityPlan, Plan, ScorePlan
from ..runs import RunFolder, fingerprint, locked, read_json, tidy, write_json
from ..screen import progress, say
from ..workers import worker_pool
from .recordings import listed, open_dataset

CHUNK = 16
"""Recordings handed to a worker at a time."""
START = 5.0
"""Seconds that starting processes is taken to cost: they pay where they save more than that. Most of it is importing, a second or two a core."""
FEW = 8
"""Recordings, beyond the first, from which the seconds that one takes are known."""
READERS = {"table": 2, "video": 2}
"""Type of a source → how often the values that `mmcl.media` reads of it have changed: streams of before are prepared anew."""


def prepare(
    plan: Plan,
    run: RunFolder,
    workers: int | None = None,
    strict: bool = False,
    first: int | None = None,
    inner: Inner | None = None,
    guard: Callable[[Mapping[str, Any]], None] = lambda kept: None,
) -> None:
    """Write every modality's store that is not there yet, then prepare.json and folds.json.

    first  how many of the protocol's folds are run, the first ones; left out: all
    inner  how their training and validation rows are dealt into folds that are run in their place; left out: not
    guard  told what folds.json is going to say; what it raises keeps that from being written
    """
    began = time.monotonic()
    dataset = open_dataset(plan)
    samples = listed(plan, dataset)
    stamps = [_stamp(sample, plan.root) for sample in samples]
    samples, scored = add_scores(plan, run, dataset, samples, stamps, strict)
    extracted: list[str] = []  # modalities
    with _Beside(workers) as beside:
        for modality in plan.modalities:
            folder, key = store_of(plan, run, modality, stamps)
            if not (folder / "store.json").exists():
                with _turn(modality.name, folder):
                    if not (folder / "store.json").exists():  # else another process has made it meanwhile
                        _make_store(plan, modality, dataset, samples, folder, key, beside, strict)
                        extracted.append(modality.name)
            if strict and modality.name not in extracted and (known := Store(folder).skipped):
                raise DataError(f"{known[0].reason} (--strict; {len(known)} in all)")
    stores = {m.name: Store(store_of(plan, run, m, stamps)[0]) for m in plan.modalities}
    usable = [row for row in range(len(samples)) if any(row in store for store in stores.values())]
    lost = sorted(set(range(len(samples))) - set(usable))
    if strict and lost:
        raise DataError(
            f"recording '{samples[lost[0]].id}' has none of the modalities {', '.join(stores)} (--strict; {len(lost)} in all)"
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
    kept = _kept(plan, run, samples, stores, folds)
    guard(kept)
    write_json(run.root / "folds.json", {**kept, "key": fingerprint(kept)})
    write_json(run.root / "prepare.json", _about(plan, dataset, samples, stores, scored, folds, lost, time.monotonic() - began))
    skipped = sum(len(store.skipped) for store in stores.values()) + len(lost)
    facts = {"made": extracted, "samples": len(samples), "skipped": skipped, "seconds": round(time.monotonic() - began, 3)}
    run.log("prepare", **facts)
    if skipped:
        say(f"prepare: {skipped} streams or recordings were skipped; prepare.json and the report list each with its reason")
    for line in one_class(plan.tasks, samples, folds):
        say(f"prepare: {line}")
    longest = max((store.seconds(row) for store in stores.values() for row in store.rows), default=0.0)
    asked = plan.recipe.window.seconds
    if asked is not None and 0 < longest < asked:
        say(
            f"prepare: window.seconds is {asked:g}, and no recording is longer than {longest:.3g} seconds: whole recordings are taken"
        )


def one_class(tasks: Sequence[Task], samples: Sequence[SampleRef], folds: Sequence[Fold]) -> Iterator[str]:
    """A sentence for each fold and task whose training labels are all alike, so that nothing can be told apart by them."""
    for fold in folds:
        for task in tasks:
            labels = [samples[row].targets[task.name] for row in fold.train if samples[row].targets.get(task.name) is not None]
            if len(labels) < 2 or task.type == "regression":
                continue
            where = f"fold {fold.number}: all {len(labels)} training recordings with a label of '{task.name}'"
            if task.type == "single-label" and len(set(map(str, labels))) == 1:
                yield f"{where} are '{task.classes[cast('int', labels[0])]}': a head learns to say that and nothing else; two classes are needed"
            elif task.type == "multi-label":
                shares = np.nanmean(np.asarray(labels, float), axis=0)
                for name, share in zip(task.classes, shares, strict=True):
                    if share in (0.0, 1.0):
                        has = "lack" if share == 0 else "have"
                        yield f"{where} {has} '{name}': a head cannot learn when it is {'there' if share == 0 else 'not there'}"


def _kept(
    plan: Plan, run: RunFolder, samples: Sequence[SampleRef], stores: dict[str, Store], folds: Sequence[Fold]
) -> dict[str, Any]:
    """What folds.json says: who was recorded, where each modality's streams lie, who is on which side."""
    stores_json = {
        m.name: {"folder": os.path.relpath(stores[m.name].folder, run.root), "key": stores[m.name].key} for m in plan.modalities
    }
    return {
        "format": 1,
        "stores": stores_json,
        "samples": [asdict(sample) for sample in samples],
        "folds": [
            {
                "fold": fold.number,
                "train": fold.train,
                "valid": fold.valid,
                "test": fold.test,
                **({"held": fold.held} if fold.held else {}),
            }
            for fold in folds
        ],
    }


def add_scores(
    plan: Plan, run: RunFolder, dataset: Dataset, samples: list[SampleRef], stamps: Sequence[Any], strict: bool
) -> tuple[list[SampleRef], dict[str, Any]]:
    """The samples with the recipe's scores among their targets, and what prepare.json says of each; computed once and kept."""
    summary: dict[str, Any] = {}
    for name, score in plan.scores.items():
        known = [sample.targets for sample in samples] if score.source is None else [one.get(score.source) for one in stamps]
        labels = [[t.name, t.type, list(t.classes)] for t in plan.info.tasks.values()]
        key = fingerprint([plan.dataset.to_json(), score.to_json(), known, labels, [sample.id for sample in samples], 2])
        path = run.prepared / plan.dataset.spec.name / f"scores-{score.scorer.spec.name}-{key}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, _scored(name, score, plan, dataset, samples, strict))
        kept = read_json(path)
        if score.standardise is not None:
            kept["values"] = by_split([sample.split for sample in samples], kept["values"])
        samples = [
            sample if values is None else replace(sample, targets={**sample.targets, name: values})
            for sample, values in zip(samples, kept["values"], strict=True)
        ]
        summary[name] = {
            "use": score.scorer.use,
            "source": score.source,
            "values": list(score.task.classes),
            "facts": kept["facts"],
            "known": sum(values is not None for values in kept["values"]),
            "skipped": kept["skipped"],
        }
    return samples, summary


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


def _scored(
    name: str, score: ScorePlan, plan: Plan, dataset: Dataset, samples: Sequence[SampleRef], strict: bool
) -> dict[str, Any]:
    """One score of every recording; None where it has not the source, or cannot be read."""
    tasks = {task: one for task, one in plan.info.tasks.items() if task not in plan.scores}
    scorer = score.scorer.spec.build(score.scorer.params, tasks)
    values: list[list[float] | None] = []
    skipped: list[dict[str, str]] = []
    with progress(f"prepare {name}", len(samples)) as tick:
        for done, sample in enumerate(samples, 1):
            try:
                raw = None
                if score.source and score.source in sample.sources:
                    raw = read_source(dataset, plan.dataset.use, sample.id, score.source, sample.sources[score.source])
                numbers = None if score.source and raw is None else scorer(sample, raw)
            except DataError as error:
                if strict:
                    raise DataError(f"{error} (--strict)") from error
                skipped.append({"id": sample.id, "reason": str(error)})
                numbers = None
            if numbers is not None and (len(numbers) != len(score.task.classes) or not np.isfinite(numbers).all()):
                raise PluginError(
                    f"scorer '{score.scorer.use}' gave {numbers} for recording '{sample.id}'; its task has {', '.join(score.task.classes)}"
                )
            values.append(numbers)
            tick(done, f"{len(skipped)} skipped" if skipped else "")
    if not any(value is not None for value in values):
        raise DataError(f"scores.{name}: '{score.scorer.use}' could score no recording of '{plan.dataset.use}'")
    return {"format": 1, "facts": dict(scorer.facts), "values": values, "skipped": skipped}


def store_of(plan: Plan, run: RunFolder, modality: ModalityPlan, stamps: Sequence[Any]) -> tuple[Path, str]:
    """The folder of a modality's prepared streams, named after everything that its content depends on."""
    key = fingerprint(
        {
            "dataset": plan.dataset.to_json(),
            "source": modality.source,
            "features": modality.features.to_json(),
            "extract": modality.features.spec.version,
            "layout": modality.layout.to_json(),
            "files": [one.get(modality.source) for one in stamps],
            "format": READERS.get(plan.info.sources[modality.source].type, 1),
        }
    )
    return run.prepared / plan.dataset.spec.name / f"{modality.features.spec.name}-{key}", key


def _stamp(sample: SampleRef, root: Path | None) -> dict[str, list[Any]]:
    """Per source: id, name of the file, its size and time of change. A changed file is prepared anew."""
    stamp: dict[str, list[Any]] = {}
    for source, where in sample.sources.items():
        try:
            status = (root / where).stat() if root else None
        except (OSError, ValueError):
            status = None
        stamp[source] = [sample.id, where, status.st_size if status else None, status.st_mtime_ns if status else None]
    return stamp


@contextmanager
def _turn(name: str, folder: Path) -> Iterator[None]:
    """The only process that looks for a modality's store and makes it; another one's work is waited for."""
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock, wait=False) as mine:
        if mine:
            yield
            return
    say(f"prepare {name}: another mmcl process is preparing these streams ({folder}); waiting for it")
    with locked(lock):
        yield


def _make_store(
    plan: Plan,
    modality: ModalityPlan,
    dataset: Dataset,
    samples: Sequence[SampleRef],
    folder: Path,
    key: str,
    beside: _Beside,
    strict: bool,
) -> None:
    """Extract one modality of every recording that has its source."""
    tidy(folder.parent, folder.name)
    jobs = [
        (row, sample.id, sample.sources[modality.source])
        for row, sample in enumerate(samples)
        if modality.source in sample.sources
    ]
    writer = StoreWriter(folder, modality.layout)
    skipped: list[Skipped] = []
    tally = _Tally()
    try:
        with (
            _extracting(plan, modality, dataset, len(jobs), beside, tally) as extract,
            progress(f"prepare {modality.name}", len(jobs)) as tick,
        ):
            for done, (job, stream) in enumerate(zip(jobs, extract(jobs), strict=True), 1):
                if isinstance(stream, str):
                    if strict:
                        raise DataError(f"{stream} (--strict)")
                    skipped.append(Skipped(id=job[1], where=job[2], reason=stream))
                else:
                    writer.add(job[0], stream)
                tick(done, f"{len(skipped)} skipped" if skipped else "")
        writer.close({"key": key, "mmcl": __version__, "skipped": [asdict(one) for one in skipped], "counts": tally.counts()})
    except BaseException:
        writer.abandon()
        raise


class _Tally:
    """What was odd in a modality's recordings while they were read, over all processes."""

    def __init__(self) -> None:
        self._by_process: dict[int, dict[str, int]] = {}

    def latest(self, process: int, counts: dict[str, int]) -> None:
        """The latest counts of one process, which only ever grow."""
        self._by_process[process] = counts

    def counts(self) -> dict[str, int]:
        """All processes together."""
        total: dict[str, int] = {}
        for counts in self._by_process.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return {name: count for name, count in total.items() if count}


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: max(0, count - before.get(name, 0)) for name, count in now.items()}


def _counts_of(*things: Any) -> dict[str, int]:
    """What a dataset and a modality have counted."""
    counted: dict[str, int] = {}
    for thing in things:
        for name, count in thing.counts().items() if isinstance(thing, Counting) else ():
            counted[name] = counted.get(name, 0) + int(count)
    return counted


Job = tuple[int, str, str]
Extracted = Any  # ndarray, Timed, or the sentence that says why there is none


class _Beside:
    """Processes that read recordings beside this one: started where they pay, then kept for every modality that is left.

    asked  how many; None: one a core, where the recordings that are left would take this process longer than starting others
    """

    def __init__(self, asked: int | None) -> None:
        self.asked, self.most = asked, asked or os.cpu_count() or 1
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None and self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._stack.close()

    def pay(self, seconds: float, left: int, count: int) -> bool:
        """Whether so many processes beside this one save time, with so many recordings left of so many seconds each."""
        return seconds * left * (1 - 1 / count) > (START if self._pool is None else 0)

    def pool(self, count: int) -> ProcessPoolExecutor:
        """The processes."""
        if self._pool is None:
            self._pool = self._stack.enter_context(worker_pool(count, _begin))
        return self._pool


@contextmanager
def _extracting(
    plan: Plan, modality: ModalityPlan, dataset: Dataset, jobs: int, beside: _Beside, tally: _Tally
) -> Iterator[Any]:
    """A function from jobs to what each gives, in order: in this process as long as that is faster, then in a pool."""
    count = min(beside.most, jobs // (4 * CHUNK))
    # built here for a pool too: what a feature lacks is refused in its sentence, where a worker would only die
    extractor: Modality = modality.features.spec.build(modality.features.params, plan.info.sources[modality.source])
    before = _counts_of(dataset, extractor)
    setting: Setting = (
        plan.dataset.use,
        plan.dataset.params.model_dump_json(),
        plan.root,
        modality.source,
        modality.features.use,
        modality.features.params.model_dump_json(),
        modality.layout.to_json(),
    )

    def extract(todo: Sequence[Job]) -> Iterator[Extracted]:
        spent = 0.0
        for done, job in enumerate(todo):
            if count > 1 and (beside.asked is not None or (done > FEW and beside.pay(spent / done, len(todo) - done, count))):
                yield from _in_pool(beside.pool(count), setting, todo[done:], count, tally)
                return
            began = time.monotonic()
            stream = _extract(dataset, plan.dataset.use, extractor, modality.layout, modality.source, job)
            spent += (time.monotonic() - began) * (done > 0)  # the first one imports what it needs
            tally.latest(0, _since(before, _counts_of(dataset, extractor)))
            yield stream

    try:
        yield extract
    except BrokenProcessPool:
        raise StageError(
            "prepare: a worker process died; one that runs out of memory needs fewer workers beside it (--workers 1 uses none)"
        ) from None


def _in_pool(
    pool: ProcessPoolExecutor, setting: Setting, todo: Sequence[Job], count: int, tally: _Tally
) -> Iterator[Extracted]:
    chunks = [todo[k : k + CHUNK] for k in range(0, len(todo), CHUNK)]
    ready: list[Any] = []
    for chunk in itertools.islice(chunks, 4 * count):  # a few ahead, so that results never pile up in memory
        ready.append(pool.submit(_work, setting, chunk))
    for i in range(len(chunks)):
        done, process, counts = ready[i].result()
        tally.latest(process, counts)
        yield from done
        ready[i] = None
        if i + 4 * count < len(chunks):
            ready.append(pool.submit(_work, setting, chunks[i + 4 * count]))


Setting = tuple[str, str, Path | None, str, str, str, Any]
"""Dataset, its options, its folder; a modality's source, features, their options, layout."""
_worker: tuple[Setting, Any, Any] | None = None


def _begin() -> None:
    """Set up one worker process: its imports, beside which it waits for work."""
    plugins()


def _set_up(setting: Setting) -> tuple[Setting, Any, Any]:
    """A worker's own dataset and modality: how it extracts, and what it has counted since."""
    dataset, dataset_params, root, source, features, params, layout = setting
    offers = plugins()
    data, feature = offers.get("dataset", dataset).spec, offers.get("modality", features).spec
    chosen = data.params.model_validate_json(dataset_params)
    extractor = feature.build(feature.params.model_validate_json(params), data.info(chosen).sources[source])
    reader = data.build(chosen, root)
    before = _counts_of(reader, extractor)
    return (
        setting,
        partial(_extract, reader, dataset, extractor, Layout.from_json(layout), source),
        lambda: _since(before, _counts_of(reader, extractor)),
    )


def _work(setting: Setting, chunk: Sequence[Job]) -> tuple[list[Extracted], int, dict[str, int]]:
    """What each job gives, and all that this process has counted so far for this modality."""
    global _worker
    if _worker is None or _worker[0] != setting:
        _worker = _set_up(setting)
    _, extract, counts = _worker
    return [extract(job) for job in chunk], os.getpid(), counts()


def _extract(dataset: Dataset, name: str, modality: Modality, layout: Layout, source: str, job: Job) -> Extracted:
    """One recording's stream, or the sentence that says why it cannot be used."""
    _, id, where = job
    try:
        stream = extracted(modality, read_source(dataset, name, id, source, where), layout, id, where)
    except DataError as error:
        return str(error)
    return stream


def _uneven(samples: Sequence[SampleRef], stores: dict[str, Store]) -> dict[str, Any]:
    """How many recordings have modalities that differ in length by more than a tenth, and the first of them."""
    ids = [sample.id for row, sample in enumerate(samples) if uneven(stores, row)]
    return {"recordings": len(ids), "first": ids[:10]}


def _about(
    plan: Plan,
    dataset: Dataset,
    samples: Sequence[SampleRef],
    stores: dict[str, Store],
    scored: dict[str, Any],
    folds: list[Fold],
    lost: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """What prepare.json says, for the report and for people."""
    usable = len(samples) - len(lost)

    def groups(rows: Iterable[int]) -> list[str]:
        return sorted({samples[row].group for row in rows})

    protocol = plan.recipe.protocol
    detail = {"k-fold": f"k={getattr(protocol, 'k', '')}, ", "folds": f"{Path(getattr(protocol, 'file', '')).name}, "}.get(
        protocol.use, ""
    )
    return {
        "format": 1,
        "samples": len(samples),
        "usable": usable,
        "groups": len({s.group for s in samples}),
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
                "hours": round(sum(store.seconds(row) for row in store.rows) / 3600, 4),
                "longest": round(max((store.seconds(row) for row in store.rows), default=0.0), 3),
                "skipped": [asdict(one) for one in store.skipped],
                "counts": store.counts,
            }
            for name, store in stores.items()
        },
        "counts": dict(dataset.counts()) if isinstance(dataset, Counting) else {},
        "uneven": _uneven(samples, stores),
        "scores": scored,
        "skipped": [{"id": samples[row].id, "reason": "has none of the modalities"} for row in lost],
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
