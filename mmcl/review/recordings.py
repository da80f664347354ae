"""What there is to learn from, before anything is extracted: counts, lengths, gaps and defects, from the table and the head of every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..api.dataset import Dataset, DatasetInfo, HasHeaders, Header, SampleRef, Task
from ..api.errors import DataError, StageError
from ..data.folds import Fold, make_folds
from ..data.labels import concerns
from ..data.reading import read_header, samples_of
from ..data.windows import differ
from ..plugins import plugins
from ..recipe.plan import Plan
from ..recipe.schema import Official
from ..stages.recordings import listed, open_dataset, planned_folds


@dataclass(frozen=True)
class SourceCount:
    """One source: how many recordings have it, and what their heads say; seconds are None where no head says how long it lasts."""

    name: str
    type: str
    present: int
    missing: int
    seconds: float | None
    shortest: float | None
    longest: float | None
    rates: Mapping[str, int]  # rate → recordings


@dataclass(frozen=True)
class Census:
    """What a dataset holds."""

    recordings: int
    groups: int
    group: str
    limit: int | None
    splits: Mapping[str, tuple[int, int]]  # split, "none" for recordings of none → recordings, groups
    tasks: Mapping[str, Mapping[str, Any]]  # task → type, and classes with their counts or the range; how many are unknown
    sources: tuple[SourceCount, ...]
    apart: tuple[str, ...]  # recordings whose sources differ in length by more than a tenth of the longest
    defects: tuple[tuple[str, str, str], ...]  # recording, source, sentence
    facts: Mapping[str, int]  # what else is known of recordings → how many different values it has
    headers: bool  # whether the dataset looks at heads of files
    concerns: tuple[str, ...]  # what the labels cannot teach or test, a sentence each

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def census_of_plan(plan: Plan, files: bool = True) -> Census:
    """The recordings of a plan and the sources that its modalities read; refuses what `prepare` would refuse, before it is extracted.

    files  whether the head of every file is looked at

    Raises DataError where the recordings cannot be split as the protocol says.
    """
    dataset = open_dataset(plan)
    samples = listed(plan, dataset)
    sources = [m.source for m in plan.modalities] if files else []
    notes = concerns(plan.tasks, samples, planned_folds(plan, samples))
    return census(dataset, plan.info, samples, tuple(dict.fromkeys(sources)), plan.recipe.limit, notes)


def census_of_folder(folder: Path) -> Census:
    """The recordings of a folder with a table, and all of its sources. Raises DataError as `census_of_plan` does."""
    spec, params = described(folder)
    info, dataset = spec.info(params), spec.build(params, folder)
    samples = samples_of(dataset, spec.name, folder)
    folds: list[Fold] = []
    if info.official:
        if missing := sorted({"train", "test"} - set(info.official)):
            raise DataError(f"no recording is in the split '{missing[0]}'; there are {', '.join(info.official)}")
        folds = make_folds(Official(), samples, range(len(samples)), 0)
    return census(dataset, info, samples, tuple(info.sources), notes=concerns(info.tasks.values(), samples, folds))


def described(folder: Path, **options: Any) -> tuple[Any, Any]:
    """The dataset that reads a folder by the table in it, and its options, complete. Raises DataError if the table is wrong."""
    spec = next((offer.spec for _, offer in plugins().all("dataset") if offer.spec.complete is not None), None)
    if spec is None:
        raise StageError("no dataset that reads a folder by its own table is installed (see 'mmcl plugins')")
    return spec, spec.complete(spec.params.model_validate(options), folder)


def census(
    dataset: Dataset,
    info: DatasetInfo,
    samples: Sequence[SampleRef],
    sources: Sequence[str],
    limit: int | None = None,
    notes: Sequence[str] = (),
) -> Census:
    """Counts of recordings that have been listed, and the heads of the files of some sources; `notes`: sentences about their labels."""
    headers: dict[str, dict[str, Header]] = {name: {} for name in sources}
    defects: list[tuple[str, str, str]] = []
    for sample in samples:
        for name in (name for name in sources if name in sample.sources):
            try:
                headers[name][sample.id] = read_header(dataset, sample.id, name, sample.sources[name])
            except DataError as error:
                defects.append((sample.id, name, str(error)))
    return Census(
        recordings=len(samples),
        groups=len({sample.group for sample in samples}),
        group=info.group,
        limit=limit,
        splits=_split_counts(samples) if info.official else {},
        tasks={name: _task(task, samples) for name, task in info.tasks.items()},
        sources=tuple(_source(name, info.sources[name].type, samples, headers[name]) for name in sources),
        apart=tuple(sample.id for sample in samples if differ(_lengths([headers[n].get(sample.id) for n in sources]))),
        defects=tuple(defects),
        facts={
            fact: len({sample.facts[fact] for sample in samples if fact in sample.facts})
            for fact in sorted({fact for sample in samples for fact in sample.facts})
        },
        headers=isinstance(dataset, HasHeaders),
        concerns=tuple(notes),
    )


def _split_counts(samples: Sequence[SampleRef]) -> dict[str, tuple[int, int]]:
    counts = {}
    for split in ("train", "valid", "test", None):
        groups = [sample.group for sample in samples if sample.split == split]
        if groups or split is not None:
            counts[split or "none"] = (len(groups), len(set(groups)))
    return counts


def _task(task: Task, samples: Sequence[SampleRef]) -> dict[str, Any]:
    """How often each class is there, or the range of the numbers."""
    targets = [sample.targets[task.name] for sample in samples if task.name in sample.targets]
    unknown = len(samples) - len(targets)
    if task.type == "single-label":
        counts = Counter(targets)
        return {"type": task.type, "counts": {name: counts[i] for i, name in enumerate(task.classes)}, "unknown": unknown}
    rows = [target if isinstance(target, list) else [target] for target in targets]
    names = task.classes or (task.name,)
    if task.type == "multi-label":
        return {
            "type": task.type,
            "counts": {name: sum(bool(row[i]) for row in rows) for i, name in enumerate(names)},
            "unknown": unknown,
        }
    ranges = {name: [min(row[i] for row in rows), max(row[i] for row in rows)] for i, name in enumerate(names)} if rows else {}
    return {"type": task.type, "ranges": ranges, "unknown": unknown}


def _source(name: str, type: str, samples: Sequence[SampleRef], headers: Mapping[str, Header]) -> SourceCount:
    present = sum(name in sample.sources for sample in samples)
    lengths = [header.seconds for header in headers.values() if header.seconds is not None]
    rates = Counter(f"{header.rate:g}" for header in headers.values() if header.rate)
    return SourceCount(
        name=name,
        type=type,
        present=present,
        missing=len(samples) - present,
        seconds=sum(lengths) if lengths else None,
        shortest=min(lengths, default=None),
        longest=max(lengths, default=None),
        rates=dict(rates.most_common()),
    )


def _lengths(headers: Sequence[Header | None]) -> list[float]:
    """The lengths in seconds that heads say."""
    return [header.seconds for header in headers if header is not None and header.seconds is not None]
