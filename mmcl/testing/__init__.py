"""The checks that a plug-in author runs: plain functions, for pytest or by hand.

check_spec        name, summary, options, and a package that imports in milliseconds
check_modality    check_backbone    check_loss    check_positives    check_dataset    check_head
check_plugin      all of these over everything that a package offers, as a list of results

Each raises AssertionError with a sentence: what was expected, why it matters, what was found. `NotTried`, which is an
AssertionError too, says that nothing made up here fits the plug-in, and which argument would help.

Streams, pairs and raw recordings are made up on the spot (`make_layouts`, `make_stream`, `make_pair`, `make_sources`,
`make_raw`); give your own layout, source or raw recording where those don't suit. Checks use the default options;
`make_variants` gives the others: `for params in make_variants(TcnParams): check_backbone(TCN, params)`.
"""

from __future__ import annotations

import copy
import functools
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

import numpy as np

from ..api.backbone import BackboneSpec
from ..api.batch import Encoded, Items, Stream
from ..api.dataset import Dataset, DatasetInfo, DatasetSpec, SampleRef, Task
from ..api.errors import DataError
from ..api.head import Deciding, HeadSpec, Labelled, OwnLoss, SelfFitting, Showing, Shown
from ..api.hooks import PROJECT
from ..api.kinds import Kind, Layout
from ..api.loss import LossSpec, Pair, PairLoss, PositivesSpec, Scored
from ..api.modality import ModalitySpec
from ..api.params import Params
from ..api.preset import PresetSpec
from ..api.pretext import PretextSpec
from ..api.published import PublishedSpec
from ..api.raw import Audio, Raw, Source, Table, Timed, Video, Words
from ..api.raw import Sequence as RawSequence
from ..api.scorer import ScorerSpec
from ..plugins import REGISTRIES, load

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "HEAVY",
    "NotTried",
    "Result",
    "check_backbone",
    "check_dataset",
    "check_head",
    "check_loss",
    "check_modality",
    "check_plugin",
    "check_positives",
    "check_spec",
    "make_layouts",
    "make_pair",
    "make_raw",
    "make_sources",
    "make_stream",
    "make_variants",
]

HEAVY = ("torch", "torchvision", "torchaudio", "librosa", "scipy", "sklearn")
"""What a plug-in's package must not import before `build`: every command imports every plug-in."""

RAW: Mapping[str, type[Any]] = {
    "audio": Audio,
    "video": Video,
    "words": Words,
    "table": Table,
    "sequence": RawSequence,
}
"""`Source.type` → class of what is read from it."""


class NotTried(AssertionError):
    """Nothing made up here fits this plug-in: the check needs an argument from its author."""


@dataclass(frozen=True)
class Result:
    """How one check of one thing went."""

    name: str  # "backbone tcn"
    check: str  # "more padding changes nothing"
    passed: bool | None  # None: not tried, `message` says what it would need
    message: str = ""


Check = tuple[str, Callable[[], None]]


def check_spec(spec: Any) -> None:
    """Name, summary and options of a spec of any sort are in order, and its package imports nothing heavy."""
    _run(_spec_checks(spec))


def check_modality(spec: ModalitySpec, raw: Raw | None = None, source: Source | None = None, params: Any = None) -> None:
    """What `extract` gives is what `layout` promised, finite, and the same every time.

    raw, source  a recording and its description; made up for every type of source in `accepts` if left out
    """
    _run(_modality_checks(spec, raw, source, params))


def check_backbone(spec: BackboneSpec, params: Any = None, layout: Layout | None = None) -> None:
    """A backbone keeps the contract: padding, rows, gradients, weights on disk, half precision.

    layout  made up for each of `accepts` if left out
    """
    _run(_backbone_checks(spec, params, layout))


def check_loss(spec: LossSpec, params: Any = None, brute_force: Callable[[Pair], float] | None = None) -> None:
    """A pair loss keeps the contract: masks, anchors, blocks, gradients.

    brute_force  the loss of a pair by a slow, obvious computation, such as two loops; compared in float64
    """
    _run(_loss_checks(spec, params, brute_force))


def check_positives(spec: PositivesSpec, params: Any = None, items: Items | None = None) -> None:
    """A rule for positives gives two disjoint masks and looks at each couple of rows alone.

    items  rows with the targets that the rule needs; made up, with a class of 0–3 (or two values) for each target, if left out
    """
    _run(_positives_checks(spec, params, items))


def check_dataset(spec: DatasetSpec, tmp_path: Path, params: Any = None) -> None:
    """A dataset lists and reads what its `info` says, on the tiny copy that `sample` writes under `tmp_path`."""
    _run(_dataset_checks(spec, tmp_path, params))


def check_head(spec: HeadSpec, params: Any = None) -> None:
    """A head gives outputs of the right shape for each of its tasks, learns, and takes missing rows."""
    _run(_head_checks(spec, params))


def check_pretext(spec: PretextSpec, params: Any = None, layouts: Mapping[str, Layout] | None = None) -> None:
    """A pretext gives one vector a recording, learns from every weight, and keeps rows apart and padding out.

    layouts  the modalities to join, where the made-up ones do not fit
    """
    _run(_pretext_checks(spec, params, layouts))


def check_scorer(spec: ScorerSpec, params: Any = None, tasks: Mapping[str, Task] | None = None) -> None:
    """A scorer adds a task of several values, and gives as many numbers, or None, the same every time.

    tasks  what the corpus has, for a scorer of labels; made up if left out
    """
    _run(_scorer_checks(spec, params, tasks))


def check_plugin(module: ModuleType | str, tmp_path: Path | None = None) -> list[Result]:
    """Every check over everything that a plug-in package offers; raises nothing.

    module    the package, or its name
    tmp_path  where tiny copies of datasets are written; a folder that is removed afterwards if left out
    """
    name = module if isinstance(module, str) else module.__name__
    (loaded,) = load([EntryPoint(name, name, PROJECT)]).loaded
    if loaded.failure:
        return [Result(f"plug-in {name}", "loads", False, f"'{name}' does not load: {loaded.failure}")]
    if not loaded.offers:
        return [Result(f"plug-in {name}", "offers something", False, f"'{name}' registers nothing in any of its hooks")]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for offer in loaded.offers:
            subject = f"{offer.what} {offer.name}"
            place = (tmp_path or Path(folder)) / offer.name
            for check, one in _all_checks(offer.spec, place):
                try:
                    _once(check, one)
                except NotTried as why:
                    results.append(Result(subject, check, None, str(why)))
                except AssertionError as wrong:
                    results.append(Result(subject, check, False, str(wrong)))
                else:
                    results.append(Result(subject, check, True))
    return results


def _all_checks(spec: Any, place: Path) -> Iterator[Check]:
    yield from _spec_checks(spec)
    if isinstance(spec, ModalitySpec):
        yield from _modality_checks(spec, None, None, None)
    elif isinstance(spec, BackboneSpec):
        yield from _backbone_checks(spec, None, None)
    elif isinstance(spec, LossSpec):
        yield from _loss_checks(spec, None, None)
    elif isinstance(spec, PositivesSpec):
        yield from _positives_checks(spec, None, None)
    elif isinstance(spec, DatasetSpec):
        yield from _dataset_checks(spec, place, None)
    elif isinstance(spec, HeadSpec):
        yield from _head_checks(spec, None)
    elif isinstance(spec, PretextSpec):
        yield from _pretext_checks(spec, None, None)
    elif isinstance(spec, ScorerSpec):
        yield from _scorer_checks(spec, None, None)


def _run(checks: Iterable[Check]) -> None:
    for name, check in checks:
        _once(name, check)


def _once(name: str, check: Callable[[], None]) -> None:
    """One check, leaving torch's generator and threads as they were; any error it meets becomes a failure that says where."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # everything here is tiny, and sums in one order are equal to the bit
    try:
        with torch.random.fork_rng(devices=[]):
            check()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"while checking that {name}: {type(error).__name__}: {error}") from error
    finally:
        torch.set_num_threads(threads)


def _expect(right: bool, sentence: str) -> None:
    if not right:
        raise AssertionError(sentence)


# ----------------------------------------------------------------------------------------------------------------- specs


def _spec_checks(spec: Any) -> Iterator[Check]:
    yield "name and summary read well", lambda: _spec_name(spec)
    if isinstance(spec, PublishedSpec):
        yield "every cell stands in one place", lambda: _published_cells(spec)
    if isinstance(spec, PresetSpec):
        yield "every value is KEY=VALUE", lambda: _preset_sets(spec)
    if isinstance(spec, Kind | PublishedSpec | PresetSpec):
        return
    yield "every option has a default and a sentence", lambda: _spec_params(spec)
    yield "the package imports nothing heavy", lambda: _spec_light(spec)


def _word(spec: Any) -> str:
    """The sort of a spec, in the word that messages use."""
    for what, (_, kind) in REGISTRIES.items():
        if isinstance(spec, kind):
            return what
    raise AssertionError(
        f"{spec!r} is no spec: register one of {', '.join(kind.__name__ for _, kind in REGISTRIES.values())} from mmcl.api"
    )


def _spec_name(spec: Any) -> None:
    what = _word(spec)
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    _expect(
        isinstance(spec.name, str) and bool(spec.name) and set(spec.name) <= allowed and not spec.name.startswith("-"),
        f"the name of a {what} is lower-case letters, digits and hyphens, so that it can be typed anywhere; found "
        f"{spec.name!r}",
    )
    summary = spec.summary
    _expect(
        isinstance(summary, str) and bool(summary.strip()) and summary.splitlines() == [summary] and len(summary) <= 160,
        f"{what} '{spec.name}': the summary is one line of at most 160 characters, as lists print it; found {summary!r}",
    )
    for axes in (spec.axes,) if what == "kind" else spec.accepts if what == "backbone" else ():
        _expect(
            isinstance(axes, tuple)
            and bool(axes)
            and len(set(axes)) == len(axes)
            and ("time" not in axes or axes[0] == "time"),
            f'{what} \'{spec.name}\': axes are a tuple of different names with time first, such as ("time", "channel"); '
            f"found {axes!r}",
        )
    if what == "backbone":
        _expect(bool(spec.accepts), f"backbone '{spec.name}': accepts names no axes, so no stream can ever reach it")
    if what == "modality":
        wrong = [t for t in spec.accepts if t not in RAW]
        _expect(
            bool(spec.accepts) and not wrong,
            f"modality '{spec.name}': accepts names types of source ({', '.join(RAW)}); found {list(spec.accepts)}",
        )
    if what == "head":
        known = ("single-label", "multi-label", "regression")
        _expect(
            bool(spec.tasks) and set(spec.tasks) <= set(known),
            f"head '{spec.name}': tasks names types of task ({', '.join(known)}); found {list(spec.tasks)}",
        )


def _spec_params(spec: Any) -> None:
    from pydantic import ValidationError

    model: type[Params] = spec.params
    subject = f"{_word(spec)} '{spec.name}', {model.__name__}"
    _expect(
        isinstance(model, type) and issubclass(model, Params),
        f"{subject}: params is a subclass of mmcl.api.Params, so that every option is checked before anything runs",
    )
    for name, field in model.model_fields.items():
        _expect(
            not field.is_required(),
            f"{subject}: option '{name}' has no default; `use: {spec.name}` alone must be a complete recipe entry",
        )
        _expect(
            bool((field.description or "").strip()),
            f"{subject}: option '{name}' has no description; write Field(…, description=\"…\"), it is the text of `mmcl "
            "describe`",
        )
    defaults = model()
    try:
        model.model_validate(defaults.model_dump())
    except ValidationError as error:
        raise AssertionError(f"{subject}: a default breaks its own type or bounds: {error}") from error
    model.model_json_schema()  # raises where an option cannot be written in a recipe
    try:
        model.model_validate({"certainly-no-option": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError(
            f"{subject}: accepts an unknown option, so a misspelt one would silently do nothing; keep extra='forbid' of "
            "mmcl.api.Params"
        )
    _expect(
        bool(model.model_config.get("frozen")),
        f"{subject}: options can be changed after they were read, so a run would not be what its plan says; keep frozen=True",
    )


def _spec_light(spec: Any) -> None:
    build = spec.build
    while isinstance(build, functools.partial):
        build = build.func
    package = build.__module__.partition(".")[0]
    found = _heavy_imports(package, os.pathsep.join(sys.path))
    if isinstance(found, str):
        raise AssertionError(f"{_word(spec)} '{spec.name}': its package '{package}' does not load in a fresh process: {found}")
    for moment, modules in found.items():
        _expect(
            not modules,
            f"{_word(spec)} '{spec.name}': {moment} imports {', '.join(modules)}. Every command imports every plug-in, so such "
            "imports would make all of them slow: move them into the function that `build` calls",
        )


@functools.cache
def _heavy_imports(package: str, path: str) -> dict[str, list[str]] | str:
    """In a fresh process: what a plug-in imports, at which moment before `build`; or why it does not load."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, mmcl.testing; mmcl.testing._print_heavy_imports(sys.argv[1])", package],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    found: dict[str, list[str]] | str = json.loads(done.stdout.splitlines()[-1])
    return found


def _print_heavy_imports(package: str) -> None:
    """Runs in the fresh process of `_heavy_imports`."""
    found: dict[str, list[str]] = {}
    known = {name for name in HEAVY if name in sys.modules}

    def note(moment: str) -> None:
        found[moment] = [name for name in HEAVY if name in sys.modules and name not in known]
        known.update(found[moment])

    try:
        importlib.import_module(package)
    except Exception as error:  # noqa: BLE001 - a stranger's import may raise anything; it becomes the message
        sys.stdout.write(json.dumps(f"{type(error).__name__}: {error}") + "\n")
        return
    note(f"importing '{package}'")
    (loaded,) = load([EntryPoint(package, package, PROJECT)]).loaded
    note("calling its hooks")
    for offer in loaded.offers:
        spec = offer.spec
        if isinstance(spec, BackboneSpec):
            for axes in spec.accepts:
                for layout in make_layouts(axes):
                    _refusal(functools.partial(spec.fits, spec.params(), layout))
            note(f"fits of '{spec.name}'")
        elif isinstance(spec, ModalitySpec):
            for kind in spec.accepts:
                for source in make_sources(kind):
                    _refusal(functools.partial(spec.layout, spec.params(), source))
            note(f"layout of '{spec.name}'")
        elif isinstance(spec, DatasetSpec):
            spec.info(spec.params())
            note(f"info of '{spec.name}'")
    sys.stdout.write(json.dumps(found) + "\n")


def _refusal(ask: Callable[[], Any]) -> str | None:
    """The sentence with which a plug-in refuses, or None."""
    try:
        ask()
    except ValueError as error:
        return str(error)
    return None


def make_variants(model: type[Params]) -> list[Params]:
    """The default options, then each other value of every yes-or-no and every choice among words, one at a time."""
    default = model()
    variants = [default]
    for name, field in model.model_fields.items():
        choices: tuple[Any, ...] = (True, False) if field.annotation is bool else ()
        if get_origin(field.annotation) is Literal:
            choices = get_args(field.annotation)
        variants += [model.model_validate({name: value}) for value in choices if value != getattr(default, name)]
    return variants


# -------------------------------------------------------------------------------------------------------------- modality


def make_sources(kind: str) -> list[Source]:
    """Made-up sources of one type, of the shapes that are usual in the field."""
    units = [f"AU{i:02d}{end}" for end in ("_r", "_c") for i in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)]
    points = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    columns = {"columns": ["timestamp", "confidence", "success", *points, *units]}
    body = {
        "shape": [20, 3],
        "axes": ["joint", "channel"],
        "graph": "kinect-20",
        "root": 3,
        "shoulders": [4, 8],
        "torso": [1, 3],
    }
    face = {"shape": [68, 2], "axes": ["joint", "channel"], "graph": "face-68"}
    made = {
        "audio": [Source("audio", "made up", 16_000.0)],
        "video": [Source("video", "made up", 25.0, {"shape": [c, 48, 64]}) for c in (3, 1)],
        "words": [Source("words", "made up")],
        "table": [Source("table", "made up", rate, columns) for rate in (30.0, None)],
        "sequence": [Source("sequence", "made up", 30.0, notes) for notes in (body, face, {"shape": [6], "axes": ["channel"]})],
    }
    return made[kind]


def make_raw(source: Source, seconds: float = 2.0, seed: int = 0) -> Raw:
    """A made-up recording of a source, of about so many seconds."""
    draw = np.random.default_rng(seed)
    if source.type == "audio":
        rate = int(source.rate or 16_000)
        wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
        return Audio((wave + 0.05 * draw.standard_normal(wave.shape).clip(-3, 3)).astype(np.float32), rate)
    if source.type == "words":
        edges = np.linspace(0.1, seconds, 6)
        return Words(("we", "shall", "see", "about", "that"), np.stack([edges[:-1], edges[1:]], 1))
    shape = tuple(int(n) for n in source.notes.get("shape", ()))
    steps = round(seconds * (source.rate or 25.0))
    if source.type == "video":
        return Video(draw.integers(0, 256, (steps, *(shape or (3, 48, 64))), dtype=np.uint8), float(source.rate or 25.0))
    if source.type == "table":
        columns = tuple(source.notes.get("columns", ("a", "b", "c")))
        rows = 1 if source.rate is None else steps
        values = draw.uniform(0, 4, (rows, len(columns))).astype(np.float32)
        for good in ("confidence", "success"):
            if good in columns:
                values[:, columns.index(good)] = 1
        return Table(values, columns, source.rate)
    still = draw.standard_normal((1, *(shape or (6,))))
    return RawSequence((still + 0.1 * draw.standard_normal((steps, *still.shape[1:]))).astype(np.float32), source.rate or 25.0)


def _modality_checks(spec: ModalitySpec, raw: Raw | None, source: Source | None, params: Any) -> Iterator[Check]:
    params = spec.params() if params is None else params
    if source is not None:
        yield from _one_modality(spec, raw, source, params)
        return
    for kind in spec.accepts:
        fitting = [one for one in make_sources(kind) if _refusal(functools.partial(spec.layout, params, one)) is None]
        if not fitting:
            yield f"a made-up {kind} fits", functools.partial(_nothing_fits, spec, params, kind)
        for one in fitting:
            yield from _one_modality(spec, raw, one, params)


def _nothing_fits(spec: ModalitySpec, params: Any, kind: str) -> None:
    reasons = "; ".join(sorted({_refusal(functools.partial(spec.layout, params, s)) or "" for s in make_sources(kind)}))
    raise NotTried(
        f"modality '{spec.name}' takes none of the sources of type '{kind}' made up here ({reasons}); give it one of yours: "
        "check_modality(spec, raw, source)"
    )


def _one_modality(spec: ModalitySpec, raw: Raw | None, source: Source, params: Any) -> Iterator[Check]:
    given = make_raw(source) if raw is None else raw
    shape = f" {source.notes['shape']}" if "shape" in source.notes else ""
    which = f"{source.type}{shape}{'' if source.rate is None else f' at {source.rate:g} Hz'}"
    yield f"its layout is complete ({which})", lambda: _modality_layout(spec, source, params)
    yield f"what it extracts is as the layout says ({which})", lambda: _modality_extract(spec, given, source, params)
    yield f"what it extracts is the same every time ({which})", lambda: _modality_same(spec, given, source, params)


def _modality_layout(spec: ModalitySpec, source: Source, params: Any) -> None:
    subject = f"modality '{spec.name}' of {source.type}"
    _expect(source.type in spec.accepts, f"{subject}: accepts names {list(spec.accepts)}, so it is never given such a source")
    layout = spec.layout(params, source)
    _expect(isinstance(layout, Layout), f"{subject}: layout gives an mmcl.api.Layout, found {type(layout).__name__}")
    others = {axis for axis in layout.axes if axis != "time"}
    _expect(
        others == set(layout.sizes) and all(isinstance(n, int) and n > 0 for n in layout.sizes.values()),
        f"{subject}: sizes gives a length for every axis but time ({', '.join(sorted(others))}); found {dict(layout.sizes)}",
    )
    _expect(
        not layout.timed or layout.axes[0] == "time", f"{subject}: time is the first axis, as stored streams are cut along it"
    )
    _expect(
        Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout,
        f"{subject}: the layout changes on its way through JSON ({layout}); notes hold JSON values only, as encoders.json "
        "keeps them",
    )
    _expect(spec.layout(params, source) == layout, f"{subject}: two calls of layout give different answers")


def _values(stream: Any) -> np.ndarray[Any, Any]:
    return np.asarray(stream.values if isinstance(stream, Timed) else stream)


def _modality_extract(spec: ModalitySpec, raw: Raw, source: Source, params: Any) -> None:
    layout = spec.layout(params, source)
    subject = f"modality '{spec.name}' of {source.type}, {layout}"
    before = copy.deepcopy(raw)
    stream = spec.build(params, source).extract(raw)
    _expect(
        _equal(before, raw), f"{subject}: extract changed the raw recording it was given; another modality may read it next"
    )
    values = _values(stream)
    shape = values.shape[1:] if layout.timed else values.shape
    _expect(
        values.ndim == len(layout.axes) and shape == layout.shape,
        f"{subject}: a stream has the axes {' × '.join(layout.axes)} with {layout.shape} a step, since the backbone is built "
        f"from the layout before any data is read; found an array of shape {values.shape}",
    )
    _expect(
        values.dtype == np.uint8 or values.dtype.kind == "f",
        f"{subject}: streams are float or uint8 (with `scale` in the layout); found {values.dtype}",
    )
    _expect(bool(np.isfinite(values).all()), f"{subject}: a NaN or an infinite value would spoil the whole batch; found one")
    if not layout.timed:
        _expect(not isinstance(stream, Timed), f"{subject}: a kind without time has no times; found Timed")
        return
    _expect(len(values) > 0, f"{subject}: no step at all; raise DataError for a recording that cannot be used")
    if isinstance(stream, Timed):
        times = np.asarray(stream.times)
        _expect(
            times.shape == (len(values), 2) and bool(np.isfinite(times).all()),
            f"{subject}: times are [T, 2], start and end of each of {len(values)} steps in seconds; found {times.shape}",
        )
        _expect(
            bool((times[:, 1] >= times[:, 0]).all() and (np.diff(times[:, 0]) >= 0).all()),
            f"{subject}: steps stand in the order of time and end after they start, since windows are cut from them; they "
            "don't",
        )
        _expect(layout.rate is None, f"{subject}: steps carry their own times, so the layout's rate is None")
        return
    _expect(
        layout.rate is not None and layout.rate > 0,
        f"{subject}: steps carry no times of their own (Timed), so the layout needs a rate; otherwise windows can't be cut in "
        "seconds",
    )
    seconds = _seconds(raw)
    if seconds is not None and layout.rate:
        _expect(
            abs(len(values) / layout.rate - seconds) <= max(0.25, 0.1 * seconds),
            f"{subject}: {len(values)} steps at {layout.rate:g} a second last {len(values) / layout.rate:.2f} s, but the "
            f"recording lasts {seconds:.2f} s; windows of two modalities would not show the same moment",
        )


def _modality_same(spec: ModalitySpec, raw: Raw, source: Source, params: Any) -> None:
    one, other = (spec.build(params, source).extract(raw) for _ in range(2))
    _expect(
        _equal(one, other),
        f"modality '{spec.name}' of {source.type}: two extractions of one recording differ; prepared streams are kept under a "
        "fingerprint and must be what a second run would make (seed any draw from the params)",
    )


def _seconds(raw: Raw) -> float | None:
    """How long a recording lasts, where it says so."""
    if isinstance(raw, Audio):
        return len(raw.samples) / raw.rate
    if isinstance(raw, Video):
        return len(raw.frames) / raw.rate
    if isinstance(raw, Words) or raw.rate is None:
        return None
    return len(raw.values) / raw.rate


def _equal(one: Any, other: Any) -> bool:
    """Whether two recordings or streams hold the same, NaN being equal to itself."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return bool(one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if hasattr(one, "__dataclass_fields__") and type(one) is type(other):
        return all(_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    return bool(one == other)


# -------------------------------------------------------------------------------------------------------------- backbone


def make_layouts(axes: tuple[str, ...]) -> list[Layout]:
    """Made-up layouts with these axes, small ones first; a backbone is checked on the first that its `fits` takes."""
    kind = "-".join(axes)
    rate = 25.0 if "time" in axes else None

    def one(joints: int, channels: int, side: int, graph: str) -> Layout:
        usual = {"joint": joints, "channel": channels, "height": side, "width": side}
        sizes = {axis: usual.get(axis, 5) for axis in axes if axis != "time"}
        return Layout(kind, axes, sizes, rate, notes={"graph": graph} if "joint" in axes else {})

    if "height" in axes:
        return [
            one(20, channels, side, "kinect-20") for channels, side in ((3, 32), (1, 32), (3, 64), (1, 64), (3, 112), (3, 224))
        ]
    if "joint" in axes:
        return [one(20, 3, 0, "kinect-20"), one(20, 6, 0, "kinect-20"), one(68, 2, 0, "face-68"), one(51, 2, 0, "face-51")]
    if "channel" not in axes:
        return [Layout(kind, axes, {axis: 1 for axis in axes if axis != "time"}, rate, notes={"vocab": 16})]
    return [one(0, channels, 0, "") for channels in (6, 30, 64, 128, 512)]


def make_stream(layout: Layout, lengths: Sequence[int], padding: int = 0, seed: int = 0) -> Stream:
    """A made-up stream whose rows have `lengths` real steps; `padding` more than the longest needs.

    A row's values depend on the seed and its place alone, never on padding or on the other rows. Without an axis `channel` they are
    ids, whole numbers from 1 to below the layout's `vocab`.
    """
    import torch

    def drawn(shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
        if layout.measured:
            return torch.randn(shape, generator=draw)
        return torch.randint(1, int(layout.notes.get("vocab", 2)), shape, generator=draw).float()

    draws = [torch.Generator().manual_seed(1000 * seed + row) for row in range(len(lengths))]
    present = torch.ones(len(lengths), dtype=torch.bool)
    if not layout.timed:
        values = torch.stack([drawn(layout.shape, draw) for draw in draws])
        return Stream(values, torch.ones(len(lengths), 1, dtype=torch.bool), present)
    steps = max(lengths) + padding
    values = torch.zeros(len(lengths), steps, *layout.shape)
    for row, (length, draw) in enumerate(zip(lengths, draws, strict=True)):
        values[row, :length] = drawn((length, *layout.shape), draw)
    return Stream(values, torch.arange(steps)[None, :] < torch.tensor(lengths)[:, None], present)


@dataclass(frozen=True)
class _BackboneCase:
    """One backbone with options, on one layout."""

    spec: BackboneSpec
    params: Any
    layout: Layout

    @property
    def subject(self) -> str:
        return f"backbone '{self.spec.name}' on {self.layout}"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Long, short and a single step, in one batch."""
        return (10, 3, 1, 6) if "height" in self.layout.axes else (24, 7, 1, 15)

    def stream(self, padding: int = 0, lengths: Sequence[int] | None = None) -> Stream:
        return make_stream(self.layout, self.lengths if lengths is None else lengths, padding)

    def build(self, seed: int = 0, params: Any = None) -> nn.Module:
        import torch
        from torch import nn

        torch.manual_seed(seed)
        network: Any = self.spec.build(self.params if params is None else params, self.layout)
        _expect(
            isinstance(network, nn.Module),
            f"{self.subject}: build gives a torch.nn.Module, so that it can be trained and saved; found "
            f"{type(network).__name__}",
        )
        return network  # type: ignore[no-any-return]  # a Module, checked above

    def used(self, seed: int = 0, params: Any = None) -> nn.Module:
        """A network as after some training: at first many biases are 0 and hide what padding does."""
        import torch

        network = self.build(seed, params)
        with torch.no_grad():
            network.train()
            network(self.stream(lengths=(max(self.lengths),) * 6))  # BatchNorm's running statistics move
            for parameter in network.parameters():
                if parameter.dim() <= 1:
                    parameter.add_(torch.randn(parameter.shape), alpha=0.1)
        return network.eval()


def _backbone_checks(spec: BackboneSpec, params: Any, layout: Layout | None) -> Iterator[Check]:
    params = spec.params() if params is None else params
    chosen = [layout]
    if layout is None:
        chosen = []
        for axes in spec.accepts:
            fitting = [one for one in make_layouts(axes) if _refusal(functools.partial(spec.fits, params, one)) is None]
            chosen.append(fitting[0] if fitting else None)
            if not fitting:
                yield f"a made-up {' × '.join(axes)} fits", functools.partial(_no_layout_fits, spec, params, axes)
    for one in chosen:
        if one is None:
            continue
        case = _BackboneCase(spec, params, one)
        for name, check in _BACKBONE.items():
            if spec.departs and name == "rows do not see each other":
                continue
            if one.timed or not name.startswith("more padding"):
                yield f"{name} ({' × '.join(one.axes)})", functools.partial(check, case)


def _no_layout_fits(spec: BackboneSpec, params: Any, axes: tuple[str, ...]) -> None:
    reasons = "; ".join(sorted({_refusal(functools.partial(spec.fits, params, one)) or "" for one in make_layouts(axes)}))
    raise NotTried(
        f"backbone '{spec.name}' takes none of the layouts {' × '.join(axes)} made up here ({reasons}); give it one that it "
        "takes: check_backbone(spec, layout=…)"
    )


def _close(got: Tensor, wanted: Tensor, tolerance: float, sentence: str) -> None:
    """Refuse a difference beyond `tolerance` of the largest value (of 1, where all are smaller)."""
    _expect(got.shape == wanted.shape, f"{sentence} (shapes {tuple(got.shape)} and {tuple(wanted.shape)})")
    if not got.numel():
        return
    got, wanted = got.detach().double(), wanted.detach().double()
    far = float((got - wanted).abs().max())
    allowed = tolerance * max(1.0, float(wanted.abs().max()))
    _expect(far <= allowed, f"{sentence} (by {far:.3g}, {allowed:.1g} is allowed)")  # a NaN is not ≤ either


def _real_steps(encoded: Encoded, row: int) -> Tensor:
    """The sequence of one row without its padding."""
    assert encoded.sequence is not None
    assert encoded.steps is not None
    return encoded.sequence[row][encoded.steps[row]]


def _same_encoding(got: Encoded, wanted: Encoded, rows: Sequence[tuple[int, int]], tolerance: float, sentence: str) -> None:
    """Compare rows of two encodings, (row of the one, row of the other)."""
    for left, right in rows:
        _close(got.vector[left], wanted.vector[right], tolerance, f"{sentence}: the vector differs")
        if got.sequence is not None and wanted.sequence is not None:
            _close(_real_steps(got, left), _real_steps(wanted, right), tolerance, f"{sentence}: the sequence differs")


def _backbone_fits(case: _BackboneCase) -> None:
    _expect(
        case.layout.axes in case.spec.accepts,
        f"{case.subject}: accepts names {case.spec.accepts}, so a recipe could never hand it this layout",
    )
    refusal = _refusal(functools.partial(case.spec.fits, case.params, case.layout))
    if refusal is not None:
        raise AssertionError(f"{case.subject}: fits refuses this layout: {refusal}")


def _backbone_shapes(case: _BackboneCase) -> None:
    import torch

    network: Any = case.build().eval()
    width = getattr(network, "width", None)
    _expect(
        isinstance(width, int) and width > 0,
        f"{case.subject}: `width`, the size of its vector, is an attribute of the network and a positive whole number; found "
        f"{width!r}",
    )
    for lengths in (case.lengths, (1,), (max(case.lengths),)):
        stream = case.stream(lengths=lengths)
        before = stream.values.clone(), stream.steps.clone()
        encoded = network(stream)
        where = f"{case.subject}, {len(lengths)} rows of {max(lengths)} steps"
        _expect(isinstance(encoded, Encoded), f"{where}: gives an mmcl.api.Encoded, found {type(encoded).__name__}")
        _expect(
            encoded.vector.shape == (len(lengths), width),
            f"{where}: the vector is [rows, width] = {(len(lengths), width)}, found {tuple(encoded.vector.shape)}",
        )
        _expect(bool(encoded.vector.isfinite().all()), f"{where}: the vector holds a NaN or an infinite value")
        _expect(
            torch.equal(before[0], stream.values) and torch.equal(before[1], stream.steps),
            f"{where}: the stream it was given is changed; the batch is used again after it",
        )
        if encoded.sequence is None and encoded.steps is None:
            continue
        _expect(
            encoded.sequence is not None and encoded.steps is not None,
            f"{where}: a sequence comes together with its steps, since a head has to know which are real",
        )
        _expect(
            encoded.sequence.dim() == 3
            and encoded.sequence.shape[0] == len(lengths)
            and encoded.steps.shape == encoded.sequence.shape[:2]
            and encoded.steps.dtype == torch.bool,
            f"{where}: sequence is [rows, T', D] and steps bool [rows, T']; found {tuple(encoded.sequence.shape)} and "
            f"{encoded.steps.dtype} {tuple(encoded.steps.shape)}",
        )
        _expect(bool(encoded.steps.any(1).all()), f"{where}: a row of the sequence has no real step left")
        _expect(bool(_real_steps(encoded, 0).isfinite().all()), f"{where}: the sequence holds a NaN or an infinite value")


def _backbone_repeats(case: _BackboneCase) -> None:
    import torch

    one, other = case.build(seed=5), case.build(seed=5)
    weights, again = one.state_dict(), other.state_dict()
    for name in weights:
        _expect(
            torch.equal(weights[name], again[name]),
            f"{case.subject}: two networks built under one torch seed differ in '{name}'; draw first weights from torch's "
            "generator alone, or no run can be repeated",
        )
    network, stream = case.used(), case.stream()
    _expect(
        torch.equal(network(stream).vector, network(stream).vector),
        f"{case.subject}: in eval mode, two calls on one stream give different vectors; is a dropout applied without asking "
        "`self.training`?",
    )


PADDING = (
    "Padded steps are zeros and False in stream.steps; leave them out of every sum, mean, maximum, softmax and normalisation, "
    "and set them to zero again before a convolution: otherwise a recording's vector depends on which batch it is in"
)


def _backbone_padding(case: _BackboneCase) -> None:
    import torch

    network = case.used()
    rows = [(i, i) for i in range(len(case.lengths))]
    with torch.no_grad():
        wanted = network(case.stream())
        for padding in (1, 9):
            got = network(case.stream(padding))
            sentence = f"{case.subject}: {padding} more padded steps change what it makes of a recording. {PADDING}"
            _same_encoding(got, wanted, rows, 1e-5, sentence)


def _without_dropout(case: _BackboneCase) -> nn.Module:
    """The network in train mode with nothing random left, as far as that can be reached from outside."""
    from torch import nn

    still = {
        name: 0.0 for name in type(case.params).model_fields if "drop" in name and isinstance(getattr(case.params, name), float)
    }
    network = case.used(params=case.params.model_copy(update=still))
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network.train()


def _backbone_training(case: _BackboneCase) -> None:
    import torch

    network = _without_dropout(case)
    copies = [copy.deepcopy(network) for _ in range(4)]
    rows = [(i, i) for i in range(len(case.lengths))]
    with torch.no_grad():
        torch.manual_seed(1)
        wanted = copies[0](case.stream())
        torch.manual_seed(2)
        again = copies[1](case.stream())
        if not torch.equal(wanted.vector, again.vector):
            raise NotTried(
                f"{case.subject}: with its dropout at 0 it is still random in train mode, so padding can't be told from "
                "chance; pass params that switch everything random off"
            )
        got = copies[2](case.stream(padding=9))
    sentence = f"{case.subject}: in train mode, more padded steps change what it makes of a recording. {PADDING}"
    _same_encoding(got, wanted, rows, 1e-4, sentence)
    for (name, one), (_, other) in zip(copies[0].named_buffers(), copies[2].named_buffers(), strict=True):
        _close(
            other.float(),
            one.float(),
            1e-4,
            f"{case.subject}: in train mode, more padded steps change '{name}'. Normalise over real steps alone, as in "
            "norm(x[stream.steps]); statistics that hold filler are wrong for every later recording",
        )


def _backbone_rows(case: _BackboneCase) -> None:
    import torch

    network = case.used()
    lengths = case.lengths
    with torch.no_grad():
        together = network(case.stream())
        order = [2, 0, 3, 1]
        stream = case.stream()
        turned = network(Stream(stream.values[order], stream.steps[order], stream.present[order]))
        sentence = f"{case.subject}: in eval mode, rows in another order give other vectors. A recording's vector is its own"
        _same_encoding(turned, together, list(enumerate(order)), 1e-5, sentence)
        changed = case.stream()
        other = 3 * changed.values if case.layout.measured else make_stream(case.layout, lengths, seed=1).values
        changed.values[1:] = other[1:]
        sentence = (
            f"{case.subject}: in eval mode, other recordings in the batch change a recording's vector. Normalise with running "
            "statistics there (BatchNorm does, in eval mode), never with the batch's own"
        )
        _same_encoding(network(changed), together, [(0, 0)], 1e-5, sentence)
        for row in range(len(lengths)):
            length = lengths[row] if case.layout.timed else stream.values.shape[1]
            alone = Stream(
                stream.values[row : row + 1, :length], stream.steps[row : row + 1, :length], stream.present[row : row + 1]
            )
            what = f"of {length} step(s) " if case.layout.timed else ""
            sentence = f"{case.subject}: in eval mode, a recording {what}alone is not encoded as within a batch. {PADDING}"
            _same_encoding(network(alone), together, [(0, row)], 1e-5, sentence)


def _backbone_gradient(case: _BackboneCase) -> None:
    network = case.used().train()
    encoded = network(case.stream())
    total = encoded.vector.float().square().sum()
    if encoded.sequence is not None:
        total = total + sum(_real_steps(encoded, row).float().square().sum() for row in range(len(case.lengths)))
    _expect(total.requires_grad, f"{case.subject}: the vector has no gradient at all; is something detached, or under no_grad?")
    total.backward()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            raise AssertionError(
                f"{case.subject}: parameter '{name}' gets no gradient: it is unused, or cut off by detach; distributed "
                "training would wait for it for ever. Leave it out, or set requires_grad=False if it is meant to stay as it is"
            )
        _expect(
            bool(parameter.grad.isfinite().all()), f"{case.subject}: the gradient of '{name}' holds a NaN or an infinite value"
        )


def _backbone_saving(case: _BackboneCase) -> None:
    import torch

    network = case.used(seed=1)
    saved = _through_safetensors(network, case.subject)
    again = replace(case, spec=replace(case.spec, build=case.spec.rebuild or case.spec.build))
    other = again.build(seed=2).eval()
    try:
        other.load_state_dict(saved)
    except RuntimeError as error:
        raise AssertionError(
            f"{case.subject}: saved weights do not fit a network that is built for them ({str(error).splitlines()[-1].strip()}); `rebuild`, "
            "where there is one, gives the network that `build` gives, whatever its weights"
        ) from error
    with torch.no_grad():
        same = torch.equal(network(case.stream()).vector, other(case.stream()).vector)
    _expect(
        same,
        f"{case.subject}: saved weights, loaded into a newly built network, give other vectors; what `build` draws or training "
        "moves must be a parameter or a persistent buffer",
    )


def _through_safetensors(network: nn.Module, subject: str) -> dict[str, Tensor]:
    """The weights as they come back from a file."""
    from safetensors.torch import load as read
    from safetensors.torch import save as write

    try:
        found: dict[str, Tensor] = read(
            write({name: value.detach().contiguous() for name, value in network.state_dict().items()})
        )
    except (RuntimeError, ValueError, AttributeError) as error:
        raise AssertionError(
            f"{subject}: its state_dict cannot be kept as safetensors ({error}); it holds tensors only, no two of which share "
            "memory"
        ) from error
    return found


def _backbone_half(case: _BackboneCase) -> None:
    import torch

    network = case.used().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vector = network(case.stream()).vector
    vector.float().square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    _expect(
        bool(vector.isfinite().all()) and all(bool(g.isfinite().all()) for g in gradients),
        f"{case.subject}: under bfloat16 autocast the vector or a gradient is not finite; do exponentials, divisions and sums "
        "over many steps in float32, and mask with torch.finfo(x.dtype).min",
    )


_BACKBONE: Mapping[str, Callable[[_BackboneCase], None]] = {
    "it takes this layout": _backbone_fits,
    "shapes and width are as promised": _backbone_shapes,
    "one seed gives one network, one stream one vector": _backbone_repeats,
    "more padding changes nothing": _backbone_padding,
    "more padding changes nothing while training": _backbone_training,
    "rows do not see each other": _backbone_rows,
    "every parameter gets a gradient": _backbone_gradient,
    "saved weights come back exactly": _backbone_saving,
    "half precision stays finite": _backbone_half,
}


# ------------------------------------------------------------------------------------------------------------------ loss


def make_pair(anchors: int = 6, candidates: int = 9, width: int = 5, seed: int = 0, ignored: float = 0.15) -> Pair:
    """A made-up pair in float64: row i belongs to candidate i and to some others; some candidates are ignored.

    Every anchor and every one of the first candidates has at least one positive and one negative.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, width, generator=draw, dtype=torch.float64) for n in (anchors, candidates))
    near = torch.eye(anchors, candidates, dtype=torch.bool)
    apart = near.roll(1, 1)
    positive = near | (torch.rand(anchors, candidates, generator=draw) < 0.2) & ~apart
    ignore = (torch.rand(anchors, candidates, generator=draw) < ignored) & ~positive & ~apart
    return Pair(left, right, positive, ignore)


def _rows(pair: Pair, rows: Any) -> Pair:
    """The pair of some of its anchors."""
    return Pair(pair.left[rows], pair.right, pair.positive[rows], pair.ignore[rows])


def _orphaned(pair: Pair) -> Pair:
    """The same pair, but anchors 0 and 3 have no positive, and anchor 1 has nothing at all."""
    positive, ignore = pair.positive.clone(), pair.ignore.clone()
    positive[[0, 1, 3]] = False
    ignore[1] = True
    return Pair(pair.left, pair.right, positive, ignore)


@dataclass(frozen=True)
class _LossCase:
    spec: LossSpec
    params: Any
    brute_force: Callable[[Pair], float] | None

    @property
    def subject(self) -> str:
        return f"loss '{self.spec.name}'"

    def build(self) -> PairLoss:
        """The loss in double precision, in which the made-up pairs are."""
        import torch
        from torch import nn

        torch.manual_seed(0)
        loss = self.spec.build(self.params)
        if isinstance(loss, nn.Module):
            loss.double()
        return loss


def _loss_checks(spec: LossSpec, params: Any, brute_force: Callable[[Pair], float] | None) -> Iterator[Check]:
    case = _LossCase(spec, spec.params() if params is None else params, brute_force)
    for name, check in _LOSS.items():
        if brute_force is not None or check is not _loss_brute_force:
            yield name, functools.partial(check, case)


def _loss_answer(case: _LossCase) -> None:
    import torch
    from torch import nn

    loss: Any = case.build()
    reduction, symmetric = getattr(loss, "reduction", None), getattr(loss, "symmetric", None)
    _expect(
        reduction in ("mean", "sum", "whole"),
        f"{case.subject}: `reduction` is 'mean', 'sum' or 'whole', by which the toolkit knows whether big batches may be "
        f"scored in blocks of rows; found {reduction!r}",
    )
    _expect(isinstance(symmetric, bool), f"{case.subject}: `symmetric` is True or False; found {symmetric!r}")
    if isinstance(loss, nn.Module):
        for name, parameter in loss.named_parameters():
            _expect(
                parameter.dim() == 1,
                f"{case.subject}: learned parts are 1-d, as sharded training can't split a scalar and weight decay must know "
                f"them; '{name}' has {parameter.dim()} dimensions",
            )
    pair = make_pair()
    pair.left.requires_grad_()
    pair.similarity()
    assert pair.cosine is not None
    before = [t.detach().clone() for t in (pair.left, pair.right, pair.positive, pair.ignore, pair.cosine)]
    scored = loss(pair)
    _expect(isinstance(scored, Scored), f"{case.subject}: gives an mmcl.api.Scored, found {type(scored).__name__}")
    _expect(
        scored.loss.dim() == 0 and scored.loss.is_floating_point() and scored.loss.requires_grad,
        f"{case.subject}: `loss` is one number with a gradient; found shape {tuple(scored.loss.shape)}, {scored.loss.dtype}, "
        f"requires_grad={scored.loss.requires_grad}",
    )
    _expect(
        scored.loss.dtype == torch.float64,
        f"{case.subject}: embeddings in float64 give a loss in {scored.loss.dtype}; raise half precision to float32, but leave "
        "float64 alone, in which chunked, distributed and resumed training are proven equal",
    )
    _expect(
        isinstance(scored.anchors, torch.Tensor) and scored.anchors.numel() == 1,
        f"{case.subject}: `anchors` is a tensor of one number",
    )
    for name, value in scored.metrics.items():
        _expect(
            isinstance(value, torch.Tensor) and value.numel() == 1 and not value.requires_grad,
            f"{case.subject}: metric '{name}' is a detached tensor of one number, or the log would keep every batch's graph "
            "alive",
        )
    after = (pair.left, pair.right, pair.positive, pair.ignore, pair.cosine)
    for name, old, new in zip(("left", "right", "positive", "ignore", "cosine"), before, after, strict=True):
        _expect(
            torch.equal(old, new.detach()),
            f"{case.subject}: pair.{name} is changed in place; the same tensors are scored again in the other direction",
        )
    _close(
        loss(make_pair()).loss,
        scored.loss,
        1e-12,
        f"{case.subject}: it scores one pair differently when the cosines are worked out beforehand, or when asked twice",
    )


def _loss_brute_force(case: _LossCase) -> None:
    import torch

    assert case.brute_force is not None
    loss = case.build()
    pairs = {
        "as many candidates as anchors": make_pair(6, 6),
        "more candidates than anchors": make_pair(6, 9, seed=1),
        "nothing ignored": make_pair(5, 7, seed=2, ignored=0.0),
        "anchors without positives": _orphaned(make_pair(7, 7, seed=3)),
    }
    for what, pair in pairs.items():
        wanted = torch.tensor(case.brute_force(pair), dtype=torch.float64)
        _close(loss(pair).loss, wanted, 1e-6, f"{case.subject}, {what}: differs from the brute-force computation, {wanted:.6g}")


def _loss_order(case: _LossCase) -> None:
    import torch

    loss = case.build()
    for size in ((6, 6), (6, 9)):
        pair = make_pair(*size)
        draw = torch.Generator().manual_seed(4)
        rows, columns = (torch.randperm(n, generator=draw) for n in size)  # not the same order on both sides
        turned = Pair(pair.left[rows], pair.right[columns], pair.positive[rows][:, columns], pair.ignore[rows][:, columns])
        _close(
            loss(turned).loss,
            loss(pair).loss,
            1e-9,
            f"{case.subject}, {size[0]} anchors and {size[1]} candidates: the loss changes when anchors and candidates come in "
            "another order, masks with them. Read who belongs to whom from pair.positive[anchor, candidate] alone, never from "
            "places in the batch",
        )


def _loss_anchors(case: _LossCase) -> None:
    loss = case.build()
    for size in ((7, 7), (7, 9)):
        whole = _orphaned(make_pair(*size))
        learning = whole.positive.any(1)
        scored, wanted = loss(whole), loss(_rows(whole, learning))
        _expect(
            int(scored.anchors) == int(wanted.anchors) == int(learning.sum()),
            f"{case.subject}: `anchors` counts the anchors that had something to learn from. Of 7 anchors, "
            f"{int(learning.sum())} have a positive and a negative; found {int(scored.anchors)}, and {int(wanted.anchors)} "
            "without the others. Means over blocks and processes are weighted by this count",
        )
        _expect(
            bool(scored.loss.isfinite()), f"{case.subject}: an anchor without a positive makes the loss {scored.loss.item()}"
        )
        if loss.reduction != "whole":
            _close(
                scored.loss,
                wanted.loss,
                1e-9,
                f"{case.subject}: anchors without a positive change the loss of the others; leave them out of the sum and of "
                "what it is divided by",
            )


def _loss_nothing(case: _LossCase) -> None:
    import torch

    for what in ("positive", "candidate left: all are ignored", "negative"):
        pair = make_pair()
        positive = torch.ones_like(pair.positive) if what == "negative" else torch.zeros_like(pair.positive)
        ignore = torch.full_like(pair.ignore, what.startswith("candidate"))
        left, right = pair.left.requires_grad_(), pair.right.requires_grad_()
        scored = case.build()(Pair(left, right, positive, ignore))
        where = f"{case.subject}, where no anchor has a {what}"
        _expect(
            bool(scored.loss.isfinite()) and scored.loss.requires_grad,
            f"{where}: the loss is finite and has a gradient (of zeros), since every process takes part in the step; found "
            f"{scored.loss.item()}, requires_grad={scored.loss.requires_grad}",
        )
        if what != "negative":
            _expect(int(scored.anchors) == 0, f"{where}: `anchors` is 0, found {int(scored.anchors)}")
        scored.loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there
        for name, tensor in (("left", left), ("right", right)):
            _expect(
                tensor.grad is None or bool(tensor.grad.isfinite().all()),
                f"{where}: the gradient of {name} is not finite; one such batch ends a run. Mask with torch.where or "
                "masked_fill before the logarithm, not after it",
            )


def _loss_blocks(case: _LossCase) -> None:
    import torch

    loss = case.build()
    if loss.reduction == "whole":
        return
    for pair in (make_pair(7, 9), _orphaned(make_pair(7, 7))):
        whole = loss(pair)
        parts = [loss(_rows(pair, slice(start, end))) for start, end in ((0, 1), (1, 2), (2, 3), (3, 7))]
        if loss.reduction == "mean":
            total = torch.stack([part.loss * part.anchors for part in parts]).sum() / sum(part.anchors for part in parts)
        else:
            total = torch.stack([part.loss for part in parts]).sum()
        _close(
            total,
            whole.loss,
            1e-9,
            f"{case.subject} says reduction = '{loss.reduction}', but blocks of rows put together again (weighted by their "
            "anchors, for a mean) are not the whole. Divide a mean by the number of anchors, or say 'sum' or 'whole'",
        )
        _expect(
            sum(int(part.anchors) for part in parts) == int(whole.anchors),
            f"{case.subject}: the anchors of blocks of rows do not add up to those of the whole, {int(whole.anchors)}",
        )


def _loss_gradient(case: _LossCase) -> None:
    import torch
    from torch import nn

    for what in ("random", "large", "equal", "bfloat16"):
        torch.manual_seed(0)
        loss = case.spec.build(case.params)
        pair = make_pair()
        dtype = torch.bfloat16 if what == "bfloat16" else torch.float32
        left = (pair.left * (1e3 if what == "large" else 1)).to(dtype).requires_grad_()
        right = (pair.left[torch.arange(9) % 6] if what == "equal" else pair.right).detach().to(dtype).requires_grad_()
        scored = loss(Pair(left, right, pair.positive, pair.ignore))
        _expect(bool(scored.loss.isfinite()), f"{case.subject}: {what} embeddings give the loss {scored.loss.item()}")
        scored.loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there
        tensors = [("left", left), ("right", right)]
        if isinstance(loss, nn.Module):
            tensors += [(name, p) for name, p in loss.named_parameters() if p.requires_grad]
        for name, tensor in tensors:
            if tensor.grad is None:
                raise AssertionError(f"{case.subject}: '{name}' gets no gradient")
            _expect(
                bool(tensor.grad.isfinite().all()),
                f"{case.subject}: {what} embeddings give '{name}' a gradient that is not finite",
            )
        if what == "random":
            _expect(
                bool(left.grad.any() and right.grad.any()) if left.grad is not None and right.grad is not None else False,
                f"{case.subject}: random embeddings get a gradient of zero on one side, so one encoder would learn nothing",
            )


def _loss_slope(case: _LossCase) -> None:
    import torch

    loss = case.build()
    pair = make_pair(4, 5, 3)

    def value(left: Tensor, right: Tensor) -> Tensor:
        return loss(Pair(left, right, pair.positive, pair.ignore)).loss

    try:
        torch.autograd.gradcheck(value, (pair.left.requires_grad_(), pair.right.requires_grad_()))
    except RuntimeError as error:
        raise AssertionError(
            f"{case.subject}: in float64 the gradient is not the slope of the loss (finite differences): something is "
            f"detached, rounded to float32, or worked out under no_grad. {error}"
        ) from error


def _loss_symmetry(case: _LossCase) -> None:
    loss = case.build()
    if not loss.symmetric:
        return
    pair = make_pair(6, 6)
    swapped = Pair(pair.right, pair.left, pair.positive.T, pair.ignore.T)
    _close(
        loss(swapped).loss,
        loss(pair).loss,
        1e-9,
        f"{case.subject} says symmetric = True, so only one direction is ever scored, but left and right swapped give another "
        "loss",
    )


_LOSS: Mapping[str, Callable[[_LossCase], None]] = {
    "its answer is complete and its input untouched": _loss_answer,
    "it equals brute force": _loss_brute_force,
    "the order of rows does not matter": _loss_order,
    "anchors without positives are left out": _loss_anchors,
    "nothing to learn from is finite": _loss_nothing,
    "blocks of rows add up to the whole": _loss_blocks,
    "gradients are finite and reach both sides": _loss_gradient,
    "the gradient is the slope": _loss_slope,
    "symmetric means symmetric": _loss_symmetry,
}


# ------------------------------------------------------------------------------------------------------------- positives


def _some_items(items: Items, rows: Tensor) -> Items:
    targets = {name: target[rows] for name, target in items.targets.items()}
    return Items(items.row[rows], items.view[rows], targets, items.modality)


def _positives_checks(spec: PositivesSpec, params: Any, items: Items | None) -> Iterator[Check]:
    params = spec.params() if params is None else params
    yield "it gives two disjoint masks", lambda: _positives_masks(spec, params, items)
    yield "it looks at each couple of rows alone", lambda: _positives_couples(spec, params, items)


def _made_items(spec: PositivesSpec, params: Any, items: Items | None) -> Items:
    """Rows of seven recordings, three of them in two windows."""
    import torch

    if items is not None:
        return items
    row = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 3, 5])
    view = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    needs = spec.needs(params, ("one",))
    made = Items(row, view, dict.fromkeys(needs, row % 4), "one")
    try:
        spec.build(params)(made, _some_items(made, row[:3]))
    except (RuntimeError, IndexError):  # it wants values, such as places in a plane
        places = torch.stack([(row % 4) / 4, (row % 3) / 3], 1)
        return Items(row, view, dict.fromkeys(needs, places), "one")
    return made


def _positives_of(spec: PositivesSpec, params: Any, given: Items | None, left: Items, right: Items) -> tuple[Tensor, Tensor]:
    try:
        return spec.build(params)(left, right)
    except Exception as error:
        needs = spec.needs(params, ("one",))
        if given is None and needs:
            raise NotTried(
                f"positives '{spec.name}' cannot use made-up classes for {', '.join(needs)} ({type(error).__name__}: "
                f"{error}); give rows with targets of its sort: check_positives(spec, items=…)"
            ) from error
        raise


def _positives_masks(spec: PositivesSpec, params: Any, given: Items | None) -> None:
    import torch

    items = _made_items(spec, params, given)
    subject = f"positives '{spec.name}'"
    for left, right in ((items, items), (_some_items(items, torch.arange(3)), items)):
        wanted = (len(left.row), len(right.row))
        masks = _positives_of(spec, params, given, left, right)
        for name, mask in zip(("positive", "ignore"), masks, strict=True):
            _expect(
                mask.dtype == torch.bool and tuple(mask.shape) == wanted,
                f"{subject}: `{name}` is bool [anchors, candidates] = {wanted}; found {mask.dtype} {tuple(mask.shape)}",
            )
        positive, ignore = masks
        _expect(not bool((positive & ignore).any()), f"{subject}: a candidate is positive and ignored at once")
        itself = (left.row[:, None] == right.row[None, :]) & (left.view[:, None] == right.view[None, :])
        _expect(
            not bool((itself & ~positive & ~ignore).any()),
            f"{subject}: a window is a negative of itself seen in another modality; make it a positive, or ignore it",
        )


def _positives_couples(spec: PositivesSpec, params: Any, given: Items | None) -> None:
    import torch

    items = _made_items(spec, params, given)
    whole = _positives_of(spec, params, given, items, items)
    rows, columns = (torch.randperm(len(items.row), generator=torch.Generator().manual_seed(seed))[:5] for seed in (0, 1))
    some = _positives_of(spec, params, given, _some_items(items, rows), _some_items(items, columns))
    for name, one, other in zip(("positive", "ignore"), whole, some, strict=True):
        _expect(
            torch.equal(one[rows][:, columns], other),
            f"positives '{spec.name}': `{name}` of a couple of rows depends on the other rows or on their order; big batches "
            "are scored in blocks and gathered from several processes, so it must be the couple's own",
        )


# --------------------------------------------------------------------------------------------------------------- dataset


def _dataset_checks(spec: DatasetSpec, tmp_path: Path, params: Any) -> Iterator[Check]:
    params = spec.params() if params is None else params
    case = _DatasetCase(spec, params, tmp_path)
    yield "info is complete and reads no data", lambda: _dataset_info(case)
    if spec.needs_root:
        yield "a missing folder is refused in a sentence", lambda: _dataset_missing(case)
    yield "its recordings are in order", lambda: _dataset_samples(case)
    yield "what it reads is what info says", lambda: _dataset_read(case)
    if spec.needs_root:
        yield "a damaged file is refused by name", lambda: _dataset_damage(case)


@dataclass(frozen=True)
class _DatasetCase:
    spec: DatasetSpec
    params: Any
    tmp_path: Path

    @property
    def subject(self) -> str:
        return f"dataset '{self.spec.name}'"

    def info(self) -> DatasetInfo:
        return self.spec.info(self.params)

    def root(self) -> Path | None:
        """A tiny copy of the data, written once."""
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
        return self.spec.build(self.params, self.root())


def _dataset_info(case: _DatasetCase) -> None:
    info = case.info()
    subject = case.subject
    _expect(isinstance(info, DatasetInfo), f"{subject}: info gives an mmcl.api.DatasetInfo, found {type(info).__name__}")
    _expect(case.info() == info, f"{subject}: two calls of info give different answers; plans are compared by it")
    _expect(bool(info.sources), f"{subject}: info names no source, so no modality can be built on it")
    for name, source in info.sources.items():
        _expect(source.type in RAW, f"{subject}: source '{name}' is of type {source.type!r}; known: {', '.join(RAW)}")
        json.dumps(dict(source.notes))
    for name, task in info.tasks.items():
        _expect(task.name == name, f"{subject}: the task under '{name}' calls itself '{task.name}'")
        _expect(
            task.type in ("single-label", "multi-label", "regression"),
            f"{subject}: task '{name}' is of type {task.type!r}; known: single-label, multi-label, regression",
        )
        least = {"single-label": 2, "multi-label": 1, "regression": 0}[task.type]
        _expect(
            len(set(task.classes)) == len(task.classes) >= least,
            f"{subject}: task '{name}' needs different names for its classes, at least {least}; found {task.classes}",
        )
    _expect(
        bool(info.group.strip()), f"{subject}: `group` names what must never stand on both sides of a split, such as speaker"
    )
    _expect(
        set(info.official) <= {"train", "valid", "test"},
        f"{subject}: official splits are of train, valid and test; found {info.official}",
    )


def _dataset_missing(case: _DatasetCase) -> None:
    nowhere = case.tmp_path / "nowhere"
    try:
        case.spec.build(case.params, nowhere).samples()
    except DataError as error:
        _expect(
            str(nowhere) in str(error) and "\n" not in str(error),
            f"{case.subject}: the sentence about a missing folder names it ({nowhere}); found: {error}",
        )
        return
    raise AssertionError(
        f"{case.subject}: a missing folder raises DataError from `samples`, saying how to get the data; nothing was raised"
    )


def _dataset_samples(case: _DatasetCase) -> None:
    info, subject = case.info(), case.subject
    samples = list(case.build().samples())
    _expect(bool(samples), f"{subject}: the tiny copy that `sample` wrote holds no recording")
    _expect(
        samples == list(case.build().samples()),
        f"{subject}: listed twice, recordings come in another order or with other facts; sort what the folder gives",
    )
    ids = [ref.id for ref in samples]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    _expect(
        not twice,
        f"{subject}: ids are unique, since streams and splits are kept under them; found twice: {', '.join(twice[:3])}",
    )
    sides: dict[str, str] = {}
    for ref in samples:
        where = f"{subject}, recording '{ref.id}'"
        _expect(isinstance(ref, SampleRef) and isinstance(ref.id, str) and bool(ref.id), f"{where}: has an id that is a text")
        _expect(
            isinstance(ref.group, str) and bool(ref.group.strip()),
            f"{where}: has no {info.group} as its group; without one it could stand on both sides of a split",
        )
        unknown = sorted(set(ref.sources) - set(info.sources))
        _expect(not unknown, f"{where}: has sources that info does not know: {', '.join(unknown)}")
        for source, place in ref.sources.items():
            _expect(
                isinstance(place, str) and bool(place) and not Path(place).is_absolute(),
                f"{where}: '{source}' is a path relative to the root, so that data can be moved; found {place!r}",
            )
        for task, target in ref.targets.items():
            _expect(task in info.tasks, f"{where}: has a target for '{task}', a task that info does not know")
            problem = _target_problem(info.tasks[task], target)
            _expect(problem is None, f"{where}: its target for '{task}' {problem}; found {target!r}")
        if ref.split is not None:
            _expect(
                ref.split in info.official,
                f"{where}: is in the official split '{ref.split}'; info.official names {list(info.official)}",
            )
            side = sides.setdefault(ref.group, ref.split)
            _expect(
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


def _dataset_read(case: _DatasetCase) -> None:
    info, dataset = case.info(), case.build()
    unread = set(info.sources)
    for ref in dataset.samples():
        for name in ref.sources:
            if name not in unread:
                continue
            unread.discard(name)
            raw = dataset.read(ref.id, name)
            problem = _raw_problem(info.sources[name], raw)
            _expect(problem is None, f"{case.subject}, '{name}' of recording '{ref.id}': {problem}")
            _expect(
                _equal(raw, case.build().read(ref.id, name)),
                f"{case.subject}, '{name}' of recording '{ref.id}': read twice, it is not the same",
            )
    _expect(
        not unread,
        f"{case.subject}: info offers {', '.join(sorted(unread))}, but no recording of the tiny copy has it; let `sample` "
        "write every source",
    )


def _raw_problem(source: Source, raw: Any) -> str | None:
    """What is wrong with a raw recording, given its source's description; or None."""
    kind = RAW[source.type]
    if not isinstance(raw, kind):
        return f"a source of type '{source.type}' gives mmcl.api.{kind.__name__}, found {type(raw).__name__}"
    rate = None if isinstance(raw, Words) else raw.rate
    if rate is not None and not rate > 0:
        return f"its rate is above 0, found {rate}"
    if source.rate is not None and rate != source.rate:
        return f"info says {source.rate:g} a second, the recording {rate}"
    if isinstance(raw, Words):
        if not raw.words or not all(isinstance(word, str) for word in raw.words):
            return "words are texts, at least one"
        if raw.times is not None and (raw.times.shape != (len(raw.words), 2) or not np.isfinite(raw.times).all()):
            return f"times are [words, 2] in seconds, found {raw.times.shape}"
        return None
    values = raw.samples if isinstance(raw, Audio) else raw.frames if isinstance(raw, Video) else raw.values
    if not len(values):
        return "it is empty; raise DataError for a recording that cannot be used"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return "it holds a NaN or an infinite value; raise DataError, naming file and row"
    shape = tuple(source.notes.get("shape", ()))
    if isinstance(raw, Audio):
        if values.dtype != np.float32 or values.ndim != 1 or np.abs(values).max() > 1:
            return f"samples are float32 [n] in [-1, 1], found {values.dtype} {values.shape} up to {np.abs(values).max():.3g}"
    elif isinstance(raw, Video):
        if values.dtype != np.uint8 or values.ndim != 4:
            return f"frames are uint8 [T, channel, height, width], found {values.dtype} {values.shape}"
    elif isinstance(raw, Table):
        columns = source.notes.get("columns")
        if values.dtype != np.float32 or values.shape[1:] != (len(raw.columns),):
            return f"values are float32 [T, columns], found {values.dtype} {values.shape} for {len(raw.columns)} columns"
        if columns is not None and tuple(columns) != tuple(raw.columns):
            return "its columns are not the ones that info names"
    if shape and not isinstance(raw, Audio | Table) and values.shape[1:] != shape:
        return f"info says steps of shape {shape}, the recording has {values.shape[1:]}"
    return None


def _dataset_damage(case: _DatasetCase) -> None:
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
                    _damage(case, ref, source, path, what)
                finally:
                    path.write_bytes(whole)


def _damage(case: _DatasetCase, ref: SampleRef, source: str, path: Path, what: str) -> None:
    try:
        case.build().read(ref.id, source)
    except DataError as error:
        _expect(
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


# ------------------------------------------------------------------------------------------------------------------ head

_WIDTHS = {"voice": 8, "face": 6}


@dataclass(frozen=True)
class _HeadCase:
    spec: HeadSpec
    params: Any
    task: Task

    @property
    def subject(self) -> str:
        return f"head '{self.spec.name}' for {self.task.type}"

    @property
    def outputs(self) -> int:
        return len(self.task.classes)

    def build(self, widths: Mapping[str, int] | None = None, seed: int = 0) -> nn.Module:
        import torch
        from torch import nn

        torch.manual_seed(seed)
        head: Any = self.spec.build(self.params, self.task, _WIDTHS if widths is None else widths)
        _expect(isinstance(head, nn.Module), f"{self.subject}: build gives a torch.nn.Module, found {type(head).__name__}")
        return head  # type: ignore[no-any-return]  # a Module, checked above

    def rows(self, count: int, seed: int, missing: bool = False) -> Labelled:
        """Separable rows: each modality shows the target through a fixed random matrix, with a little noise."""
        import torch

        draw = torch.Generator().manual_seed(seed)
        if self.task.type == "single-label":
            target = torch.arange(count) % self.outputs
            shown = torch.nn.functional.one_hot(target, self.outputs).float() * 3 - 1
        elif self.task.type == "multi-label":
            target = (torch.rand(count, self.outputs, generator=draw) < 0.5).float()
            shown = target * 2 - 1
        else:
            target = torch.randn(count, self.outputs, generator=draw)
            shown = target
        fixed = torch.Generator().manual_seed(99)
        encoded = {}
        for name, width in _WIDTHS.items():
            vector = shown @ torch.randn(self.outputs, width, generator=fixed) + 0.1 * torch.randn(count, width, generator=draw)
            present = torch.ones(count, dtype=torch.bool)
            if missing and name == "face":
                present[::4] = False
            encoded[name] = Encoded(vector * present[:, None], present=present)
        return Labelled(encoded, target)

    @functools.cached_property
    def fitted(self) -> nn.Module:
        """The head, fitted on rows of which nothing is missing."""
        return _fitted(self, self.rows(96, 1), self.rows(48, 2))


def _head_checks(spec: HeadSpec, params: Any) -> Iterator[Check]:
    params = spec.params() if params is None else params
    for kind in spec.tasks:
        case = _HeadCase(spec, params, Task("made-up", kind, ("happy", "sad", "angry") if kind != "regression" else ("x", "y")))
        for name, check in _HEAD.items():
            yield f"{name} ({kind})", functools.partial(check, case)


def _fitted(case: _HeadCase, train: Labelled, valid: Labelled) -> nn.Module:
    """The head after `fit`, or after a plain loop where it has none."""
    import torch
    from torch.nn import functional

    head = case.build()
    _expect(
        isinstance(head, SelfFitting) == case.spec.solver,
        f"{case.subject}: HeadSpec.solver is {case.spec.solver}, but what it builds {'has' if isinstance(head, SelfFitting) else 'has no'} "
        "`fit`; solver: True tells recipes that encoders cannot be trained through this head",
    )
    if isinstance(head, SelfFitting):
        chosen = head.fit(train, valid, torch.Generator().manual_seed(0))
        _expect(
            isinstance(chosen, Mapping) and all(isinstance(value, int | float) for value in chosen.values()),
            f"{case.subject}: fit tells what it chose, as a mapping of numbers for the log; found {chosen!r}",
        )
        return head.eval()
    losses: dict[str, Callable[..., Tensor]] = {
        "single-label": functional.cross_entropy,
        "multi-label": functional.binary_cross_entropy_with_logits,
        "regression": functional.mse_loss,
    }
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        output = head(train.encoded)
        make = cast(OwnLoss, head).loss if isinstance(head, OwnLoss) else losses[case.task.type]
        torch.autograd.backward(make(output, train.target))
        optimizer.step()
    return head.eval()


def _head_shapes(case: _HeadCase) -> None:
    for widths in (_WIDTHS, {"voice": 8}):
        head = case.build(widths).eval()
        for count in (5, 1):
            encoded = {name: one for name, one in case.rows(count, 0).encoded.items() if name in widths}
            output = head(encoded)
            _expect(
                tuple(output.shape) == (count, case.outputs) and output.is_floating_point(),
                f"{case.subject} with {', '.join(widths)}: gives [rows, outputs] = {(count, case.outputs)}, one output for "
                f"each of {', '.join(case.task.classes)}; found {output.dtype} {tuple(output.shape)}",
            )


def _head_learns(case: _HeadCase) -> None:
    import torch

    head = case.fitted
    test = case.rows(96, 3)
    with torch.no_grad():
        output = head(test.encoded)
        output = head.decide(output) if isinstance(head, Deciding) else output
    if case.task.type == "single-label":
        score, chance, measure = float((output.argmax(1) == test.target).float().mean()), 1 / case.outputs, "accuracy"
    elif case.task.type == "multi-label":
        score, chance, measure = float(((output > 0) == (test.target > 0.5)).float().mean()), 0.5, "accuracy"
    else:
        error = (output - test.target).square().mean() / test.target.square().mean()
        score, chance, measure = 1 - float(error), 0.0, "R²"
    wanted = (1 + chance) / 2
    _expect(
        score >= wanted,
        f"{case.subject}: on separable data it reaches {measure} {score:.2f} where guessing gives {chance:.2f}; at least "
        f"{wanted:.2f} is expected. Outputs stand in the order of task.classes, before softmax or sigmoid",
    )


def _head_missing(case: _HeadCase) -> None:
    import torch

    head = _fitted(case, case.rows(64, 1, missing=True), case.rows(32, 2, missing=True))
    rows = case.rows(32, 3, missing=True)
    with torch.no_grad():
        output = head(rows.encoded)
        first = head(
            {
                name: Encoded(one.vector[:1], present=one.present[:1])
                for name, one in rows.encoded.items()
                if one.present is not None
            }
        )
    _expect(
        bool(output.isfinite().all()),
        f"{case.subject}: a row whose modality is missing (zeros, present=False) gives a value that is not finite",
    )
    _close(
        first,
        output[:1],
        1e-5,
        f"{case.subject}: in eval mode, a row alone gets another output than among others",
    )


def _head_gradient(case: _HeadCase) -> None:
    head = case.build()
    if isinstance(head, SelfFitting):
        return
    output = head(case.rows(32, 0).encoded)
    output.square().sum().backward()
    for name, parameter in head.named_parameters():
        _expect(
            not parameter.requires_grad or parameter.grad is not None,
            f"{case.subject}: parameter '{name}' gets no gradient: it is unused or cut off by detach",
        )


def _head_saving(case: _HeadCase) -> None:
    import torch

    head = case.fitted
    other = case.build(seed=7).eval()
    other.load_state_dict(_through_safetensors(head, case.subject))
    with torch.no_grad():
        rows = case.rows(32, 3).encoded
        same = torch.equal(head(rows), other(rows))
    _expect(
        same,
        f"{case.subject}: saved after fitting and loaded into a newly built head, it gives other outputs; whatever fitting "
        "finds must be a parameter or a persistent buffer",
    )


def _head_repeats(case: _HeadCase) -> None:
    import torch

    rows = case.rows(32, 3).encoded
    one, other = (head(rows).detach() for head in (case.fitted, _fitted(case, case.rows(96, 1), case.rows(48, 2))))
    _expect(
        torch.equal(one, other),
        f"{case.subject}: fitted twice on the same rows with the same seed, it differs; draw from the generator that fit is "
        "given alone",
    )


def _head_shows(case: _HeadCase) -> None:
    head = case.fitted
    if not isinstance(head, Showing):
        return
    tables = list(head.show())
    for one in tables:
        _expect(isinstance(one, Shown), f"{case.subject}: show gives mmcl.api.Shown tables, found {type(one).__name__}")
        where = f"{case.subject}, shown table '{one.title}'"
        names = (*one.rows, *one.columns)
        _expect(
            bool(one.title)
            and isinstance(one.rows, tuple)
            and isinstance(one.columns, tuple)
            and all(isinstance(n, str) for n in names),
            f"{where}: has a title, and tuples of names for rows and columns",
        )
        lengths = sorted({len(row) for row in one.values})
        _expect(
            len(one.values) == len(one.rows) and all(length == len(one.columns) for length in lengths),
            f"{where}: has a value for each of {len(one.rows)} rows and {len(one.columns)} columns; found {len(one.values)} rows of "
            f"{' or '.join(map(str, lengths)) or 'no'} values",
        )
        _expect(
            all(v is None or (isinstance(v, int | float) and math.isfinite(v)) for row in one.values for v in row),
            f"{where}: its values are plain finite numbers (tensor.tolist()), or None where nothing stands",
        )
    titles = [one.title for one in tables]
    _expect(
        len(set(titles)) == len(titles), f"{case.subject}: two of the tables that it shows have one title ({', '.join(titles)})"
    )


_HEAD: Mapping[str, Callable[[_HeadCase], None]] = {
    "outputs have the shape of the task": _head_shapes,
    "it learns what can be learned": _head_learns,
    "missing rows are taken": _head_missing,
    "every parameter gets a gradient": _head_gradient,
    "what fitting found is saved": _head_saving,
    "fitting twice gives the same": _head_repeats,
    "what it shows are tables of numbers": _head_shows,
}


# --------------------------------------------------------------------------------------------------------------- pretext


def _pretext_checks(spec: PretextSpec, params: Any, layouts: Mapping[str, Layout] | None) -> Iterator[Check]:
    params = spec.params() if params is None else params
    if layouts is None:
        made = make_layouts(("time", "channel"))
        layouts = {"one": made[1], "other": made[2]}
    refusal = _refusal(functools.partial(spec.fits, params, layouts))
    if refusal is not None:

        def nothing_fits() -> None:
            raise NotTried(f"pretext '{spec.name}': the made-up layouts do not fit ({refusal}); give layouts=")

        yield "made-up modalities fit", nothing_fits
        return
    case = _PretextCase(spec, params, layouts)
    yield "it gives one vector a recording", lambda: _pretext_shapes(case)
    yield "more padding changes nothing", lambda: _pretext_padding(case)
    yield "rows do not see each other", lambda: _pretext_rows(case)
    yield "every weight learns", lambda: _pretext_gradient(case)
    yield "a missing modality changes nothing but itself", lambda: _pretext_missing(case)


@dataclass(frozen=True)
class _PretextCase:
    spec: PretextSpec
    params: Any
    layouts: Mapping[str, Layout]

    @property
    def subject(self) -> str:
        return f"pretext '{self.spec.name}'"

    def streams(self, padding: int = 0, rows: int = 4) -> dict[str, Stream]:
        lengths = (24, 7, 12, 15)[:rows]
        return {name: make_stream(layout, lengths, padding, seed=i) for i, (name, layout) in enumerate(self.layouts.items())}

    def build(self) -> Any:
        import torch

        torch.manual_seed(0)
        return self.spec.build(self.params, self.layouts)


def _pretext_shapes(case: _PretextCase) -> None:
    import torch

    one, other = case.build(), case.build()
    _expect(
        isinstance(one, torch.nn.Module), f"{case.subject}: build gives a torch.nn.Module, so that it can be trained and saved"
    )
    weights = other.state_dict()
    _expect(
        all(torch.equal(value, weights[name]) for name, value in one.state_dict().items()),
        f"{case.subject}: two built under one torch seed differ; draw first weights from torch's generator alone",
    )
    one.eval()
    encoded = one(case.streams())
    _expect(
        isinstance(encoded, Encoded) and encoded.vector.shape == (4, one.width) and bool(encoded.vector.isfinite().all()),
        f"{case.subject}: gives an Encoded with a finite vector [rows, width]",
    )
    _expect(
        torch.equal(one(case.streams()).vector, encoded.vector),
        f"{case.subject}: in eval mode two calls give different vectors",
    )


def _pretext_padding(case: _PretextCase) -> None:
    import torch

    network = case.build().eval()
    with torch.no_grad():
        _close(
            network(case.streams(7)).vector,
            network(case.streams()).vector,
            1e-5,
            f"{case.subject}: 7 more padded steps change the vectors. {PADDING}",
        )


def _pretext_rows(case: _PretextCase) -> None:
    import torch

    network = case.build().eval()
    with torch.no_grad():
        _close(
            network(case.streams(rows=2)).vector,
            network(case.streams()).vector[:2],
            1e-5,
            f"{case.subject}: what it makes of a recording depends on which others stand in the batch",
        )


def _pretext_gradient(case: _PretextCase) -> None:
    network = case.build()
    scored = network.learn(case.streams())
    _expect(
        isinstance(scored, Scored) and scored.loss.dim() == 0 and bool(scored.loss.isfinite()),
        f"{case.subject}: learn gives a Scored with a finite scalar loss",
    )
    scored.loss.backward()
    still = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    _expect(not still, f"{case.subject}: no gradient reaches {', '.join(still)}")


def _pretext_missing(case: _PretextCase) -> None:
    import torch

    network, streams = case.build().eval(), case.streams()
    first = next(iter(streams.values()))
    first.present[1] = False
    first.values[1] = 0
    with torch.no_grad():
        whole, without = network(case.streams()).vector, network(streams).vector
    _expect(bool(without.isfinite().all()), f"{case.subject}: a recording without one of its modalities gives NaN")
    keep = [0, 2, 3]
    _close(without[keep], whole[keep], 1e-5, f"{case.subject}: a modality missing in one recording changes the others")


# ------------------------------------------------------------------------------------------------------ published, scorer


def _published_cells(spec: PublishedSpec) -> None:
    _expect(bool(spec.tables), f"published '{spec.name}': has no table")
    for table in spec.tables:
        places = [(cell.row, cell.column) for cell in table.cells]
        twice = sorted({place for place in places if places.count(place) > 1})
        _expect(not twice, f"published '{spec.name}', {table.name}: two cells stand at {twice[:1]}")
        _expect(bool(places), f"published '{spec.name}', {table.name}: has no cell")


def _preset_sets(spec: PresetSpec) -> None:
    _expect(bool(spec.sets), f"preset '{spec.name}': sets nothing")
    wrong = [one for one in spec.sets if "=" not in one or not one.split("=")[0].replace(".", "").replace("_", "").isalnum()]
    _expect(not wrong, f"preset '{spec.name}': {wrong[:1]} is not KEY=VALUE, such as pretrain.epochs=5")


def _scorer_checks(spec: ScorerSpec, params: Any, tasks: Mapping[str, Task] | None) -> Iterator[Check]:
    params = spec.params() if params is None else params
    known = {"emotion": Task("emotion", "single-label", ("happy", "sad", "angry", "neutral"))} if tasks is None else tasks
    yield "it scores what it says", lambda: _scorer_scores(spec, params, known)


def _scorer_scores(spec: ScorerSpec, params: Any, tasks: Mapping[str, Task]) -> None:
    subject = f"scorer '{spec.name}'"
    wrong = [t for t in spec.takes if t not in RAW]
    _expect(not wrong, f"{subject}: takes names types of source ({', '.join(RAW)}); found {list(spec.takes)}")
    try:
        task, scorer = spec.task(params, tasks), spec.build(params, tasks)
    except (ValueError, DataError) as error:
        raise NotTried(
            f"{subject} needs options or tasks that nothing made up here gives ({error}); give params= and tasks="
        ) from error
    _expect(
        isinstance(task, Task) and task.type == "regression" and bool(task.classes),
        f"{subject}: task gives a regression Task with a name for each value; found {task}",
    )
    targets: dict[str, Any] = {
        t.name: 0 if t.type == "single-label" else [1, *[0] * (len(t.classes) - 1)] for t in tasks.values()
    }
    ref = SampleRef("a", "g", {}, targets)
    raws: list[Raw | None] = [None]
    if spec.takes:
        raws = [make_raw(source) for kind in spec.takes for source in make_sources(kind)[:1]]
    for raw in raws:
        one, other = scorer(ref, raw), scorer(ref, raw)
        _expect(one == other, f"{subject}: scores one recording differently when asked twice")
        _expect(
            one is None or (isinstance(one, list) and len(one) == len(task.classes) and all(math.isfinite(v) for v in one)),
            f"{subject}: gives one finite number for each of {', '.join(task.classes)}, or None; found {one!r}",
        )
