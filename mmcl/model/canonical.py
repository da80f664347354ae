"""Canonical correlation: a linear space that modalities share, the baseline that learned projections have to beat in retrieval.

It comes in two forms, and the one that finds more among training recordings it was not fitted on is taken. `whole`: a recording is one
point, the means over equal parts of its time side by side; `steps`: each part is a point of its own, less the mean of its recording, and
all parts are turned alike, which needs far fewer numbers and knows nothing of what stays the same. Either way the points are brought to
their principal components and turned so that modalities agree (Hotelling 1936). With more than two modalities the turn is that of MAXVAR
(Kettenring 1971), which is the same for two. No network, no draw, no label: whoever owns the data could have it in an afternoon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.store import Store
from ..data.windows import WHOLE, Span, cut
from ..evaluate.retrieval import both_ways
from .pooled import BINS, PARTS, entries_of, part_means
from .scale import Scale, fitted_scale

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """How a recording becomes points, and how many numbers are fitted to them."""

    name: str
    parts: int  # of a recording's time
    alone: bool  # each part is a point of its own
    components: int  # principal components of a modality that are correlated: more would fit chance where points are few
    directions: int  # dimensions of the space in common


WHOLE_RECORDINGS = Form("whole", parts=PARTS, alone=False, components=20, directions=10)
STEPS = Form("steps", parts=50, alone=True, components=40, directions=15)

AMONG = 32
"""Recordings among which is searched when a form is chosen."""

MOST = 20_000_000
"""The most numbers of a modality that are held at a time: what is more is fitted to some of the recordings and projected block by block."""

EXACT = 1500
"""Points, or numbers of a point, up to which principal components are computed in full; of more, by a randomised method in less time."""

LEAST = 1e-8
"""Smallest variance of a component that is divided by, as a share of the largest."""


@dataclass
class Canonical:
    """A space in common that has been fitted; a modality that no training recording has is not in it."""

    scale: Scale
    form: Form
    turn: dict[str, Floats]  # [width, directions] by modality, each direction weighted by the root of its correlation

    def project(self, stores: Mapping[str, Store], rows: Sequence[int], span: Span = WHOLE) -> dict[str, Tensor]:
        """Where some recordings lie, float32 [n, D] by modality; zeros where they lack it, no column where it is not in it."""
        return {name: self._project(name, store, rows, span) for name, store in stores.items()}

    def _project(self, name: str, store: Store, rows: Sequence[int], span: Span) -> Tensor:
        if name not in self.turn:
            return torch.zeros(len(rows), 0)
        turn, blocks, size = self.turn[name], [], _most(store, self.form)
        for k in range(0, len(rows), size):
            values, present = _points(store, rows[k : k + size], self.form, span)
            flat, there = _flat(values, present)
            inside = _standardised(self.scale, name, flat, there) @ turn * there[:, None]
            blocks.append(torch.from_numpy(inside.reshape(len(values), values.shape[1] * turn.shape[1]).astype(np.float32)))
        return torch.cat(blocks) if blocks else torch.zeros(0, turn.shape[1])


def fit_canonical(
    stores: Mapping[str, Store],
    rows: Sequence[int],
    floor: float,
    clip: float | None,
    span: Span = WHOLE,
    groups: Sequence[str] | None = None,
) -> Canonical:
    """The space in common of some recordings. Of every two modalities those count that have both.

    floor, clip  how points are standardised first, as for a probe
    span         what is read of each recording
    groups       who each recording is of: the form is chosen on groups that it was not fitted on; left out: the last recordings
    """
    form = WHOLE_RECORDINGS
    if all(store.layout.timed and store.layout.measured for store in stores.values()):
        form = _better(stores, rows, floor, clip, span, groups or [str(row) for row in rows])
    return _fit(stores, rows, floor, clip, span, form)


def _better(
    stores: Mapping[str, Store], rows: Sequence[int], floor: float, clip: float | None, span: Span, groups: Sequence[str]
) -> Form:
    """The form that, fitted to the recordings of two thirds of the groups, finds more recordings of the others."""
    names = list(dict.fromkeys(groups))
    if len(names) > 2:
        first = set(names[: -(-2 * len(names) // 3)])
        fitted = [row for row, group in zip(rows, groups, strict=True) if group in first]
        judging = [row for row, group in zip(rows, groups, strict=True) if group not in first]
    else:
        fitted, judging = list(rows[: 2 * len(rows) // 3]), list(rows[2 * len(rows) // 3 :])
    if len(fitted) < 2 or len(judging) < 2:
        return WHOLE_RECORDINGS

    def searched(form: Form) -> float:
        spaces = _fit(stores, fitted, floor, clip, span, form).project(stores, judging, span)
        return fmean(
            [0.0]
            + [
                float(places.first(AMONG).mean())
                for one, other in combinations(spaces, 2)
                if int((both := spaces[one].any(1) & spaces[other].any(1)).sum()) > 1
                for places in both_ways(spaces[one][both], spaces[other][both])
            ]
        )

    return max((WHOLE_RECORDINGS, STEPS), key=searched)


def _fit(
    stores: Mapping[str, Store], rows: Sequence[int], floor: float, clip: float | None, span: Span, form: Form
) -> Canonical:
    size = min([len(rows), *(_most(store, form) for store in stores.values())])
    chosen = [rows[k] for k in np.linspace(0, len(rows) - 1, size).astype(int)]
    points = {name: _flat(*_points(store, chosen, form, span)) for name, store in stores.items()}
    points = {name: (values, present) for name, (values, present) in points.items() if present.sum() > 1}
    scale = fitted_scale({name: torch.from_numpy(v[p]).float() for name, (v, p) in points.items()}, floor, clip)
    white, axes = {}, {}
    for name, (values, present) in points.items():
        standardised = _standardised(scale, name, values, present)
        axes[name] = _whitening(standardised[present], form.components)
        white[name] = standardised @ axes[name] * present[:, None]
    if len(white) < 2:
        return Canonical(scale, form, {})
    ends = np.cumsum([0, *(axis.shape[1] for axis in axes.values())])
    place = {name: slice(a, b) for name, a, b in zip(axes, ends[:-1], ends[1:], strict=True)}
    agree = np.zeros((ends[-1], ends[-1]))
    for a in white:
        for b in white:
            both = int((points[a][1] & points[b][1]).sum())
            if a != b and both:
                agree[place[a], place[b]] = white[a].T @ white[b] / both
    correlations, directions = np.linalg.eigh(agree)
    best = np.argsort(-correlations)[: min(form.directions, *(axis.shape[1] for axis in axes.values()))]
    weighted = directions[:, best] * np.sqrt(np.maximum(correlations[best], 0.0))
    return Canonical(scale, form, {name: axes[name] @ weighted[place[name]] for name in axes})


def _points(store: Store, rows: Sequence[int], form: Form, span: Span) -> tuple[Floats, NDArray[np.bool_]]:
    """Points of some recordings [n, points of one, width], and which of them have the modality."""
    cuts = [cut(store, row, span) for row in rows]
    present = np.array([one is not None for one in cuts], dtype=bool)
    each = [part_means(np.asarray(one), store.layout, form.parts) for one in cuts if one is not None]
    count = form.parts if form.alone else 1
    values = np.zeros((len(rows), count, (len(each[0]) if each else 0) // count))
    if each:
        values[present] = np.stack(each).reshape(len(each), count, -1)
    if form.alone:
        values -= values.mean(1, keepdims=True)
    return values, present


def _most(store: Store, form: Form) -> int:
    """How many recordings of a modality may be held at a time."""
    parts, entries = (form.parts, entries_of(store.layout)) if store.layout.measured else (1, BINS)
    return max(64, MOST // max(1, parts * entries))


def _flat(values: Floats, present: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """All points, one a row, and which of them are there."""
    return values.reshape(values.shape[0] * values.shape[1], values.shape[2]), np.repeat(present, values.shape[1])


def _standardised(scale: Scale, name: str, values: Floats, present: NDArray[np.bool_]) -> Floats:
    rows = torch.ones(len(values), dtype=torch.bool)
    encoded = scale.encoded({name: torch.from_numpy(values).float()}, {name: torch.from_numpy(present)}, rows)
    return encoded[name].vector.double().numpy()


def _whitening(values: Floats, components: int) -> Floats:
    """The principal components of standardised values [n, width], each divided by its deviation: [width, components]."""
    count, width = values.shape
    wanted = min(components, width, count - 1)
    if min(count, width) > EXACT:
        from sklearn.utils.extmath import randomized_svd

        _, singular, rows = randomized_svd(values, wanted, n_iter=7, random_state=0)
        squares, axes, tall = singular**2, rows.T, True
    else:
        from scipy.linalg import eigh

        tall = count >= width
        products = (
            values.T @ values if tall else values @ values.T
        )  # the smaller of the two squares, whose spectra are the same
        last = len(products) - 1
        squares, axes = eigh(products, subset_by_index=(last - wanted + 1, last), overwrite_a=True, check_finite=False)
        squares, axes = squares[::-1], axes[:, ::-1]
    kept = squares > LEAST * squares[0]
    squares, axes = squares[kept], axes[:, kept]
    directions = axes if tall else values.T @ axes / np.sqrt(squares)
    signs = np.sign(
        directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])]
    )  # whichever a library gives, one is meant
    return np.asarray(directions * signs / np.sqrt(squares / count))
