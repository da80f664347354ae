"""The kit for plug-in authors is kept honest by mutants: each breaks one rule of a modality, and must be caught for that."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mmcl.api import Audio, DataError, Layout, ModalitySpec, NoParams, Sequence, Source, Timed
from mmcl.testing import NotTried, check_modality, make_raw, make_sources


class Halves:
    """The mean of every two steps."""

    def extract(self, raw):
        if len(raw.values) < 2:
            raise DataError("has no two steps")
        steps = len(raw.values) // 2 * 2
        return raw.values[:steps].reshape(-1, 2, *raw.values.shape[1:]).mean(1)


def modality(extract=None, **layout):
    """A modality that halves the rate of a sequence; `layout` changes what it promises."""

    def promise(params, source):
        if len(source.notes["shape"]) != 1:
            raise ValueError("channels only")
        given = {"kind": "signal", "axes": ("time", "channel"), "sizes": {"channel": 6}, "rate": source.rate / 2}
        return Layout(**{**given, **layout})

    halves = Halves() if extract is None else SimpleNamespace(extract=extract)
    return ModalitySpec("halves", "half as many steps", ("sequence",), NoParams, promise, lambda params, source: halves)


def halved(raw):
    return Halves().extract(raw)


def in_place(raw):
    raw.values[:] *= 2
    return halved(raw)


def with_nan(raw):
    values = halved(raw)
    values[0, 0] = np.nan
    return values


def timed(raw):
    values = halved(raw)
    return Timed(values, np.stack([np.arange(len(values))] * 2, 1)[::-1].astype(float))


def test_good_modality_passes():
    check_modality(modality())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (modality(sizes={"channel": 5}), "a stream has the axes"),
        (modality(sizes={}), "sizes gives a length for every axis"),
        (modality(rate=30.0), "lasts 2.00 s"),
        (modality(rate=None), "the layout needs a rate"),
        (modality(notes={"names": ("a", "b")}), "JSON"),
        (modality(axes=("channel", "time")), "time is the first axis"),
        (modality(lambda raw: halved(raw).astype(np.int64)), "float or uint8"),
        (modality(with_nan), "NaN"),
        (modality(in_place), "changed the raw recording"),
        (modality(lambda raw: halved(raw) + np.random.default_rng().random()), "two extractions of one recording differ"),
        (modality(lambda raw: halved(raw)[:0]), "no step at all"),
        (modality(timed, rate=None), "in the order of time"),
    ],
)
def test_modality_that_breaks_a_rule_is_caught_for_it(spec, words):
    with pytest.raises(AssertionError, match=words):
        check_modality(spec)


def test_modality_that_no_random_source_suits_asks_for_one():
    def layout(params, source):
        if source.notes.get("shape") != [2]:
            raise ValueError("two channels or nothing")
        return Layout("signal", ("time", "channel"), {"channel": 2}, source.rate)

    def extract(raw):
        if len(raw.values) == 0:
            raise DataError("has no step")
        return raw.values

    built = SimpleNamespace(extract=extract)
    spec = ModalitySpec("two", "two channels", ("sequence",), NoParams, layout, lambda params, source: built)
    with pytest.raises(NotTried, match="two channels or nothing"):
        check_modality(spec)
    source = Source("sequence", "two channels", 50.0, {"shape": [2]})
    check_modality(spec, Sequence(np.zeros((9, 2), np.float32), 50.0), source)
    check_modality(spec, source=source)


def test_random_recordings_are_what_their_sources_say():
    for kind in ("audio", "video", "words", "table", "sequence"):
        for source in make_sources(kind):
            raw = make_raw(source)
            assert type(raw).__name__.lower() == kind
            if kind in ("video", "sequence"):
                shape = (raw.frames if kind == "video" else raw.values).shape
                assert shape == (round(2 * source.rate), *source.notes["shape"])
    assert isinstance(make_raw(Source("audio", "")), Audio)


def loudest_of(extract):
    """A modality of the loudest sample of each tenth of a second, of what `extract` takes of a sound."""

    def loudest(raw):
        samples, size = extract(raw), round(raw.rate / 10)
        if len(samples) == 0:
            raise DataError("has no sample")
        return np.stack([[np.abs(samples[k : k + size]).max()] for k in range(0, len(samples), size)]).astype(np.float32)

    layout = Layout("signal", ("time", "channel"), {"channel": 1}, 10.0)
    built = SimpleNamespace(extract=loudest)
    return ModalitySpec(
        "loudest", "how loud", ("audio",), NoParams, lambda params, source: layout, lambda params, source: built
    )


def test_a_modality_that_leaves_blocks_of_a_long_sound_out_is_told():
    check_modality(loudest_of(lambda raw: raw.samples))
    check_modality(loudest_of(lambda raw: np.concatenate(list(raw.blocks()))))
    with pytest.raises(AssertionError, match="several blocks gives another stream"):
        check_modality(loudest_of(lambda raw: np.resize(list(raw.blocks())[-1], len(raw.samples))))


def brightness_of(extract):
    """A modality of the mean brightness of each frame, of what `extract` takes of a film."""

    def bright(raw):
        frames = extract(raw)
        if len(frames) == 0:
            raise DataError("has no frames")
        return frames.reshape(len(frames), -1).mean(1, dtype=np.float32)[:, None]

    built = SimpleNamespace(extract=bright)

    def layout(params, source):
        return Layout("signal", ("time", "channel"), {"channel": 1}, source.rate)

    return ModalitySpec("bright", "how bright", ("video",), NoParams, layout, lambda params, source: built)


def test_a_modality_that_leaves_blocks_of_a_long_film_out_is_told():
    check_modality(brightness_of(lambda raw: raw.frames))
    check_modality(brightness_of(lambda raw: np.concatenate(list(raw.blocks()))))
    with pytest.raises(AssertionError, match="a film that comes in several blocks gives another stream"):
        check_modality(brightness_of(lambda raw: np.resize(next(iter(raw.blocks())), raw.frames.shape)))
