"""Pooled statistics of the very streams that encoders read: the baseline that a learned feature has to beat.

Nothing is learned and nothing drawn: whoever owns the data could compute these in an afternoon. A report sets them beside the
encoders, with the same heads and the same search for penalties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..api.kinds import Layout
from ..data.store import Store
from ..data.windows import WHOLE, Span, cut
from ..recipe.plan import JOINT
from .frozen import Features

SIDE = 16
"""Pixels of a picture's longer side, above which it is averaged over square blocks first."""

BINS = 512
"""Length of the histogram of streams that hold ids: an id counts in bin `id modulo BINS`."""


PARTS = 10
"""Equal parts of a recording's time of which means are taken, where it matters when something happens."""


def pool(stores: Mapping[str, Store], rows: Sequence[int], span: Span = WHOLE) -> dict[str, Features]:
    """Statistics of some recordings, by modality; the projection is empty, for statistics have no space in common.

    span  what is read of each recording
    """
    features = {}
    for name, store in stores.items():
        present = torch.zeros(len(rows), dtype=torch.bool)
        vector = torch.zeros(len(rows), width(store.layout))
        for i, row in enumerate(rows):
            if (values := cut(store, row, span)) is not None:
                present[i] = True
                vector[i] = torch.from_numpy(statistics(np.asarray(values), store.layout))
        features[name] = Features(vector, torch.zeros(len(rows), 0), present)
    return features


def pool_joined(stores: Mapping[str, Store], rows: Sequence[int], span: Span = WHOLE) -> dict[str, Features]:
    """The statistics of all modalities in one vector, as a pretext has one; zeros for those that a recording lacks."""
    parts = pool(stores, rows, span).values()
    vector = torch.cat([part.vector for part in parts], 1)
    present = torch.stack([part.present for part in parts]).any(0)
    return {JOINT: Features(vector, torch.zeros(len(rows), 0), present)}


def width(layout: Layout) -> int:
    """How many statistics there are of streams of a layout."""
    if not layout.measured:
        return BINS
    entries = entries_of(layout)
    return entries if not layout.timed else (2 if _pictures(layout) else 5) * entries


def entries_of(layout: Layout) -> int:
    """How many numbers of a step of measurements are pooled, each for itself; pictures are made small first."""
    return len(_flat(np.zeros((1, *layout.shape), np.float32), layout)[0])


def statistics(values: NDArray[np.generic], layout: Layout) -> NDArray[np.float32]:
    """The statistics of one recording's stream [T, ...], as float32 [width].

    measurements  mean, deviation, minimum, maximum and slope of every entry over time, all means first. The slope is that of the
                  least-squares line, per length of the recording. Kinds without time: the values themselves
    pictures      mean and deviation of every pixel over time, of frames at most SIDE pixels wide and high
    ids           share of the steps that each of BINS bins of ids holds
    """
    if not layout.measured:
        counts = np.bincount(values.astype(np.int64).ravel() % BINS, minlength=BINS)
        return np.asarray(counts / max(1, values.size), np.float32)
    flat = _flat(values.astype(np.float64) * layout.scale, layout)
    if not layout.timed:
        return np.asarray(flat[0], np.float32)
    mean, deviation = flat.mean(0), flat.std(0)
    if _pictures(layout):
        return np.asarray(np.concatenate([mean, deviation]), np.float32)
    clock = np.linspace(-0.5, 0.5, len(flat)) if len(flat) > 1 else np.zeros(1)
    slope = clock @ (flat - mean) / max(float(clock @ clock), 1e-12)
    return np.asarray(np.concatenate([mean, deviation, flat.min(0), flat.max(0), slope]), np.float32)


def part_means(values: NDArray[np.generic], layout: Layout, parts: int = PARTS) -> NDArray[np.float64]:
    """The mean of every entry over each of equal parts of one recording's stream [T, ...]; float64 [parts × entries].

    A stream of fewer steps has each step in several parts. Of ids, and of kinds without time, the statistics.
    """
    if not layout.measured or not layout.timed:
        return statistics(values, layout).astype(np.float64)
    flat = _flat(values.astype(np.float64) * layout.scale, layout)
    edges = np.linspace(0, len(flat), parts + 1).astype(int)
    first, last = edges[:-1], np.maximum(edges[:-1] + 1, edges[1:])
    sums = np.concatenate(
        [np.zeros((1, flat.shape[1])), np.cumsum(flat - flat[:1], 0)]
    )  # of what differs from the first step: exact if none does
    return np.asarray(((sums[last] - sums[first]) / (last - first)[:, None] + flat[:1]).ravel())


def _pictures(layout: Layout) -> bool:
    return "height" in layout.axes and "width" in layout.axes


def _flat(values: NDArray[np.floating], layout: Layout) -> NDArray[np.float64]:
    """Every step as one row [T, entries]; pictures are made small first."""
    if not _pictures(layout):
        return np.asarray(values, np.float64).reshape(len(values), -1)
    axes = layout.axes if layout.timed else ("time", *layout.axes)
    height, across = axes.index("height"), axes.index("width")
    frames = np.moveaxis(np.asarray(values, np.float64), (height, across), (-2, -1))
    block = -(-max(frames.shape[-2:]) // SIDE)
    kept = (frames.shape[-2] // block or 1, frames.shape[-1] // block or 1)
    high, wide = min(block, frames.shape[-2]), min(block, frames.shape[-1])
    frames = frames[..., : kept[0] * high, : kept[1] * wide]
    frames = frames.reshape(*frames.shape[:-2], kept[0], high, kept[1], wide).mean((-3, -1))
    return np.asarray(frames.reshape(len(frames), -1))
