"""The checks of a modality: what it extracts is what its layout promised."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..api.errors import DataError
from ..api.kinds import Layout
from ..api.modality import ModalitySpec
from ..api.raw import Audio, Raw, Source, Timed
from .checks import Check, NotTried, expect, refusal, run_checks
from .elsewhere import elsewhere_checks
from .general import general_checks, process_check
from .raw import RAW, equal, extreme_raws, in_pieces, make_raw, make_sources, seconds_of


def check_modality(spec: ModalitySpec, raw: Raw | None = None, source: Source | None = None, params: Any = None) -> None:
    """What `extract` gives is what `layout` promised, finite, and the same every time.

    raw, source  a recording and its description; made up for every type of source in `accepts` if left out
    """
    run_checks(modality_checks(spec, raw, source, params))


def modality_checks(
    spec: ModalitySpec, raw: Raw | None = None, source: Source | None = None, params: Any = None
) -> Iterator[Check]:
    """What a modality promises of every source that it takes."""
    params = spec.params() if params is None else params
    if source is not None:
        yield from _checks_on(spec, raw, source, params)
        return
    yield process_check(spec, f"modality '{spec.name}'", params, functools.partial(_trial, spec))
    for kind in spec.accepts:
        fitting = [one for one in make_sources(kind) if refusal(functools.partial(spec.layout, params, one)) is None]
        if not fitting:
            yield f"a made-up {kind} fits", functools.partial(_nothing_fits, spec, params, kind)
        for one in fitting:
            yield from _checks_on(spec, raw, one, params)
    yield from general_checks(f"modality '{spec.name}'", params, functools.partial(_trial, spec), tensors=False)
    yield from elsewhere_checks(facts, spec, f"modality '{spec.name}'", params)


def _nothing_fits(spec: ModalitySpec, params: Any, kind: str) -> None:
    reasons = "; ".join(sorted({refusal(functools.partial(spec.layout, params, s)) or "" for s in make_sources(kind)}))
    raise NotTried(
        f"modality '{spec.name}' takes none of the sources of type '{kind}' made up here ({reasons}); give it one of yours: "
        "check_modality(spec, raw, source)"
    )


def _checks_on(spec: ModalitySpec, raw: Raw | None, source: Source, params: Any) -> Iterator[Check]:
    given = make_raw(source) if raw is None else raw
    shape = f" {source.notes['shape']}" if "shape" in source.notes else ""
    which = f"{source.type}{shape}{'' if source.rate is None else f' at {source.rate:g} Hz'}"
    yield f"its layout is complete ({which})", lambda: _layout(spec, source, params)
    yield f"what it extracts is as the layout says ({which})", lambda: expect_extracted(spec, given, source, params)
    yield f"what it extracts is the same every time ({which})", lambda: _same(spec, given, source, params)
    if raw is None:
        yield f"extreme recordings are taken or refused in a sentence ({which})", lambda: _extremes(spec, source, params)
        yield f"other recordings give other streams ({which})", lambda: _differs(spec, source, params)


def _trial(spec: ModalitySpec, params: Any, moved: Callable[[Any], None]) -> None:
    """Extract one made-up recording of the first type of source that fits."""
    fitting = [
        one
        for kind in spec.accepts
        for one in make_sources(kind)
        if refusal(functools.partial(spec.layout, params, one)) is None
    ]
    if not fitting:
        raise ValueError("layout takes none of the made-up sources")
    values = _values(spec.build(params, fitting[0]).extract(make_raw(fitting[0])))
    expect(bool(np.isfinite(values).all()), "what it extracts holds a NaN or an infinite value")
    layout = spec.layout(params, fitting[0])
    expect((values.shape[1:] if layout.timed else values.shape) == layout.shape, "what it extracts is not as its layout says")


def _extremes(spec: ModalitySpec, source: Source, params: Any) -> None:
    """Nothing, one step, constant values, and more than a thousand steps."""
    layout = spec.layout(params, source)
    subject = f"modality '{spec.name}' of {source.type}"
    for what, raw in extreme_raws(source):
        try:
            stream = spec.build(params, source).extract(raw)
        except DataError as error:
            expect("\n" not in str(error), f"{subject}: refuses {what} in one sentence; found: {error}")
            expect(
                what not in ("constant values", "more than 1,000 steps", "many pictures"),
                f"{subject}: {what} is refused ({error}); a sensor may stand still, and a recording may be long",
            )
            continue
        except Exception as error:
            raise AssertionError(
                f"{subject}: a recording of {what} raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; raise "
                "DataError for a recording that cannot be used, which is then listed and skipped"
            ) from error
        values = _values(stream)
        expect(
            len(values) > 0 and bool(np.isfinite(values).all()),
            f"{subject}: a recording of {what} gives {'no step' if not len(values) else 'a NaN or an infinite value'}; raise DataError for one that "
            "cannot be used",
        )
        shape = values.shape[1:] if layout.timed else values.shape
        expect(shape == layout.shape, f"{subject}: a recording of {what} gives steps of shape {shape}, not {layout.shape}")


def _differs(spec: ModalitySpec, source: Source, params: Any) -> None:
    """Two recordings have two streams; one object gives what a fresh one gives, whatever it saw before."""
    subject = f"modality '{spec.name}' of {source.type}"
    raws = [make_raw(source, seed=seed) for seed in (0, 1)]
    kept = spec.build(params, source)
    used = [kept.extract(copy.deepcopy(raw)) for raw in (*raws, raws[0])]
    fresh = [spec.build(params, source).extract(copy.deepcopy(raw)) for raw in raws]
    expect(
        equal(used[0], used[2]) and equal(used[1], fresh[1]),
        f"{subject}: a recording gives another stream once another has been extracted; nothing is fitted in `extract`, and nothing kept between "
        "calls: recordings are spread over processes, in any order",
    )
    if source.type != "words":  # the made-up ones are the same words
        expect(
            not equal(fresh[0], fresh[1]),
            f"{subject}: two different recordings give the same stream: what it gives does not depend on what it is given",
        )


def _layout(spec: ModalitySpec, source: Source, params: Any) -> None:
    subject = f"modality '{spec.name}' of {source.type}"
    expect(source.type in spec.accepts, f"{subject}: accepts names {list(spec.accepts)}, so it is never given such a source")
    layout = spec.layout(params, source)
    expect(isinstance(layout, Layout), f"{subject}: layout gives an mmcl.api.Layout, found {type(layout).__name__}")
    others = {axis for axis in layout.axes if axis != "time"}
    expect(
        others == set(layout.sizes) and all(isinstance(n, int) and n > 0 for n in layout.sizes.values()),
        f"{subject}: sizes gives a length for every axis but time ({', '.join(sorted(others))}); found {dict(layout.sizes)}",
    )
    expect(
        not layout.timed or layout.axes[0] == "time", f"{subject}: time is the first axis, as stored streams are cut along it"
    )
    expect(
        Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout,
        f"{subject}: the layout changes on its way through JSON ({layout}); notes hold JSON values only, as encoders.json "
        "keeps them",
    )
    expect(spec.layout(params, source) == layout, f"{subject}: two calls of layout give different answers")


def expect_sources(spec: ModalitySpec) -> None:
    """A modality names the types of source that it takes."""
    wrong = [t for t in spec.accepts if t not in RAW]
    expect(
        bool(spec.accepts) and not wrong,
        f"modality '{spec.name}': accepts names types of source ({', '.join(RAW)}); found {list(spec.accepts)}",
    )


def ask_layouts(spec: ModalitySpec) -> str:
    """Ask for the layouts of made-up sources, as a plan does before anything is built."""
    for kind in spec.accepts:
        for source in make_sources(kind):
            refusal(functools.partial(spec.layout, spec.params(), source))
    return f"layout of '{spec.name}'"


def _values(stream: Any) -> np.ndarray[Any, Any]:
    return np.asarray(stream.values if isinstance(stream, Timed) else stream)


def expect_extracted(spec: ModalitySpec, raw: Raw, source: Source, params: Any) -> None:
    """Refuse a stream that is not as the layout says, or a recording that was changed on the way. Raises DataError as the modality does."""
    layout = spec.layout(params, source)
    subject = f"modality '{spec.name}' of {source.type}, {layout}"
    before = copy.deepcopy(raw)
    stream = spec.build(params, source).extract(raw)
    expect(equal(before, raw), f"{subject}: extract changed the raw recording it was given; another modality may read it next")
    values = _values(stream)
    shape = values.shape[1:] if layout.timed else values.shape
    expect(
        values.ndim == len(layout.axes) and shape == layout.shape,
        f"{subject}: a stream has the axes {' × '.join(layout.axes)} with {layout.shape} a step, since the backbone is built "
        f"from the layout before any data is read; found an array of shape {values.shape}",
    )
    expect(
        values.dtype == np.uint8 or values.dtype.kind == "f",
        f"{subject}: streams are float or uint8 (with `scale` in the layout); found {values.dtype}",
    )
    expect(bool(np.isfinite(values).all()), f"{subject}: a NaN or an infinite value would spoil the whole batch; found one")
    if not layout.timed:
        expect(not isinstance(stream, Timed), f"{subject}: a kind without time has no times; found Timed")
        return
    expect(len(values) > 0, f"{subject}: no step at all; raise DataError for a recording that cannot be used")
    if isinstance(stream, Timed):
        times = np.asarray(stream.times)
        expect(
            times.shape == (len(values), 2) and bool(np.isfinite(times).all()),
            f"{subject}: times are [T, 2], start and end of each of {len(values)} steps in seconds; found {times.shape}",
        )
        expect(
            bool((times[:, 1] >= times[:, 0]).all() and (np.diff(times[:, 0]) >= 0).all()),
            f"{subject}: steps stand in the order of time and end after they start, since windows are cut from them; they "
            "don't",
        )
        expect(layout.rate is None, f"{subject}: steps carry their own times, so the layout's rate is None")
        return
    expect(
        layout.rate is not None and layout.rate > 0,
        f"{subject}: steps carry no times of their own (Timed), so the layout needs a rate; otherwise windows can't be cut in "
        "seconds",
    )
    seconds = seconds_of(raw)
    if seconds is not None and layout.rate:
        expect(
            abs(len(values) / layout.rate - seconds) <= max(0.25, 0.1 * seconds),
            f"{subject}: {len(values)} steps at {layout.rate:g} a second last {len(values) / layout.rate:.2f} s, but the "
            f"recording lasts {seconds:.2f} s; windows of two modalities would not show the same moment",
        )


def _same(spec: ModalitySpec, raw: Raw, source: Source, params: Any) -> None:
    one, other = (spec.build(params, source).extract(raw) for _ in range(2))
    expect(
        equal(one, other),
        f"modality '{spec.name}' of {source.type}: two extractions of one recording differ; prepared streams are kept under a "
        "fingerprint and must be what a second run would make (seed any draw from the params)",
    )
    parted = in_pieces(raw)
    if parted is not None:
        pieces = _values(spec.build(params, source).extract(parted))
        what, helper, whole = (
            ("sound", "blocks_at_rate", "samples") if isinstance(raw, Audio) else ("film", "grouped_frames", "frames")
        )
        expect(
            pieces.shape == _values(one).shape and np.allclose(pieces, _values(one), rtol=1e-5, atol=1e-5),
            f"modality '{spec.name}' of {source.type}: a {what} that comes in several blocks gives another stream than the same "
            f"{what} in one; go over all of them (mmcl.media.{helper}), or take `{whole}`",
        )


def builders(specs: Iterable[ModalitySpec]) -> tuple[Callable[..., Any], Callable[..., Layout]]:
    """Two functions of a modality's name, a source, and options by keyword: the modality that is built, and its layout."""
    by_name = {spec.name: spec for spec in specs}

    def build(name: str, source: Source, **options: Any) -> Any:
        spec = by_name[name]
        return spec.build(spec.params(**options), source)

    def lay(name: str, source: Source, **options: Any) -> Layout:
        spec = by_name[name]
        return spec.layout(spec.params(**options), source)

    return build, lay


def facts(spec: ModalitySpec, params: Any, root: Path | None = None) -> dict[str, Any]:
    """What it extracts of made-up recordings, shape and some values: to be compared with another process's."""
    problems = {}
    for kind in spec.accepts:
        for i, source in enumerate(make_sources(kind)):
            if refusal(functools.partial(spec.layout, params, source)) is None:
                with suppress(
                    DataError
                ):  # what the first recording of a process leaves in a class or a module is another's here
                    spec.build(params, source).extract(make_raw(source, seed=97))
                stream = spec.build(params, source).extract(make_raw(source))
                values = _values(stream).astype(float)
                some = values.ravel()[:: max(1, values.size // 64)]
                problems[f"what it extracts of {kind} {i}"] = [*values.shape, *some.tolist()]
    return problems
