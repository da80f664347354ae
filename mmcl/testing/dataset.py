"""The checks of a dataset, on the tiny copy that it writes of itself."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.dataset import Dataset, DatasetInfo, DatasetSpec, HasHeaders, SampleRef, Task
from ..api.errors import DataError
from ..api.raw import Source
from .checks import Check, NotTried, expect, run_checks
from .elsewhere import elsewhere_checks
from .general import general_checks, process_check
from .raw import RAW, digest, equal, raw_problem, seconds_of


def check_dataset(spec: DatasetSpec, tmp_path: Path, params: Any = None) -> None:
    """A dataset lists and reads what its `info` says, on the tiny copy that `sample` writes under `tmp_path`."""
    run_checks(dataset_checks(spec, tmp_path, params))


def dataset_checks(spec: DatasetSpec, tmp_path: Path, params: Any = None) -> Iterator[Check]:
    """What a dataset promises, on the tiny copy that it writes under `tmp_path`."""
    params = spec.params() if params is None else params
    case = _Case(spec, params, tmp_path)
    yield process_check(spec, case.subject, params, functools.partial(_trial, case))
    if spec.complete is not None:
        yield "what its options leave open is filled in from its tables", lambda: _completed(case)
    yield "info is complete and reads no data", lambda: _info(case)
    if spec.needs_root:
        yield "a missing folder is refused in a sentence", lambda: _missing(case)
    yield "its recordings are in order", lambda: _samples(case)
    yield "what it reads is what info says", lambda: _read(case)
    yield "headers say how long a recording lasts", lambda: _headers(case)
    if spec.needs_root:
        yield "a damaged file is refused by name", lambda: _damage(case)
    if spec.needs_root and spec.read_file is not None:
        yield "read_file reads a file wherever it lies", lambda: _read_file(case)
    yield "it keeps nothing between reads", lambda: _state(case)
    if spec.needs_root:
        yield "another folder gives the same", lambda: _moved(case)
        yield "reading writes nothing", lambda: _untouched(case)
    yield from general_checks(case.subject, params, functools.partial(_trial, case), tensors=False)
    yield from elsewhere_checks(facts, spec, case.subject, params, case.root)


@dataclass(frozen=True)
class _Case:
    spec: DatasetSpec
    params: Any
    tmp_path: Path
    given: Path | None = None  # the author's own recordings, which are read and left alone

    @property
    def subject(self) -> str:
        return f"dataset '{self.spec.name}'"

    def options(self) -> Any:
        """The options, with what they leave open filled in from the tiny copy where the dataset does that."""
        root = self.root() if self.spec.complete is not None else None
        return self.params if root is None or self.spec.complete is None else self.spec.complete(self.params, root)

    def info(self) -> DatasetInfo:
        return self.spec.info(self.options())

    def root(self) -> Path | None:
        """A tiny copy of the data, written once; or the author's own."""
        if self.given is not None:
            return self.given
        if not self.spec.needs_root:
            return None
        root = self.tmp_path / "sample"
        if not root.exists():
            if self.spec.sample is None:
                raise NotTried(
                    f"{self.subject} brings no `sample`, which writes a tiny copy in the true file format; without one its "
                    "reading can't be checked, nor shown in a demo"
                )
            root.mkdir(parents=True)
            self.spec.sample(root, 12, 0)
        return root

    def build(self) -> Dataset:
        return self.spec.build(self.options(), self.root())


def ask_info(spec: DatasetSpec) -> str:
    """Ask what a corpus holds, as a plan does before anything is read."""
    spec.info(spec.params())
    return f"info of '{spec.name}'"


def _trial(case: _Case, params: Any, moved: Callable[[Any], None]) -> None:
    """What it says of itself, its list, and a recording."""
    info = case.spec.info(params)
    if params != case.params:
        return  # the tiny copy is that of the options at hand
    dataset = case.build()
    for ref in list(dataset.samples())[:1]:
        for name in ref.sources:
            if name in info.sources or case.spec.complete is not None:
                dataset.read(ref.id, name)


def _looked_at(dataset: Dataset, most: int = 12) -> list[tuple[str, str]]:
    """(id, source) of some recordings, the first, the last and some between."""
    refs = list(dataset.samples())
    some = refs if len(refs) <= most else [refs[round(i * (len(refs) - 1) / (most - 1))] for i in range(most)]
    return [(ref.id, name) for ref in some for name in ref.sources]


def _state(case: _Case) -> None:
    """One object, asked for everything, then for everything backwards, gives what fresh ones give."""
    kept = case.build()
    places = _looked_at(kept)
    first = [digest(kept.read(*place)) for place in places]
    backwards = [digest(kept.read(*place)) for place in reversed(places)][::-1]
    for place, one, other in zip(places, first, backwards, strict=True):
        expect(
            one == other,
            f"{case.subject}, '{place[1]}' of recording '{place[0]}': asked again after others, it is not the same; keep nothing between reads, as "
            "recordings are spread over processes, in any order",
        )
    for place, one in list(zip(places, first, strict=True))[:: max(1, len(places) // 4)]:
        expect(
            digest(case.build().read(*place)) == one,
            f"{case.subject}, '{place[1]}' of recording '{place[0]}': a fresh object reads it otherwise; keep nothing between reads",
        )


def _moved(case: _Case) -> None:
    """Data that are moved give the same list and the same recordings, as a rerun on another machine needs."""
    root = case.root()
    assert root is not None
    other = case.tmp_path / "moved" / "elsewhere"
    if other.exists():
        shutil.rmtree(other)
    shutil.copytree(root, other)
    here, there = case.build(), case.spec.build(case.options(), other)
    expect(
        list(here.samples()) == list(there.samples()),
        f"{case.subject}: the same files in another folder give another list of recordings; ids, sources and facts are relative to the root, and "
        "sorted",
    )
    for place in _looked_at(here, 4):
        expect(
            digest(here.read(*place)) == digest(there.read(*place)),
            f"{case.subject}, '{place[1]}' of recording '{place[0]}': read from another folder, it is not the same",
        )


def _untouched(case: _Case) -> None:
    """The folder of a publisher is not ours to write into."""
    root = case.root()
    assert root is not None

    def seen() -> dict[str, tuple[int, int]]:
        return {
            p.relative_to(root).as_posix(): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()
        }

    before, dataset = seen(), case.build()
    for place in _looked_at(dataset, 4):
        dataset.read(*place)
    after = seen()
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    expect(
        not changed,
        f"{case.subject}: reading writes {', '.join(changed[:3])} into the folder of the data, which may be read-only",
    )


def facts(spec: DatasetSpec, params: Any, root: Path | None) -> dict[str, Any]:
    """What it says, lists and reads, as hashes: to be compared with another process's."""
    params = spec.complete(params, root) if spec.complete is not None and root is not None else params
    info, dataset = spec.info(params), spec.build(params, root)
    problems = {
        "info": digest([list(info.sources), [(t.name, t.classes) for t in info.tasks.values()], info]),
        "the list of recordings": digest(list(dataset.samples())),
    }
    for id, source in reversed(
        list(_looked_at(dataset, 3))
    ):  # what the first read leaves in a class or a module, is another's here
        problems[f"'{source}' of recording '{id}'"] = digest(dataset.read(id, source))
    return problems


def data_checks(spec: DatasetSpec, root: Path, params: Any = None, most: int = 24) -> Iterator[Check]:
    """What a dataset promises, on recordings that are there already; nothing is written, and `most` of them are read."""
    params = spec.params() if params is None else params
    case = _Case(spec, params, root, root)  # nothing is written under it
    if spec.complete is not None:
        yield "what its options leave open is filled in from its tables", lambda: _completed(case)
    yield "info is complete and reads no data", lambda: _info(case)
    yield "its recordings are in order", lambda: _samples(case)
    yield f"what it reads is what info says ({most} recordings)", lambda: _read_some(case, most)
    yield "it keeps nothing between reads", lambda: _state(case)
    yield "reading writes nothing", lambda: _untouched(case)


def _read_some(case: _Case, most: int) -> None:
    info, dataset = case.info(), case.build()
    for id, name in _looked_at(dataset, most):
        try:
            raw = dataset.read(id, name)
        except DataError:
            continue  # damaged: listed and skipped by `prepare`
        problem = raw_problem(info.sources[name], raw)
        expect(problem is None, f"{case.subject}, '{name}' of recording '{id}': {problem}")


def _info(case: _Case) -> None:
    info = case.info()
    subject = case.subject
    expect(isinstance(info, DatasetInfo), f"{subject}: info gives an mmcl.api.DatasetInfo, found {type(info).__name__}")
    expect(case.info() == info, f"{subject}: two calls of info give different answers; plans are compared by it")
    expect(bool(info.sources), f"{subject}: info names no source, so no modality can be built on it")
    for name, source in info.sources.items():
        expect(source.type in RAW, f"{subject}: source '{name}' is of type {source.type!r}; known: {', '.join(RAW)}")
        json.dumps(dict(source.notes))
    for name, task in info.tasks.items():
        expect(task.name == name, f"{subject}: the task under '{name}' calls itself '{task.name}'")
        expect(
            task.type in ("single-label", "multi-label", "regression"),
            f"{subject}: task '{name}' is of type {task.type!r}; known: single-label, multi-label, regression",
        )
        least = {"single-label": 2, "multi-label": 1, "regression": 0}[task.type]
        expect(
            len(set(task.classes)) == len(task.classes) >= least,
            f"{subject}: task '{name}' needs different names for its classes, at least {least}; found {task.classes}",
        )
    expect(
        bool(info.group.strip()), f"{subject}: `group` names what must never stand on both sides of a split, such as speaker"
    )
    expect(
        set(info.official) <= {"train", "valid", "test"},
        f"{subject}: official splits are of train, valid and test; found {info.official}",
    )


def _completed(case: _Case) -> None:
    root, complete = case.root(), case.spec.complete
    assert root is not None
    assert complete is not None
    options = case.options()
    expect(
        type(options) is type(case.params),
        f"{case.subject}: complete gives options of the same class, {type(case.params).__name__}; found {type(options).__name__}",
    )
    expect(
        complete(options, root) == options,
        f"{case.subject}: completed once more, its options are others; what is complete stays as it is, since plans are compared by it",
    )
    text = options.model_dump_json()
    expect(
        type(options).model_validate_json(text) == options,
        f"{case.subject}: its completed options are not the same after JSON, through which they reach the processes that read",
    )


def _headers(case: _Case) -> None:
    dataset = case.build()
    if not isinstance(dataset, HasHeaders):
        return
    for ref in dataset.samples():
        for source in ref.sources:
            header = dataset.header(ref.id, source)
            seconds = seconds_of(dataset.read(ref.id, source))
            expect(
                header.seconds is None or seconds is None or abs(header.seconds - seconds) <= 0.1 * seconds + 0.1,
                f"{case.subject}, '{source}' of recording '{ref.id}': its header says {header.seconds} s, and it lasts {seconds} s",
            )


def _missing(case: _Case) -> None:
    nowhere = case.tmp_path / "nowhere"
    try:
        case.spec.build(case.params, nowhere).samples()
    except DataError as error:
        expect(
            str(nowhere) in str(error) and "\n" not in str(error),
            f"{case.subject}: the sentence about a missing folder names it ({nowhere}); found: {error}",
        )
        return
    raise AssertionError(
        f"{case.subject}: a missing folder raises DataError from `samples`, saying how to get the data; nothing was raised"
    )


def _samples(case: _Case) -> None:
    info, subject = case.info(), case.subject
    samples = list(case.build().samples())
    expect(bool(samples), f"{subject}: the tiny copy that `sample` wrote holds no recording")
    expect(
        digest(samples) == digest(list(case.build().samples())),
        f"{subject}: listed twice, recordings come in another order or with other facts; sort what the folder gives",
    )
    ids = [ref.id for ref in samples]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    expect(
        not twice,
        f"{subject}: ids are unique, since streams and splits are kept under them; found twice: {', '.join(twice[:3])}",
    )
    sides: dict[str, str] = {}
    for ref in samples:
        where = f"{subject}, recording '{ref.id}'"
        expect(isinstance(ref, SampleRef) and isinstance(ref.id, str) and bool(ref.id), f"{where}: has an id that is a text")
        expect(
            isinstance(ref.group, str) and bool(ref.group.strip()),
            f"{where}: has no {info.group} as its group; without one it could stand on both sides of a split",
        )
        unknown = sorted(set(ref.sources) - set(info.sources))
        expect(not unknown, f"{where}: has sources that info does not know: {', '.join(unknown)}")
        for source, place in ref.sources.items():
            expect(
                isinstance(place, str) and bool(place) and not Path(place).is_absolute(),
                f"{where}: '{source}' is a path relative to the root, so that data can be moved; found {place!r}",
            )
        for task, target in ref.targets.items():
            expect(task in info.tasks, f"{where}: has a target for '{task}', a task that info does not know")
            problem = _target_problem(info.tasks[task], target)
            expect(problem is None, f"{where}: its target for '{task}' {problem}; found {target!r}")
        if ref.split is not None:
            expect(
                ref.split in info.official,
                f"{where}: is in the official split '{ref.split}'; info.official names {list(info.official)}",
            )
            side = sides.setdefault(ref.group, ref.split)
            expect(
                side == ref.split,
                f"{where}: {info.group} '{ref.group}' is in the official splits '{side}' and '{ref.split}', so test data would "
                "leak into training; name as group what the official splits keep apart",
            )


def _target_problem(task: Task, target: Any) -> str | None:
    """What is wrong with a target, or None."""
    if task.type == "single-label":
        right = isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(task.classes)
        return None if right else f"must be the index of one of its {len(task.classes)} classes, as an int"
    if task.type == "multi-label":
        right = isinstance(target, list) and len(target) == len(task.classes) and all(v in (0, 1) for v in target)
        return None if right else f"must be a list of 0 or 1 for its {len(task.classes)} classes"
    values = target if isinstance(target, list) else [target]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    right = numbers and len(values) == max(1, len(task.classes))
    return None if right else f"must be {max(1, len(task.classes))} finite number(s)"


def _read(case: _Case) -> None:
    info, dataset = case.info(), case.build()
    unread = set(info.sources)
    for ref in dataset.samples():
        for name in ref.sources:
            if name not in unread:
                continue
            unread.discard(name)
            raw = dataset.read(ref.id, name)
            problem = raw_problem(info.sources[name], raw)
            expect(problem is None, f"{case.subject}, '{name}' of recording '{ref.id}': {problem}")
            expect(
                equal(raw, case.build().read(ref.id, name)),
                f"{case.subject}, '{name}' of recording '{ref.id}': read twice, it is not the same",
            )
    expect(
        not unread,
        f"{case.subject}: info offers {', '.join(sorted(unread))}, but no recording of the tiny copy has it; let `sample` "
        "write every source",
    )


def _read_file(case: _Case) -> None:
    """A run is asked about files that lie anywhere, under any name: they are copied away, and read there."""
    root, info, dataset, reader = case.root(), case.info(), case.build(), case.spec.read_file
    assert root is not None
    assert reader is not None
    refs = list(dataset.samples())
    shared = Counter(place for ref in refs for place in ref.sources.values())
    elsewhere = case.tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    for name, source in info.sources.items():
        given = next(
            ((ref, root / ref.sources[name]) for ref in refs if name in ref.sources and (root / ref.sources[name]).exists()),
            None,
        )
        if given is None:
            continue  # words of a table's cell: nothing that a file could be
        ref, path = given
        copy = elsewhere / f"another-{name}{path.suffix}"
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        subject = f"{case.subject}: read_file of a file for '{name}' ({path.name}, copied to another folder and name)"
        try:
            raw = reader(copy, source)
        except Exception as error:
            raise AssertionError(
                f"{subject} gives what the run's own recordings give; it raised {type(error).__name__}: {error}"
            ) from error
        problem = raw_problem(source, raw)
        expect(problem is None, f"{subject}: {problem}")
        if shared[ref.sources[name]] == 1:  # else a part of the file may be the recording
            expect(
                equal(raw, dataset.read(ref.id, name)),
                f"{subject} gives other values than `read` of recording '{ref.id}', whose file it is; a run answers alike for both",
            )
        if path.is_file():
            copy.write_bytes(b"")
            _refuses_file(reader, copy, source, case.subject)


def _refuses_file(reader: Callable[[Path, Source], Any], path: Path, source: Source, subject: str) -> None:
    try:
        reader(path, source)
    except DataError as error:
        expect(
            path.name in str(error),
            f"{subject}: read_file's sentence about an emptied file names it, {path.name}; found: {error}",
        )
    except Exception as error:
        raise AssertionError(
            f"{subject}: read_file of an emptied file ({path.name}) raises DataError; found {type(error).__name__}: {error}"
        ) from error
    else:
        raise AssertionError(
            f"{subject}: read_file reads an emptied file ({path.name}) as if nothing were wrong; raise DataError"
        )


def _damage(case: _Case) -> None:
    root = case.root()
    assert root is not None
    tried: set[str] = set()
    for ref in case.build().samples():
        for source, place in ref.sources.items():
            path = root / place
            if source in tried or not path.is_file():
                continue
            tried.add(source)
            whole = path.read_bytes()
            cuts = [("an emptied file", b"")]
            if b"\0" in whole[:1024]:  # a text file cut short at the end of a line is a shorter text file
                cuts.append(("a file cut to two thirds", whole[: len(whole) * 2 // 3]))
            for what, content in cuts:
                try:
                    path.write_bytes(content)
                    _refuses(case, ref, source, path, what)
                finally:
                    path.write_bytes(whole)


def _refuses(case: _Case, ref: SampleRef, source: str, path: Path, what: str) -> None:
    try:
        case.build().read(ref.id, source)
    except DataError as error:
        expect(
            path.name in str(error) and "\n" not in str(error),
            f"{case.subject}: the sentence about {what} is one line and names the file, {path.name}; found: {error}",
        )
    except Exception as error:
        raise AssertionError(
            f"{case.subject}: {what} ({path.name}) raises DataError, so that a preparation of thousands lists it and goes on; "
            f"found {type(error).__name__}: {error}"
        ) from error
    else:
        raise AssertionError(
            f"{case.subject}: {what} ({path.name}) is read as if nothing were wrong; raise DataError that names it"
        )
